# SPDX-License-Identifier: Apache-2.0
"""LangChain's OpenAI client is understood as it is: nothing it sends is refused, and it finds what it looks for."""

from typing import Any

import httpx2
import pydantic
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

from unit.gateway_fakes import KEY, World, events

CALL = '<tool_call>{"name": "add", "arguments": {"a": 3, "b": 4}}</tool_call>'
ASK = [SystemMessage("Be brief."), HumanMessage("Hi")]


class Point(pydantic.BaseModel):
    """A point in the plane."""

    x: int = pydantic.Field(description="to the right")
    y: int


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@pytest.fixture
def world() -> World:
    """A fresh gateway."""
    return World()


def settings(world: World) -> dict[str, Any]:
    """How LangChain finds the gateway in this process."""
    http = httpx2.AsyncClient(transport=world.transport(), trust_env=False)
    return {"api_key": KEY, "base_url": "http://gateway/v1", "max_retries": 0, "http_async_client": http}


@pytest.mark.parametrize("responses", [False, True])
async def test_invoke_and_stream(world: World, responses: bool) -> None:
    """A whole answer and a streamed one, over chat completions and over responses, with their usage."""
    chat = ChatOpenAI(
        model="chatty", temperature=0.5, use_responses_api=responses, stream_usage=True, **settings(world)
    )
    reply = await chat.ainvoke(ASK)
    assert reply.text == "Hello world"
    assert reply.usage_metadata is not None
    assert (reply.usage_metadata["input_tokens"], reply.usage_metadata["output_tokens"]) == (7, 2)
    texts = [chunk.text async for chunk in chat.astream(ASK)]
    assert "".join(texts) == "Hello world"
    again = await chat.ainvoke([*ASK, reply, HumanMessage("Again")])
    assert again.text == "Hello world"
    assert [item["content"] for item in world.models.calls[-1][1]["messages"]] == [
        "Be brief.",
        "Hi",
        "Hello world",
        "Again",
    ]


@pytest.mark.parametrize("responses", [False, True])
async def test_tools(world: World, responses: bool) -> None:
    """Bound tools are called, and the call and its result can be sent back."""
    world.models.answers["default_chatty_r1"] = [list(events(CALL[:20], CALL[20:]))]
    chat = ChatOpenAI(model="chatty", use_responses_api=responses, **settings(world))
    bound = chat.bind_tools([add], tool_choice="required", parallel_tool_calls=False)
    reply = await bound.ainvoke(ASK)
    assert isinstance(reply, AIMessage)
    (call,) = reply.tool_calls
    assert (call["name"], call["args"]) == ("add", {"a": 3, "b": 4})
    result = ToolMessage(str(add.invoke(call["args"])), tool_call_id=call["id"])
    final = await chat.bind_tools([add]).ainvoke([*ASK, reply, result])
    assert final.text == "Hello world"
    sent = world.models.calls[-1][1]["messages"][-1]
    assert sent == {"role": "tool", "content": "7", "tool_call_id": call["id"]}


@pytest.mark.parametrize("responses", [False, True])
@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the client's, about its own `parsed`
async def test_structured_output(world: World, method: Any, responses: bool) -> None:
    """A pydantic model comes back whichever way it is asked for."""
    world.models.default = list(events('{"x": 1,', ' "y": 2}'))
    chat = ChatOpenAI(model="chatty", use_responses_api=responses, **settings(world))
    assert await chat.with_structured_output(Point, method=method).ainvoke(ASK) == Point(x=1, y=2)
    assert world.models.calls[0][1]["grammar"]["kind"] == method.replace("mode", "object")


async def test_structured_output_by_a_call(world: World) -> None:
    """A pydantic model can be the function that must be called."""
    world.models.default = list(
        events('<tool_call>{"name": "Point", "arguments": {"x": 1, "y": 2}}</tool_call>')
    )
    chat = ChatOpenAI(model="chatty", **settings(world))
    structured = chat.with_structured_output(Point, method="function_calling")
    assert await structured.ainvoke(ASK) == Point(x=1, y=2)


async def test_bare_texts_and_embeddings(world: World) -> None:
    """The older completions and embeddings of text work too."""
    found = await OpenAI(model="chatty", **settings(world)).ainvoke("Once")
    assert found == "Hello world"
    embeddings = OpenAIEmbeddings(model="minilm", check_embedding_ctx_length=False, **settings(world))
    assert len(await embeddings.aembed_documents(["a", "b"])) == 2
