# SPDX-License-Identifier: Apache-2.0
"""Keys, probes, listings, embeddings, search, metrics, and what happens when the catalog changes."""

import base64
import struct
from typing import Any

import openai
import pytest

from lateen_api.catalog import Catalog
from lateen_serving.errors import Unavailable
from unit.gateway_fakes import KEY, World, catalog, index, model, passage, sent

ROUTES = [
    ("GET", "/v1/models"),
    ("GET", "/v1/models/chatty"),
    ("GET", "/v1/vector_stores"),
    ("GET", "/v1/vector_stores/handbook"),
    ("GET", "/v1/vector_stores/handbook/files"),
    ("GET", "/v1/vector_stores/handbook/files/hb/leave.md"),
    ("GET", "/metrics"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/responses"),
    ("POST", "/v1/embeddings"),
    ("POST", "/v1/vector_stores/handbook/search"),
]


@pytest.fixture
def world() -> World:
    """A fresh gateway."""
    return World()


@pytest.mark.parametrize(("method", "path"), ROUTES)
@pytest.mark.parametrize("header", [None, "Bearer ", "Bearer wrong", f"Basic {KEY}", KEY, f"Bearer {KEY}x"])
async def test_every_route_wants_a_key(world: World, method: str, path: str, header: str | None) -> None:
    """Without a known key every route but the probes is a 401 that says how to authenticate."""
    async with world.http(key="") as http:
        headers = {"authorization": header} if header else {}
        reply = await http.request(method, path, headers=headers)
    assert reply.status_code == 401
    assert reply.headers["www-authenticate"] == "Bearer"
    assert reply.json()["error"]["code"] == "invalid_api_key"


async def test_client_raises_authentication_error(world: World) -> None:
    """The official client sees a wrong key as AuthenticationError."""
    with pytest.raises(openai.AuthenticationError):
        await world.client(key="wrong").models.list()


async def test_probes_need_no_key() -> None:
    """Probes answer without a key: alive at once, ready with the catalog's revision once there is one."""
    world = World()
    async with world.http(key="") as http:
        assert (await http.get("/healthz")).status_code == 200
        reply = await http.get("/readyz")
    revision = Catalog.parse(catalog()).revision
    assert (reply.status_code, reply.json()) == (200, {"status": "ready", "catalog": revision})


async def test_before_the_first_catalog() -> None:
    """Until a catalog has arrived the gateway is not ready and says so, instead of calling keys wrong."""
    world = World()
    world.state._current = type(world.state.current).empty()
    async with world.http() as http:
        ready = await http.get("/readyz")
        models = await http.get("/v1/models")
    assert (ready.status_code, ready.json()) == (503, {"status": "starting"})
    assert (models.status_code, models.json()["error"]["code"]) == (503, "starting")


@pytest.mark.parametrize(
    "document",
    [
        None,
        5,
        {},
        {"catalog": None},
        catalog(),
        {"catalog": "no"},
        sent({"models": "no"}),
        sent({"unheard": 1}),
    ],
)
async def test_bad_catalog_is_logged_and_the_old_one_kept(world: World, document: object) -> None:
    """Accepting never raises: a bad document is an error in the log and changes nothing."""
    before = world.state.current
    await world.state.take(document)
    assert world.state.current is before
    assert world.lines("catalog refused")[0]["problems"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nope", 404),
        ("GET", "/", 404),
        ("GET", "/v1/chat/completions", 405),
        ("PUT", "/v1/models", 405),
    ],
)
async def test_unknown_routes_are_error_objects(world: World, method: str, path: str, status: int) -> None:
    """An unknown route or method is an OpenAI error object too, with a request id."""
    async with world.http() as http:
        reply = await http.request(method, path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, "unknown_url")
    assert reply.headers["x-request-id"]


@pytest.mark.parametrize("given", ["", "x" * 129, "a b", "a\tb"])
async def test_insane_request_ids_are_replaced(world: World, given: str) -> None:
    """A client's request id is used only if it can do no harm in logs."""
    async with world.http() as http:
        reply = await http.get("/v1/models", headers={"x-request-id": given})
    assert reply.headers["x-request-id"] != given
    assert len(reply.headers["x-request-id"]) == 32


