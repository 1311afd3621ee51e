# SPDX-License-Identifier: Apache-2.0
"""Opens the ZIP archives that office documents are, within bounds. Used by the office parsers."""

import io
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO
from xml.etree.ElementTree import Element, ParseError

import defusedxml
from defusedxml import ElementTree

from lateen_serving.rag.parsing.parsed import ParseFailure

MAX_MEMBERS = 10_000
MAX_UNPACKED = 256 << 20
"""Bytes of all members once unpacked; no more are ever read, whatever the archive declares."""

MAX_DEPTH = 256
"""Levels of elements in a member."""

_ENCRYPTED = 0x1


class Archive:
    """A document's archive that was found to be within the bounds."""

    def __init__(self, data: bytes) -> None:
        """Raises ParseFailure: Malformed, Encrypted or Bomb."""
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(data))
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise ParseFailure("Malformed", "the file is a damaged ZIP archive") from error
        members = self._zip.infolist()
        if len(members) > MAX_MEMBERS:
            raise ParseFailure("Bomb", f"the archive has more than {MAX_MEMBERS} members")
        if sum(member.file_size for member in members) > MAX_UNPACKED:
            raise ParseFailure("Bomb", f"the archive unpacks to more than {MAX_UNPACKED >> 20} MiB")
        if any(member.flag_bits & _ENCRYPTED for member in members):
            raise ParseFailure("Encrypted", "the file is encrypted; store it without a password")
        self.names = frozenset(member.filename for member in members)

    def tree(self, name: str) -> Element | None:
        """The root of the XML member `name`; None if there is no such member."""
        if name not in self.names:
            return None
        root = None
        for event, element in self.events(name):
            if event == "start" and root is None:
                root = element
        return root

    def events(self, name: str) -> Iterator[tuple[str, Element]]:
        """`start` and `end` of each element of the XML member `name`, while it is read."""
        depth = 0
        with self._open(name) as stream, _readable(name):
            for event, element in ElementTree.iterparse(stream, events=("start", "end"), forbid_dtd=True):
                depth += 1 if event == "start" else -1
                if depth > MAX_DEPTH:
                    raise ParseFailure("Bomb", f"{name} is nested deeper than {MAX_DEPTH} levels")
                yield event, element

    def _open(self, name: str) -> IO[bytes]:
        with _readable(name):
            return self._zip.open(name)


@contextmanager
def _readable(name: str) -> Iterator[None]:
    """Turns what a broken or malicious member raises into a ParseFailure."""
    try:
        yield
    except defusedxml.DefusedXmlException as error:
        raise ParseFailure("Bomb", f"{name} declares entities of its own") from error
    except (ParseError, zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError) as error:
        raise ParseFailure("Malformed", f"{name} can't be read: {type(error).__name__}") from error
    except (NotImplementedError, RuntimeError) as error:
        raise ParseFailure("Malformed", f"{name} is packed in an unknown way") from error
