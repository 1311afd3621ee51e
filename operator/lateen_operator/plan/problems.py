# SPDX-License-Identifier: Apache-2.0
"""Turning failures into words: validation errors, Ray's replica messages, and how long to wait before trying again."""

import re

from pydantic import ValidationError

from lateen_api.conditions import Reason
from lateen_api.serve_config import REPLICA_FAILURE
from lateen_operator.status import Verdict

_FAILURE = re.compile(rf"{REPLICA_FAILURE} (\w+): ([^\n\\]+)")


def describe(error: ValidationError) -> str:
    """The first problem of a validation error with the path of its field, as users write it."""
    first = error.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"spec.{path}: {first['msg']}{more}"


def failure(text: str) -> Verdict | None:
    """The verdict inside `text` when it carries a `lateen-failure Reason: message` line."""
    match = _FAILURE.search(text)
    if match is None:
        return None
    known = match.group(1) in {reason.value for reason in Reason}
    reason = Reason(match.group(1)) if known else Reason.REPLICA_FAILED
    return Verdict("False", reason, match.group(2).strip())


def last_line(text: str) -> str:
    """The last line of a traceback or log that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""


def backoff(attempt: int, base: float = 5.0, limit: float = 300.0) -> float:
    """Seconds to wait after failed attempt number `attempt` (from 0): doubles up to `limit`."""
    return min(base * 2.0 ** min(attempt, 16), limit)
