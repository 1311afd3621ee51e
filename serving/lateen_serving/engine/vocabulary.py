# SPDX-License-Identifier: Apache-2.0
"""A model's tokens as text and as bytes, and as what grammars are compiled against. Imports no torch.

Made by `generator.py`; used from the tokenizing thread and from the torch thread, which only read.
"""

from collections.abc import Sequence
from functools import cached_property

from llguidance import LLTokenizer
from tokenizers import Tokenizer

from lateen_serving.errors import InputError


class Vocabulary:
    """The tokens of one model."""

    def __init__(self, tokenizer: Tokenizer, size: int, ends: frozenset[int]) -> None:
        self._tokenizer = tokenizer
        self.size = size
        """Width of the model's logits; it may exceed the tokenizer's number of tokens."""
        self.ends = ends
        """Tokens that end an answer."""

    def decode(self, tokens: Sequence[int]) -> str:
        """Their text, without special tokens."""
        text: str = self._tokenizer.decode(tokens)
        return text

    @property
    def guide(self) -> LLTokenizer:
        """What grammars are compiled against; made at first need, which takes up to a second.

        Raises InputError for a tokenizer that can't be used so.
        """
        if isinstance(self._made, str):
            raise InputError(
                f"this model's tokenizer can't hold an answer to a response_format: {self._made}",
                param="response_format",
            )
        return self._made

    @cached_property
    def _made(self) -> LLTokenizer | str:
        """The tokenizer of llguidance, or why it can't be made."""
        size = max(self.size, self._tokenizer.get_vocab_size(with_added_tokens=True))
        ends = sorted(self.ends) or [0]  # grammars refuse a model without; bytes need none
        try:
            return LLTokenizer(self._tokenizer.to_str(), n_vocab=size, eos_token=ends)
        except Exception as error:  # noqa: BLE001 - whatever it is, only requests that need it are refused
            return str(error)

    def bytes_of(self, token: int) -> bytes:
        """The bytes of a token, which need not be whole characters; a special token's are those of its name."""
        if isinstance(self._made, str):
            # Tokenizers that llguidance does not know, such as WordPiece, have no tokens of single bytes.
            text: str = self._tokenizer.decode([token], skip_special_tokens=False)
            return text.encode()
        raw: bytes = self._made.decode_bytes([token])
        return raw
