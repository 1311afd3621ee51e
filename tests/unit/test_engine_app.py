# SPDX-License-Identifier: Apache-2.0
"""The edge to Ray Serve, without Ray: arguments in, failure text out."""

import asyncio
import importlib.util
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import ValidationError
from ray import serve

from engine_models import request, save_adapter, save_llama
from lateen_api import names
from lateen_api.conditions import Reason
from lateen_api.gateway_report import AdapterFact, Facts
from lateen_api.serve_config import REPLICA_FAILURE, AdapterArguments
from lateen_serving.engine import app
from lateen_serving.engine.generator import TextGenerator
from lateen_serving.engine.jobs import RoomJob
from lateen_serving.engine.options import LoadOptions
from lateen_serving.errors import InputError, LoadError, NotFound, Unavailable


def arguments(uri: str, **changes: object) -> dict[str, object]:
    """What the operator writes."""
    return {"id": "tiny", "task": "generate", "uri": uri, "engine": "transformers"} | changes


def test_the_model_is_the_deployment_with_the_agreed_name() -> None:
    """The Serve config addresses it by name; starts are bounded in code, where alone it can be said. Nobody needs the
    way in from HTTP, so it has no replica.
    """
    front = app.build(arguments("pvc://models/x"))._bound_deployment
    (inner,) = front.init_args
    deployment = inner._bound_deployment
    assert (front.name, deployment.name) == (names.FRONT_DEPLOYMENT, names.MODEL_DEPLOYMENT)
    scaling = front._deployment_config.autoscaling_config
    assert scaling is not None
    assert scaling.min_replicas == 0
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


class Replica:
    """A model as Ray Serve would make it, and the facts it publishes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.model = app.Model.__new__(app.Model)
        self.facts: list[Facts] = []
        context = SimpleNamespace(app_name="tiny-1", replica_tag="r1")
        monkeypatch.setattr(serve, "get_replica_context", lambda: context)
        monkeypatch.setattr(app, "publish", self._publish)

    async def _publish(self, application: str, replica: str, facts: Facts) -> None:
        assert (application, replica) == ("tiny-1", "r1")
        self.facts.append(facts)

    async def start(self, **changes: object) -> "Replica":
        """Load."""
        await app.Model.__init__(self.model, arguments("pvc://models/tiny", dtype="float32", **changes))
        return self


@pytest.fixture
def volumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A claim `models` with a tiny model."""
    monkeypatch.setenv("LATEEN_VOLUMES", str(tmp_path))
    save_llama(tmp_path / "models" / "tiny")
    return tmp_path / "models"


