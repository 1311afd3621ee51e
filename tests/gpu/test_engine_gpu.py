# SPDX-License-Identifier: Apache-2.0
"""Generation and embedding on a GPU: the same answers as on a CPU. `hack/test gpu` runs it where there is one."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import torch

from engine_models import Reference, request, save_bert, save_cross_encoder, save_llama
from lateen_serving.engine.embedder import TextEmbedder
from lateen_serving.engine.generator import TextGenerator
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.protocol import TokenEvent
from lateen_serving.engine.reranker import TextReranker

TEXTS = ["hi", "a longer question about ships", "x", "what is the capital of France?"]


async def collect(events: AsyncIterator[TokenEvent]) -> str:
    """The whole text."""
    return "".join([event["text"] async for event in events])


async def test_a_batch_on_a_gpu_answers_as_one_by_one_on_a_cpu(tmp_path: Path) -> None:
    """In float32, requests that share a batch on the GPU answer as transformers does on the CPU."""
    reference = Reference(save_llama(tmp_path))
    engine = await TextGenerator.create(LoadOptions(tmp_path, device="cuda", dtype="float32"))
    got = await asyncio.gather(*(collect(engine.generate(request(text))) for text in TEXTS))
    await engine.aclose()
    assert list(got) == [reference.answer(text) for text in TEXTS]


async def test_a_seed_repeats_an_answer_on_a_gpu(tmp_path: Path) -> None:
    """The same seed gives the same answer alone and in company, in bfloat16."""
    engine = await TextGenerator.create(LoadOptions(save_llama(tmp_path), device="cuda"))
    assert engine.describe()["dtype"] == "bfloat16"
    seeded = request("hi", seed=3, temperature=1.0, top_p=0.9)
    alone = await collect(engine.generate(seeded))
    crowd = [request(text, temperature=1.0) for text in TEXTS]
    together = await asyncio.gather(*(collect(engine.generate(one)) for one in [*crowd, seeded]))
    await engine.aclose()
    assert together[-1] == alone


async def test_vectors_of_a_gpu_equal_those_of_a_cpu(tmp_path: Path) -> None:
    """Embeddings in float32 agree between devices, and the GPU holds the weights."""
    folder = save_bert(tmp_path, pooling="mean_tokens")
    vectors = []
    for device in ("cpu", "cuda"):
        engine = await TextEmbedder.create(LoadOptions(folder, device=device, dtype="float32"))
        vectors.append((await engine.embed(TEXTS))["vectors"])
        if device == "cuda":
            assert torch.cuda.memory_allocated() > 0
        await engine.aclose()
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-3)


async def test_scores_of_a_gpu_equal_those_of_a_cpu(tmp_path: Path) -> None:
    """Reranking in float32 agrees between devices."""
    folder = save_cross_encoder(tmp_path)
    scores = []
    for device in ("cpu", "cuda"):
        engine = await TextReranker.create(LoadOptions(folder, device=device, dtype="float32"))
        scores.append((await engine.rerank("who sails?", TEXTS))["scores"])
        await engine.aclose()
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-3)
