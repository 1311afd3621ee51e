# SPDX-License-Identifier: Apache-2.0
"""The quickstart as a user follows it: `kubectl apply`, then the official SDK; real weights, real documents."""

import asyncio
import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import yaml

from stack import asking, prompt_page
from stack.cluster import Cluster
from stack.local import LATEEN, REPOSITORY, LocalStack
from stack.parts import Operator, RayServe, Weaviate
from stack.processes import stopped
from stack.traffic import Traffic, traffic
from stack.waiting import wait_for

SAMPLES = REPOSITORY / "crds" / "samples" / "quickstart"
RESOURCES = (
    ("modeldeployments.lateen.dev", "smollm2"),
    ("modeldeployments.lateen.dev", "minilm"),
    ("prompttemplates.lateen.dev", "grounded-answer"),
    ("ragindexes.lateen.dev", "handbook"),
)
QUESTIONS = [
    ("How many days of annual leave do I have?", "leave.md", "28"),
    ("How much is paid per day for meals on a business trip?", "expenses.md", "45"),
    ("How many days a week may I work from home?", "remote-work.md", "3"),
    ("How soon must I report a lost laptop?", "security.md", "1 hour"),
    ("How long does an on-call shift last?", "on-call.md", "7"),
]


@pytest.fixture(scope="module", autouse=True)
def quickstart(cluster: Cluster, ray: RayServe, weaviate: Weaviate) -> Iterator[None]:
    """`kubectl apply -f crds/samples/quickstart`, Ready; deleted afterwards with everything it became."""
    cluster.run("apply", "-f", str(SAMPLES))
    for kind, name in RESOURCES:
        cluster.wait_ready(kind, "default", name, timeout=240)
    yield
    cluster.run("delete", "-f", str(SAMPLES))
    assert not weaviate.collections("Lateen_Default_")
    wait_for(
        lambda: not [name for name in ray.applications() if name.startswith("default_")],
        120,
        "Ray still has applications of the quickstart",
        interval=0.5,
    )


def ask(question: str, **more: Any) -> dict[str, Any]:
    """Arguments of a response that uses prompt, documents and model."""
    return {
        "model": "smollm2",
        "prompt": {"id": "grounded-answer", "variables": {"question": question}},
        "tools": [{"type": "file_search", "vector_store_ids": ["handbook"]}],
        **more,
    }


def cited(response: Any) -> list[str]:
    """File names of the answer's citations, in order."""
    message = next(item for item in response.output if item.type == "message")
    return [note.filename for note in message.content[0].annotations if note.type == "file_citation"]


async def test_the_models_are_listed(client: openai.AsyncOpenAI) -> None:
    """`/v1/models` has both models, under the names in the manifests."""
    assert {model.id async for model in client.models.list()} >= {"smollm2", "minilm"}


@pytest.mark.parametrize(("question", "document", "fact"), QUESTIONS, ids=[entry[1] for entry in QUESTIONS])
async def test_an_answer_cites_the_right_document(
    client: openai.AsyncOpenAI, question: str, document: str, fact: str
) -> None:
    """The answer holds the fact, and its first citation names the document that the fact is in."""
    response = await client.responses.create(**ask(question))
    assert response.status in ("completed", "incomplete")
    assert fact in response.output_text
    assert cited(response)[0] == document
    assert response.usage is not None
    assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens


async def test_a_streamed_answer_is_the_same_answer(client: openai.AsyncOpenAI) -> None:
    """Events arrive in OpenAI's order, the pieces add up to the whole, citations and usage come along."""
    arguments = ask(QUESTIONS[0][0])
    whole = await client.responses.create(**arguments)
    events = [event async for event in await client.responses.create(**arguments, stream=True)]
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] in ("response.completed", "response.incomplete")
    assert kinds.index("response.file_search_call.completed") < kinds.index("response.output_text.delta")
    assert kinds.count("response.output_text.delta") > 1
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == whole.output_text
    last: Any = events[-1]
    assert cited(last.response) == cited(whole)
    assert last.response.usage == whole.usage
    assert [event.sequence_number for event in events] == list(range(len(events)))


async def test_chat_streams_with_usage(client: openai.AsyncOpenAI) -> None:
    """A chat completion arrives in pieces and ends with the usage."""
    stream: Any = await client.chat.completions.create(
        model="smollm2",
        messages=[{"role": "user", "content": "Name three colours."}],
        stream=True,
        stream_options={"include_usage": True},
        max_completion_tokens=32,
        temperature=0,
    )
    chunks = [chunk async for chunk in stream]
    assert sum(bool(choice.delta.content) for chunk in chunks for choice in chunk.choices) > 1
    assert 0 < chunks[-1].usage.completion_tokens <= 32


async def test_stop_and_seed_are_kept(client: openai.AsyncOpenAI) -> None:
    """The answer ends before the stop text; the same seed gives the same answer."""
    common: dict[str, Any] = {
        "model": "smollm2",
        "messages": [{"role": "user", "content": "Count from one to ten in digits, separated by commas."}],
        "max_completion_tokens": 24,
    }
    stopped = await client.chat.completions.create(**common, temperature=0, stop=["4", "four"])
    assert not {"4", "four"} & set((stopped.choices[0].message.content or "").replace(",", " ").split())
    first, second = await asyncio.gather(
        *(client.chat.completions.create(**common, temperature=1, seed=7) for _ in range(2))
    )
    assert first.choices[0].message.content == second.choices[0].message.content


