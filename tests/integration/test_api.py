# SPDX-License-Identifier: Apache-2.0
"""The OpenAI-compatible endpoint through Ray Serve's real proxy, with tiny models: what the SDK and plain HTTP see."""

import base64
import concurrent.futures
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from stack import asking, manifests
from stack.cluster import Cluster
from stack.local import LocalStack

KIND = "modeldeployments.lateen.dev"


@pytest.fixture(scope="module")
def chat(cluster: Cluster, shared_namespace: str, embedder: str) -> str:
    """A tiny model, Ready beside a tiny embedder; the id clients use. A cross-encoder starts with it."""
    cluster.apply(
        manifests.model(shared_namespace, "chat", "generate", "tiny-chat"),
        manifests.model(shared_namespace, "ranker", "rerank", "tiny-rerank"),
    )
    found = cluster.wait_ready(KIND, shared_namespace, "chat", timeout=180)
    return str(found["status"]["modelId"])


@pytest.fixture(scope="module")
def ranker(chat: str, cluster: Cluster, stack: LocalStack, shared_namespace: str) -> str:
    """A tiny cross-encoder, Ready; the id clients use."""
    found = cluster.wait_ready(KIND, shared_namespace, "ranker", timeout=180)
    assert found["status"]["url"] == f"{stack.gateway_url}/v1"
    return str(found["status"]["modelId"])


def complete(sdk: openai.OpenAI, model: str, text: str = "what is a zebra", **more: Any) -> Any:
    """A chat completion of one user message."""
    settings = {"max_completion_tokens": 16, "temperature": 0} | more
    return sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **settings)


def test_the_model_is_described(chat: str, sdk: openai.OpenAI) -> None:
    """`/v1/models/{id}` has the shape the SDK expects."""
    found = sdk.models.retrieve(chat)
    assert (found.id, found.object) == (chat, "model")
    assert found.created > 1_700_000_000


def test_a_stream_says_what_the_whole_answer_says(chat: str, sdk: openai.OpenAI) -> None:
    """Streaming changes how an answer travels, not what it is; usage comes last and is the same."""
    whole = complete(sdk, chat)
    chunks = list(complete(sdk, chat, stream=True, stream_options={"include_usage": True}))
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage
    assert not chunks[-1].choices
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert reasons == [whole.choices[0].finish_reason]


def test_the_token_limit_is_kept(chat: str, sdk: openai.OpenAI) -> None:
    """`max_completion_tokens` bounds the answer, and the finish reason says so."""
    reply = complete(sdk, chat, max_completion_tokens=3)
    assert reply.usage.completion_tokens <= 3
    assert reply.choices[0].finish_reason == "length"


def test_a_stop_text_ends_the_answer_before_it(chat: str, sdk: openai.OpenAI) -> None:
    """The stop text itself is not part of the answer."""
    whole = complete(sdk, chat, max_completion_tokens=24).choices[0].message.content
    stop = whole[len(whole) // 2 :][:3]
    reply = complete(sdk, chat, max_completion_tokens=24, stop=[stop]).choices[0]
    assert reply.message.content == whole[: whole.index(stop)]
    assert reply.finish_reason == "stop"


def test_a_seed_repeats_an_answer(chat: str, sdk: openai.OpenAI) -> None:
    """Same seed, same answer, whatever else runs at the same time; other seeds differ."""

    def sampled(seed: int) -> str:
        reply = complete(sdk, chat, temperature=1.5, seed=seed)
        return str(reply.choices[0].message.content)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(sampled, [1, 2, 3, 4, 1, 2, 3, 4]))
    assert answers[:4] == answers[4:]
    assert len(set(answers)) > 1


def test_many_at_once_are_answered_like_one(chat: str, sdk: openai.OpenAI) -> None:
    """Requests that are batched together don't touch each other."""
    questions = [f"what is {word}" for word in ("a cat", "a dog and a heron", "tea", "the walrus on monday")]
    alone = [asking.say(sdk, chat, question) for question in questions]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda question: asking.say(sdk, chat, question), questions * 4))
    assert together == alone * 4


def test_one_bad_request_in_a_batch_fails_alone(chat: str, sdk: openai.OpenAI) -> None:
    """A prompt that doesn't fit the model gets 400; the others beside it their answers."""

    def outcome(text: str) -> str:
        try:
            return asking.say(sdk, chat, text)
        except openai.BadRequestError as error:
            return str(error.code)

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        found = list(pool.map(outcome, ["what is tea", "zebra " * 2000] * 4))
    assert found[1::2] == ["context_length_exceeded"] * 4
    assert len(set(found[0::2])) == 1
    assert "context" not in found[0]


