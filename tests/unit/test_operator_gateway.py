# SPDX-License-Identifier: Apache-2.0
"""How the operator asks all replicas of the gateway, which one load balancer stands before."""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from lateen_api.gateway_report import GatewayReport
from lateen_operator import gateway_probes
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
        (1, [said("a")], 1, {"c1"}),
        (2, [said("a"), said("b")], 2, {"c1"}),
        (2, [said("a"), said("a"), said("a"), said("b")], 4, {"c1"}),
        (2, [said("a"), said("b", "c2")], 2, {"c1", "c2"}),
        (2, [said("a"), None], 2, set()),
        (0, [None], 1, set()),
    ],
)
async def test_every_replica_is_asked_once(
    replicas: int, answers: list[GatewayReport | None], probes: int, known: set[str]
) -> None:
    """As few requests as it takes; one that does not answer leaves it unknown."""
    ray = Asked(replicas, iter(answers))
    assert (await ray.observe()).served_catalogs == known
    assert ray.probes == probes


async def test_asking_ends_when_one_replica_never_gets_a_turn() -> None:
    """After twelve tries what the others say has to do."""
    ray = Asked(3, itertools.cycle([said("a"), said("b")]))
    assert (await ray.observe()).served_catalogs == {"c1"}
    assert ray.probes == 12


@pytest.mark.parametrize(
    ("answers", "known"),
    [
        ([said("a", "c2"), None], {"c1", "c2"}),
        ([None, None], {"c1"}),
        (itertools.repeat(said("a", "c2")), {"c1", "c2"}),
        ([said("a", "c2"), said("c", "c2")], {"c2"}),
    ],
    ids=["does not answer", "none answers", "gets no turn", "was replaced"],
)
async def test_what_a_replica_said_last_stands_for_it_for_a_while(
    answers: Iterable[GatewayReport | None], known: set[str]
) -> None:
    """It serves that catalog or a newer one: the gateway is not taken for further than it is, nor for unknown."""
    ray = Asked(2, itertools.chain([said("a"), said("b")], answers))
    assert (await ray.observe()).served_catalogs == {"c1"}
    assert (await ray.observe()).served_catalogs == known


@pytest.mark.parametrize("replicas", [2, 0])
async def test_what_was_said_is_forgotten(replicas: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time, and as soon as no replica runs."""
    ray = Asked(2, itertools.chain([said("a"), said("b")], itertools.repeat(None)))
    await ray.observe()
    if replicas:
        monkeypatch.setattr(gateway_probes, "REMEMBERED_SECONDS", -1.0)
    ray.replicas = replicas
    assert (await ray.observe()).served_catalogs == frozenset()
