# SPDX-License-Identifier: Apache-2.0
"""JSON Schemas of the replies, by hand: what is sent is plain dictionaries. Pure; used by `openapi.py`.

A test sends every reply through them, so that they stay true.
"""

from typing import Any

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}
BOOLEAN: Schema = {"type": "boolean"}
ANY_OBJECT: Schema = {"type": "object"}


def _object(optional: dict[str, Schema] | None = None, **required: Schema) -> Schema:
    """An object of exactly these fields."""
    return {
        "type": "object",
        "properties": {**required, **(optional or {})},
        "required": list(required),
        "additionalProperties": False,
    }


def _list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _only(*values: object) -> Schema:
    return {"enum": list(values)}


def _of(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


_TOKEN = {"token": TEXT, "logprob": NUMBER, "bytes": _list(INTEGER)}
_STATUS = _only("in_progress", "completed", "incomplete")
_EMBEDDING_VECTOR = {"anyOf": [_list(NUMBER), TEXT]}
_MESSAGE = _object(
    {"tool_calls": _list(_of("ToolCall"))},
    role=_only("assistant"),
    content=_or_null(TEXT),
    refusal={"type": "null"},
    annotations=_list(ANY_OBJECT),
)
_CHAT_CHOICE = _object(
    index=INTEGER,
    message=_MESSAGE,
    logprobs=_or_null(_object(content=_list(_of("TokenLogprob")), refusal={"type": "null"})),
    finish_reason=_only("stop", "length", "tool_calls"),
)
_COMPLETION_CHOICE = _object(
    index=INTEGER,
    text=TEXT,
    logprobs=_or_null(
        _object(
            tokens=_list(TEXT),
            token_logprobs=_list(NUMBER),
            top_logprobs=_list({"type": "object", "additionalProperties": NUMBER}),
            text_offset=_list(INTEGER),
        )
    ),
    finish_reason=_only("stop", "length"),
)
_OUTPUT_TEXT = _object(
    type=_only("output_text"),
    text=TEXT,
    annotations=_list(
        _object(
            type=_only("file_citation"), index=INTEGER, file_id=TEXT, filename=TEXT, attributes=ANY_OBJECT
        )
    ),
    logprobs=_list(_of("TokenLogprob")),
)
_OUTPUT_ITEM = {
    "oneOf": [
        _object(
            id=TEXT,
            type=_only("message"),
            status=_STATUS,
            role=_only("assistant"),
            content=_list(_OUTPUT_TEXT),
        ),
        _object(
            id=TEXT,
            type=_only("file_search_call"),
            status=_STATUS,
            queries=_list(TEXT),
            results=_or_null(_list(ANY_OBJECT)),
        ),
        _object(
            id=TEXT,
            type=_only("function_call"),
            status=_STATUS,
            call_id=TEXT,
            name=TEXT,
            arguments=TEXT,
        ),
    ]
}

_RETRIEVAL = _object(
    vector_store_ids=_list(TEXT),
    query=TEXT,
    notes=_list(TEXT),
    results=_list(
        _object(
            {"text": TEXT},
            number=INTEGER,
            is_in_prompt=BOOLEAN,
            file_id=TEXT,
            filename=TEXT,
            score=NUMBER,
            attributes=ANY_OBJECT,
        )
    ),
    citations=_list(
        _object(
            choice=INTEGER,
            type=_only("file_citation"),
            index=INTEGER,
            file_id=TEXT,
            filename=TEXT,
            attributes=ANY_OBJECT,
        )
    ),
)

_PROMPT_REVISION: dict[str, Schema] = {
    "version": TEXT,
    "revision": TEXT,
    "created": INTEGER,
    "variables": _list(_object(name=TEXT, type=TEXT, required=BOOLEAN)),
}

SCHEMAS: dict[str, Schema] = {
    "Error": _object(
        error=_object(
            message=TEXT,
            type=_only("invalid_request_error", "server_error"),
            param=_or_null(TEXT),
            code=TEXT,
        )
    ),
    "Health": _object(status=_only("ok")),
    "Readiness": _object({"catalog": TEXT}, status=_only("ready", "starting")),
    "Model": _object(
        {"root": TEXT, "parent": TEXT},
        id=TEXT,
        object=_only("model"),
        created=INTEGER,
        owned_by=_only("lateen"),
    ),
    "ModelList": _object(object=_only("list"), data=_list(_of("Model"))),
    "ToolCall": _object(id=TEXT, type=_only("function"), function=_object(name=TEXT, arguments=TEXT)),
    "TokenLogprob": _object(**_TOKEN, top_logprobs=_list(_object(**_TOKEN))),
    "Usage": _object(
        prompt_tokens=INTEGER,
        completion_tokens=INTEGER,
        total_tokens=INTEGER,
        prompt_tokens_details=ANY_OBJECT,
        completion_tokens_details=ANY_OBJECT,
    ),
    "PromptUsage": _object(prompt_tokens=INTEGER, total_tokens=INTEGER),
    "ChatCompletion": _object(
        {"retrieval": _of("Retrieval")},
        id=TEXT,
        object=_only("chat.completion"),
        created=INTEGER,
        model=TEXT,
        choices=_list(_CHAT_CHOICE),
        usage=_of("Usage"),
    ),
    "Retrieval": _RETRIEVAL,
    "Completion": _object(
        id=TEXT,
        object=_only("text_completion"),
        created=INTEGER,
        model=TEXT,
        choices=_list(_COMPLETION_CHOICE),
        usage=_of("Usage"),
    ),
    "Response": _object(
        id=TEXT,
        object=_only("response"),
        created_at=INTEGER,
        completed_at=_or_null(INTEGER),
        status=_only("in_progress", "completed", "incomplete", "failed"),
        error=_or_null(_object(code=TEXT, message=TEXT)),
        incomplete_details=_or_null(_object(reason=_only("max_output_tokens"))),
        output=_list(_OUTPUT_ITEM),
        usage=_or_null(
            _object(
                input_tokens=INTEGER,
                input_tokens_details=ANY_OBJECT,
                output_tokens=INTEGER,
                output_tokens_details=ANY_OBJECT,
                total_tokens=INTEGER,
            )
        ),
        model=TEXT,
        instructions=_or_null(TEXT),
        prompt=_or_null(ANY_OBJECT),
        tools=_list(ANY_OBJECT),
        tool_choice={"anyOf": [TEXT, ANY_OBJECT]},
        parallel_tool_calls=BOOLEAN,
        metadata=ANY_OBJECT,
        text=ANY_OBJECT,
        temperature=NUMBER,
        top_p=NUMBER,
        top_logprobs=INTEGER,
        max_output_tokens=_or_null(INTEGER),
        truncation=_only("disabled"),
        store=_only(False),
        background=_only(False),
        previous_response_id={"type": "null"},
        user=_or_null(TEXT),
    ),
    "EmbeddingList": _object(
        object=_only("list"),
        model=TEXT,
        data=_list(_object(object=_only("embedding"), index=INTEGER, embedding=_EMBEDDING_VECTOR)),
        usage=_of("PromptUsage"),
    ),
    "RerankResult": _object(
        id=TEXT,
        object=_only("list"),
        model=TEXT,
        results=_list(_object({"document": _object(text=TEXT)}, index=INTEGER, relevance_score=NUMBER)),
        usage=_of("PromptUsage"),
    ),
    "PromptList": _object(
        object=_only("list"), data=_list(_object(id=TEXT, object=_only("prompt"), **_PROMPT_REVISION))
    ),
    "PromptVersionList": _object(
        object=_only("list"),
        data=_list(_object(object=_only("prompt.version"), live=BOOLEAN, **_PROMPT_REVISION)),
    ),
    "PromptRendering": _object(
        object=_only("prompt.rendering"), id=TEXT, version=TEXT, revision=TEXT, messages=_list(ANY_OBJECT)
    ),
    "VectorStore": _object(
        id=TEXT,
        object=_only("vector_store"),
        created_at=INTEGER,
        name=TEXT,
        status=_only("completed"),
        usage_bytes={"type": "null"},
        file_counts={"type": "null"},
        expires_after={"type": "null"},
        expires_at={"type": "null"},
        last_active_at={"type": "null"},
        metadata={"type": "object", "additionalProperties": TEXT},
    ),
    "VectorStoreList": _object(
        object=_only("list"),
        data=_list(_of("VectorStore")),
        first_id=_or_null(TEXT),
        last_id=_or_null(TEXT),
        has_more=BOOLEAN,
    ),
    "VectorStoreFile": _object(
        id=TEXT,
        object=_only("vector_store.file"),
        created_at=INTEGER,
        vector_store_id=TEXT,
        status=_only("in_progress", "completed", "failed"),
        last_error=_or_null(
            _object(code=_only("server_error", "unsupported_file", "invalid_file"), message=TEXT)
        ),
        usage_bytes=_or_null(INTEGER),
        attributes=_object(source=TEXT, filename=TEXT, chunks=INTEGER, tokens=INTEGER)
        | {"additionalProperties": {"type": ["string", "number", "boolean"]}},
    ),
    "VectorStoreFileDeleted": _object(
        id=TEXT, object=_only("vector_store.file.deleted"), deleted=_only(True)
    ),
    "File": _object(
        id=TEXT,
        object=_only("file"),
        bytes=INTEGER,
        created_at=INTEGER,
        expires_at={"type": "null"},
        filename=TEXT,
        purpose=TEXT,
        status=_only("processed"),
        status_details={"type": "null"},
    ),
    "FileList": _object(
        object=_only("list"),
        data=_list(_of("File")),
        first_id=_or_null(TEXT),
        last_id=_or_null(TEXT),
        has_more=BOOLEAN,
    ),
    "FileDeleted": _object(id=TEXT, object=_only("file"), deleted=_only(True)),
    "VectorStoreFileList": _object(
        object=_only("list"),
        data=_list(_of("VectorStoreFile")),
        first_id=_or_null(TEXT),
        last_id=_or_null(TEXT),
        has_more=BOOLEAN,
    ),
    "SearchResults": _object(
        object=_only("vector_store.search_results.page"),
        search_query=_list(TEXT),
        data=_list(
            _object(
                file_id=TEXT,
                filename=TEXT,
                score=NUMBER,
                attributes=ANY_OBJECT,
                content=_list(_object(type=_only("text"), text=TEXT)),
            )
        ),
        has_more=_only(False),
        next_page={"type": "null"},
    ),
}
