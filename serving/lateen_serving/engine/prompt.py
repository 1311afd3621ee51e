# SPDX-License-Identifier: Apache-2.0
"""Messages to tokens through the model's chat template, and texts to token spans.

Made by `generator.py` and `embedder.py` in the torch thread, used from a thread of their own. What a user writes is
always text: `<|im_end|>` in a message does not end it.
"""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError
from tokenizers import Tokenizer

from lateen_serving.engine.protocol import ChatMessage, Tool
from lateen_serving.errors import InputError


class PromptEncoder:
    """Applies a chat template. Not safe to use from two threads at once: the tokenizer keeps state per call."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._plain = own_copy(tokenizer)
        self._plain.encode_special_tokens = True

    def encode_text(self, text: str) -> list[int]:
        """The tokens of bare text, with what the tokenizer puts around any text."""
        ids: list[int] = self._plain.encode(text, add_special_tokens=True).ids
        return ids

    def encode(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> list[int]:
        """The tokens of the conversation and the header of the answer; raises InputError if the template refuses."""
        try:
            ids: list[int] = self._tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                tools=[{"type": "function", "function": tool} for tool in tools] or None,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=False,
                sanitize_control_tokens=True,
            )
        except (TemplateError, ValueError) as error:
            raise InputError(
                f"the model's chat template refuses this conversation: {error}", param="messages"
            ) from error
        if not ids:
            raise InputError("the conversation is empty", param="messages")
        return ids


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
