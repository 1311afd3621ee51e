# SPDX-License-Identifier: Apache-2.0
"""Reads and validates request bodies: bytes -> JSON object -> pydantic model. Called by `ingress.py` and endpoints."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from lateen_serving.errors import InputError, UnsupportedField
from lateen_serving.gateway.fields import RequestBody
from lateen_serving.gateway.replies import TooLarge, TooSlow

MAX_BYTES = 4 * 1024 * 1024
_DRAIN_BYTES = 16 * MAX_BYTES
_SECONDS = 30.0
_LONGEST_NAME = 128
"""Of a field in an error, in characters: unknown ones are as long as callers like."""

BodyT = TypeVar("BodyT", bound=RequestBody)


async def read(request: Request) -> dict[str, Any]:
    """The body as a JSON object; raises InputError (400), TooLarge (413) or TooSlow (408)."""
    try:
        async with asyncio.timeout(_SECONDS):
            content = await _bytes(request)
    except TimeoutError as error:
        raise TooSlow(f"The request's body did not arrive within {_SECONDS:.0f} seconds.") from error
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise InputError(f"The request's body is not valid JSON: {error}.", code="invalid_json") from error
    if not isinstance(document, dict):
        raise InputError("The request's body must be a JSON object.", code="invalid_json")
    return document


async def _bytes(request: Request) -> bytes:
    chunks: list[bytes] = []
    size = 0
    # Too long a body is read to its end (within reason) and dropped, so that the client gets the answer instead
    # of a broken connection.
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BYTES:
            chunks.append(chunk)
        else:
            chunks.clear()
            if size > _DRAIN_BYTES:
                break
    if size > MAX_BYTES:
        raise TooLarge(f"The request's body is larger than {MAX_BYTES // 1024 // 1024} MiB.")
    return b"".join(chunks)


def parse(kind: type[BodyT], document: Mapping[str, Any]) -> BodyT:
    """A validated request; raises InputError that names the first wrong field, unknown fields before others."""
    try:
        return kind.model_validate(document)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        extra = next((problem for problem in problems if problem["type"] == "extra_forbidden"), None)
        raise _refusal(kind, extra or problems[0]) from error


def _refusal(kind: type[RequestBody], problem: ErrorDetails) -> InputError:
    # What is wrong between fields is found by the body as a whole, which says the field itself.
    param = _path(problem["loc"]) or str(problem.get("ctx", {}).get("param", ""))
    match problem["type"]:
        case "extra_forbidden":
            return _unknown_field(kind, problem["loc"], param)
        case "missing":
            return InputError(
                f"Missing required parameter: '{param}'.", code="missing_required_parameter", param=param
            )
        case "unsupported_value":
            return UnsupportedField(f"{problem['msg']}", code="unsupported_value", param=param)
        case name if name.endswith("_type"):
            return InputError(
                f"Invalid type for '{param}': {problem['msg']}.", code="invalid_type", param=param
            )
        case _:
            return InputError(f"Invalid value for '{param}': {problem['msg']}.", param=param)


def _unknown_field(kind: type[RequestBody], location: Sequence[int | str], param: str) -> InputError:
    if kind.is_known(location):
        return UnsupportedField(f"Unsupported parameter: '{param}'. Remove it.", param=param)
    return UnsupportedField(f"Unknown parameter: '{param}'.", code="unknown_parameter", param=param)


def _path(location: Sequence[int | str]) -> str:
    text = ""
    for part in location:
        # Not fields: the tag of a union's member (see fields.one_of), and pydantic's word for a key itself.
        if isinstance(part, str) and (part.startswith("<") or part == "[key]"):
            continue
        name = part[:_LONGEST_NAME] if isinstance(part, str) else f"[{part}]"
        text += f".{name}" if text and isinstance(part, str) else name
    return text
