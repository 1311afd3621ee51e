# SPDX-License-Identifier: Apache-2.0
"""OpenAI's Response object as it grows while an answer is made. Used by `responses.py` and `response_events.py`."""

import time
import uuid
from collections.abc import Sequence
from typing import Any

from lateen_serving.errors import ServiceError
from lateen_serving.gateway.citations import Citation
from lateen_serving.gateway.context import RequestContext
from lateen_serving.gateway.generate import Completed
from lateen_serving.gateway.requests import ResponsesRequest

Document = dict[str, Any]


def annotation(citation: Citation) -> Document:
    """A citation as OpenAI writes it."""
    return {
        "type": "file_citation",
        "index": citation.index,
        "file_id": citation.file_id,
        "filename": citation.filename,
    }


def text_part(text: str, annotations: Sequence[Document] = ()) -> Document:
    """A text part of an output message."""
    return {"type": "output_text", "text": text, "annotations": list(annotations), "logprobs": []}


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
        if not self._request.tools:
            return None
        is_done = status == "completed"
        results = None
        if is_done and "file_search_call.results" in self._request.include:
            results = [
                {
                    "file_id": passage.document_id,
                    "filename": passage.filename,
                    "score": passage.score,
                    "text": passage.text,
                    "attributes": {},
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

    def finish(self, completed: Completed, cited: Sequence[Citation]) -> None:
        """The answer is there; one that ran into the token limit leaves the response incomplete."""
        self._status = "completed" if completed.finish_reason == "stop" else "incomplete"
        part = text_part(completed.text, [annotation(citation) for citation in cited])
        search = self.search_call("completed")
        self._output = [*([search] if search else []), self.message(self._status, [part])]

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
            "tool_choice": "auto",
            "parallel_tool_calls": False,
            "metadata": request.metadata,
            "text": {"format": {"type": "text"}},
            "truncation": "disabled",
            "store": False,
            "background": False,
            "previous_response_id": None,
            "user": request.user,
        }


def usage(context: RequestContext) -> Document:
    """Tokens of the answer."""
    return {
        "input_tokens": context.prompt_tokens,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": context.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": context.prompt_tokens + context.completion_tokens,
    }
