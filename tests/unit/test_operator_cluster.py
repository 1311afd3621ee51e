# SPDX-License-Identifier: Apache-2.0
"""What answers of the API server mean to the operator."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from lateen_api import names
from lateen_operator.cluster import KubernetesCluster
from lateen_operator.revisions import Revisions
from lateen_operator.seams import Expired, RevisionChange, StoredRevision, Unavailable

STORED = StoredRevision(
    "answer-1", "u1", 1, "abc", {}, 60, namespace="default", uid="r1", resource_version="1"
)


class Reply:
    """An answer of the API server, or, of several bodies, what a watch tells."""

    reason = "said so"

    def __init__(self, status: int, *bodies: dict[str, Any]) -> None:
        self.status, self._bodies = status, bodies
        self.response, self.is_closed = self, False

    async def read(self) -> bytes:
        return json.dumps(self._bodies[0]).encode()

    @property
    async def content(self) -> AsyncIterator[bytes]:
        for body in self._bodies:
            yield json.dumps(body).encode() + b"\n"

    def close(self) -> None:
        self.is_closed = True


class Api:
    """The HTTP client below the operator's; gives its answers in turn, the last one again and again."""

    def __init__(self, *replies: Reply) -> None:
        self._replies = list(replies)
        self.asked: list[dict[str, str]] = []

    async def param_serialize(self, *_: Any, query_params: list[tuple[str, Any]], **__: Any) -> tuple[()]:
        self.asked.append({name: str(value) for name, value in query_params})
        return ()

    async def call_api(self, *_: Any, **__: Any) -> Reply:
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]


def cluster(status: int, body: dict[str, Any] | None = None) -> KubernetesCluster:
    """An API server that answers every request so."""
    return over(Api(Reply(status, body or {})))


def over(api: Any) -> KubernetesCluster:
    """A cluster over that client."""
    return KubernetesCluster(api, "lateen-system", (), lambda *_: None)


def kept(name: str, version: str) -> dict[str, Any]:
    """A ControllerRevision as the API server shows it."""
    metadata = {
        "name": name,
        "namespace": "default",
        "uid": f"uid-{name}",
        "resourceVersion": version,
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "labels": {names.OWNER_LABEL: "u1"},
        "managedFields": [{"manager": "lateen"}],
    }
    return {"metadata": metadata, "revision": 1, "data": {}}


async def watch(cluster: KubernetesCluster) -> list[RevisionChange]:
    """All that one watch tells."""
    return [change async for change in cluster.watch_revisions("", "40")]


async def test_a_revision_that_somebody_else_changes_is_not_gone() -> None:
    """A conflict is told and tried again: taken for gone, the revision would be made a second time."""
    revisions = Revisions(cluster(409))
    revisions.saw(STORED)
    with pytest.raises(Unavailable, match="409"):
        await revisions.renumber("default", "answer-1", 2)
    assert revisions.by_owner() == {(STORED.namespace, "u1"): (STORED,)}


async def test_a_revision_that_is_gone_is_forgotten() -> None:
    """At once, without waiting for the watch."""
    revisions = Revisions(cluster(404))
    revisions.saw(STORED)
    await revisions.renumber("default", "answer-1", 2)
    assert revisions.by_owner() == {}


async def test_revisions_are_listed_page_by_page() -> None:
    """Only ours, in pages that fit into memory, with the version that a watch goes on from."""
    first = {"items": [kept("a", "3")], "metadata": {"resourceVersion": "40", "continue": "more"}}
    last = {"items": [kept("b", "4")], "metadata": {"resourceVersion": "40"}}
    api = Api(Reply(200, first), Reply(200, last))
    found = await over(api).revisions("default")
    assert [item.name for item in found.items] == ["a", "b"]
    assert found.version == "40"
    assert [asked["labelSelector"] for asked in api.asked] == [names.OWNER_LABEL] * 2
    assert [asked["limit"] for asked in api.asked] == ["500"] * 2
    assert api.asked[1]["continue"] == "more"


async def test_a_watch_of_revisions_tells_of_ours_from_a_version_on() -> None:
    """The API server selects by label; a bookmark moves the version from which the next watch begins."""
    bookmark = {"metadata": {"resourceVersion": "60"}}
    reply = Reply(
        200,
        {"type": "MODIFIED", "object": kept("a", "41")},
        {"type": "DELETED", "object": kept("a", "42")},
        {"type": "BOOKMARK", "object": bookmark},
    )
    api = Api(reply)
    told = await watch(over(api))
    assert [(each.version, each.deleted, each.item is None) for each in told] == [
        ("41", False, False),
        ("42", True, False),
        ("60", False, True),
    ]
    asked = api.asked[0]
    assert (asked["labelSelector"], asked["resourceVersion"], asked["allowWatchBookmarks"]) == (
        names.OWNER_LABEL,
        "40",
        "true",
    )
    assert reply.is_closed


@pytest.mark.parametrize(
    "reply",
    [
        Reply(410, {"message": "too old resource version"}),
        Reply(200, {"type": "ERROR", "object": {"code": 410, "message": "too old resource version"}}),
    ],
)
async def test_a_watch_from_too_long_ago_says_so(reply: Reply) -> None:
    """However the API server says it; any other refusal is one that may pass."""
    with pytest.raises(Expired, match="too old"):
        await watch(over(Api(reply)))
    with pytest.raises(Unavailable, match="500") as caught:
        await watch(cluster(500))
    assert not isinstance(caught.value, Expired)
