# SPDX-License-Identifier: Apache-2.0
"""A caller's conversation as models know it: no role `developer`, calls and their results tied by id. Pure; called by
`chat.py` and `responses.py`.
"""

from collections.abc import Iterable, Sequence

from lateen_serving.engine.protocol import ChatMessage, ToolCall
from lateen_serving.errors import InputError
from lateen_serving.gateway.requests.messages import AssistantMessage, Message, TextMessage, ToolMessage
from lateen_serving.gateway.requests.responses import (
    FileSearchItem,
    FunctionCallItem,
    FunctionOutputItem,
    InputItem,
    InputMessage,
)


def of_chat(messages: Sequence[Message]) -> list[ChatMessage]:
    """The messages of a chat completion; raises InputError for the result of a call that was not made."""
    made: set[str] = set()
    result: list[ChatMessage] = []
    for number, item in enumerate(messages):
        match item:
            case TextMessage():
                result.append(ChatMessage(role=_role(item.role), content=item.content))
            case AssistantMessage():
                message = ChatMessage(role="assistant", content=item.content or "")
                if item.tool_calls:
                    message["tool_calls"] = [
                        ToolCall(id=call.id, name=call.function.name, arguments=call.function.arguments)
                        for call in item.tool_calls
                    ]
                    made.update(call.id for call in item.tool_calls)
                result.append(message)
            case ToolMessage():
                _check_made(item.tool_call_id, made, f"messages[{number}].tool_call_id")
                result.append(_result(item.tool_call_id, item.content))
    return result


def of_responses(items: Iterable[InputItem]) -> list[ChatMessage]:
    """The items of a response's input: calls join the answer before them. Raises InputError, as `of_chat` does."""
    made: set[str] = set()
    result: list[ChatMessage] = []
    for number, item in enumerate(items):
        match item:
            case InputMessage():
                result.append(ChatMessage(role=_role(item.role), content=item.content))
            case FunctionCallItem():
                made.add(item.call_id)
                if not result or result[-1]["role"] != "assistant":
                    result.append(ChatMessage(role="assistant", content=""))
                call = ToolCall(id=item.call_id, name=item.name, arguments=item.arguments)
                result[-1].setdefault("tool_calls", []).append(call)
            case FunctionOutputItem():
                _check_made(item.call_id, made, f"input[{number}].call_id")
                result.append(_result(item.call_id, item.output))
            case FileSearchItem():
                pass
    return result


def _role(role: str) -> str:
    return "system" if role == "developer" else role


def _result(call_id: str, content: str) -> ChatMessage:
    return ChatMessage(role="tool", content=content, tool_call_id=call_id)


def _check_made(call_id: str, made: set[str], param: str) -> None:
    if call_id not in made:
        raise InputError(f"Invalid value for '{param}': no call '{call_id}' was made before.", param=param)
