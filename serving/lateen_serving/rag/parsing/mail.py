# SPDX-License-Identifier: Apache-2.0
"""Parses EML: who wrote what to whom, the text, and the names of attachments, which are not opened. Pure."""

import email.policy
import re
from email.errors import MessageError
from email.message import EmailMessage
from email.parser import BytesParser
from email.utils import parsedate_to_datetime
from typing import Any

from lateen_serving.rag.parsing.parsed import Parsed, ParseFailure
from lateen_serving.rag.parsing.text import Decoded, decode
from lateen_serving.rag.parsing.writing import Writer

MAX_PARTS = 1000
_SHOWN = ("From", "To", "Cc", "Date")
_FIELD = re.compile(rb"([A-Za-z][A-Za-z0-9-]{0,60}):[ \t]?[^\r\n]*(?:\r?\n[ \t][^\r\n]*)*\r?\n")
_TELLING = frozenset(
    {b"from", b"to", b"date", b"subject", b"message-id", b"received", b"mime-version", b"return-path"}
)


def is_mail(data: bytes) -> bool:
    """Whether `data` begins with a mail's header: fields only, three of them telling, one the sender."""
    at, names = 0, set()
    while match := _FIELD.match(data, at, 1 << 16):
        names.add(match[1].lower())
        at = match.end()
    ended = data[at : at + 1] in {b"\n", b"\r", b""}
    return ended and b"from" in names and len(names & _TELLING) >= 3


def parse(data: bytes) -> Parsed:
    """A mail."""
    try:
        message = BytesParser(policy=email.policy.default).parsebytes(data)
        return _written(message)
    except (MessageError, LookupError, ValueError, TypeError, AttributeError, IndexError) as error:
        raise ParseFailure("Malformed", f"the mail can't be read: {type(error).__name__}") from error


def _written(message: EmailMessage) -> Parsed:
    if sum(1 for _ in message.walk()) > MAX_PARTS:
        raise ParseFailure("Bomb", f"the mail has more than {MAX_PARTS} parts")
    writer = Writer()
    subject = str(message["Subject"] or "")
    writer.heading(1, subject)
    writer.block("\n".join(f"{name}: {message[name]}" for name in _SHOWN if message[name]))
    repaired = _body(message, writer)
    names = [str(part.get_filename() or part.get_content_type()) for part in message.iter_attachments()]
    if names:
        writer.block(f"Attachments: {', '.join(names)}")
    return writer.parsed("EML", subject, updated_at=_moment(message["Date"]), repaired=repaired)


def _body(message: EmailMessage, writer: Writer) -> bool:
    """Write the plain text if there is one, else the text of the HTML; whether it had to be repaired."""
    part: Any = message.get_body(("plain", "html"))
    if part is None:
        return False
    content = part.get_payload(decode=True) or b""
    decoded = _decoded(content, part.get_content_charset())
    if part.get_content_subtype() == "html":
        from lateen_serving.rag.parsing import web

        web.write(decoded.text, writer)
    else:
        writer.block(decoded.text)
    return decoded.repaired


def _decoded(content: bytes, charset: str | None) -> Decoded:
    try:
        return Decoded(content.decode(charset or "utf-8"))
    except (LookupError, UnicodeDecodeError):
        return decode(content)


def _moment(date: str | None) -> str:
    try:
        return parsedate_to_datetime(str(date)).isoformat() if date else ""
    except ValueError:
        return ""
