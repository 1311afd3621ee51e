# SPDX-License-Identifier: Apache-2.0
"""The seam between the service and whatever runs a model. Called by `engine/app.py`; implemented beside it.

An engine knows tokens and weights; it never sees HTTP, Kubernetes or prompt templates. The TypedDicts are plain
dicts because they cross Ray Serve handles, where plain data is cheapest.
"""

from collections.abc import AsyncGenerator, Sequence
from typing import Any, Literal, NotRequired, Protocol, TypedDict

import numpy as np
import numpy.typing as npt


class ToolCall(TypedDict):
    """A call of a function in an earlier answer, or in this one."""

    id: str
    name: str
    arguments: str
    """JSON text."""


class ChatMessage(TypedDict):
    """One message of a conversation."""

    role: str
    content: str
    tool_calls: NotRequired[list[ToolCall]]
    """Of an assistant's message."""
    tool_call_id: NotRequired[str]
    """Of a tool's message: the call it answers."""


class Tool(TypedDict):
    """A function that the model may call."""

    name: str
    description: str
    parameters: dict[str, Any]
    """JSON Schema of its arguments."""


class Grammar(TypedDict):
    """What the answer must look like; decoding is constrained to it."""

    kind: Literal["json_object", "json_schema", "lark"]
    """`json_object`: any JSON object. `json_schema`: a document of the schema. `lark`: a grammar of llguidance."""
    source: str
    """The JSON Schema as JSON text, or the grammar; empty for `json_object`."""


class Shortening(TypedDict):
    """What a conversation was made of, for a replica that must make a shorter one. See `lateen_api.prompts`."""

    prompt: dict[str, Any]
    """The PromptTemplateSpec."""
    values: dict[str, Any]
    """Checked values of its variables."""
    retrieval: str
    """The variable that holds the passages; empty: none."""
    passages: list[str]
    """Best first."""
    conversation: list[ChatMessage]
    """What the caller said."""
    instructions: str
    reference: str
    """What stands before and behind the prompt's system message."""
    order: list[str]
    """What gives way, first to last: names of variables, and `conversation`."""


class Window(TypedDict):
    """The context window of the prompt a conversation was made of."""

    max_prompt_tokens: int | None
    """Most tokens of the conversation; None: what the model reads."""
    reserve_output_tokens: int
    """Tokens of the model's context that stay free for the answer; as many as `max_tokens` stay free anyway."""
    shortening: NotRequired[Shortening]
    """Absent: a longer conversation is refused."""


class PromptCut(TypedDict):
    """Something that a conversation lost to fit. See `lateen_api.prompts.cutting.Cut`."""

    what: str
    unit: Literal["turns", "passages", "items", "characters"]
    before: int
    after: int


class Counted(TypedDict):
    """A request's prompt as the model would read it."""

    messages: list[ChatMessage]
    """After cutting; empty for bare text."""
    tokens: int
    cut: list[PromptCut]
    """What did not fit."""


class GenerateRequest(TypedDict):
    """What to continue. `Model.generate` of a model application takes it, streamed.

    Exactly one of `messages` (a conversation, put into the model's chat template) and `prompt` (bare text) is not empty.
    """

    messages: list[ChatMessage]
    prompt: NotRequired[str]
    max_tokens: int | None
    """Longest answer; None: as long as the model's context allows."""
    temperature: float
    """0 is greedy."""
    top_p: float
    """Nucleus mass, (0, 1]."""
    top_k: NotRequired[int]
    """Only the k likeliest tokens are drawn from; 0 or absent: all."""
    min_p: NotRequired[float]
    """Only tokens at least this share as likely as the likeliest one are drawn; 0 or absent: all."""
    presence_penalty: NotRequired[float]
    """Taken off the logit of each token that the answer holds already, as OpenAI defines it."""
    frequency_penalty: NotRequired[float]
    """Taken off the logit of a token once for each time the answer holds it, as OpenAI defines it."""
    logit_bias: NotRequired[dict[int, float]]
    """Added to the logits of tokens, by token id."""
    seed: int | None
    """Same seed, same request, same weights: same answer, whatever else is in the batch."""
    stop: list[str]
    """Generation ends before the first of these texts."""
    logprobs: NotRequired[int]
    """Absent: none. k: the log probability of each token of the answer, and the k likeliest ones (0: none)."""
    tools: NotRequired[list[Tool]]
    """Functions that the model is told of."""
    grammar: NotRequired[Grammar]
    """What the answer must look like."""
    adapter: NotRequired[str]
    """Name of the LoRA adapter to answer with."""
    whole: NotRequired[bool]
    """Whether its client gets the answer at its end, so that tokens may travel in fewer events; absent: no."""
    window: NotRequired[Window]
    """How long the conversation may be, and what it may lose."""


