# SPDX-License-Identifier: Apache-2.0
"""Reads an uploaded file: a form of `file` and `purpose`, bounded in size, number and time. Called by `ingress.py`."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import get_args

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from lateen_serving.errors import InputError, Overloaded, UnsupportedField
from lateen_serving.gateway.context import Service
from lateen_serving.gateway.replies import TooLarge, TooSlow
from lateen_serving.gateway.requests.files import Purpose
from lateen_serving.rag.file_store import PART_BYTES

LONGEST_NAME = 255
_SECONDS = 300.0
_AROUND_BYTES = 64 * 1024
"""What a form may have besides the file."""
_DRAIN_BYTES = 64 * 1024 * 1024
_FIELDS = 8


@dataclass(frozen=True)
class Upload:
    """A file that has arrived."""

    file: UploadFile
    name: str
    purpose: str
    size: int
    """Bytes, at least one."""

    async def parts(self) -> AsyncIterator[bytes]:
        """Its bytes, in parts of `PART_BYTES`."""
        while part := await self.file.read(PART_BYTES):
            yield part


@asynccontextmanager
async def read(service: Service, request: Request) -> AsyncGenerator[Upload]:
    """The upload in a request's body, until the end of the context.

    Raises InputError (400) that names the field, TooLarge (413), TooSlow (408), or Overloaded where too many are read.
    """
    if service.uploading.locked():
        raise Overloaded("Too many files are being uploaded. Try again in a moment.")
    async with service.uploading:
        form = await _form(request, service.largest_file)
        try:
            yield _upload(form, service.largest_file)
        finally:
            await form.close()


async def _form(request: Request, largest: int) -> FormData:
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise InputError(
            "Send the file as multipart/form-data with the fields 'file' and 'purpose'.",
            code="invalid_multipart",
            param="file",
        )
    _check_charset(request)
    bounded = _bounded(request, largest)
    parser = MultiPartParser(
        request.headers, bounded, max_files=_FIELDS, max_fields=_FIELDS, max_part_size=_AROUND_BYTES
    )
    try:
        async with asyncio.timeout(_SECONDS):
            return await parser.parse()
    except TimeoutError as error:
        raise TooSlow(f"The file did not arrive within {_SECONDS:.0f} seconds.", param="file") from error
    except MultiPartException as error:
        message = f"The request's body is no valid form: {error.message}"
        raise InputError(message, code="invalid_multipart", param="file") from error


def _check_charset(request: Request) -> None:
    """Raise InputError where the form names another charset: with some of Python's, texts can't be read or answered."""
    _, options = parse_options_header(request.headers["content-type"])
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        raise InputError(
            "The form's charset must be utf-8; leave it out of the content-type.",
            code="invalid_multipart",
            param="file",
        )


async def _bounded(request: Request, largest: int) -> AsyncGenerator[bytes]:
    """The body; one that is too long is read to its end (within reason), so that the client gets the answer."""
    most, size = largest + _AROUND_BYTES, 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= most:
            yield chunk
        elif size > most + _DRAIN_BYTES:
            break
    if size > most:
        raise _too_large(largest)


def _upload(form: FormData, largest: int) -> Upload:
    for name, _ in form.multi_items():
        if name.startswith("expires_after"):
            raise UnsupportedField(
                "Unsupported parameter: 'expires_after'. Remove it.", param="expires_after"
            )
        if name not in ("file", "purpose"):
            raise UnsupportedField(
                f"Unknown parameter: '{name[:128]}'.", code="unknown_parameter", param=name[:128]
            )
        if len(form.getlist(name)) > 1:
            raise InputError(f"Give '{name}' once.", param=name)
    file = form.get("file")
    if not isinstance(file, UploadFile):
        raise _missing("file", file is None)
    size = file.size or 0
    if size > largest:
        raise _too_large(largest)
    if not size:
        raise InputError("The file is empty.", param="file")
    return Upload(file, _name(file.filename or ""), _purpose(form.get("purpose")), size)


def _name(name: str) -> str:
    """The file's name; raises InputError."""
    if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable() or "/" in name or "\\" in name:
        raise InputError(
            f"The file needs a name of at most {LONGEST_NAME} printable characters, without '/' and '\\'.",
            param="file",
        )
    return name


def _purpose(given: object) -> str:
    if not isinstance(given, str):
        raise _missing("purpose", given is None)
    if given not in get_args(Purpose):
        raise InputError(
            f"Invalid value for 'purpose': use {' or '.join(map(repr, get_args(Purpose)))}.", param="purpose"
        )
    return given


def _missing(name: str, absent: bool) -> InputError:
    if absent:
        return InputError(
            f"Missing required parameter: '{name}'.", code="missing_required_parameter", param=name
        )
    kind = "a file with a file name" if name == "file" else "text"
    return InputError(f"Invalid type for '{name}': it must be {kind}.", code="invalid_type", param=name)


def _too_large(largest: int) -> TooLarge:
    return TooLarge(f"The file is larger than {largest} bytes.", param="file")
