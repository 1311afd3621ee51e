# SPDX-License-Identifier: Apache-2.0
"""Prompts through the gateway: what there is, a dry run, and `prompt` in chat completions."""

from typing import Any

import openai
import pytest

from lateen_serving.gateway.traffic import PromptUses
from unit.gateway_fakes import PLAIN_PROMPT, World, prompt_revision

SAY: dict[str, Any] = {"id": "plain", "variables": {"what": "hello"}}
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def with_prompt(**spec: Any) -> World:
    """A gateway with one prompt, `plain`, of this spec."""
    revisions = [prompt_revision("3", **(PLAIN_PROMPT | spec))]
    world = World()
    world.accept(prompts=[{"id": "plain", "revisions": revisions}])
    return world


async def ask(world: World, **body: Any) -> Any:
    """A chat completion."""
    return await world.client().chat.completions.create(
        model="chatty", messages=body.pop("messages", []), extra_body=body
    )


async def test_prompts_and_their_versions_are_listed() -> None:
    """Every prompt with its live version; of one prompt all that can be pinned, the live one first."""
    async with World().http() as http:
        listed = (await http.get("/v1/prompts")).json()
        versions = (await http.get("/v1/prompts/grounded/versions")).json()
        missing = await http.get("/v1/prompts/none/versions")
    assert [(each["id"], each["version"]) for each in listed["data"]] == [("grounded", "2"), ("plain", "1")]
    assert [(each["version"], each["live"]) for each in versions["data"]] == [("2", True), ("1", False)]
    assert versions["data"][0]["variables"] == [{"name": "question", "type": "string", "required": True}]
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "prompt_not_found")


async def test_a_dry_run_shows_the_messages() -> None:
    """With the caller's conversation after them; nothing is generated and no use is counted."""
    world = World()
    said = [{"role": "user", "content": "Now"}]
    async with world.http() as http:
        reply = await http.post(
            "/v1/prompts/plain/render", json={"variables": SAY["variables"], "messages": said}
        )
    assert reply.json()["messages"] == [{"role": "user", "content": "Say hello to all"}, *said]
    assert (reply.json()["version"], reply.json()["revision"]) == ("1", "p1")
    assert world.state.uses.last() == {}


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "variables.what"),
        ({"variables": {"what": "x", "other": "y"}}, 400, "variables.other"),
        ({"variables": {"what": 3}}, 400, "variables.what"),
        ({"version": "9"}, 404, "version"),
    ],
    ids=["missing", "unknown", "wrong type", "no such version"],
)
async def test_a_dry_run_names_what_is_wrong(body: dict[str, Any], status: int, param: str) -> None:
    """The variable, and the rule it breaks."""
    async with World().http() as http:
        reply = await http.post("/v1/prompts/plain/render", json=body)
    assert reply.status_code == status
    assert reply.json()["error"]["param"] == param


async def test_a_chat_completion_takes_a_prompt() -> None:
    """Its messages go before the caller's, the release names it, and the use is counted."""
    world = World()
    client = world.client().chat.completions.with_raw_response
    said: Any = [{"role": "user", "content": "Now"}]
    reply = await client.create(model="chatty", messages=said, extra_body={"prompt": SAY})
    assert world.models.calls[-1][1]["messages"] == [{"role": "user", "content": "Say hello to all"}, *said]
    assert reply.headers["x-lateen-release"] == "model=chatty@r1,prompt=plain@p1"
    assert world.state.uses.last()["plain"].keys() == {"p1"}


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
async def test_what_is_injected_comes_from_the_request(endpoint: str) -> None:
    """The key's name and the request's metadata; a caller can't set them."""
    variables = [
        {"name": "who", "from": "identity"},
        {"name": "ticket", "from": "metadata", "metadata": {"key": "ticket"}},
    ]
    world = with_prompt(messages=[{"role": "user", "content": "{who} asks of {ticket}"}], variables=variables)
    body: dict[str, Any] = {"prompt": {"id": "plain"}, "metadata": {"ticket": "T1"}}
    if endpoint == "chat":
        await ask(world, **body)
    else:
        await world.client().responses.create(model="chatty", extra_body=body)
    assert world.models.calls[-1][1]["messages"] == [{"role": "user", "content": "tester asks of T1"}]
    with pytest.raises(openai.BadRequestError, match="injected"):
        await ask(world, prompt={"id": "plain", "variables": {"who": "root"}})


async def test_the_prompt_alone_is_enough() -> None:
    """And without a prompt there must be messages."""
    world = World()
    await ask(world, prompt=SAY)
    assert world.models.calls[-1][1]["messages"] == [{"role": "user", "content": "Say hello to all"}]
    with pytest.raises(openai.BadRequestError, match="messages"):
        await ask(world)


async def test_the_request_wins_over_the_prompt() -> None:
    """Defaults hold where the request says nothing."""
    defaults = {"temperature": "0.25", "topP": "0.5", "maxOutputTokens": 64, "stop": ["END"]}
    world = with_prompt(defaults=defaults)
    await ask(world, prompt=SAY)
    request = world.models.calls[-1][1]
    assert [request[name] for name in ("temperature", "top_p", "max_tokens", "stop")] == [
        0.25,
        0.5,
        64,
        ["END"],
    ]
    await ask(world, prompt=SAY, temperature=1.0, top_p=1.0, max_completion_tokens=9, stop="X")
    request = world.models.calls[-1][1]
    assert [request[name] for name in ("temperature", "top_p", "max_tokens", "stop")] == [1.0, 1.0, 9, ["X"]]


@pytest.mark.parametrize("endpoint", ["chat", "responses"])
async def test_the_output_contract_constrains_the_answer(endpoint: str) -> None:
    """It is the response format unless the request has one."""
    world = with_prompt(output={"format": "json", "schema": SCHEMA})

    async def grammar(**body: Any) -> Any:
        if endpoint == "chat":
            await ask(world, prompt=SAY, **({"response_format": {"type": "text"}} if body else {}))
        else:
            text = {"text": {"format": {"type": "text"}}} if body else {}
            await world.client().responses.create(model="chatty", extra_body={"prompt": SAY, **text})
        return world.models.calls[-1][1].get("grammar")

    assert "answer" in str(await grammar())
    assert await grammar(free=True) is None


async def test_wrong_variables_in_a_chat_completion_are_named() -> None:
    """As in responses."""
    with pytest.raises(openai.BadRequestError) as caught:
        await ask(World(), prompt={"id": "plain", "variables": {}})
    assert caught.value.param == "prompt.variables.what"
    with pytest.raises(openai.BadRequestError, match="file_search"):
        await ask(World(), prompt={"id": "grounded", "variables": {"question": "Why?"}})


def test_uses_are_bounded_by_the_catalog() -> None:
    """What is not in the catalog is not remembered, and what leaves it is forgotten."""
    now = 100.0
    uses = PromptUses(lambda: now)
    uses.follow([("a", "r1"), ("a", "r2")])
    uses.used("a", "r1")
    uses.used("a", "r3")
    now = 160.0
    uses.used("a", "r2")
    assert uses.last() == {"a": {"r1": 100, "r2": 160}}
    uses.follow([("a", "r2")])
    assert uses.last() == {"a": {"r2": 160}}