class TokenChoice(TypedDict):
    """A token and how likely it was."""

    token: str
    bytes: list[int]
    logprob: float
    """Natural logarithm of its probability before temperature and cuts."""


class TokenLogprob(TokenChoice):
    """A token of the answer, and what else was likely."""

    top: list[TokenChoice]
    """Likeliest first."""


class TokenEvent(TypedDict):
    """What is new of an answer: tokens that became ready together travel in one event."""

    text: str
    """New text; may be empty while a stop text or a multi-byte character is undecided."""
    prompt_tokens: int
    completion_tokens: int
    """Tokens of the answer so far."""
    cached_tokens: NotRequired[int]
    """Tokens of the prompt that did not have to be read again."""
    logprobs: NotRequired[list[TokenLogprob]]
    """Of the tokens whose text this event completes, where the request asks for them."""
    cut: NotRequired[list[PromptCut]]
    """In an engine's first event: what the prompt lost to fit; absent: nothing."""
    finish_reason: NotRequired[Literal["stop", "length"]]
    """Present in the last event only."""


class Embeddings(TypedDict):
    """Vectors of texts, in order."""

    vectors: npt.NDArray[np.float32]
    """Shape (texts, dimension), each of length 1."""
    tokens: list[int]
    """Tokens of each text as the model read it."""
    busy: NotRequired[bool]
    """Of `Model.embed` of a model application: whether clients asked it meanwhile, or just before. Engines don't say."""


class Ranking(TypedDict):
    """How well documents answer a query, in their order."""

    scores: list[float]
    """Between 0 and 1: the cross-encoder's relevance, after its sigmoid."""
    tokens: list[int]
    """Tokens of each pair of query and document as the model read it."""


class AdapterWeights(TypedDict):
    """A LoRA adapter whose weights are on this node."""

    name: str
    folder: str
    """As peft saves it: `adapter_config.json` and safetensors."""
    identity: str
    """Changes when the weights do, so that an engine knows what it has loaded."""


class Description(TypedDict):
    """Facts about a loaded model."""

    max_tokens: int
    """Longest input of an embedder or reranker, or context of a generator, in tokens."""
    dimension: int
    """Length of an embedder's vectors; 0 for others."""
    dtype: str
    parameters: int
    """Number of parameters."""
    engine: str
    """`transformers` or `vllm`."""


class Engine(Protocol):
    """Runs one loaded model. All methods are safe to call concurrently from one event loop."""

    def generate(self, request: GenerateRequest) -> AsyncGenerator[TokenEvent, None]:
        """Continue a conversation; closing the iterator stops the work.

        Raises errors.InputError, errors.ContextTooLong before the first event; errors.ModelError at any time.
        """
        ...

    async def count(self, request: GenerateRequest) -> Counted:
        """The prompt that `generate` would read, without an answer; raises what `generate` raises before its first event."""
        ...

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """Vectors of `texts`; longer ones than the model can read raise errors.ContextTooLong."""
        ...

    async def rerank(self, query: str, documents: Sequence[str]) -> Ranking:
        """How well each document answers `query`; longer pairs than the model can read raise errors.ContextTooLong."""
        ...

    async def set_adapters(self, adapters: Sequence[AdapterWeights]) -> dict[str, str]:
        """Have exactly these LoRA adapters; requests that use another one end first.

        Returns:
            Why those that could not be loaded were not, by name; the others answer. Never raises for an adapter's sake.

        """
        ...

    def make_room(self, requests: int) -> None:
        """Work on at most so many requests at the same time from now on; those under way go on.

        An engine that batches by tokens, or fixes its batch when it loads (`vllm`), goes on as it was.
        """
        ...

    async def tokenize(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """For each text the character span of each of its tokens, without special tokens."""
        ...

    def describe(self) -> Description:
        """Facts about the loaded model."""
        ...

    async def check_health(self) -> None:
        """Raise if the engine can't serve any more."""
        ...

    async def aclose(self) -> None:
        """Stop the work and free what it holds."""
        ...
