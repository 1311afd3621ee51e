# SPDX-License-Identifier: Apache-2.0
"""What the gateway refuses, and in which words."""

from typing import Any

import pytest

from unit.gateway_fakes import World

CHAT: dict[str, Any] = {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}]}
RESPONSES: dict[str, Any] = {"model": "chatty", "input": "Hi"}
EMBEDDINGS: dict[str, Any] = {"model": "minilm", "input": "Hi"}
SEARCH: dict[str, Any] = {"query": "leave"}
PATHS = {
    "chat": ("/v1/chat/completions", CHAT),
    "responses": ("/v1/responses", RESPONSES),
    "embeddings": ("/v1/embeddings", EMBEDDINGS),
    "search": ("/v1/vector_stores/handbook/search", SEARCH),
}


@pytest.mark.parametrize(
    ("route", "change", "param", "code"),
    [
        ("chat", {"logit_bias": {"5": 1}}, "logit_bias", "unsupported_parameter"),
        ("chat", {"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
        ("chat", {"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
        ("chat", {"frequency_penalty": 0.5}, "frequency_penalty", "unsupported_parameter"),
        ("chat", {"store": True}, "store", "unsupported_parameter"),
        ("chat", {"service_tier": "flex"}, "service_tier", "unsupported_parameter"),
        ("chat", {"logprobs": True}, "logprobs", "unsupported_parameter"),
        ("chat", {"tempurature": 1}, "tempurature", "unknown_parameter"),
        ("chat", {"unheard": None}, "unheard", "unknown_parameter"),
        ("chat", {"n": 2}, "n", "invalid_value"),
        ("chat", {"temperature": 2.1}, "temperature", "invalid_value"),
        ("chat", {"temperature": "hot"}, "temperature", "invalid_type"),
        ("chat", {"temperature": True}, "temperature", "invalid_type"),
        ("chat", {"top_p": 0}, "top_p", "invalid_value"),
        ("chat", {"max_tokens": 0}, "max_tokens", "invalid_value"),
        ("chat", {"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ("chat", {"seed": 2**63}, "seed", "invalid_value"),
        ("chat", {"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ("chat", {"stop": ""}, "stop[0]", "invalid_value"),
        ("chat", {"stream": "yes"}, "stream", "invalid_type"),
        ("chat", {"messages": []}, "messages", "invalid_value"),
        ("chat", {"messages": "Hi"}, "messages", "invalid_type"),
        ("chat", {"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ("chat", {"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role", "invalid_value"),
        (
            "chat",
            {"messages": [{"role": "user", "content": "x", "name": "bob"}]},
            "messages[0].name",
            "unsupported_parameter",
        ),
        (
            "chat",
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages[0].content",
            "unsupported_value",
        ),
        ("responses", {"previous_response_id": "r"}, "previous_response_id", "unsupported_parameter"),
        ("responses", {"background": True}, "background", "unsupported_parameter"),
        ("responses", {"reasoning": {"effort": "low"}}, "reasoning", "unsupported_parameter"),
        ("responses", {"messages": []}, "messages", "unknown_parameter"),
        ("responses", {"seed": 1}, "seed", "unknown_parameter"),
        ("responses", {"input": None}, "input", "missing_required_parameter"),
        ("responses", {"tools": [{"type": "web_search"}]}, "tools[0]", "unsupported_value"),
        (
            "responses",
            {"tools": [{"type": "file_search"}]},
            "tools[0].vector_store_ids",
            "missing_required_parameter",
        ),
        (
            "responses",
            {"tools": [{"type": "file_search", "vector_store_ids": ["handbook"], "filters": {"a": 1}}]},
            "tools[0].filters",
            "unsupported_parameter",
        ),
        ("responses", {"include": ["message.output_text.logprobs"]}, "include[0]", "invalid_value"),
        ("responses", {"prompt": {"variables": {}}}, "prompt.id", "missing_required_parameter"),
        (
            "responses",
            {"prompt": {"id": "plain", "variables": {"what": ["x"]}}},
            "prompt.variables.what",
            "unsupported_value",
        ),
        ("embeddings", {"input": [1, 2]}, "input", "unsupported_value"),
        ("embeddings", {"input": [[1, 2]]}, "input", "unsupported_value"),
        ("embeddings", {"input": ""}, "input[0]", "invalid_value"),
        ("embeddings", {"input": []}, "input", "invalid_value"),
        ("embeddings", {"encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ("embeddings", {"dimensions": 2}, "dimensions", "unsupported_parameter"),
        ("search", {"filters": {"a": 1}}, "filters", "unsupported_parameter"),
        ("search", {"ranking_options": {"ranker": "auto"}}, "ranking_options", "unsupported_parameter"),
        ("search", {"max_num_results": 51}, "max_num_results", "invalid_value"),
        ("search", {"query": ["a"]}, "query", "invalid_type"),
    ],
)
async def test_refused_by_name(route: str, change: dict[str, Any], param: str, code: str) -> None:
    """Each wrong or unsupported field is a 400 whose error object names the field and says what is wrong."""
    path, body = PATHS[route]
    world = World()
    async with world.http() as http:
        reply = await http.post(path, json=body | change)
    error = reply.json()["error"]
    assert reply.status_code == 400, error
    assert (error["param"], error["code"]) == (param, code), error
    assert error["type"] == "invalid_request_error"
    assert code in {"unsupported_value", "missing_required_parameter"} or param in error["message"]
    assert not world.models.calls


@pytest.mark.parametrize(
    ("route", "change"),
    [
        ("chat", {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "n": 1}),
        ("chat", {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "logprobs": False}),
        ("chat", {"response_format": {"type": "text"}, "tools": [], "tool_choice": "none", "stop": None}),
        ("chat", {"tools": None, "functions": None, "seed": None, "prompt_cache_key": "k"}),
        ("responses", {"store": False, "truncation": "disabled", "text": {"format": {"type": "text"}}}),
        ("responses", {"parallel_tool_calls": True, "tool_choice": "auto", "reasoning": None, "user": "u"}),
        ("embeddings", {"user": "u", "dimensions": 4}),
        ("search", {"rewrite_query": False, "max_num_results": 5}),
    ],
)
async def test_harmless_fields_are_accepted(route: str, change: dict[str, Any]) -> None:
    """Fields that don't change an answer in OpenAI's API either, and values that ask for nothing, are accepted."""
    path, body = PATHS[route]
    async with World().http() as http:
        reply = await http.post(path, json=body | change)
    assert reply.status_code == 200, reply.text


@pytest.mark.parametrize(
    ("content", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b'"text"', 400, "invalid_json"),
        (b'{"model": "chatty", "temperature": NaN}', 400, "invalid_json"),
        (b'{"model": "\xff"}', 400, "invalid_json"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400, "invalid_json"),
        (b'{"model": "' + b"x" * (4 * 1024 * 1024) + b'"}', 413, "request_too_large"),
    ],
    ids=["empty", "cut", "array", "string", "NaN", "bad UTF-8", "deep", "too large"],
)
async def test_bad_bodies(content: bytes, status: int, code: str) -> None:
    """A body that is not a JSON object, or too large a one, is refused with an error object."""
    async with World().http() as http:
        reply = await http.post("/v1/chat/completions", content=content)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


async def test_unknown_field_is_named_before_a_missing_one() -> None:
    """A misspelt field is what the caller is told about, not the one that is therefore missing."""
    async with World().http() as http:
        reply = await http.post("/v1/chat/completions", json={"model": "chatty", "mesages": []})
    assert reply.json()["error"]["param"] == "mesages"
