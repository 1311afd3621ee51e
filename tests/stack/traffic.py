# SPDX-License-Identifier: Apache-2.0
"""Requests that go on while something is changed, to prove that none is lost."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from stack.waiting import wait_for


@dataclass
class Traffic:
    """What has happened so far; read it any time."""

    sent: int = 0
    failures: list[str] = field(default_factory=list)
    stopping: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def loop(self, call: Callable[[], object]) -> None:
        """Call again and again until stopped."""
        while not self.stopping.is_set():
            failure = ""
            try:
                call()
            except Exception as error:  # noqa: BLE001  # whatever it is, the test reports it
                failure = f"{type(error).__name__}: {error}"
            with self.lock:
                self.sent += 1
                if failure:
                    self.failures.append(failure)

    def wait_for_more(self, count: int = 3, timeout: float = 60) -> None:
        """Wait until `count` more requests have ended, so that some surely began after this call."""
        goal = self.sent + count
        wait_for(lambda: self.sent >= goal, timeout, lambda: f"only {self.sent} of {goal} requests ended")


@contextmanager
def traffic(*calls: Callable[[], object]) -> Iterator[Traffic]:
    """Repeat every call in a thread of its own while the block runs; afterwards fail if any request failed."""
    state = Traffic()
    threads = [threading.Thread(target=state.loop, args=(call,), daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    try:
        state.wait_for_more()
        yield state
        state.wait_for_more()
    finally:
        state.stopping.set()
        for thread in threads:
            thread.join(timeout=60)
    assert not state.failures, f"{len(state.failures)} of {state.sent} requests failed: {state.failures[:3]}"
