# SPDX-License-Identifier: Apache-2.0
"""Finds the sidecar files among a source's documents. Pure; called by `sync.py` and the sources."""

from collections.abc import Container, Iterable
from dataclasses import replace

from lateen_serving.rag.parsing.metadata import SIDECAR
from lateen_serving.rag.protocol import Cursor, Document


def paired(documents: Iterable[Document], cursor: Cursor) -> list[Document]:
    """The documents, each with its sidecar file; a sidecar file without a document is a document itself.

    A document with one changes when either does, so its version is that of both.
    """
    by_id = {document.id: document for document in documents}
    owners = {key: key.removesuffix(SIDECAR) for key in by_id if key.endswith(SIDECAR)}
    taken = {owner: by_id[key] for key, owner in owners.items() if owner in by_id}
    return [
        _both(document, taken[key], cursor) if key in taken else document
        for key, document in by_id.items()
        if owners.get(key) not in taken
    ]


def belongs(name: str, names: Container[str]) -> bool:
    """Whether the file has its sidecar file among `names`, or is the sidecar file of one there.

    Such files are always fetched: that one is as it was does not tell that both are indexed together.
    """
    return name + SIDECAR in names or (name.endswith(SIDECAR) and name.removesuffix(SIDECAR) in names)


def _both(document: Document, sidecar: Document, cursor: Cursor) -> Document:
    is_known = bool(document.version and sidecar.version)
    version = f"{document.version} {sidecar.version}" if is_known else ""
    unchanged = cursor.knows(document.id, document.uri, version)
    return replace(document, sidecar=sidecar, version=version, unchanged=unchanged)
