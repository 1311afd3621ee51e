# SPDX-License-Identifier: Apache-2.0
"""Weaviate behind the operator's seam, in a `FakeWorld`, and what builds report there."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from lateen_api.index_build import BuildReport, PipelineCounts, QualityReport, Recall
from lateen_operator.seams import PushState, StoreState, StoreUnavailable
from lateen_operator.status import timestamp

if TYPE_CHECKING:
    from unit.operator_fakes import FakeWorld


class FakeStore:
    """Weaviate of a FakeWorld."""

    def __init__(self, world: "FakeWorld") -> None:
        self.world = world

    async def observe(self) -> StoreState:
        if self.world.store_away:
            return StoreState(problem="Weaviate does not answer")
        return StoreState(frozenset(self.world.collections), dict(self.world.aliases))

    async def report(self, collection: str) -> BuildReport | None:
        self._reach()
        return self.world.reports.get(collection)

    async def pushed(self, collection: str, since: float) -> PushState:
        self._reach()
        return self.world.pushed.get(collection, PushState())

    async def point_alias(self, alias: str, collection: str) -> None:
        self._reach()
        self.world.aliases[alias] = collection
        self.world.wrote(f"alias {collection}")

    async def delete_alias(self, alias: str) -> None:
        self._reach()
        self.world.aliases.pop(alias, None)
        self.world.wrote(f"no alias {alias}")

    async def delete_collection(self, collection: str) -> None:
        self._reach()
        self.world.collections.discard(collection)
        self.world.reports.pop(collection, None)
        self.world.wrote(f"no collection {collection}")

    def _reach(self) -> None:
        if self.world.store_away:
            raise StoreUnavailable("Weaviate does not answer")


def built(world: "FakeWorld", request: Mapping[str, Any]) -> BuildReport:
    """The report of a build that has just ended."""
    return BuildReport(
        fingerprint=request["fingerprint"],
        asked=request["asked"],
        started_at=timestamp(world.now - 1),
        finished_at=timestamp(world.now),
        documents=5,
        chunks=9,
        tokens=99,
        embedded=9,
        removed=0,
        failed=len(world.failing_documents),
        failures=list(world.failing_documents),
        sources=list(world.source_reports),
        pipeline=PipelineCounts(duplicates=2),
        quality=_quality(world, request),
    )


def _quality(world: "FakeWorld", request: Mapping[str, Any]) -> QualityReport:
    asked = request["quality"]
    fresh = {"value": world.recall, "samples": 9, "asked": asked["samples"], "k": asked["k"]}
    recall = Recall.model_validate(request.get("measured") if request["live"] else fresh)
    return QualityReport(objects=9 - world.lost_objects, dimension=8, expected=8, recall=recall)
