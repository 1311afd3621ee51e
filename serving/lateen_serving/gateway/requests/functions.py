# SPDX-License-Identifier: Apache-2.0
"""Functions that a model may call, and which of them it must: `tools` and `tool_choice`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from lateen_serving.gateway.fields import RequestBody, Schema, names
from lateen_serving.gateway.requests.formats import Description, FormatName

FunctionName = FormatName
_NOTHING: dict[str, Any] = {"type": "object", "properties": {}, "additionalProperties": False}


class Function(RequestBody):
    """One function."""

    openai_fields: ClassVar[frozenset[str]] = names("allowed_callers defer_loading output_schema")

    name: FunctionName
    description: Description | None = None
    parameters: Schema = Field(default=_NOTHING)
    """JSON Schema of its arguments, an object; default: it has none."""

    strict: bool = False
    """Refuse keywords of the schema that can't be enforced. Otherwise what can be enforced is, and they are hints."""


def only_functions(value: Any) -> Any:
    """Refuse other kinds of tools by name."""
    kind = value.get("type", "function") if isinstance(value, Mapping) else "function"
    if isinstance(kind, str) and kind != "function":
        raise PydanticCustomError(
            "unsupported_value", "Unsupported tool '{kind}': the only type is 'function'.", {"kind": kind}
        )
    return value


class FunctionTool(RequestBody):
    """A tool of chat completions."""

    type: Literal["function"]
    function: Function


class NamedFunction(RequestBody):
    """A function by its name."""

    name: FunctionName


class ForcedFunction(RequestBody):
    """`tool_choice` of chat completions that names the function to call."""

    type: Literal["function"]
    function: NamedFunction


def _known_choice(value: Any) -> Any:
    if isinstance(value, str) and value not in {"none", "auto", "required"}:
        raise PydanticCustomError(
            "unsupported_value", "A tool choice is 'none', 'auto', 'required' or the function to call."
        )
    return only_functions(value)


def choice_kind(value: Any) -> str:
    """The member of a tool choice's union."""
    return "<mode>" if isinstance(value, str) else "<named>"


Mode = Literal["none", "auto", "required"]
ToolChoice = Annotated[
    Annotated[Mode, Tag("<mode>")] | Annotated[ForcedFunction, Tag("<named>")],
    Discriminator(choice_kind),
    BeforeValidator(_known_choice),
]
Tools = Annotated[list[Annotated[FunctionTool, BeforeValidator(only_functions)]], Field(max_length=128)]
