# SPDX-License-Identifier: Apache-2.0
"""A time as text, the same wherever it is written: `strftime` would name days and months in the process's language."""

import re
from datetime import datetime

_FORMAT = re.compile(r"(?:[^%]|%[YmdHMSaAbBjyIpzZ%])*")
_DIRECTIVE = re.compile(r"%(.)")
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
