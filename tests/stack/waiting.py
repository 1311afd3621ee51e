# SPDX-License-Identifier: Apache-2.0
"""The one place where tests wait: until something holds, never for a fixed time."""

import time
from collections.abc import Callable
from typing import TypeVar

Value = TypeVar("Value")

INTERVAL = 0.1
"""Seconds between two looks."""


class TimedOut(AssertionError):
    """What was waited for did not happen."""


def wait_for(
    predicate: Callable[[], Value],
    timeout: float,
    message: str | Callable[[], str],
    interval: float = INTERVAL,
) -> Value:
    """The first truthy value of `predicate`; raises TimedOut with `message` after `timeout` seconds.

    A predicate that raises AssertionError or OSError (a connection refused, for example) counts as not yet.
    """
    deadline = time.monotonic() + timeout
    while True:
        problem = ""
        try:
            value = predicate()
        except (AssertionError, OSError) as error:
            problem = f" (last: {error})"
        else:
            if value:
                return value
        if time.monotonic() > deadline:
            text = message() if callable(message) else message
            raise TimedOut(f"after {timeout:g} s: {text}{problem}")
        time.sleep(interval)


def holds_for(predicate: Callable[[], bool], seconds: float, message: str) -> None:
    """Assert that `predicate` is true the whole time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert predicate(), message
        time.sleep(INTERVAL)
