# SPDX-License-Identifier: Apache-2.0
"""The base of request bodies: every field is acted on or refused by name, never ignored.

Three kinds of fields exist besides those a body declares: fields OpenAI has (`openai_fields`; refused as unsupported),
the same with a value that asks for nothing (`neutral_values`, and null, which OpenAI reads as absent), and fields nobody
has (refused as unknown).
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, model_validator
from pydantic_core import PydanticCustomError


def names(text: str) -> frozenset[str]:
    """The words of `text`."""
    return frozenset(text.split())


_NESTED_OPENAI_FIELDS = names(
    "annotations audio filters function_call include_obfuscation logprobs name phase ranking_options refusal"
    " tool_call_id tool_calls"
)
_TEXT_PARTS = frozenset({"text", "input_text", "output_text"})
_HARMLESS_PART_FIELDS = frozenset({"type", "text", "annotations", "logprobs"})


class RequestBody(BaseModel):
    """A JSON object of a request."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)

    openai_fields: ClassVar[frozenset[str]] = frozenset()
    """Fields OpenAI has that the gateway doesn't act on."""

    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {}
    """Values that change nothing, so that leaving them out is honest."""

    @model_validator(mode="before")
    @classmethod
    def _without_neutral_values(cls, document: Any) -> Any:
        if not isinstance(document, dict):
            return document
        known = cls.openai_fields | cls.model_fields.keys() | _NESTED_OPENAI_FIELDS
        return {
            name: value
            for name, value in document.items()
            if not (value is None and name in known) and value not in cls.neutral_values.get(name, ())
        }

    @classmethod
    def is_known(cls, location: Sequence[int | str]) -> bool:
        """Whether OpenAI has the field at `location`."""
        name = location[-1]
        return name in (cls.openai_fields if len(location) == 1 else _NESTED_OPENAI_FIELDS)


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
                "unsupported_value", "Content parts must be text, like {{'type': 'text', 'text': '…'}}."
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


def text_list(value: Any) -> Any:
    """One string as a list of one."""
    return [value] if isinstance(value, str) else value
