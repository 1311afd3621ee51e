# SPDX-License-Identifier: Apache-2.0
"""The variables of a PromptTemplate: types, sources and rules, as authors write them."""

from typing import Annotated, Literal

from pydantic import Field

from lateen_api.quantities import SignedDecimalString
from lateen_api.schema import (
    IndexReference,
    JsonObject,
    SpecType,
    distinct_items,
    matching,
    named_items,
    rule,
    rules,
)

VariableType = Literal["string", "integer", "number", "boolean", "enum", "datetime", "list", "object"]
VariableSource = Literal["request", "retrieval", "clock", "identity", "constant", "metadata"]
MAX_INDEXES = 8
"""Indexes that one question goes to."""

VARIABLE_NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"
CONVERSATION = "conversation"
"""What `contextWindow.priority` calls the caller's earlier turns; no variable may have this name."""

VariableName = Annotated[
    str,
    matching(
        VARIABLE_NAME_PATTERN,
        "must start with a lower-case letter and hold lower-case letters, digits and '_' only",
        max_length=63,
    ),
]
"""A placeholder's name: lower-case letters, digits and underscores."""

ValueText = Annotated[str, Field(max_length=16384)]
"""A value written as a string, because Kubernetes APIs have no floats: `"2"`, `"true"`, `'["a", "b"]'`."""

_KINDS = ("minLength", "maxLength", "pattern", "minimum", "maximum", "oneOf", "schema", "cel")


def _one_of_fields(names: tuple[str, ...]) -> str:
    return " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in names) + " == 1"


class VariableRule(SpecType):
    """One thing a value must satisfy: exactly one of `minLength`, `maxLength`, `pattern`, `minimum`, `maximum`, `oneOf`,
    `schema`, `cel`. A request that breaks it is refused with 400, naming the variable and the rule.
    """

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                _one_of_fields(_KINDS),
                f"a rule has exactly one of {', '.join(_KINDS)}; write one item for each",
            ),
            rule("!has(self.cel) || has(self.message)", "a cel rule needs a message for callers"),
        )
    }

    min_length: Annotated[int | None, Field(ge=0, le=1_000_000)] = None
    """Fewest characters of a string, fewest items of a list."""

    max_length: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Most characters of a string, most items of a list."""

    pattern: Annotated[str | None, Field(min_length=1, max_length=512)] = None
    """Regular expression that must match somewhere in the string (anchor it with ^ and $); it is matched in linear
    time, without look-around and back-references."""

    minimum: SignedDecimalString | None = None
    """Smallest value (integer and number)."""

    maximum: SignedDecimalString | None = None
    """Largest value (integer and number)."""

    one_of: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=256)]] | None,
        Field(min_length=1, max_length=64, json_schema_extra=distinct_items()),
    ] = None
    """The values allowed (enum and string)."""

    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    """JSON Schema (draft 2020-12) of the value; references stay within it (`#/$defs/…`)."""

    cel: Annotated[str | None, Field(min_length=1, max_length=512)] = None
    """CEL expression over `value` that must be true, such as `value.size() > 2`."""

    message: Annotated[str | None, Field(min_length=1, max_length=256)] = None
    """What a caller reads when the rule is broken; by default a sentence made from the rule."""


class Clock(SpecType):
    """The time of the request."""

    time_zone: Annotated[
        str,
        matching(r"^[A-Za-z0-9_+/-]{1,64}$", "must be an IANA time zone such as Europe/Rome", max_length=64),
    ] = "Etc/UTC"
    """IANA time zone."""

    format: Annotated[str, Field(min_length=1, max_length=64)] = "%Y-%m-%d"
    """How it is written: text with `%Y %m %d %H %M %S %A %a %B %b %j %y %I %p %z %Z %%`; names are English."""


class Identity(SpecType):
    """Who calls."""

    attribute: Literal["name", "tenant"] = "name"
    """`name` of the caller, or its `tenant`, which is empty as long as keys have none."""


class Metadata(SpecType):
    """One entry of the request's `metadata`."""

    key: Annotated[str, Field(min_length=1, max_length=64)]
    """Its key."""


class PassageSearch(SpecType):
    """A search that every request with the prompt begins with, unless the request itself asks for one (`file_search`)."""

    index_refs: Annotated[
        list[IndexReference], Field(min_length=1, max_length=MAX_INDEXES, json_schema_extra=named_items())
    ]
    """RAGIndexes of the same namespace. They are searched side by side, and their passages merged by score."""

    query: VariableName | None = None
    """The variable whose text is searched for: a string or enum, from: request or metadata. By default the variable
    `question` if the request gives it, else the caller's last message, else the first string variable that it gives."""

    limit: Annotated[int | None, Field(ge=1, le=50)] = None
    """Most passages; by default the largest `retrieval.limit` of the indexes."""


