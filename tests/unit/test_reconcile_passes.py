# SPDX-License-Identifier: Apache-2.0
"""When passes over the world run, and who shares them."""

import asyncio

from lateen_operator.cache import ResourceCache
from lateen_operator.plan.world import ServingOptions
from lateen_operator.reconcile.convergence import Convergence
from lateen_operator.revisions import Revisions
from lateen_operator.seams import StoreState
from unit.operator_fake_ray import FakeServe
from unit.operator_fake_store import FakeStore
from unit.operator_fakes import FakeCluster, FakeWorld


class SlowStore(FakeStore):
    """Looking at it takes a while by the world's clock."""

    looks = 0

    async def observe(self) -> StoreState:
        self.looks += 1
        self.world.now += 0.05
        return await super().observe()


async def test_who_comes_while_a_pass_rests_shares_the_next_one() -> None:
    """The longer passes are, the more callers they serve; each sees a world of after its call."""
    world = FakeWorld()
    cluster, store = FakeCluster(world), SlowStore(world)
    passes = Convergence(
        cluster,
        FakeServe(world),
        store,
        ResourceCache(),
        Revisions(cluster),
        ServingOptions(),
        lambda: world.now,
    )
    first = await passes.run()
    early = asyncio.create_task(passes.run())
    for _ in range(3):  # it has begun, and rests
        await asyncio.sleep(0)
    late = asyncio.create_task(passes.run())
    views = await asyncio.gather(early, late)
    assert views[0] is views[1]
    assert views[0] is not first
    assert store.looks == 2
