# SPDX-License-Identifier: Apache-2.0
"""Runs encoders in the torch thread: texts of concurrent requests share forward passes of similar length.

Made by `embedder.py` and `reranker.py`. A step is one pass of bounded size, so that a short query need not wait for a
long build. A request whose pass failed in company is tried again by itself, so that a bad one fails alone. A model that
can't even do the smallest pass any more ends the thread, and with it the replica.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lateen_serving.engine.channel import deliver
from lateen_serving.engine.failures import told
from lateen_serving.engine.jobs import EncodeJob, Rows, Tokens
from lateen_serving.errors import ModelError

_log = logging.getLogger(__name__)
_OLDEST_FIRST_EVERY = 4
"""Every so many passes the oldest request leads, so that short ones can't starve a long one."""

Forward = Callable[[list[Tokens]], Rows]
"""One pass of a model: a row for each text, in order."""


@dataclass(eq=False)
class Progress:
    """One request and what is done of it."""

    job: EncodeJob
    left: list[int]
    """Indexes of texts still to do, longest last."""
    rows: Rows | None = None
    suspect: bool = False
    """A pass that held some of its texts failed; it shares no further one."""

    @classmethod
    def of(cls, job: EncodeJob) -> "Progress":
        """A request of which nothing is done."""
        return cls(job, sorted(range(len(job.texts)), key=lambda index: len(job.texts[index])))

    @property
    def tokens_left(self) -> int:
        """Tokens of the texts still to do."""
        return sum(len(self.job.texts[index]) for index in self.left)

    def put_back(self, indexes: list[int]) -> None:
        """Have these texts to do again."""
        self.left = sorted(self.left + indexes, key=lambda index: len(self.job.texts[index]))


Pick = tuple[Progress, int]
"""A text: its request and its index there."""


def pick(pending: list[Progress], budget: int) -> list[Pick]:
    """Take texts for one pass, longest first, from `pending` in order; padded they stay within `budget` tokens.

    The first request leads with its longest texts; the room left is filled with texts of others that are no longer.
    A suspect leads or waits, and shares with nobody.
    """
    picked: list[Pick] = []
    width = 0
    for progress in pending[:1] if pending and pending[0].suspect else pending:
        if picked and progress.suspect:
            continue
        for index in reversed(progress.left):
            length = len(progress.job.texts[index])
            if picked and (length > width or (len(picked) + 1) * width > budget):
                continue
            width = max(width, length)
            picked.append((progress, index))
        taken = {index for owner, index in picked if owner is progress}
        progress.left = [index for index in progress.left if index not in taken]
        if (len(picked) + 1) * width > budget:
            break
    return picked


class Batcher:
    """The `Work` of an encoder's torch thread."""

    def __init__(self, forward: Forward, budget: int, smallest: Tokens) -> None:
        """`smallest`: a text that the model can read; after a failure it shows whether the model still works."""
        self._forward = forward
        self._budget = budget
        self._smallest = smallest
        self._pending: list[Progress] = []
        self._passes = 0
        self._doubted = False
        """Something failed, and no pass has succeeded since."""

    def add(self, job: EncodeJob) -> None:
        """Queue a request."""
        self._pending.append(Progress.of(job))

    def step(self) -> bool:
        """Run one pass; False when idle. Raises ModelError when the model can't do anything any more."""
        self._pending = [progress for progress in self._pending if not progress.job.channel.cancelled]
        if self._doubted:
            self._check_model()
        picked = pick(self._order(), self._budget)
        if picked:
            self._run(picked)
        return bool(self._pending or self._doubted)

    def close(self, error: Exception) -> None:
        """End all requests."""
        deliver((progress.job.channel, error) for progress in self._pending)
        self._pending = []

    def _order(self) -> list[Progress]:
        self._passes += 1
        if self._passes % _OLDEST_FIRST_EVERY == 0:
            return self._pending
        return sorted(self._pending, key=lambda progress: progress.tokens_left)

    def _check_model(self) -> None:
        try:
            self._forward([self._smallest])
        except Exception as error:
            raise ModelError(f"not even the smallest pass succeeds ({type(error).__name__})") from error
        self._doubted = False

    def _run(self, picked: list[Pick]) -> None:
        touched = {progress for progress, _ in picked}
        try:
            rows = self._forward([progress.job.texts[index] for progress, index in picked])
            self._note(picked, rows)
        except Exception as error:  # noqa: BLE001 - told to the requests of this pass; the loop serves on
            self._doubted = True
            self._suspect(picked) if len(touched) > 1 else self._fail(picked[0][0], error)
            return
        self._finish(touched)

    def _note(self, picked: list[Pick], rows: Rows) -> None:
        for (progress, index), row in zip(picked, rows, strict=True):
            if progress.rows is None:
                progress.rows = np.empty((len(progress.job.texts), *rows.shape[1:]), dtype=np.float32)
            progress.rows[index] = row

    def _finish(self, touched: set[Progress]) -> None:
        for progress in touched:
            if progress.left or progress.rows is None:
                continue
            self._pending.remove(progress)
            result: Rows | Exception = progress.rows
            if not np.isfinite(progress.rows).all():
                result = ModelError("the model's arithmetic failed on these texts (not a number)")
            deliver([(progress.job.channel, result)])

    def _suspect(self, picked: list[Pick]) -> None:
        for progress in {progress for progress, _ in picked}:
            progress.suspect = True
            progress.put_back([index for owner, index in picked if owner is progress])

    def _fail(self, progress: Progress, error: Exception) -> None:
        _log.error("the model failed on a request of %d texts", len(progress.job.texts), exc_info=error)
        self._pending.remove(progress)
        deliver([(progress.job.channel, told(error, "these texts"))])
