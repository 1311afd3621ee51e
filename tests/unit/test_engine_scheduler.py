# SPDX-License-Identifier: Apache-2.0
"""The scheduler step by step, in this thread, with failures put into the model."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from engine_models import Reference, save_llama
from lateen_serving.engine import decoder
from lateen_serving.engine.channel import Channel
from lateen_serving.engine.decoder import Decoder, State
from lateen_serving.engine.jobs import GenerateJob, RoomJob, Rules
from lateen_serving.engine.prompt import own_copy
from lateen_serving.engine.protocol import TokenEvent
from lateen_serving.engine.scheduler import Limits, Scheduler
from lateen_serving.engine.thread import TorchThread
from lateen_serving.engine.vocabulary import Vocabulary
from lateen_serving.errors import ModelError, OutOfMemory, ReplicaLost, Unavailable

ROOMY = Limits(rows=8, cache_tokens=10_000, chunk_tokens=512)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What transformers answers."""
    return Reference(save_llama(tmp_path_factory.mktemp("llama")))


class Faulty(Decoder):
    """A decoder whose passes can be made to fail."""

    fault: Callable[[torch.Tensor, torch.Tensor], None] = staticmethod(lambda _ids, _logits: None)
    passes: int = 0

    def forward(
        self, ids: torch.Tensor, mask: torch.Tensor, state: State, adapters: Sequence[str | None] = ()
    ) -> torch.Tensor:
        logits = super().forward(ids, mask, state, adapters)
        self.passes += 1
        self.fault(ids, logits)
        return logits


class Bench:
    """A scheduler with its model, driven by hand."""

    def __init__(self, reference: Reference, limits: Limits = ROOMY, end: int = 257) -> None:
        self.reference = reference
        self.model = Faulty(reference.model, "cpu")
        vocabulary = Vocabulary(own_copy(reference.tokenizer), self.model.vocabulary, frozenset({end}))
        self.vocabulary = vocabulary
        self.scheduler = Scheduler(self.model, vocabulary, limits)

    def ask(self, text: str, limit: int = 12, rules: Rules = Rules(), **changes: Any) -> Channel[TokenEvent]:  # noqa: B008 - frozen
        """Queue a request."""
        job = self.job(text, limit, rules, **changes)
        self.scheduler.add(job)
        return job.channel

    def job(self, text: str, limit: int = 12, rules: Rules = Rules(), **changes: Any) -> GenerateJob:  # noqa: B008 - frozen
        """A request."""
        return GenerateJob(self.reference.prompt(text), limit, rules, stop=[], channel=Channel(), **changes)

    def run(self) -> None:
        """Step until idle; a bound keeps a mistake from hanging the test."""
        for _ in range(500):
            if not self.scheduler.step():
                return
        raise AssertionError("the scheduler never became idle")


async def text_of(channel: Channel[TokenEvent]) -> str:
    """Everything that was sent."""
    text, finished = "", False
    while not finished:
        for event in await channel.receive():
            text += event["text"]
            finished = "finish_reason" in event
    return text


async def test_an_end_token_ends_an_answer(reference: Reference) -> None:
    """The answer stops before the end token, which is counted but not sent; others go on."""
    whole = reference.answer("hi", 12)
    (end,) = reference.tokenizer.encode(whole[5], add_special_tokens=False)
    bench = Bench(reference, end=end)
    channels = [bench.ask("hi"), bench.ask("ok")]
    bench.run()
    events = await channels[0].receive()
    expected = whole[: whole.index(whole[5])]
    assert "".join(event["text"] for event in events) == expected
    assert events[-1]["finish_reason"] == "stop"
    assert events[-1]["completion_tokens"] == len(expected) + 1
    assert await text_of(channels[1]) == reference.answer("ok", 12).split(whole[5])[0]


async def test_a_cancelled_request_leaves_at_the_next_step(reference: Reference) -> None:
    """Waiting, being read or being answered: a request nobody reads takes no further work."""
    bench = Bench(reference, Limits(rows=2, cache_tokens=10_000, chunk_tokens=8))
    answered = bench.ask("hi", limit=100)
    while not answered._items:
        bench.scheduler.step()
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
    read, waiting = bench.ask("b" * 40), bench.ask("c")
    bench.scheduler.step()
    for channel in (answered, read, waiting):
        channel.cancel()
    before = bench.model.passes
    assert bench.scheduler.step() is False
    assert bench.model.passes == before


async def test_another_number_of_rows_counts_from_the_next_step(reference: Reference) -> None:
    """More requests join at once; after a smaller number those under way go on."""
    bench = Bench(reference, Limits(rows=1, cache_tokens=10_000, chunk_tokens=512))
    channels = [bench.ask(text) for text in ("ab", "cd")]
    bench.scheduler.step()
    assert len(list(bench.scheduler._running())) == 1
    bench.scheduler.add(RoomJob(2))
    bench.scheduler.step()
    assert len(list(bench.scheduler._running())) == 2
    bench.scheduler.add(RoomJob(1))
    bench.scheduler.step()
    assert len(list(bench.scheduler._running())) == 2
    bench.run()
    assert all([await text_of(channel) for channel in channels])


