# SPDX-License-Identifier: Apache-2.0
"""PromptTemplate: messages with typed variables, kept as immutable revisions."""

from typing import Annotated, Literal

from pydantic import Field

from lateen_api import names
from lateen_api.quantities import SignedDecimalString
from lateen_api.schema import SpecType, distinct_items, matching, named_items, rule, rules

VariableType = Literal["string", "integer", "number", "boolean"]
VariableSource = Literal["request", "retrieval", "constant"]
PostProcessor = Literal["Dedent", "CollapseWhitespace", "Strip"]
VARIABLE_NAME_PATTERN = r"^[a-z][a-z0-9_]{0,62}$"


class PromptMessage(SpecType):
    """One message of the prompt."""

    role: Literal["system", "user", "assistant"]
    """Who speaks."""

    content: Annotated[str, Field(min_length=1, max_length=16384)]
    """Text with `{variable}` placeholders; write `{{` and `}}` for literal braces."""


class VariableRules(SpecType):
    """What a value must satisfy; a request that breaks one is refused with 400, naming the variable and the rule."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                "!has(self.minLength) || !has(self.maxLength) || self.minLength <= self.maxLength",
                "minLength must not exceed maxLength",
            ),
            rule(
                "!has(self.minimum) || !has(self.maximum) || double(self.minimum) <= double(self.maximum)",
                "minimum must not exceed maximum",
            ),
        )
    }

    min_length: Annotated[int | None, Field(ge=0, le=1_000_000)] = None
    """Fewest characters (strings)."""

    max_length: Annotated[int | None, Field(ge=1, le=1_000_000)] = None
    """Most characters (strings)."""

    minimum: SignedDecimalString | None = None
    """Smallest value (integers and numbers)."""

    maximum: SignedDecimalString | None = None
    """Largest value (integers and numbers)."""

    one_of: Annotated[
        list[Annotated[str, Field(max_length=256)]] | None,
        Field(min_length=1, max_length=64, json_schema_extra=distinct_items()),
    ] = None
    """The values allowed (strings)."""


class Variable(SpecType):
    """One placeholder of the messages."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule("self.from != 'constant' || has(self.value)", "a variable from: constant needs a value"),
            rule(
                "self.from == 'constant' || !has(self.value)", "value is only for from: constant; use default"
            ),
            rule("self.from == 'request' || !has(self.rules)", "rules are only for from: request"),
            rule(
                "self.from == 'request' || !has(self.default)",
                "default is only for from: request; the others are injected",
            ),
            rule("self.from == 'request' || self.type == 'string'", "an injected variable has type: string"),
            rule(
                "!has(self.rules) || self.type == 'string' || (!has(self.rules.minLength)"
                " && !has(self.rules.maxLength) && !has(self.rules.oneOf))",
                "minLength, maxLength and oneOf are for type: string",
            ),
            rule(
                "!has(self.rules) || self.type in ['integer', 'number']"
                " || (!has(self.rules.minimum) && !has(self.rules.maximum))",
                "minimum and maximum are for type: integer or number",
            ),
        )
    }

    name: Annotated[
        str,
        matching(
            VARIABLE_NAME_PATTERN,
            "must start with a lower-case letter and hold lower-case letters, digits and '_' only",
            max_length=63,
        ),
    ]
    """The placeholder's name: lower-case letters, digits and underscores."""

    type: VariableType = "string"
    """Type of the value."""

    from_: Annotated[VariableSource, Field(alias="from")] = "request"
    """Where the value comes from: the caller's `prompt.variables`, the retrieved passages, or a constant."""

    required: bool = True
    """Whether a caller must give it when there is no default; a missing optional value is the empty string."""

    default: Annotated[str | None, Field(max_length=16384)] = None
    """Value, written as a string, when the caller gives none."""

    value: Annotated[str | None, Field(max_length=16384)] = None
    """The value of a constant."""

    description: Annotated[str | None, Field(max_length=512)] = None
    """What the variable means, for people who call the prompt."""

    rules: VariableRules | None = None
    """What a value must satisfy."""


class PromptDefaults(SpecType):
    """Generation parameters when the request sets none."""

    temperature: (
        Annotated[
            str,
            matching(
                r"^([01](\.[0-9]{1,6})?|2(\.0{1,6})?)$",
                'must be a number in quotes from "0" to "2", such as "0.7"',
                max_length=12,
            ),
        ]
        | None
    ) = None
    """Sampling temperature, 0 to 2."""

    top_p: (
        Annotated[
            str,
            matching(
                r"^(0\.0{0,5}[1-9][0-9]{0,5}|1(\.0{1,6})?)$",
                'must be a number in quotes above "0" and up to "1", such as "0.9"',
                max_length=12,
            ),
        ]
        | None
    ) = None
    """Nucleus sampling mass, above 0 up to 1."""

    max_output_tokens: Annotated[int | None, Field(ge=1, le=1_048_576)] = None
    """Longest answer in tokens."""

    stop: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=64)]] | None,
        Field(max_length=4, json_schema_extra=distinct_items()),
    ] = None
    """Texts at which generation stops."""


class PromptTemplateSpec(SpecType):
    """A prompt with typed variables."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                "!has(self.variables) || self.variables.filter(v, v.from == 'retrieval').size() <= 1",
                "at most one variable can be from: retrieval",
            ),
        )
    }

    version: Annotated[
        str,
        matching(
            r"^[A-Za-z0-9][-A-Za-z0-9._]{0,62}$",
            "must be letters, digits, '-', '.' or '_', such as 1.2",
            max_length=63,
        ),
    ]
    """Your label for this revision, such as "1.2"; a caller may pin it."""

    syntax: Literal["format"] = "format"
    """`format`: `{name}` placeholders and nothing else."""

    messages: Annotated[list[PromptMessage], Field(min_length=1, max_length=32)]
    """The messages, in order."""

    variables: Annotated[list[Variable], Field(max_length=64, json_schema_extra=named_items())] = Field(
        default=[]
    )
    """Every placeholder of the messages, declared once."""

    post_processing: Annotated[list[PostProcessor], Field(max_length=8)] = Field(default=[])
    """Applied to every rendered message in this order: `Dedent` removes common indentation, `CollapseWhitespace`
    makes runs of blanks one space and runs of empty lines one, `Strip` removes blanks around the text. Messages
    that end up empty are refused."""

    defaults: PromptDefaults = PromptDefaults()
    """Generation parameters when the request sets none."""

    suspend: bool = False
    """True keeps what is live and ignores changes of this resource."""

    def revision(self) -> str:
        """Hash of everything that reaches the model, the version label included."""
        return names.revision({key: value for key, value in self.dump().items() if key != "suspend"})
