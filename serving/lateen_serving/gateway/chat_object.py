# SPDX-License-Identifier: Apache-2.0
"""OpenAI's chat completion: the whole object, and the chunks of a stream. Used by `chat.py`."""

import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from lateen_serving.engine.protocol import TokenChoice, TokenLogprob
from lateen_serving.gateway import findings, replies, stream
from lateen_serving.gateway.answers import Answers
from lateen_serving.gateway.choice import Choice, Piece
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.tool_calls import Arguments, CallEnd, CallStart, Delta, Text

Document = dict[str, Any]


def usage(context: RequestContext) -> Document:
    """Tokens so far, in all answers."""
    return {
        "prompt_tokens": context.prompt_tokens,
        "completion_tokens": context.completion_tokens,
        "total_tokens": context.prompt_tokens + context.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": context.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def token_choice(token: TokenChoice) -> Document:
    """A token as OpenAI tells it."""
    return {"token": token["token"], "logprob": token["logprob"], "bytes": token["bytes"]}


def token_logprobs(tokens: Sequence[TokenLogprob]) -> list[Document]:
    """Tokens of an answer with what else was likely."""
    return [
        token_choice(token) | {"top_logprobs": [token_choice(other) for other in token["top"]]}
        for token in tokens
    ]


class ChatObject:
    """What all parts of one reply have in common."""

    def __init__(self, model: str, with_logprobs: bool, with_passages: bool = False) -> None:
        self._id = f"chatcmpl-{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._model = model
        self._with_logprobs = with_logprobs
        self._with_passages = with_passages

    def _object(self, kind: str, choices: list[Document]) -> Document:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> Document | None:
        return {"content": token_logprobs(tokens), "refusal": None} if self._with_logprobs else None

    def completion(self, choices: Sequence[Choice], context: RequestContext) -> Document:
        """The whole reply."""
        documents = [self._choice(number, choice) for number, choice in enumerate(choices)]
        answers = [(number, choice.text) for number, choice in enumerate(choices)]
        reply = self._object("chat.completion", documents) | {"usage": usage(context)}
        return reply | self.retrieval(context, answers)

    def retrieval(self, context: RequestContext, answers: Sequence[tuple[int, str]]) -> Document:
        """The field that tells of a search, for the texts of these choices; nothing where there was none."""
        if not context.has_searched:
            return {}
        return {"retrieval": findings.told(context, answers, self._with_passages)}

    def _choice(self, number: int, choice: Choice) -> Document:
        message: Document = {
            "role": "assistant",
            "content": None if choice.calls and not choice.text else choice.text,
            "refusal": None,
            "annotations": [],
        }
        if choice.calls:
            message["tool_calls"] = [
                {
                    "id": call["id"],
                    "type": "function",
                    "function": {"name": call["name"], "arguments": call["arguments"]},
                }
                for call in choice.calls
            ]
        return {
            "index": number,
            "message": message,
            "logprobs": self._logprobs(choice.logprobs),
            "finish_reason": choice.finish_reason,
        }

    def chunk(
        self, number: int, delta: Document, tokens: Sequence[TokenLogprob] = (), reason: str | None = None
    ) -> Document:
        """A part of choice `number`."""
        logprobs = self._logprobs(tokens) if tokens else None
        choice = {"index": number, "delta": delta, "logprobs": logprobs, "finish_reason": reason}
        return self._object("chat.completion.chunk", [choice])

    def chunks(self, number: int, piece: Piece) -> list[Document]:
        """The parts that one event makes: its tokens go with its text."""
        deltas = [delta for delta in map(_delta, piece.deltas) if delta is not None]
        texts = [delta for delta in deltas if "content" in delta]
        if piece.logprobs and not texts:
            deltas.insert(0, {"content": ""})
        return [
            self.chunk(number, delta, piece.logprobs if position == 0 else ())
            for position, delta in enumerate(deltas)
        ]

    def usage_chunk(self, context: RequestContext) -> Document:
        """The last part, if the request wants it."""
        return self._object("chat.completion.chunk", []) | {"usage": usage(context)}


def _delta(delta: Delta) -> Document | None:
    match delta:
        case Text(text):
            return {"content": text}
        case CallStart(index, identity, name):
            function = {"name": name, "arguments": ""}
            return {
                "tool_calls": [{"index": index, "id": identity, "type": "function", "function": function}]
            }
        case Arguments(index, text):
            return {"tool_calls": [{"index": index, "function": {"arguments": text}}]}
        case CallEnd():
            return None


async def chunks(
    service: Service,
    context: RequestContext,
    answers: Answers,
    reply: ChatObject,
    with_usage: bool,
) -> AsyncGenerator[bytes, None]:
    """The stream's bytes. A failure is told by an event, because the reply has started."""
    no_usage = {"usage": None} if with_usage else {}
    opening = {"role": "assistant", "content": "", "refusal": None}
    yield b"".join(stream.data(reply.chunk(number, opening) | no_usage) for number in range(len(answers)))
    try:
        async for number, piece in answers:
            parts = reply.chunks(number, piece)
            if piece.finish_reason is not None:
                told = reply.retrieval(context, [(number, answers.choices[number].text)])
                parts.append(reply.chunk(number, {}, reason=piece.finish_reason) | told)
            if parts:
                yield b"".join(stream.data(part | no_usage) for part in parts)
    except Exception as error:  # noqa: BLE001 - the reply has started: every failure must become an event
        context.error = replies.of_exception(error, service.log)
        yield stream.failure(context.error)
        return
    if with_usage:
        yield stream.data(reply.usage_chunk(context))
    yield stream.DONE
