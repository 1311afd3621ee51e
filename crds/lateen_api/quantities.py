# SPDX-License-Identifier: Apache-2.0
"""Kubernetes-style scalars: quantities (`500m`, `2Gi`), durations (`1m30s`) and decimal strings (`"0.6"`).

Specs carry them as strings because Kubernetes APIs have no floats.
"""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import Field

from lateen_api.schema import matching, rule, rules

_SUFFIX = {
    "": Decimal(1), "m": Decimal("0.001"),
    "k": Decimal(10**3), "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40),
}  # fmt: skip
QUANTITY_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,6})?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$"
DURATION_PATTERN = r"^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$"
SIGNED_PATTERN = r"^-?[0-9]{1,12}(\.[0-9]{1,6})?$"
GPU_PATTERN = r"^(0|[1-9][0-9]?|0\.[0-9]{1,2})$"


def _int_or_string(pattern: str, message: str, most: int) -> Any:
    """A string field that users may also write as a plain number up to `most`, such as `cpu: 2`."""
    expression = f"type(self) == int ? self >= 0 && self <= {most} : self.matches(r'{pattern}')"
    return Field(
        pattern=pattern,
        max_length=24,
        coerce_numbers_to_str=True,
        json_schema_extra={"x-kubernetes-int-or-string": True, **rules(rule(expression, message))},
    )


Quantity = Annotated[
    str, _int_or_string(QUANTITY_PATTERN, "must be a quantity such as 500m, 2 or 2Gi", most=10**12 - 1)
]
"""A Kubernetes quantity, e.g. `500m`, `2`, `2Gi`."""

GpuQuantity = Annotated[
    str, _int_or_string(GPU_PATTERN, 'must be a whole number up to 99 or a fraction such as "0.5"', most=99)
]
"""GPUs of one replica: whole ones, or a fraction of one."""

Duration = Annotated[
    str,
    matching(
        DURATION_PATTERN,
        "must be a duration such as 30s, 5m or 1h30m",
        rule(
            f"!self.matches(r'{DURATION_PATTERN}') || duration(self) >= duration('1s')",
            "must be at least 1s",
        ),
        min_length=2,
        max_length=20,
    ),
]
"""Hours, minutes, seconds in that order, e.g. `30s`, `5m`, `1h30m`."""

SignedDecimalString = Annotated[
    str,
    matching(SIGNED_PATTERN, 'must be a number in quotes, such as "-5" or "0.5"', max_length=20),
]
"""A decimal number as a string, e.g. `"-5"`."""


def quantity(text: str) -> float:
    """Value of a Kubernetes quantity in its base unit (cores, bytes); raises ValueError for anything else."""
    if not re.fullmatch(QUANTITY_PATTERN, text):
        raise ValueError(f"{text!r} is not a quantity such as 500m, 2 or 2Gi")
    number = re.match(r"[0-9.]+", text)
    assert number is not None
    return float(Decimal(number.group()) * _SUFFIX[text[number.end() :]])


def seconds(text: str) -> int:
    """Length of a duration such as `1m30s` in seconds; raises ValueError for anything else."""
    match = re.fullmatch(DURATION_PATTERN, text)
    if not text or match is None:
        raise ValueError(f"{text!r} is not a duration such as 30s, 5m or 1h30m")
    hours, minutes, secs = (int(part[:-1]) if part else 0 for part in match.groups())
    return hours * 3600 + minutes * 60 + secs
