# SPDX-License-Identifier: Apache-2.0
"""What the gateway refuses, and in which words."""

import typing
from typing import Any

import pytest
from openai.types import (
    completion_create_params,
    embedding_create_params,
    vector_store_search_params,
)
from openai.types.chat import completion_create_params as chat_create_params
from openai.types.responses import response_create_params

from lateen_serving.gateway.fields import RequestBody
from lateen_serving.gateway.requests.chat import ChatRequest
from lateen_serving.gateway.requests.completions import CompletionRequest
from lateen_serving.gateway.requests.embeddings import EmbeddingsRequest
from lateen_serving.gateway.requests.responses import ResponsesRequest
from lateen_serving.gateway.requests.search import SearchRequest
from unit.gateway_fakes import World

CHAT: dict[str, Any] = {"model": "chatty", "messages": [{"role": "user", "content": "Hi"}]}
RESPONSES: dict[str, Any] = {"model": "chatty", "input": "Hi"}
EMBEDDINGS: dict[str, Any] = {"model": "minilm", "input": "Hi"}
SEARCH: dict[str, Any] = {"query": "leave"}
PATHS = {
    "chat": ("/v1/chat/completions", CHAT),
    "responses": ("/v1/responses", RESPONSES),
    "embeddings": ("/v1/embeddings", EMBEDDINGS),
    "completions": ("/v1/completions", {"model": "chatty", "prompt": "Once"}),
    "rerank": ("/v1/rerank", {"model": "ranker", "query": "leave", "documents": ["a", "b"]}),
    "search": ("/v1/vector_stores/handbook/search", SEARCH),
}


