# SPDX-License-Identifier: Apache-2.0
"""What the operator reads from and writes to Ray and Kubernetes, without either."""

import io
import json
import zipfile
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from lateen_api import names
from lateen_api.gateway_report import GatewayReport, Traffic
from lateen_operator import manifests, ray_replies
from lateen_operator.event_log import MAX_REMEMBERED, SERIES_SECONDS, EventLog
from lateen_operator.leader import Lease
from lateen_operator.ray import package_of
from lateen_operator.seams import Event, JobStatus, Key, Kind, Node, RayUnavailable, Resource

MODEL = Resource(
    key=Key(Kind.MODEL_DEPLOYMENT, "team", "chat"),
    uid="u1",
    generation=2,
    resource_version="7",
    created=0,
    spec={},
    status={},
    annotations={},
    finalizers=("other.dev/x",),
    deleting=False,
)


def reply(**application: Any) -> bytes:
    """What Ray Serve answers, cut to what matters, with fields nobody reads."""
    base = {"name": "gateway", "status": "RUNNING", "docs_path": None, "last_deployed_time_s": 12.5}
    instance = {"proxies": {}, "target_capacity": None, "applications": {"gateway": base | application}}
    return json.dumps(instance).encode()


def test_ray_without_serve_runs_nothing() -> None:
    """A fresh cluster is an empty state, no error."""
    body = b'{"controller_info": {}, "proxies": {}, "applications": {}, "target_capacity": null}'
    assert ray_replies.applications(body) == {}


def test_application_carries_its_config_running_replicas_and_messages() -> None:
    """What serves, what starts and what should be there is told apart; messages lose their colours."""
    deployment = {
        "target_num_replicas": 3,
        "message": "\x1b[36mboom\x1b[39m\nlateen-failure SourceNotFound: no weights",
        "replicas": [
            *({"state": state} for state in ("RUNNING", "UPDATING", "STARTING", "STOPPING")),
        ],
    }
    config = {"name": "gateway", "args": {"a": 1}}
    body = reply(deployments={"Model": deployment, "Quiet": {"message": ""}}, deployed_app_config=config)
    read = ray_replies.applications(body)["gateway"]
    assert (read.running_replicas, read.starting_replicas, read.target_replicas) == (2, 1, 3)
    assert read.config == config
    assert read.deployed_at == 12.5
    assert read.deployment_messages == ("boom\nlateen-failure SourceNotFound: no weights",)


def test_a_replica_without_a_node_is_told_from_one_that_loads() -> None:
    """The time is that of the one that has waited longest; replicas on a node, and those that stop, wait for none."""
    replicas = [
        {"state": "STARTING", "start_time_s": 30.0, "node_id": None},
        {"state": "STARTING", "start_time_s": 20.0, "node_id": None},
        {"state": "STARTING", "start_time_s": 10.0, "node_id": "n"},
        {"state": "STOPPING", "start_time_s": 5.0, "node_id": None},
        {"state": "RUNNING", "start_time_s": 1.0, "node_id": "n"},
    ]
    for shown, since in ((replicas, 20.0), (replicas[2:], 0.0)):
        read = ray_replies.applications(reply(deployments={"Model": {"replicas": shown}}))["gateway"]
        assert read.unplaced_since == since


def test_long_messages_keep_their_end() -> None:
    """The reason stands at the end of a traceback."""
    read = ray_replies.applications(reply(message="x" * 50_000 + "the reason"))["gateway"]
    assert len(read.message) == ray_replies.MAX_MESSAGE
    assert read.message.endswith("the reason")


@pytest.mark.parametrize("body", [b"<html>", b'{"applications": {"a": {"status": 1}}}'])
def test_unexpected_answers_of_ray_mean_unavailable(body: bytes) -> None:
    """Not a crash, and the message names the API."""
    with pytest.raises(RayUnavailable, match="Serve API"):
        ray_replies.applications(body)


