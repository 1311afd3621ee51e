# SPDX-License-Identifier: Apache-2.0
"""Context windows in the gateway: what a replica is given to shorten a prompt, and how a client learns what was cut."""

from typing import Any

import pytest

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts import values
from lateen_api.prompts.composing import Composer
from lateen_api.prompts.cutting import Material
from lateen_api.rendering import CompiledPrompt, Injection
from lateen_serving.gateway import prompting
from lateen_serving.gateway.retrieve import numbered
from unit.gateway_fakes import World, events, passage, prompt_revision

GROUNDED: Any = {
    "model": "chatty",
    "prompt": {"id": "grounded", "variables": {"question": "How much leave?"}},
    "tools": [{"type": "file_search", "vector_store_ids": ["handbook"]}],
}


@pytest.fixture
def world() -> World:
    """A gateway whose handbook knows about leave and travel."""
    world = World()
    world.search.passages["handbook"] = [
        passage("hb/leave.md", "Employees have 28 days of paid leave.", 0.9, heading="Leave"),
        passage("hb/travel.md", "Trains are booked by the travel desk.", 0.5),
    ]
    world.models.default = list(events("You have 28 days", " of paid leave."))
    return world


WINDOW: Any = {"maxPromptTokens": 100, "overflow": "Truncate", "priority": ["question", "context"]}
CUT: Any = [
    {"what": "context", "unit": "passages", "before": 2, "after": 1},
    {"what": "question", "unit": "characters", "before": 15, "after": 8},
]
TOLD = "context;unit=passages;before=2;after=1, question;unit=characters;before=15;after=8"


def with_window(world: World, **changes: Any) -> None:
    """Let the prompt have a context window and the replica cut."""
    revision = prompt_revision("3", contextWindow=WINDOW | changes)
    world.accept(prompts=[{"id": "grounded", "revisions": [revision]}])
    answer = events("Trains are booked", " by the travel desk.")
    answer[0]["cut"] = CUT
    world.models.default = list(answer)


async def test_a_prompt_with_a_window_goes_with_what_it_was_made_of(world: World) -> None:
    """The replica gets the bounds, the order and all that it needs to make the same messages shorter."""
    with_window(world)
    more: Any = {"input": [{"role": "user", "content": "Also this"}], "instructions": "Be brief"}
    await world.client().responses.create(**GROUNDED, **more)
    request = world.models.calls[0][1]
    window = request["window"]
    assert (window["max_prompt_tokens"], window["reserve_output_tokens"]) == (100, 0)
    shortening = window["shortening"]
    assert shortening["order"] == ["context", "question"]
    spec = PromptTemplateSpec.model_validate(shortening["prompt"])
    composer = Composer(spec, shortening["instructions"], shortening["reference"])
    whole = Material[Any](
        shortening["values"], shortening["passages"], shortening["conversation"], shortening["retrieval"]
    )
    assert composer.compose(whole) == request["messages"]
    assert len(shortening["passages"]) == 2


def test_shortening_compiles_no_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """The values were checked before; a replica neither loads CEL nor prepares a schema to cut them."""
    document = prompt_revision("3", contextWindow=WINDOW)["spec"]
    rules = [{"cel": "value.size() > 99", "message": "no"}]
    document["variables"] = [{"name": "question", "rules": rules}, {"name": "context", "from": "retrieval"}]
    monkeypatch.setattr(values, "CompiledRule", None)
    material = Material[Any](values={"question": "why"}, passages=["one", "two"], retrieval="context")
    messages = Composer(PromptTemplateSpec.model_validate(document)).compose(material)
    assert [message["content"] for message in messages] == ["Answer from these:\none\n\ntwo", "why"]


async def test_a_window_that_refuses_needs_no_more_than_its_bounds(world: World) -> None:
    """A prompt that may not be cut sends its bounds alone; one without a window nothing."""
    await world.client().responses.create(**GROUNDED)
    revision = prompt_revision("3", contextWindow={"maxPromptTokens": 9, "reserveOutputTokens": 5})
    world.accept(prompts=[{"id": "grounded", "revisions": [revision]}])
    await world.client().responses.create(**GROUNDED)
    before, after = (request for _, request in world.models.calls)
    assert "window" not in before
    assert after["window"] == {"max_prompt_tokens": 9, "reserve_output_tokens": 5}


async def test_what_was_cut_is_told(world: World) -> None:
    """The response's metadata, a header and a metric name what the prompt lost, and no cut passage is cited."""
    with_window(world)
    reply = await world.client().responses.with_raw_response.create(**GROUNDED, metadata={"mine": "kept"})
    response = reply.parse()
    assert response.metadata == {"mine": "kept", "lateen_prompt_cut": TOLD}
    assert reply.headers["x-lateen-prompt-cut"] == TOLD
    (message,) = [item for item in response.output if item.type == "message"]
    (content,) = message.content
    assert content.type == "output_text"
    assert [note.filename for note in content.annotations if note.type == "file_citation"] == ["leave.md"]
    metrics = world.service.metrics.text().decode()
    for what in ("context", "question"):
        assert (
            f'lateen_prompt_cut_total{{prompt="grounded",replica="replica-0",what="{what}"}} 1.0' in metrics
        )


async def test_a_stream_tells_what_was_cut_from_its_start(world: World) -> None:
    """The header and every event that holds the response name the cut."""
    with_window(world)
    reply = await world.client().responses.with_raw_response.create(**GROUNDED, stream=True)
    assert reply.headers["x-lateen-prompt-cut"] == TOLD
    seen = [event.response async for event in reply.parse() if hasattr(event, "response")]
    assert [response.metadata for response in seen] == [{"lateen_prompt_cut": TOLD}] * 3


async def test_without_a_cut_nothing_is_told(world: World) -> None:
    """Neither header nor metadata appear when the whole prompt was read."""
    with_window(world)
    world.models.default = list(events("ok"))
    reply = await world.client().responses.with_raw_response.create(**GROUNDED, metadata={"mine": "kept"})
    assert reply.parse().metadata == {"mine": "kept"}
    assert "x-lateen-prompt-cut" not in reply.headers


def test_personal_data_is_redacted_before_it_is_cut() -> None:
    """A prompt that redacts hands no address to the shortening, where half of one would not be known any more."""
    document = prompt_revision("3", contextWindow=WINDOW, postProcessing=["RedactPII"])["spec"]
    spec = PromptTemplateSpec.model_validate(document)
    passages = [passage("a/b.md", "Write to jo@example.org")]
    injection = Injection(retrieved=numbered(passages))
    window = prompting.window(
        CompiledPrompt(spec), {"question": "I am al@example.org"}, injection, passages, [], None, None
    )
    assert window is not None
    assert window["shortening"]["values"]["question"] == "I am [EMAIL]"
    assert window["shortening"]["passages"] == ["[1] b.md\nWrite to [EMAIL]"]
    assert "@" not in str({**window["shortening"], "prompt": ""})
