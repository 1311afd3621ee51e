# SPDX-License-Identifier: Apache-2.0
"""Weaviate behind the operator's seam, in a `FakeWorld`."""

from typing import TYPE_CHECKING

from lateen_api.index_build import BuildReport
from lateen_operator.seams import PushState, StoreState

if TYPE_CHECKING:
    from unit.operator_fakes import FakeWorld


class FakeStore:
    """Weaviate of a FakeWorld."""

    def __init__(self, world: "FakeWorld") -> None:
        self.world = world

    async def observe(self) -> StoreState:
        return StoreState(frozenset(self.world.collections), dict(self.world.aliases))

    async def report(self, collection: str) -> BuildReport | None:
        return self.world.reports.get(collection)

    async def pushed(self, collection: str, since: float) -> PushState:
        return self.world.pushed.get(collection, PushState())

    async def point_alias(self, alias: str, collection: str) -> None:
        self.world.aliases[alias] = collection
        self.world.wrote(f"alias {collection}")

    async def delete_alias(self, alias: str) -> None:
        self.world.aliases.pop(alias, None)
        self.world.wrote(f"no alias {alias}")

    async def delete_collection(self, collection: str) -> None:
        self.world.collections.discard(collection)
        self.world.reports.pop(collection, None)
        self.world.wrote(f"no collection {collection}")