def test_embeddings_are_the_same_in_both_encodings(
    shared_namespace: str, chat: str, sdk: openai.OpenAI
) -> None:
    """base64 carries the same float32 numbers; vectors have length 1; usage counts tokens."""
    model = f"{shared_namespace}.embedder"
    texts = ["the zebra is purple", "a heron"]
    plain = sdk.embeddings.create(model=model, input=texts, encoding_format="float")
    packed: Any = sdk.embeddings.create(model=model, input=texts, encoding_format="base64")
    for one, other in zip(plain.data, packed.data, strict=True):
        raw = other.embedding
        vector = np.frombuffer(base64.b64decode(raw), "<f4") if isinstance(raw, str) else np.array(raw, "f4")
        assert np.array_equal(np.array(one.embedding, dtype=np.float32), vector)
        assert abs(np.linalg.norm(vector) - 1) < 1e-3
    assert [item.index for item in plain.data] == [0, 1]
    assert plain.usage.prompt_tokens == packed.usage.prompt_tokens > 0


def ranking(model: str, **more: Any) -> dict[str, Any]:
    """A request as Cohere's and Jina's clients send it."""
    documents = ["a heron", {"text": "the zebra is purple"}, "the zebra is green", "tea"]
    return {"model": model, "query": "the purple zebra", "documents": documents, **more}


def test_documents_are_ranked_by_a_cross_encoder(
    ranker: str, shared_namespace: str, stack: LocalStack
) -> None:
    """What has most of the query's words is first; each result says which document it is about."""
    reply = post(stack, "/v1/rerank", json=ranking(ranker))
    assert reply.status_code == 200, reply.text
    document = reply.json()
    assert [result["index"] for result in document["results"]][:2] == [1, 2]
    scores = [result["relevance_score"] for result in document["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
    assert document["usage"]["total_tokens"] > 0
    assert ranker in reply.headers["x-lateen-release"]
    best = post(stack, "/v1/rerank", json=ranking(ranker, top_n=1, return_documents=True)).json()["results"]
    assert best == [{**document["results"][0], "document": {"text": "the zebra is purple"}}]


def test_a_document_s_score_does_not_depend_on_its_company(ranker: str, stack: LocalStack) -> None:
    """Alone, among a thousand others, and beside other requests it is as relevant."""
    alone = post(stack, "/v1/rerank", json=ranking(ranker, documents=["the zebra is purple"])).json()
    crowd = ["the zebra is purple", *(f"a heron has {number} umbrella" for number in range(1023))]

    def scored(documents: list[str]) -> dict[int, float]:
        results = post(stack, "/v1/rerank", json=ranking(ranker, documents=documents)).json()["results"]
        return {result["index"]: result["relevance_score"] for result in results}

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(scored, [crowd, crowd[:3], crowd[:2], crowd[:1]]))
    assert [len(scores) for scores in found] == [1024, 3, 2, 1]
    expected = alone["results"][0]["relevance_score"]
    assert [scores[0] for scores in found] == pytest.approx([expected] * 4, abs=0.02)


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"documents": []}, "documents"),
        ({"documents": ["tea"] * 1025}, "documents"),
        ({"documents": [{"title": "tea"}]}, "documents"),
        ({"query": ""}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"max_chunks_per_doc": 2}, "max_chunks_per_doc"),
        ({"model": "chat"}, "model"),
        ({"model": "embedder"}, "model"),
    ],
    ids=[
        "no documents",
        "too many",
        "no text",
        "no query",
        "none wanted",
        "not acted on",
        "chat",
        "embedder",
    ],
)
def test_a_wrong_request_to_rank_is_refused_by_name(
    ranker: str, chat: str, shared_namespace: str, stack: LocalStack, more: dict[str, Any], param: str
) -> None:
    """400 names the field, also where the model is there but of another task."""
    if "model" in more:
        more = {"model": f"{shared_namespace}.{more['model']}"}
    reply = post(stack, "/v1/rerank", json=ranking(ranker) | more)
    assert reply.status_code == 400, reply.text
    error = reply.json()["error"]
    assert param in str(error["param"])
    assert error["type"] == "invalid_request_error"
    assert error["code"]


