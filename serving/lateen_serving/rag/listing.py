# SPDX-License-Identifier: Apache-2.0
"""Which documents an index holds, or is about to: its ledger and what clients have pushed, read page by page.

Called by `retrieve.py`; I/O through `store.Connection` and `pushes.py`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from weaviate.classes.query import Filter, MetadataQuery, Sort
from weaviate.util import generate_uuid5

from lateen_api import names
from lateen_api.catalog import Index
from lateen_api.index_build import BuildReport, DocumentFailure
from lateen_serving.rag import ids, pushes, schema
from lateen_serving.rag.protocol import PENDING
from lateen_serving.rag.pushes import Push
from lateen_serving.rag.store import Connection, translated

Status = Literal["in_progress", "completed", "failed"]

_KEY = "key"
_PROPERTIES = [_KEY, "kind", "content_hash", "chunks", "tokens"]
_WITH_TIME = MetadataQuery(last_update_time=True)
_SIFTED = 1000
"""Documents that are looked at together for those of one status."""


@dataclass(frozen=True)
class IndexedDocument:
    """A document of an index, as its last build left it."""

    id: str
    """`source/path`, or `source//file-…` where a client has pushed it."""

    at: int
    """When it was indexed, pushed, or when it failed; Unix time, seconds."""

    is_pending: bool = False
    """Whether a build is at work on it, or has to be."""

    chunks: int = 0
    tokens: int = 0
    failure: DocumentFailure | None = None
    """Why its present content is not indexed; what was indexed before may still be there."""

    push: Push | None = None
    """What the client said who pushed it."""

    @property
    def status(self) -> Status:
        """OpenAI's word for how far it is."""
        if self.failure is not None:
            return "failed"
        return "in_progress" if self.is_pending else "completed"


@dataclass(frozen=True)
class Wanted:
    """Which documents are asked for, in the order of their ids. Not both `after` and `before`."""

    limit: int
    after: str | None = None
    before: str | None = None
    """Those right before this one."""
    descending: bool = False
    status: str | None = None


@dataclass(frozen=True)
class DocumentPage:
    """Some documents of an index, by id."""

    documents: Sequence[IndexedDocument]
    has_more: bool


@dataclass(frozen=True)
class Told:
    """What is known beside the ledger."""

    report: BuildReport | None = None
    pushed: Mapping[str, Push] = field(default_factory=dict)
    """What clients have pushed, by the document's id."""
    is_settled: bool = False
    """Whether the last build has seen all that clients have pushed."""
    keeps: bool = True
    """Whether what is not pushed any more may stay."""


async def page(connection: Connection, index: Index, wanted: Wanted) -> DocumentPage:
    """A page of the documents of `index`; of those that could not be indexed those that the build's report lists.

    Raises errors.NotFound and errors.Unavailable.
    """
    if wanted.before is not None:
        back = replace(wanted, after=wanted.before, before=None, descending=not wanted.descending)
        found = await page(connection, index, back)
        return DocumentPage(found.documents[::-1], found.has_more)
    size = wanted.limit + 1 if wanted.status is None else max(wanted.limit + 1, _SIFTED)
    documents: list[IndexedDocument] = []
    place, is_last = wanted.after, False
    while not is_last and len(documents) <= wanted.limit:
        rows, place = await _span(connection, index, place, size, descending=wanted.descending)
        documents += [row for row in rows if wanted.status in (None, row.status)]
        is_last = place is None
    return DocumentPage(documents[: wanted.limit], len(documents) > wanted.limit)


async def _span(
    connection: Connection, index: Index, after: str | None, size: int, *, descending: bool
) -> tuple[list[IndexedDocument], str | None]:
    """Some documents behind `after`, in order, and the id up to which these are all; None: there are no more."""
    # In this order: what a build does in between makes documents look unfinished, never failed.
    pushed = await _pushed(connection, index, after, size, descending=descending)
    told = await _told(connection, index, pushed)
    held = await _held(connection, index, after, size, descending=descending)
    full = [found for found in ([each.id for each in held], list(told.pushed)) if len(found) == size]
    ends = [found[-1] for found in full]
    end = (max(ends) if descending else min(ends)) if ends else None
    return span(held, told, after, end, descending=descending), end


async def one(connection: Connection, index: Index, document_id: str) -> IndexedDocument | None:
    """A document of `index`; None if it has none of that id. Raises as `page` does."""
    file, found = ids.public(document_id), None
    if index.pushed is not None and ids.is_file(file) and await _is_kept(connection, index):
        found = await pushes.one(connection, index.pushed.collection, file)
    told = await _told(connection, index, [found] if found is not None else [])
    async with translated():
        ledger = await connection.collection(names.ledger_collection(index.collection))
        row = await ledger.query.fetch_object_by_id(
            generate_uuid5(document_id), return_properties=_PROPERTIES
        )
    held = [_document(row)] if row is not None and row.properties["kind"] == "document" else []
    documents = span(held, told, None, None, descending=False)
    return next((each for each in documents if each.id == document_id), None)


