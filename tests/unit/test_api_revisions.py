# SPDX-License-Identifier: Apache-2.0
"""Which changes of a spec are a new revision: a rollout or a rebuild costs, a missed one lies."""

from copy import deepcopy
from typing import Any

import pytest

from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.rag_index import RAGIndexSpec

MODEL: dict[str, Any] = {"task": "generate", "source": {"uri": "pvc://models/a"}}
PROMPT: dict[str, Any] = {
    "version": "1",
    "messages": [{"role": "user", "content": "{x}"}],
    "variables": [{"name": "x"}],
}
INDEX: dict[str, Any] = {
    "sources": [{"name": "a", "configMap": {"name": "a"}}],
    "embedding": {"modelRef": {"name": "minilm"}},
}


def with_(spec: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A copy of `spec` with one field set."""
    copy = deepcopy(spec)
    node = copy
    *parents, last = path.split(".")
    for step in parents:
        node = node.setdefault(step, {})
    node[last] = value
    return copy


def model(spec: dict[str, Any]) -> str:
    """Its revision."""
    return ModelDeploymentSpec.model_validate(spec).revision()


def prompt(spec: dict[str, Any]) -> str:
    """Its revision."""
    return PromptTemplateSpec.model_validate(spec).revision()


def index(spec: dict[str, Any], embedder_revision: str = "e1") -> str:
    """Its revision."""
    return RAGIndexSpec.model_validate(spec).revision(embedder_revision)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("task", "embed"),
        ("source.uri", "pvc://models/b"),
        ("engine.type", "transformers"),
        ("engine.dtype", "float32"),
        ("engine.maxModelLen", 512),
        ("resources.cpu", "2"),
        ("resources.memory", "2Gi"),
        ("resources.gpu", "1"),
    ],
)
def test_what_changes_a_model_is_a_new_revision(path: str, value: Any) -> None:
    """It is started beside the live one."""
    assert model(with_(MODEL, path, value)) != model(MODEL)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("replicas", 3),
        ("limits.maxOngoingRequests", 1),
        ("limits.maxQueuedRequests", 1),
        ("limits.requestTimeout", "5s"),
        ("suspend", True),
    ],
)
def test_how_much_of_a_model_runs_is_no_revision(path: str, value: Any) -> None:
    """It changes in place; `kubectl scale` restarts nothing."""
    assert model(with_(MODEL, path, value)) == model(MODEL)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("version", "2"),
        ("messages", [{"role": "system", "content": "{x}"}]),
        ("variables", [{"name": "x", "default": "y"}]),
        ("postProcessing", ["Strip"]),
        ("defaults.temperature", "0.5"),
    ],
)
def test_what_reaches_the_model_is_a_new_prompt_revision(path: str, value: Any) -> None:
    """The version label included, so that it names one text."""
    assert prompt(with_(PROMPT, path, value)) != prompt(PROMPT)


def test_suspending_a_prompt_is_no_revision() -> None:
    """What is live stays."""
    assert prompt(with_(PROMPT, "suspend", True)) == prompt(PROMPT)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("parsing.maxDocumentBytes", "1Ki"),
        ("chunking.strategy", "Token"),
        ("chunking.size", 100),
        ("chunking.overlap", 0),
        ("store.distance", "dot"),
        ("store.compression", "rq"),
        ("store.vectorIndex", "flat"),
        ("store.replicas", 2),
        ("store.shards", 2),
        ("store.tokenization", "trigram"),
    ],
)
def test_what_changes_chunks_or_vectors_builds_a_new_collection(path: str, value: Any) -> None:
    """It is built beside the live one."""
    assert index(with_(INDEX, path, value)) != index(INDEX)


def test_another_embedder_builds_a_new_collection() -> None:
    """Vectors of two models can't be compared, even if the reference kept its name."""
    assert index(INDEX, "e1") != index(INDEX, "e2")


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("sources", [{"name": "b", "configMap": {"name": "b"}}]),
        ("retrieval.limit", 9),
        ("retrieval.alpha", "1"),
        ("retrieval.rerank", {"modelRef": {"name": "r"}}),
        ("schedule", {"cron": "0 * * * *"}),
        ("suspend", True),
    ],
)
def test_documents_and_questions_change_an_index_in_place(path: str, value: Any) -> None:
    """A document is synced without rebuilding the rest."""
    assert index(with_(INDEX, path, value)) == index(INDEX)


def test_a_default_spelled_out_is_no_change() -> None:
    """The API server stores defaults; a spec read before and after has one revision."""
    full_model = ModelDeploymentSpec.model_validate(MODEL).dump()
    full_prompt = PromptTemplateSpec.model_validate(PROMPT).dump()
    full_index = RAGIndexSpec.model_validate(INDEX).dump()
    assert model(full_model) == model(MODEL)
    assert prompt(full_prompt) == prompt(PROMPT)
    assert index(full_index) == index(INDEX)


def test_a_number_written_plainly_is_no_change() -> None:
    """`cpu: 2` is `cpu: "2"`."""
    assert model(with_(MODEL, "resources.cpu", 2)) == model(with_(MODEL, "resources.cpu", "2"))