def test_a_cross_encoder_only_ranks(ranker: str, sdk: openai.OpenAI) -> None:
    """It is listed like any model, and refuses to chat or to embed."""
    assert ranker in asking.listed(sdk)
    with pytest.raises(openai.BadRequestError) as caught:
        asking.say(sdk, ranker)
    assert caught.value.param == "model"
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.embeddings.create(model=ranker, input="tea")
    assert caught.value.param == "model"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"n": 9}, "n"),
        ({"modalities": ["audio"]}, "modalities"),
        ({"temperature": 3}, "temperature"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"no_such_field": 1}, "no_such_field"),
        ({"messages": []}, "messages"),
    ],
    ids=["unsupported value", "unsupported field", "out of range", "too small", "unknown field", "empty"],
)
def test_a_field_that_is_not_acted_on_is_refused_by_name(
    chat: str, stack: LocalStack, fields: dict[str, Any], param: str
) -> None:
    """The error object names the field; nothing is ignored."""
    body = {"model": chat, "messages": [{"role": "user", "content": "tea"}]} | fields
    reply = post(stack, "/v1/chat/completions", json=body)
    error = reply.json()["error"]
    assert reply.status_code == 400
    assert error["type"] == "invalid_request_error"
    assert param in str(error["param"])
    assert error["code"]


@pytest.mark.parametrize(
    ("path", "content", "status"),
    [
        ("/v1/chat/completions", b"{not json", 400),
        ("/v1/chat/completions", b"[]", 400),
        ("/v1/no/such/route", b"{}", 404),
        ("/v1/models", b"{}", 405),
    ],
    ids=["not JSON", "not an object", "unknown route", "wrong method"],
)
def test_even_nonsense_gets_an_error_object(
    stack: LocalStack, path: str, content: bytes, status: int
) -> None:
    """Whatever is sent, the reply is OpenAI's error object."""
    reply = post(stack, path, content=content)
    assert reply.status_code == status
    assert reply.json()["error"]["message"]


@pytest.mark.parametrize("key", ["", "ltn-wrong", "Basic abc"], ids=["none", "unknown", "another scheme"])
def test_without_a_known_key_nothing_is_told(stack: LocalStack, key: str) -> None:
    """Every route but the probes needs a key; the reply doesn't say what exists."""
    headers = {"Authorization": key if " " in key else f"Bearer {key}"} if key else {}
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/chat/completions"), ("POST", "/v1/embeddings")):
        reply = httpx.request(
            method, stack.gateway_url + path, headers=headers, json={}, trust_env=False, timeout=30
        )
        assert reply.status_code == 401, path
        assert reply.json()["error"]["code"] == "invalid_api_key"


def test_probes_need_no_key(stack: LocalStack) -> None:
    """`/healthz` and `/readyz` answer for machines, and tell nothing but that."""
    for path in ("/healthz", "/readyz"):
        assert httpx.get(stack.gateway_url + path, trust_env=False, timeout=30).status_code == 200


def test_every_reply_names_its_release(chat: str, sdk: openai.OpenAI) -> None:
    """`x-lateen-release` says which revision answered, `x-request-id` which request it was."""
    raw = sdk.chat.completions.with_raw_response.create(
        model=chat, messages=[{"role": "user", "content": "tea"}], max_completion_tokens=2
    )
    assert "model=" in raw.headers["x-lateen-release"]
    assert raw.headers["x-request-id"]


def test_a_client_that_leaves_frees_its_place(chat: str, stack: LocalStack, sdk: openai.OpenAI) -> None:
    """Streams that clients abandon stop; the next request isn't held up by them."""
    body = {"model": chat, "messages": [{"role": "user", "content": "tea"}], "stream": True, "temperature": 0}
    for _ in range(40):
        with httpx.stream(
            "POST",
            f"{stack.gateway_url}/v1/chat/completions",
            json=body,
            headers={"Authorization": f"Bearer {stack.api_key}"},
            trust_env=False,
            timeout=30,
        ) as reply:
            next(reply.iter_bytes())
    assert asking.say(sdk, chat)


def post(stack: LocalStack, path: str, **more: Any) -> httpx.Response:
    """A POST with the stack's key."""
    headers = {"Authorization": f"Bearer {stack.api_key}", "Content-Type": "application/json"}
    return httpx.post(stack.gateway_url + path, headers=headers, trust_env=False, timeout=30, **more)