async def test_a_row_with_broken_numbers_fails_alone(reference: Reference) -> None:
    """Not-a-number in one row of a batch is that request's ModelError; the others answer as ever."""
    bench = Bench(reference)

    def poison(ids: torch.Tensor, logits: torch.Tensor) -> None:
        if len(logits) == 3:
            logits[1] = float("nan")

    bench.model.fault = poison
    channels = [bench.ask(text) for text in ("hi", "ok", "yes")]
    bench.run()
    assert await text_of(channels[0]) == reference.answer("hi", 12)
    with pytest.raises(ModelError):
        await text_of(channels[1])
    assert await text_of(channels[2]) == reference.answer("yes", 12)


async def test_a_failing_batch_does_not_end_the_loop(reference: Reference) -> None:
    """An exception while answering is told to the batch's requests, and the next request is served."""
    bench = Bench(reference)

    def explode(ids: torch.Tensor, logits: torch.Tensor) -> None:
        if ids.shape[1] == 1:
            raise RuntimeError("out of luck")

    bench.model.fault = explode
    channels = [bench.ask("hi"), bench.ask("ok")]
    bench.run()
    for channel in channels:
        with pytest.raises(ModelError, match="RuntimeError"):
            await text_of(channel)
    bench.model.fault = lambda _ids, _logits: None
    channel = bench.ask("hi")
    bench.run()
    assert await text_of(channel) == reference.answer("hi", 12)


async def test_a_prompt_that_cannot_be_read_fails_alone(reference: Reference) -> None:
    """When reading several prompts together fails, each is tried by itself."""
    bench = Bench(reference)
    poisonous = reference.prompt("Z")[-14]

    def explode(ids: torch.Tensor, logits: torch.Tensor) -> None:
        if (ids == poisonous).any() and ids.shape[1] > 1:
            raise RuntimeError("can't read this")

    bench.model.fault = explode
    channels = [bench.ask(text) for text in ("hi", "Z", "ok")]
    bench.run()
    assert await text_of(channels[0]) == reference.answer("hi", 12)
    with pytest.raises(ModelError):
        await text_of(channels[1])
    assert await text_of(channels[2]) == reference.answer("ok", 12)


async def test_a_long_prompt_is_read_in_chunks_between_the_tokens_of_others(reference: Reference) -> None:
    """While a long prompt is read, running requests get a token per chunk; the answer is the same."""
    bench = Bench(reference, Limits(rows=8, cache_tokens=10_000, chunk_tokens=16))
    first = bench.ask("b", limit=60)
    for _ in range(4):
        bench.scheduler.step()
    second = bench.ask("x" * 80)
    passes = bench.model.passes
    bench.scheduler.step()
    assert bench.model.passes == passes + 2
    bench.run()
    assert await text_of(first) == reference.answer("b", 60)
    assert await text_of(second) == reference.answer("x" * 80, 12)


async def test_memory_pressure_sends_the_youngest_back(reference: Reference) -> None:
    """When keys and values outgrow their bound, rows are read again later, with the same answers."""
    bench = Bench(reference, Limits(rows=8, cache_tokens=230, chunk_tokens=512))
    channels = [bench.ask(text, limit=90) for text in ("b", "k", "x")]
    bench.run()
    undisturbed = Bench(reference)
    for text in ("b", "k", "x"):
        undisturbed.ask(text, limit=90)
    undisturbed.run()
    assert bench.model.passes > undisturbed.model.passes
    for channel, text in zip(channels, ("b", "k", "x"), strict=True):
        assert await text_of(channel) == reference.answer(text, 90)


async def test_closing_tells_everybody(reference: Reference) -> None:
    """Waiting and running requests end with the error the thread gives."""
    bench = Bench(reference, Limits(rows=1, cache_tokens=10_000, chunk_tokens=512))
    channels = [bench.ask("b", limit=90), bench.ask("k")]
    bench.scheduler.step()
    bench.scheduler.close(Unavailable("stopped"))
    for channel in channels:
        with pytest.raises(Unavailable):
            await text_of(channel)


@pytest.mark.parametrize("steps", [1, 2, 4, 7])
@pytest.mark.parametrize("gone", [0, 1, 2], ids=["short", "middle", "long"])
async def test_a_prompt_that_is_cancelled_is_not_read_on(reference: Reference, gone: int, steps: int) -> None:
    """Of prompts that are read together a cancelled one leaves at the next step; the others are read on as before."""
    bench = Bench(reference, Limits(rows=8, cache_tokens=10_000, chunk_tokens=30))
    widths: list[int] = []
    bench.model.fault = lambda ids, _logits: widths.append(ids.shape[0])
    texts = ["s", "m" * 30, "l" * 70]
    channels = [bench.ask(text) for text in texts]
    for _ in range(steps):
        bench.scheduler.step()
    assert widths == [3] * steps
    channels[gone].cancel()
    bench.scheduler.step()
    assert widths[steps:] == [2]
    bench.run()
    for index in {0, 1, 2} - {gone}:
        assert await text_of(channels[index]) == reference.answer(texts[index], 12)


