# SPDX-License-Identifier: Apache-2.0
"""Prompts while they are used, on real parts: loops and conditions, context windows, and the count of their tokens."""

import json
import re
from typing import Any

import openai
import pytest

from stack import manifests
from stack.cluster import Cluster
from stack.local import LocalStack
from stack.prompting import dry_run, gateway, lateen, use

KIND = "prompttemplates.lateen.dev"


@pytest.fixture(scope="module")
def chat(cluster: Cluster, shared_namespace: str) -> str:
    """A tiny model, Ready; the id clients use."""
    cluster.apply(manifests.model(shared_namespace, "chat", "generate", "tiny-chat"))
    found = cluster.wait_ready("modeldeployments.lateen.dev", shared_namespace, "chat", timeout=180)
    return str(found["status"]["modelId"])


LOOP = """{% if tone == "team" %}
answer the team
{% endif %}
{% for item in items %}
{{ loop.index }} of {{ items | length }} {{ item.name }}
{% endfor %}
what is {{ topic }}"""
LISTED: dict[str, Any] = {"items": [{"name": "laptop"}, {"name": "umbrella"}], "topic": "tea", "tone": "team"}


def looped(namespace: str, name: str) -> manifests.Manifest:
    """A PromptTemplate in jinja with a loop and a condition."""
    items = {"name": "items", "type": "list", "rules": [{"maxLength": 5}]}
    variables = [items, {"name": "topic"}, {"name": "tone", "default": "none"}]
    messages = [{"role": "user", "content": LOOP}]
    return manifests.prompt(namespace, name, syntax="jinja", messages=messages, variables=variables)


def test_a_loop_and_a_condition_are_filled_in(
    chat: str, cluster: Cluster, shared_namespace: str, sdk: openai.OpenAI, stack: LocalStack
) -> None:
    """The model is asked what the dry run shows; a list that is too long is refused by the rule of its variable."""
    cluster.apply(looped(shared_namespace, "looped"))
    prompt = str(cluster.wait_ready(KIND, shared_namespace, "looped", timeout=30)["status"]["promptId"])
    shown = dry_run(stack, prompt, variables=LISTED, model=chat)
    text = "answer the team\n1 of 2 laptop\n2 of 2 umbrella\nwhat is tea"
    assert shown["messages"] == [{"role": "user", "content": text}]
    plain = dry_run(stack, prompt, variables={"items": [], "topic": "tea"})
    assert plain["messages"] == [{"role": "user", "content": "what is tea"}]
    assert use(sdk, chat, {"id": prompt, "variables": LISTED}).usage.input_tokens == shown["tokens"]
    with pytest.raises(openai.BadRequestError, match="maxLength is 5"):
        use(sdk, chat, {"id": prompt, "variables": LISTED | {"items": [{"name": "cat"}] * 6}})


def test_the_command_line_counts_as_the_model_does(
    chat: str, cluster: Cluster, shared_namespace: str, sdk: openai.OpenAI, stack: LocalStack
) -> None:
    """`lateen render --model` prints the tokens that the usage of a real answer has."""
    cluster.apply(looped(shared_namespace, "counted"))
    cluster.wait_ready(KIND, shared_namespace, "counted", timeout=30)
    given = [
        f"--var={name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in LISTED.items()
    ]
    command = ("render", "pt/counted", "--model", chat, *given, "-n", shared_namespace)
    shown = lateen(stack, *command, "-o", "json")
    assert shown.returncode == 0, shown.stderr
    reply = sdk.chat.completions.create(
        model=chat,
        messages=[],
        max_completion_tokens=1,
        extra_body={"prompt": {"id": f"{shared_namespace}.counted", "variables": LISTED}},
    )
    assert reply.usage is not None
    assert json.loads(shown.stdout)["tokens"] == reply.usage.prompt_tokens
    assert f", {reply.usage.prompt_tokens} tokens for {chat}" in lateen(stack, *command).stdout


