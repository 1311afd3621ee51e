# SPDX-License-Identifier: Apache-2.0
"""The events of a streamed response, in OpenAI's order. Called by `responses.py`.

created -> in_progress -> [search item: added, in_progress, searching, completed, done] ->
[message item added -> part added -> text deltas -> annotations -> text done -> part done -> item done] ->
[for each call: item added -> arguments deltas -> arguments done -> item done] -> completed | incomplete,
or at any point error -> failed. There is a message, a call, or both.
"""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

from lateen_serving.engine.protocol import TokenLogprob
from lateen_serving.gateway import replies, stream
from lateen_serving.gateway.answers import Answers
from lateen_serving.gateway.chat_object import token_logprobs
from lateen_serving.gateway.choice import Choice, Piece
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.response_object import ResponseObject, call_item, call_item_id, text_part
from lateen_serving.gateway.tool_calls import Arguments, CallEnd, CallStart, Delta, Text


class _Numbered:
    """Writes events, each with the next sequence number."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, kind: str, **fields: Any) -> bytes:
        content = {"type": kind, "sequence_number": self._next, **fields}
        self._next += 1
        return stream.event(kind, content)


class _Events:
    def __init__(self, reply: ResponseObject, choice: Choice) -> None:
        self._reply = reply
        self._choice = choice
        self._event = _Numbered()
        self._output_index = 0
        self._in_message = False
        self._tokens: list[TokenLogprob] = []

    def opening(self) -> Iterator[bytes]:
        event, reply = self._event, self._reply
        yield event("response.created", response=reply.document())
        yield event("response.in_progress", response=reply.document())
        started = reply.search_call("in_progress")
        if started is not None:
            where = {"output_index": self._output_index, "item_id": reply.search_id}
            yield event("response.output_item.added", output_index=self._output_index, item=started)
            for state in ("in_progress", "searching", "completed"):
                yield event(f"response.file_search_call.{state}", **where)
            yield self._item_done(reply.search_call("completed"))

    def piece(self, piece: Piece) -> Iterator[bytes]:
        """What one event of the engine adds."""
        self._tokens += piece.logprobs
        for delta in piece.deltas:
            yield from self._delta(delta)

    def _delta(self, delta: Delta) -> Iterator[bytes]:
        match delta:
            case Text(text):
                if not self._in_message:
                    yield from self._message_added()
                tokens, self._tokens = token_logprobs(self._tokens), []
                yield self._event("response.output_text.delta", **self._part(), delta=text, logprobs=tokens)
            case CallStart(index):
                if self._in_message:
                    yield from self._message_done("completed")
                yield from self._call_added(index)
            case Arguments(index, text):
                where = self._call(index)
                yield self._event("response.function_call_arguments.delta", **where, delta=text)
            case CallEnd(index):
                yield from self._call_done(index, "completed")

    def _message_added(self) -> Iterator[bytes]:
        self._in_message = True
        item = self._reply.message("in_progress", [])
        yield self._event("response.output_item.added", output_index=self._output_index, item=item)
        yield self._event("response.content_part.added", **self._part(), part=text_part(""))

    def _message_done(self, status: str) -> Iterator[bytes]:
        event, where = self._event, self._part()
        part = self._reply.part(self._choice)
        for number, note in enumerate(part["annotations"]):
            yield event(
                "response.output_text.annotation.added", **where, annotation_index=number, annotation=note
            )
        yield event("response.output_text.done", **where, text=part["text"], logprobs=part["logprobs"])
        yield event("response.content_part.done", **where, part=part)
        self._in_message = False
        yield self._item_done(self._reply.message(status, [part]))

    def _call_added(self, index: int) -> Iterator[bytes]:
        item = call_item({**self._choice.calls[index], "arguments": ""}, "in_progress")
        yield self._event("response.output_item.added", output_index=self._output_index, item=item)

    def _call_done(self, index: int, status: str) -> Iterator[bytes]:
        call = self._choice.calls[index]
        told = {"name": call["name"], "arguments": call["arguments"]}
        yield self._event("response.function_call_arguments.done", **self._call(index), **told)
        yield self._item_done(call_item(call, status))

    def _item_done(self, item: dict[str, Any] | None) -> bytes:
        done = self._event("response.output_item.done", output_index=self._output_index, item=item)
        self._output_index += 1
        return done

    def _part(self) -> dict[str, Any]:
        return {
            "item_id": self._reply.message_id,
            "output_index": self._output_index,
            "content_index": 0,
        }

    def _call(self, index: int) -> dict[str, Any]:
        return {
            "item_id": call_item_id(self._choice.calls[index]["id"]),
            "output_index": self._output_index,
        }

    def closing(self) -> Iterator[bytes]:
        status = "incomplete" if self._choice.finish_reason == "length" else "completed"
        if not self._in_message and not self._choice.calls:
            yield from self._message_added()
        if self._in_message:
            yield from self._message_done(status)
        if self._choice.is_in_call:
            yield from self._call_done(len(self._choice.calls) - 1, "incomplete")
        self._reply.finish(self._choice)
        yield self._event(f"response.{status}", response=self._reply.document())

    def failure(self, problem: dict[str, Any]) -> Iterator[bytes]:
        details = {name: problem[name] for name in ("code", "message", "param")}
        yield self._event("error", **details)
        yield self._event("response.failed", response=self._reply.document())


async def chunks(
    service: Service, context: RequestContext, answers: Answers, reply: ResponseObject
) -> AsyncGenerator[bytes, None]:
    """The stream's bytes. A failure is told by an event, because the reply has started."""
    (choice,) = answers.choices
    events = _Events(reply, choice)
    yield b"".join(events.opening())
    try:
        async for _, piece in answers:
            told = b"".join(events.piece(piece))
            if told:
                yield told
        ending = b"".join(events.closing())
    except Exception as error:  # noqa: BLE001 - the reply has started: every failure must become an event
        context.error = replies.of_exception(error, service.log)
        reply.fail(context.error)
        ending = b"".join(events.failure(replies.error_object(context.error)))
    yield ending