NO_MEMORY = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"


def short_of_memory(*_: object, **__: object) -> None:
    """Fail as torch does on a processor."""
    raise RuntimeError(NO_MEMORY)


async def test_a_request_that_cannot_be_queued_fails_alone(reference: Reference) -> None:
    """What a request needs before it is read, such as room for its penalties, is its own trouble."""
    bench = Bench(reference)
    good = bench.ask("hi")
    bench.vocabulary.size = 2**60  # no machine has so much memory
    bad = bench.ask("ok", rules=Rules(presence_penalty=1.0))
    bench.run()
    with pytest.raises(OutOfMemory, match="this request"):
        await text_of(bad)
    assert await text_of(good) == reference.answer("hi", 12)


async def test_prompts_without_room_are_tried_alone(
    reference: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When there is no memory to begin reading several prompts each is tried by itself; nobody waits for ever."""
    bench = Bench(reference)
    empty = bench.model.empty
    monkeypatch.setattr(
        bench.model,
        "empty",
        lambda rows, padded=False: short_of_memory() if rows > 1 else empty(rows, padded),
    )
    channels = [bench.ask("hi"), bench.ask("ok")]
    bench.run()
    for channel, text in zip(channels, ("hi", "ok"), strict=True):
        assert await text_of(channel) == reference.answer(text, 12)
    monkeypatch.setattr(bench.model, "empty", short_of_memory)
    channel = bench.ask("hi")
    bench.scheduler.step()
    with pytest.raises(OutOfMemory):
        await text_of(channel)


@pytest.mark.parametrize("change", ["keep_rows", "join"])
async def test_a_batch_that_cannot_change_is_read_again(
    reference: Reference, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    """When a row can't leave or join for want of memory, nobody's answer suffers, the one that is running included."""
    bench = Bench(reference)
    channels = [bench.ask(text, limit) for text, limit in (("hi", 30), ("ok", 4))]
    bench.scheduler.step()
    real = getattr(decoder, change)
    calls = 0

    def first_broken(state: State, other: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > 1:
            return real(state, other)
        state.mask.zero_()  # half done: nobody may go on with it
        return short_of_memory()

    monkeypatch.setattr(decoder, change, first_broken)
    channels.append(bench.ask("yes", 20))
    bench.run()
    assert calls
    for channel, (text, limit) in zip(channels, (("hi", 30), ("ok", 4), ("yes", 20)), strict=True):
        assert await text_of(channel) == reference.answer(text, limit)


async def test_a_token_without_memory_costs_no_answer(reference: Reference) -> None:
    """Rows that can't go on together for want of memory are read again; one that is all alone is told why it ends."""
    bench = Bench(reference)

    def crowded(ids: torch.Tensor, logits: torch.Tensor) -> None:
        if ids.shape[1] == 1 and (ids.shape[0] > 1 or bench.model.passes > 40):
            short_of_memory()

    bench.model.fault = crowded
    channels = [bench.ask("hi", 8), bench.ask("ok", 8)]
    bench.run()
    for channel, text in zip(channels, ("hi", "ok"), strict=True):
        assert await text_of(channel) == reference.answer(text, 8)
    bench.model.passes = 50
    channel = bench.ask("hi")
    bench.run()
    with pytest.raises(OutOfMemory):
        await text_of(channel)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
async def test_a_model_that_fails_at_everything_is_unhealthy(reference: Reference) -> None:
    """When not even the smallest pass succeeds, the thread ends: the rest may go elsewhere, and Ray restarts the replica."""
    bench = Bench(reference, Limits(rows=1, cache_tokens=10_000, chunk_tokens=512))

    def gone(ids: torch.Tensor, logits: torch.Tensor) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    bench.model.fault = gone
    thread: TorchThread[Any] = TorchThread("test")
    jobs = [bench.job("hi"), bench.job("ok")]
    for job in jobs:
        bench.scheduler.add(job)
    assert bench.scheduler.step()
    with pytest.raises(ModelError, match="two tokens"):
        bench.scheduler.step()
    with pytest.raises(ModelError, match="RuntimeError"):
        await text_of(jobs[0].channel)
    await thread.start(lambda: (bench.scheduler, None))
    last = bench.job("yes")
    thread.submit(last)
    with pytest.raises(ReplicaLost) as caught:
        await text_of(last.channel)
    assert "two tokens" in str(caught.value.context["cause"])
    await thread.aclose()
    with pytest.raises(Unavailable, match="has stopped"):
        thread.check()
