# SPDX-License-Identifier: Apache-2.0
"""A variable of type `datetime` is RFC 3339's `date-time`, no more and no less."""

from datetime import UTC, datetime, timedelta, timezone

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_api.prompts.clocks import is_rfc3339

_OTHER = jsonschema_rs.Draft202012Validator({"format": "date-time"}, validate_formats=True)
TIMES = {
    "2026-01-31T12:00:00Z": True,
    "2026-01-31t12:00:00z": True,
    "2026-01-31T12:00:00.5+01:00": True,
    "2026-01-31T12:00:00.123456789012-23:59": True,
    "2026-01-31T12:00:00-00:00": True,
    "2024-02-29T00:00:00Z": True,
    "0000-02-29T00:00:00Z": True,
    "1990-12-31T23:59:60Z": True,
    "1990-12-31T15:59:60-08:00": True,
    "1991-01-01T05:29:60.5+05:30": True,
    "1990-12-31T23:58:60Z": False,
    "1990-12-31T23:59:60-08:00": False,
    "1990-12-31T23:59:61Z": False,
    "2026-02-29T00:00:00Z": False,
    "2026-01-45T00:00:00Z": False,
    "2026-13-01T00:00:00Z": False,
    "2026-00-01T00:00:00Z": False,
    "2026-01-00T00:00:00Z": False,
    "2026-01-31T24:00:00Z": False,
    "2026-01-31T12:60:00Z": False,
    "2026-01-31T12:00:00+24:00": False,
    "2026-01-31T12:00:00+01:60": False,
    "2026-W05-6T12:00:00Z": False,
    "2026-031T12:00:00Z": False,
    "20260131T120000Z": False,
    "2026-01-31": False,
    "2026-01-31T12:00Z": False,
    "2026-01-31T12:00:00": False,
    "2026-01-31 12:00:00Z": False,
    "2026-01-31T12:00:00,5Z": False,
    "2026-01-31T12:00:00.Z": False,
    "2026-01-31T12:00:00+0100": False,
    "2026-01-31T12:00:00+01": False,
    "2026-01-31T12:00:00 Z": False,
    "2026-01-31T12:00:00Z\n": False,
    "+2026-01-31T12:00:00Z": False,
    "٢٠٢٦-01-31T12:00:00Z": False,
    "now": False,
    "": False,
}


@pytest.mark.parametrize(("text", "expected"), TIMES.items())
def test_a_time_of_rfc_3339(text: str, expected: bool) -> None:
    """Each part in its bounds, nothing left out, nothing around it."""
    assert is_rfc3339(text) is expected


OFFSETS = st.integers(-1439, 1439).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(
    st.datetimes(
        min_value=datetime(1, 1, 3), max_value=datetime(9999, 12, 29), timezones=OFFSETS | st.just(UTC)
    )
)
def test_every_time_of_python_is_one(moment: datetime) -> None:
    """Written with its zone."""
    assert is_rfc3339(moment.isoformat())


@given(
    st.from_regex(
        r"20[0-9]{2}-[01][0-9]-[0-3][0-9][Tt ][012][0-9]:[0-6][0-9]:[0-5][0-9](\.[0-9]{0,3})?(Z|[-+][0-2][0-9]:?[0-6][0-9])",
        fullmatch=True,
    )
)
def test_another_reader_agrees(text: str) -> None:
    """That of JSON Schema's format `date-time`, for times that are nearly right."""
    assert is_rfc3339(text) is _OTHER.is_valid(text)
