# SPDX-License-Identifier: Apache-2.0
"""Decides in the torch thread what the model reads next: requests join and leave between steps.

    waiting --admit--> prefill, chunk by chunk --join--> shared batch, or one of its own --finish--> gone
       ^                                                               |
       '---------- preempt: memory for keys and values is full --------'

A batch of its own gets a seeded request, and every request of a model whose cache can't be joined.
Made by `generator.py`. A step reads one chunk of new prompts and one token for each running row, so a long prompt
delays the others by one chunk at most.

A failure ends the request that it belongs to, never the loop. Of rows whose shared pass failed each is read anew and
answered by itself, so that the one at fault fails alone; the others then share a batch again. Where only memory was
short, or a shared state broke, nobody is a suspect. Rows are read anew with what they have of their answers: each
reading gives them a token at least, so they come to an end. A model that can't even do a small pass any more ends the
thread, and with it the replica.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch

from lateen_serving.engine import decoder, sampling
from lateen_serving.engine.batches import Batch, Prefill
from lateen_serving.engine.channel import Channel, deliver
from lateen_serving.engine.decoder import Decoder
from lateen_serving.engine.failures import out_of_memory, told
from lateen_serving.engine.jobs import AdaptersJob, GenerateJob, RoomJob
from lateen_serving.engine.protocol import TokenEvent
from lateen_serving.engine.rows import Row
from lateen_serving.engine.vocabulary import Vocabulary
from lateen_serving.errors import ModelError, ServiceError

_log = logging.getLogger(__name__)
_ROOM_TO_GROW = 64
"""Tokens a row must have room for when it is admitted, so that it is not preempted at once."""

_BROKEN_NUMBERS = "the model's arithmetic failed on this request (not a number)"


@dataclass(frozen=True)
class Limits:
    """Bounds of one scheduler."""

    rows: int
    """Requests worked on at the same time."""
    cache_tokens: int
    """Tokens, padding included, whose keys and values may be held; a single request may exceed it."""
    chunk_tokens: int
    """Prompt tokens, padding included, read in one step."""


class Scheduler:
    """The `Work` of a text generator's torch thread."""

    def __init__(self, model: Decoder, vocabulary: Vocabulary, limits: Limits) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._limits = limits
        self._changes: list[AdaptersJob] = []
        self._leaving: set[str] = set()
        self._waiting: deque[Row] = deque()
        self._prefill: Prefill | None = None
        self._shared: Batch | None = None
        self._single: list[Batch] = []
        self._outbox: list[tuple[Channel[TokenEvent], TokenEvent | Exception]] = []
        self._doubted = False
        """Something failed, and no pass has succeeded since."""

    def add(self, job: GenerateJob | AdaptersJob | RoomJob) -> None:
        """Queue a request or a change of adapters, or take another number of rows."""
        if isinstance(job, AdaptersJob):
            self._changes.append(job)
            return
        if isinstance(job, RoomJob):
            self._limits = replace(self._limits, rows=job.rows)
            return
        try:
            self._waiting.append(Row.of(job, self._vocabulary, self._model))
        except Exception as error:  # noqa: BLE001 - the failure belongs to this request
            self._fail([job.channel], error)

    def step(self) -> bool:
        """Advance everything by one chunk and one token; False when idle.

        Raises ModelError when the model can't do anything any more.
        """
        with torch.inference_mode():
            self._drop_cancelled()
            self._check_model()
            self._change_adapters()
            self._make_room()
            if self._prefill is None:
                self._admit()
            if self._prefill is not None:
                self._read_chunk(self._prefill)
                self._flush()  # a first token does not wait for everybody's next one
            for batch in self._batches():
                self._guard(self._answer, batch)
            self._clear_suspects()
        self._flush()
        working = self._waiting or self._prefill or self._shared or self._single
        return bool(working or self._leaving or self._doubted)

    def close(self, error: Exception) -> None:
        """End all requests."""
        rows = [*self._waiting, *self._running()]
        self._outbox += [(row.job.channel, error) for row in rows]
        self._flush()
        deliver((change.channel, error) for change in self._changes)

    def _batches(self) -> list[Batch]:
        return [*self._single, *([self._shared] if self._shared else [])]

    def _running(self) -> Iterator[Row]:
        if self._prefill is not None:
            yield from self._prefill.rows
        for batch in self._batches():
            yield from batch.rows

    def _check_model(self) -> None:
        """After a failure see that the model still works, once it has nothing else to do."""
        if not self._doubted or any(True for _ in self._running()):
            return
        try:
            self._model.probe()
        except Exception as error:
            raise ModelError(f"not even a pass of two tokens succeeds ({type(error).__name__})") from error
        self._doubted = False

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        deliver(outbox)

    def _change_adapters(self) -> None:
        """Load adapters, and unload those that were to leave once no request uses them any more."""
        changes, self._changes = self._changes, []
        for change in changes:
            failures = {key: self._model.adapters.load(key, files) for key, files in change.load.items()}
            self._leaving |= change.unload
            deliver([(change.channel, {key: reason for key, reason in failures.items() if reason})])
        if not self._leaving:
            return
        used = {row.job.adapter for row in (*self._waiting, *self._running())}
        free = self._leaving - used
        if free:
            self._leaving -= free
            self._model.adapters.unload(free)

    def _admit(self) -> None:
        """Start reading the requests that have waited longest, as many as fit together."""
        running = sum(1 for _ in self._running())
        group: list[Row] = []
        while self._waiting and running + len(group) < self._limits.rows:
            if not self._fits(group, self._waiting[0], idle=running == 0):
                break
            group.append(self._waiting.popleft())
        if not group:
            return
        try:
            self._prefill = Prefill.of(group, self._model)
        except Exception as error:  # noqa: BLE001 - the failure belongs to these requests
            self._retry_apart(group, error)

    def _fits(self, group: list[Row], row: Row, idle: bool) -> bool:
        if not group:
            return idle or self._held(extra=[row]) <= self._limits.cache_tokens
        if row.apart or group[0].apart:
            return False
        together = [*group, row]
        width = max(member.length for member in together)
        # Very different lengths are read separately: padding costs as much as tokens.
        if width * len(together) > 1.5 * sum(member.length for member in together) + 256:
            return False
        return self._held(extra=together) <= self._limits.cache_tokens

    def _held(self, extra: list[Row] | None = None) -> int:
        """Tokens, padding included, that are or will be held, `extra` rows included."""
        joining = [row for row in (extra or []) if not row.apart]
        own = [row for row in (extra or []) if row.apart]
        own_length = [row.length + _ROOM_TO_GROW for row in own]
        own_length += [batch.state.length + 1 for batch in self._single]
        widths = [row.length + _ROOM_TO_GROW for row in joining]
        count = len(joining)
        if self._prefill is not None:
            widths.append(self._prefill.width)
            count += len(self._prefill.rows)
        if self._shared is not None:
            widths.append(self._shared.state.length + 1)
            count += len(self._shared.rows)
        return sum(own_length) + count * max(widths, default=0)

    def _make_room(self) -> None:
        """Send the youngest rows back to waiting while the memory bound is exceeded; they are read again later."""
        while self._held() > self._limits.cache_tokens:
            rows = [row for batch in self._batches() for row in batch.rows]
            if len(rows) < 2:
                return
            victim = max(rows, key=lambda row: (not row.alone, -len(row.answer)))
            self._remove({victim})
            self._waiting.appendleft(victim)

    def _read_chunk(self, prefill: Prefill) -> None:
        columns = max(1, self._limits.chunk_tokens // len(prefill.rows))
        if not self._model.joinable:
            columns = prefill.width  # recurrent layers read a prompt in one go only
        part = slice(prefill.done, prefill.done + columns)
        try:
            logits = self._model.forward(
                prefill.ids[:, part], prefill.mask[:, part], prefill.state, _adapters(prefill.rows)
            )
        except Exception as error:  # noqa: BLE001 - the failure belongs to these requests, the loop serves on
            self._prefill = None
            self._retry_apart(prefill.rows, error)
            return
        self._doubted = False
        if prefill.done < prefill.width:
            return
        self._prefill = None
        self._guard(self._start_answer, Batch(prefill.rows, prefill.state), logits)

    def _retry_apart(self, rows: list[Row], error: Exception) -> None:
        if len(rows) == 1:
            self._fail([row.job.channel for row in rows], error)
            return
        for row in rows:
            row.doubt(error)
        self._send_back(rows, error)

    def _send_back(self, rows: list[Row], error: Exception) -> None:
        """Have rows read anew, what they have of their answers included."""
        _log.warning("%d request(s) are read again after a failure: %r", len(rows), error)
        self._waiting.extendleft(reversed(rows))
        self._doubted = True

    def _start_answer(self, batch: Batch, logits: torch.Tensor) -> None:
        self._accept(batch, logits)
        if not batch.rows:
            return
        if batch.rows[0].apart:
            self._single.append(batch)
        else:
            self._share(batch)

    def _share(self, batch: Batch) -> None:
        if self._shared is None:
            self._shared = batch
        else:
            self._join(self._shared, batch)

    def _clear_suspects(self) -> None:
        """Let suspects share a batch again, now that each has been answered by itself in this step."""
        cleared = [batch for batch in self._single if batch.rows[0].suspect and batch.rows[0].clear()]
        self._single = [batch for batch in self._single if batch.rows[0].apart]
        for batch in cleared:
            self._share(batch)

    def _join(self, shared: Batch, batch: Batch) -> None:
        self._shared = None
        rows = shared.rows + batch.rows
        try:
            self._shared = Batch(rows, decoder.join(shared.state, batch.state))
        except Exception as error:  # noqa: BLE001 - the state may be half joined; no request is to blame
            self._send_back(rows, error)

    def _answer(self, batch: Batch) -> None:
        ids = torch.tensor([[row.answer[-1]] for row in batch.rows], device=self._model.device)
        logits = self._model.forward(ids, torch.ones_like(ids), batch.state, _adapters(batch.rows))
        self._doubted = False
        self._accept(batch, logits)
        self._forget_empty()

    def _accept(self, batch: Batch, logits: torch.Tensor) -> None:
        """Choose each row's next token, send it, and drop the rows that are complete."""
        shaped, failures = _shape(batch.rows, logits)
        tokens = sampling.choose(shaped, [row.sampling for row in batch.rows])
        kept: list[int] = []
        for index, (row, token) in enumerate(zip(batch.rows, tokens, strict=True)):
            item: TokenEvent | Exception | None
            if index in failures:
                item, complete = failures[index], True
            elif token is None:
                item, complete = ModelError(_BROKEN_NUMBERS), True
            else:
                item, complete = self._take(row, token, logits, index)
            if item is not None:
                self._outbox.append((row.job.channel, item))
            if not complete:
                kept.append(index)
        self._keep(batch, kept)

    def _take(
        self, row: Row, token: int, logits: torch.Tensor, index: int
    ) -> tuple[TokenEvent | Exception | None, bool]:
        """Give a row its token; what goes wrong with it is this row's alone."""
        try:
            logprob = row.measure(logits[index], token) if row.logprobs is not None else None
            return row.accept(token, logprob)
        except Exception as error:  # noqa: BLE001 - told to the request; the others are served on
            return _failure(error), True

    def _guard(self, work: Callable[..., None], batch: Batch, *arguments: torch.Tensor) -> None:
        """Do `work` on a batch; a failure has its rows read anew, each by itself unless only memory was short."""
        try:
            work(batch, *arguments)
        except Exception as error:  # noqa: BLE001 - told to the request that fails by itself
            rows, batch.rows = batch.rows, []
            self._forget_empty()
            if out_of_memory(error) and (len(rows) > 1 or any(True for _ in self._running())):
                self._send_back(rows, error)
            else:
                self._retry_apart(rows, error)

    def _fail(self, channels: list[Channel[TokenEvent]], error: Exception) -> None:
        _log.error("the model failed on %d request(s)", len(channels), exc_info=error)
        self._outbox += [(channel, _failure(error)) for channel in channels]
        self._doubted = True

    def _drop_cancelled(self) -> None:
        gone = {row for row in self._running() if row.job.channel.cancelled}
        if gone:
            self._remove(gone)
        if any(row.job.channel.cancelled for row in self._waiting):
            self._waiting = deque(row for row in self._waiting if not row.job.channel.cancelled)

    def _remove(self, gone: set[Row]) -> None:
        together: list[Batch | Prefill] = [*self._batches()]
        if self._prefill is not None:
            together.append(self._prefill)
        for batch in together:
            self._keep(batch, [index for index, row in enumerate(batch.rows) if row not in gone])
        self._forget_empty()

    def _keep(self, batch: Batch | Prefill, kept: list[int]) -> None:
        """Go on with these rows of a batch only; if that fails they are read anew."""
        if len(kept) == len(batch.rows):
            return
        rows = [batch.rows[index] for index in kept]
        try:
            if kept:
                batch.keep(kept)
            else:
                batch.rows = []
        except Exception as error:  # noqa: BLE001 - no request is to blame
            batch.rows = []
            self._send_back(rows, error)

    def _forget_empty(self) -> None:
        self._single = [batch for batch in self._single if batch.rows]
        if self._shared is not None and not self._shared.rows:
            self._shared = None
        if self._prefill is not None and not self._prefill.rows:
            self._prefill = None


def _adapters(rows: list[Row]) -> list[str | None]:
    return [row.job.adapter for row in rows]


def _shape(rows: list[Row], logits: torch.Tensor) -> tuple[torch.Tensor, dict[int, Exception]]:
    """The logits with each row's penalties, biases and grammar, and the rows for which that failed, by index."""
    failures: dict[int, Exception] = {}
    if all(row.shaping is None for row in rows):
        return logits, failures
    shaped = logits.float().clone()
    for index, row in enumerate(rows):
        if row.shaping is None:
            continue
        try:
            row.shaping.apply(shaped[index])
        except Exception as error:  # noqa: BLE001 - one request's grammar touches no other request
            failures[index] = _failure(error)
    return shaped, failures


def _failure(error: Exception) -> ServiceError:
    return told(error, "this request")
