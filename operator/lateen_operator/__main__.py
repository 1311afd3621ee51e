# SPDX-License-Identifier: Apache-2.0
"""`python -m lateen_operator`: the operator as a process.

Exit codes: 0 after a graceful end, 1 when it could not go on (start it again), 2 when its settings are wrong.
"""

import asyncio
import gc
import sys

import structlog
from pydantic import ValidationError

from lateen_operator import logs, main
from lateen_operator.seams import Unavailable
from lateen_operator.settings import OperatorSettings

GC_THRESHOLDS = (100_000, 20, 20)
"""Each pass reads Ray's whole config anew; by default every second one would have all cached objects walked for it."""

log = structlog.get_logger(__name__)


def start() -> int:
    """Read the settings and run; the exit code."""
    try:
        settings = OperatorSettings()
    except ValidationError as error:
        for each in error.errors(include_input=False, include_url=False):
            name = "_".join(str(part) for part in each["loc"])
            sys.stderr.write(f"LATEEN_OPERATOR_{name.upper()}: {each['msg']}\n")
        return 2
    except (OSError, ValueError) as error:
        sys.stderr.write(f"settings of the operator: {error}\n")
        return 2
    logs.configure(settings.log_level)
    gc.set_threshold(*GC_THRESHOLDS)
    try:
        return asyncio.run(main.run(settings))
    except (Unavailable, OSError) as error:
        log.error("the operator can't run", error=str(error))  # said for people, not for debugging
        return 1


if __name__ == "__main__":
    sys.exit(start())
