# SPDX-License-Identifier: Apache-2.0
"""A request's prompt in the model's own tokens, shortened to the prompt's context window if it has one.

Called by the generating engines in their tokenizing thread. What is counted is what the model reads.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts.composing import Composer, Message
from lateen_api.prompts.cutting import Material
from lateen_api.prompts.window import DoesNotFit, Fitted, budget, fit
from lateen_api.rendering import InvalidVariable
from lateen_serving.engine.protocol import (
    ChatMessage,
    Counted,
    GenerateRequest,
    PromptCut,
    Shortening,
    Tool,
    Window,
)
from lateen_serving.errors import ContextTooLong, InputError


class Encoder(Protocol):
    """What `prompt.PromptEncoder` does here."""

    def encode(self, messages: Sequence[ChatMessage], tools: Sequence[Tool] = ()) -> list[int]:
        """Tokens of a conversation."""
        ...

    def encode_text(self, text: str) -> list[int]:
        """Tokens of bare text."""
        ...


@dataclass(frozen=True)
class Prompt:
    """What the model reads."""

    tokens: list[int]
    messages: list[ChatMessage] = field(default_factory=list)
    """The conversation, of which nothing is left out but what `cut` says; empty for bare text."""

    cut: list[PromptCut] = field(default_factory=list)
    """What did not fit, in the order in which it gave way."""

    def counted(self) -> Counted:
        """What a caller is told who only wants to know."""
        return Counted(messages=self.messages, tokens=len(self.tokens), cut=self.cut)


def prepare(encoder: Encoder, request: GenerateRequest, context: int) -> Prompt:
    """The prompt of a valid request to a model that reads `context` tokens.

    Raises:
        ContextTooLong: It does not fit the prompt's context window, and can't be cut or not enough.
        InputError: As the encoder raises it.

    """
    text = request.get("prompt")
    if text:
        return Prompt(encoder.encode_text(text))
    tools = request.get("tools", ())
    window = request.get("window")
    if window is None:
        return Prompt(encoder.encode(request["messages"], tools), request["messages"])
    return _Fitting(encoder, request, tools, window, context).run()


@dataclass(frozen=True)
class _Fitting:
    encoder: Encoder
    request: GenerateRequest
    tools: Sequence[Tool]
    window: Window
    context: int

    def run(self) -> Prompt:
        shortening = self.window.get("shortening")
        whole, names = (
            (_material(shortening), shortening["order"]) if shortening else (Material[Message](), [])
        )
        composer: Composer | None = None

        def compose(material: Material[Message]) -> Prompt:
            nonlocal composer
            if material is whole or shortening is None:
                return self._encoded(self.request["messages"])
            composer = composer or _composer(shortening)
            return self._encoded([_chat_message(message) for message in composer.compose(material)])

        try:
            fitted = fit(whole, names, compose, lambda prompt: len(prompt.tokens), self._limit())
        except DoesNotFit as error:
            raise self._too_long(error) from error
        except InvalidVariable as error:
            raise InputError(f"the prompt can't be shortened: {error}", param="prompt") from error
        return Prompt(fitted.composed.tokens, fitted.composed.messages, _cuts(fitted))

    def _encoded(self, messages: list[ChatMessage]) -> Prompt:
        return Prompt(self.encoder.encode(messages, self.tools), messages)

    def _limit(self) -> int:
        window = self.window
        limit = budget(
            self.context,
            window["max_prompt_tokens"],
            window["reserve_output_tokens"],
            self.request["max_tokens"],
        )
        if limit < 1:
            raise ContextTooLong(
                f"this model reads at most {self.context} tokens, answer included; {self._reserve()} for the answer"
                " leave none for the prompt",
                param="max_tokens",
                context={"max_tokens": self.context, "reserved": self._reserve()},
            )
        return limit

    def _reserve(self) -> int:
        return max(self.window["reserve_output_tokens"], self.request["max_tokens"] or 1)

    def _too_long(self, error: DoesNotFit) -> ContextTooLong:
        bound = self.window["max_prompt_tokens"]
        own = f", and the prompt's own bound is {bound}" if bound is not None else ""
        return ContextTooLong(
            f"{error}: this model reads {self.context} tokens, of which {self._reserve()} are kept for the answer{own}",
            param="messages",
            context={"prompt_tokens": error.tokens, "least": error.least, "limit": error.limit},
        )


def _material(shortening: Shortening) -> Material[Message]:
    return Material(
        shortening["values"], shortening["passages"], shortening["conversation"], shortening["retrieval"]
    )


def _composer(shortening: Shortening) -> Composer:
    try:
        spec = PromptTemplateSpec.model_validate(shortening["prompt"])
    except ValueError as error:
        raise InputError(f"the prompt can't be shortened: {error}", param="prompt") from error
    return Composer(spec, shortening["instructions"], shortening["reference"])


def _chat_message(message: Mapping[str, Any]) -> ChatMessage:
    return cast("ChatMessage", dict(message))


def _cuts(fitted: Fitted[Message, Prompt]) -> list[PromptCut]:
    return [
        PromptCut(what=cut.what, unit=cut.unit, before=cut.before, after=cut.after) for cut in fitted.cuts
    ]
