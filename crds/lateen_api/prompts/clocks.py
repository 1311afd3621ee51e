# SPDX-License-Identifier: Apache-2.0
"""A time as text, the same wherever it is written: `strftime` would name days and months in the process's language."""

import re
from calendar import monthrange
from datetime import datetime

_FORMAT = re.compile(r"(?:[^%]|%[YmdHMSaAbBjyIpzZ%])*")
_DIRECTIVE = re.compile(r"%(.)")
_RFC_3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.[0-9]+)?"
    r"(?:[Zz]|([-+])([0-9]{2}):([0-9]{2}))"
)
_LEAP_YEAR = 2000
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = (
    "January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November",
    "December",
)  # fmt: skip


def is_format(text: str) -> bool:
    """Whether `written` knows everything in it."""
    return _FORMAT.fullmatch(text) is not None


def written(moment: datetime, form: str) -> str:
    """`moment` in its own zone, names in English; `form` is a format."""
    names = {
        "A": _DAYS[moment.weekday()],
        "a": _DAYS[moment.weekday()][:3],
        "B": _MONTHS[moment.month - 1],
        "b": _MONTHS[moment.month - 1][:3],
        "p": "AM" if moment.hour < 12 else "PM",
        "%": "%",
    }
    return _DIRECTIVE.sub(lambda found: names.get(found[1]) or moment.strftime(found[0]), form)


def is_rfc3339(text: str) -> bool:
    """Whether a text is a `date-time` of RFC 3339: date, `T`, time with seconds, zone; a leap second only where UTC may
    have one. `datetime.fromisoformat` takes much more, and neither the year 0 nor leap seconds.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        return False
    year, month, day, hour, minute, second = map(int, match.groups()[:6])
    east, off_hours, off_minutes = match[7] != "-", int(match[8] or 0), int(match[9] or 0)
    if not 1 <= month <= 12 or hour > 23 or minute > 59 or off_hours > 23 or off_minutes > 59:
        return False
    if not 1 <= day <= monthrange(year or _LEAP_YEAR, month)[1]:
        return False
    offset = off_hours * 60 + off_minutes
    of_day = (hour * 60 + minute + (-offset if east else offset)) % (24 * 60)
    return second <= 59 or (second == 60 and of_day == 24 * 60 - 1)
