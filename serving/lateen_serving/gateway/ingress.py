# SPDX-License-Identifier: Apache-2.0
"""The web application: routes, and what they have in common. Built once per replica by `app.py`.

Plain Starlette: bodies are read and validated by `body.py`, because FastAPI's own way ignores unknown fields and answers
with error objects that OpenAI's clients don't know, and the API's description is made by `openapi.py`. What else FastAPI
adds would be three layers around every request. Of Starlette's own layers there is none either: errors become replies in
`accounting.py`, which is around every request in any case.
"""

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from lateen_api.gateway_report import REPORT_PATH
from lateen_serving.gateway import (
    body,
    disconnect,
    files,
    listings,
    multipart,
    openapi,
    prompts,
    pushing,
    replies,
    report,
    vector_store_files,
    vector_stores,
)
from lateen_serving.gateway.accounting import Accounting
from lateen_serving.gateway.authenticate import authenticate
from lateen_serving.gateway.chat import chat
from lateen_serving.gateway.completions import completions
from lateen_serving.gateway.context import RequestContext, Service
from lateen_serving.gateway.embeddings import embeddings
from lateen_serving.gateway.requests.files import DocumentPageRequest, FilePageRequest
from lateen_serving.gateway.requests.paging import PageRequest
from lateen_serving.gateway.rerank import rerank
from lateen_serving.gateway.responses import responses

Handler = Callable[[Request], Awaitable[Response]]
_Job = Coroutine[Any, Any, Response]
_CLIENT_CLOSED_REQUEST = 499
_DOCUMENT = "/v1/vector_stores/{id}/files/{file_id}"


def create(service: Service) -> Starlette:
    """The application of one replica."""
    # Ray Serve and Starlette both try the routes in this order, for every request.
    routes = [
        *_writes(service),
        *_reads(service),
        *_lists(service),
        *_files(service),
        *_documents(service),
        *_probes(service),
    ]
    application = _Web(service, routes)
    application.router.redirect_slashes = False
    return application


class _Web(Starlette):
    def __init__(self, service: Service, routes: list[Route]) -> None:
        super().__init__(routes=routes)
        self._service = service

    def build_middleware_stack(self) -> ASGIApp:
        """Starlette calls this once."""
        return Accounting(self.router, self._service)


def _probes(service: Service) -> list[Route]:
    async def healthz(request: Request) -> Response:
        _context(request).endpoint = "/healthz"
        return replies.json_response({"status": "ok"})

    async def readyz(request: Request) -> Response:
        _context(request).endpoint = "/readyz"
        current = service.state.current
        if not current.ready:
            return replies.json_response({"status": "starting"}, 503)
        return replies.json_response({"status": "ready", "catalog": current.revision})

    async def internal_report(request: Request) -> Response:
        _context(request).endpoint = REPORT_PATH
        return await report.report(service, request.headers.get("authorization"))

    described = openapi.document()

    async def describe(request: Request) -> Response:
        _context(request).endpoint = "/openapi.json"
        return replies.json_response(described)

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/openapi.json", describe),
        Route(REPORT_PATH, internal_report),
    ]


def _reads(service: Service) -> list[Route]:
    def read(path: str, reply: Callable[[RequestContext, str], Response]) -> Route:
        async def handle(request: Request) -> Response:
            context = _admit(request, path)
            return reply(context, request.path_params.get("id", ""))

        return Route(path, handle, methods=["GET"])

    def metrics(_context: RequestContext, _id: str) -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    return [
        read("/v1/models", lambda context, _: listings.models(context)),
        read("/v1/models/{id}", listings.model),
        read("/v1/vector_stores/{id}", listings.vector_store),
        read("/v1/prompts", lambda context, _: prompts.prompts(context)),
        read("/v1/prompts/{id}/versions", prompts.versions),
        read("/metrics", metrics),
    ]


def _lists(service: Service) -> list[Route]:
    async def stores(request: Request) -> Response:
        context = _admit(request, "/v1/vector_stores")
        return listings.vector_stores(context, _page(request))

    async def files(request: Request) -> Response:
        async def begin(context: RequestContext) -> _Job:
            wanted = body.parse(DocumentPageRequest, dict(request.query_params))
            return vector_store_files.files(service, context, request.path_params["id"], wanted)

        return await _work(service, request, "/v1/vector_stores/{id}/files", begin)

    return [
        Route("/v1/vector_stores", stores, methods=["GET"]),
        Route("/v1/vector_stores/{id}/files", files, methods=["GET"]),
    ]