async def test_embeddings_mean_something(client: openai.AsyncOpenAI) -> None:
    """Similar sentences are near each other, and both encodings carry the same numbers."""
    texts = ["A dog runs in the park.", "A puppy plays outside.", "Interest rates rose again."]
    plain = await client.embeddings.create(model="minilm", input=texts, encoding_format="float")
    packed: Any = await client.embeddings.create(model="minilm", input=texts, encoding_format="base64")
    vectors = np.array([item.embedding for item in plain.data], dtype=np.float32)
    assert vectors.shape == (3, 384)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    for vector, item in zip(vectors, packed.data, strict=True):
        raw = item.embedding
        other = np.frombuffer(base64.b64decode(raw), "<f4") if isinstance(raw, str) else np.array(raw, "f4")
        assert np.array_equal(vector, other)


async def test_the_vector_store_can_be_searched(client: openai.AsyncOpenAI) -> None:
    """Search gives passages with scores, best first, as many as asked for."""
    page = await client.vector_stores.search("handbook", query="lost laptop", max_num_results=2)
    assert len(page.data) == 2
    assert page.data[0].filename == "security.md"
    assert page.data[0].score >= page.data[1].score
    assert "1 hour" in page.data[0].content[0].text


@pytest.mark.parametrize(
    ("key", "model", "extra", "error", "code"),
    [
        ("ltn-wrong", "smollm2", {}, openai.AuthenticationError, "invalid_api_key"),
        (None, "nobody", {}, openai.NotFoundError, "model_not_found"),
        (None, "smollm2", {"no_such_field": 1}, openai.BadRequestError, "unknown_parameter"),
    ],
    ids=["wrong key", "unknown model", "unknown field"],
)
async def test_mistakes_are_openai_errors(
    client: openai.AsyncOpenAI,
    key: str | None,
    model: str,
    extra: dict[str, Any],
    error: type[openai.APIStatusError],
    code: str,
) -> None:
    """Each mistake is the SDK's own exception with OpenAI's error object."""
    caller = client.with_options(api_key=key) if key else client
    messages: Any = [{"role": "user", "content": "hi"}]
    with pytest.raises(error) as caught:
        await caller.chat.completions.create(model=model, messages=messages, extra_body=extra)
    assert caught.value.code == code
    body: Any = caught.value.body
    assert body["type"] == "invalid_request_error"
    assert body["message"]


async def test_an_edited_document_changes_the_citation(cluster: Cluster, client: openai.AsyncOpenAI) -> None:
    """A fact that moves to another document is cited from there after the sync; taking it back brings it back."""
    question = "How much does Harbour Lights pay for meals per day on business trips?"
    index = json.loads(cluster.run("get", "ragindexes.lateen.dev", "handbook", "-o", "json"))
    before = index["status"]["fingerprint"]
    documents = index["spec"]["sources"][0]["inline"]["documents"]
    moved = [
        {
            "name": "meals-2027.md",
            "text": "# Meals\nOn business trips Harbour Lights pays up to 52 euros per day for meals.",
        }
        if document["name"] == "expenses.md"
        else document
        for document in documents
    ]
    cluster.patch(
        "ragindexes.lateen.dev",
        "default",
        "handbook",
        {"sources": [{"name": "handbook", "inline": {"documents": moved}}]},
    )
    try:
        await asyncio.to_thread(
            wait_for,
            lambda: (
                cluster.status("ragindexes.lateen.dev", "default", "handbook").get("fingerprint") != before
            ),
            90,
            "the edit was not synced",
        )
        response = await client.responses.create(**ask(question))
        assert cited(response)[0] == "meals-2027.md"
        assert "52" in response.output_text
    finally:
        cluster.run("apply", "-f", str(SAMPLES))
        await asyncio.to_thread(cluster.wait_ready, "ragindexes.lateen.dev", "default", "handbook", 90)


@contextmanager
def answers(sdk: openai.OpenAI) -> Iterator[Traffic]:
    """Answers from documents and streamed chats that go on while the block runs, none of which may fail."""

    def answer() -> None:
        response = sdk.responses.create(**ask(QUESTIONS[0][0], max_output_tokens=24))
        assert cited(response)[0] == "leave.md"

    with traffic(answer, lambda: asking.stream(sdk, "smollm2", tokens=24)) as going:
        yield going


def test_without_an_operator_everything_is_answered(operator: Operator, sdk: openai.OpenAI) -> None:
    """Prompt, documents and models serve on while the operator does nothing at all, and while it starts again."""
    with answers(sdk) as going:
        with stopped(operator.pid):
            going.wait_for_more(5)
            killed = operator.kill()
        operator.wait_restarted(killed)


