# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/chat/completions`. No retrieval here: responses do that."""

import time
import uuid
from collections.abc import AsyncGenerator
from typing import Any

from starlette.responses import Response

from lateen_serving.engine.protocol import ChatMessage
from lateen_serving.gateway import body, generate, replies, resolve, stream
from lateen_serving.gateway.context import RequestContext, Sampling, Service
from lateen_serving.gateway.generate import Answer
from lateen_serving.gateway.requests import ChatRequest, Message


async def chat(service: Service, context: RequestContext, document: dict[str, Any]) -> Response:
    """Continue a conversation; raises ServiceError before the reply starts."""
    request = body.parse(ChatRequest, document)
    resolve.model(context, request.model, "generate")
    context.messages = [message(item) for item in request.messages]
    context.sampling = Sampling(
        max_tokens=request.max_completion_tokens or request.max_tokens,
        temperature=request.temperature,
        top_p=request.top_p,
        seed=request.seed,
        stop=tuple(request.stop),
    )
    answer = await generate.start(service, context)
    head = _Head(request.model)
    if request.stream:
        with_usage = request.stream_options is not None and request.stream_options.include_usage
        return stream.EventStream(_chunks(service, context, answer, head, with_usage), answer)
    completed = await generate.complete(answer)
    return replies.json_response(head.completion(completed, usage(context)))


def message(item: Message) -> ChatMessage:
    """A message as models know it: they have no role `developer`."""
    return ChatMessage(role="system" if item.role == "developer" else item.role, content=item.content)


def usage(context: RequestContext) -> dict[str, int]:
    """Tokens so far."""
    return {
        "prompt_tokens": context.prompt_tokens,
        "completion_tokens": context.completion_tokens,
        "total_tokens": context.prompt_tokens + context.completion_tokens,
    }


class _Head:
    """What all parts of one reply have in common."""

    def __init__(self, model: str) -> None:
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = model

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }

    def completion(self, completed: generate.Completed, tokens: dict[str, int]) -> dict[str, Any]:
        content: dict[str, Any] = {
            "role": "assistant",
            "content": completed.text,
            "refusal": None,
            "annotations": [],
        }
        choice = {
            "index": 0,
            "message": content,
            "logprobs": None,
            "finish_reason": completed.finish_reason,
        }
        return self._object("chat.completion", [choice]) | {"usage": tokens}

    def chunk(self, delta: dict[str, Any], finish_reason: str | None, with_usage: bool) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        chunk = self._object("chat.completion.chunk", [choice])
        if with_usage:
            chunk["usage"] = None
        return stream.data(chunk)

    def usage_chunk(self, tokens: dict[str, int]) -> bytes:
        return stream.data(self._object("chat.completion.chunk", []) | {"usage": tokens})


async def _chunks(
    service: Service, context: RequestContext, answer: Answer, head: _Head, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    yield head.chunk({"role": "assistant", "content": "", "refusal": None}, None, with_usage)
    try:
        reason = None
        async for event in answer:
            reason = event.get("finish_reason")
            if event["text"]:
                yield head.chunk({"content": event["text"]}, None, with_usage)
    except Exception as error:  # noqa: BLE001 - the reply has started: every failure must become an event
        context.error = replies.of_exception(error, service.log)
        yield stream.data({"error": replies.error_object(context.error)})
        return
    yield head.chunk({}, reason, with_usage)
    if with_usage:
        yield head.usage_chunk(usage(context))
    yield stream.DONE
