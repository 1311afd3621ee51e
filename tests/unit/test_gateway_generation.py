# SPDX-License-Identifier: Apache-2.0
"""Chat completions: sampling, several choices, log probabilities, formats and tools, through the official client."""

import asyncio
import json
from typing import Any

import openai
import pydantic
import pytest

from lateen_serving.engine.protocol import TokenEvent
from lateen_serving.errors import ContextTooLong, ModelError, Unavailable
from unit.gateway_fakes import RawExchange, World, events, with_logprobs

ASK: Any = {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}]}
ADD: Any = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}},
            "required": ["a"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
CALL = '<tool_call>{"name": "add", "arguments": {"a": 3}}</tool_call>'


class Point(pydantic.BaseModel):
    """What `.parse()` is asked for."""

    x: int
    y: int


@pytest.fixture
def world() -> World:
    """A fresh gateway."""
    return World()


def pieces(text: str, size: int = 5) -> list[TokenEvent | Exception]:
    """An answer in pieces of so many characters."""
    return list(events(*(text[start : start + size] for start in range(0, len(text), size))))


async def whole(reply: Any) -> None:
    """Read a stream to its end."""
    async for _ in reply:
        pass


async def test_every_sampling_field_reaches_the_model(world: World) -> None:
    """Penalties, biases, cuts and log probabilities arrive at the engine as numbers."""
    await world.client().chat.completions.create(
        **ASK,
        presence_penalty=0.5,
        frequency_penalty=-1,
        logit_bias={"17": -100, "4": 2},
        logprobs=True,
        top_logprobs=3,
        extra_body={"top_k": 40, "min_p": 0.1},
    )
    request = world.models.calls[0][1]
    assert (request["presence_penalty"], request["frequency_penalty"]) == (0.5, -1.0)
    assert request["logit_bias"] == {17: -100.0, 4: 2.0}
    assert (request["top_k"], request["min_p"], request["logprobs"]) == (40, 0.1, 3)


async def test_choices_have_seeds_of_their_own_and_share_the_prompt(world: World) -> None:
    """Each of n choices is asked for with a seed counted on; the prompt's tokens count once, the answers' all."""
    world.models.answers["default_chatty_r1"] = [list(events(text, "!")) for text in ("one", "two", "three")]
    completion = await world.client().chat.completions.create(**ASK, n=3, seed=2**63 - 2)
    assert [choice.index for choice in completion.choices] == [0, 1, 2]
    assert [choice.message.content for choice in completion.choices] == ["one!", "two!", "three!"]
    assert [call[1]["seed"] for call in world.models.calls] == [2**63 - 2, 2**63 - 1, -(2**63)]
    assert completion.usage is not None
    assert (completion.usage.prompt_tokens, completion.usage.completion_tokens) == (7, 6)


async def test_choices_are_streamed_together(world: World) -> None:
    """One stream carries all choices by index, each with its role, text and end; usage and [DONE] come last."""
    world.models.answers["default_chatty_r1"] = [
        list(events("a", "b")),
        list(events("c", finish_reason="length")),
    ]
    stream: Any = await world.client().chat.completions.create(
        **ASK, n=2, stream=True, stream_options={"include_usage": True}
    )
    texts, reasons = ["", ""], ["", ""]
    async for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            reasons[choice.index] += choice.finish_reason or ""
    assert (texts, reasons) == (["ab", "c"], ["stop", "length"])
    assert (chunk.choices, chunk.usage.completion_tokens, chunk.usage.prompt_tokens) == ([], 3, 7)


@pytest.mark.parametrize("streamed", [False, True])
async def test_one_failing_choice_stops_all(world: World, streamed: bool) -> None:
    """When one of several answers fails, the reply is an error and no replica goes on working."""
    world.models.hold = asyncio.Event()
    world.models.hold.set()
    world.models.answers["default_chatty_r1"] = [
        [*events("a", "b")[:1], ModelError("broke")],
        list(events("c", "d")),
    ]
    with pytest.raises(openai.APIError, match="broke"):
        await whole(await world.client().chat.completions.create(**ASK, n=2, stream=streamed))
    assert len(world.models.closed) == 2


async def test_a_choice_that_cant_start_stops_the_others(world: World) -> None:
    """An early failure of one choice is an HTTP error, and those that had started are closed."""
    world.models.answers["default_chatty_r1"] = [
        [ContextTooLong("too long", param="messages")],
        list(events("c", "d")),
    ]
    with pytest.raises(openai.BadRequestError) as caught:
        await world.client().chat.completions.create(**ASK, n=2, stream=True)
    assert caught.value.param == "messages"
    assert len(world.models.closed) == 2


async def test_choices_are_tried_again_one_by_one(world: World) -> None:
    """A lost replica costs only the choice that was on it another try."""
    world.models.answers["default_chatty_r1"] = [[Unavailable("gone")], list(events("a")), list(events("b"))]
    completion = await world.client().chat.completions.create(**ASK, n=2)
    assert sorted(choice.message.content or "" for choice in completion.choices) == ["a", "b"]
    assert len(world.models.calls) == 3


async def test_limits_of_the_context_name_the_field_the_caller_used(world: World) -> None:
    """What the engine says of `max_tokens` is said of `max_completion_tokens` where the caller used that."""
    world.models.default = [ContextTooLong("too long", param="max_tokens")]
    client = world.client()
    for field in ("max_tokens", "max_completion_tokens"):
        with pytest.raises(openai.BadRequestError) as caught:
            await client.chat.completions.create(**(ASK | {field: 1_000_000}))
        assert caught.value.param == field


async def test_a_long_request_reaches_the_engine_whole(world: World) -> None:
    """A million characters are the engine's to refuse, by the field; nothing is cut."""
    world.models.default = [ContextTooLong("too long", param="messages")]
    with pytest.raises(openai.BadRequestError) as caught:
        await world.client().chat.completions.create(
            model="chatty", messages=[{"role": "user", "content": "x" * 1_000_000}]
        )
    assert (caught.value.param, caught.value.code) == ("messages", "context_length_exceeded")
    assert len(world.models.calls[0][1]["messages"][0]["content"]) == 1_000_000


async def test_cached_tokens_are_told(world: World) -> None:
    """What the engine did not have to read again is in the usage."""
    answer = events("a", "b")
    for event in answer:
        event["cached_tokens"] = 5
    world.models.default = list(answer)
    usage = (await world.client().chat.completions.create(**ASK, n=2)).usage
    assert usage is not None
    assert usage.prompt_tokens_details is not None
    assert usage.prompt_tokens_details.cached_tokens == 5
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 0


async def test_log_probabilities(world: World) -> None:
    """Every token comes with its probability, its bytes and the likeliest others, streamed or not."""
    world.models.default = list(with_logprobs(events("Hé", " you"), 2))
    client = world.client()
    completion = await client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2)
    stream: Any = await client.chat.completions.create(**ASK, logprobs=True, top_logprobs=2, stream=True)
    streamed = [
        token
        async for chunk in stream
        for choice in chunk.choices
        if choice.logprobs
        for token in choice.logprobs.content
    ]
    logprobs = completion.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content == streamed
    assert [token.token for token in streamed] == ["Hé", " you"]
    assert bytes(streamed[0].bytes).decode() == "Hé"
    assert [other.logprob for other in streamed[0].top_logprobs] == [-1.0, -2.0]


