# SPDX-License-Identifier: Apache-2.0
"""Around every request: its context, its errors as replies, the headers every reply has, one log line and the metrics.
Used by `ingress.py`.
"""

import asyncio
import re
import uuid

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lateen_api.gateway_report import REPORT_PATH
from lateen_serving.gateway import replies
from lateen_serving.gateway.context import RequestContext, Service

PROBES = frozenset({"/healthz", "/readyz"})
_CLIENT_CLOSED_REQUEST = 499
_REQUEST_ID = "x-request-id"
_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")


class Accounting:
    """ASGI middleware."""

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app = app
        self._service = service

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        context = RequestContext(
            request_id=_request_id(Headers(scope=scope).get(_REQUEST_ID)),
            snapshot=self._service.state.current,
            started=_now(),
            roll=self._service.roll(),
        )
        scope.setdefault("state", {})["context"] = context
        stamped = _StampedSend(context, send, self._service.echoes_request_id)
        metrics = self._service.metrics
        metrics.ongoing.inc()
        try:
            with self._service.room.request():
                await self._serve(context, scope, receive, stamped)
        except asyncio.CancelledError:
            context.disconnected = True
            raise
        finally:
            metrics.ongoing.dec()
            self._record(context, stamped.status)

    async def _serve(
        self, context: RequestContext, scope: Scope, receive: Receive, send: "_StampedSend"
    ) -> None:
        try:
            await self._app(scope, receive, send)
        except Exception as error:
            if isinstance(error, HTTPException):
                context.error = replies.of_http(error, scope["method"], Request(scope).url.path)
            else:
                context.error = replies.of_exception(error, self._service.log)
            if send.status:
                raise
            await replies.error_response(context.error)(scope, receive, send)

    def _record(self, context: RequestContext, status: int) -> None:
        if context.endpoint in PROBES or (context.endpoint == REPORT_PATH and status == 200):
            return
        if context.disconnected:
            status = _CLIENT_CLOSED_REQUEST
        seconds = _now() - context.started
        first = context.first_token - context.started if context.first_token is not None else None
        model = context.model.id if context.model is not None else ""
        self._service.metrics.ended(context.endpoint, status, seconds, first)
        if context.prompt is not None:
            self._service.metrics.cut(context.prompt.id, {cut["what"] for cut in context.cut})
        if model:
            self._service.metrics.tokens(model, context.prompt_tokens, context.completion_tokens)
        error = context.error
        level = self._service.log.error if error is not None and status >= 500 else self._service.log.info
        level(
            "request",
            request_id=context.request_id,
            endpoint=context.endpoint,
            status=status,
            key=context.key_name,
            model=model,
            release=context.release(),
            catalog=context.snapshot.revision,
            prompt_tokens=context.prompt_tokens,
            completion_tokens=context.completion_tokens,
            duration_ms=round(seconds * 1000, 1),
            first_token_ms=round(first * 1000, 1) if first is not None else None,
            failure=error.to_dict() if error is not None else None,
        )


class _StampedSend:
    """Adds the headers every reply has, when it starts."""

    def __init__(self, context: RequestContext, send: Send, echoes_request_id: bool) -> None:
        self._context = context
        self._echoes_request_id = echoes_request_id
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            if self._echoes_request_id:
                headers[_REQUEST_ID] = self._context.request_id
            headers["openai-processing-ms"] = str(round((_now() - self._context.started) * 1000))
            release = self._context.release()
            if release:
                headers["x-lateen-release"] = release
            if self._context.cut:
                headers["x-lateen-prompt-cut"] = self._context.told_cut()
            if self._context.retrieval:
                headers["x-lateen-retrieval"] = self._context.told_retrieval()
        await self._send(message)


def _request_id(given: str | None) -> str:
    return given if given and _SANE_ID.fullmatch(given) else uuid.uuid4().hex


def _now() -> float:
    return asyncio.get_running_loop().time()
