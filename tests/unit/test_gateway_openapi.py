# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document is true: schemathesis sends what it allows and what it forbids, and judges the replies."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from starlette.routing import Route

from lateen_serving.errors import DeadlineExceeded, Unavailable
from lateen_serving.gateway import openapi
from lateen_serving.rag.file_store import File
from lateen_serving.rag.listing import IndexedDocument
from unit.gateway_fakes import KEY, World, events, index, passage, taking, with_logprobs

CHECKS: list[Any] = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_headers_conformance,
    checks.response_schema_conformance,
    checks.negative_data_rejection,
]
FILE = "file-" + "a" * 32
KNOWN = {
    "ChatRequest": ["chatty", "chatty:support"],
    "CompletionRequest": ["chatty"],
    "ResponsesRequest": ["chatty"],
    "EmbeddingsRequest": ["minilm"],
    "RerankRequest": ["ranker"],
}
IDS = {
    "/v1/models/{id}": ["chatty", "chatty:support", "none"],
    "/v1/prompts/{id}/versions": ["plain", "none"],
    "/v1/prompts/{id}/render": ["plain", "none"],
    "/v1/vector_stores/{id}": ["handbook", "none"],
    "/v1/vector_stores/{id}/files": ["handbook", "inbox", "none"],
    "/v1/vector_stores/{id}/files/{file_id}": ["handbook", "inbox", "none"],
    "/v1/files/{id}": [FILE, "none"],
    "/v1/files/{id}/content": [FILE, "none"],
    "/v1/vector_stores/{id}/search": ["handbook", "notes"],
}
OPERATIONS = [
    (path, method, mode)
    for path, methods in openapi.document()["paths"].items()
    for method, operation in methods.items()
    for mode in GenerationMode
    if mode == GenerationMode.POSITIVE
    or "requestBody" in operation
    or any(parameter["in"] == "query" for parameter in operation.get("parameters", ()))
]


def world() -> World:
    """A gateway whose models answer with log probabilities and whose index finds something."""
    world = World()
    world.search.passages["handbook"] = [passage("hb/leave.md", "28 days")]
    world.search.held["handbook"] = [IndexedDocument("hb/leave.md", 1_700_000_000, chunks=1, tokens=9)]
    world.models.default = list(with_logprobs(events("Hello", " world"), 1))
    world.accept(indexes=[index("handbook"), index("notes", mode="Keyword", limit=1), taking("inbox")])
    world.uploads.files[FILE] = File(FILE, "a.md", "assistants", 4, 1_700_000_000_000)
    world.uploads.stored[FILE] = [b"text"]
    return world


def schema(world: World) -> Any:
    """The document, with models and indexes that exist, so that requests get further than to a 404."""
    document = openapi.document()
    schemas = document["components"]["schemas"]
    for name, models in KNOWN.items():
        schemas[name]["properties"]["model"] = {"enum": models}
    for path, known in IDS.items():
        for operation in document["paths"][path].values():
            operation["parameters"][0]["schema"] = {"enum": known}
    schemas["AttachRequest"]["properties"]["file_id"] = {"enum": [FILE]}
    loaded = schemathesis.openapi.from_dict(document)
    loaded.app = world.app
    return loaded


@pytest.mark.parametrize(("path", "method", "mode"), OPERATIONS)
def test_replies_are_as_described(path: str, method: str, mode: GenerationMode) -> None:
    """No request, allowed or not, gets a 5xx or a reply that the document doesn't describe; forbidden ones get a 4xx."""
    gateway = world()
    operation = schema(gateway)[path][method]

    @seed(20261124)
    @settings(
        max_examples=25,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def judged(case: Any) -> None:
        case.call_and_validate(headers={"authorization": f"Bearer {KEY}"}, checks=CHECKS)

    judged()


async def test_the_document_needs_no_key() -> None:
    """It is served like the probes, and says itself which routes are."""
    gateway = World()
    async with gateway.http(key="") as http:
        reply = await http.get("/openapi.json")
    assert reply.status_code == 200
    document = reply.json()
    assert document == openapi.document()
    is_open = {
        path for path, methods in document["paths"].items() for item in methods.values() if "security" in item
    }
    assert is_open == {"/healthz", "/readyz", "/openapi.json"}


def test_every_route_is_described() -> None:
    """The document has exactly the routes of the application, with their methods."""
    gateway = World()
    served = {
        (route.path.replace(":path}", "}"), method.lower())
        for route in gateway.app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
        if not route.path.startswith("/internal/")
    }
    assert served == {
        (path, method) for path, methods in openapi.document()["paths"].items() for method in methods
    }


def test_refused_fields_are_published_as_such() -> None:
    """A field that isn't acted on may be null, or have the value that asks for nothing, and nothing else."""
    fields = openapi.document()["components"]["schemas"]["ChatRequest"]["properties"]
    assert fields["audio"] == {"type": "null"}
    assert fields["store"] == {"anyOf": [{"enum": [False]}, {"type": "null"}]}
    assert fields["max_completion_tokens"]["anyOf"][0]["maximum"] == 1_048_576


@pytest.mark.parametrize("path", ["/v1/vector_stores/handbook/files", "/v1/vector_stores/handbook/files/hb"])
async def test_a_list_that_the_vector_store_does_not_answer_is_described(path: str) -> None:
    """503 and 504 are among the replies of the routes that ask it without a body."""
    described = {
        route: set(methods["get"]["responses"])
        for route, methods in openapi.document()["paths"].items()
        if "/files" in route
    }
    gateway = world()
    for error, status in ((Unavailable("away"), 503), (DeadlineExceeded("late"), 504)):
        gateway.search.error = error
        async with gateway.http() as http:
            reply = await http.get(path)
        assert reply.status_code == status
        assert all(str(status) in statuses for statuses in described.values())
