# SPDX-License-Identifier: Apache-2.0
"""How the resources behave in the API server beyond validation: defaults, scale, columns, unknown fields."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from lateen_api import crd, names
from lateen_api.model_deployment import ModelDeploymentSpec
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.rag_index import RAGIndexSpec
from lateen_api.schema import SpecType

Kubectl = Callable[..., CompletedProcess[str]]

SAMPLES = Path(__file__).resolve().parents[2] / "crds" / "samples"
MINIMAL: dict[str, tuple[type[SpecType], dict[str, Any]]] = {
    "ModelDeployment": (
        ModelDeploymentSpec,
        {"task": "embed", "source": {"uri": "pvc://models/x"}, "replicas": 1},
    ),
    "PromptTemplate": (PromptTemplateSpec, {"version": "1", "messages": [{"role": "user", "content": "a"}]}),
    "RAGIndex": (
        RAGIndexSpec,
        {
            "sources": [{"name": "a", "git": {"url": "https://example.com/r"}}],
            "embedding": {"modelRef": {"name": "b"}},
        },
    ),
}
COLUMNS = {
    "modeldeployments": "NAME READY REASON TASK SERVING REPLICAS REVISION AGE ID MESSAGE",
    "prompttemplates": "NAME READY REASON VERSION REVISION AGE ID MESSAGE",
    "ragindexes": "NAME READY REASON DOCUMENTS CHUNKS FAILED LAG REVISION AGE ID MESSAGE",
}


def manifest(kind: str, spec: dict[str, Any], name: str = "behaviour") -> str:
    """An object as JSON."""
    meta = {"name": name, "namespace": "default"}
    return json.dumps({"apiVersion": names.API_VERSION, "kind": kind, "metadata": meta, "spec": spec})


@pytest.fixture(params=crd.KINDS, ids=lambda kind: kind.plural)
def kept(kubectl: Kubectl, request: pytest.FixtureRequest) -> Iterator[crd.Kind]:
    """A kind with one suspended object of it, called `behaviour`."""
    kind: crd.Kind = request.param
    _, spec = MINIMAL[kind.name]
    kubectl("apply", "-f=-", stdin=manifest(kind.name, spec | {"suspend": True})).check_returncode()
    yield kind
    kubectl("delete", f"{kind.plural}.{names.GROUP}", "behaviour", "--timeout=60s").check_returncode()


@pytest.mark.parametrize("kind", MINIMAL)
def test_the_api_server_fills_in_the_defaults_of_the_types(kubectl: Kubectl, kind: str) -> None:
    """What is stored equals what the pydantic types would read into a minimal spec, so nobody guesses defaults."""
    model, spec = MINIMAL[kind]
    result = kubectl("create", "--dry-run=server", "-o=json", "-f=-", stdin=manifest(kind, spec))
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["spec"] == model.model_validate(spec).dump()


@pytest.mark.parametrize("kind", MINIMAL)
def test_client_side_apply_names_an_unknown_field(kubectl: Kubectl, kind: str) -> None:
    """A typo is refused, not silently dropped, by plain `kubectl apply` too."""
    _, spec = MINIMAL[kind]
    result = kubectl("apply", "--dry-run=server", "-f=-", stdin=manifest(kind, spec | {"suspnd": True}))
    assert result.returncode != 0
    assert 'unknown field "spec.suspnd"' in result.stderr


@pytest.mark.parametrize(
    "mode", [(), ("--server-side", "--force-conflicts")], ids=["client-side", "server-side"]
)
def test_samples_are_accepted(kubectl: Kubectl, mode: tuple[str, ...]) -> None:
    """Every file under crds/samples can be applied as it is."""
    result = kubectl("apply", *mode, "--dry-run=server", "--recursive", f"-f={SAMPLES}")
    assert result.returncode == 0, result.stderr


def test_columns_say_what_matters(kubectl: Kubectl, kept: crd.Kind) -> None:
    """`kubectl get -o wide` shows the columns, and `kubectl get lateen` lists the kind."""
    table = kubectl("get", f"{kept.plural}.{names.GROUP}", "behaviour", "-o=wide").stdout
    assert table.splitlines()[0].split() == COLUMNS[kept.plural].split()
    assert f"{kept.name.lower()}.{names.GROUP}/behaviour" in kubectl("get", crd.CATEGORY, "-o=name").stdout
    assert "behaviour" in kubectl("get", kept.short, "-o=name").stdout


@pytest.mark.parametrize("kept", [crd.MODEL_DEPLOYMENT], indirect=True, ids=["modeldeployments"])
def test_kubectl_scale_changes_the_replicas(kubectl: Kubectl, kept: crd.Kind) -> None:
    """The scale subresource writes `spec.replicas`, within its bounds."""
    target = f"{kept.plural}.{names.GROUP}/behaviour"
    kubectl("scale", target, "--replicas=3").check_returncode()
    assert kubectl("get", target, "-o=jsonpath={.spec.replicas}").stdout == "3"
    refused = kubectl("scale", target, "--replicas=1000")
    assert refused.returncode != 0
    assert "should be less than or equal to 256" in refused.stderr


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.plural)
def test_crds_are_established_and_structural(kubectl: Kubectl, kind: crd.Kind) -> None:
    """The API server serves the kind and has nothing to complain about in its schema."""
    result = kubectl("get", "crd", f"{kind.plural}.{names.GROUP}", "-o=json")
    conditions = {c["type"]: c["status"] for c in json.loads(result.stdout)["status"]["conditions"]}
    assert conditions["Established"] == "True"
    assert conditions.get("NonStructuralSchema", "False") == "False"
