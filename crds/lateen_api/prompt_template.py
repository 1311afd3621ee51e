# SPDX-License-Identifier: Apache-2.0
"""PromptTemplate: messages with typed variables, kept as immutable revisions."""

from typing import Annotated, Literal

from pydantic import Field

from lateen_api import names
from lateen_api.prompt_variables import Variable
from lateen_api.quantities import Duration
from lateen_api.schema import (
    IndexReference,
    JsonObject,
    ModelReference,
    ResourceName,
    SpecType,
    distinct_items,
    matching,
    named_items,
    rule,
    rules,
)

Role = Literal["system", "developer", "user", "assistant"]
Syntax = Literal["format", "jinja"]
MAX_MESSAGES = 32
MAX_VARIABLES = 64
MAX_TARGETS = 16
STEP_PATTERN = r"^(Dedent|Strip|CollapseWhitespace|NormalizeUnicode|RemoveEmptyMessages|RedactPII|MaxLines\([1-9][0-9]{0,4}\))$"

PostProcessor = Annotated[
    str,
    matching(
        STEP_PATTERN,
        "must be Dedent, Strip, CollapseWhitespace, NormalizeUnicode, RemoveEmptyMessages, RedactPII"
        " or MaxLines(n) such as MaxLines(40)",
        max_length=32,
    ),
]
"""One post-processing step."""

VersionLabel = Annotated[
    str,
    matching(
        r"^[A-Za-z0-9][-A-Za-z0-9._]{0,62}$",
        "must be letters, digits, '-', '.' or '_', such as 1.2",
        max_length=63,
    ),
]
"""The author's label of a revision, such as `1.2`."""

Content = Annotated[str, Field(min_length=1, max_length=16384)]
"""Text in the template's syntax."""


class Example(SpecType):
    """One worked example: what a user says and what the model should answer."""

    user: Content
    """What the user says, in the template's syntax."""

    assistant: Content
    """The answer wanted, in the template's syntax."""


class Include(SpecType):
    """Messages and variables of another PromptTemplate of the same namespace, at one fixed version."""

    name: ResourceName
    """Name of the PromptTemplate. It has the same syntax; its post-processing, window, output and defaults don't count."""

    version: VersionLabel
    """Its version label."""


class PromptMessage(SpecType):
    """One item of the messages: either `role` and `content`, or `examples`, or `include`."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                "(has(self.content) ? 1 : 0) + (has(self.examples) ? 1 : 0) + (has(self.include) ? 1 : 0) == 1",
                "an item has exactly one of content (with role), examples, include",
            ),
            rule("has(self.content) == has(self.role)", "role and content belong together"),
        )
    }

    role: Role | None = None
    """Who speaks. `developer` reaches models that don't know it as `system`."""

    content: Content | None = None
    """Text in the template's syntax. `format`: `{variable}`, with `{{` and `}}` for literal braces."""

    examples: Annotated[list[Example] | None, Field(min_length=1, max_length=32)] = None
    """Few-shot examples: each becomes a user message and an assistant message."""

    include: Include | None = None
    """Messages of another PromptTemplate, put here."""


class ContextWindow(SpecType):
    """How many tokens the prompt may have, counted with the model's own tokenizer and chat template."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule(
                "self.overflow == 'Truncate' || !has(self.priority)",
                "priority is only for overflow: Truncate",
            ),
            rule(
                "self.overflow == 'Refuse' || has(self.priority)", "overflow: Truncate needs a priority list"
            ),
        )
    }

    max_prompt_tokens: Annotated[int | None, Field(ge=1, le=4_194_304)] = None
    """Most tokens of the whole prompt, the caller's turns included; by default what the model can read."""

    reserve_output_tokens: Annotated[int, Field(ge=0, le=4_194_304)] = 0
    """Tokens of the model's context that stay free for the answer."""

    overflow: Literal["Refuse", "Truncate"] = "Refuse"
    """`Refuse` answers 400 with the numbers; `Truncate` cuts what `priority` names."""

    priority: Annotated[
        list[Annotated[str, Field(min_length=1, max_length=63)]] | None,
        Field(min_length=1, max_length=65, json_schema_extra=distinct_items()),
    ] = None
    """What may be cut, the most important first: the last gives way first. Names of variables, and `conversation` for the
    caller's earlier turns (oldest first). Passages go as wholes before parts; what is not named, the system message and the
    caller's last turn are never cut."""


