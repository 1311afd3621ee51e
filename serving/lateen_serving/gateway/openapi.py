# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI 3.1 document at `/openapi.json`: requests from the types that parse them, replies from
`openapi_replies.py`. Pure; made once per replica by `ingress.py`.
"""

from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, get_args

from pydantic.json_schema import models_json_schema

from lateen_serving.gateway.fields import RequestBody
from lateen_serving.gateway.openapi_replies import SCHEMAS
from lateen_serving.gateway.requests.chat import ChatRequest
from lateen_serving.gateway.requests.completions import CompletionRequest
from lateen_serving.gateway.requests.embeddings import EmbeddingsRequest
from lateen_serving.gateway.requests.files import (
    AttachRequest,
    AttributesRequest,
    DocumentPageRequest,
    FilePageRequest,
    Purpose,
)
from lateen_serving.gateway.requests.paging import PageRequest
from lateen_serving.gateway.requests.prompts import RenderRequest
from lateen_serving.gateway.requests.rerank import RerankRequest
from lateen_serving.gateway.requests.responses import ResponsesRequest
from lateen_serving.gateway.requests.search import SearchRequest

Document = dict[str, Any]

_DESCRIPTION = (
    "OpenAI's API for the models, prompts and indexes of a cluster. Fields that OpenAI has and Lateen doesn't act on"
    " are refused by name; some may be given with a value that asks for nothing, as each schema says."
)


@dataclass(frozen=True)
class _Route:
    """One operation."""

    method: str
    path: str
    summary: str
    reply: str
    request: type[RequestBody] | None = None
    query: type[RequestBody] | None = None
    streams: bool = False
    form: bool = False
    """Whether the request is an uploaded file."""
    binary: bool = False
    """Whether the reply is a file's bytes."""
    is_open: bool = False
    """Whether it is served without a key."""

    @property
    def operation_id(self) -> str:
        """A name for generated clients."""
        words = self.path.replace("{id}", "by_id").replace("{file_id}", "by_file_id").replace(".", "_")
        return "_".join([self.method, *(word for word in words.strip("/").split("/") if word != "v1")])


_ROUTES = (
    _Route("get", "/healthz", "Whether the process lives", "Health", is_open=True),
    _Route("get", "/readyz", "Whether requests can be served", "Readiness", is_open=True),
    _Route("get", "/openapi.json", "This document", "", is_open=True),
    _Route("get", "/metrics", "Prometheus metrics", ""),
    _Route("get", "/v1/models", "All models, each followed by its adapters", "ModelList"),
    _Route("get", "/v1/models/{id}", "One model or adapter", "Model"),
    _Route(
        "post", "/v1/chat/completions", "Continue a conversation", "ChatCompletion", ChatRequest, streams=True
    ),
    _Route("post", "/v1/completions", "Continue bare texts", "Completion", CompletionRequest, streams=True),
    _Route(
        "post", "/v1/responses", "Answer with prompts and indexes", "Response", ResponsesRequest, streams=True
    ),
    _Route("post", "/v1/embeddings", "Vectors of texts", "EmbeddingList", EmbeddingsRequest),
    _Route("post", "/v1/rerank", "Documents by how well they answer a query", "RerankResult", RerankRequest),
    _Route("get", "/v1/prompts", "All prompts, each with its live version", "PromptList"),
    _Route(
        "get", "/v1/prompts/{id}/versions", "Versions of a prompt, the live one first", "PromptVersionList"
    ),
    _Route(
        "post",
        "/v1/prompts/{id}/render",
        "What a prompt becomes: a dry run",
        "PromptRendering",
        RenderRequest,
    ),
    _Route("get", "/v1/vector_stores", "A page of the indexes", "VectorStoreList", query=PageRequest),
    _Route("get", "/v1/vector_stores/{id}", "One index", "VectorStore"),
    _Route(
        "get",
        "/v1/vector_stores/{id}/files",
        "A page of the documents of an index, by id",
        "VectorStoreFileList",
        query=DocumentPageRequest,
    ),
    _Route(
        "post",
        "/v1/vector_stores/{id}/files",
        "Put an uploaded file into an index",
        "VectorStoreFile",
        AttachRequest,
    ),
    _Route("get", "/v1/vector_stores/{id}/files/{file_id}", "One document of an index", "VectorStoreFile"),
    _Route(
        "post",
        "/v1/vector_stores/{id}/files/{file_id}",
        "Give a file of an index other attributes",
        "VectorStoreFile",
        AttributesRequest,
    ),
    _Route(
        "delete",
        "/v1/vector_stores/{id}/files/{file_id}",
        "Take a file out of an index",
        "VectorStoreFileDeleted",
    ),
    _Route("get", "/v1/files", "A page of the uploaded files, by time", "FileList", query=FilePageRequest),
    _Route("post", "/v1/files", "Upload a file", "File", form=True),
    _Route("get", "/v1/files/{id}", "One uploaded file", "File"),
    _Route("delete", "/v1/files/{id}", "Take a file out of all indexes and delete it", "FileDeleted"),
    _Route("get", "/v1/files/{id}/content", "The bytes of an uploaded file", "", binary=True),
    _Route("post", "/v1/vector_stores/{id}/search", "Passages for a query", "SearchResults", SearchRequest),
)
_EVENT: Document = {
    "description": "Each event of a stream, with `stream: true`.",
    "type": "object",
    "properties": {
        "event": {"type": "string", "description": "Its name; responses have one."},
        "data": {"type": "string", "description": "JSON, or `[DONE]` at the end."},
    },
    "required": ["data"],
}
_FORM: Document = {
    "type": "object",
    "properties": {
        "file": {
            "type": "string",
            "format": "binary",
            "minLength": 1,
            "description": "The file, with its name.",
        },
        "purpose": {"enum": list(get_args(Purpose)), "description": "Without further meaning here."},
    },
    "required": ["file", "purpose"],
    "additionalProperties": False,
}
_HEADERS: Document = {
    "x-request-id": {
        "description": "The request's `x-request-id`, or one of the gateway's.",
        "schema": {"type": "string"},
    },
    "x-lateen-release": {
        "description": "What answered: `model=<id>[:<adapter>]@<revision>,prompt=…,index=…`.",
        "schema": {"type": "string"},
    },
    "x-lateen-prompt-cut": {
        "description": "What a prompt lost to fit: `<what>;unit=<unit>;before=<n>;after=<n>, …`.",
        "schema": {"type": "string"},
    },
    "x-lateen-retrieval": {
        "description": "What is to be known of a retrieval: `nothing_found`, `not_reranked;index=<id>`.",
        "schema": {"type": "string"},
    },
}