TURNS = 20
TALK: Any = [
    {"role": role, "content": text}
    for number in range(TURNS)
    for role, text in (("user", f"what is a {'zebra' if number % 2 else 'heron'}"), ("assistant", "a walrus"))
] + [{"role": "user", "content": "which day is the last day"}]


def windowed(namespace: str, name: str, **window: Any) -> manifests.Manifest:
    """A PromptTemplate of one system message with a context window."""
    messages = [{"role": "system", "content": "answer the {topic} team"}]
    variables = [{"name": "topic"}]
    return manifests.prompt(namespace, name, messages=messages, variables=variables, contextWindow=window)


def cut_total(stack: LocalStack, prompt: str) -> float:
    """How many requests have lost turns of their conversation, as the gateway's metrics say."""
    with gateway(stack) as http:
        text = http.get("/metrics").text
    labels = (
        rf'lateen_prompt_cut_total{{prompt="{re.escape(prompt)}",replica="[^"]*",what="conversation"}} (\S+)'
    )
    return sum(float(value) for value in re.findall(labels, text))


def test_a_long_conversation_is_cut_and_everybody_is_told(
    chat: str, cluster: Cluster, shared_namespace: str, sdk: openai.OpenAI, stack: LocalStack
) -> None:
    """The oldest turns go, within the bound; a header, the response's metadata and a metric say how many are left."""
    window = {"maxPromptTokens": 60, "overflow": "Truncate", "priority": ["conversation"]}
    cluster.apply(windowed(shared_namespace, "cutting", **window))
    name = str(cluster.wait_ready(KIND, shared_namespace, "cutting", timeout=30)["status"]["promptId"])
    prompt: Any = {"id": name, "variables": {"topic": "harbour"}}
    reply = sdk.responses.with_raw_response.create(
        model=chat, input=TALK, prompt=prompt, max_output_tokens=8, temperature=0
    )
    response = reply.parse()
    told = reply.headers["x-lateen-prompt-cut"]
    found = re.fullmatch(rf"conversation;unit=turns;before={TURNS + 1};after=(\d+)", told)
    assert found is not None, told
    left = int(found[1])
    assert 1 <= left < TURNS
    assert response.metadata == {"lateen_prompt_cut": told}
    assert response.usage is not None
    kept = [{"role": "system", "content": "answer the harbour team"}, *TALK[-(2 * left - 1) :]]
    plain: Any = sdk.chat.completions.create(model=chat, messages=kept, max_completion_tokens=1)
    assert response.usage.input_tokens == plain.usage.prompt_tokens <= 60
    assert cut_total(stack, name) == 1
    short = sdk.responses.with_raw_response.create(
        model=chat, input=TALK[-1:], prompt=prompt, max_output_tokens=8, temperature=0
    )
    assert "x-lateen-prompt-cut" not in short.headers
    assert cut_total(stack, name) == 1


def test_a_conversation_that_may_not_be_cut_is_refused_with_the_numbers(
    chat: str, cluster: Cluster, shared_namespace: str, sdk: openai.OpenAI
) -> None:
    """How long it is, how much fits, and what is kept for the answer."""
    cluster.apply(windowed(shared_namespace, "refusing", maxPromptTokens=60, reserveOutputTokens=100))
    name = str(cluster.wait_ready(KIND, shared_namespace, "refusing", timeout=30)["status"]["promptId"])
    prompt: Any = {"id": name, "variables": {"topic": "harbour"}}
    said: Any = [{"role": "system", "content": "answer the harbour team"}, *TALK]
    plain: Any = sdk.chat.completions.create(model=chat, messages=said, max_completion_tokens=1)
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.responses.create(model=chat, input=TALK, prompt=prompt, max_output_tokens=8)
    assert caught.value.code == "context_length_exceeded"
    assert f"the prompt is {plain.usage.prompt_tokens} tokens; at most 60 fit" in str(caught.value)
    assert "this model reads 512 tokens, of which 100 are kept for the answer" in str(caught.value)
