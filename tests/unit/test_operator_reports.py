# SPDX-License-Identifier: Apache-2.0
"""What several gateway replicas report, as one."""

import pytest

from lateen_api.gateway_report import LATENCY_BOUNDS, AdapterFact, Facts, GatewayReport, Traffic
from lateen_operator.gateway_reports import latency, merged

FACTS = Facts(
    parameters=1, context_tokens=2, dtype="x", memory_bytes=3, load_seconds=4, engine="e", engine_reason="r"
)


def spread(**counts: int) -> list[int]:
    """Buckets by their number, as in `b3=2`."""
    buckets = [0] * (len(LATENCY_BOUNDS) + 1)
    for name, count in counts.items():
        buckets[int(name[1:])] = count
    return buckets


@pytest.mark.parametrize(
    ("catalogs", "known"),
    [(["a"], {"a"}), (["a", "a"], {"a"}), (["a", "b"], {"a", "b"}), ([""], set()), (["a", ""], set())],
)
def test_the_catalogs_of_all_replicas_are_told(catalogs: list[str], known: set[str]) -> None:
    """One replica that has none yet is enough not to know."""
    reports = {str(n): GatewayReport(replica=str(n), catalog=name) for n, name in enumerate(catalogs)}
    assert merged(reports).catalogs == known


def test_without_an_answer_nothing_is_known() -> None:
    """A gateway that is away, or too old to report."""
    assert merged(None).catalogs == frozenset()
    assert merged({}).facts == {}


def test_requests_of_all_replicas_are_added_up() -> None:
    """Also where one of them has seen none."""
    traffic = Traffic(requests=3, errors=1, latencies=spread(b0=2, b18=1))
    first = GatewayReport(replica="a", traffic={"x": traffic, "y": Traffic(requests=1)})
    second = GatewayReport(replica="b", traffic={"x": Traffic(requests=2, errors=2, latencies=spread(b0=2))})
    found = merged({"a": first, "b": second}).traffic
    assert found["x"] == Traffic(requests=5, errors=3, latencies=spread(b0=4, b18=1))
    assert found["y"] == Traffic(requests=1)


def test_an_adapter_is_missing_where_one_replica_misses_it() -> None:
    """The first complaint is told, what one has not tried is left out, and of different weights none is named; figures
    are one replica's, always the same one's.
    """
    loaded, gone = (
        AdapterFact(identity="1"),
        AdapterFact(identity="1", reason="SourceNotFound", message="gone"),
    )
    a = FACTS.model_copy(
        update={"adapters": {"sales": loaded, "legal": loaded, "law": loaded, "tax": loaded}}
    )
    others = {"sales": gone, "law": loaded, "tax": AdapterFact(identity="2")}
    b = FACTS.model_copy(update={"adapters": others, "parameters": 9})
    reports = {name: GatewayReport(replica=name, facts={"x": facts}) for name, facts in (("b", b), ("a", a))}
    found = merged(reports).facts["x"]
    assert found.adapters == {"sales": gone, "law": loaded, "tax": AdapterFact(identity="")}
    assert found.parameters == 1


@pytest.mark.parametrize(
    ("buckets", "expected"),
    [
        ([], None),
        (spread(b0=1), 0.05),
        (spread(b0=95, b9=5), 0.05),
        (spread(b0=94, b9=6), 3.0),
        (spread(b18=1), float("inf")),
    ],
)
def test_a_percentile_is_the_upper_bound_of_its_bucket(buckets: list[int], expected: float | None) -> None:
    """Beyond the last bound it is beyond any limit."""
    assert latency(Traffic(latencies=buckets), 0.95) == expected