async def test_models_are_listed(world: World) -> None:
    """Models appear with OpenAI's fields, all or one by one."""
    client = world.client()
    assert [item.id async for item in client.models.list()] == [
        "chatty",
        "chatty:support",
        "minilm",
        "ranker",
    ]
    one = await client.models.retrieve("chatty")
    assert one.model_dump(exclude_unset=True) == {
        "id": "chatty",
        "object": "model",
        "created": 1_700_000_000,
        "owned_by": "lateen",
    }
    adapter = await client.models.retrieve("chatty:support")
    assert adapter.model_dump(exclude_unset=True) == one.model_dump(exclude_unset=True) | {
        "id": "chatty:support",
        "root": "chatty",
        "parent": "chatty",
    }
    for name in ("none", "chatty:none", "minilm:support"):
        with pytest.raises(openai.NotFoundError) as caught:
            await client.models.retrieve(name)
        assert caught.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("state", "code", "again", "retry_after"),
    [
        ("loadingAdapters", "adapter_loading", "true", "2"),
        ("failedAdapters", "adapter_failed", "false", "60"),
    ],
)
async def test_adapters_that_are_not_loaded(
    world: World, state: str, code: str, again: str, retry_after: str
) -> None:
    """They are not listed, and a call is a 503 that says whether and when another one makes sense."""
    world.accept(models=[model("chatty") | {state: ["red"]}])
    async with world.http() as http:
        listed = (await http.get("/v1/models")).json()["data"]
        one = await http.get("/v1/models/chatty:red")
        body = {"model": "chatty:red", "messages": [{"role": "user", "content": "Hi"}]}
        reply = await http.post("/v1/chat/completions", json=body)
    assert [each["id"] for each in listed] == ["chatty"]
    assert one.status_code == 404
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, code)
    assert (reply.headers["x-should-retry"], reply.headers["retry-after"]) == (again, retry_after)
    assert world.models.calls == []


@pytest.mark.parametrize(
    ("path", "model_id", "status", "code"),
    [
        ("/v1/chat/completions", "none", 404, "model_not_found"),
        ("/v1/chat/completions", "minilm", 400, "model_task_mismatch"),
        ("/v1/responses", "minilm", 400, "model_task_mismatch"),
        ("/v1/embeddings", "none", 404, "model_not_found"),
        ("/v1/embeddings", "chatty", 400, "model_task_mismatch"),
    ],
)
async def test_wrong_models(world: World, path: str, model_id: str, status: int, code: str) -> None:
    """An unknown model is a 404, one that does something else a 400 that says where it belongs."""
    body = {"model": model_id, "input": "Hi"}
    if "chat" in path:
        body = {"model": model_id, "messages": [{"role": "user", "content": "Hi"}]}  # type: ignore[dict-item] # JSON
    async with world.http() as http:
        reply = await http.post(path, json=body)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["param"]) == (status, code, "model")


@pytest.mark.parametrize("encoding", ["default", "float"])
async def test_embeddings(world: World, encoding: str) -> None:
    """Vectors arrive in order with the tokens counted; by default the client asks for base64 and decodes it."""
    chosen: Any = {"encoding_format": "float"} if encoding == "float" else {}
    result = await world.client().embeddings.create(model="minilm", input=["one two", "three"], **chosen)
    assert [item.embedding for item in result.data] == [[1, 0, 0, 0], [1, 1, 0, 0]]
    assert [item.index for item in result.data] == [0, 1]
    assert (result.usage.prompt_tokens, result.usage.total_tokens) == (3, 3)
    assert world.models.embedded == [("default_minilm_r1", ["one two", "three"])]


async def test_base64_is_little_endian_float32(world: World) -> None:
    """The base64 form holds the vector's float32 values, least significant byte first."""
    async with world.http() as http:
        body = {"model": "minilm", "input": ["a"], "encoding_format": "base64"}
        reply = await http.post("/v1/embeddings", json=body)
    content = base64.b64decode(reply.json()["data"][0]["embedding"])
    assert struct.unpack("<4f", content) == (1.0, 0.0, 0.0, 0.0)


