# SPDX-License-Identifier: Apache-2.0
"""Messages to tokens through the model's chat template, bare text to tokens, and texts to token spans.

Made by `generator.py` and `embedder.py` in the torch thread, used from a thread of their own. What a user writes is
always text: `<|im_end|>` in a message, in a function's description or in bare text does not end anything.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer

from lateen_serving.engine import tools as toolkit
from lateen_serving.engine.protocol import ChatMessage, Tool
from lateen_serving.errors import InputError

_TEMPLATE_FAILURES = (TemplateError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
"""What a chat template raises about a conversation, by itself or because it was written for another one."""

_PROBE_TOOL = Tool(
    name="probe_function", description="Probes.", parameters={"type": "object", "properties": {}}
)
_PROBE_CALL: list[ChatMessage] = [
    {"role": "user", "content": "Probe."},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [
            {"id": "probeid01", "name": "probe_call", "arguments": '{"probe_key": "probe_value"}'}
        ],
    },
    {"role": "tool", "content": "probe_result", "tool_call_id": "probeid01"},
]


class PromptEncoder:
    """Makes prompts of one model. Not safe to use from two threads at once: the tokenizer keeps state per call."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._specials = frozenset(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self._controls = [
            token.content
            for token in tokenizer.added_tokens_decoder.values()
            if token.special or not token.content.isspace()
        ]
        self._start = _start_tokens(tokenizer)
        self._has_template = bool(getattr(tokenizer, "chat_template", None))
        self._knows_tools = self._has_template and self._renders_tools()
        self._system_allowed = self._has_template and bool(
            self._probe([{"role": "system", "content": "Probe."}, {"role": "user", "content": "Probe."}])
        )

    def encode(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> list[int]:
        """The tokens of the conversation and the header of the answer.

        Raises InputError if the template refuses it, if there is none, or if a key of JSON would act as a control token.
        """
        if not self._has_template:
            raise InputError(
                "this model has no chat template; send bare text as prompt to /v1/completions, or use an"
                " instruction-tuned model",
                param="messages",
            )
        try:
            ids = self._apply(messages, tools)
        except _TEMPLATE_FAILURES as error:
            raise InputError(
                f"the model's chat template refuses this conversation: {error}", param="messages"
            ) from error
        if not ids:
            raise InputError("the conversation is empty", param="messages")
        return ids

    def _apply(self, messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[int]:
        if self._knows_tools:
            plain, schemas = toolkit.for_template(messages), toolkit.schemas(tools)
        else:
            plain, schemas = toolkit.as_text(messages, tools, self._system_allowed), []
        self._check_keys(schemas, "tools")
        self._check_keys(plain, "messages")
        ids: list[int] = self._tokenizer.apply_chat_template(
            plain,
            tools=schemas or None,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=False,
            sanitize_control_tokens=True,
        )
        return ids

    def encode_text(self, text: str) -> list[int]:
        """The tokens of bare text, behind the tokens with which this model's texts begin."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False, split_special_tokens=True)
        if not self._specials.isdisjoint(ids):
            raise InputError("the prompt holds a control token that can't be read as text", param="prompt")
        if not (self._start or ids):
            raise InputError("the prompt is empty", param="prompt")
        return self._start + ids

    def _renders_tools(self) -> bool:
        """Whether the template puts functions, calls and results into the prompt."""
        told = self._probe(_PROBE_CALL[:1], [_PROBE_TOOL])
        history = self._probe(_PROBE_CALL, [_PROBE_TOOL])
        words = ("probe_call", "probe_key", "probe_value", "probe_result")
        return _PROBE_TOOL["name"] in told and all(word in history for word in words)

    def _probe(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> str:
        """What the template makes of it; empty if it refuses."""
        try:
            rendered: str = self._tokenizer.apply_chat_template(
                toolkit.for_template(messages),
                tools=toolkit.schemas(tools) or None,
                add_generation_prompt=True,
                tokenize=False,
            )
        except _TEMPLATE_FAILURES:
            return ""
        return rendered

    def _check_keys(self, value: Any, field: str) -> None:
        """Refuse control tokens in keys, which the tokenizer's sanitizing leaves alone."""
        for key in toolkit.keys_of(value):
            if any(control in key for control in self._controls):
                raise InputError(
                    f"a name in {field} holds a control token of the model; rename it", param=field
                )


def _start_tokens(tokenizer: Any) -> list[int]:
    """What the tokenizer puts before a text by itself, such as BOS."""
    plain = tokenizer.encode("a", add_special_tokens=False)
    whole: list[int] = tokenizer.encode("a", add_special_tokens=True)
    return whole[: whole.index(plain[0])] if plain and plain[0] in whole else []


class Spans:
    """Where the tokens of texts are. Holds a tokenizer of its own, so that any thread may use it."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = own_copy(tokenizer)

    def of(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each text the character span of each token, without special tokens."""
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.offsets for encoding in encodings]


def own_copy(tokenizer: Any) -> Tokenizer:
    """The Rust tokenizer inside a transformers one, copied, without truncation and padding."""
    copy = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    copy.no_truncation()
    copy.no_padding()
    return copy
