# SPDX-License-Identifier: Apache-2.0
"""The edge to Ray Serve, without Ray: arguments in, failure text out."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from engine_models import request, save_llama
from lateen_api import names
from lateen_api.conditions import Reason
from lateen_api.serve_config import REPLICA_FAILURE
from lateen_serving.engine import app


def arguments(uri: str, **changes: object) -> dict[str, object]:
    """What the operator writes."""
    return {"id": "tiny", "task": "generate", "uri": uri, "engine": "transformers"} | changes


def test_the_application_has_one_deployment_with_the_agreed_name() -> None:
    """The Serve config addresses the deployment by name; starts are bounded in code, where alone it can be said."""
    deployment = app.build(arguments("pvc://models/x"))._bound_deployment
    assert deployment.name == names.MODEL_DEPLOYMENT
    assert deployment._deployment_config.max_constructor_retry_count == 2


def test_wrong_arguments_fail_the_build() -> None:
    """An unknown argument is refused, so that both sides notice when they disagree."""
    with pytest.raises(ValidationError):
        app.build(arguments("pvc://models/x", unknown=1))


@pytest.mark.parametrize(
    ("uri", "reason"),
    [
        ("pvc://models/absent", Reason.SOURCE_NOT_FOUND),
        ("file:///etc", Reason.SOURCE_REFUSED),
        ("pvc://models/broken", Reason.MODEL_UNSUPPORTED),
    ],
)
async def test_a_failed_start_says_why_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str, reason: Reason
) -> None:
    """The exception's text has the line by which the operator finds the reason."""
    monkeypatch.setenv("LATEEN_VOLUMES", str(tmp_path))
    broken = tmp_path / "models" / "broken"
    broken.mkdir(parents=True)
    (broken / "config.json").write_text("{}")
    (broken / "model.safetensors").touch()
    with pytest.raises(app.ReplicaFailure) as caught:
        await app.Model.__init__(app.Model.__new__(app.Model), arguments(uri))
    lines = str(caught.value).splitlines()
    assert [line for line in lines if line.startswith(f"{REPLICA_FAILURE} {reason}: ")]


async def test_a_replica_serves_what_it_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployment's methods reach the engine, and leaving a stream ends the work."""
    monkeypatch.setenv("LATEEN_VOLUMES", str(tmp_path))
    save_llama(tmp_path / "models" / "tiny")
    model = app.Model.__new__(app.Model)
    await app.Model.__init__(model, arguments("pvc://models/tiny", dtype="float32", maxModelLen=100))
    assert (await model.describe())["max_tokens"] == 100
    assert await model.tokenize(["ab"]) == [[(0, 1), (1, 2)]]
    await model.check_health()
    events = [event async for event in model.generate(request("hi", max_tokens=3))]
    assert events[-1]["finish_reason"] == "length"
    await model._engine.aclose()
