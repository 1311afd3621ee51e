# SPDX-License-Identifier: Apache-2.0
"""What one synchronization tells the next about each source. Pure; called by `sync.py`.

A cursor only saves work, so it is believed only where the ledger agrees: a document counts as indexed in a version
when the ledger still has the content hash that was noted with that version. Killed between the ledger and the cursor,
a synchronization leaves entries that no longer fit, and these documents are read again.
"""

import base64
import hashlib
import json
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from lateen_api.rag_sources import Source
from lateen_serving.rag.protocol import PENDING, Cursor, Document, Entry, mark, source_of

MAX_TEXT = 16 * 2**20
"""Characters of all cursors; the largest ones that do not fit are not kept."""

_MAX_PLAIN = 256 * 2**20
"""Bytes of them when unpacked."""


class Kept(BaseModel):
    """What is kept of one source."""

    model_config = ConfigDict(frozen=True)

    settings: str
    """Hash of its part of the spec, and of what decides about contents beside it."""

    state: dict[str, Any] = Field(default={})
    """The source's own."""

    documents: dict[str, tuple[str, str]] = Field(default={})
    """By document id: the mark of its version and the start of the content hash that was indexed with it."""

    whole: bool = False
    read_at: str | None = None
    pending_since: str | None = None
    position: str = ""


_ALL = TypeAdapter(dict[str, Kept])


def decode(text: str) -> dict[str, Kept]:
    """What `encode` made a text of, by the source's name; nothing when it can't be read: then all is read anew."""
    if not text:
        return {}
    try:
        unpacking = zlib.decompressobj()
        plain = unpacking.decompress(base64.b64decode(text), _MAX_PLAIN)
        return {} if unpacking.unconsumed_tail else _ALL.validate_json(plain)
    except (ValueError, zlib.error, ValidationError):
        return {}


def encode(kept: Mapping[str, Kept]) -> str:
    """A text of at most `MAX_TEXT` characters."""
    documents = {name: one.model_dump(mode="json") for name, one in kept.items()}
    while True:
        plain = json.dumps(documents, separators=(",", ":")).encode()
        text = base64.b64encode(zlib.compress(plain, 6)).decode()
        if len(text) <= MAX_TEXT and len(plain) <= _MAX_PLAIN:
            return text
        largest = max(documents, key=lambda name: len(json.dumps(documents[name])))
        documents[largest] |= {"state": {}, "documents": {}, "whole": False}
        if not any(one["documents"] or one["state"] for one in documents.values()):
            return ""


def settings(source: Source, form: bytes) -> str:
    """Identifies what a cursor of `source` is worth something for; `form` is that of the content hashes."""
    text = json.dumps(source.dump(), sort_keys=True)
    return hashlib.sha256(form + text.encode()).hexdigest()[:16]


def cursor(kept: Kept | None, wanted: str, source: str, ledger: Mapping[str, Entry]) -> Cursor:
    """What the source may believe; `wanted` are its present `settings`."""
    if kept is None or kept.settings != wanted:
        return Cursor()
    indexed = {
        key: known
        for key, (known, digest) in kept.documents.items()
        if key in ledger and digest and ledger[key].content_hash.startswith(digest)
    }
    own = {key: entry.facts.original for key, entry in ledger.items() if entry.source == source}
    alone = all(not original or source_of(original) == source for original in own.values())
    whole = kept.whole and alone and own.keys() == indexed.keys() == kept.documents.keys()
    # What repeats another document must be readable: it is needed when that one goes.
    believed = {key: known for key, known in indexed.items() if not own[key]}
    return Cursor(kept.state, believed, whole)


def documents(found: Iterable[Document], ledger: Mapping[str, Entry]) -> dict[str, tuple[str, str]]:
    """What to keep of documents: those that are indexed."""
    return {
        document.id: (
            mark(document.uri, document.version) if document.version else "",
            ledger[document.id].content_hash[:16],
        )
        for document in found
        if document.id in ledger and ledger[document.id].content_hash != PENDING
    }
