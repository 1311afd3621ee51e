# SPDX-License-Identifier: Apache-2.0
"""The events of a streamed response, in OpenAI's order. Called by `responses.py`.

created -> in_progress -> [search item: added, in_progress, searching, completed, done] -> message item added ->
part added -> text deltas -> annotations -> text done -> part done -> item done -> completed | incomplete,
or at any point error -> failed.
"""

from collections.abc import AsyncGenerator, Iterator
from typing import Any

from lateen_serving.gateway import citations, replies, stream
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.generate import Answer, Completed, FinishReason
from lateen_serving.gateway.response_object import ResponseObject, annotation, text_part


class _Numbered:
    """Writes events, each with the next sequence number."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, kind: str, **fields: Any) -> bytes:
        content = {"type": kind, "sequence_number": self._next, **fields}
        self._next += 1
        return stream.event(kind, content)


class _Events:
    def __init__(self, reply: ResponseObject) -> None:
        self._reply = reply
        self._event = _Numbered()
        self._output_index = 0

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
            done = reply.search_call("completed")
            yield event("response.output_item.done", output_index=self._output_index, item=done)
            self._output_index += 1
        item = reply.message("in_progress", [])
        yield event("response.output_item.added", output_index=self._output_index, item=item)
        yield event("response.content_part.added", **self._part(), part=text_part(""))

    def _part(self) -> dict[str, Any]:
        return {
            "item_id": self._reply.message_id,
            "output_index": self._output_index,
            "content_index": 0,
        }

    def delta(self, text: str) -> bytes:
        return self._event("response.output_text.delta", **self._part(), delta=text, logprobs=[])

    def closing(self, completed: Completed, cited: list[citations.Citation]) -> Iterator[bytes]:
        event, where = self._event, self._part()
        annotations = [annotation(citation) for citation in cited]
        for number, note in enumerate(annotations):
            yield event(
                "response.output_text.annotation.added", **where, annotation_index=number, annotation=note
            )
        part = text_part(completed.text, annotations)
        yield event("response.output_text.done", **where, text=completed.text, logprobs=[])
        yield event("response.content_part.done", **where, part=part)
        status = "completed" if completed.finish_reason == "stop" else "incomplete"
        item = self._reply.message(status, [part])
        yield event("response.output_item.done", output_index=self._output_index, item=item)
        self._reply.finish(completed, cited)
        yield event(f"response.{status}", response=self._reply.document())

    def failure(self, problem: dict[str, Any]) -> Iterator[bytes]:
        details = {name: problem[name] for name in ("code", "message", "param")}
        yield self._event("error", **details)
        yield self._event("response.failed", response=self._reply.document())


async def chunks(
    service: Service, context: RequestContext, answer: Answer, reply: ResponseObject
) -> AsyncGenerator[bytes, None]:
    """The stream's bytes. A failure is told by an event, because the reply has started."""
    events = _Events(reply)
    yield b"".join(events.opening())
    texts: list[str] = []
    reason: FinishReason = "stop"
    try:
        async for event in answer:
            reason = event.get("finish_reason", reason)
            if event["text"]:
                texts.append(event["text"])
                yield events.delta(event["text"])
        completed = Completed("".join(texts), reason)
        ending = b"".join(events.closing(completed, citations.cite(completed.text, context.passages)))
    except Exception as error:  # noqa: BLE001 - the reply has started: every failure must become an event
        context.error = replies.of_exception(error, service.log)
        reply.fail(context.error)
        ending = b"".join(events.failure(replies.error_object(context.error)))
    yield ending