@pytest.mark.parametrize(
    ("trigger", "dead", "failed"),
    [
        ("UPSCALE_COMPLETED", [20.0, 20.0], 0),
        ("HEALTH_CHECK_FAILED", [5.0, 20.0, 21.0], 2),
        ("REPLICA_STARTUP_FAILED", [], 1),
    ],
)
def test_dead_replicas_count_as_failed_while_ray_calls_them_so(
    trigger: str, dead: list[float], failed: int
) -> None:
    """Ray also lists replicas that were stopped on purpose, and those of earlier deploys."""
    deployment = {
        "status_trigger": trigger,
        "recent_dead_replicas": [{"start_time_s": when} for when in dead],
    }
    body = reply(deployments={"Model": deployment})
    assert ray_replies.applications(body)["gateway"].failed_replicas == failed


def test_nodes_are_those_alive_with_resources_and_labels() -> None:
    """Dead nodes do not count; a node that says nothing of itself has nothing."""
    rows = [
        {"state": "ALIVE", "resources_total": {"CPU": 2.0}, "labels": {"ray.io/market-type": "spot"}},
        {"state": "DEAD", "resources_total": {"CPU": 64.0}},
        {"state": "ALIVE", "resources_total": None},
    ]
    body = json.dumps({"result": True, "data": {"result": {"total": 3, "result": rows}}}).encode()
    assert ray_replies.nodes(body) == (Node({"CPU": 2.0}, {"ray.io/market-type": "spot"}), Node({}))


def test_only_our_jobs_are_read() -> None:
    """Drivers and other people's jobs are left alone; times become seconds."""
    jobs = [
        {"submission_id": None, "status": "RUNNING", "type": "DRIVER"},
        {"submission_id": "raysubmit_1", "status": "RUNNING"},
        {"submission_id": "lateen-1", "status": "FAILED", "start_time": 1500, "end_time": 2500},
    ]
    (job,) = ray_replies.jobs(json.dumps(jobs).encode()).values()
    assert (job.id, job.status, job.started_at, job.ended_at) == ("lateen-1", JobStatus.FAILED, 1.5, 2.5)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nlateen-failure SourceNotFound: no repo\nb", "lateen-failure SourceNotFound: no repo"),
        ("lateen-failure A: one\nlateen-failure B: two", "lateen-failure B: two"),
        ("RuntimeError: lateen-failure A: one", "lateen-failure A: one"),
        ("nothing of the kind", None),
    ],
)
def test_failure_line_is_found_in_a_log(text: str, expected: str | None) -> None:
    """The last one counts."""
    assert ray_replies.failure(text) == expected


@pytest.mark.parametrize("body", [b'{"status": "ready"}', b"404 page not found"])
def test_what_is_no_gateways_report_is_not_believed(body: bytes) -> None:
    """Whatever else answers on that port serves no catalog."""
    assert ray_replies.gateway_report(body) is None


def test_a_gateways_report_is_read() -> None:
    """In the outside spelling, as the gateway writes it."""
    said = GatewayReport(replica="a", catalog="0123456789", traffic={"x": Traffic(requests=2, errors=1)})
    assert ray_replies.gateway_report(json.dumps(said.dump()).encode()) == said


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"Traceback:\n  File x\nValueError: bad name\n.", "ValueError: bad name"),
        (b"Unauthorized: Missing authentication token", "Unauthorized: Missing authentication token"),
        (b"2 errors\nname\n  wrong\n    For more visit https://errors.pydantic.dev/x", "2 errors name wrong"),
        (b"", "no explanation"),
    ],
)
def test_error_replies_are_put_in_one_line(body: bytes, expected: str) -> None:
    """Conditions show them to users."""
    assert ray_replies.explanation(body) == expected


def test_equal_files_give_an_equal_package() -> None:
    """Order, time and place do not matter, so that Ray keeps one copy; content does."""
    files = {"build.json": b"{}", "configmaps/notes/a b.md": "é".encode()}
    package = package_of(files)
    assert package == package_of(dict(reversed(files.items())))
    assert package != package_of({**files, "build.json": b"[]"})
    with zipfile.ZipFile(io.BytesIO(package)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == files


def test_config_map_has_text_and_bytes() -> None:
    """Both of a ConfigMap's maps are documents."""
    read = manifests.config_map({"data": {"a.md": "é"}, "binaryData": {"b": "//8="}})
    assert read == {"a.md": "é".encode(), "b": b"\xff\xff"}
    assert manifests.config_map({}) == {}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"key": "YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYQo="}, "a" * 28),
        ({"key": "c2hvcnQ="}, None),
        ({"key": "//8="}, None),
        ({"other": "YQ=="}, None),
        (None, None),
    ],
)
def test_client_keys_are_read_from_secrets(data: dict[str, str] | None, expected: str | None) -> None:
    """A line break at the end is no part of a key; what is short, binary or missing is none."""
    assert manifests.api_key({"data": data}) == expected


