# SPDX-License-Identifier: Apache-2.0
"""Quantities and durations mean what Kubernetes users expect, and nothing else is read as one."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from lateen_api import quantities

quick = settings(deadline=None, max_examples=60)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("2", 2),
        ("500m", 0.5),
        ("0.25", 0.25),
        ("2k", 2_000),
        ("1M", 10**6),
        ("1.5G", 1.5 * 10**9),
        ("1T", 10**12),
        ("64Ki", 65536),
        ("1.5Mi", 1.5 * 2**20),
        ("2Gi", 2 * 2**30),
        ("1Ti", 2**40),
    ],
)
def test_a_quantity_has_its_value_in_the_base_unit(text: str, value: float) -> None:
    """Cores for cpu, bytes for memory."""
    assert quantities.quantity(text) == value


@pytest.mark.parametrize("text", ["", "Gi", "-1", "1 Gi", "1GB", "1e3", "0x10", ".5", "1.", "2\n", "٣"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    """The message shows what one looks like."""
    with pytest.raises(ValueError, match="is not a quantity such as 500m, 2 or 2Gi"):
        quantities.quantity(text)


@quick
@given(st.integers(0, 99999), st.sampled_from(["Ki", "Mi", "Gi"]))
def test_binary_suffixes_are_powers_of_1024(number: int, suffix: str) -> None:
    """`1Ki` is 1024."""
    power = ["Ki", "Mi", "Gi"].index(suffix) + 1
    assert quantities.quantity(f"{number}{suffix}") == number * 1024**power


@quick
@given(st.integers(0, 9999), st.integers(0, 99999), st.integers(0, 999999))
def test_a_duration_is_the_sum_of_its_parts(hours: int, minutes: int, secs: int) -> None:
    """Parts may be left out, but not all of them."""
    expected = hours * 3600 + minutes * 60 + secs
    assert quantities.seconds(f"{hours}h{minutes}m{secs}s") == expected
    assert quantities.seconds(f"{secs}s") == secs
    assert quantities.seconds(f"{hours}h{secs}s") == hours * 3600 + secs


@pytest.mark.parametrize("text", ["", "30", "1d", "5m1h", "1.5h", "-1s", "1 m", "500ms", "1s\n"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Units in order, whole numbers, nothing bare."""
    with pytest.raises(ValueError, match="is not a duration such as 30s, 5m or 1h30m"):
        quantities.seconds(text)


@pytest.mark.parametrize(("given_", "kept"), [(2, "2"), ("2", "2"), ("500m", "500m"), (0, "0")])
def test_plain_numbers_are_quantities_too(given_: object, kept: str) -> None:
    """`cpu: 2` and `cpu: "2"` are the same spec, so they have the same revision."""
    assert TypeAdapter[str](quantities.Quantity).validate_python(given_) == kept


@pytest.mark.parametrize("given_", ["two", -1, True, None, "1" * 25])
def test_a_spec_refuses_what_is_no_quantity(given_: object) -> None:
    """The same check as the API server's, for objects stored under an older CRD."""
    with pytest.raises(ValidationError):
        TypeAdapter[str](quantities.Quantity).validate_python(given_)