def test_requests_in_flight_survive_any_update(cluster: Cluster, sdk: openai.OpenAI) -> None:
    """While a model, a prompt and an index are changed and changed back, every answer arrives whole."""
    changes: list[tuple[str, str, dict[str, Any]]] = [
        ("prompttemplates.lateen.dev", "grounded-answer", {"version": "1.1"}),
        ("ragindexes.lateen.dev", "handbook", {"retrieval": {"limit": 2}}),
        ("ragindexes.lateen.dev", "handbook", {"chunking": {"size": 100, "overlap": 16}}),
        ("modeldeployments.lateen.dev", "smollm2", {"limits": {"requestTimeout": "3m"}}),
        ("modeldeployments.lateen.dev", "smollm2", {"engine": {"maxModelLen": 2048}}),
    ]

    with answers(sdk) as going:
        for kind, name, spec in changes:
            cluster.patch(kind, "default", name, spec)
            cluster.wait_ready(kind, "default", name, timeout=180)
            going.wait_for_more(2)
        cluster.run("apply", "-f", str(SAMPLES))
        for kind, name in RESOURCES:
            cluster.wait_ready(kind, "default", name, timeout=180)


def test_the_shell_lines_of_lateen_env_are_enough(stack: LocalStack) -> None:
    """What `lateen env` prints is all a client needs: kubectl and the SDK find the stack by it."""
    found = {name: stack.environment[name] for name in ("KUBECONFIG", "OPENAI_BASE_URL", "OPENAI_API_KEY")}
    kubeconfig = Path(found["KUBECONFIG"])
    assert kubeconfig.is_absolute()
    assert yaml.safe_load(kubeconfig.read_text())["current-context"]
    assert found["OPENAI_BASE_URL"].startswith("http://127.0.0.1:")


def test_the_snippet_of_the_readme_works(stack: LocalStack) -> None:
    """The README's Python prints an answer and the document it rests on."""
    code = (REPOSITORY / "README.md").read_text().split("```python\n")[1].split("```")[0]
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **stack.environment, "NO_PROXY": "127.0.0.1", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert "security.md" in result.stdout


def run_page(stack: LocalStack, folder: Path, page: Path) -> list[tuple[int, str, str]]:
    """Status and output of each `sh` block of a page, in order, in the folder with its files."""
    prompt_page.save(folder, page)
    # The environment's proxies are for the outside; the stack is on loopback.
    settings = {"LATEEN_STATE_DIR": str(stack.state.root), "no_proxy": "*"}
    settings["PATH"] = f"{LATEEN.parent}:{os.environ['PATH']}"
    found = []
    for block in prompt_page.blocks("sh", page):
        script = f'eval "$(lateen env)"\nset -e\n{block}'
        result = subprocess.run(
            ["bash", "-uc", script],
            cwd=folder,
            env=os.environ | settings,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )
        found.append((result.returncode, result.stdout, result.stderr))
    return found


def test_the_commands_of_the_page_about_retrieval(
    stack: LocalStack, cluster: Cluster, tmp_path: Path
) -> None:
    """Each `sh` block of docs/retrieval.md does what the page says: the chat is answered from the handbook and says so."""
    try:
        found = run_page(stack, tmp_path, prompt_page.RETRIEVAL)
        assert [code for code, _, _ in found] == [0, 0], found
        chat = json.loads(found[0][1].splitlines()[-1])
        told = chat["retrieval"]
        # What a model of 135 million parameters makes of it is its own affair: what it was given is ours.
        assert chat["choices"][0]["message"]["content"]
        assert told["results"][0]["filename"] == "leave.md", told
        assert told["citations"][0]["filename"] == "leave.md", told
        assert [one["number"] for one in told["results"] if one["is_in_prompt"]] == [1, 2]
        decoder = json.JSONDecoder()
        response, end = decoder.raw_decode(found[1][1])
        results = response["output"][0]["results"]
        assert 1 <= len(results) <= 2
        assert results[0]["filename"] == "security.md"
        assert decoder.raw_decode(found[1][1][end:])[0]["data"][0]["filename"] == "security.md"
    finally:
        cluster.run("delete", "-f", str(tmp_path / "desk.yaml"), "--ignore-not-found")


def test_the_commands_of_the_page_about_prompts(stack: LocalStack, cluster: Cluster, tmp_path: Path) -> None:
    """Each `sh` block of docs/prompts.md does what the page says."""
    try:
        found = run_page(stack, tmp_path, prompt_page.PAGE)
        assert [code for code, _, _ in found] == [0, 0, 1, 0], found
        rendered, answered, compared, went_back = (output for _, output, _ in found)
        counts = re.findall(r"(\d+) tokens for smollm2", rendered)
        assert counts == counts[:1] * 2
        assert json.loads(answered)["status"] in {"completed", "incomplete"}
        assert re.search(r"^-\s+Question: \{question\}\n\+\s+The question: ", compared, re.MULTILINE)
        assert "1.0" in went_back
        assert cluster.get("prompttemplates.lateen.dev", "default", "grounded")["spec"]["version"] == "1.0"
    finally:
        cluster.run("delete", "-f", str(tmp_path / "grounded.yaml"), "--ignore-not-found")
