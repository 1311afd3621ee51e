# SPDX-License-Identifier: Apache-2.0
"""How the operator asks all replicas of the gateway, which one load balancer stands before."""

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest

from lateen_api.gateway_report import GatewayReport
from lateen_operator.ray import RayServe
from lateen_operator.settings import OperatorSettings


class Asked(RayServe):
    """Ray with a gateway whose replicas answer in a given order; None: no answer."""

    def __init__(self, replicas: int, answers: Iterator[GatewayReport | None]) -> None:
        super().__init__(OperatorSettings())
        self.replicas, self.answers, self.probes = replicas, answers, 0

    async def _ask(self, method: str, path: str, **_: Any) -> bytes:
        if "nodes" in path:
            return json.dumps({"data": {"result": {"result": []}}}).encode()
        running = [{"state": "RUNNING"}] * self.replicas
        gateway = {"name": "gateway", "status": "RUNNING", "deployments": {"Gateway": {"replicas": running}}}
        return json.dumps({"applications": {"gateway": gateway}}).encode()

    async def _probe(self) -> GatewayReport | None:
        self.probes += 1
        return next(self.answers)


def said(replica: str, catalog: str = "c1") -> GatewayReport:
    """What a replica says."""
    return GatewayReport(replica=replica, catalog=catalog)


@pytest.mark.parametrize(
    ("replicas", "answers", "probes", "known"),
    [
        (1, [said("a")], 1, "c1"),
        (2, [said("a"), said("b")], 2, "c1"),
        (2, [said("a"), said("a"), said("a"), said("b")], 4, "c1"),
        (2, [said("a"), said("b", "c2")], 2, None),
        (2, [said("a"), None], 2, None),
        (0, [None], 1, None),
    ],
)
async def test_every_replica_is_asked_once(
    replicas: int, answers: list[GatewayReport | None], probes: int, known: str | None
) -> None:
    """As few requests as it takes; one that differs or does not answer leaves it unknown."""
    ray = Asked(replicas, iter(answers))
    assert (await ray.observe()).served_catalog == known
    assert ray.probes == probes


async def test_asking_ends_when_one_replica_never_gets_a_turn() -> None:
    """After twelve tries what the others say has to do."""
    ray = Asked(3, itertools.cycle([said("a"), said("b")]))
    assert (await ray.observe()).served_catalog == "c1"
    assert ray.probes == 12