@pytest.mark.parametrize(
    ("route", "change", "param", "code"),
    [
        ("chat", {"logit_bias": {"five": 1}}, "logit_bias.five", "invalid_value"),
        ("chat", {"logit_bias": {"5": 101}}, "logit_bias.5", "invalid_value"),
        ("chat", {"logit_bias": {str(n): 1 for n in range(2000)}}, "logit_bias", "invalid_value"),
        ("chat", {"frequency_penalty": 2.5}, "frequency_penalty", "invalid_value"),
        ("chat", {"top_k": -1}, "top_k", "invalid_value"),
        ("chat", {"min_p": 1.5}, "min_p", "invalid_value"),
        ("chat", {"functions": []}, "functions", "unsupported_parameter"),
        ("chat", {"function_call": "auto"}, "function_call", "unsupported_parameter"),
        ("chat", {"audio": {"voice": "x"}}, "audio", "unsupported_parameter"),
        ("chat", {"modalities": ["audio"]}, "modalities", "unsupported_parameter"),
        ("chat", {"reasoning_effort": "low"}, "reasoning_effort", "unsupported_parameter"),
        ("chat", {"tools": [{"type": "function"}]}, "tools[0].function", "missing_required_parameter"),
        ("chat", {"tools": [{"type": "custom", "custom": {}}]}, "tools[0]", "unsupported_value"),
        (
            "chat",
            {"tools": [{"type": "function", "function": {"name": "a b"}}]},
            "tools[0].function.name",
            "invalid_value",
        ),
        (
            "chat",
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "string"}}}]},
            "tools[0].function.parameters",
            "invalid_json_schema",
        ),
        (
            "chat",
            {"tools": [{"type": "function", "function": {"name": "a", "defer_loading": True}}]},
            "tools[0].function.defer_loading",
            "unsupported_parameter",
        ),
        ("chat", {"tool_choice": "required"}, "tool_choice", "invalid_value"),
        ("chat", {"tool_choice": ["auto"]}, "tool_choice", "invalid_type"),
        ("responses", {"tool_choice": ["auto"]}, "tool_choice", "invalid_type"),
        ("responses", {"tool_choice": {"type": ["function"]}}, "tool_choice", "unsupported_value"),
        ("responses", {"tools": [[]]}, "tools[0]", "invalid_type"),
        ("responses", {"input": [[]]}, "input[0]", "invalid_type"),
        ("responses", {"text": {"format": {"type": []}}}, "text.format.type", "invalid_value"),
        ("chat", {"messages": [{"role": [], "content": "x"}]}, "messages[0].role", "invalid_value"),
        ("chat", {"x" * 5000: 1}, "x" * 128, "unknown_parameter"),
        ("chat", {"tool_choice": "any"}, "tool_choice", "unsupported_value"),
        ("chat", {"tool_choice": {"type": "allowed_tools"}}, "tool_choice", "unsupported_value"),
        (
            "chat",
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            "tool_choice",
            "invalid_value",
        ),
        ("chat", {"response_format": {"type": "grammar"}}, "response_format", "unsupported_value"),
        (
            "chat",
            {"response_format": {"type": "json_schema"}},
            "response_format.json_schema",
            "missing_required_parameter",
        ),
        (
            "chat",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a.b", "schema": {}}}},
            "response_format.json_schema.name",
            "invalid_value",
        ),
        (
            "chat",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}},
            "response_format.json_schema.schema",
            "invalid_json_schema",
        ),
        ("chat", {"store": True}, "store", "unsupported_parameter"),
        ("chat", {"service_tier": "flex"}, "service_tier", "unsupported_parameter"),
        ("chat", {"logprobs": 2}, "logprobs", "invalid_type"),
        ("chat", {"top_logprobs": 2}, "top_logprobs", "invalid_value"),
        ("chat", {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ("chat", {"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
        ("chat", {"tempurature": 1}, "tempurature", "unknown_parameter"),
        ("chat", {"unheard": None}, "unheard", "unknown_parameter"),
        ("chat", {"n": 9}, "n", "invalid_value"),
        ("chat", {"n": 0}, "n", "invalid_value"),
        ("chat", {"store": 0}, "store", "unsupported_parameter"),
        ("chat", {"temperature": 2.1}, "temperature", "invalid_value"),
        ("chat", {"temperature": "hot"}, "temperature", "invalid_type"),
        ("chat", {"temperature": True}, "temperature", "invalid_type"),
        ("chat", {"top_p": 0}, "top_p", "invalid_value"),
        ("chat", {"max_tokens": 0}, "max_tokens", "invalid_value"),
        ("chat", {"max_tokens": 1.5}, "max_tokens", "invalid_type"),
        ("chat", {"max_tokens": 10**9}, "max_tokens", "invalid_value"),
        ("chat", {"seed": 2**63}, "seed", "invalid_value"),
        ("chat", {"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
        ("chat", {"stop": ["a"] * 10_000}, "stop", "invalid_value"),
        ("chat", {"stop": ""}, "stop[0]", "invalid_value"),
        ("chat", {"stream": "yes"}, "stream", "invalid_type"),
        ("chat", {"messages": []}, "messages", "invalid_value"),
        ("chat", {"messages": "Hi"}, "messages", "invalid_type"),
        ("chat", {"messages": [{"role": "user"}]}, "messages[0].content", "missing_required_parameter"),
        ("chat", {"messages": [{"role": "function", "content": "x"}]}, "messages[0].role", "invalid_value"),
        ("chat", {"messages": [{"role": "assistant"}]}, "messages[0]", "invalid_value"),
        (
            "chat",
            {"messages": [{"role": "tool", "content": "x"}]},
            "messages[0].tool_call_id",
            "missing_required_parameter",
        ),
        (
            "chat",
            {"messages": [{"role": "tool", "content": "x", "tool_call_id": "c"}]},
            "messages[0].tool_call_id",
            "invalid_value",
        ),
        (
            "chat",
            {
                "messages": [
                    {
                        "role": "assistant",
                        "tool_calls": [
                            {"id": "c", "type": "function", "function": {"name": "f", "arguments": "[]"}}
                        ],
                    }
                ]
            },
            "messages[0].tool_calls[0].function.arguments",
            "invalid_value",
        ),
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
            {
                "tools": [
                    {"type": "file_search", "vector_store_ids": ["handbook"], "filters": {"type": "like"}}
                ]
            },
            "tools[0].filters",
            "unsupported_value",
        ),
        (
            "responses",
            {"tools": [{"type": "file_search", "vector_store_ids": ["handbook"]}] * 2},
            "tools",
            "invalid_value",
        ),
        (
            "responses",
            {"tools": [{"type": "file_search", "vector_store_ids": ["handbook"]}], "tool_choice": "none"},
            "tool_choice",
            "unsupported_value",
        ),
        ("responses", {"tools": [{"type": "function"}]}, "tools[0].name", "missing_required_parameter"),
        ("responses", {"tool_choice": {"type": "mcp"}}, "tool_choice", "unsupported_value"),
        ("responses", {"tool_choice": {"type": "function"}}, "tool_choice", "invalid_value"),
        ("responses", {"include": ["reasoning.encrypted_content"]}, "include[0]", "invalid_value"),
        ("responses", {"top_logprobs": 21}, "top_logprobs", "invalid_value"),
        ("responses", {"text": {"verbosity": "low"}}, "text.verbosity", "unsupported_parameter"),
        (
            "responses",
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "array"}}}},
            "text.format.schema",
            "invalid_json_schema",
        ),
        ("responses", {"input": [{"type": "reasoning", "id": "r"}]}, "input[0]", "unsupported_value"),
        (
            "responses",
            {"input": [{"type": "function_call_output", "call_id": "c", "output": "x"}]},
            "input[0].call_id",
            "invalid_value",
        ),
        ("completions", {"prompt": [1, 2]}, "prompt", "unsupported_value"),
        ("completions", {"prompt": ["a"] * 17, "n": 2}, "prompt", "invalid_value"),
        ("completions", {"prompt": ""}, "prompt[0]", "invalid_value"),
        ("completions", {"echo": True}, "echo", "unsupported_parameter"),
        ("completions", {"suffix": "x"}, "suffix", "unsupported_parameter"),
        ("completions", {"best_of": 2}, "best_of", "unsupported_parameter"),
        ("completions", {"logprobs": 6}, "logprobs", "invalid_value"),
        ("completions", {"messages": []}, "messages", "unknown_parameter"),
        ("rerank", {"documents": []}, "documents", "invalid_value"),
        ("rerank", {"documents": ["x"] * 1025}, "documents", "invalid_value"),
        ("rerank", {"documents": [{"text": "a", "title": "b"}]}, "documents[0]", "invalid_type"),
        ("rerank", {"top_n": 0}, "top_n", "invalid_value"),
        ("rerank", {"rank_fields": ["a"]}, "rank_fields", "unsupported_parameter"),
        ("responses", {"prompt": {"variables": {}}}, "prompt.id", "missing_required_parameter"),
        (
            "responses",
            {"prompt": {"id": "plain", "variables": {"what": None}}},
            "prompt.variables.what",
            "unsupported_value",
        ),
        ("embeddings", {"input": [1, 2]}, "input", "unsupported_value"),
        ("embeddings", {"input": [[1, 2]]}, "input", "unsupported_value"),
        ("embeddings", {"input": ""}, "input[0]", "invalid_value"),
        ("embeddings", {"input": []}, "input", "invalid_value"),
        ("embeddings", {"encoding_format": "hex"}, "encoding_format", "invalid_value"),
        ("embeddings", {"dimensions": 2}, "dimensions", "unsupported_parameter"),
        ("search", {"filters": {"a": 1}}, "filters.a", "unknown_parameter"),
        (
            "search",
            {"ranking_options": {"hybrid_search": {}}},
            "ranking_options.hybrid_search",
            "unsupported_parameter",
        ),
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
    assert not any(mark in error["message"] for mark in ("{{", "<"))
    assert not world.models.calls


@pytest.mark.parametrize(
    ("route", "change"),
    [
        ("chat", {"user": "u", "metadata": {"a": "b"}, "store": False, "service_tier": "auto", "n": 1}),
        ("chat", {"frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "logprobs": False}),
        ("chat", {"response_format": {"type": "text"}, "tools": [], "tool_choice": "none", "stop": None}),
        ("chat", {"parallel_tool_calls": True, "modalities": ["text"], "stream_options": None}),
        (
            "chat",
            {
                "max_tokens": 40.0,
                "seed": 1.0,
                "stream": True,
                "stream_options": {"include_obfuscation": None},
            },
        ),
        (
            "chat",
            {"messages": [{"role": "assistant", "content": "Hi", "annotations": None, "refusal": None}]},
        ),
        ("completions", {"best_of": 1, "echo": False, "suffix": None, "user": "u"}),
        ("rerank", {"top_n": 9, "return_documents": False, "max_tokens_per_doc": None}),
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


@pytest.mark.parametrize(
    ("parameters", "body"),
    [
        (chat_create_params.CompletionCreateParamsStreaming, ChatRequest),
        (completion_create_params.CompletionCreateParamsStreaming, CompletionRequest),
        (response_create_params.ResponseCreateParamsStreaming, ResponsesRequest),
        (embedding_create_params.EmbeddingCreateParams, EmbeddingsRequest),
        (vector_store_search_params.VectorStoreSearchParams, SearchRequest),
    ],
)
def test_every_field_of_the_client_is_known(parameters: Any, body: type[RequestBody]) -> None:
    """Each field that the installed client can send is acted on or refused by name, as what it is."""
    assert set(typing.get_type_hints(parameters)) <= body.model_fields.keys() | body.openai_fields
