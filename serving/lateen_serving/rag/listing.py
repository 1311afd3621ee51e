# SPDX-License-Identifier: Apache-2.0
"""Which documents an index holds: its ledger, read page by page. Called by `retrieve.py`; I/O through `store.Connection`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from weaviate.classes.query import Filter, MetadataQuery, Sort
from weaviate.util import generate_uuid5

from lateen_api import names
from lateen_api.index_build import BuildReport, DocumentFailure
from lateen_serving.rag import schema
from lateen_serving.rag.protocol import PENDING
from lateen_serving.rag.store import Connection, translated

_KEY = "key"
_PROPERTIES = [_KEY, "kind", "content_hash", "chunks", "tokens"]
_WITH_TIME = MetadataQuery(last_update_time=True)


@dataclass(frozen=True)
class IndexedDocument:
    """A document of an index, as its last build left it."""

    id: str
    """`source/path`."""

    at: int
    """When it was indexed, or when it failed; Unix time, seconds."""

    is_pending: bool = False
    """Whether a build is at work on it."""

    chunks: int = 0
    tokens: int = 0
    failure: DocumentFailure | None = None
    """Why its present content is not indexed; what was indexed before may still be there."""


@dataclass(frozen=True)
class DocumentPage:
    """Some documents of an index, by id."""

    documents: Sequence[IndexedDocument]
    has_more: bool


async def page(
    connection: Connection, collection: str, after: str | None, limit: int, *, descending: bool
) -> DocumentPage:
    """At most `limit` documents of the index in `collection`, in the order of their ids, from behind `after` on.

    Of the documents that could not be indexed those are among them that the build's report lists. Raises
    errors.NotFound and errors.Unavailable.
    """
    where = Filter.by_property("kind").equal("document")
    if after is not None:
        order, place = Filter.by_property(schema.ORDER), schema.order(after)
        where = where & (order.less_than(place) if descending else order.greater_than(place))
    async with translated():
        ledger = await connection.collection(names.ledger_collection(collection))
        found = await ledger.query.fetch_objects(
            filters=where,
            sort=Sort.by_property(schema.ORDER, ascending=not descending),
            limit=limit + 1,
            return_properties=_PROPERTIES,
            return_metadata=_WITH_TIME,
        )
    return merged(
        [_document(row) for row in found.objects],
        await _report(connection, collection),
        after,
        limit,
        descending=descending,
    )


async def one(connection: Connection, collection: str, document_id: str) -> IndexedDocument | None:
    """A document of the index in `collection`; None if it has none of that id. Raises as `page` does."""
    async with translated():
        ledger = await connection.collection(names.ledger_collection(collection))
        row = await ledger.query.fetch_object_by_id(
            generate_uuid5(document_id), return_properties=_PROPERTIES
        )
    held = [_document(row)] if row is not None and row.properties["kind"] == "document" else []
    report = await _report(connection, collection)
    found = {each.id: each for each in _overlaid(held, report)}
    return found.get(document_id)


def merged(
    held: Sequence[IndexedDocument],
    report: BuildReport | None,
    after: str | None,
    limit: int,
    *,
    descending: bool,
) -> DocumentPage:
    """A page of the documents `held` (the first behind `after`, one more than `limit` if there are) and of failed ones."""
    found = [
        each
        for each in _overlaid(held, report)
        if after is None or (each.id < after if descending else each.id > after)
    ]
    found.sort(key=lambda each: each.id, reverse=descending)
    return DocumentPage(found[:limit], len(found) > limit)


def _overlaid(held: Sequence[IndexedDocument], report: BuildReport | None) -> list[IndexedDocument]:
    """Documents with their failures, and the failures of others; a whole source that failed is no document."""
    found = {each.id: each for each in held}
    if report is not None:
        at = int(datetime.fromisoformat(report.finished_at).timestamp())
        for failure in report.failures:
            if "/" in failure.document:
                known = found.get(failure.document) or IndexedDocument(failure.document, at)
                found[failure.document] = replace(known, failure=failure)
    return list(found.values())


def _document(row: Any) -> IndexedDocument:
    found = row.properties
    return IndexedDocument(
        found[_KEY],
        int(row.metadata.last_update_time.timestamp()),
        found["content_hash"] == PENDING,
        int(found["chunks"]),
        int(found["tokens"]),
    )


async def _report(connection: Connection, collection: str) -> BuildReport | None:
    async with translated():
        ledger = await connection.collection(names.ledger_collection(collection))
        row = await ledger.query.fetch_object_by_id(generate_uuid5("report"), return_properties=["body"])
    return BuildReport.model_validate_json(row.properties["body"]) if row is not None else None
