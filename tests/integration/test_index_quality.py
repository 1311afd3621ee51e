# SPDX-License-Identifier: Apache-2.0
"""The quality check of a build against the real Weaviate: what its indexes find, compared with an exact search."""

import secrets
import uuid
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from lateen_api import names, rag_index
from lateen_serving.rag import quality
from lateen_serving.rag.protocol import Chunk
from lateen_serving.rag.store import Connection, WeaviateStore
from lateen_serving.rag.vectors import WeaviateVectors
from lateen_serving.settings import ServingSettings
from stack.local import LocalStack

COUNT = 1200
DIMENSION = 32


@pytest.fixture
async def connection(stack: LocalStack) -> AsyncIterator[Connection]:
    """To the stack's Weaviate."""
    made = Connection(
        ServingSettings(
            weaviate_url=f"http://127.0.0.1:{stack.ports.weaviate}",
            weaviate_grpc_port=stack.ports.weaviate_grpc,
            weaviate_api_key=SecretStr(stack.secrets.weaviate_key),
        )
    )
    yield made
    await made.aclose()


@pytest.fixture
async def collection(connection: Connection) -> AsyncIterator[str]:
    """Name of a collection that is removed afterwards, with its ledger."""
    name = f"Quality_test_{secrets.token_hex(4)}"
    yield name
    await (await connection.client()).collections.delete([name, names.ledger_collection(name)])


def chunk(number: int) -> Chunk:
    """A passage."""
    return Chunk(
        id=str(uuid.uuid5(uuid.NAMESPACE_URL, str(number))), document_id=f"s/{number}", source="s", path="p", title="t",
        heading="", position=0, text="text", content_hash="1", uri="u", embedded="text", tokens=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("store", "least", "most"),
    [
        ({"shards": 2}, 0.95, 1.0),
        ({"vectorIndex": "flat", "distance": "dot"}, 1.0, 1.0),
        ({"compression": "bq", "distance": "l2-squared"}, 0.05, 0.9),
    ],
    ids=["hnsw", "flat", "bq"],
)
async def test_the_recall_of_a_collection_is_measured(
    connection: Connection, collection: str, store: dict[str, Any], least: float, most: float
) -> None:
    """A graph of whole vectors finds nearly all, a flat index all, and one of single bits loses many; every passage is
    counted, over pages and shards.
    """
    settings = rag_index.Store.model_validate(store)
    made = WeaviateStore(connection, collection, settings)
    await made.ensure()
    vectors = np.random.default_rng(7).normal(size=(COUNT, DIMENSION)).astype(np.float32)
    await made.put_chunks([chunk(number) for number in range(COUNT)], vectors)
    found = await quality.measure(
        WeaviateVectors(connection, collection), settings.distance, DIMENSION, rag_index.Quality(samples=50)
    )
    assert (found.objects, found.dimension) == (COUNT, DIMENSION)
    assert found.recall is not None
    assert found.recall.samples >= 45
    assert least <= found.recall.value <= most
