# SPDX-License-Identifier: Apache-2.0
"""Which revision takes a request."""

from typing import Any

import pytest

from lateen_api.catalog import Model
from lateen_serving.gateway import choosing
from unit.gateway_fakes import model


def with_canary(weight: int) -> Model:
    """A model at revision r1 whose canary r2 takes `weight` percent."""
    canary = {"revision": "r2", "application": "default_chatty_r2", "weight": weight, "since": 1}
    document: dict[str, Any] = model("chatty") | {"canary": canary}
    return Model.model_validate(document)


@pytest.mark.parametrize(
    ("weight", "roll", "expected"),
    [
        (1, 0.0, ["r2", "r1"]),
        (1, 0.01, ["r1", "r2"]),
        (50, 0.499, ["r2", "r1"]),
        (50, 0.5, ["r1", "r2"]),
        (99, 0.989, ["r2", "r1"]),
        (99, 0.999, ["r1", "r2"]),
    ],
)
def test_the_weight_decides(weight: int, roll: float, expected: list[str]) -> None:
    """A canary takes its percentage of the rolls; the revision that does not take a request comes second."""
    assert [turn.revision for turn in choosing.turns(with_canary(weight), roll)] == expected


def test_shares_are_the_weights() -> None:
    """Over evenly spread rolls the canary gets exactly its share."""
    rolls = [number / 1000 for number in range(1000)]
    taken = [choosing.turns(with_canary(10), roll)[0].revision for roll in rolls]
    assert (taken.count("r2"), taken.count("r1")) == (100, 900)


def test_without_a_canary_there_is_one() -> None:
    """A model without a canary is its only turn, as it is."""
    only = Model.model_validate(model("chatty"))
    assert choosing.turns(only, 0.0) == (only,)
    assert choosing.of_canary(only) is None


def test_a_canary_is_a_model_of_its_own() -> None:
    """The canary's turn has its revision and application, and all else of the model."""
    first = choosing.turns(with_canary(10), 0.0)[0]
    assert (first.id, first.revision, first.application) == ("chatty", "r2", "default_chatty_r2")
    assert first.canary is None
