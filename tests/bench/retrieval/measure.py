# SPDX-License-Identifier: Apache-2.0
"""Known-item searches in an index of some thousand documents that no one wrote for a test. Called by `__main__.py`.

The same index is searched in every mode with the defaults of the API. `alpha` was chosen by questions of the split `tune`, with
those of `report`, which are asked here, in sight: what is reported is not wholly apart from it.
"""

import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai

from bench import figures
from bench.retrieval import corpus, paraphrase, scores
from bench.retrieval.paraphrase import Question
from stack import manifests
from stack.local import LocalStack

QUESTIONS = 300
KINDS: tuple[paraphrase.Kind, ...] = ("named", "meant")
AT_ONCE = 4
NAMESPACE, INDEX, CLAIM = "known", "docstrings", "known-documents"
BUILD_SECONDS = 400

RERANKER = "LATEEN_BENCH_RERANKER"
"""Environment variable with the folder of a cross-encoder's weights; without it nothing is reranked: no weights of one can
be had without a hub.
"""

MODES: Mapping[str, dict[str, Any]] = {name: {"mode": name} for name in ("Vector", "Keyword", "Hybrid")}


def measure(stack: LocalStack) -> dict[str, Any]:
    """Recall and mean reciprocal rank by mode."""
    items = corpus.collect()
    asked = {kind: paraphrase.questions(items, QUESTIONS, "report", kind) for kind in KINDS}
    started = time.monotonic()
    status = build(stack, items)
    return {
        "documents": status["documents"],
        "chunks": status["chunks"],
        "build_s": time.monotonic() - started,
        "questions": {kind: len(some) for kind, some in asked.items()},
        "modes": {
            name: {kind: scores.summary(ranks(stack, some, how)) for kind, some in asked.items()}
            for name, how in _modes(stack)
        },
    }


def build(stack: LocalStack, items: Sequence[corpus.Item]) -> dict[str, Any]:
    """Index the documents with MiniLM; the RAGIndex's status."""
    stack.cluster.apply(manifests.namespace_manifest(NAMESPACE))
    folder = stack.volume(CLAIM)
    for item in items:
        file = folder / item.path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(item.markdown)
    wanted = manifests.model(NAMESPACE, "minilm", "embed", "all-minilm-l6-v2", resources={"cpu": "2"})
    stack.cluster.apply(wanted)
    stack.cluster.wait_ready(figures.MODEL, NAMESPACE, "minilm", timeout=180)
    stack.cluster.apply(_index({}))
    return dict(stack.cluster.wait_ready(figures.INDEX, NAMESPACE, INDEX, timeout=BUILD_SECONDS)["status"])


def ranks(stack: LocalStack, asked: Sequence[Question], how: Mapping[str, Any]) -> list[int | None]:
    """At which place each question found its document, with `how` as `spec.retrieval`."""
    stack.cluster.apply(_index(how))
    stack.cluster.wait_ready(figures.INDEX, NAMESPACE, INDEX, timeout=60)
    with figures.sdk(stack) as caller, ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(lambda question: _rank(caller, question), asked))


def _rank(caller: openai.OpenAI, question: Question) -> int | None:
    found = caller.vector_stores.search(
        f"{NAMESPACE}.{INDEX}", query=question.text, max_num_results=max(scores.CUTS)
    )
    return scores.rank([hit.file_id for hit in found.data], f"files/{question.path}")


def _modes(stack: LocalStack) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from MODES.items()
    if weights := os.environ.get(RERANKER):
        shutil.copytree(Path(weights), stack.volume("models") / "reranker", dirs_exist_ok=True)
        model = manifests.model(NAMESPACE, "reranker", "rerank", "reranker", resources={"cpu": "2"})
        stack.cluster.apply(model)
        stack.cluster.wait_ready(figures.MODEL, NAMESPACE, "reranker", timeout=180)
        yield "Hybrid+rerank", {"mode": "Hybrid", "rerank": {"modelRef": {"name": "reranker"}}}


def _index(how: Mapping[str, Any]) -> manifests.Manifest:
    source = {"files": {"pvc": {"claimName": CLAIM}}}
    chunking = {"size": 200, "overlap": 32}
    return manifests.index(NAMESPACE, INDEX, "minilm", source, chunking=chunking, retrieval=dict(how))