@pytest.mark.parametrize("calls", [False, True])
async def test_log_probabilities_beside_tools_are_those_of_the_text(world: World, calls: bool) -> None:
    """With tools the tokens of the text are told and those of calls aren't, even where text was held back."""
    text = ["I ", "add <tool", "_call"] if not calls else ["I ", "add ", *([CALL[:11], CALL[11:]])]
    world.models.default = list(with_logprobs(events(*text), 0))
    completion = await world.client().chat.completions.create(**ASK, tools=[ADD], logprobs=True)
    (choice,) = completion.choices
    assert choice.logprobs is not None
    tokens = [token.token for token in choice.logprobs.content or []]
    assert "".join(tokens) == choice.message.content == ("I add " if calls else "I add <tool_call")


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the client's, about its own `parsed`
async def test_a_schema_becomes_the_grammar_and_parses(world: World) -> None:
    """`.parse()` sends the schema of a pydantic model, which the engine is held to, and gives back the model."""
    world.models.default = list(events('{"x": 1,', ' "y": 2}'))
    completion = await world.client().chat.completions.parse(**ASK, response_format=Point)
    assert completion.choices[0].message.parsed == Point(x=1, y=2)
    grammar = world.models.calls[0][1]["grammar"]
    assert grammar["kind"] == "json_schema"
    assert json.loads(grammar["source"])["properties"].keys() == {"x", "y"}
    earlier: Any = completion.choices[0].message
    await world.client().chat.completions.create(model="chatty", messages=[*ASK["messages"], earlier])
    assert world.models.calls[-1][1]["messages"][1]["content"] == '{"x": 1, "y": 2}'


