# SPDX-License-Identifier: Apache-2.0
"""Requests to the API server, over the official client; `cluster.py` says what is asked for.

Every request is counted through `on_request`, has a time limit and one field manager; a failure becomes
`Unavailable`, which names the verb and the resource.
"""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Any, NamedTuple

import aiohttp
from kubernetes.aio import client

from lateen_api import names
from lateen_operator.seams import Expired, Unavailable

_CONNECT_SECONDS = 3
_TIMEOUT = aiohttp.ClientTimeout(total=15, connect=_CONNECT_SECONDS)
_WATCH_SECONDS = 300
"""After which the API server ends a watch, which is then begun again."""

_SILENCE = aiohttp.ClientTimeout(total=_WATCH_SECONDS + 30, sock_connect=_CONNECT_SECONDS, sock_read=100)
"""The API server sends a bookmark every minute: a watch that is silent for longer is dead."""

_PAGE = 500
_MAX_REASON = 300
_OK, GONE, CONFLICT, EXPIRED = 200, 404, 409, 410
JSON = "application/json"
YAML = "application/yaml"
APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

OnRequest = Callable[[str, str], None]
"""Told verb and resource of each request before it is sent."""

Body = dict[str, Any]


class Type(NamedTuple):
    """A resource type; requests are made from it because the client's typed classes cost 90 MB of memory."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str = "", name: str = "", part: str = "") -> str:
        """Path of all, of a namespace's, or of one object, or of a subresource."""
        root = f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"
        place = f"/namespaces/{namespace}" if namespace else ""
        return "".join(
            (root, place, f"/{self.plural}", f"/{name}" if name else "", f"/{part}" if part else "")
        )


class ApiServer:
    """The API server.

    Args:
        api: Connected client.
        on_request: Told verb and resource of each request.

    """

    def __init__(self, api: client.ApiClient, on_request: OnRequest) -> None:
        self._api, self._on_request = api, on_request

    async def get(self, kind: Type, namespace: str, name: str) -> Body | None:
        """The object; None when there is none."""
        return await self.ask("get", kind.plural, "GET", kind.path(namespace, name), accept=(GONE,))

    async def create(self, kind: Type, namespace: str, body: Body, content_type: str = JSON) -> Body | None:
        """The object created; None when the name is taken.

        As YAML the API server writes it anew. It keeps what has no schema, such as a ControllerRevision's data, byte
        for byte otherwise, and any later patch, an annotation even, then looks like a change of the data.
        """
        return await self.ask(
            "create",
            kind.plural,
            "POST",
            kind.path(namespace),
            query={"fieldManager": names.FIELD_MANAGER},
            body=json.dumps(body) if content_type == YAML else body,
            content_type=content_type,
            accept=(CONFLICT,),
        )

    async def merge(
        self,
        kind: Type,
        namespace: str,
        name: str,
        body: Body,
        accept: tuple[int, ...] = (GONE, CONFLICT),
    ) -> Body | None:
        """The object after the merge patch; None when it is gone, or has changed since the version in `body`."""
        return await self.ask(
            "patch",
            kind.plural,
            "PATCH",
            kind.path(namespace, name),
            query={"fieldManager": names.FIELD_MANAGER},
            body=body,
            content_type=MERGE,
            accept=accept,
        )

    async def pages(self, kind: Type, namespace: str, **query: Any) -> AsyncIterator[tuple[list[Body], str]]:
        """All objects, so many at a time that memory is bounded, each time with the list's resource version.

        Raises Expired when the list took too long.
        """
        query["limit"] = _PAGE
        while True:
            page = await self.ask("list", kind.plural, "GET", kind.path(namespace), query=query) or {}
            yield page["items"], page["metadata"].get("resourceVersion", "")
            query["continue"] = page["metadata"].get("continue")
            if not query["continue"]:
                return

    async def watch(self, kind: Type, namespace: str, **query: Any) -> AsyncGenerator[tuple[str, Body], None]:
        """Type and object of each event, bookmarks too, until the API server ends the watch, as it does in time.

        Raises Expired when it no longer knows what happened since the `resourceVersion` in `query`.
        """
        asked = {"watch": "true", "allowWatchBookmarks": "true", "timeoutSeconds": _WATCH_SECONDS, **query}
        try:
            reply = await self._send(
                "watch", kind.plural, "GET", kind.path(namespace), query=asked, limit=_SILENCE
            )
            try:
                if reply.status != _OK:
                    raise _refused("watch", kind.plural, reply.status, await reply.read(), reply.reason)
                async for line in reply.response.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        said = event["object"]
                        raise _refused("watch", kind.plural, said.get("code", 0), line, said.get("message"))
                    yield event["type"], event["object"]
            finally:
                reply.response.close()
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise _silent("watch", kind.plural, error) from error

    async def ask(
        self,
        verb: str,
        what: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None = None,
        body: Body | str | None = None,
        content_type: str = JSON,
        accept: tuple[int, ...] = (),
    ) -> Body | None:
        """Send one request; None where the API server answers with a status in `accept`, else raises Unavailable."""
        try:
            reply = await self._send(
                verb, what, method, path, query=query, body=body, content_type=content_type
            )
            content = await reply.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _silent(verb, what, error) from error
        if reply.status in accept:
            return None
        if not 200 <= reply.status < 300:
            raise _refused(verb, what, reply.status, content, reply.reason)
        found: Body = json.loads(content)
        return found

    async def _send(
        self,
        verb: str,
        what: str,
        method: str,
        path: str,
        *,
        query: Mapping[str, Any] | None,
        body: Body | str | None = None,
        content_type: str = JSON,
        limit: aiohttp.ClientTimeout = _TIMEOUT,
    ) -> Any:
        """The client's answer, of which the body is still to be read."""
        self._on_request(verb, what)
        request = await self._api.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params={"Accept": JSON, "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
        )
        return await self._api.call_api(*request, _request_timeout=limit)


def _silent(verb: str, what: str, error: Exception) -> Unavailable:
    said = str(error) or type(error).__name__
    return Unavailable(f"the API server does not answer ({verb} {what}): {said}")


def _refused(verb: str, what: str, status: int, content: bytes, reason: str | None) -> Unavailable:
    said = _reason(content) or str(reason)[:_MAX_REASON]
    message = f"the API server refused to {verb} {what}: {status} {said}"
    return Expired(message) if status == EXPIRED else Unavailable(message)


def _reason(content: bytes) -> str:
    """What the API server said, in one line; empty when it is not readable."""
    try:
        return str(json.loads(content)["message"])[:_MAX_REASON]
    except (ValueError, KeyError, TypeError):
        return ""