async def test_a_replica_serves_what_it_loaded(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deployment's methods reach the engine; what has one reply is a stream of one too."""
    model = (await Replica(monkeypatch).start(maxModelLen=100)).model
    assert (await model.describe())["max_tokens"] == 100
    assert await model.tokenize(["ab"]) == [[(0, 1), (1, 2)]]
    await model.check_health()
    events = [event async for event in model.generate(request("hi", max_tokens=3))]
    assert [event["completion_tokens"] for event in events][-1] == 3
    assert events[-1]["finish_reason"] == "length"
    (counted,) = [item async for item in model.stream_count(request("hi"))]
    assert (counted["tokens"], counted["cut"]) == (events[-1]["prompt_tokens"], [])
    with pytest.raises(InputError):
        await model.rerank("a", ["b"])
    await model._engine.aclose()


async def test_a_replica_tells_what_it_loaded(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once loaded it publishes the model's facts, with the engine and why it is this one."""
    replica = await Replica(monkeypatch).start(engine="auto", maxModelLen=100)
    await replica.model.reconfigure({"adapters": []})
    (facts,) = replica.facts
    assert (facts.context_tokens, facts.dtype, facts.engine) == (100, "float32", "transformers")
    assert facts.parameters == (await replica.model.describe())["parameters"]
    assert "GPU" in facts.engine_reason
    assert facts.memory_bytes > 10_000_000
    assert facts.load_seconds > 0
    assert facts.adapters == {}
    await replica.model._engine.aclose()


async def test_the_idle_time_of_a_process_is_not_load_time(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that Ray kept ready for long counts by the processor time of its imports, not by its age."""
    monkeypatch.setattr(time, "process_time", lambda: 1.5)
    began = time.monotonic()
    replica = await Replica(monkeypatch).start()
    took = time.monotonic() - began
    await replica.model.reconfigure({"adapters": []})
    (facts,) = replica.facts
    assert 1.5 < facts.load_seconds <= 1.5 + took
    await replica.model._engine.aclose()


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
async def test_adapters_come_and_go_with_the_user_config(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each adapter is found, loaded and reported, or the reason why not; what is no longer named is gone."""
    save_adapter(volumes / "tiny", volumes / "red", 1)
    (volumes / "red" / "config.json").write_text("{}")
    (volumes / "empty").mkdir()
    replica = await Replica(monkeypatch).start()
    adapters = [
        {"name": "absent", "uri": "pvc://models/absent"},
        {"name": "empty", "uri": "pvc://models/empty"},
        {"name": "red", "uri": "pvc://models/red"},
    ]
    await replica.model.reconfigure({"adapters": adapters})
    told = replica.facts[-1].adapters
    assert told["red"] == AdapterFact(identity=AdapterArguments.model_validate(adapters[2]).identity)
    assert [told[name].reason for name in ("absent", "empty")] == ["SourceNotFound"] * 2
    assert all(told[name].message for name in ("absent", "empty"))
    with pytest.raises(Unavailable, match="has not loaded the adapter"):
        async for _ in replica.model.generate(request("hi", adapter="absent")):
            pass
    events = [event async for event in replica.model.generate(request("hi", adapter="red", max_tokens=2))]
    assert events[-1]["completion_tokens"] == 2
    await replica.model.reconfigure({})
    assert replica.facts[-1].adapters == {}
    with pytest.raises(NotFound):
        async for _ in replica.model.generate(request("hi", adapter="red")):
            pass
    await replica.model._engine.aclose()


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing. is deprecated:FutureWarning")
async def test_an_adapter_that_appears_later_is_loaded(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed is tried again by itself; nothing but the weights is needed."""
    monkeypatch.setattr(app, "_FIRST_RETRY_SECONDS", 0.01)
    replica = await Replica(monkeypatch).start()
    await replica.model.reconfigure({"adapters": [{"name": "late", "uri": "pvc://models/late"}]})
    assert replica.facts[-1].adapters["late"].reason == "SourceNotFound"
    save_adapter(volumes / "tiny", volumes / "late", 1)
    assert replica.model._insisting is not None
    await asyncio.wait_for(replica.model._insisting, 30)
    assert replica.facts[-1].adapters["late"].reason == ""
    await replica.model._engine.aclose()


async def test_a_bad_user_config_ends_nothing(volumes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is wrong with it, the replica serves on as it was."""
    replica = await Replica(monkeypatch).start()
    await replica.model.reconfigure({"adapters": [{"odd": 1}]})
    await replica.model._engine.aclose()
    await replica.model.reconfigure({"adapters": [{"name": "red", "uri": "pvc://models/tiny"}]})
    assert len(replica.facts) == 1


async def test_the_number_of_requests_and_their_memory_reach_the_engine(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the spec bounds is what the engine is made with."""
    made: list[LoadOptions] = []

    async def create(options: LoadOptions) -> TextGenerator:
        made.append(options)
        raise LoadError("enough")

    monkeypatch.setattr(TextGenerator, "create", create)
    with pytest.raises(app.ReplicaFailure):
        await Replica(monkeypatch).start(maxOngoingRequests=5, kvCacheBytes=12345)
    assert (made[0].max_rows, made[0].cache_bytes) == (5, 12345)


async def test_room_for_more_requests_comes_with_the_user_config(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running engine works on as many as the present number says, without a restart."""
    replica = await Replica(monkeypatch).start(maxOngoingRequests=1)
    thread = replica.model._engine._thread  # type: ignore[attr-defined]  # TextGenerator's
    submitted: list[object] = []
    monkeypatch.setattr(thread, "submit", submitted.append)
    await replica.model.reconfigure({"maxOngoingRequests": 7})
    monkeypatch.undo()
    assert submitted == [RoomJob(7)]
    await replica.model._engine.aclose()


async def test_vllm_must_be_installed_where_it_is_asked_for(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asking for an engine that is not there fails the start in words, instead of taking another one."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(app.ReplicaFailure, match=r"ModelUnsupported: .*vllm"):
        await Replica(monkeypatch).start(engine="vllm")
