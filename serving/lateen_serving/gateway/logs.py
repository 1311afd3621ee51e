# SPDX-License-Identifier: Apache-2.0
"""The gateway's log: JSON lines. Ray keeps a replica's standard output in its session's log folder."""

from typing import TextIO, cast

import structlog


def logger(output: TextIO, **bound: str) -> structlog.typing.FilteringBoundLogger:
    """A logger of its own, so that nothing global has to be configured; `bound` appears in every line."""
    wrapped = structlog.wrap_logger(
        structlog.WriteLogger(output),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger("info"),
    )
    return cast(structlog.typing.FilteringBoundLogger, wrapped.bind(**bound))