def document() -> Document:
    """The whole document, true for every catalog."""
    bodies = [route.request for route in _ROUTES if route.request is not None]
    _, definitions = models_json_schema(
        [(body, "validation") for body in bodies], ref_template="#/components/schemas/{model}"
    )
    paths: Document = {}
    for route in _ROUTES:
        paths.setdefault(route.path, {})[route.method] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Lateen", "version": version("lateen"), "description": _DESCRIPTION},
        "security": [{"key": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
            "schemas": {**definitions["$defs"], **SCHEMAS},
        },
    }


def _operation(route: _Route) -> Document:
    operation: Document = {
        "operationId": route.operation_id,
        "summary": route.summary,
        "responses": {"200": _reply(route), "default": _error("An error")},
    }
    if route.is_open:
        operation["security"] = []
    parameters = [*_path_parameters(route), *_query_parameters(route)]
    if parameters:
        operation["parameters"] = parameters
    if route.request is not None:
        schema = {"$ref": f"#/components/schemas/{route.request.__name__}"}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    if route.form:
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}
    operation["responses"] |= _failures(route)
    return operation


def _path_parameters(route: _Route) -> list[Document]:
    schema = {"type": "string", "minLength": 1}
    names = [name for name in ("id", "file_id") if f"{{{name}}}" in route.path]
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in names]


def _query_parameters(route: _Route) -> list[Document]:
    if route.query is None:
        return []
    fields = route.query.model_fields
    properties = route.query.model_json_schema()["properties"]
    return [
        {
            "name": name,
            "in": "query",
            "required": field.is_required(),
            "schema": _without_null(properties[name]),
        }
        for name, field in fields.items()
    ]


def _without_null(schema: Document) -> Document:
    """A query has no null: what is null is left out."""
    alternatives = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(alternatives) != 1:
        return schema
    return {
        **alternatives[0],
        **{name: value for name, value in schema.items() if name not in ("anyOf", "default")},
    }


def _reply(route: _Route) -> Document:
    if route.path == "/metrics":
        return {"description": "Metrics", "content": {"text/plain": {"schema": {"type": "string"}}}}
    if route.binary:
        content = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
        return {"description": "The file", "headers": _HEADERS, "content": content}
    schema = {"$ref": f"#/components/schemas/{route.reply}"} if route.reply else {"type": "object"}
    content = {"application/json": {"schema": schema}}
    if route.streams:
        content["text/event-stream"] = {"schema": _EVENT}
    return {"description": "The reply", "headers": _HEADERS, "content": content}


def _failures(route: _Route) -> Document:
    failures = {}
    if not route.is_open:
        failures["401"] = _error("No key, or an unknown one")
    if "{id}" in route.path or route.request is not None:
        failures["404"] = _error("No such model, adapter, prompt, index or document")
    if route.query is not None:
        failures["400"] = _error("The query is wrong; `param` names the field")
    if route.request is not None:
        failures["400"] = _error("The request is wrong; `param` names the field")
        failures["413"] = _error("The body is too large")
    if route.request is not None or "/files" in route.path:
        failures["503"] = _error(
            "Overloaded, starting or not available; `retry-after` says when to come back"
        )
        failures["504"] = _error(
            "Not done in time: the model's request timeout, or a minute where there is no model"
        )
    if route.form:
        failures["400"] = _error("The form is wrong; `param` names the field")
        failures["408"] = _error("The file did not arrive in time")
        failures["413"] = _error("The file is too large")
    if "/files" in route.path:
        failures["503"] = _error(
            "Overloaded, starting, or the vector store does not answer; come back after `retry-after`"
        )
        failures["504"] = _error("Not done in time")
    if route.method == "delete":
        failures["400"] = _error("It can't be deleted; the message says why")
    if route.path == "/readyz":
        failures["503"] = _reply(route)
    return failures


def _error(description: str) -> Document:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"description": description, "content": content}
