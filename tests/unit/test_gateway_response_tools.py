# SPDX-License-Identifier: Apache-2.0
"""Responses: functions, formats and log probabilities, through the official client."""

import json
from typing import Any

import openai
import pydantic
import pytest

from lateen_serving.engine.protocol import TokenEvent
from lateen_serving.errors import ContextTooLong
from unit.gateway_fakes import World, events, passage, with_logprobs

ADD: Any = {
    "type": "function",
    "name": "add",
    "parameters": {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    },
    "strict": True,
}
SEARCH: Any = {"type": "file_search", "vector_store_ids": ["handbook"]}
CALL = '<tool_call>{"name": "add", "arguments": {"a": 3}}</tool_call>'


class Point(pydantic.BaseModel):
    """What `.parse()` is asked for."""

    x: int


@pytest.fixture
def world() -> World:
    """A gateway whose handbook knows something."""
    world = World()
    world.search.passages["handbook"] = [passage("hb/sum.md", "I add numbers.")]
    return world


def pieces(text: str, size: int = 5) -> list[TokenEvent | Exception]:
    """An answer in pieces of so many characters."""
    return list(events(*(text[start : start + size] for start in range(0, len(text), size))))


async def test_a_call_is_an_output_item(world: World) -> None:
    """A call is a function_call item after the message; the function is echoed and reaches the model."""
    world.models.default = pieces("I add. " + CALL)
    response = await world.client().responses.create(model="chatty", input="Hi", tools=[ADD])
    message, call = response.output
    assert message.type == "message"
    assert message.content[0].type == "output_text"
    assert message.content[0].text == "I add. "
    assert call.type == "function_call"
    assert (call.name, call.arguments, call.status) == ("add", '{"a": 3}', "completed")
    assert response.tools[0].type == "function"
    assert response.tools[0].name == "add"
    assert response.parallel_tool_calls is True
    request = world.models.calls[0][1]
    assert request["tools"] == [{"name": "add", "description": "", "parameters": ADD["parameters"]}]
    assert request["grammar"]["kind"] == "lark"


async def test_a_call_alone_has_no_message(world: World) -> None:
    """A forced call is the only item."""
    world.models.default = pieces(CALL)
    response = await world.client().responses.create(
        model="chatty", input="Hi", tools=[ADD], tool_choice={"type": "function", "name": "add"}
    )
    assert [item.type for item in response.output] == ["function_call"]
    assert response.output_text == ""
    assert json.loads(response.to_json())["tool_choice"] == {"type": "function", "name": "add"}


async def test_a_search_that_is_not_there_can_not_be_chosen(world: World) -> None:
    """`tool_choice` that names file_search is refused where `tools` has none, not ignored."""
    for tools in ([], [ADD]):
        with pytest.raises(openai.BadRequestError) as caught:
            await world.client().responses.create(
                model="chatty", input="Hi", tools=tools, tool_choice={"type": "file_search"}
            )
        assert caught.value.param == "tool_choice"
    assert not world.models.calls


@pytest.mark.parametrize(
    ("cut", "reason", "statuses"),
    [
        (CALL + CALL[:45], "length", ("incomplete", "completed", "incomplete")),
        (CALL + CALL[:20], "length", ("incomplete", "completed")),
        (CALL[:45], "stop", ("completed", "incomplete")),
    ],
)
async def test_only_the_call_that_was_cut_is_incomplete(
    world: World, cut: str, reason: str, statuses: tuple[str, ...]
) -> None:
    """Whether the token limit or a stop text cut it; calls before it are whole, streamed or not."""
    world.models.default = list(events(cut, finish_reason=reason))
    client = world.client()
    response = await client.responses.create(model="chatty", input="Hi", tools=[ADD])
    found: list[Any] = [response, *response.output]
    assert tuple(item.status for item in found) == statuses
    stream = await client.responses.create(model="chatty", input="Hi", tools=[ADD], stream=True)
    seen: list[Any] = [event async for event in stream]
    done = [event.item.status for event in seen if event.type == "response.output_item.done"]
    assert (seen[-1].response.status, *done) == statuses


