# SPDX-License-Identifier: Apache-2.0
"""Bodies and queries of the routes about files: `/v1/files` and `/v1/vector_stores/{id}/files`."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from lateen_serving.gateway.fields import RequestBody
from lateen_serving.gateway.requests.paging import PageRequest, number
from lateen_serving.rag.attributes import Value

MOST_ATTRIBUTES = 16
LONGEST_VALUE = 512
LARGEST_NUMBER = 2**53 - 1
"""Beyond it whole numbers are not exact."""

OURS = frozenset(
    [
        "chunks",
        "end",
        "filename",
        "heading",
        "language",
        "page",
        "position",
        "source",
        "start",
        "title",
        "tokens",
        "updated_at",
        "uri",
    ]
)
"""Attributes that every document or passage has; clients can't set them."""

Purpose = Literal["assistants", "user_data"]
"""What files may be uploaded for."""

_KEY = r"[A-Za-z_][A-Za-z0-9_-]{0,63}"


def _attributes(given: Any) -> Any:
    if not isinstance(given, dict):
        return given  # pydantic says what it should be
    if len(given) > MOST_ATTRIBUTES:
        raise _wrong(f"at most {MOST_ATTRIBUTES} keys")
    for key, value in given.items():
        if not re.fullmatch(_KEY, key):
            raise _wrong("keys are letters, digits, '_' and '-', at most 64, a letter first")
        if key in OURS:
            raise _wrong(f"'{key}' is set by the vector store itself; choose another key")
        if not _is_value(value):
            raise _wrong(
                f"the value of '{key}' must be text of at most 512 characters, a number or a boolean"
            )
    return given


def _is_value(value: Any) -> bool:
    if isinstance(value, str):
        return len(value) <= LONGEST_VALUE
    return isinstance(value, bool) or (isinstance(value, int | float) and abs(value) <= LARGEST_NUMBER)


def _wrong(why: str) -> PydanticCustomError:
    return PydanticCustomError("wrong_attributes", "{why}", {"why": why})


Attributes = Annotated[
    dict[str, Any],
    BeforeValidator(_attributes),
    WithJsonSchema({
        "type": "object",
        "maxProperties": MOST_ATTRIBUTES,
        "propertyNames": {"pattern": f"^{_KEY}$", "not": {"enum": sorted(OURS)}},
        "additionalProperties": {
            "anyOf": [
                {"type": "string", "maxLength": LONGEST_VALUE},
                {"type": "number", "minimum": -LARGEST_NUMBER, "maximum": LARGEST_NUMBER},
                {"type": "boolean"},
            ]
        },
    }),
]  # fmt: skip


class AttachRequest(RequestBody):
    """`POST /v1/vector_stores/{id}/files`."""

    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {"chunking_strategy": ({"type": "auto"},)}
    openai_fields: ClassVar[frozenset[str]] = frozenset({"chunking_strategy"})

    file_id: Annotated[str, Field(min_length=1, max_length=64)]
    """Id of an uploaded file."""

    attributes: Attributes = Field(default={})
    """What filters of searches may name."""

    def values(self) -> Mapping[str, Value]:
        """The attributes."""
        return self.attributes


class AttributesRequest(RequestBody):
    """`POST /v1/vector_stores/{id}/files/{file_id}`."""

    attributes: Attributes
    """What filters of searches may name; those that are left out go."""


class DocumentPageRequest(PageRequest):
    """A page of the documents of an index."""

    openai_fields: ClassVar[frozenset[str]] = frozenset()

    before: Annotated[str, Field(min_length=1, max_length=2048)] | None = None
    """Id of the first item of the page behind; not together with `after`."""

    filter: Literal["in_progress", "completed", "failed", "cancelled"] | None = None
    """Only documents of this status."""

    @model_validator(mode="after")
    def _one_way(self) -> "DocumentPageRequest":
        if self.after is not None and self.before is not None:
            raise PydanticCustomError("two_places", "Give 'after' or 'before', not both", {"param": "before"})
        return self


class FilePageRequest(PageRequest):
    """A page of the uploaded files."""

    openai_fields: ClassVar[frozenset[str]] = frozenset()

    limit: Annotated[int, Field(ge=1, le=10000), BeforeValidator(number)] = 10000
    """Most items; a page never has more than 1000."""

    purpose: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    """Only files of this purpose."""
