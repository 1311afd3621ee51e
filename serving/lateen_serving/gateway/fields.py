# SPDX-License-Identifier: Apache-2.0
"""The base of request bodies: every field is acted on or refused by name, never ignored.

Three kinds of fields exist besides those a body declares: fields OpenAI has (`openai_fields`; refused as unsupported),
the same with a value that asks for nothing (`neutral_values`, and null, which OpenAI reads as absent), and fields nobody
has (refused as unknown). `openapi.py` publishes the same rules as JSON Schema, which is made here too.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError


def names(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())


_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_HARMLESS_PART_FIELDS = frozenset({"type", "text", "annotations", "logprobs", "parsed"})


class RequestBody(BaseModel):
    """A JSON object of a request."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    openai_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields OpenAI has that the gateway doesn't act on."""

    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {}
    """Values that change nothing, so that leaving them out is honest."""

    harmless_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields that come with an object of an earlier reply which is sent back, and mean nothing here."""

    @model_validator(mode="before")
    @classmethod
    def _without_neutral_values(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        known = cls.openai_fields | cls.model_fields.keys() | cls.neutral_values.keys()
        return {
            name: value
            for name, value in document.items()
            if name not in cls.harmless_fields
            and not (value is None and name in known)
            and not any(_same(value, neutral) for neutral in cls.neutral_values.get(name, ()))
        }

    @classmethod
    def is_known(cls, location: Sequence[int | str]) -> bool:
        """Whether OpenAI has the field at `location`."""
        if len(location) == 1:
            return location[-1] in cls.openai_fields
        # Pydantic doesn't tell which body inside of this one it is about; any that knows the name will do.
        return any(location[-1] in body.openai_fields for body in _bodies(RequestBody))

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """The schema of what is accepted, null and neutral values included."""
        schema = handler.resolve_ref_schema(handler(core_schema))
        properties: dict[str, Any] = schema.setdefault("properties", {})
        required = set(schema.get("required", ()))
        for name, neutral in cls.neutral_values.items():
            properties[name] = _alternatives(properties.get(name), {"enum": list(neutral)})
        for name in [*properties, *sorted(cls.openai_fields)]:
            if name not in required:
                properties[name] = _alternatives(properties.get(name), {"type": "null"})
        for name in cls.harmless_fields:
            properties[name] = {}
        return schema


def _bodies(kind: type[RequestBody]) -> Iterator[type[RequestBody]]:
    for body in kind.__subclasses__():
        yield body
        yield from _bodies(body)


def _same(value: object, other: object) -> bool:
    """Whether two values are the same JSON: `False` is not `0`."""
    return value == other and orjson.dumps(value) == orjson.dumps(other)


def _alternatives(schema: dict[str, Any] | None, other: dict[str, Any]) -> dict[str, Any]:
    """A field's schema that also allows `other`; what describes the field stays where readers look for it."""
    if schema is None:
        return other
    notes: dict[str, Any] = {
        name: schema[name] for name in ("title", "description", "default") if name in schema
    }
    rules = {name: value for name, value in schema.items() if name not in notes}
    alternatives = rules["anyOf"] if rules.keys() == {"anyOf"} else [rules]
    return {"anyOf": alternatives if other in alternatives else [*alternatives, other], **notes}


class TextPart(BaseModel):
    """A part of a message's content. Describes what `text_content` accepts; only published."""

    model_config = ConfigDict(extra="forbid")

    type: Literal["text", "input_text", "output_text"]
    text: str
    annotations: Any = None
    logprobs: Any = None
    parsed: Any = None


def text_content(value: Any) -> Any:
    """A message's content as one text: a string, or a list of text parts, which are joined.

    Annotations and logprobs of an assistant's earlier answer are about its text and are dropped.
    """
    if not isinstance(value, list):
        return value
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _TEXT_PARTS or not isinstance(part.get("text"), str):
            raise PydanticCustomError(
                "unsupported_value", "Content parts must be text, like {'type': 'text', 'text': '…'}."
            )
        extra = part.keys() - _HARMLESS_PART_FIELDS
        if extra:
            raise PydanticCustomError(
                "unsupported_value",
                "Unsupported field of a content part: '{name}'. Remove it.",
                {"name": min(extra)},
            )
        texts.append(part["text"])
    return "".join(texts)


Content = Annotated[str, BeforeValidator(text_content, json_schema_input_type=str | list[TextPart])]
"""Text, or text parts."""


def whole(value: Any) -> Any:
    """`40.0` as 40: JSON has one kind of numbers, and JSON Schema counts it among the integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(whole)
"""For integers; it stands after their bounds, so that these are published."""


def text_list(value: Any) -> Any:
    """One string as a list of one."""
    return [value] if isinstance(value, str) else value


def one_of(value: Any, field: str, known: Sequence[str]) -> str:
    """`value[field]` when it is one of `known`, else the first: a tag for pydantic's unions that never fails by itself.

    Tags are written `<like this>`, so that `body.py` can leave them out of a field's path.
    """
    found = value.get(field) if isinstance(value, Mapping) else getattr(value, field, None)
    return f"<{found}>" if found in known else f"<{known[0]}>"


Schema = Annotated[dict[str, Any], Field(max_length=256)]
"""A JSON Schema; `formats.py` bounds and checks it."""
