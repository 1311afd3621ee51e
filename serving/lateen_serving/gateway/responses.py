# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/responses`: prompts by reference, retrieval by `file_search`, citations, calls of functions.

Differences from OpenAI's: nothing is stored; `model` is always needed, because a prompt doesn't name one;
`file_search` runs once before the answer instead of when the model decides to, also where only the prompt asks for it;
its query is described at `prompt_search.question`.
"""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from lateen_api import rendering
from lateen_serving.engine.protocol import ChatMessage
from lateen_serving.errors import InputError, UnsupportedField
from lateen_serving.gateway import (
    answers,
    asking,
    body,
    conversation,
    prompt_search,
    prompting,
    render,
    replies,
    resolve,
    retrieve,
    stream,
)
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.formats import Format
from lateen_serving.gateway.requests.functions import Mode
from lateen_serving.gateway.requests.responses import ResponsesRequest
from lateen_serving.gateway.response_events import chunks
from lateen_serving.gateway.response_object import ResponseObject
from lateen_serving.rag.passages import Options

_PARAMS = {"messages": "input", "max_tokens": "max_output_tokens", "response_format": "text.format"}


async def responses(service: Service, context: RequestContext, document: dict[str, Any]) -> Response:
    """Answer; raises ServiceError before the reply starts."""
    request = body.parse(ResponsesRequest, document)
    said = conversation.of_responses(request.input)
    options = await _resolve(context, request, said)
    reads_calls = await _constrain(context, request)
    if options is not None:
        await retrieve.retrieve(service, context, options)
    _render(service, context, request, said)
    asked = asking.requests(context)
    reply = ResponseObject(context, request)
    if request.stream:
        going = await answers.start(service, context, asked, _PARAMS, reads_calls)
        return stream.EventStream(chunks(service, context, going, reply), going)
    (choice,) = await answers.whole(service, context, asked, _PARAMS, reads_calls)
    reply.finish(choice)
    return replies.json_response(reply.document())


async def _resolve(
    context: RequestContext, request: ResponsesRequest, said: Sequence[ChatMessage]
) -> Options | None:
    """How to search; None where nothing is searched."""
    if request.prompt is None and not request.input:
        raise InputError(
            "Missing required parameter: 'input'.", code="missing_required_parameter", param="input"
        )
    resolve.model(context, request.model, "generate")
    spec = None
    if request.prompt is not None:
        spec = await prompting.find(context, request.prompt.id, request.prompt.version)
        prompting.check(context, request.prompt, request.metadata)
    context.sampling = render.sampling(request, spec)
    options = _search(context, request)
    if options is not None:
        context.query = prompt_search.question(context, request.prompt, said, request.metadata, "input")
    elif spec is not None and rendering.wants_retrieval(spec):
        raise InputError(
            "This prompt is filled with retrieved passages. Add to 'tools':"
            ' {"type": "file_search", "vector_store_ids": ["…"]}.',
            code="missing_required_parameter",
            param="tools",
        )
    return options


def _search(context: RequestContext, request: ResponsesRequest) -> Options | None:
    """Fill `context.indexes`: those of the request, else those of its prompt."""
    if request.search is None:
        return prompt_search.own(context)
    where = f"tools[{request.tools.index(request.search)}].vector_store_ids"
    ids = dict.fromkeys(request.search.vector_store_ids)
    context.indexes = [resolve.index(context.snapshot, index_id, where) for index_id in ids]
    return request.search.options()


async def _constrain(context: RequestContext, request: ResponsesRequest) -> bool:
    return await asking.constrain(
        context,
        answer_format=_answer_format(context, request),
        functions=request.functions,
        paths=[f"tools[{n}]" for n, tool in enumerate(request.tools) if tool.type == "function"],
        mode=_mode(request),
        named=request.forced_function,
        parallel=request.parallel_tool_calls,
    )


def _answer_format(context: RequestContext, request: ResponsesRequest) -> Format:
    """As the request says, else as its prompt says."""
    if "format" in request.text.model_fields_set or context.prompt_revision is None:
        return request.text.format
    return prompting.output_format(context.prompt_revision.spec) or request.text.format


def _mode(request: ResponsesRequest) -> Mode:
    choice = request.tool_choice
    if choice == "none" and request.search is not None:
        raise UnsupportedField(
            "file_search runs before every answer: leave it out of 'tools', or 'tool_choice: none'.",
            code="unsupported_value",
            param="tool_choice",
        )
    if choice == "required" and request.search is not None and not request.functions:
        return "auto"  # the search runs anyway
    if isinstance(choice, str):
        return choice
    if choice is not None and choice.type == "file_search" and request.search is None:
        raise InputError("'tool_choice' asks for file_search, which is not in 'tools'.", param="tool_choice")
    return "required" if request.forced_function is not None else "auto"


def _render(
    service: Service, context: RequestContext, request: ResponsesRequest, said: Sequence[ChatMessage]
) -> None:
    template = prompting.template(context)
    needs_place = request.search is not None and not (template and rendering.wants_retrieval(template.spec))
    reference = render.reference(context.passages) if needs_place else None
    prompting.fill(context, request.prompt, said, request.metadata, request.instructions, reference)
    prompting.note_use(service, context)