async def test_vector_stores_are_listed(world: World) -> None:
    """Indexes appear as vector stores, all or one by one."""
    client = world.client()
    assert [item.id async for item in client.vector_stores.list(order="asc")] == ["handbook", "notes"]
    one = await client.vector_stores.retrieve("handbook")
    assert (one.name, one.status, one.metadata) == (
        "handbook",
        "completed",
        {"revision": "i1", "embedder": "minilm"},
    )
    with pytest.raises(openai.NotFoundError) as caught:
        await client.vector_stores.retrieve("none")
    assert caught.value.code == "vector_store_not_found"


async def test_search_has_openais_shape(world: World) -> None:
    """A search returns passages with file, score and text, and uses the index's limit and embedder."""
    world.search.passages["handbook"] = [passage("hb/leave.md", "28 days", 0.9, heading="Leave")]
    page = await world.client().vector_stores.search("handbook", query="how much leave")
    (hit,) = page.data
    assert (hit.file_id, hit.filename, hit.score) == ("hb/leave.md", "leave.md", 0.9)
    assert [(part.type, part.text) for part in hit.content] == [("text", "28 days")]
    assert world.search.calls == [("handbook", "how much leave", [1.0, 0.0, 0.0, 0.0], 3)]
    assert world.models.embedded == [("default_minilm_r1", ["how much leave"])]


async def test_keyword_search_needs_no_vector(world: World) -> None:
    """An index in Keyword mode is searched without its embedder."""
    async with world.http() as http:
        reply = await http.post("/v1/vector_stores/notes/search", json={"query": "x", "max_num_results": 7})
    assert reply.json()["object"] == "vector_store.search_results.page"
    assert reply.json()["search_query"] == ["x"]
    assert reply.headers["x-lateen-release"] == "index=notes@i1"
    assert world.search.calls == [("notes", "x", None, 7)]
    assert world.models.embedded == []


async def test_queries_are_embedded_by_the_indexs_own_embedder(world: World) -> None:
    """While a newer revision of the embedder serves others, queries still go to the one that built the index."""
    world.accept(models=[model("minilm", "r2", task="embed")], indexes=[index("handbook")])
    await world.client().vector_stores.search("handbook", query="x")
    assert world.models.embedded == [("default_minilm_r1", ["x"])]


async def test_search_without_its_store(world: World) -> None:
    """A vector database that doesn't answer is a 503 that may be tried again."""
    world.search.error = Unavailable("Weaviate does not answer.")
    with pytest.raises(openai.InternalServerError) as caught:
        await world.client().vector_stores.search("handbook", query="x")
    assert caught.value.status_code == 503
    assert caught.value.response.headers["x-should-retry"] == "true"


async def test_metrics_count_requests_and_tokens(world: World) -> None:
    """The metrics hold requests by route and status, tokens by model, and times; probes don't count."""
    client = world.client()
    await client.chat.completions.create(model="chatty", messages=[{"role": "user", "content": "Hi"}])
    async with world.http() as http:
        await http.get("/healthz")
        await http.get("/v1/whatever-a-caller-invents")
        text = (await http.get("/metrics")).text
    name = "lateen_gateway_requests_total"
    assert f'{name}{{endpoint="/v1/chat/completions",replica="replica-0",status="200"}} 1.0' in text
    assert f'{name}{{endpoint="other",replica="replica-0",status="404"}} 1.0' in text
    assert 'tokens_total{direction="in",model="chatty",replica="replica-0"} 7.0' in text
    assert 'tokens_total{direction="out",model="chatty",replica="replica-0"} 2.0' in text
    first = "lateen_gateway_time_to_first_token_seconds_count"
    assert f'{first}{{endpoint="/v1/chat/completions",replica="replica-0"}} 1.0' in text
    assert "healthz" not in text
    assert "invents" not in text
