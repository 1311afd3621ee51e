# SPDX-License-Identifier: Apache-2.0
"""Existing clients against the running gateway: the official SDK in all its ways, and LangChain's; real weights.

What a small model says is not judged; that it arrives whole, parses and fits what was asked for is.
"""

import asyncio
import json
import math
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from stack import manifests
from stack.cluster import Cluster
from stack.local import LocalStack

MESSAGES: Any = [{"role": "user", "content": "What colour is the sky? Answer in one word."}]
PAINT: Any = {
    "type": "function",
    "function": {
        "name": "paint",
        "description": "Paints something in a colour.",
        "parameters": {
            "type": "object",
            "properties": {"colour": {"enum": ["red", "green", "blue"]}},
            "required": ["colour"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


class Colour(pydantic.BaseModel):
    """What structured answers look like; nothing in it can grow without bounds."""

    colour: Literal["red", "green", "blue"]
    certain: bool


@tool
def paint(colour: Literal["red", "green", "blue"]) -> str:
    """Paint the wall in a colour."""
    return f"The wall is {colour}."


@pytest.fixture(scope="module")
def model(cluster: Cluster, shared_namespace: str) -> str:
    """The quickstart's chat model, Ready in a namespace of its own; the id clients use."""
    resources = {"cpu": "1", "memory": "1Gi"}
    cluster.apply(
        manifests.model(shared_namespace, "clients", "generate", "smollm2-135m-instruct", resources=resources)
    )
    found = cluster.wait_ready("modeldeployments.lateen.dev", shared_namespace, "clients", timeout=240)
    return str(found["status"]["modelId"])


@pytest.fixture(scope="module")
def langchain(stack: LocalStack, model: str) -> Iterator[ChatOpenAI]:
    """LangChain's client, as its users make it."""
    with openai.DefaultHttpxClient(trust_env=False, timeout=120) as http:
        yield ChatOpenAI(
            model=model,
            base_url=f"{stack.gateway_url}/v1",
            api_key=pydantic.SecretStr(stack.api_key),
            max_retries=0,
            http_client=http,
            temperature=0,
            max_completion_tokens=128,
        )


def test_one_answer_in_every_way(model: str, sdk: openai.OpenAI) -> None:
    """Whole, streamed and through the accumulating helper the greedy answer is the same."""
    ask: dict[str, Any] = {
        "model": model,
        "messages": MESSAGES,
        "temperature": 0,
        "max_completion_tokens": 128,  # to the end: the accumulating helper refuses what is cut off
    }
    whole = sdk.chat.completions.create(**ask)
    text = whole.choices[0].message.content
    assert text
    chunks = list(sdk.chat.completions.create(**ask, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert chunks[-1].usage is not None
    assert whole.usage is not None
    assert chunks[-1].usage.total_tokens == whole.usage.total_tokens
    with sdk.chat.completions.stream(**ask) as stream:
        assert stream.get_final_completion().choices[0].message.content == text
    response = sdk.responses.create(model=model, input=MESSAGES, temperature=0, max_output_tokens=128)
    assert response.output_text == text


async def test_many_at_once(model: str, client: openai.AsyncOpenAI) -> None:
    """Concurrent requests of the asynchronous client don't disturb each other: greedy answers repeat."""
    ask: dict[str, Any] = {
        "model": model,
        "messages": MESSAGES,
        "temperature": 0,
        "max_completion_tokens": 12,
    }
    replies = await asyncio.gather(*(client.chat.completions.create(**ask) for _ in range(6)))
    assert len({reply.choices[0].message.content for reply in replies}) == 1


async def test_choices_differ_and_repeat_with_their_seed(model: str, client: openai.AsyncOpenAI) -> None:
    """n=2 gives two answers drawn apart; the same seed gives both again, and the second is that of seed + 1."""
    ask: dict[str, Any] = {
        "model": model,
        "messages": MESSAGES,
        "temperature": 1.5,
        "max_completion_tokens": 24,
    }
    first = await client.chat.completions.create(**ask, n=2, seed=11)
    texts = [choice.message.content for choice in first.choices]
    assert texts[0] != texts[1]
    second = await client.chat.completions.create(**ask, n=2, seed=11)
    assert [choice.message.content for choice in second.choices] == texts
    alone = await client.chat.completions.create(**ask, seed=12)
    assert alone.choices[0].message.content == texts[1]
    assert first.usage is not None
    assert alone.usage is not None
    assert first.usage.prompt_tokens == alone.usage.prompt_tokens


def test_sampling_fields_are_acted_on(model: str, sdk: openai.OpenAI) -> None:
    """A biased token is all that is written, and drawing from the likeliest token alone is greedy."""
    ask: dict[str, Any] = {"model": model, "messages": MESSAGES, "max_completion_tokens": 8}
    biased = sdk.chat.completions.create(
        **ask, temperature=1, logit_bias={"500": 100}, logprobs=True, presence_penalty=-2
    )
    assert biased.choices[0].logprobs is not None
    assert len({token.token for token in biased.choices[0].logprobs.content or []}) == 1
    greedy = sdk.chat.completions.create(**ask, temperature=0)
    narrow = sdk.chat.completions.create(**ask, temperature=1, extra_body={"top_k": 1})
    assert narrow.choices[0].message.content == greedy.choices[0].message.content


def test_log_probabilities(model: str, sdk: openai.OpenAI) -> None:
    """Each token of a greedy answer is the likeliest one, the tokens' bytes are the text, probabilities are below 1."""
    reply = sdk.chat.completions.create(
        model=model, messages=MESSAGES, temperature=0, max_completion_tokens=12, logprobs=True, top_logprobs=3
    )
    choice = reply.choices[0]
    assert choice.logprobs is not None
    tokens = choice.logprobs.content or []
    assert tokens
    text = bytes(byte for token in tokens for byte in token.bytes or []).decode(errors="replace")
    assert text.startswith(choice.message.content or "?")
    for token in tokens:
        assert len(token.top_logprobs) == 3
        assert token.logprob == pytest.approx(token.top_logprobs[0].logprob, abs=1e-4)
        assert sum(math.exp(other.logprob) for other in token.top_logprobs) <= 1 + 1e-4


def test_parse_gives_a_pydantic_model(model: str, sdk: openai.OpenAI) -> None:
    """`.parse()` of both endpoints gives the model that was asked for, also at a high temperature."""
    for seed in range(3):
        completion = sdk.chat.completions.parse(
            model=model, messages=MESSAGES, response_format=Colour, temperature=1.5, seed=seed
        )
        assert isinstance(completion.choices[0].message.parsed, Colour)
    response = sdk.responses.parse(model=model, input=MESSAGES, text_format=Colour, temperature=1.5)
    assert isinstance(response.output_parsed, Colour)


def test_a_required_call_is_made(model: str, sdk: openai.OpenAI) -> None:
    """With `required` the answer is a call with arguments of the schema, which can be answered."""
    ask: dict[str, Any] = {"model": model, "tools": [PAINT], "temperature": 1.5, "seed": 3}
    reply = sdk.chat.completions.create(
        **ask, messages=MESSAGES, tool_choice="required", parallel_tool_calls=False
    )
    message: Any = reply.choices[0].message
    assert reply.choices[0].finish_reason == "tool_calls"
    (call,) = message.tool_calls
    assert call.function.name == "paint"
    assert json.loads(call.function.arguments)["colour"] in {"red", "green", "blue"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "Done."}
    turns: Any = [*MESSAGES, message, result]
    final = sdk.chat.completions.create(**ask, messages=turns, tool_choice="none", max_completion_tokens=16)
    assert final.choices[0].finish_reason in {"stop", "length"}
    assert final.choices[0].message.tool_calls is None


def test_a_call_is_streamed(model: str, sdk: openai.OpenAI) -> None:
    """The helper puts the call together from its deltas, over both endpoints."""
    with sdk.chat.completions.stream(
        model=model, messages=MESSAGES, tools=[PAINT], tool_choice="required", parallel_tool_calls=False
    ) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].function.parsed_arguments.keys() == {"colour"}  # type: ignore[attr-defined]
    function: Any = {"type": "function", **PAINT["function"]}
    events = list(
        sdk.responses.create(
            model=model,
            input=MESSAGES,
            tools=[function],
            tool_choice="required",
            parallel_tool_calls=False,
            stream=True,
        )
    )
    last: Any = events[-1]
    (item,) = last.response.output
    deltas = "".join(
        event.delta for event in events if event.type == "response.function_call_arguments.delta"
    )
    assert json.loads(deltas) == json.loads(item.arguments)
    assert item.name == "paint"


def test_tools_that_may_be_called_leave_text_alone(model: str, sdk: openai.OpenAI) -> None:
    """With `auto` the answer is text, or calls that parse; never something in between."""
    for seed in range(4):
        reply = sdk.chat.completions.create(
            model=model, messages=MESSAGES, tools=[PAINT], seed=seed, temperature=1, max_completion_tokens=48
        )
        choice = reply.choices[0]
        assert "<tool_call>" not in (choice.message.content or "")
        if choice.finish_reason == "tool_calls":
            calls: Any = choice.message.tool_calls
            assert all(json.loads(call.function.arguments)["colour"] for call in calls)


def test_bare_texts_are_continued(model: str, sdk: openai.OpenAI) -> None:
    """The older endpoint continues several texts, and streams the same."""
    ask: dict[str, Any] = {"model": model, "temperature": 0, "max_tokens": 8}
    both = sdk.completions.create(**ask, prompt=["The sky is", "One, two, three,"], logprobs=2)
    assert [choice.index for choice in both.choices] == [0, 1]
    assert all(choice.text for choice in both.choices)
    told = both.choices[0].logprobs
    assert told is not None
    assert len(told.tokens or []) == len(told.token_logprobs or []) <= 8
    pieces: Any = sdk.completions.create(**ask, prompt="The sky is", stream=True)
    assert "".join(chunk.choices[0].text for chunk in pieces) == both.choices[0].text


def test_too_much_is_refused_by_the_field(model: str, sdk: openai.OpenAI) -> None:
    """A million characters and ten thousand stop texts are the caller's error, named, and the model goes on."""
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "zebra " * 170_000}])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model=model, messages=MESSAGES, stop=["x"] * 10_000)
    assert caught.value.param == "stop"
    assert sdk.chat.completions.create(model=model, messages=MESSAGES, max_completion_tokens=2).choices


def test_langchain_invokes_and_streams(langchain: ChatOpenAI) -> None:
    """A whole answer and a streamed one are the same, with usage."""
    ask = [HumanMessage("What colour is the sky? Answer in one word.")]
    whole = langchain.invoke(ask)
    assert whole.usage_metadata is not None
    assert whole.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.text for chunk in langchain.stream(ask)) == whole.text


@pytest.mark.parametrize("method", ["json_schema", "function_calling"])
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # the client's, about its own `parsed`
def test_langchain_structures_its_output(langchain: ChatOpenAI, method: Any) -> None:
    """Both of LangChain's ways to a pydantic model give one."""
    structured = langchain.with_structured_output(Colour, method=method)
    assert isinstance(structured.invoke("What colour is the sky?"), Colour)


def test_langchain_binds_tools(langchain: ChatOpenAI) -> None:
    """A bound tool that must be called is called with its arguments."""
    bound = langchain.bind_tools([paint], tool_choice="paint", parallel_tool_calls=False)
    reply = bound.invoke("Paint the wall blue.")
    assert isinstance(reply, AIMessage)
    (call,) = reply.tool_calls
    assert not reply.invalid_tool_calls
    assert paint.invoke(call["args"]).startswith("The wall is ")
