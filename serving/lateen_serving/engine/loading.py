# SPDX-License-Identifier: Apache-2.0
"""Loads weights with transformers and decides number format and context length.

Called by `generator.py`, `embedder.py` and `reranker.py` inside the torch thread. Remote code is never run, pickles are never read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.utils import logging as transformers_logging

from lateen_serving.engine import imports
from lateen_serving.engine.failures import out_of_memory
from lateen_serving.engine.options import Device, LoadOptions
from lateen_serving.engine.protocol import Description
from lateen_serving.errors import LoadError

_LENGTH_FIELDS = (
    "max_position_embeddings",
    "n_positions",
    "max_sequence_length",
    "max_seq_len",
    "seq_length",
)
_LOAD_FAILURES = (
    OSError, ValueError, KeyError, ImportError, AttributeError, RuntimeError, TypeError, MemoryError, SafetensorError
)  # fmt: skip
"""What transformers raises about folders it can't read, and torch where memory is short."""

_UNLIMITED = 10**9
_DEFAULT_LENGTH = 8192


@dataclass(frozen=True)
class Loaded:
    """A model ready to run, with what else its folder says."""

    model: Any
    tokenizer: Any
    dtype: str
    max_tokens: int
    """Longest sequence."""

    def describe(self, max_tokens: int, dimension: int) -> Description:
        """What clients of the engine learn of it."""
        parameters = sum(tensor.numel() for tensor in self.model.parameters())
        return Description(
            max_tokens=max_tokens,
            dimension=dimension,
            dtype=self.dtype,
            parameters=parameters,
            engine="transformers",
        )


def choose_dtype(requested: str, device: Device, cpu_has_bfloat16: bool) -> str:
    """Number format for `requested`: `auto` is bfloat16 where the hardware computes in it, else float32."""
    if requested != "auto":
        return requested
    return "bfloat16" if device == "cuda" or cpu_has_bfloat16 else "float32"


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware (AVX512-BF16, AMX or Arm's BF16)."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def context_length(requested: int | None, trained: int | None, tokenizer_limit: int) -> int:
    """Longest sequence in tokens; raises LoadError when more is requested than the model was trained for."""
    known = trained or (tokenizer_limit if tokenizer_limit < _UNLIMITED else None)
    if requested is None:
        return known or _DEFAULT_LENGTH
    if known is not None and requested > known:
        raise LoadError(
            f"maxModelLen is {requested} but the model reads at most {known} tokens; lower or remove it",
            code="ModelUnsupported",
        )
    return requested


def load_generator(options: LoadOptions) -> Loaded:
    """A causal language model with its tokenizer; raises LoadError ModelUnsupported."""
    return _load(options, AutoModelForCausalLM)


def load_embedder(options: LoadOptions) -> Loaded:
    """An encoder with its tokenizer; raises LoadError ModelUnsupported."""
    return _load(options, AutoModel)


def load_reranker(options: LoadOptions) -> Loaded:
    """A cross-encoder with its tokenizer; raises LoadError ModelUnsupported."""
    loaded = _load(options, AutoModelForSequenceClassification)
    labels = loaded.model.config.num_labels
    if labels != 1:
        raise LoadError(
            f"the model tells {labels} labels apart; a reranker has one, the relevance",
            code="ModelUnsupported",
        )
    if loaded.tokenizer.pad_token_id is None:
        raise LoadError("the tokenizer has no padding token (pad_token)", code="ModelUnsupported")
    # Decoders with a score on top find each row's last token by it.
    loaded.model.config.get_text_config().pad_token_id = loaded.tokenizer.pad_token_id
    return loaded


@dataclass(frozen=True)
class Folder:
    """What a folder says beside its weights."""

    config: Any
    tokenizer: Any
    max_tokens: int
    """Longest sequence."""


def read_folder(options: LoadOptions) -> Folder:
    """Configuration and tokenizer; raises LoadError ModelUnsupported."""
    folder = options.folder
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        length = context_length(options.max_model_len, trained_length(config), tokenizer.model_max_length)
    except LoadError:
        raise
    except _LOAD_FAILURES as error:
        raise LoadError(f"the model can't be read: {_first_line(error)}", code="ModelUnsupported") from error
    if not hasattr(tokenizer, "backend_tokenizer"):
        raise LoadError("the tokenizer has no fast form (tokenizer.json)", code="ModelUnsupported")
    return Folder(config, tokenizer, length)


def _load(options: LoadOptions, auto_class: Any) -> Loaded:
    with imports.slim():
        return _load_slim(options, auto_class)


def _load_slim(options: LoadOptions, auto_class: Any) -> Loaded:
    torch.set_num_threads(max(1, options.threads))
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    dtype = choose_dtype(options.dtype, options.device, cpu_has_bfloat16())
    folder = read_folder(options)
    try:
        model, report = auto_class.from_pretrained(
            options.folder,
            config=folder.config,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
        model = model.eval().requires_grad_(False).to(options.device)
    except _LOAD_FAILURES as error:
        raise _unloadable(error) from error
    _check_complete(report, type(model).__name__)
    return Loaded(model, folder.tokenizer, dtype, folder.max_tokens)


def _unloadable(error: Exception) -> LoadError:
    """Why weights can't be loaded: too little memory is no fault of theirs."""
    words = _first_line(error)
    if out_of_memory(error):
        message = f"the weights don't fit into memory: {words}; ask for more in spec.resources"
        return LoadError(message, code="ReplicaFailed")
    return LoadError(f"the weights can't be loaded: {words}", code="ModelUnsupported")


def trained_length(config: Any) -> int | None:
    """Longest sequence the configuration speaks of; None when it names none."""
    text = config.get_text_config()
    for name in _LENGTH_FIELDS:
        value = getattr(text, name, None)
        if isinstance(value, int) and value > 0:
            # RoBERTa's first positions are taken by the padding index.
            offset = text.pad_token_id + 1 if "roberta" in text.model_type else 0
            return value - offset
    return None


def end_tokens(loaded: Loaded) -> frozenset[int]:
    """Tokens that end an answer: those of the generation configuration and of the tokenizer."""
    ends: set[int] = set()
    for source in (loaded.model.generation_config, loaded.tokenizer):
        value = getattr(source, "eos_token_id", None)
        ends.update(value if isinstance(value, (list, tuple)) else [] if value is None else [value])
    return frozenset(ends)


def _check_complete(report: Mapping[str, Any], architecture: str) -> None:
    """Refuse weights that leave part of the model random, as another task's weights do."""
    missing = sorted(str(key) for key in report.get("missing_keys", ()) if not str(key).startswith("pooler."))
    wrong = sorted(str(key) for key in report.get("mismatched_keys", ()))
    if missing or wrong:
        raise LoadError(
            f"the weights don't fit {architecture}: {(missing + wrong)[0]} is missing or has another shape"
            " (is spec.task right?)",
            code="ModelUnsupported",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:400]