_HAS_RULES = "!has(self.rules) || self.rules.all(r, {})"
_VARIABLE_RULES = (
    rule("self.from != 'constant' || has(self.value)", "a variable from: constant needs a value"),
    rule("self.from == 'constant' || !has(self.value)", "value is only for from: constant; use default"),
    rule("self.from == 'clock' || !has(self.clock)", "clock is only for from: clock"),
    rule("self.from == 'identity' || !has(self.identity)", "identity is only for from: identity"),
    rule("(self.from == 'metadata') == has(self.metadata)", "metadata.key belongs to from: metadata"),
    rule("self.from == 'retrieval' || !has(self.retrieval)", "retrieval is only for from: retrieval"),
    rule(
        "self.from in ['request', 'metadata'] || !has(self.rules)",
        "rules are only for from: request and from: metadata",
    ),
    rule(
        "self.from in ['request', 'metadata', 'identity'] || !has(self.default)",
        "default is only for from: request, metadata and identity; the others are always there",
    ),
    rule(
        "self.from in ['request', 'constant'] || self.type == 'string'"
        " || (self.from == 'retrieval' && self.type == 'list') || (self.from == 'clock' && self.type == 'datetime')",
        "an injected variable has type: string (from: retrieval may be a list, from: clock a datetime)",
    ),
    rule(
        "self.type != 'enum' || (has(self.rules) && self.rules.exists(r, has(r.oneOf)))",
        "type: enum needs a rule with oneOf",
    ),
    rule(
        "self.type in ['string', 'list'] || " + _HAS_RULES.format("!has(r.minLength) && !has(r.maxLength)"),
        "minLength and maxLength are for type: string or list",
    ),
    rule("self.type == 'string' || " + _HAS_RULES.format("!has(r.pattern)"), "pattern is for type: string"),
    rule(
        "self.type in ['string', 'enum'] || " + _HAS_RULES.format("!has(r.oneOf)"),
        "oneOf is for type: enum or string",
    ),
    rule(
        "self.type in ['integer', 'number'] || " + _HAS_RULES.format("!has(r.minimum) && !has(r.maximum)"),
        "minimum and maximum are for type: integer or number",
    ),
)


class Variable(SpecType):
    """One placeholder of the messages."""

    model_config = SpecType.model_config | {"json_schema_extra": rules(*_VARIABLE_RULES)}

    name: VariableName
    """The placeholder's name: lower-case letters, digits and underscores."""

    type: VariableType = "string"
    """Type of the value. `enum` is a string out of a `oneOf` rule, `datetime` an RFC 3339 string with a zone, `list` and
    `object` are JSON: `jinja` can go through them, `format` writes them as JSON."""

    from_: Annotated[VariableSource, Field(alias="from")] = "request"
    """Where the value comes from: `request` the caller's `prompt.variables`, `metadata` one entry of the request's metadata,
    `retrieval` the passages found, `clock` the time, `identity` who calls, `constant` the value below. A request that
    sets any other than `request` is refused."""

    clock: Clock | None = None
    """How a time is written (from: clock); by default the date in UTC."""

    identity: Identity | None = None
    """Which fact about the caller (from: identity); by default the name."""

    metadata: Metadata | None = None
    """Which entry of the request's metadata (from: metadata)."""

    retrieval: PassageSearch | None = None
    """Where the passages come from (from: retrieval); by default only from the `file_search` that a request of
    `/v1/responses` asks for."""

    required: bool = True
    """Whether a caller must give it when there is no default (from: request and metadata). A missing optional value is
    the empty string, in `jinja` also false."""

    default: ValueText | None = None
    """Value when none is given, written as a string; JSON for lists and objects."""

    value: ValueText | None = None
    """The value of a constant, written as a string; JSON for lists and objects."""

    description: Annotated[str | None, Field(max_length=512)] = None
    """What the variable means, for people who call the prompt."""

    example: ValueText | None = None
    """A value that obeys the rules, written as a string; `lateen render` uses it when none is given."""

    rules: Annotated[list[VariableRule] | None, Field(min_length=1, max_length=16)] = None
    """What a value must satisfy, checked in this order."""
