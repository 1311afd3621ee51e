# SPDX-License-Identifier: Apache-2.0
"""Samples are valid, complete and work together."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lateen_api import crd, names, rendering
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts.includes import expand
from lateen_api.rag_index import RAGIndexSpec
from lateen_api.structural import INT_OR_STRING, Node

SAMPLES = Path(__file__).resolve().parents[2] / "crds" / "samples"
KINDS = {kind.name: kind for kind in crd.KINDS}
TYPES: dict[str, type[Any]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "boolean": bool,
}


def objects(folder: Path) -> list[dict[str, Any]]:
    """All objects of a folder's files."""
    return [o for path in sorted(folder.glob("*.yaml")) for o in yaml.safe_load_all(path.read_text())]


ALL = [*objects(SAMPLES), *objects(SAMPLES / "quickstart")]


def problems(value: Any, node: Node, path: str) -> Iterator[str]:
    """Where `value` breaks a structural schema; unknown fields included, CEL left to the API server."""
    if not isinstance(value, (int, str) if node.get(INT_OR_STRING) else TYPES[node["type"]]):
        yield f"{path}: {value!r} is not of type {node.get('type', 'integer or string')}"
        return
    if value not in node.get("enum", [value]):
        yield f"{path}: {value!r} is not one of {node['enum']}"
    if isinstance(value, dict):
        yield from _object_problems(value, node, path)
    size: int = value if isinstance(value, int) else len(value)
    for least, most in (("minimum", "maximum"), ("minLength", "maxLength"), ("minItems", "maxItems")):
        if not node.get(least, size) <= size <= node.get(most, size):
            yield f"{path}: beyond {least} or {most}"
    if isinstance(value, str) and not re.search(node.get("pattern", ""), value):
        yield f"{path}: {value!r} does not match"
    if isinstance(value, list):
        for position, item in enumerate(value):
            yield from problems(item, node["items"], f"{path}[{position}]")


def _object_problems(value: dict[str, Any], node: Node, path: str) -> Iterator[str]:
    known = node.get("properties")
    if known is None:
        return
    yield from (f"{path}.{name}: required" for name in node.get("required", []) if name not in value)
    for name, child in value.items():
        if name in known:
            yield from problems(child, known[name], f"{path}.{name}")
        else:
            yield f"{path}.{name}: unknown"


def fields(node: Node, path: str) -> Iterator[str]:
    """Every field of a schema as a path."""
    for name, child in node.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from fields(child, f"{path}.{name}")
    if "items" in node:
        yield from fields(node["items"], f"{path}[]")


def used(value: Any, path: str) -> Iterator[str]:
    """Every field a value has, as a path."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield f"{path}.{name}"
            yield from used(child, f"{path}.{name}")
    if isinstance(value, list):
        for child in value:
            yield from used(child, f"{path}[]")


@pytest.mark.parametrize("sample", ALL, ids=lambda sample: sample["metadata"]["name"])
def test_a_sample_obeys_schema_and_types(sample: dict[str, Any]) -> None:
    """Both sides of the contract read it; the API server's own word is in tests/integration."""
    kind = KINDS[sample["kind"]]
    assert sample["apiVersion"] == names.API_VERSION
    assert list(problems(sample, crd.root_schema(kind), kind.name)) == []
    kind.spec.model_validate(sample["spec"])


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"task": "generate"}, "source: required"),
        ({"task": "chat", "source": {"uri": "pvc://a"}}, "is not one of"),
        ({"task": "embed", "source": {"uri": "pvc://a"}, "replicsa": 1}, "replicsa: unknown"),
        ({"task": "embed", "source": {"uri": "pvc://a"}, "replicas": 257}, "beyond minimum or maximum"),
        ({"task": "embed", "source": {"uri": 5}}, "is not of type string"),
        ({"task": "generate", "source": {"uri": "a"}, "autoscaling": {}}, "maxReplicas: required"),
        ({"task": "embed", "source": {"uri": "pvc://a"}, "resources": {"cpu": "x"}}, "does not match"),
    ],
)
def test_the_check_of_samples_can_fail(value: dict[str, Any], problem: str) -> None:
    """A sample with that problem would be found."""
    schema = crd.root_schema(crd.MODEL_DEPLOYMENT)["properties"]["spec"]
    assert any(problem in found for found in problems(value, schema, "spec"))


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.name)
def test_every_field_is_shown(kind: crd.Kind) -> None:
    """Whoever adds a field shows it in the kind's samples; those that exclude each other in two of them."""
    samples = [o for o in objects(SAMPLES) if o["kind"] == kind.name]
    schema = crd.root_schema(kind)["properties"]["spec"]
    shown = {field for sample in samples for field in used(sample["spec"], "spec")}
    assert set(fields(schema, "spec")) - shown == set()


@pytest.mark.parametrize(
    "sample",
    [sample for sample in ALL if sample["kind"] == "ModelDeployment"],
    ids=lambda sample: sample["metadata"]["name"],
)
def test_a_sample_has_exactly_one_kind_of_scaling(sample: dict[str, Any]) -> None:
    """As the API server demands it."""
    assert len({"replicas", "autoscaling"} & sample["spec"].keys()) == 1


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_samples_are_commented(path: Path) -> None:
    """A reader learns what a field means without leaving the file."""
    lines = path.read_text().splitlines()
    assert sum("#" in line for line in lines) >= len(lines) // 4


def test_prompts_of_the_samples_are_sound() -> None:
    """Placeholders and variables agree."""
    prompts = {
        sample["metadata"]["name"]: PromptTemplateSpec.model_validate(sample["spec"])
        for sample in ALL
        if sample["kind"] == "PromptTemplate"
    }
    assert set(prompts) == {"support", "house-style", "grounded-answer"}
    for name, prompt in prompts.items():
        rendering.check(expand(prompt, lambda included, _: prompts[included], name))


def test_the_quickstart_fits_together() -> None:
    """The index embeds with the quickstart's embedder, and its prompt asks for passages."""
    quickstart = {(o["kind"], o["metadata"]["name"]): o["spec"] for o in objects(SAMPLES / "quickstart")}
    assert set(quickstart) == {
        ("ModelDeployment", "smollm2"),
        ("ModelDeployment", "minilm"),
        ("PromptTemplate", "grounded-answer"),
        ("RAGIndex", "handbook"),
    }
    index = RAGIndexSpec.model_validate(quickstart["RAGIndex", "handbook"])
    embedder = quickstart["ModelDeployment", index.embedding.model_ref.name]
    assert ModelDeploymentSpec.model_validate(embedder).task == "embed"
    prompt = PromptTemplateSpec.model_validate(quickstart["PromptTemplate", "grounded-answer"])
    assert rendering.wants_retrieval(prompt)
    messages = rendering.render(prompt, {"question": "How many days?"}, retrieved="28 days.")
    assert "28 days." in messages[-1].content
    assert "How many days?" in messages[-1].content
