# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Response object as it grows while an answer is made. Used by `responses.py` and `response_events.py`."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from lateen_serving.engine.protocol import ToolCall
from lateen_serving.errors import ServiceError
from lateen_serving.gateway.chat_object import token_logprobs
from lateen_serving.gateway.choice import Choice
from lateen_serving.gateway.citations import Citation, cite
from lateen_serving.gateway.context import RequestContext
from lateen_serving.gateway.requests.responses import NamedTool, ResponsesRequest
from lateen_serving.gateway.retrieve import attributes

Document = dict[str, Any]
CUT_KEY = "lateen_prompt_cut"
"""In a response's `metadata`, where something was cut: the same as the header `x-lateen-prompt-cut`."""
RETRIEVAL_KEY = "lateen_retrieval"
"""In a response's `metadata`, where something is to be known of it: the same as the header `x-lateen-retrieval`."""


def text_part(text: str, annotations: Sequence[Document] = (), logprobs: Sequence[Document] = ()) -> Document:
    """A text part of an output message."""
    return {
        "type": "output_text",
        "text": text,
        "annotations": list(annotations),
        "logprobs": list(logprobs),
    }


def call_item(call: ToolCall, status: str) -> Document:
    """A call of a function as an output item."""
    return {
        "id": call_item_id(call["id"]),
        "type": "function_call",
        "status": status,
        "call_id": call["id"],
        "name": call["name"],
        "arguments": call["arguments"],
    }


def call_item_id(call_id: str) -> str:
    """The output item's own id; the call's id is what its result names."""
    return f"fc_{call_id.removeprefix('call_')}"


class ResponseObject:
    """One reply of `/v1/responses`, in progress until `finish` or `fail`."""

    def __init__(self, context: RequestContext, request: ResponsesRequest) -> None:
        self._context = context
        self._request = request
        self._id = f"resp_{uuid.uuid4().hex}"
        self._created = int(time.time())
        self._status = "in_progress"
        self._error: ServiceError | None = None
        self._output: list[Document] = []
        self.message_id = f"msg_{uuid.uuid4().hex}"
        self.search_id = f"fs_{uuid.uuid4().hex}"

    def search_call(self, status: str) -> Document | None:
        """The record of the search, None without one; its results only if the request includes them."""
        if self._request.search is None:
            return None
        is_done = status == "completed"
        results = None
        if is_done and "file_search_call.results" in self._request.include:
            results = [
                {
                    "file_id": passage.file_id,
                    "filename": passage.filename,
                    "score": passage.score,
                    "text": passage.text,
                    "attributes": attributes(passage),
                }
                for passage in self._context.passages
            ]
        return {
            "id": self.search_id,
            "type": "file_search_call",
            "status": status,
            "queries": [self._context.query],
            "results": results,
        }

    def message(self, status: str, parts: list[Document]) -> Document:
        """The answer's output item."""
        return {
            "id": self.message_id,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": parts,
        }

    def part(self, choice: Choice) -> Document:
        """The answer's text with its citations."""
        annotations = [_annotation(citation) for citation in cite(choice.text, self._context.passages_read())]
        return text_part(choice.text, annotations, token_logprobs(choice.logprobs))

    def finish(self, choice: Choice) -> None:
        """The answer is there; one that ran into the token limit is incomplete, and so is the item that it cut."""
        self._status = "incomplete" if choice.finish_reason == "length" else "completed"
        search = self.search_call("completed")
        output = [search] if search else []
        if choice.text or not choice.calls:
            status = "completed" if choice.calls else self._status
            output.append(self.message(status, [self.part(choice)]))
        output += [call_item(call, "completed") for call in choice.calls]
        if choice.is_in_call:
            output[-1] |= {"status": "incomplete"}
        self._output = output

    def fail(self, error: ServiceError) -> None:
        """The answer broke off."""
        self._status = "failed"
        self._error = error

    def document(self) -> Document:
        """The object as it is now."""
        context, sampling = self._context, self._context.sampling
        is_done = self._status in {"completed", "incomplete"}
        failure = {"code": "server_error", "message": self._error.message} if self._error else None
        incomplete = {"reason": "max_output_tokens"} if self._status == "incomplete" else None
        return self._echo() | {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "completed_at": int(time.time()) if self._status == "completed" else None,
            "status": self._status,
            "error": failure,
            "incomplete_details": incomplete,
            "output": self._output,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_output_tokens": sampling.max_tokens,
            "usage": usage(context) if is_done else None,
        }

    def _metadata(self) -> Document:
        """The caller's, what was cut of the prompt, and what is to be known of the retrieval."""
        told = {CUT_KEY: self._context.told_cut(), RETRIEVAL_KEY: self._context.told_retrieval()}
        return {**(self._request.metadata or {}), **{key: text for key, text in told.items() if text}}

    def _echo(self) -> Document:
        request, revision = self._request, self._context.prompt_revision
        prompt = None
        if request.prompt is not None and revision is not None:
            prompt = {
                "id": request.prompt.id,
                "version": revision.spec.version,
                "variables": request.prompt.variables,
            }
        return {
            "model": request.model,
            "instructions": request.instructions,
            "prompt": prompt,
            "tools": [tool.model_dump(exclude_none=True) for tool in request.tools],
            "tool_choice": _choice(request.tool_choice),
            "parallel_tool_calls": request.parallel_tool_calls,
            "metadata": self._metadata(),
            "text": request.text.model_dump(by_alias=True, exclude_none=True),
            "top_logprobs": request.logprobs or 0,
            "truncation": "disabled",
            "store": False,
            "background": False,
            "previous_response_id": None,
            "user": request.user,
        }


def _choice(choice: str | NamedTool | None) -> str | Document:
    return choice.model_dump(exclude_none=True) if isinstance(choice, NamedTool) else choice or "auto"


def _annotation(citation: Citation) -> Document:
    """A citation as OpenAI writes it, and where in the document it is."""
    return {
        "type": "file_citation",
        "index": citation.index,
        "file_id": citation.file_id,
        "filename": citation.passage.filename,
        "attributes": attributes(citation.passage),
    }


def usage(context: RequestContext) -> Document:
    """Tokens of the answer."""
    return {
        "input_tokens": context.prompt_tokens,
        "input_tokens_details": {"cached_tokens": context.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": context.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": context.prompt_tokens + context.completion_tokens,
    }
