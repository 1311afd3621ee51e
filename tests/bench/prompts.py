# SPDX-License-Identifier: Apache-2.0
"""What a prompt costs a request: checking values and rendering in the gateway, and counting in the replica.

Two prompts of 4 KB: one of blanks in the syntax `format`, and one in `jinja` with a loop, conditions and rules.
No stack is needed. Alone: `PYTHONPATH=tests .venv/bin/python -m bench.prompts FOLDER`, a folder with a chat tokenizer.
"""

import json
import math
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.rendering import CompiledPrompt, Injection, Value
from lateen_serving.engine.prompt import PromptEncoder
from lateen_serving.engine.protocol import GenerateRequest
from lateen_serving.engine.window import prepare
from lateen_serving.gateway import prompting, render
from lateen_serving.gateway.retrieve import numbered
from lateen_serving.rag.passages import Passage

CONTEXT = 8192
ROUNDS = 2000
_SENTENCE = "The harbour opens at nine and the lights stay on until the last boat has left. "
SPEC = PromptTemplateSpec.model_validate(
    {
        "version": "1",
        "messages": [
            {
                "role": "system",
                "content": "Answer for {company}, from these sources only:\n{context}\n" + 8 * _SENTENCE,
            },
            {"role": "user", "content": "Question of {name}: {question}"},
        ],
        "variables": [
            {"name": "company", "from": "constant", "value": "Lateen"},
            {"name": "context", "from": "retrieval"},
            {"name": "name", "rules": [{"minLength": 1}, {"maxLength": 64}]},
            {"name": "question", "rules": [{"maxLength": 4000}]},
        ],
        "postProcessing": ["Dedent", "CollapseWhitespace", "Strip"],
        "contextWindow": {"maxPromptTokens": 4096, "reserveOutputTokens": 512},
    }
)
VALUES: dict[str, Value] = {"name": "Jo", "question": 10 * _SENTENCE}
LISTED = PromptTemplateSpec.model_validate(
    {
        "version": "1",
        "syntax": "jinja",
        "messages": [
            {
                "role": "system",
                "content": (
                    "Answer for {{ name }}.\n{% if items %}The order has {{ items | length }} lines:\n{% endif %}"
                    "{% for item in items %}\n{{ loop.index }}. {{ item.name }}, {{ item.count }} pieces:"
                    " {{ item.text }}\n{% endfor %}\n"
                ),
            },
            {"role": "user", "content": "{% if urgent %}At once: {% endif %}{{ question }}"},
        ],
        "variables": [
            {"name": "items", "type": "list", "rules": [{"minLength": 1}, {"maxLength": 20}]},
            {"name": "name", "rules": [{"pattern": "^[A-Z][a-z]+( [A-Z][a-z]+)*$"}]},
            {
                "name": "question",
                "rules": [
                    {"maxLength": 4000},
                    {"cel": "value.size() > 2 && !value.startsWith('/')", "message": "ask a question"},
                ],
            },
            {"name": "urgent", "type": "boolean", "default": "false"},
        ],
        "postProcessing": ["Dedent", "CollapseWhitespace", "Strip"],
        "contextWindow": {"maxPromptTokens": 4096, "reserveOutputTokens": 512},
    }
)
ITEMS: list[Any] = [{"name": f"lamp {n}", "count": n, "text": 2 * _SENTENCE} for n in range(20)]
LISTED_VALUES: dict[str, Value] = {
    "items": ITEMS,
    "name": "Jo Doe",
    "question": 4 * _SENTENCE,
    "urgent": True,
}
PASSAGES = [Passage(f"d/{n}.md", f"{n}.md", 10 * _SENTENCE, 0.9, "Harbour", n, "") for n in range(3)]


def measure(folder: Path) -> dict[str, Any]:
    """Milliseconds a request, p50 and p99, of each prompt; `folder` holds a model with a chat template.

    Figures of the one in `jinja` are under that name.
    """
    encoder = PromptEncoder(AutoTokenizer.from_pretrained(folder))
    return _measured(encoder, SPEC, VALUES) | {"jinja": _measured(encoder, LISTED, LISTED_VALUES)}


def _measured(
    encoder: PromptEncoder, spec: PromptTemplateSpec, values: Mapping[str, Value]
) -> dict[str, Any]:
    template, injection = CompiledPrompt(spec), Injection(retrieved=numbered(PASSAGES))
    window = prompting.window(template, values, injection, PASSAGES, [], None, None)
    if window is None:
        raise ValueError("the benchmark's prompt must have a context window")

    def rendered() -> GenerateRequest:
        of_prompt = prompting.prompt_messages(template, values, injection)
        messages = render.messages(of_prompt, [], None, None)
        return GenerateRequest(
            messages=messages, max_tokens=256, temperature=0.0, top_p=1.0, seed=None, stop=[], window=window
        )

    prompt = prepare(encoder, rendered(), CONTEXT)
    return {
        "characters": sum(len(message["content"]) for message in prompt.messages),
        "tokens": len(prompt.tokens),
        **_times("render", rendered),
        **_times("with_tokens", lambda: prepare(encoder, rendered(), CONTEXT)),
    }


def _times(name: str, work: Callable[[], object]) -> dict[str, float]:
    taken = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - started))
    taken.sort()
    return {f"{name}_p50_ms": taken[ROUNDS // 2], f"{name}_p99_ms": taken[math.ceil(ROUNDS * 0.99) - 1]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(Path(sys.argv[1])), indent=2) + "\n")