def test_revision_is_owned_and_labelled() -> None:
    """So that it goes with its owner and is found by it."""
    body = manifests.revision(MODEL, "0123456789", 3, {"a": 1})
    created = {**body, "metadata": {**body["metadata"], "creationTimestamp": "1970-01-01T00:01:00Z"}}
    read = manifests.stored_revision(created)
    assert (read.name, read.owner_uid, read.number, read.created) == ("chat-md-0123456789", "u1", 3, 60)
    assert body["metadata"]["ownerReferences"][0]["controller"] is True


@pytest.mark.parametrize("data", [None, [1], "text", 7])
def test_a_revision_with_foreign_content_stops_nothing(data: Any) -> None:
    """Anybody who may write ControllerRevisions can label one as ours: it is read as one without content."""
    body = manifests.revision(MODEL, "0123456789", 3, {}) | {"data": data}
    body["metadata"]["creationTimestamp"] = "1970-01-01T00:01:00Z"
    assert manifests.stored_revision(body).data == {}


def test_lease_survives_the_way_to_the_api_server_and_back() -> None:
    """Nothing of it is lost."""
    now = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
    lease = Lease("me", 15, acquired=now, renewed=now, transitions=2, version="9")
    assert manifests.lease(manifests.lease_body("ns", "name", lease)) == lease


def test_finalizers_are_patched_only_while_nobody_changes_them() -> None:
    """The version read is the condition of the write; the finalizers of others are in it."""
    patch = manifests.finalizers(MODEL, [*MODEL.finalizers, names.FINALIZER])
    assert patch["metadata"]["resourceVersion"] == "7"
    assert patch["metadata"]["finalizers"] == ["other.dev/x", "lateen.dev/finalizer"]


def test_event_keeps_its_name_over_restarts_and_its_note_within_bounds() -> None:
    """The same message about the same object is the same Event."""
    event = Event("Warning", "ReplicaFailed", "x" * 5000)
    name = manifests.event_name(MODEL, event)
    assert name == manifests.event_name(replace(MODEL, resource_version="8"), event)
    assert name != manifests.event_name(replace(MODEL, uid="u2"), event)
    assert name != manifests.event_name(MODEL, replace(event, message="y"))
    body = manifests.event(MODEL, event, "host", datetime.now(UTC))
    assert len(body["note"]) == manifests.MAX_NOTE


def test_repeated_event_is_written_once_and_then_counted_up_now_and_then() -> None:
    """A loop that complains every second costs one write a minute."""
    now = [0.0]
    log, event = EventLog(lambda: now[0]), Event("Warning", "BuildFailed", "no")
    assert log.due(MODEL, event) == 1
    log.written(MODEL, event, 1)
    for _ in range(5):
        now[0] += 1
        assert log.due(MODEL, event) == 0
    now[0] += SERIES_SECONDS
    assert log.due(MODEL, event) == 7


def test_event_that_could_not_be_written_is_due_at_once() -> None:
    """A failure does not swallow the next attempt."""
    log, event = EventLog(lambda: 0.0), Event("Normal", "RolledOut", "yes")
    assert log.due(MODEL, event) == 1
    log.failed(MODEL, event)
    assert log.due(MODEL, event) == 1


def test_memory_of_events_is_bounded() -> None:
    """The oldest are forgotten; their Events in the cluster are found again by name."""
    log = EventLog(lambda: 0.0)
    first = Event("Normal", "RolledOut", "first")
    log.due(MODEL, first)
    for number in range(MAX_REMEMBERED):
        log.due(MODEL, Event("Normal", "RolledOut", str(number)))
    assert log.due(MODEL, first) == 1
