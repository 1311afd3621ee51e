# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/chat/completions`. Retrieval is the prompt's doing: see `chat_prompt.py`."""

from typing import Any

from starlette.responses import Response

from lateen_serving.gateway import (
    answers,
    asking,
    body,
    chat_prompt,
    conversation,
    prompting,
    replies,
    resolve,
    stream,
)
from lateen_serving.gateway.chat_object import ChatObject, chunks
from lateen_serving.gateway.context import RequestContext, Sampling, Service
from lateen_serving.gateway.requests.chat import ChatRequest
from lateen_serving.gateway.requests.functions import Mode
from lateen_serving.gateway.requests.generation import GenerationBody


async def chat(service: Service, context: RequestContext, document: dict[str, Any]) -> Response:
    """Continue a conversation; raises ServiceError before the reply starts."""
    request = body.parse(ChatRequest, document)
    resolve.model(context, request.model, "generate")
    template = await chat_prompt.find(context, request)
    said = conversation.of_chat(request.messages)
    logprobs = (request.top_logprobs or 0) if request.logprobs else None
    asked_for = sampling(request, request.max_completion_tokens or request.max_tokens, logprobs)
    context.sampling = prompting.defaulted(asked_for, template, request.model_fields_set)
    context.choices = request.n
    reads_calls = await asking.constrain(
        context,
        answer_format=chat_prompt.answer_format(request, template),
        functions=[tool.function for tool in request.tools],
        paths=[f"tools[{number}].function" for number in range(len(request.tools))],
        mode=_mode(request),
        named=request.forced_function,
        parallel=request.parallel_tool_calls,
    )
    await chat_prompt.fill(service, context, request, said)
    params = {"max_tokens": "max_completion_tokens"} if request.max_completion_tokens else {}
    reply = ChatObject(request.model, request.logprobs, request.with_passages)
    asked = asking.requests(context)
    if request.stream:
        going = await answers.start(service, context, asked, params, reads_calls)
        return stream.EventStream(chunks(service, context, going, reply, request.with_usage), going)
    choices = await answers.whole(service, context, asked, params, reads_calls)
    return replies.json_response(reply.completion(choices, context))


def sampling(request: GenerationBody, max_tokens: int | None, logprobs: int | None) -> Sampling:
    """How to generate, as chat completions and completions say it."""
    return Sampling(
        max_tokens=max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=request.top_k,
        min_p=request.min_p,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logit_bias={int(token): bias for token, bias in request.logit_bias.items()},
        seed=request.seed,
        stop=tuple(request.stop),
        logprobs=logprobs,
    )


def _mode(request: ChatRequest) -> Mode:
    choice = request.tool_choice
    if isinstance(choice, str):
        return choice
    return "required" if choice is not None else "auto"