async def test_any_object_can_be_asked_for(world: World) -> None:
    """`json_object` is a grammar of its own."""
    await world.client().chat.completions.create(**ASK, response_format={"type": "json_object"})
    assert world.models.calls[0][1]["grammar"] == {"kind": "json_object", "source": ""}


async def test_a_call_is_taken_out_of_the_text(world: World) -> None:
    """What the model wrote as a call is a tool call with its own id; the rest stays content."""
    world.models.default = pieces("I add. " + CALL + "\n" + CALL)
    completion = await world.client().chat.completions.create(**ASK, tools=[ADD])
    (choice,) = completion.choices
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "I add. ")
    calls: Any = choice.message.tool_calls
    assert [(call.type, call.function.name, call.function.arguments) for call in calls] == [
        ("function", "add", '{"a": 3}')
    ] * 2
    assert len({call.id for call in calls}) == 2
    request = world.models.calls[0][1]
    function = ADD["function"]
    assert request["tools"] == [{name: function[name] for name in ("name", "description", "parameters")}]
    assert request["grammar"]["kind"] == "lark"


async def test_calls_are_streamed_as_deltas(world: World) -> None:
    """The client's own helper puts the streamed deltas together to the same call; the call has no content."""
    world.models.default = pieces(CALL, size=3)
    async with world.client().chat.completions.stream(**ASK, tools=[ADD], tool_choice="required") as stream:
        seen = [event async for event in stream]
        final = await stream.get_final_completion()
    message = final.choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.name == "add"
    assert message.tool_calls[0].function.parsed_arguments == {"a": 3}
    assert final.choices[0].finish_reason == "tool_calls"
    assert sum(event.type == "tool_calls.function.arguments.delta" for event in seen) > 1
    assert not message.content


async def test_a_call_and_its_result_can_be_sent_back(world: World) -> None:
    """The message of a call as the client gave it, and a tool's message, reach the model with their ids."""
    world.models.answers["default_chatty_r1"] = [pieces(CALL)]
    client = world.client()
    first = await client.chat.completions.parse(**ASK, tools=[ADD])
    message: Any = first.choices[0].message
    identity = message.tool_calls[0].id
    result: Any = {"role": "tool", "tool_call_id": identity, "content": "3"}
    await client.chat.completions.create(
        model="chatty", messages=[*ASK["messages"], message, result], tools=[ADD]
    )
    call = {"id": identity, "name": "add", "arguments": '{"a": 3}'}
    assert world.models.calls[-1][1]["messages"][1:] == [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "3", "tool_call_id": identity},
    ]


async def test_a_call_that_a_stop_text_cut_is_none_to_make(world: World) -> None:
    """Its answer ends with `stop`, streamed or not: clients make the calls of one that ends with `tool_calls`."""
    world.models.default = list(events(CALL[:45]))
    (choice,) = (await world.client().chat.completions.create(**ASK, tools=[ADD], stop=" 3")).choices
    assert choice.finish_reason == "stop"
    stream = await world.client().chat.completions.create(**ASK, tools=[ADD], stop=" 3", stream=True)
    assert [chunk.choices[0].finish_reason async for chunk in stream][-1] == "stop"


