# SPDX-License-Identifier: Apache-2.0
"""The scheduler step by step, in this thread."""

import asyncio
import threading

import pytest
import torch

from engine_models import Reference, save_llama
from lateen_serving.engine.jobs import RoomJob
from lateen_serving.engine.scheduler import Limits
from lateen_serving.errors import Unavailable
from unit.engine_bench import Bench, text_of


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """What transformers answers."""
    return Reference(save_llama(tmp_path_factory.mktemp("llama")))


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


async def test_a_first_token_is_sent_before_the_next_pass_begins(reference: Reference) -> None:
    """Whoever waits for the first token does not also wait for the second."""
    bench = Bench(reference)
    received, in_time = threading.Event(), []

    def watch(ids: torch.Tensor, _logits: torch.Tensor) -> None:
        if ids.shape[1] == 1:
            in_time.append(received.wait(10))

    bench.model.fault = watch
    channel = bench.ask("hi", limit=2)
    step = asyncio.get_running_loop().run_in_executor(None, bench.scheduler.step)
    assert await channel.receive()
    received.set()
    await step
    assert in_time == [True]


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
