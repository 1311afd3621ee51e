# SPDX-License-Identifier: Apache-2.0
"""Brings one collection to the state of its sources. Called by `build.py`; knows neither Ray nor Weaviate.

What makes it safe to kill at any moment: before a document's chunks are touched its ledger entry becomes pending,
and only after all its chunks are right it gets the content's hash. A pending document is done again by the next
run; chunk ids depend on document, position and content, so that doing it again writes the same objects.

    pending --(chunks written, stale ones deleted)--> indexed        removed: pending --(chunks deleted)--> no entry
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import structlog

from lateen_api.index_build import (
    MAX_LISTED_FAILURES,
    BuildReport,
    BuildRequest,
    DocumentFailure,
    DocumentFailureReason,
    QualityReport,
    SourceReport,
)
from lateen_api.quantities import quantity
from lateen_serving.rag import (
    cursors,
    pacing,
    planning,
    quality,
    reading,
    sidecars,
    sieve,
    source_reports,
    sources,
)
from lateen_serving.rag.bounded import Turns, each
from lateen_serving.rag.cutting import Content, Cutter
from lateen_serving.rag.parsing.parsed import Raw, Refused
from lateen_serving.rag.protocol import (
    PENDING,
    BuildFailure,
    Chunk,
    Cursors,
    Document,
    Embedder,
    Entry,
    Facts,
    Loaded,
    Parser,
    SourceFailure,
    Stamp,
    Store,
)  # fmt: skip

WINDOWS_AT_ONCE = 2
"""While one window waits for the embedder, the other is read or written."""

EMBED_TEXTS, EMBED_CALLS = pacing.TEXTS, pacing.CALLS
"""Texts embedded and stored together, and how many such batches are under way."""

READS_AT_ONCE = 8

_PERHAPS_OURS = frozenset({"Crashed", "TooComplex"})
"""Reasons that a machine without memory or time gives too: what is indexed of such a document stays."""


log = structlog.get_logger()


@dataclass
class _Tally:
    """What a run has seen and done so far."""

    ledger: dict[str, Entry] = field(default_factory=dict)
    failures: list[DocumentFailure] = field(default_factory=list)
    loaded: dict[str, Loaded] = field(default_factory=dict)
    """By source, of those that could be read."""
    counts: source_reports.Counts = field(default_factory=source_reports.Counts)
    embedded: int = 0
    embedded_tokens: int = 0
    removed: int = 0


@dataclass(frozen=True)
class _Done:
    """A document that was read and judged."""

    content: Content
    facts: Facts
    chunks: Sequence[Chunk]

    @property
    def entry(self) -> Entry:
        """What the ledger says of it once its chunks are right."""
        tokens = sum(chunk.tokens for chunk in self.chunks)
        content = self.content
        return Entry(content.document.id, content.content_hash, len(self.chunks), tokens, self.facts)


class Synchronization:
    """One run. `run` is called once."""

    def __init__(
        self,
        request: BuildRequest,
        store: Store,
        embedder: Embedder,
        parser: Parser,
        around: sources.Surroundings,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        remembered: Cursors | None = None,
        vectors: quality.Vectors | None = None,
    ) -> None:
        """`remembered` keeps what saves the next run work: without it every source is read anew. `vectors` are the
        collection's: without them its quality is not looked at.
        """
        self._request = request
        self._store = store
        self._embedder = embedder
        self._parser = parser
        self._around = around
        self._now = now
        self._remembered = remembered
        self._vectors = vectors
        self._kept: dict[str, cursors.Kept] = {}
        self._largest = int(quantity(request.parsing.max_document_bytes))
        self._calls = asyncio.Semaphore(EMBED_CALLS)
        self._tally = _Tally()
        self._sieve = sieve.Sieve(request.pipeline)
        self._turns = Turns()
        self._cutter: Cutter
        self._dimension = 0

    async def run(self) -> BuildReport:
        """Synchronize; raises BuildFailure when it can't be finished."""
        started = self._now()
        await self._open()
        changed, removed = await self._planned()
        await self._index(changed)
        await self._remove(removed)  # only now: a renamed document is found under one name or the other
        await self._store.settle()
        report = self._report(started, await self._quality())
        if self._remembered is not None:
            await self._remembered.write(cursors.encode(self._kept))
        await self._store.put_report(report)
        return report

    async def _planned(self) -> tuple[list[Document], Sequence[str]]:
        """The documents to index, and the ids of those to remove."""
        documents, keep = await self._load()
        digests, unreadable = await self._digests(documents.values())
        todo = planning.plan(self._tally.ledger, digests, unreadable=unreadable, kept_sources=keep)
        log.info("planned", changed=len(todo.changed), removed=len(todo.removed), kept=len(todo.kept))
        ledger = self._tally.ledger
        self._sieve.remember(ledger[key] for key in todo.kept)
        self._tally.ledger = {key: entry.brief() for key, entry in ledger.items()}
        return [documents[key] for key in todo.changed], todo.removed

    async def _open(self) -> None:
        """Make the collection ready and believe of its ledger what its chunks confirm."""
        about = await self._embedder.describe()
        self._cutter = Cutter(self._embedder, self._request.chunking, about["max_tokens"])
        self._dimension = about["dimension"]
        await self._store.ensure()
        stamp = Stamp(self._request.embedder, self._request.embedder_revision, about["dimension"])
        known = await self._store.stamp()
        if known is None:
            await self._store.put_stamp(stamp)
        elif known != stamp:
            raise BuildFailure("BuildFailed", f"the collection holds vectors of {known}, not of {stamp}")
        self._tally.ledger = await self._believed()

    async def _believed(self) -> dict[str, Entry]:
        """The ledger; after a crash, or when the number of chunks is not what it says, compared chunk by chunk."""
        ledger = await self._store.entries()
        pending = any(entry.content_hash == PENDING for entry in ledger.values())
        if pending or await self._store.count() != sum(entry.chunks for entry in ledger.values()):
            ledger, orphans = planning.distrust(ledger, await self._store.count_by_document())
            log.info(
                "repairing",
                pending=sum(e.content_hash == PENDING for e in ledger.values()),
                orphans=len(orphans),
            )
            await self._store.drop_chunks(orphans)
        return ledger

    async def _load(self) -> tuple[dict[str, Document], set[str]]:
        """All documents by id, and the names of sources of which nothing that is indexed may go."""
        if self._remembered is not None:
            self._kept = cursors.decode(await self._remembered.read())
        documents: dict[str, Document] = {}
        keep: set[str] = set()
        if self._request.sync.delete_policy == "Keep":
            keep = {source.name for source in self._request.sources}
        for source in self._request.sources:
            known = self._kept.get(source.name)
            cursor = cursors.cursor(
                known, cursors.settings(source, reading.FORMAT), source.name, self._tally.ledger
            )
            try:
                loaded = await sources.load(source, self._around, cursor)
            except SourceFailure as error:
                keep.add(source.name)
                self._fail(source.name, error.reason, str(error))
                continue
            if loaded.unchanged or loaded.incomplete:
                keep.add(source.name)
            loaded = replace(loaded, documents=sidecars.paired(loaded.documents, cursor))
            documents |= {document.id: document for document in loaded.documents}
            self._tally.failures.extend(loaded.failures)
            self._tally.loaded[source.name] = loaded
            log.info("loaded", source=source.name, documents=len(loaded.documents), same=loaded.unchanged)
        return documents, keep

    async def _digests(self, documents: Iterable[Document]) -> tuple[dict[str, str], set[str]]:
        """Content hash by document id, and the ids of documents that can't be read now."""
        digests: dict[str, str] = {}
        unreadable = {item.document for item in self._tally.failures if item.reason == "Unreadable"}

        async def digest(document: Document) -> None:
            if document.unchanged:
                digests[document.id] = self._tally.ledger[document.id].content_hash
                return
            size = max(document.size, document.sidecar.size if document.sidecar else 0)
            if size > self._largest:
                message = f"{size} bytes; spec.parsing.maxDocumentBytes allows {self._largest}"
                self._fail(document.id, "TooLarge", message)
                return
            try:
                digests[document.id] = reading.content_hash(document, await reading.read(document))
            except OSError as error:
                unreadable.add(document.id)
                self._fail(document.id, "Unreadable", f"it can't be read: {type(error).__name__}")

        await each(documents, digest, READS_AT_ONCE)
        return digests, unreadable - digests.keys()

    async def _index(self, documents: Sequence[Document]) -> None:
        await each(enumerate(reading.windows(documents)), self._window, WINDOWS_AT_ONCE)

    async def _window(self, window: tuple[int, Sequence[Document]]) -> None:
        """Index some documents: all of them are right, and in the ledger, when this returns."""
        number, documents = window
        contents, gone = await self._contents(documents)
        await self._turns.wait(number)  # of two duplicates the first by id stays, whichever is read first
        facts = [self._sieve.judge(content) for content in contents]
        self._turns.done(number)
        indexed = [content for content, found in zip(contents, facts, strict=True) if found.fate == "Indexed"]
        chunks = iter(await self._cutter.cut(indexed))
        done = []
        for content, found in zip(contents, facts, strict=True):
            own = next(chunks) if found.fate == "Indexed" else []
            if own or found.fate != "Indexed":
                done.append(_Done(content, found, own))
            else:
                self._fail(content.document.id, "Empty", "the embedder finds no token in it")
                gone.append(content.document.id)
        await self._replace(done)
        await self._remove([key for key in gone if key in self._tally.ledger])
        log.info("indexed", documents=len(documents), embedded=self._tally.embedded)

    async def _contents(self, documents: Sequence[Document]) -> tuple[list[Content], list[str]]:
        """The documents that could be read, and the ids of those that surely have no text."""
        hashes: list[str] = []
        there: list[Document] = []
        files: list[Raw] = []
        for document in documents:
            try:
                file = await reading.read(document)
            except OSError as error:
                self._fail(document.id, "Unreadable", f"it can't be read: {type(error).__name__}")
                continue
            there.append(document)
            files.append(file)
            hashes.append(reading.content_hash(document, file))
        contents, gone = [], []
        outcomes = await self._parser.parse(files)
        for document, digest, outcome in zip(there, hashes, outcomes, strict=True):
            if isinstance(outcome, Refused):
                self._fail(document.id, outcome.reason, outcome.message)
                if outcome.reason not in _PERHAPS_OURS:
                    gone.append(document.id)
            else:
                contents.append(Content(document, digest, outcome))
        return contents, gone

    async def _replace(self, done: Sequence["_Done"]) -> None:
        """Write the chunks of documents, then remove those they had before."""
        ids = [item.content.document.id for item in done]
        known = {key for key in ids if key in self._tally.ledger}
        await self._mark_pending(ids)
        chunks = [chunk for item in done for chunk in item.chunks]
        batches = (chunks[start : start + EMBED_TEXTS] for start in range(0, len(chunks), EMBED_TEXTS))
        await each(batches, self._embed, EMBED_CALLS)
        dropped = [item.content.document.id for item in done if not item.chunks]
        await self._store.drop_chunks([key for key in dropped if key in known])
        stale = [item.content for item in done if item.chunks and item.content.document.id in known]
        if stale:
            await self._store.settle()  # so that something of each document can be found at any moment
        for content in stale:
            await self._store.drop_stale(content.document.id, content.content_hash)
        entries = [item.entry for item in done]
        await self._store.put_entries(entries)
        self._tally.ledger.update({entry.document_id: entry.brief() for entry in entries})
        self._tally.counts.changed.update(item.content.document.source for item in done)

    async def _embed(self, chunks: Sequence[Chunk]) -> None:
        async with self._calls:
            found = await self._embedder.embed([chunk.embedded for chunk in chunks])
        await self._store.put_chunks(chunks, found["vectors"])
        self._tally.embedded += len(chunks)
        self._tally.embedded_tokens += sum(chunk.tokens for chunk in chunks)

    async def _remove(self, document_ids: Sequence[str]) -> None:
        if not document_ids:
            return
        await self._mark_pending(document_ids)
        await self._store.drop_chunks(document_ids)
        await self._store.drop_entries(document_ids)
        for key in document_ids:
            self._tally.counts.removed[self._tally.ledger.pop(key).source] += 1
        self._tally.removed += len(document_ids)

    async def _mark_pending(self, document_ids: Sequence[str]) -> None:
        """From here on a crash makes the next run do these documents again."""
        known = (self._tally.ledger.get(key, Entry(key, PENDING)) for key in document_ids)
        entries = [replace(entry, content_hash=PENDING) for entry in known]
        await self._store.put_entries(entries)
        self._tally.ledger.update({entry.document_id: entry for entry in entries})

    def _fail(self, document: str, reason: DocumentFailureReason, message: str) -> None:
        self._tally.failures.append(DocumentFailure(document=document, reason=reason, message=message[:512]))

    async def _quality(self) -> QualityReport | None:
        """What the collection is worth."""
        if self._vectors is None:
            return None
        has_changed = bool(self._tally.embedded or self._tally.removed)
        found = await quality.check(
            self._vectors, self._request, self._dimension, self._store.count, has_changed=has_changed
        )
        log.info("checked", **found.dump())
        return found

    def _report(self, started: datetime, checked: QualityReport | None) -> BuildReport:
        entries = self._tally.ledger.values()
        indexed = [entry for entry in entries if entry.facts.fate == "Indexed"]
        failures = sorted(self._tally.failures, key=source_reports.rank)
        loaded = self._tally.loaded
        return BuildReport(
            fingerprint=self._request.fingerprint,
            asked=self._request.asked,
            started_at=started.isoformat(),
            finished_at=self._now().isoformat(),
            documents=len(indexed),
            chunks=sum(entry.chunks for entry in entries),
            tokens=sum(entry.tokens for entry in entries),
            embedded=self._tally.embedded,
            embedded_tokens=self._tally.embedded_tokens,
            removed=self._tally.removed,
            failed=len(failures),
            failures=failures[:MAX_LISTED_FAILURES],
            pipeline=sieve.counts(entries),
            quality=checked,
            commits={name: item.commit for name, item in loaded.items() if item.commit},
            sources=self._source_reports(started),
        )

    def _source_reports(self, started: datetime) -> list[SourceReport]:
        """Of every source; what the next run may know of it is in `_kept` then."""
        tally, before, reports = self._tally, self._kept, []
        indexed = Counter(entry.source for entry in tally.ledger.values() if entry.facts.fate == "Indexed")
        self._kept = {}
        for source in self._request.sources:
            name, loaded = source.name, tally.loaded.get(source.name)
            failures = source_reports.of_source(tally.failures, name)
            wanted = cursors.settings(source, reading.FORMAT)
            after = source_reports.kept(
                wanted, before.get(name), loaded, tally.ledger, failures, started.isoformat()
            )
            self._kept[name] = after
            reports.append(source_reports.report(name, after, loaded, indexed[name], failures, tally.counts))
        return reports
