# SPDX-License-Identifier: Apache-2.0
"""How long a search takes among 10,000 and 100,000 passages, and what of it. Called by `__main__.py`.

The passages are no documents: random words, the common ones common, with random unit vectors as long as the embedder's, written
into an index's collection as a build writes them. Embedding so many would take a quarter of an hour and change nothing. The
reranker is a MiniLM of the real size with a random head: its time is real, its order means nothing.
"""

import asyncio
import json
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import SecretStr
from safetensors.numpy import load_file, save_file

from bench import figures, ray_jobs
from lateen_api import rag_index
from lateen_api.catalog import Index
from lateen_serving.rag.passages import Search
from lateen_serving.rag.protocol import Chunk
from lateen_serving.rag.retrieve import Retriever
from lateen_serving.rag.store import Connection, WeaviateStore
from lateen_serving.settings import ServingSettings
from stack import manifests
from stack.local import LocalStack
from stack.parts import RayServe

SIZES = (10_000, 100_000)
DIMENSION = 384
VOCABULARY, WORDS = 20_000, 60
REQUESTS, WARM = 200, 20
LIMIT, CANDIDATES = 3, 30
BATCH, WRITERS = 500, 2
NAMESPACE, NAME = "sized", "many"


@dataclass(frozen=True)
class _Place:
    """An index and what is needed to reach it."""

    stack: LocalStack
    settings: ServingSettings
    status: dict[str, Any]
    embedder: str
    reranker: str
    questions: Sequence[str]


def measure(stack: LocalStack) -> dict[str, Any]:
    """Milliseconds of searches by number of passages; `stack` has just been started."""
    ray = RayServe.of(stack)
    with ray.http:
        return _measure(stack, ray)


def _measure(stack: LocalStack, ray: RayServe) -> dict[str, Any]:
    place = _prepare(stack)
    found: dict[str, Any] = {"dimension": DIMENSION, "limit": LIMIT, "candidates": CANDIDATES, "sizes": {}}
    before = 0
    for size in SIZES:
        started = time.monotonic()
        asyncio.run(_fill(place, range(before, size)))
        written = time.monotonic() - started
        found["sizes"][str(size)] = {"write_s": written, **_latencies(place, ray)}
        before = size
    return found


def _prepare(stack: LocalStack) -> _Place:
    stack.cluster.apply(manifests.namespace_manifest(NAMESPACE))
    cross_encoder(stack.volume("models") / "all-minilm-l6-v2", stack.volume("models") / "minilm-cross")
    for name, task, path in (
        ("minilm", "embed", "all-minilm-l6-v2"),
        ("judge", "rerank", "minilm-cross"),
    ):
        stack.cluster.apply(manifests.model(NAMESPACE, name, task, path, resources={"cpu": "500m"}))
    embedder, reranker = (
        stack.cluster.wait_ready(figures.MODEL, NAMESPACE, name, timeout=180)["status"]["application"]
        for name in ("minilm", "judge")
    )
    settings = ServingSettings(
        weaviate_url=f"http://127.0.0.1:{stack.ports.weaviate}",
        weaviate_grpc_port=stack.ports.weaviate_grpc,
        weaviate_api_key=SecretStr(stack.secrets.weaviate_key),
    )
    status = _apply(stack, rerank=False)
    dice = np.random.default_rng(7)
    return _Place(stack, settings, status, embedder, reranker, [_text(dice, 8) for _ in range(REQUESTS)])


def cross_encoder(encoder: Path, target: Path) -> None:
    """A reranker with the layers of an encoder and a random head."""
    target.mkdir(exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (target / name).write_bytes((encoder / name).read_bytes())
    config = json.loads((encoder / "config.json").read_text())
    config |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "relevance"}}
    (target / "config.json").write_text(json.dumps(config | {"label2id": {"relevance": 0}}))
    tensors = {f"bert.{name}": value for name, value in load_file(encoder / "model.safetensors").items()}
    head = np.random.default_rng(7).normal(0, 0.02, (1, config["hidden_size"])).astype(np.float32)
    tensors |= {"classifier.weight": head, "classifier.bias": np.zeros(1, np.float32)}
    save_file(tensors, target / "model.safetensors", metadata={"format": "pt"})


def _apply(stack: LocalStack, *, rerank: bool) -> dict[str, Any]:
    """Have the index rerank or not; its status."""
    source = {"docs": manifests.inline({"a.md": "The zebra is purple."})}
    judge = {"rerank": {"modelRef": {"name": "judge"}, "candidates": CANDIDATES}} if rerank else {}
    stack.cluster.apply(
        manifests.index(NAMESPACE, NAME, "minilm", source, retrieval={"limit": LIMIT, **judge})
    )
    return dict(stack.cluster.wait_ready(figures.INDEX, NAMESPACE, NAME, timeout=180)["status"])


