# SPDX-License-Identifier: Apache-2.0
"""When the gateway parses prompts: before their catalog is served, in a thread, each once, and for no longer than needed."""

import asyncio
import threading
from typing import Any

import pytest

from lateen_api.catalog import Prompt
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.rendering import CompiledPrompt
from lateen_serving.gateway import templates
from lateen_serving.gateway.templates import AHEAD_SECONDS, Templates
from unit.gateway_fakes import PLAIN_PROMPT, World, catalog, prompt_revision, sent

SAY: dict[str, Any] = {"id": "plain", "variables": {"what": "hello"}}
Parsed = list[tuple[str, int]]
"""Version and thread of each prompt that was parsed."""


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> Parsed:
    """What is parsed from now on."""
    found: Parsed = []

    def parse(spec: PromptTemplateSpec) -> CompiledPrompt:
        found.append((spec.version, threading.get_ident()))
        return CompiledPrompt(spec)

    monkeypatch.setattr(templates, "CompiledPrompt", parse)
    return found


def plain(*versions: str, **more: Any) -> dict[str, Any]:
    """A prompt of a catalog with these versions, the live one first."""
    return {"id": "plain", "revisions": [prompt_revision(each, **(PLAIN_PROMPT | more)) for each in versions]}


async def test_a_live_prompt_is_parsed_before_it_is_served(parsed: Parsed) -> None:
    """In another thread than that of the requests, which find it ready; an older version waits for its first use."""
    world = World()
    parsed.clear()
    await world.state.take(sent(catalog(prompts=[plain("3", "2")])))
    assert [version for version, _ in parsed] == ["3"]
    assert parsed[0][1] != threading.get_ident()
    for version in (None, "3", "2", "2"):
        body = {"prompt": SAY | ({"version": version} if version else {})}
        await world.client().chat.completions.create(model="chatty", messages=[], extra_body=body)
    assert [version for version, _ in parsed] == ["3", "2"]
    assert threading.get_ident() not in {thread for _, thread in parsed}


async def test_requests_are_answered_while_a_catalog_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """They get the catalog before, however long the next one takes; catalogs are served in the order of their arrival."""
    world = World()
    going, release = threading.Event(), threading.Event()

    def parse(spec: PromptTemplateSpec) -> CompiledPrompt:
        going.set()
        assert release.wait(30)
        return CompiledPrompt(spec)

    monkeypatch.setattr(templates, "CompiledPrompt", parse)
    first = asyncio.create_task(world.state.take(sent(catalog(prompts=[plain("3")]))))
    assert await asyncio.to_thread(going.wait, 30)
    second = asyncio.create_task(world.state.take(sent(catalog(prompts=[plain("4")]))))
    async with world.http() as http:
        listed = (await http.get("/v1/prompts/plain/versions")).json()
    release.set()
    await asyncio.gather(first, second)
    assert [each["version"] for each in listed["data"]] == ["1"]
    assert world.state.current.prompts["plain"].revisions[0].spec.version == "4"


async def test_a_prompt_that_cannot_be_parsed_stops_no_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """The others are served."""
    world = World()

    def parse(spec: PromptTemplateSpec) -> CompiledPrompt:
        if spec.version == "bad":
            raise TypeError
        return CompiledPrompt(spec)

    monkeypatch.setattr(templates, "CompiledPrompt", parse)
    await world.state.take(sent(catalog(prompts=[plain("bad"), plain("3") | {"id": "other"}])))
    async with world.http() as http:
        reply = await http.post("/v1/prompts/other/render", json={"variables": {"what": "hello"}})
    assert reply.json()["messages"][0]["content"] == "Say hello to all"


async def test_requests_that_come_together_parse_once(parsed: Parsed) -> None:
    """They wait for the same thread, and one that is cancelled takes nothing from the others."""
    held, old = Templates(), prompt("1")
    held.keep([old], {})
    asked = [asyncio.create_task(held.prepare(old, old.revisions[0])) for _ in range(5)]
    await asyncio.sleep(0)
    asked[0].cancel()
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert [type(each) for each in found] == [asyncio.CancelledError, *[type(None)] * 4]
    held.get(old, old.revisions[0])
    assert len(parsed) == 1


def prompt(version: str) -> Prompt:
    """A prompt with one version."""
    return Prompt.model_validate(plain(version))


def test_parsing_ahead_is_bounded_in_time(parsed: Parsed) -> None:
    """What does not fit into the time is parsed at its first use."""
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += AHEAD_SECONDS / 2
        return now

    held = Templates(clock)
    prompts = [prompt("1").model_copy(update={"id": f"p{number}"}) for number in range(5)]
    ahead = held.ahead(prompts)
    assert list(ahead) == [("p0", "p1")]
    held.keep(prompts, ahead)
    assert held.ahead(prompts).keys() == {("p1", "p1")}
    assert held.get(prompts[4], prompts[4].revisions[0]) is held.get(prompts[4], prompts[4].revisions[0])


def test_a_prompt_that_has_left_is_not_brought_back(parsed: Parsed) -> None:
    """A request that began with an older catalog gets its prompt and leaves nothing behind."""
    held = Templates()
    old, new = prompt("1"), prompt("2")
    held.keep([old], {})
    held.keep([new], {})
    for _ in range(2):
        held.get(old, old.revisions[0])
    held.keep([old], {})
    held.get(old, old.revisions[0])
    assert [version for version, _ in parsed] == ["1", "1", "1"]
    held.get(old, old.revisions[0])
    assert len(parsed) == 3
