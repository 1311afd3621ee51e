# SPDX-License-Identifier: Apache-2.0
"""The shape of an index's two collections in Weaviate. Pure; called by `store.py`.

A change of the properties needs a new `lateen_api.rag_index.LAYOUT`: collections are rebuilt, never altered.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from weaviate.classes.config import Configure, DataType, Property, Tokenization, VectorDistances
from weaviate.classes.data import DataObject
from weaviate.util import generate_uuid5

from lateen_api.rag_index import Store
from lateen_serving.rag.attributes import Value, tags
from lateen_serving.rag.protocol import Chunk, Entry, Facts
from lateen_serving.rag.where import TAGS

SEARCHED = ["text", "heading", "title"]
"""Properties that keyword search looks at."""

RETURNED = [
    *("document_id", "source", "path", "title", "heading", "position", "text", "uri", "tokens"),
    *("page", "start", "end", "updated_at", "language", "metadata"),
]
"""Properties of a row."""

PLACE = "place"
"""Property that finds one passage of one document."""

ORDER = "order"
"""Property of the ledger by which it is sorted."""

_QUANTIZERS: dict[str, Any] = {
    "none": Configure.VectorIndex.Quantizer.none,
    "rq": Configure.VectorIndex.Quantizer.rq,
    "bq": Configure.VectorIndex.Quantizer.bq,
    "pq": Configure.VectorIndex.Quantizer.pq,
}


def place(document_id: str, position: int) -> str:
    """Identifies the passage at `position` of a document."""
    return f"{position} {document_id}"


def order(key: str) -> str:
    """Sorts as `key` does. Weaviate sorts texts by rules of its own; digits are the same to all."""
    return key.encode().hex()


def exact(name: str, kind: DataType = DataType.TEXT) -> Property:
    """A property that filters compare as a whole."""
    return Property(name=name, data_type=kind, tokenization=Tokenization.FIELD, index_searchable=False)


def _searchable(name: str, tokenization: Tokenization) -> Property:
    return Property(name=name, data_type=DataType.TEXT, tokenization=tokenization, index_filterable=False)


def _plain(name: str, kind: DataType = DataType.TEXT) -> Property:
    searchable = False if kind is DataType.TEXT else None
    return Property(name=name, data_type=kind, index_filterable=False, index_searchable=searchable)


def chunk_properties(store: Store) -> list[Property]:
    """Those of a collection of passages."""
    tokenization = Tokenization(store.tokenization)
    return [
        *(_searchable(name, tokenization) for name in SEARCHED),
        *(exact(name) for name in ("document_id", "source", "path", "content_hash", PLACE)),
        exact(TAGS, DataType.TEXT_ARRAY),
        *(
            _plain(name, DataType.INT)
            for name in ("position", "tokens", "page", "start", "end", "updated_at")
        ),
        *(_plain(name) for name in ("uri", "language", "metadata")),
    ]


LEDGER_PROPERTIES = [
    exact("kind"),
    exact("key"),
    exact(ORDER),
    _plain("content_hash"),
    _plain("chunks", DataType.INT),
    _plain("tokens", DataType.INT),
    _plain("body"),
]


ENTRY_PROPERTIES = ["kind", "key", "content_hash", "chunks", "tokens", "body"]
"""Properties of the ledger that an entry is made of."""


def vector_index(store: Store) -> Any:
    """The index of a collection's vectors."""
    distance = VectorDistances(store.distance)
    quantizer = _QUANTIZERS[store.compression]()
    if store.vector_index == "hnsw":
        return Configure.VectorIndex.hnsw(distance_metric=distance, quantizer=quantizer)
    flat = Configure.VectorIndex.flat(distance_metric=distance, quantizer=quantizer)
    if store.vector_index == "flat":
        return flat
    hnsw = Configure.VectorIndex.hnsw(distance_metric=distance, quantizer=quantizer)
    return Configure.VectorIndex.dynamic(distance_metric=distance, hnsw=hnsw, flat=flat)


def attributes(properties: Mapping[str, Any]) -> dict[str, Value]:
    """The attributes that filters may name: the document's own, and those that every document has.

    `properties` are those of a row, with `metadata` as a mapping. Ours win over the document's own of the same name.
    """
    ours = {
        "source": properties["source"],
        "filename": properties["path"],
        "title": properties["title"],
        "uri": properties["uri"],
        "language": properties["language"] or None,
        "page": properties["page"],
        "updated_at": properties["updated_at"],
    }
    known = {name: value for name, value in ours.items() if value is not None}
    return {**properties["metadata"], **known}


def _unix(time: str) -> int | None:
    """Unix time, seconds, of an RFC 3339 time (UTC where it names no zone); None where there is none, or what a document's
    author wrote is no time.
    """
    try:
        found = datetime.fromisoformat(time)
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        return None


def chunk_row(chunk: Chunk, vector: list[float]) -> Any:
    """A passage as an object of Weaviate."""
    found = {name: getattr(chunk, name) for name in (*RETURNED, "content_hash")}
    found["updated_at"] = _unix(chunk.updated_at)
    if chunk.end == 0:
        found |= {"start": None, "end": None}
    written = {name: value for name, value in found.items() if value is not None}
    written |= {
        "metadata": json.dumps(dict(chunk.metadata), ensure_ascii=False),
        TAGS: tags(attributes(found)),
        PLACE: place(chunk.document_id, chunk.position),
    }
    return DataObject(properties=written, uuid=chunk.id, vector=vector)


def entry(properties: Mapping[str, Any]) -> Entry:
    """What a row of the ledger says of a document."""
    return Entry(
        document_id=properties["key"],
        content_hash=properties["content_hash"],
        chunks=int(properties["chunks"]),
        tokens=int(properties["tokens"]),
        facts=Facts(**json.loads(properties["body"] or "{}")),
    )


def ledger_row(
    kind: str, key: str, *, content_hash: str = "", chunks: int = 0, tokens: int = 0, body: str = ""
) -> Any:
    """Something in the ledger, by its key, as an object of Weaviate."""
    numbers = {"chunks": chunks, "tokens": tokens}
    about = {"kind": kind, "key": key, ORDER: order(key)}
    properties = {**about, "content_hash": content_hash, "body": body, **numbers}
    return DataObject(properties=properties, uuid=generate_uuid5(key))


def entry_row(entry: Entry) -> Any:
    """A document in the ledger."""
    return ledger_row(
        "document",
        entry.document_id,
        content_hash=entry.content_hash,
        chunks=entry.chunks,
        tokens=entry.tokens,
        body=json.dumps(asdict(entry.facts), sort_keys=True),
    )
