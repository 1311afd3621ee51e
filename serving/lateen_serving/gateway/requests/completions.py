# SPDX-License-Identifier: Apache-2.0
"""Body of `POST /v1/completions`, OpenAI's older endpoint: bare text without a chat template."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from lateen_serving.gateway.fields import WHOLE, names, text_list
from lateen_serving.gateway.requests.bounds import Tokens
from lateen_serving.gateway.requests.generation import GenerationBody

MAX_ANSWERS = 32
_DEFAULT_TOKENS = 16
_Text = Annotated[str, Field(min_length=1)]
_Texts = Annotated[list[_Text], Field(min_length=1, max_length=MAX_ANSWERS)]


def _prompts(value: Any) -> Any:
    value = text_list(value)
    if isinstance(value, list) and value and isinstance(value[0], int | list):
        raise PydanticCustomError(
            "unsupported_value", "Token arrays are not supported: 'prompt' must be text."
        )
    return value


class CompletionRequest(GenerationBody):
    """`POST /v1/completions`."""

    openai_fields: ClassVar[frozenset[str]] = names("best_of echo suffix")
    neutral_values: ClassVar[Mapping[str, Sequence[object]]] = {
        "best_of": (1,),
        "echo": (False,),
        "suffix": ("",),
    }

    prompt: Annotated[_Texts, BeforeValidator(_prompts, json_schema_input_type=_Text | _Texts)]
    """A text, or several that are answered independently."""

    max_tokens: Tokens = _DEFAULT_TOKENS
    logprobs: Annotated[int, Field(ge=0, le=5), WHOLE] | None = None
    """How many of the likeliest tokens are told beside each token of the answer."""

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if len(self.prompt) * self.n > MAX_ANSWERS:
            raise PydanticCustomError(
                "too_many_answers",
                "'prompt' and 'n' ask for {count} answers; at most {limit} are given at once",
                {"count": len(self.prompt) * self.n, "limit": MAX_ANSWERS, "param": "prompt"},
            )
        return self