class OutputContract(SpecType):
    """What the answer looks like."""

    model_config = SpecType.model_config | {
        "json_schema_extra": rules(
            rule("self.format == 'json' || !has(self.schema)", "schema is only for format: json"),
        )
    }

    format: Literal["text", "json"] = "text"
    """`text`, or `json`: the answer is a JSON object."""

    schema_: Annotated[JsonObject | None, Field(alias="schema")] = None
    """JSON Schema of the answer: it becomes `response_format` when the request sets none."""


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


class Targets(SpecType):
    """Models and indexes a prompt is written for."""

    model_refs: Annotated[
        list[ModelReference], Field(max_length=MAX_TARGETS, json_schema_extra=named_items())
    ] = Field(default=[])
    """ModelDeployments with `task: generate`. What the prompt promises is checked against the tokens that each reads
    (`status.facts.contextTokens`; before there are any, `spec.engine.maxModelLen`)."""

    index_refs: Annotated[
        list[IndexReference], Field(max_length=MAX_TARGETS, json_schema_extra=named_items())
    ] = Field(default=[])
    """RAGIndexes. Each counts with `retrieval.limit` passages of `chunking.size` tokens, as many again for each neighbour on
    either side (`retrieval.neighbours`), at most `retrieval.maxContextTokens`, where they can't give way."""


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

    version: VersionLabel
    """Your label for this revision, such as "1.2"; a caller may pin it. Once live it names this content only, for as long
    as the revision is kept: see `retention` and `revisionHistoryLimit`."""

    syntax: Syntax = "format"
    """`format`: `{name}` placeholders and nothing else. `jinja`: a safe part of Jinja with conditions and loops
    (docs/prompts.md lists it)."""

    messages: Annotated[list[PromptMessage], Field(min_length=1, max_length=MAX_MESSAGES)]
    """The messages, in order."""

    variables: Annotated[list[Variable], Field(max_length=MAX_VARIABLES, json_schema_extra=named_items())] = (
        Field(default=[])
    )
    """Every placeholder of the messages, declared once; those of included templates come with them."""

    post_processing: Annotated[list[PostProcessor], Field(max_length=16)] = Field(default=[])
    """Applied to the rendered messages in this order: `Dedent` removes common indentation, `CollapseWhitespace` makes runs
    of blanks one space and runs of empty lines one, `Strip` removes blanks around the text, `NormalizeUnicode` writes the
    same character always the same way, `RemoveEmptyMessages` drops messages without text, `MaxLines(n)` keeps the first n
    lines, `RedactPII` replaces personal data by `[EMAIL]` and the like. Messages that end up empty are refused."""

    context_window: ContextWindow | None = None
    """How many tokens the prompt may have and what is cut; by default a prompt that does not fit is refused."""

    output: OutputContract = OutputContract()
    """What the answer looks like."""

    defaults: PromptDefaults = PromptDefaults()
    """Generation parameters when the request sets none."""

    targets: Targets | None = None
    """Models and indexes this prompt is written for. A new revision is live only once it fits each of them; others may
    use it all the same."""

    allow_version_reuse: bool = False
    """True lets a version label that was live name other content."""

    retention: Duration = "24h"
    """How long after its last use an older revision is kept, whatever `revisionHistoryLimit` says."""

    revision_history_limit: Annotated[int, Field(ge=1, le=100)] = 10
    """Revisions kept, the live one included; those that are in use or pinned are kept beyond it."""

    suspend: bool = False
    """True keeps what is live and ignores changes of this resource."""

    def revision(self) -> str:
        """Hash of everything that reaches the model, the version label included."""
        return names.revision({key: value for key, value in self.dump().items() if key not in UPKEEP})


UPKEEP = ("targets", "suspend", "allowVersionReuse", "retention", "revisionHistoryLimit")
"""Fields that say when revisions go live and how they are kept; a change of them is no new revision."""