async def test_a_call_cut_by_the_limit_says_so(world: World) -> None:
    """A call that ran into the token limit has what arrived of its arguments, and finish_reason length."""
    world.models.default = list(events(CALL[:45], finish_reason="length"))
    (choice,) = (await world.client().chat.completions.create(**ASK, tools=[ADD])).choices
    calls: Any = choice.message.tool_calls
    assert (choice.finish_reason, calls[0].function.arguments) == ("length", '{"a":')


async def test_tools_can_be_hidden(world: World) -> None:
    """With `none` the model isn't told of the functions and text is text, whatever it looks like."""
    world.models.default = pieces(CALL)
    completion = await world.client().chat.completions.create(**ASK, tools=[ADD], tool_choice="none")
    assert completion.choices[0].message.content == CALL
    assert not world.models.calls[0][1].keys() & {"tools", "grammar"}


@pytest.mark.parametrize(
    ("choice", "parallel", "start"),
    [
        ("auto", True, 'start: text | call ("\\n"? "<tool_call>" body){0,15}'),
        ("auto", False, "start: text | call"),
        ("required", False, "start: call"),
        (
            {"type": "function", "function": {"name": "add"}},
            True,
            'start: call ("\\n"? "<tool_call>" body){0,15}',
        ),
    ],
)
async def test_the_choice_of_tools_shapes_the_grammar(
    world: World, choice: Any, parallel: bool, start: str
) -> None:
    """Whether a call is allowed or forced, and how many, is the grammar's to see to."""
    world.models.default = pieces(CALL)
    await world.client().chat.completions.create(
        **ASK, tools=[ADD], tool_choice=choice, parallel_tool_calls=parallel
    )
    assert world.models.calls[0][1]["grammar"]["source"].splitlines()[1] == start


async def test_a_format_beside_tools_holds_for_the_text(world: World) -> None:
    """With both, the answer is a document of the schema or calls."""
    world.models.default = list(events('{"x": 1, "y": 2}'))
    completion = await world.client().chat.completions.parse(**ASK, tools=[ADD], response_format=Point)
    assert completion.choices[0].message.parsed == Point(x=1, y=2)
    assert "start: document | call" in world.models.calls[0][1]["grammar"]["source"]


async def test_an_unreadable_call_is_the_models_failure(world: World) -> None:
    """A replica whose decoding did not keep to the grammar is an error, never silence."""
    world.models.default = pieces("<tool_call>add(3)</tool_call>")
    with pytest.raises(openai.InternalServerError) as caught:
        await world.client().chat.completions.create(**ASK, tools=[ADD])
    assert caught.value.code == "tool_call_unreadable"


async def test_an_adapter_is_named_after_its_model(world: World) -> None:
    """`model:adapter` calls the model with its adapter, and the release says so."""
    reply = await world.client().chat.completions.with_raw_response.create(
        **(ASK | {"model": "chatty:support"})
    )
    application, request = world.models.calls[0]
    assert (application, request["adapter"]) == ("default_chatty_r1", "support")
    assert reply.headers["x-lateen-release"] == "model=chatty:support@r1"
    assert reply.parse().model == "chatty:support"


@pytest.mark.parametrize("name", ["chatty:", "chatty:other", "other:support", ":support", "chatty:support:x"])
async def test_unknown_adapters_are_not_found(world: World, name: str) -> None:
    """An adapter that isn't there is an unknown model."""
    with pytest.raises(openai.NotFoundError) as caught:
        await world.client().chat.completions.create(**(ASK | {"model": name}))
    assert caught.value.code == "model_not_found"


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_disconnect_stops_every_choice(world: World, streamed: bool) -> None:
    """A client that goes away in the middle stops all answers."""
    world.models.hold = asyncio.Event()
    exchange = RawExchange(
        world.app, "/v1/chat/completions", json.dumps(ASK | {"n": 3, "stream": streamed}).encode()
    )
    running = asyncio.create_task(exchange.run())
    await (exchange.started if streamed else world.models.asked).wait()
    exchange.leave.set()
    await running
    assert len(world.models.closed) == len(world.models.calls)
    assert len(world.models.calls) == 3 or not streamed
