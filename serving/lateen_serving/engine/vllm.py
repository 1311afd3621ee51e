# SPDX-License-Identifier: Apache-2.0
"""Text generation with vLLM's asynchronous engine, on nodes whose image has vLLM. Made by `app.py`.

vLLM computes in processes of its own. On this side prompts are made and answers decoded exactly as for the other
engines; vLLM is imported when an engine is made, and nowhere else.
"""

import asyncio
import importlib.util
import math
import os
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lateen_serving.engine import admission, vllm_mapping, window
from lateen_serving.engine.grammar import Grammars
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.protocol import AdapterWeights, Counted, Description, GenerateRequest, TokenEvent
from lateen_serving.engine.refusals import Refusals
from lateen_serving.engine.vllm_adapters import Adapters
from lateen_serving.engine.vocabulary import Vocabulary
from lateen_serving.errors import LoadError, Unavailable

if TYPE_CHECKING:
    from lateen_serving.engine.prompt import PromptEncoder, Spans

_CPU_CACHE_BYTES = 2**30
_BATCH_ADAPTERS = 4
"""Different LoRA adapters in one batch; vLLM keeps room for as many on the device."""
_HOST_ADAPTERS = 32
"""Adapters kept in memory; beyond that the one used longest ago is read again when it is asked for."""
_ADAPTER_RANK = 64
"""Highest rank of an adapter."""


@dataclass(frozen=True)
class Parts:
    """What is read before vLLM starts."""

    prompts: "PromptEncoder"
    spans: "Spans"
    vocabulary: Vocabulary
    grammars: Grammars
    """Compiled on this side first: what llguidance can't bear is refused before vLLM hands it over."""
    parameters: int
    config: Any
    """vLLM's VllmConfig."""
    adapters: bool
    """Whether vLLM can adapt this architecture."""


