# SPDX-License-Identifier: Apache-2.0
"""`POST /v1/completions`, OpenAI's older endpoint: continues bare texts, without a chat template."""

import codecs
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from starlette.responses import Response

from lateen_serving.engine.protocol import TokenChoice, TokenLogprob
from lateen_serving.gateway import answers, asking, body, replies, resolve, stream
from lateen_serving.gateway.answers import Answers
from lateen_serving.gateway.chat import sampling
from lateen_serving.gateway.chat_object import usage
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.requests.completions import CompletionRequest

Document = dict[str, Any]
_PARAMS = {"messages": "prompt"}


async def completions(service: Service, context: RequestContext, document: dict[str, Any]) -> Response:
    """Continue one or several texts; raises ServiceError before the reply starts."""
    request = body.parse(CompletionRequest, document)
    resolve.model(context, request.model, "generate")
    context.sampling = sampling(request, request.max_tokens, request.logprobs)
    context.choices = request.n
    reply = _Completion(request)
    asked = asking.requests(context, request.prompt)
    if request.stream:
        going = await answers.start(service, context, asked, _PARAMS)
        return stream.EventStream(_chunks(service, context, going, reply, request.with_usage), going)
    choices = await answers.whole(service, context, asked, _PARAMS)
    documents = [
        reply.choice(number, choice.text, choice.logprobs, 0, choice.finish_reason)
        for number, choice in enumerate(choices)
    ]
    return replies.json_response(reply.document(documents) | {"usage": usage(context)})


class _Completion:
    """What all parts of one reply have in common."""

    def __init__(self, request: CompletionRequest) -> None:
        self._id = f"cmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._request = request

    def document(self, choices: list[Document]) -> Document:
        """The reply, or a part of it."""
        return {
            "id": self._id,
            "object": "text_completion",
            "created": self._created,
            "model": self._request.model,
            "choices": choices,
        }

    def choice(
        self, number: int, text: str, tokens: Sequence[TokenLogprob], offset: int, reason: str | None
    ) -> Document:
        """An answer, or a part of it whose text begins at character `offset`."""
        logprobs = _logprobs(tokens, offset) if self._request.logprobs is not None else None
        return {"index": number, "text": text, "logprobs": logprobs, "finish_reason": reason}


def _logprobs(tokens: Sequence[TokenLogprob], offset: int) -> Document:
    offsets = []
    decoder = codecs.getincrementaldecoder("utf-8")(errors="ignore")
    for token in tokens:
        # By bytes: a character may be made of several tokens, and begins with the first of them.
        offsets.append(offset)
        offset += len(decoder.decode(bytes(token["bytes"])))
    return {
        "tokens": [_name(token) for token in tokens],
        "token_logprobs": [token["logprob"] for token in tokens],
        "top_logprobs": [{_name(other): other["logprob"] for other in token["top"]} for token in tokens],
        "text_offset": offsets,
    }


def _name(token: TokenChoice) -> str:
    """A token's text; of a part of a character its bytes, as OpenAI writes them, so that each has a name of its own."""
    raw = bytes(token["bytes"])
    try:
        raw.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in raw)
    return token["token"]


async def _chunks(
    service: Service, context: RequestContext, going: Answers, reply: _Completion, with_usage: bool
) -> AsyncGenerator[bytes, None]:
    no_usage = {"usage": None} if with_usage else {}
    told = [0] * len(going)
    try:
        async for number, piece in going:
            text, reason = piece.text, piece.finish_reason
            if text or piece.logprobs or reason:
                part = reply.choice(number, text, piece.logprobs, told[number], reason)
                yield stream.data(reply.document([part]) | no_usage)
            told[number] += len(text)
    except Exception as error:  # noqa: BLE001 - the reply has started: every failure must become an event
        context.error = replies.of_exception(error, service.log)
        yield stream.failure(context.error)
        return
    if with_usage:
        yield stream.data(reply.document([]) | {"usage": usage(context)})
    yield stream.DONE
