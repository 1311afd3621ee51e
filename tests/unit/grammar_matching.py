# SPDX-License-Identifier: Apache-2.0
"""Which texts a grammar lets a model write, asked of the real llguidance with a token per byte."""

from typing import Any

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from lateen_serving.engine.protocol import Grammar

_END = 256


class _Bytes:
    """A tokenizer whose tokens are bytes."""

    eos_token_id = _END
    bos_token_id = None
    unicode_tokens = False
    special_token_ids = (_END,)
    tokens = (*(bytes([value]) for value in range(256)), b"<end>")

    def __call__(self, text: str | bytes) -> list[int]:
        return list(text.encode() if isinstance(text, str) else text)


class Matching:
    """Compiled grammars."""

    def __init__(self) -> None:
        wrapper: Any = TokenizerWrapper(_Bytes())
        self._tokenizer = LLTokenizer(wrapper, n_vocab=_END + 1, slices=[])

    def matcher(self, grammar: Grammar) -> LLMatcher:
        """A matcher at the start of the grammar."""
        sources = {
            "json_object": lambda: LLMatcher.grammar_from_json_schema('{"type": "object"}'),
            "json_schema": lambda: LLMatcher.grammar_from_json_schema(grammar["source"]),
            "lark": lambda: LLMatcher.grammar_from_lark(grammar["source"]),
        }
        matcher = LLMatcher(self._tokenizer, sources[grammar["kind"]](), log_level=0)
        assert not matcher.is_error(), matcher.get_error()
        return matcher

    def allows(self, grammar: Grammar, text: str) -> bool:
        """Whether `text` may be a whole answer."""
        matcher = self.matcher(grammar)
        tokens = list(text.encode())
        return matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting()

    def written(self, grammar: Grammar, choices: bytes) -> str | None:
        """What a model writes that picks among the allowed bytes by `choices`; None if it isn't done then."""
        matcher = self.matcher(grammar)
        text = bytearray()
        for choice in choices:
            mask = matcher.compute_bitmask()
            allowed = [token for token in range(_END + 1) if mask[token // 8] >> token % 8 & 1]
            token = allowed[choice % len(allowed)]
            if token == _END:
                break
            text.append(token)
            assert matcher.consume_token(token)
            if matcher.is_stopped():
                break
        return text.decode() if matcher.is_accepting() else None
