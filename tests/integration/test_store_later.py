# SPDX-License-Identifier: Apache-2.0
"""A Weaviate that indexes later, as `ASYNC_INDEXING=true lateen up` starts it: what a build relies on there."""

import asyncio
import os
import secrets
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest
from pydantic import SecretStr

from lateen_api import rag_index
from lateen_api.catalog import Index
from lateen_cli import credentials, ports, probes, tools
from lateen_cli.credentials import Pki
from lateen_cli.parts import weaviate
from lateen_cli.parts.part import Site
from lateen_cli.state import StateDir
from lateen_serving.rag.passages import Search
from lateen_serving.rag.protocol import Chunk, Stamp
from lateen_serving.rag.retrieve import Retriever
from lateen_serving.rag.store import Connection, WeaviateStore
from lateen_serving.settings import ServingSettings

PASSAGES, DIMENSION = 3000, 64


@pytest.fixture
async def settings(tmp_path: Path) -> AsyncIterator[ServingSettings]:
    """How to reach a Weaviate of its own."""
    state = StateDir.at(tmp_path)
    chosen, guard = ports.choose(None)
    programs = tools.locate(os.environ)
    site = Site(
        state=state, ports=chosen, secrets=credentials.generate(), pki=Pki(state.pki), tools=programs,
        cache=tmp_path, cores=1, inherited={**os.environ, "ASYNC_INDEXING": "true"},
    )  # fmt: skip
    site.volume("weaviate").mkdir()
    part = weaviate.describe(site)
    process = await asyncio.create_subprocess_exec(
        *part.command, env=dict(part.environment), stderr=subprocess.DEVNULL
    )
    try:
        await probes.until_ready(part.probe, part.patience)
        yield ServingSettings(
            weaviate_url=f"http://127.0.0.1:{chosen.weaviate}",
            weaviate_grpc_port=chosen.weaviate_grpc,
            weaviate_api_key=SecretStr(site.secrets.weaviate_key),
        )
    finally:
        process.terminate()
        await process.wait()
        guard.close()


def chunk(position: int) -> Chunk:
    """A passage of the only document."""
    return Chunk(
        id=f"00000000-0000-0000-0000-{position:012}", document_id="s/a", source="s", path="a", title="a", heading="",
        position=position, text=str(position), content_hash="1", uri="inline:s/a", embedded=str(position), tokens=1,
    )  # fmt: skip


async def test_a_dynamic_index_is_searched_only_when_it_knows_every_vector(settings: ServingSettings) -> None:
    """After `settle` the last vectors that were written are found like the first."""
    connection = Connection(settings)
    name = f"Later_{secrets.token_hex(4)}"
    store = WeaviateStore(connection, name, rag_index.Store(vector_index="dynamic"))
    await store.ensure()
    await store.put_stamp(Stamp("m", "r", DIMENSION))
    vectors = np.random.default_rng(1).normal(size=(PASSAGES, DIMENSION)).astype(np.float32)
    await store.put_chunks([chunk(position) for position in range(PASSAGES)], vectors)
    await store.settle()
    config = await (await connection.collection(name)).config.get()
    assert config.vector_config["default"].vector_index_config.vector_index_type() == "dynamic"
    retriever = Retriever(settings)
    index = Index.model_validate(
        {"id": "i", "alias": f"{name}_live", "collection": name, "revision": "r", "embedder": "m",
         "embedderRevision": "r", "embedderApplication": "a", "retrieval": {"mode": "Vector"}, "created": 0}
    )  # fmt: skip
    for position in (PASSAGES - 1, PASSAGES // 2, 0):
        found = await retriever.search(index, Search("", vectors[position].tolist(), 1))
        assert [passage.text for passage in found] == [str(position)]
    await retriever.aclose()
    await connection.aclose()
