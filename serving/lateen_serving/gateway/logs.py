# SPDX-License-Identifier: Apache-2.0
"""The gateway's log: JSON lines. Ray keeps a replica's standard output in its session's log folder."""

import json
from collections.abc import Callable
from typing import Any, TextIO, cast

import orjson
import structlog


def logger(output: TextIO, **bound: str) -> structlog.typing.FilteringBoundLogger:
    """A logger of its own, so that nothing global has to be configured; `bound` appears in every line."""
    wrapped = structlog.wrap_logger(
        structlog.WriteLogger(output),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=_json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    return cast(structlog.typing.FilteringBoundLogger, wrapped.bind(**bound))


def _json(event: dict[str, Any], default: Callable[[Any], Any]) -> str:
    """One line; what orjson refuses, such as half of a surrogate pair, is written by the slower way."""
    try:
        return orjson.dumps(event, default=default).decode()
    except TypeError:
        return json.dumps(event, default=default)
