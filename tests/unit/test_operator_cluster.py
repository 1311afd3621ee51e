# SPDX-License-Identifier: Apache-2.0
"""What answers of the API server mean to the operator."""

import json
from typing import Any

import pytest

from lateen_operator.cluster import KubernetesCluster
from lateen_operator.revisions import Revisions
from lateen_operator.seams import StoredRevision, Unavailable

STORED = StoredRevision(
    "answer-1", "u1", 1, "abc", {}, 60, namespace="default", uid="r1", resource_version="1"
)


class Reply:
    """An answer of the API server."""

    reason = "said so"

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self.status, self._body = status, body

    async def read(self) -> bytes:
        return json.dumps(self._body).encode()


class Api:
    """The HTTP client below the operator's; answers everything alike."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        self._reply = Reply(status, body)

    async def param_serialize(self, *_: Any, **__: Any) -> tuple[()]:
        return ()

    async def call_api(self, *_: Any, **__: Any) -> Reply:
        return self._reply


def cluster(status: int, body: dict[str, Any] | None = None) -> KubernetesCluster:
    """An API server that answers every request so."""
    api: Any = Api(status, body or {})
    return KubernetesCluster(api, "lateen-system", (), lambda *_: None)


async def test_a_revision_that_somebody_else_changes_is_not_gone() -> None:
    """A conflict is told and tried again: taken for gone, the revision would be made a second time."""
    revisions = Revisions(cluster(409))
    revisions.saw(STORED)
    with pytest.raises(Unavailable, match="409"):
        await revisions.renumber("default", "answer-1", 2)
    assert revisions.by_owner() == {"u1": (STORED,)}


async def test_a_revision_that_is_gone_is_forgotten() -> None:
    """At once, without waiting for the watch."""
    revisions = Revisions(cluster(404))
    revisions.saw(STORED)
    await revisions.renumber("default", "answer-1", 2)
    assert revisions.by_owner() == {}
