# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/responses`: prompts by reference, retrieval by `file_search`, citations.

Differences from OpenAI's: nothing is stored; `model` is always needed, because a prompt doesn't name one;
`file_search` runs once before the answer instead of when the model decides to; its query is described at
`render.question`.
"""

from typing import Any

from starlette.responses import Response

from lateen_api import rendering
from lateen_serving.errors import InputError
from lateen_serving.gateway import body, citations, generate, render, replies, resolve, retrieve, stream
from lateen_serving.gateway.chat import message
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.requests import ResponsesRequest
from lateen_serving.gateway.response_events import chunks
from lateen_serving.gateway.response_object import ResponseObject


async def responses(service: Service, context: RequestContext, document: dict[str, Any]) -> Response:
    """Answer; raises ServiceError before the reply starts."""
    request = body.parse(ResponsesRequest, document)
    _resolve(context, request)
    if request.tools:
        await retrieve.retrieve(service, context, request.tools[0].max_num_results)
    _render(context, request)
    answer = await generate.start(service, context)
    reply = ResponseObject(context, request)
    if request.stream:
        return stream.EventStream(chunks(service, context, answer, reply), answer)
    completed = await generate.complete(answer)
    reply.finish(completed, citations.cite(completed.text, context.passages))
    return replies.json_response(reply.document())


def _resolve(context: RequestContext, request: ResponsesRequest) -> None:
    if request.prompt is None and not request.input:
        raise InputError(
            "Missing required parameter: 'input'.", code="missing_required_parameter", param="input"
        )
    resolve.model(context, request.model, "generate")
    spec = None
    if request.prompt is not None:
        spec = resolve.prompt(context, request.prompt.id, request.prompt.version).spec
    if request.tools:
        ids = dict.fromkeys(request.tools[0].vector_store_ids)
        context.indexes = [
            resolve.index(context.snapshot, index_id, "tools[0].vector_store_ids") for index_id in ids
        ]
        context.query = render.question(request, spec)
    elif spec is not None and rendering.wants_retrieval(spec):
        raise InputError(
            "This prompt is filled with retrieved passages. Add to 'tools':"
            ' {"type": "file_search", "vector_store_ids": ["…"]}.',
            code="missing_required_parameter",
            param="tools",
        )
    context.sampling = render.sampling(request, spec)


def _render(context: RequestContext, request: ResponsesRequest) -> None:
    spec = context.prompt_revision.spec if context.prompt_revision is not None else None
    prompt_messages = []
    if spec is not None and request.prompt is not None:
        prompt_messages = render.prompt_messages(spec, request.prompt.variables, context.passages)
    has_place = spec is not None and rendering.wants_retrieval(spec)
    reference = render.reference(context.passages) if request.tools and not has_place else None
    conversation = [message(item) for item in request.input]
    context.messages = render.messages(prompt_messages, conversation, request.instructions, reference)
