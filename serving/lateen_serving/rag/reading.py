# SPDX-License-Identifier: Apache-2.0
"""Files as a synchronization reads them: their bytes, what their content is known by, how many at once. For `sync.py`."""

import hashlib
from collections.abc import Iterator, Sequence

from lateen_serving.rag.parsing.parsed import Raw
from lateen_serving.rag.protocol import Document

FORMAT = b"2"
"""Part of every content hash: a new number makes all documents be cut again."""

WINDOW_DOCUMENTS = 32
WINDOW_BYTES = 1 << 20
"""A window of documents is read, cut, embedded and stored together; this bounds memory."""


def content_hash(document: Document, file: Raw) -> str:
    """Changes whenever the chunks of a document would."""
    parts = (FORMAT, document.uri.encode(), file.data, *(() if file.sidecar is None else (file.sidecar,)))
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


async def read(document: Document) -> Raw:
    """The file of a document, with its sidecar file; raises OSError."""
    sidecar = await document.sidecar.read() if document.sidecar else None
    return Raw(document.path, await document.read(), sidecar)


def windows(documents: Sequence[Document]) -> Iterator[list[Document]]:
    """The documents in groups that are worked on together: 32, or fewer of together about a megabyte."""
    window: list[Document] = []
    room = WINDOW_BYTES
    for document in documents:
        if window and (document.size > room or len(window) == WINDOW_DOCUMENTS):
            yield window
            window, room = [], WINDOW_BYTES
        window.append(document)
        room -= document.size
    if window:
        yield window
