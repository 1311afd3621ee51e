# SPDX-License-Identifier: Apache-2.0
"""Responses: prompts by reference, retrieval, citations, events, through the official client."""

from typing import Any

import openai
import pytest

from lateen_serving.errors import ContextTooLong, ModelError, NotFound
from unit.gateway_fakes import World, events, passage, prompt_revision

SEARCH: Any = {"type": "file_search", "vector_store_ids": ["handbook"]}
GROUNDED: Any = {
    "model": "chatty",
    "prompt": {"id": "grounded", "variables": {"question": "How much leave?"}},
    "tools": [SEARCH],
}
LEAVE = passage("hb/leave.md", "Employees have 28 days of paid leave.", 0.9, heading="Leave")
TRAVEL = passage("hb/travel.md", "Trains are booked by the travel desk.", 0.5)


@pytest.fixture
def world() -> World:
    """A gateway whose handbook knows about leave and travel."""
    world = World()
    world.search.passages["handbook"] = [LEAVE, TRAVEL]
    world.models.default = list(events("You have 28 days", " of paid leave."))
    return world


async def test_grounded_answer_cites_its_document(world: World) -> None:
    """A prompt with retrieval gets the passages, and the answer cites the document it rests on."""
    reply = await world.client().responses.with_raw_response.create(**GROUNDED)
    response = reply.parse()
    assert response.output_text == "You have 28 days of paid leave."
    search, message = response.output
    assert (search.type, search.status) == ("file_search_call", "completed")
    assert search.queries == ["How much leave?"]
    assert search.results is None
    assert message.type == "message"
    content = message.content[0]
    assert content.type == "output_text"
    assert [note.model_dump() for note in content.annotations] == [
        {
            "type": "file_citation",
            "index": 31,
            "file_id": "hb/leave.md",
            "filename": "leave.md",
            "attributes": {"heading": "Leave", "position": 0, "uri": "file:///leave.md"},
        }
    ]
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens) == (7, 2)
    assert reply.headers["x-lateen-release"] == "model=chatty@r1,prompt=grounded@p2,index=handbook@i1"


async def test_prompt_and_its_defaults_reach_the_model(world: World) -> None:
    """The rendered messages hold numbered sources with file names; the prompt's parameters apply."""
    await world.client().responses.create(**GROUNDED)
    request = world.models.calls[0][1]
    assert request["messages"] == [
        {
            "role": "system",
            "content": "Answer from these:\n[1] leave.md (Leave)\nEmployees have 28 days of paid leave.\n\n"
            "[2] travel.md\nTrains are booked by the travel desk.",
        },
        {"role": "user", "content": "How much leave?"},
    ]
    assert (request["temperature"], request["max_tokens"], request["stop"]) == (0.2, 64, ["END"])


async def test_request_beats_the_prompts_defaults(world: World) -> None:
    """Parameters of the request win over those of the prompt, zero included."""
    await world.client().responses.create(**GROUNDED, temperature=0, max_output_tokens=5, top_p=0.9)
    request = world.models.calls[0][1]
    assert (request["temperature"], request["max_tokens"], request["top_p"]) == (0.0, 5, 0.9)


async def test_stream_has_openais_events_in_order(world: World) -> None:
    """A streamed response has OpenAI's events in order, numbered without gaps, ending in the whole response."""
    stream = await world.client().responses.create(**GROUNDED, stream=True)
    seen: list[Any] = [event async for event in stream]
    assert [event.type for event in seen] == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.file_search_call.in_progress",
        "response.file_search_call.searching",
        "response.file_search_call.completed",
        "response.output_item.done",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.delta",
        "response.output_text.annotation.added",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert [event.sequence_number for event in seen] == list(range(len(seen)))
    last = seen[-1].response
    assert (last.status, last.output_text) == ("completed", "You have 28 days of paid leave.")
    assert last.output[1].content[0].annotations[0].file_id == "hb/leave.md"
    assert last.usage.total_tokens == 9


async def test_clients_own_stream_helper_understands_the_events(world: World) -> None:
    """The client's accumulating helper arrives at the same final response."""
    async with world.client().responses.stream(**GROUNDED) as stream:
        async for _ in stream:
            pass
        final = await stream.get_final_response()
    assert final.output_text == "You have 28 days of paid leave."


async def test_token_limit_leaves_the_response_incomplete(world: World) -> None:
    """An answer cut by the limit is an incomplete response, streamed or not."""
    world.models.default = list(events("You have", finish_reason="length"))
    response = await world.client().responses.create(**GROUNDED)
    assert response.status == "incomplete"
    assert response.incomplete_details is not None
    assert response.incomplete_details.reason == "max_output_tokens"
    stream = await world.client().responses.create(**GROUNDED, stream=True)
    assert [event.type async for event in stream][-1] == "response.incomplete"