def _documents(service: Service) -> list[Route]:
    """Routes of one document of an index; ids of documents are paths."""

    def route(method: str, work: Callable[[RequestContext, str, str], _Job]) -> Route:
        async def handle(request: Request) -> Response:
            async def begin(context: RequestContext) -> _Job:
                return work(context, request.path_params["id"], request.path_params["file_id"])

            return await _work(service, request, _DOCUMENT, begin)

        return Route(_DOCUMENT.replace("file_id", "file_id:path"), handle, methods=[method])

    async def change(request: Request) -> Response:
        async def begin(context: RequestContext) -> _Job:
            parts, document = request.path_params, await body.read(request)
            return pushing.change(service, context, parts["id"], parts["file_id"], document)

        return await _work(service, request, _DOCUMENT, begin)

    return [
        route("GET", partial(vector_store_files.file, service)),
        route("DELETE", partial(pushing.detach, service)),
        Route(_DOCUMENT.replace("file_id", "file_id:path"), change, methods=["POST"]),
    ]


def _files(service: Service) -> list[Route]:
    """Routes of uploaded files."""

    def route(method: str, path: str, work: Callable[[RequestContext, str], _Job]) -> Route:
        async def handle(request: Request) -> Response:
            async def begin(context: RequestContext) -> _Job:
                return work(context, request.path_params["id"])

            return await _work(service, request, path, begin)

        return Route(path, handle, methods=[method])

    async def listed(request: Request) -> Response:
        async def begin(context: RequestContext) -> _Job:
            return files.files(service, context, body.parse(FilePageRequest, dict(request.query_params)))

        return await _work(service, request, "/v1/files", begin)

    async def upload(request: Request) -> Response:
        async with AsyncExitStack() as stack:

            async def begin(context: RequestContext) -> _Job:
                found = await stack.enter_async_context(multipart.read(service, request))
                return files.create(service, context, found)

            return await _work(service, request, "/v1/files", begin)

    return [
        Route("/v1/files", listed, methods=["GET"]),
        Route("/v1/files", upload, methods=["POST"]),
        route("GET", "/v1/files/{id}", partial(files.file, service)),
        route("DELETE", "/v1/files/{id}", partial(files.delete, service)),
        route("GET", "/v1/files/{id}/content", partial(files.content, service)),
    ]


def _page(request: Request) -> PageRequest:
    return body.parse(PageRequest, dict(request.query_params))


def _writes(service: Service) -> list[Route]:
    Work = Callable[[RequestContext, str, dict[str, Any]], _Job]  # noqa: N806 - a type

    def write(path: str, work: Work) -> Route:
        async def handle(request: Request) -> Response:
            async def begin(context: RequestContext) -> _Job:
                document = await body.read(request)
                return work(context, request.path_params.get("id", ""), document)

            return await _work(service, request, path, begin)

        return Route(path, handle, methods=["POST"])

    return [
        write("/v1/chat/completions", lambda context, _, document: chat(service, context, document)),
        write("/v1/completions", lambda context, _, document: completions(service, context, document)),
        write("/v1/responses", lambda context, _, document: responses(service, context, document)),
        write(
            "/v1/prompts/{id}/render",
            lambda context, prompt_id, document: prompts.dry_run(service, context, prompt_id, document),
        ),
        write("/v1/embeddings", lambda context, _, document: embeddings(service, context, document)),
        write("/v1/rerank", lambda context, _, document: rerank(service, context, document)),
        write(
            "/v1/vector_stores/{id}/search",
            lambda context, index_id, document: vector_stores.search(service, context, index_id, document),
        ),
        write(
            "/v1/vector_stores/{id}/files",
            lambda context, index_id, document: pushing.attach(service, context, index_id, document),
        ),
    ]


async def _work(
    service: Service, request: Request, path: str, begin: Callable[[RequestContext], Awaitable[_Job]]
) -> Response:
    """The reply of the job that `begin` makes of the request, in one of the gateway's places; stopped when the client goes."""
    context = _admit(request, path)
    service.room.admit()
    try:
        return await disconnect.guard(request, await begin(context))
    except ClientDisconnect:
        context.disconnected = True
        return Response(status_code=_CLIENT_CLOSED_REQUEST)


def _context(request: Request) -> RequestContext:
    context: RequestContext = request.state.context
    return context


def _admit(request: Request, path: str) -> RequestContext:
    context = _context(request)
    context.endpoint = path
    authenticate(context, request.headers.get("authorization"))
    return context