@pytest.mark.parametrize("size", [20, 1000])
async def test_events_of_calls_come_in_order(world: World, size: int) -> None:
    """Each item is opened, filled and closed before the next, numbered without gaps; the last event has them all,
    however much of the answer became ready at once.
    """
    world.models.default = pieces("I add. " + CALL + CALL, size)
    stream = await world.client().responses.create(model="chatty", input="Hi", tools=[ADD], stream=True)
    seen: list[Any] = [event async for event in stream]
    kinds = [event.type.removeprefix("response.") for event in seen]
    deduplicated = [kind for kind, before in zip(kinds, ["", *kinds], strict=False) if kind != before]
    call = [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    assert deduplicated == [
        "created",
        "in_progress",
        "output_item.added",
        "content_part.added",
        "output_text.delta",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        *call,
        *call,
        "completed",
    ]
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    done = [event for event in seen if event.type == "response.output_item.done"]
    assert [event.output_index for event in done] == [0, 1, 2]
    assert seen[-1].response.output == [event.item for event in done]
    arguments = [event for event in seen if event.type == "response.function_call_arguments.done"]
    assert [(event.name, event.arguments, event.output_index) for event in arguments] == [
        ("add", '{"a": 3}', 1),
        ("add", '{"a": 3}', 2),
    ]
    assert {event.item_id for event in arguments} == {event.item.id for event in done[1:]}


async def test_clients_own_stream_helper_parses_the_call(world: World) -> None:
    """The client's accumulating helper arrives at the call with its arguments parsed."""
    world.models.default = pieces(CALL, size=4)
    async with world.client().responses.stream(model="chatty", input="Hi", tools=[ADD]) as stream:
        async for _ in stream:
            pass
        final: Any = await stream.get_final_response()
    assert [(item.name, item.parsed_arguments) for item in final.output] == [("add", {"a": 3})]


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_cut_call_is_incomplete(world: World, streamed: bool) -> None:
    """A call that ran into the token limit leaves its item and the response incomplete."""
    world.models.default = list(events(CALL[:45], finish_reason="length"))
    reply: Any = await world.client().responses.create(
        model="chatty", input="Hi", tools=[ADD], stream=streamed, max_output_tokens=5
    )
    if streamed:
        reply = [event async for event in reply][-1].response
    assert (reply.status, reply.output[0].status) == ("incomplete", "incomplete")
    assert reply.output[0].arguments == '{"a":'


async def test_a_call_and_its_result_can_be_sent_back(world: World) -> None:
    """The output of one response and a function's result are the input of the next, tied by the call's id."""
    world.models.answers["default_chatty_r1"] = [pieces("I add. " + CALL)]
    client = world.client()
    first = await client.responses.create(model="chatty", input="Hi", tools=[ADD, SEARCH])
    call: Any = first.output[-1]
    result: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "3"}
    history: Any = [{"role": "user", "content": "Hi"}, *first.output, result]
    await client.responses.create(model="chatty", input=history, tools=[ADD])
    assert world.models.calls[-1][1]["messages"] == [
        {"role": "user", "content": "Hi"},
        {
            "role": "assistant",
            "content": "I add. ",
            "tool_calls": [{"id": call.call_id, "name": "add", "arguments": '{"a": 3}'}],
        },
        {"role": "tool", "content": "3", "tool_call_id": call.call_id},
    ]


async def test_functions_stand_beside_a_search(world: World) -> None:
    """With both tools the search runs first and its citation stays with the text, before the call."""
    world.models.default = pieces("I add numbers. " + CALL)
    stream = await world.client().responses.create(
        model="chatty", input="Hi", tools=[ADD, SEARCH], stream=True
    )
    seen: list[Any] = [event async for event in stream]
    last = seen[-1].response
    assert [item.type for item in last.output] == ["file_search_call", "message", "function_call"]
    assert [note.filename for note in last.output[1].content[0].annotations] == ["sum.md"]


async def test_a_schema_becomes_the_grammar_and_parses(world: World) -> None:
    """`.parse()` sends the schema of a pydantic model, which the engine is held to, and gives back the model."""
    world.models.default = list(events('{"x":', " 1}"))
    response = await world.client().responses.parse(model="chatty", input="Hi", text_format=Point)
    assert response.output_parsed == Point(x=1)
    assert world.models.calls[0][1]["grammar"]["kind"] == "json_schema"
    assert response.text is not None
    assert response.text.format is not None
    assert response.text.format.type == "json_schema"
    properties: Any = response.text.format.schema_["properties"]
    assert properties.keys() == {"x"}


async def test_any_object_can_be_asked_for(world: World) -> None:
    """`json_object` is a grammar of its own."""
    await world.client().responses.create(
        model="chatty", input="Hi", text={"format": {"type": "json_object"}}
    )
    assert world.models.calls[0][1]["grammar"] == {"kind": "json_object", "source": ""}


@pytest.mark.parametrize(
    ("ask", "asked"),
    [
        ({"top_logprobs": 2}, 2),
        ({"include": ["message.output_text.logprobs"]}, 0),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 1}, 1),
    ],
)
async def test_log_probabilities(world: World, ask: Any, asked: int) -> None:
    """They are in the text's part, and in a stream's deltas and its done event, the same."""
    world.models.default = list(with_logprobs(events("Hé", " you"), asked))
    client = world.client()
    response: Any = await client.responses.create(model="chatty", input="Hi", **ask)
    told = response.output[0].content[0].logprobs
    assert [(token.token, len(token.top_logprobs)) for token in told] == [("Hé", asked), (" you", asked)]
    assert world.models.calls[0][1]["logprobs"] == asked
    stream: Any = await client.responses.create(model="chatty", input="Hi", stream=True, **ask)
    seen = [event async for event in stream]
    deltas = [
        token.token
        for event in seen
        if event.type == "response.output_text.delta"
        for token in event.logprobs
    ]
    assert deltas == ["Hé", " you"]
    assert seen[-1].response.output[0].content[0].logprobs == told


async def test_limits_of_the_context_name_the_field(world: World) -> None:
    """What the engine says of messages and max_tokens is said of this endpoint's fields."""
    for engines, ours in (("messages", "input"), ("max_tokens", "max_output_tokens")):
        world.models.default = [ContextTooLong("too long", param=engines)]
        with pytest.raises(openai.BadRequestError) as caught:
            await world.client().responses.create(model="chatty", input="Hi")
        assert caught.value.param == ours


async def test_a_required_search_is_no_required_call(world: World) -> None:
    """`required` with nothing but a search asks for what happens anyway."""
    await world.client().responses.create(model="chatty", input="Hi", tools=[SEARCH], tool_choice="required")
    assert "grammar" not in world.models.calls[0][1]