def span(
    held: Sequence[IndexedDocument],
    told: Told,
    after: str | None,
    end: str | None,
    *,
    descending: bool,
) -> list[IndexedDocument]:
    """The documents behind `after` and up to `end`, in order: those `held`, pushed ones, and failed ones.

    `held` and `told.pushed` have all there are in between. What clients have taken out again is left out.
    """
    documents = _overlaid(held, told)
    behind: Callable[[str, str], bool] = (lambda a, b: a < b) if descending else (lambda a, b: a > b)
    found = [
        each
        for each in documents
        if (after is None or behind(each.id, after)) and (end is None or not behind(each.id, end))
    ]
    return sorted(found, key=lambda each: each.id, reverse=descending)


def _overlaid(held: Sequence[IndexedDocument], told: Told) -> list[IndexedDocument]:
    """Documents with their failures, and the failures of others; a whole source that failed is no document."""
    found = {each.id: each for each in held}
    if told.report is not None:
        at = int(datetime.fromisoformat(told.report.finished_at).timestamp())
        for failure in told.report.failures:
            if "/" in failure.document:
                known = found.get(failure.document) or IndexedDocument(failure.document, at)
                found[failure.document] = replace(known, failure=failure)
    for key, push in told.pushed.items():
        document = found.get(key) or _coming(key, push, told)
        if _is_outdated(document, push, told):
            document = replace(document, is_pending=True, failure=None)
        found[key] = replace(document, push=push)
    return [each for each in found.values() if each.push is not None or not _is_taken_out(each, told)]


def _is_taken_out(document: IndexedDocument, told: Told) -> bool:
    """Whether a client had pushed a document that is not pushed any more; the index may keep such documents."""
    return not told.keeps and ids.public(document.id) != document.id


def _is_outdated(document: IndexedDocument, push: Push, told: Told) -> bool:
    """Whether what is known of a document is older than what the client said last: a build is still to come."""
    if told.is_settled or told.report is None:
        return False
    if push.changed <= datetime.fromisoformat(told.report.started_at).timestamp() * 1000:
        return False
    return document.failure is not None or document.at < push.changed // 1000


def _coming(key: str, push: Push, told: Told) -> IndexedDocument:
    """A pushed document that is not indexed."""
    failure = _unlisted(key) if told.is_settled else None
    return IndexedDocument(key, push.changed // 1000, failure is None, failure=failure)


def _unlisted(key: str) -> DocumentFailure:
    """Of a document that the last build has seen and neither indexed nor named."""
    message = "it could not be indexed, like so many that the build does not list it."
    return DocumentFailure(document=key, reason="Unreadable", message=message)


async def _held(
    connection: Connection, index: Index, after: str | None, size: int, *, descending: bool
) -> list[IndexedDocument]:
    where = Filter.by_property("kind").equal("document")
    if after is not None:
        order, place = Filter.by_property(schema.ORDER), schema.order(after)
        where = where & (order.less_than(place) if descending else order.greater_than(place))
    async with translated():
        ledger = await connection.collection(names.ledger_collection(index.collection))
        found = await ledger.query.fetch_objects(
            filters=where,
            sort=Sort.by_property(schema.ORDER, ascending=not descending),
            limit=size,
            return_properties=_PROPERTIES,
            return_metadata=_WITH_TIME,
        )
    return [_document(row) for row in found.objects]


async def _pushed(
    connection: Connection, index: Index, after: str | None, size: int, *, descending: bool
) -> list[Push]:
    """The first `size` pushed documents behind the document `after`."""
    if index.pushed is None or not await _is_kept(connection, index):
        return []
    start, file = ids.of_document(index.pushed.source, ""), None
    if after is not None and after.startswith(start):
        file = after.removeprefix(start)
    elif after is not None and (after < start if descending else after > start):
        return []
    return await pushes.page(connection, index.pushed.collection, file, size, descending=descending)


async def _is_kept(connection: Connection, index: Index) -> bool:
    """Whether there is a place for pushed documents already; a build makes it."""
    return index.pushed is not None and await pushes.exists(connection, index.pushed.collection)


async def _told(connection: Connection, index: Index, found: Sequence[Push]) -> Told:
    """What is known beside the ledger, given the pushed documents."""
    pushed = index.pushed
    if pushed is None or not found:
        return Told(await _report(connection, index.collection), keeps=pushed is None or pushed.keeps)
    state = await pushes.state(connection, pushed.collection)
    report = await _report(connection, index.collection)
    sources = report.sources if report is not None else []
    seen = next((each.cursor for each in sources if each.name == pushed.source), None)
    by_id = {ids.of_document(pushed.source, push.file): push for push in found}
    return Told(report, by_id, is_settled=seen == state, keeps=pushed.keeps)


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
