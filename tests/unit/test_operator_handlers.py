# SPDX-License-Identifier: Apache-2.0
"""What kopf is given to call."""

import inspect
from typing import Any

from lateen_operator import handlers
from lateen_operator.seams import Kind


def _nothing(*_: Any) -> None:
    pass


def test_watch_events_are_handled_on_the_loop_that_owns_cache_and_queue() -> None:
    """Kopf runs coroutine functions on its loop and anything else in a thread pool: every handler is one."""
    registered = handlers.registry(_nothing)._watching.get_all_handlers()
    assert len(registered) == len(Kind)
    assert all(inspect.iscoroutinefunction(each.fn) for each in registered)
