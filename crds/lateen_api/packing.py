# SPDX-License-Identifier: Apache-2.0
"""The catalog as one string, as it stands in the gateway's `user_config`: JSON, gzip, base64, like Helm's releases.

`base64 -d | gunzip` shows it. Ray Serve copies a `user_config` deeply in each round of its control loop, ten times a
second: thousands of prompts as lists and mappings kept a core busy for good and made one change take 20 seconds. A
string is never copied.
"""

import base64
import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any

MAX_BYTES = 256 * 2**20
"""Bytes of a document that is unpacked, at most."""

_GZIP = 16 + zlib.MAX_WBITS


def pack(document: Mapping[str, Any]) -> str:
    """A JSON document as text; equal documents give equal texts."""
    content = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def unpack(text: object) -> Any:
    """What `pack` was given; raises ValueError for anything else, and for more than `MAX_BYTES`."""
    if not isinstance(text, str):
        raise ValueError(f"a packed document is a string, not {type(text).__name__}")
    reading = zlib.decompressobj(wbits=_GZIP)
    try:
        content = reading.decompress(base64.b64decode(text, validate=True), MAX_BYTES)
    except zlib.error as error:
        raise ValueError(f"a packed document can't be read: {error}") from error
    if not reading.eof:
        raise ValueError(f"a packed document is cut off, or longer than {MAX_BYTES} bytes")
    return json.loads(content)