async def _fill(place: _Place, numbers: range) -> None:
    """Write the passages of these numbers."""
    connection = Connection(place.settings)
    store = WeaviateStore(connection, place.status["collection"], rag_index.Store())
    batches = iter(range(numbers.start, numbers.stop, BATCH))

    async def writer() -> None:
        for start in batches:
            some = range(start, min(start + BATCH, numbers.stop))
            dice = np.random.default_rng(start)
            vectors = dice.normal(size=(len(some), DIMENSION)).astype(np.float32)
            vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
            await store.put_chunks([_chunk(number, _text(dice, WORDS)) for number in some], vectors)

    try:
        await asyncio.gather(*(writer() for _ in range(WRITERS)))
    finally:
        await connection.aclose()


def _text(dice: np.random.Generator, words: int) -> str:
    """Random words, the n-th of which is about as common as 1/n."""
    ranks = np.floor(VOCABULARY ** dice.random(words)).astype(int)
    return " ".join(f"word{rank:x}" for rank in ranks)


def _chunk(number: int, text: str) -> Chunk:
    document = f"docs/{number // 4}.md"
    return Chunk(
        id=str(uuid.uuid5(uuid.NAMESPACE_OID, str(number))), document_id=document, source="docs", path=f"{number // 4}.md",
        title=f"Document {number // 4}", heading="", position=number % 4, text=text, content_hash="1", uri=document,
        embedded=text, tokens=WORDS,
    )  # fmt: skip


def _latencies(place: _Place, ray: RayServe) -> dict[str, Any]:
    """Of whole searches through the gateway, and of their parts without it, one after the other."""
    whole = _asked(place)
    _apply(place.stack, rerank=True)
    reranked = _asked(place)
    _apply(place.stack, rerank=False)
    embedded = _called(place, ray, place.embedder, "embed", [[[text]] for text in place.questions])
    vectors = np.random.default_rng(9).normal(size=(REQUESTS, DIMENSION)).tolist()
    searched, passages = asyncio.run(_searched(place, vectors))
    pairs = [[question, passages] for question in place.questions[:60]]
    judged = _called(place, ray, place.reranker, "rerank", pairs)
    parts = {
        "whole": whole,
        "whole_reranked": reranked,
        "embed": embedded,
        "search": searched,
        "rerank": judged,
    }
    return {f"{name}_p{p}_ms": value for name, seconds in parts.items() for p, value in _quantiles(seconds)}


def _quantiles(seconds: Sequence[float]) -> Iterator[tuple[int, float]]:
    return ((p, 1000 * figures.percentile(seconds, p / 100)) for p in (50, 99))


def _asked(place: _Place) -> list[float]:
    """Seconds of each search through the gateway."""
    found = []
    with figures.sdk(place.stack) as caller:
        for question in [*place.questions[:WARM], *place.questions]:
            started = time.perf_counter()
            page = caller.vector_stores.search(place.status["vectorStoreId"], query=question)
            found.append(time.perf_counter() - started)
            assert len(page.data) == LIMIT, f"{len(page.data)} passages"
    return found[WARM:]


def _called(
    place: _Place, ray: RayServe, application: str, method: str, arguments: list[list[Any]]
) -> list[float]:
    """Seconds of each call of a model's handle."""
    file = place.stack.state.root / "bench-arguments.json"
    file.write_text(json.dumps(arguments))
    order = {"kind": "calls", "application": application, "method": method, "file": str(file)}
    return list(ray_jobs.run(ray, order)["seconds"])


async def _searched(place: _Place, vectors: Sequence[Sequence[float]]) -> tuple[list[float], list[str]]:
    """Seconds of each search in Weaviate as the gateway does it, and the texts of as many passages as are reranked."""
    status = place.status
    index = Index.model_validate(
        {"id": "i", "alias": status["collection"], "collection": status["collection"], "revision": "r",
         "embedder": "m", "embedderRevision": "r", "embedderApplication": "a", "retrieval": {}, "created": 0}
    )  # fmt: skip
    connection = Connection(place.settings)
    stamp = await connection.stamp(index.collection)
    await connection.aclose()
    assert stamp is not None
    index = index.model_copy(update={"embedder": stamp.id, "embedder_revision": stamp.revision})
    retriever, found = Retriever(place.settings), []
    try:
        for question, vector in zip(place.questions, vectors, strict=True):
            started = time.perf_counter()
            passages = await retriever.search(index, Search(question, vector, LIMIT))
            found.append(time.perf_counter() - started)
        passages = await retriever.search(index, Search(place.questions[0], vectors[0], CANDIDATES))
    finally:
        await retriever.aclose()
    return found[WARM:], [passage.text for passage in passages]
