# SPDX-License-Identifier: Apache-2.0
"""What an answer must look like: `response_format` of chat completions and `text` of responses."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from lateen_serving.gateway.fields import RequestBody, Schema, names, one_of

FormatName = Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
Description = Annotated[str, Field(max_length=16384)]
_KINDS = ("text", "json_object", "json_schema")


def _known(value: Any) -> Any:
    found = value.get("type") if isinstance(value, Mapping) else None
    if isinstance(found, str) and found not in _KINDS:
        raise PydanticCustomError(
            "unsupported_value", "The type of a format is 'text', 'json_object' or 'json_schema'."
        )
    return value


def _kind(value: Any) -> str:
    return one_of(value, "type", _KINDS)


class TextFormat(RequestBody):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(RequestBody):
    """Any JSON object."""

    type: Literal["json_object"]


class JsonSchema(RequestBody):
    """A named JSON Schema, as chat completions have it."""

    name: FormatName
    """The caller's name for it."""

    json_schema: Annotated[Schema, Field(alias="schema")]
    """Its root must be of type `object`."""

    strict: bool = False
    """Refuse keywords of the schema that can't be enforced. Otherwise what can be enforced is, and they are hints."""

    description: Description | None = None
    """Accepted for the caller's own use; the model isn't told."""


class JsonSchemaFormat(RequestBody):
    """A JSON document of a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


class ResponseJsonSchemaFormat(JsonSchema):
    """The same as responses have it: in one object."""

    type: Literal["json_schema"]


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[JsonSchemaFormat, Tag("<json_schema>")],
    Discriminator(_kind),
    BeforeValidator(_known),
]
ResponseTextFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[ResponseJsonSchemaFormat, Tag("<json_schema>")],
    Discriminator(_kind),
    BeforeValidator(_known),
]


class TextConfig(RequestBody):
    """`text` of a response."""

    openai_fields: ClassVar[frozenset[str]] = names("verbosity")
    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {}

    format: ResponseTextFormat = TextFormat(type="text")
