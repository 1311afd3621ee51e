# SPDX-License-Identifier: Apache-2.0
"""Failures inside the model: they end the request that they belong to, and no other."""

from typing import Any

import pytest
import torch

from engine_models import Reference, save_llama
from lateen_serving.engine import decoder
from lateen_serving.engine.decoder import State
from lateen_serving.engine.jobs import Rules
from lateen_serving.engine.scheduler import Limits
from lateen_serving.engine.thread import TorchThread
from lateen_serving.errors import ModelError, OutOfMemory, ReplicaLost, Unavailable
from unit.engine_bench import Bench, text_of


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What transformers answers."""
    return Reference(save_llama(tmp_path_factory.mktemp("llama")))


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


OTHERS = ("hi", "ok", "a longer question", "yes")


@pytest.mark.parametrize("step", [1, 4, 9])
async def test_a_row_that_fails_while_it_is_answered_fails_alone(reference: Reference, step: int) -> None:
    """One row breaks a shared pass: it ends with its error, the others go on token for token and share passes again."""
    bench = Bench(reference)
    seen: list[tuple[int, bool]] = []

    def explode(ids: torch.Tensor, logits: torch.Tensor) -> None:
        if ids.shape[1] > 1:
            return
        seen.append((len(ids), "bad" in bench.model.keys))
        if "bad" in bench.model.keys and len(seen) >= step:
            raise RuntimeError("out of luck")

    bench.model.fault = explode
    bad = bench.ask("Z", limit=20, adapter="bad")
    others = [bench.ask(text, limit=20) for text in OTHERS]
    bench.run()
    for channel, text in zip(others, OTHERS, strict=True):
        assert await text_of(channel) == reference.answer(text, 20)
    with pytest.raises(ModelError, match="RuntimeError"):
        await text_of(bad)
    assert (len(OTHERS), False) in seen, "the others did not share a pass again"
    assert sum(rows > 1 and is_bad for rows, is_bad in seen[step - 1 :]) == 1, "it broke a second shared pass"


async def test_rows_that_only_fail_together_stay_apart(reference: Reference) -> None:
    """Where every shared pass fails and every single one succeeds, each row is answered by itself, whole."""
    bench = Bench(reference)

    def explode(ids: torch.Tensor, logits: torch.Tensor) -> None:
        if len(ids) > 1:
            raise RuntimeError("not together")

    bench.model.fault = explode
    channels = [bench.ask(text, limit=20) for text in OTHERS]
    bench.run()
    for channel, text in zip(channels, OTHERS, strict=True):
        assert await text_of(channel) == reference.answer(text, 20)


async def test_a_fault_that_hits_every_row_ends_every_row(reference: Reference) -> None:
    """After three tokens no row can be answered any more: each ends with the typed error, and none is tried for ever."""
    bench = Bench(reference)
    passes = 0

    def explode(ids: torch.Tensor, logits: torch.Tensor) -> None:
        nonlocal passes
        passes += ids.shape[1] == 1
        if ids.shape[1] == 1 and passes > 3:
            raise RuntimeError("out of luck")

    bench.model.fault = explode
    channels = [bench.ask(text, limit=20) for text in OTHERS]
    bench.run()
    for channel in channels:
        with pytest.raises(ModelError, match="RuntimeError"):
            await text_of(channel)
    assert passes == 4 + len(OTHERS)


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
