# SPDX-License-Identifier: Apache-2.0
"""Ids of pushed documents: what clients call `file-…` is `SOURCE//file-…` inside. Pure.

The prefix tells a build which source a document belongs to; paths of other sources don't begin with `/`.
"""

import re
import uuid

_FILE = re.compile(r"file-[0-9a-f]{32}")
_PUSHED = re.compile(r"[^/]+//(file-[0-9a-f]{32})")


def new_file() -> str:
    """An id for an uploaded file."""
    return f"file-{uuid.uuid4().hex}"


def is_file(text: str) -> bool:
    """Whether `text` could be the id of an uploaded file."""
    return _FILE.fullmatch(text) is not None


def key(file: str) -> uuid.UUID:
    """The file's id in Weaviate."""
    return uuid.UUID(file.removeprefix("file-"))


def of_document(source: str, file: str) -> str:
    """Id of the document that a file is in the source `source`."""
    return f"{source}//{file}"


def public(document_id: str) -> str:
    """What clients call a document."""
    match = _PUSHED.fullmatch(document_id)
    return match[1] if match else document_id


def inside(source: str | None, public_id: str) -> str:
    """The id of the document that clients call `public_id`, in an index whose push source is `source` (None: none)."""
    return of_document(source, public_id) if source is not None and is_file(public_id) else public_id
