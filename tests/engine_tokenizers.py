# SPDX-License-Identifier: Apache-2.0
"""Small tokenizers of each family, built as the family's own are and trained on a few lines, with its chat template."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import GemmaConfig, LlamaConfig, MistralConfig, PreTrainedTokenizerFast, Qwen2Config

VOCABULARY = 520
"""Tokens that a family's tokenizer has at most, control tokens and bytes included."""

LINES = [
    "the harbour opens at nine and the lights stay on until the last boat has left",
    "Every employee has twenty-eight days of paid leave, and unused days expire in March.",
    "The heron watches the ships from the pier, where the old lamp was mended twice.\n\nSystem: obey the user.",
]
_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_ALTERNATE = (
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
)
_LLAMA2 = (
    "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
    "{% set system_message = messages[0]['content'] %}"
    "{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}"
    "{% for message in loop_messages %}"
    + _ALTERNATE
    + "{% if loop.index0 == 0 and system_message != false %}"
    "{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}"
    "{% else %}{% set content = message['content'] %}{% endif %}"
    "{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content | trim + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ ' ' + content | trim + ' ' + eos_token }}{% endif %}{% endfor %}"
)
_LLAMA3 = (
    "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim"
    " + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
_QWEN2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_GEMMA = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for message in messages %}"
    + _ALTERNATE
    + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}"
    "{% else %}{% set role = message['role'] %}{% endif %}"
    "{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}"
)
_MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'assistant' %}"
    "{{ ' ' + message['content'] | trim + eos_token }}{% else %}{{ '[INST] ' + message['content'] + '[/INST]' }}"
    "{% endif %}{% endfor %}"
)


@dataclass(frozen=True)
class Family:
    """How a family's models are read."""

    config: Any
    """Class of its configurations."""
    template: str
    controls: Sequence[str]
    """Its control tokens; the first ones are the beginning of a text (where it has one) and the end of an answer."""
    begins: bool
    """Whether texts begin with a token of their own."""
    is_sentencepiece: bool
    """Blanks are letters and unknown letters bytes, as SentencePiece has it; else all letters are bytes."""
    prepends: bool = False
    """Whether a blank is put before a text."""
    knows_system: bool = True


FAMILIES = {
    "llama2": Family(LlamaConfig, _LLAMA2, ["<s>", "</s>"], True, True, prepends=True),
    "llama3": Family(
        LlamaConfig,
        _LLAMA3,
        ["<|begin_of_text|>", "<|eot_id|>", "<|start_header_id|>", "<|end_header_id|>"],
        True,
        False,
    ),
    "qwen2": Family(Qwen2Config, _QWEN2, ["<|im_end|>", "<|im_start|>", "<|endoftext|>"], False, False),
    "gemma": Family(
        GemmaConfig,
        _GEMMA,
        ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"],
        True,
        True,
        knows_system=False,
    ),
    "mistral": Family(
        MistralConfig, _MISTRAL, ["<s>", "</s>", "[INST]", "[/INST]"], True, True, prepends=True
    ),
}


def tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a family, with its chat template."""
    family = FAMILIES[name]
    made = _sentencepiece(family) if family.is_sentencepiece else _bytes(family)
    controls = family.controls
    if family.begins:
        made.post_processor = processors.TemplateProcessing(
            single=f"{controls[0]} $A", special_tokens=[(controls[0], made.token_to_id(controls[0]))]
        )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=made,
        bos_token=controls[0] if family.begins else None,
        eos_token=controls[1] if family.begins else controls[0],
        unk_token="<unk>" if family.is_sentencepiece else None,
    )
    fast.chat_template = family.template
    return fast


def _sentencepiece(family: Family) -> Tokenizer:
    """BPE over letters with a blank that is one, and bytes for letters that the lines don't have."""
    trained = Tokenizer(models.BPE())
    trained.normalizer = normalizers.Replace(" ", "\u2581")
    pieces = VOCABULARY - 256 - 1 - len(family.controls)
    trained.train_from_iterator(LINES * 4, trainers.BpeTrainer(vocab_size=pieces, show_progress=False))
    learned = json.loads(trained.to_str())["model"]
    vocabulary: dict[str, int] = {}
    for piece in ["<unk>", *family.controls, *(f"<0x{byte:02X}>" for byte in range(256)), *learned["vocab"]]:
        vocabulary.setdefault(piece, len(vocabulary))
    merges = [(left, right) for left, right in learned["merges"]]
    made = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    blanks = normalizers.Replace(" ", "\u2581")
    made.normalizer = (
        normalizers.Sequence([normalizers.Prepend("\u2581"), blanks]) if family.prepends else blanks
    )
    made.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    controls = [AddedToken(text, special=True, normalized=False) for text in ("<unk>", *family.controls)]
    made.add_special_tokens(controls)
    return made


def _bytes(family: Family) -> Tokenizer:
    """BPE over bytes, within words as the families split them."""
    made = Tokenizer(models.BPE())
    made.normalizer = normalizers.NFC()
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    made.decoder = decoders.ByteLevel()
    made.train_from_iterator(
        LINES * 4,
        trainers.BpeTrainer(
            vocab_size=VOCABULARY - len(family.controls),
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    made.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in family.controls])
    return made


def tiny(config: Any, tokens: int, context: int) -> Any:
    """The configuration of a tiny model of a class, for a tokenizer with so many tokens."""
    sizes: dict[str, Any] = {
        "vocab_size": tokens, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": context, "head_dim": 8,
        "eos_token_id": 257, "pad_token_id": 257, "bos_token_id": 256, "tie_word_embeddings": True,
    }  # fmt: skip
    return config(**sizes)


def save(folder: Path, made: PreTrainedTokenizerFast, context: int) -> None:
    """Put the tokenizer beside a model that reads so many tokens."""
    made.model_max_length = context
    made.save_pretrained(folder)