class VllmGenerator(Refusals):
    """An `Engine` that generates text with vLLM."""

    does = "generates text"

    def __init__(self, engine: Any, parts: Parts) -> None:
        self._engine = engine
        self._parts = parts
        self._adapters = Adapters(engine, lora_request)
        # One worker: the prompt encoder is not safe to use from two threads.
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenize")

    @classmethod
    async def create(cls, options: LoadOptions) -> "VllmGenerator":
        """Load the weights and start vLLM's processes; raises LoadError.

        Starting holds the event loop: vLLM wants to be started in it, and nothing is served before it has started.
        """
        if importlib.util.find_spec("vllm") is None:
            raise LoadError(
                "vLLM is not installed on this node; use engine.type transformers or an image with vLLM",
                code="ModelUnsupported",
            )
        _settle_environment(options)
        parts = await asyncio.to_thread(_read, options)
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            engine = AsyncLLM.from_vllm_config(parts.config, disable_log_stats=True)
        except Exception as error:
            raise LoadError(f"vLLM did not start, its log says why: {_reason(error)}") from error
        return cls(engine, parts)

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[TokenEvent, None]:
        """Continue a conversation or a text; see `protocol.Engine`."""
        admission.validate(request, self._parts.vocabulary.size)
        await self.check_health()
        loop = asyncio.get_running_loop()
        prompt = await loop.run_in_executor(self._tokenizing, self._encode, request)
        limit = admission.check_room(prompt.tokens, request, self.describe()["max_tokens"])
        vocabulary = self._parts.vocabulary
        answer = vllm_mapping.Answer(request, len(prompt.tokens), vocabulary.decode, vocabulary.bytes_of)
        async with self._adapters.use(request.get("adapter")) as adapter:
            cut = prompt.cut
            outputs = self._outputs(request, prompt.tokens, limit, adapter)
            try:
                async for output in outputs:
                    event = answer.push(output.outputs[0], output.num_cached_tokens)
                    if event is not None and cut:
                        event, cut = TokenEvent(**event, cut=cut), []
                    if event is not None:
                        yield event
                    if event is not None and "finish_reason" in event:
                        return
            except Exception as error:
                raise vllm_mapping.translated(error, request) from error
            finally:
                # Ends vLLM's own generator, which aborts what is not finished.
                await outputs.aclose()  # type: ignore[attr-defined]  # an async generator

    async def _outputs(
        self, request: GenerateRequest, prompt: list[int], limit: int, adapter: Any
    ) -> AsyncIterator[Any]:
        from vllm.inputs.engine import tokens_input
        from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

        grammar = vllm_mapping.grammar(request)
        params = SamplingParams(
            **vllm_mapping.sampling(request, limit),
            structured_outputs=None if grammar is None else StructuredOutputsParams(**grammar),
            output_kind=RequestOutputKind.DELTA,
        )
        stream = self._engine.generate(tokens_input(prompt), params, uuid.uuid4().hex, lora_request=adapter)
        try:
            async for output in stream:
                yield output
        finally:
            await stream.aclose()

    async def count(self, request: GenerateRequest) -> Counted:
        """See `protocol.Engine`."""
        admission.validate(request, self._parts.vocabulary.size)
        loop = asyncio.get_running_loop()
        prompt = await loop.run_in_executor(self._tokenizing, self._encode, request)
        admission.check_room(prompt.tokens, request, self.describe()["max_tokens"])
        return prompt.counted()

    def _encode(self, request: GenerateRequest) -> window.Prompt:
        if "grammar" in request:
            self._parts.grammars.compile(request["grammar"])
        return window.prepare(self._parts.prompts, request, self.describe()["max_tokens"])

    async def set_adapters(self, adapters: Sequence[AdapterWeights]) -> dict[str, str]:
        """See `protocol.Engine`."""
        if not self._parts.adapters:
            return {adapter["name"]: "vLLM has no adapters for this architecture" for adapter in adapters}
        return await self._adapters.set(adapters)

    def make_room(self, requests: int) -> None:
        """VLLM fixes its batch when it starts; what is more waits inside it."""

    async def tokenize(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """See `protocol.Engine`."""
        return await asyncio.to_thread(self._parts.spans.of, texts)

    def describe(self) -> Description:
        """See `protocol.Engine`."""
        model = self._parts.config.model_config
        return Description(
            max_tokens=model.max_model_len,
            dimension=0,
            dtype=str(model.dtype).removeprefix("torch."),
            parameters=self._parts.parameters,
            engine="vllm",
        )

    async def check_health(self) -> None:
        """Raise Unavailable when vLLM's processes have ended."""
        if self._engine.errored:
            raise Unavailable("the model's engine has stopped")

    async def aclose(self) -> None:
        """End vLLM's processes; running requests end with Unavailable."""
        await asyncio.to_thread(self._engine.shutdown)
        self._tokenizing.shutdown(wait=False)


def lora_request(name: str, number: int, folder: str) -> Any:
    """An adapter in vLLM's words; raises LoadError for a folder of which vLLM would read pickled weights."""
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        if not (Path(folder) / file).is_file():
            raise LoadError(f"the adapter's folder has no {file}; pickled weights are refused")
    from vllm.lora.request import LoRARequest

    return LoRARequest(name, number, folder)


def _settle_environment(options: LoadOptions) -> None:
    """What vLLM reads from the environment when it is imported; its processes inherit it.

    A replica has the cores that Ray gave it and no numbers of them: vLLM must not bind its threads to any. It would
    send reports of its use to its makers.
    """
    os.environ["OMP_NUM_THREADS"] = str(max(1, options.threads))
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")


def _read(options: LoadOptions) -> Parts:
    """Everything but the weights; raises LoadError."""
    from lateen_serving.engine.loading import choose_dtype, cpu_has_bfloat16, read_folder
    from lateen_serving.engine.prompt import PromptEncoder, Spans

    folder = read_folder(options)
    spans = Spans(folder.tokenizer)
    dtype = choose_dtype(options.dtype, options.device, cpu_has_bfloat16())
    config, adapters = _configure(replace(options, dtype=dtype, max_model_len=folder.max_tokens))
    vocabulary = Vocabulary(
        spans.tokenizer,
        config.model_config.get_vocab_size(),
        frozenset({folder.tokenizer.eos_token_id} - {None}),
    )
    return Parts(
        prompts=PromptEncoder(folder.tokenizer),
        spans=spans,
        vocabulary=vocabulary,
        grammars=Grammars(vocabulary),
        parameters=count_parameters(options.folder),
        config=config,
        adapters=adapters,
    )


def _configure(options: LoadOptions) -> tuple[Any, bool]:
    """VLLM's configuration, with room for LoRA adapters where it can adapt the architecture, and whether it can."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.model_executor.model_loader.utils import get_model_cls
    from vllm.model_executor.models.interfaces import supports_lora

    arguments = engine_arguments(options)
    room = {"max_loras": _BATCH_ADAPTERS, "max_cpu_loras": _HOST_ADAPTERS, "max_lora_rank": _ADAPTER_RANK}
    try:
        config = AsyncEngineArgs(**arguments).create_engine_config()
        adapters = supports_lora(get_model_cls(config.model_config))
        if adapters:
            config = AsyncEngineArgs(**arguments, enable_lora=True, **room).create_engine_config()
    except Exception as error:
        raise LoadError(f"vLLM can't serve this model: {_reason(error)}", code="ModelUnsupported") from error
    return config, adapters


def engine_arguments(options: LoadOptions) -> dict[str, Any]:
    """Arguments of vLLM's AsyncEngineArgs but for adapters, from options that leave nothing to vLLM's guess.

    Remote code is never run, pickles are never read.
    """
    cache = options.cache_bytes or (_CPU_CACHE_BYTES if options.device == "cpu" else None)
    return {
        "model": str(options.folder),
        "load_format": "safetensors",
        "trust_remote_code": False,
        "dtype": options.dtype,
        "max_model_len": options.max_model_len,
        "max_num_seqs": options.max_rows,
        "kv_cache_memory_bytes": cache,
        # The grammars of the protocol are llguidance's.
        "structured_outputs_config": {"backend": "guidance"},
        "disable_log_stats": True,
    }


def count_parameters(folder: Path) -> int:
    """Elements of all tensors in the folder, from the files' headers."""
    from safetensors import safe_open

    total = 0
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as tensors:
            total += sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118
    return total


def _reason(error: Exception) -> str:
    """The first line of an error's text, without pydantic's frame around it."""
    details = error.errors() if hasattr(error, "errors") else []
    text = str(details[0]["msg"]) if details else str(error)
    return (text.strip().splitlines() or [type(error).__name__])[0][:400]
