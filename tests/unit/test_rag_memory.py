# SPDX-License-Identifier: Apache-2.0
"""Memory of an index build: bounded by its windows, apart from ids and hashes."""

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lateen_serving.engine.protocol import Embeddings
from lateen_serving.rag.protocol import Chunk, Entry
from lateen_serving.rag.sources import Surroundings
from lateen_serving.rag.sync import Synchronization
from lateen_serving.settings import ServingSettings
from unit.rag_fakes import DirectParser, MemoryCursors, MemoryStore, WordEmbedder
from unit.test_rag_sync import request

FEW, MANY = 200, 800
BYTES_PER_DOCUMENT = 2_000
"""As `docs/documents.md` promises."""

TEXT = "must not stay in memory " * 5


class Sink(MemoryStore):
    """Keeps no chunks and no ledger, as if they were in Weaviate."""

    async def put_chunks(self, chunks: Sequence[Chunk], vectors: npt.NDArray[np.float32]) -> None:
        """Gone."""

    async def put_entries(self, entries: Sequence[Entry]) -> None:
        """Gone."""


class Forgetful(WordEmbedder):
    """Keeps no texts."""

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        found = await super().embed(texts)
        self.embedded.clear()
        return found


async def _peak(folder: Path, documents: int) -> int:
    """Most bytes that a first build of so many documents has at once."""
    volume = folder / "volumes" / "claim"
    volume.mkdir(parents=True)
    for number in range(documents):
        (volume / f"note-{number:05}.txt").write_text(f"{number} {TEXT}")
    asked = request([{"name": "s", "pvc": {"claimName": "claim"}}])
    settings = ServingSettings(volumes=folder / "volumes")
    around = Surroundings(settings, folder / "job", folder / "scratch", 4096)
    parser = DirectParser(asked.pipeline)
    run = Synchronization(asked, Sink(), Forgetful(), parser, around, remembered=MemoryCursors())
    tracemalloc.start()
    try:
        report = await run.run()
        assert report.documents == documents
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_memory_grows_by_ids_and_hashes_only(tmp_path: Path) -> None:
    """Hundreds of documents more need less than the promised bytes each: neither texts nor chunks nor vectors stay."""
    await _peak(tmp_path / "warm", 40)  # what is imported and cached once
    few = await _peak(tmp_path / "few", FEW)
    many = await _peak(tmp_path / "many", MANY)
    assert (many - few) / (MANY - FEW) < BYTES_PER_DOCUMENT
