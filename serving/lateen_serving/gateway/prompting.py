# SPDX-License-Identifier: Apache-2.0
"""Fourth step where a request names a PromptTemplate: its messages, its window, its defaults, its output contract.

Called by `responses.py`, `chat_prompt.py` and `prompts.py`.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from lateen_api import rendering
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts import composing
from lateen_api.rendering import CompiledPrompt, Injection, Value
from lateen_serving.engine.protocol import ChatMessage, Shortening, Window
from lateen_serving.errors import InputError
from lateen_serving.gateway import render, resolve
from lateen_serving.gateway.context import RequestContext, Sampling, Service
from lateen_serving.gateway.formats import Format
from lateen_serving.gateway.requests.formats import JsonObjectFormat, ResponseJsonSchemaFormat
from lateen_serving.gateway.requests.responses import PromptReference
from lateen_serving.gateway.retrieve import NOTHING_FOUND, numbered
from lateen_serving.rag.passages import Passage


async def find(
    context: RequestContext, prompt_id: str, version: str | None, param: str = "prompt.id"
) -> PromptTemplateSpec:
    """Fill `context.prompt` and its revision, ready to be rendered; raises NotFound as `resolve.prompt` does."""
    revision = resolve.prompt(context, prompt_id, version, param)
    assert context.prompt is not None
    await context.snapshot.templates.prepare(context.prompt, revision)
    return revision.spec


def template(context: RequestContext) -> CompiledPrompt | None:
    """The parsed prompt of a request; None where it names none."""
    if context.prompt is None or context.prompt_revision is None:
        return None
    return context.snapshot.templates.get(context.prompt, context.prompt_revision)


def check(
    context: RequestContext, wanted: PromptReference | None, metadata: Mapping[str, str] | None
) -> None:
    """Refuse wrong variables before a search is paid for; raises InputError that names the first one."""
    values(context, wanted, metadata)


def values(
    context: RequestContext, wanted: PromptReference | None, metadata: Mapping[str, str] | None
) -> Mapping[str, Any]:
    """The prompt's values before anything was searched; empty without a prompt. Raises InputError as `check` does."""
    found = template(context)
    if found is None or wanted is None:
        return {}
    with _named("prompt.variables"):
        return found.values(wanted.variables, injection(context, metadata))


def fill(
    context: RequestContext,
    wanted: PromptReference | None,
    said: Sequence[ChatMessage],
    metadata: Mapping[str, str] | None,
    instructions: str | None = None,
    reference: str | None = None,
    variables: str = "prompt.variables",
) -> None:
    """Fill `context.messages` and `context.window`: the prompt's messages, then the caller's (`said`).

    Raises InputError that names the wrong variable under `variables`, where the request has them.
    """
    found = template(context)
    if found is None or wanted is None:
        context.messages = render.messages([], said, instructions, reference)
        return
    injected = injection(context, metadata, context.passages)
    of_prompt = prompt_messages(found, wanted.variables, injected, variables)
    context.messages = render.messages(of_prompt, said, instructions, reference)
    context.window = window(
        found, wanted.variables, injected, context.passages, said, instructions, reference
    )


def prompt_messages(
    template: CompiledPrompt,
    variables: Mapping[str, Value],
    injection: Injection,
    param: str = "prompt.variables",
) -> list[ChatMessage]:
    """The prompt's messages; raises InputError that names the wrong variable."""
    with _named(param):
        rendered = template.render(variables, injection)
    return [ChatMessage(role=message.role, content=message.content) for message in rendered]


@contextmanager
def _named(param: str) -> Iterator[None]:
    """Turns a refused variable into an InputError that names it under `param`."""
    try:
        yield
    except rendering.InvalidVariable as error:
        where = f"{param}.{error.variable}" if error.variable else param
        raise InputError(f"Invalid prompt variable: {error}.", param=where) from error


def window(
    template: CompiledPrompt,
    variables: Mapping[str, Value],
    injection: Injection,
    passages: Sequence[Passage],
    conversation: Sequence[ChatMessage],
    instructions: str | None,
    reference: str | None,
) -> Window | None:
    """The prompt's context window with what a replica needs to shorten the messages; None if it has none.

    The arguments are those from which the messages were made.
    """
    spec = template.spec
    own = spec.context_window
    if own is None:
        return None
    found = Window(max_prompt_tokens=own.max_prompt_tokens, reserve_output_tokens=own.reserve_output_tokens)
    order = composing.order(spec)
    if order:
        values = template.values(variables, injection)
        told = list(injection.retrieved) if not passages else numbered(passages)
        material = composing.material(spec, values, told, conversation)
        found["shortening"] = Shortening(
            prompt=spec.dump(),
            values=dict(material.values),
            retrieval=material.retrieval,
            passages=list(material.passages),
            conversation=list(conversation),
            instructions=instructions or "",
            reference=reference or "",
            order=order,
        )
    return found


def injection(
    context: RequestContext, metadata: Mapping[str, str] | None, passages: Sequence[Passage] = ()
) -> Injection:
    """What reaches the prompt besides the caller's variables: the time, the key's name, the request's metadata and what
    was found. No tenant: keys have none yet.
    """
    return Injection(
        now=datetime.now(UTC),
        name=context.key_name,
        metadata=metadata or {},
        retrieved=numbered(passages) or _nothing(context),
    )


def _nothing(context: RequestContext) -> list[str]:
    """What stands in the place of passages where a search found none: a list stays empty, a text says so."""
    revision = context.prompt_revision
    if NOTHING_FOUND not in context.retrieval or revision is None:
        return []
    variables = revision.spec.variables
    is_list = any(one.from_ == "retrieval" and one.type == "list" for one in variables)
    return [] if is_list else [render.NOTHING_FOUND]


def note_use(service: Service, context: RequestContext) -> None:
    """The request uses its prompt's revision, which is therefore kept a while longer."""
    if context.prompt is not None and context.prompt_revision is not None:
        service.state.uses.used(context.prompt.id, context.prompt_revision.revision)


def output_format(spec: PromptTemplateSpec) -> Format | None:
    """What the prompt says of the answer; None where it takes any text."""
    output = spec.output
    if output.format == "text":
        return None
    if output.schema_ is None:
        return JsonObjectFormat(type="json_object")
    document = {"type": "json_schema", "name": "answer", "schema": output.schema_}
    return ResponseJsonSchemaFormat.model_validate(document)


def defaulted(given: Sampling, spec: PromptTemplateSpec | None, named: Collection[str]) -> Sampling:
    """`given` with the prompt's defaults for what the request does not say; `named` are the fields it has."""
    if spec is None:
        return given
    defaults = spec.defaults
    changes: dict[str, Any] = {}
    if defaults.temperature is not None and "temperature" not in named:
        changes["temperature"] = float(defaults.temperature)
    if defaults.top_p is not None and "top_p" not in named:
        changes["top_p"] = float(defaults.top_p)
    if defaults.stop and "stop" not in named:
        changes["stop"] = tuple(defaults.stop)
    if given.max_tokens is None:
        changes["max_tokens"] = defaults.max_output_tokens
    return replace(given, **changes)