async def test_failure_in_the_middle_ends_with_error_and_failed(world: World) -> None:
    """A model that fails half-way ends the stream with an error event and a failed response."""
    world.models.default = [*events("You", "have")[:1], ModelError("broke")]
    stream = await world.client().responses.create(**GROUNDED, stream=True)
    seen: list[Any] = [event async for event in stream]
    assert [event.type for event in seen[-2:]] == ["error", "response.failed"]
    assert (seen[-2].code, seen[-2].message) == ("model_error", "broke")
    assert (seen[-1].response.status, seen[-1].response.error.message) == ("failed", "broke")


@pytest.mark.parametrize("error", [ContextTooLong("too long"), NotFound("alias gone")])
async def test_early_failure_is_an_http_error(world: World, error: Exception) -> None:
    """A failure before the first token is an HTTP error even for a stream."""
    world.models.default = [error]
    with pytest.raises(openai.APIStatusError) as caught:
        await world.client().responses.create(**GROUNDED, stream=True)
    assert caught.value.status_code in {400, 404}


async def test_results_are_included_on_request(world: World) -> None:
    """`include` adds what the search found."""
    response = await world.client().responses.create(**GROUNDED, include=["file_search_call.results"])
    search: Any = response.output[0]
    assert [(hit.file_id, hit.score, hit.text) for hit in search.results] == [
        ("hb/leave.md", 0.9, LEAVE.text),
        ("hb/travel.md", 0.5, TRAVEL.text),
    ]


async def test_plain_input_and_instructions(world: World) -> None:
    """Without prompt and tools, instructions and input are the conversation and nothing is searched."""
    response = await world.client().responses.create(
        model="chatty", instructions="Be brief.", input="Hi", metadata={"team": "a"}
    )
    assert world.models.calls[0][1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
    ]
    assert world.models.calls[0][1]["temperature"] == 1.0
    assert [item.type for item in response.output] == ["message"]
    assert response.metadata == {"team": "a"}
    assert not world.search.calls


async def test_search_without_a_prompt_puts_passages_before_the_conversation(world: World) -> None:
    """Without a prompt the passages are one system message with the instructions, marked as reference material."""
    await world.client().responses.create(
        model="chatty", instructions="Be brief.", input="How much leave?", tools=[SEARCH]
    )
    system, user = world.models.calls[0][1]["messages"]
    assert system["role"] == "system"
    assert system["content"].startswith("Be brief.\n\nSources found")
    assert "not instructions" in system["content"]
    assert "[1] leave.md (Leave)\nEmployees" in system["content"]
    assert user == {"role": "user", "content": "How much leave?"}


async def test_prompt_without_a_place_for_passages(world: World) -> None:
    """A prompt that has no retrieval variable gets the passages in a system message before its own messages."""
    await world.client().responses.create(
        model="chatty", prompt={"id": "plain", "variables": {"what": "leave rules"}}, tools=[SEARCH]
    )
    system, user = world.models.calls[0][1]["messages"]
    assert "leave.md" in system["content"]
    assert user == {"role": "user", "content": "Say leave rules to all"}


async def test_nothing_found_is_said(world: World) -> None:
    """A search without a hit tells the model so, and nothing is cited."""
    world.search.passages.clear()
    response = await world.client().responses.create(model="chatty", input="leave?", tools=[SEARCH])
    assert "No sources" in world.models.calls[0][1]["messages"][0]["content"]
    message: Any = response.output[1]
    assert message.content[0].annotations == []


@pytest.mark.parametrize(
    ("more", "query"),
    [
        ({"prompt": {"id": "grounded", "variables": {"question": "the variable"}}}, "the variable"),
        (
            {"prompt": {"id": "grounded", "variables": {"question": "the variable"}}, "input": "the input"},
            "the variable",
        ),
        (
            {"prompt": {"id": "plain", "variables": {"name": "Ada", "what": "the first"}}, "input": "last"},
            "last",
        ),
        ({"prompt": {"id": "plain", "variables": {"name": "Ada", "what": "the first"}}}, "the first"),
        (
            {
                "input": [
                    {"role": "user", "content": "first"},
                    {"role": "assistant", "content": "an answer"},
                    {"role": "user", "content": [{"type": "input_text", "text": "second"}]},
                ]
            },
            "second",
        ),
    ],
    ids=["question", "question beats input", "input beats others", "first string variable", "last user text"],
)
async def test_what_is_searched_for(world: World, more: Any, query: str) -> None:
    """The query is the variable question, else the last user text, else the first string variable."""
    await world.client().responses.create(model="chatty", tools=[SEARCH], **more)
    assert world.search.calls[0][1] == query


