# SPDX-License-Identifier: Apache-2.0
"""Functions that a model may call, as its chat template takes them or, where it takes none, as text. Pure.

Used by `prompt.py`. `<tool_call>` is what most open models were trained to answer with.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lateen_serving.engine.protocol import ChatMessage, Tool, ToolCall

_INSTRUCTIONS = (
    "You may call functions to help with the user's request. Here they are as JSON, one a line:\n"
    "<tools>\n{tools}\n</tools>\n"
    "To call one, answer with its name and arguments as JSON in these tags, once for each call:\n"
    '<tool_call>\n{{"name": <function name>, "arguments": <object of arguments>}}\n</tool_call>'
)


def for_template(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """Messages as chat templates that know tools expect them: arguments as objects, results with the function's name."""
    names: dict[str, str] = {}
    result = []
    for message in messages:
        plain: dict[str, Any] = dict(message)
        calls = message.get("tool_calls", [])
        if calls:
            names |= {call["id"]: call["name"] for call in calls}
            plain["tool_calls"] = [_call_for_template(call) for call in calls]
        answered = names.get(message.get("tool_call_id", ""))
        if answered is not None:
            plain["name"] = answered
        result.append(plain)
    return result


def _call_for_template(call: ToolCall) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": json.loads(call["arguments"])}
    return {"type": "function", "id": call["id"], "function": function}


def schemas(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Functions in OpenAI's form, which chat templates expect."""
    return [{"type": "function", "function": dict(tool)} for tool in tools]


def as_text(
    messages: Sequence[ChatMessage], tools: Sequence[Tool], system_allowed: bool
) -> list[dict[str, Any]]:
    """Messages of the roles system, user and assistant alone: functions, calls and results become text.

    `system_allowed`: whether the template takes a system message; else the functions stand in the first message.
    """
    result: list[dict[str, Any]] = []
    for message in messages:
        role, content = message["role"], message["content"]
        if role == "tool":
            role, content = "user", f"<tool_response>\n{content}\n</tool_response>"
            if result and result[-1]["role"] == "user" and result[-1]["content"].endswith("</tool_response>"):
                result[-1]["content"] += "\n" + content
                continue
        elif message.get("tool_calls"):
            content = "\n".join([*([content] if content else []), *map(_call_as_text, message["tool_calls"])])
        result.append({"role": role, "content": content})
    return _with_instructions(result, tools, system_allowed) if tools else result


def _call_as_text(call: ToolCall) -> str:
    body = json.dumps({"name": call["name"], "arguments": json.loads(call["arguments"])}, ensure_ascii=False)
    return f"<tool_call>\n{body}\n</tool_call>"


def _with_instructions(
    messages: list[dict[str, Any]], tools: Sequence[Tool], system_allowed: bool
) -> list[dict[str, Any]]:
    lines = "\n".join(json.dumps(schema, ensure_ascii=False) for schema in schemas(tools))
    text = _INSTRUCTIONS.format(tools=lines)
    first = messages[0]
    if first["role"] == "system":
        return [first | {"content": f"{first['content']}\n\n{text}"}, *messages[1:]]
    if system_allowed:
        return [{"role": "system", "content": text}, *messages]
    return [first | {"content": f"{text}\n\n{first['content']}"}, *messages[1:]]


def keys_of(value: Any) -> Iterator[str]:
    """All keys of objects within `value`."""
    pending = [value]
    while pending:
        one = pending.pop()
        if isinstance(one, Mapping):
            yield from (str(key) for key in one)
            pending.extend(one.values())
        elif isinstance(one, (list, tuple)):
            pending.extend(one)
