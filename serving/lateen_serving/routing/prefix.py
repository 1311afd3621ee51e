# SPDX-License-Identifier: Apache-2.0
"""What two requests must share to be worth the same replica: the key of `PrefixAware`. Called by `routers.py`.

The key of a conversation is the adapter, its leading system messages and the first message after them: what never changes while
a conversation grows. So all turns of a conversation have one key, conversations that open in the same way meet, and
those that share only the system message spread over the replicas: each replica soon has that message in its cache, and
one busy system message does not become one busy replica. Tools count too, because the chat template puts them first.

A bare prompt is known by its beginning alone, so that prompts with the same instructions or examples in front meet.
"""

import hashlib
import json
from collections.abc import Mapping
from itertools import takewhile
from typing import Any

SYSTEM_CHARACTERS = 4096
"""Most characters of the leading system messages, and of the tools, that count."""

OPENING_CHARACTERS = 256
"""Most characters of the first message after them, or of a bare prompt, that count."""

_SYSTEM_ROLES = ("system", "developer")


def key(request: object) -> bytes | None:
    """The key of a GenerateRequest (see `engine/protocol.py`); None for anything else, such as texts to embed.

    Requests of different models never meet, so that the model is not part of it.
    """
    if not isinstance(request, Mapping):
        return None
    messages, prompt = request.get("messages"), request.get("prompt")
    if isinstance(messages, list) and messages:
        opening = _of_messages(messages)
    elif isinstance(prompt, str) and prompt:
        opening = [prompt[:OPENING_CHARACTERS]]
    else:
        return None
    digest = hashlib.blake2b(digest_size=16)
    for part in [str(request.get("adapter") or ""), _of_tools(request.get("tools")), *opening]:
        digest.update(f"{len(part)}:{part}".encode(errors="surrogatepass"))
    return digest.digest()


def _of_messages(messages: list[Any]) -> list[str]:
    leading = [_content(message) for message in takewhile(_is_system, messages)]
    opening = _content(messages[len(leading)])[:OPENING_CHARACTERS] if len(leading) < len(messages) else ""
    parts: list[str] = []
    room = SYSTEM_CHARACTERS
    for text in leading:
        parts.append(text[:room])
        room -= len(parts[-1])
    return [*parts, opening]


def _is_system(message: Any) -> bool:
    return isinstance(message, Mapping) and message.get("role") in _SYSTEM_ROLES


def _content(message: Any) -> str:
    return str(message.get("content") or "") if isinstance(message, Mapping) else ""


def _of_tools(tools: Any) -> str:
    return json.dumps(tools, sort_keys=True, default=str)[:SYSTEM_CHARACTERS] if tools else ""