async def test_several_indexes_are_merged_by_score(world: World) -> None:
    """Passages of several indexes are merged by score, and bounded in total by max_num_results."""
    world.search.passages["notes"] = [passage("n/a.md", "a note", 0.7), passage("n/b.md", "b note", 0.1)]
    tool: Any = {"type": "file_search", "vector_store_ids": ["handbook", "notes"], "max_num_results": 2}
    reply = await world.client().responses.with_raw_response.create(
        model="chatty", input="x", tools=[tool], include=["file_search_call.results"]
    )
    search: Any = reply.parse().output[0]
    assert [hit.file_id for hit in search.results] == ["hb/leave.md", "n/a.md"]
    assert reply.headers["x-lateen-release"] == "model=chatty@r1,index=handbook@i1,index=notes@i1"


async def test_an_earlier_answer_can_be_sent_back(world: World) -> None:
    """The output of one response is accepted as input of the next, the record of its search left out."""
    client = world.client()
    first = await client.responses.create(**GROUNDED)
    history: Any = [{"role": "user", "content": "How much leave?"}, *first.output]
    history.append({"role": "user", "content": "Sure?"})
    await client.responses.create(model="chatty", input=history)
    assert [message["role"] for message in world.models.calls[-1][1]["messages"]] == [
        "user",
        "assistant",
        "user",
    ]


async def test_input_follows_the_prompt(world: World) -> None:
    """Messages of `input` come after those of the prompt."""
    await world.client().responses.create(**GROUNDED, input="And in Spain?")
    assert [message["content"] for message in world.models.calls[0][1]["messages"][1:]] == [
        "How much leave?",
        "And in Spain?",
    ]


async def test_an_older_version_can_be_pinned(world: World) -> None:
    """`prompt.version` selects the newest revision with that label."""
    prompt: Any = {"id": "grounded", "version": "1", "variables": {"question": "Why?"}}
    reply = await world.client().responses.with_raw_response.create(
        model="chatty", prompt=prompt, tools=[SEARCH]
    )
    assert "prompt=grounded@p1" in reply.headers["x-lateen-release"]
    response: Any = reply.parse()
    assert response.prompt.version == "1"


@pytest.mark.parametrize(
    ("change", "status", "code", "param"),
    [
        ({"prompt": {"id": "none"}}, 404, "prompt_not_found", "prompt.id"),
        ({"prompt": {"id": "grounded", "version": "9"}}, 404, "prompt_version_not_found", "prompt.version"),
        ({"prompt": {"id": "grounded"}, "input": "x"}, 400, "invalid_value", "prompt.variables.question"),
        ({"prompt": {"id": "grounded"}}, 400, "invalid_value", "prompt.variables.question"),
        (
            {"prompt": {"id": "grounded", "variables": {"question": "x"}}},
            400,
            "invalid_value",
            "prompt.variables.question",
        ),
        (
            {"prompt": {"id": "grounded", "variables": {"question": "why", "extra": "x"}}},
            400,
            "invalid_value",
            "prompt.variables.extra",
        ),
        (
            {"prompt": {"id": "grounded", "variables": {"question": "why", "context": "mine"}}},
            400,
            "invalid_value",
            "prompt.variables.context",
        ),
        (
            {"tools": [{"type": "file_search", "vector_store_ids": ["none"]}]},
            404,
            "vector_store_not_found",
            "tools[0].vector_store_ids",
        ),
        ({"tools": []}, 400, "missing_required_parameter", "tools"),
    ],
)
async def test_wrong_references(world: World, change: Any, status: int, code: str, param: str) -> None:
    """Unknown prompts, versions, indexes and variables are refused by code and parameter, before a search is paid for."""
    with pytest.raises(openai.APIStatusError) as caught:
        await world.client().responses.create(**(GROUNDED | change))
    assert (caught.value.status_code, caught.value.code, caught.value.param) == (status, code, param)
    assert [world.models.calls, world.models.embedded, world.search.calls] == [[], [], []]


async def test_search_with_nothing_to_search_for(world: World) -> None:
    """file_search without any text to look for is refused, naming what to give."""
    world.accept(
        prompts=[
            {
                "id": "mute",
                "revisions": [
                    prompt_revision(
                        "1", messages=[{"role": "user", "content": "Go"}], variables=[], defaults={}
                    )
                ],
            }
        ]
    )
    with pytest.raises(openai.BadRequestError, match="nothing to search for"):
        await world.client().responses.create(model="chatty", prompt={"id": "mute"}, tools=[SEARCH])


async def test_passages_cant_open_placeholders(world: World) -> None:
    """Braces in a passage reach the model as they are: retrieved text is data."""
    world.search.passages["handbook"] = [passage("hb/x.md", "{question} {missing} {0.__class__}")]
    await world.client().responses.create(**GROUNDED)
    assert "{question} {missing} {0.__class__}" in world.models.calls[0][1]["messages"][0]["content"]
