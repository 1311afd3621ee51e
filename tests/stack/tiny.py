# SPDX-License-Identifier: Apache-2.0
"""Models that take no time: random weights in the folders that transformers reads, made without torch.

The embedder's attention is weak, so that its vectors are close to a mean over words and similar texts stay similar.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Tensors = dict[str, npt.NDArray[np.float32]]

WORDS = """
a about after all an and annual answer are at badge be by cat comet day days desk dog employee every for from
garden green harbour has have heron hour how in is it laptop leave lights many month more nobody not of office
on only orange password paid pay per planet purple question receipt red robot salary shift sick silver team text the
this tiger to train travel trip two umbrella unicorn up vacation visitor volcano walrus week what when where which who
whale window with work yellow year you your zebra zero one three four five six seven eight nine ten
system user assistant
"""
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<s>' + message['role'] + ' ' + message['content'] + '</s>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<s>assistant ' }}{% endif %}"
)
SPECIAL = ["<pad>", "<unk>", "<s>", "</s>", "[CLS]", "[SEP]"]
HIDDEN = 64
LAYERS = 2
HEADS = 4
LENGTH = 512


def _tokenizer() -> Any:
    """Words where they are known, else letters: every text of ASCII can be read and written."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

    letters = [chr(code) for code in range(33, 127)]
    pieces = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters), *WORDS.split()]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>", max_input_chars_per_word=100))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    tokenizer.add_special_tokens(SPECIAL)
    return tokenizer


def _write(folder: Path, config: dict[str, Any], tokenizer_config: dict[str, Any], tensors: Tensors) -> None:
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    common = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(common | tokenizer_config))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def generator(folder: Path, seed: int = 0) -> None:
    """Make a Llama with a chat template; it says nothing sensible, but the same for the same seed."""
    tokenizer = _tokenizer()
    dice = np.random.default_rng(seed)
    size = tokenizer.get_vocab_size()
    tensors: Tensors = {"model.embed_tokens.weight": _random(dice, size, HIDDEN, scale=1.0)}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}"
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            tensors[f"{prefix}.self_attn.{name}.weight"] = _random(dice, HIDDEN, HIDDEN)
        for name, shape in (
            ("gate_proj", (128, HIDDEN)),
            ("up_proj", (128, HIDDEN)),
            ("down_proj", (HIDDEN, 128)),
        ):
            tensors[f"{prefix}.mlp.{name}.weight"] = _random(dice, *shape)
        tensors[f"{prefix}.input_layernorm.weight"] = np.ones(HIDDEN, np.float32)
        tensors[f"{prefix}.post_attention_layernorm.weight"] = np.ones(HIDDEN, np.float32)
    tensors["model.norm.weight"] = np.ones(HIDDEN, np.float32)
    tensors["lm_head.weight"] = _random(dice, size, HIDDEN)
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": size, "hidden_size": HIDDEN,
        "intermediate_size": 128, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "max_position_embeddings": LENGTH, "bos_token_id": 2, "eos_token_id": 3,
        "pad_token_id": 0, "tie_word_embeddings": False, "dtype": "float32",
    }  # fmt: skip
    chat = {
        "chat_template": CHAT_TEMPLATE,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": LENGTH,
    }
    _write(folder, config, chat, tensors)
    tokenizer.save(str(folder / "tokenizer.json"))


def embedder(folder: Path, seed: int = 0) -> None:
    """Make a BERT with mean pooling, as sentence-transformers lays it out; another seed gives other vectors."""
    from tokenizers import processors

    tokenizer = _tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 4), ("[SEP]", 5)]
    )
    size = tokenizer.get_vocab_size()
    config = {
        "architectures": ["BertModel"], "model_type": "bert", "vocab_size": size, "hidden_size": HIDDEN,
        "intermediate_size": 128, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "max_position_embeddings": LENGTH, "type_vocab_size": 2, "pad_token_id": 0, "dtype": "float32",
        "hidden_act": "gelu", "layer_norm_eps": 1e-12,
    }  # fmt: skip
    marks = {"cls_token": "[CLS]", "sep_token": "[SEP]", "model_max_length": LENGTH}
    _write(folder, config, marks, _bert(np.random.default_rng(seed), size))
    tokenizer.save(str(folder / "tokenizer.json"))
    pooling = folder / "1_Pooling"
    pooling.mkdir()
    (pooling / "config.json").write_text(
        json.dumps({"word_embedding_dimension": HIDDEN, "pooling_mode_mean_tokens": True})
    )
    modules = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    (folder / "modules.json").write_text(
        json.dumps(
            [
                {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{name}"}
                for n, (path, name) in enumerate(modules)
            ]
        )
    )
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": LENGTH}))


def _bert(dice: np.random.Generator, size: int) -> Tensors:
    tensors: Tensors = {
        "embeddings.word_embeddings.weight": _random(dice, size, HIDDEN, scale=1.0),
        "embeddings.position_embeddings.weight": _random(dice, LENGTH, HIDDEN, scale=0.01),
        "embeddings.token_type_embeddings.weight": _random(dice, 2, HIDDEN, scale=0.01),
        **_norm("embeddings.LayerNorm"),
        **_dense(dice, "pooler.dense", HIDDEN, HIDDEN),
    }
    for layer in range(LAYERS):
        prefix = f"encoder.layer.{layer}"
        for name in ("query", "key", "value"):
            tensors |= _dense(dice, f"{prefix}.attention.self.{name}", HIDDEN, HIDDEN)
        tensors |= _dense(dice, f"{prefix}.attention.output.dense", HIDDEN, HIDDEN)
        tensors |= _norm(f"{prefix}.attention.output.LayerNorm")
        tensors |= _dense(dice, f"{prefix}.intermediate.dense", 128, HIDDEN)
        tensors |= _dense(dice, f"{prefix}.output.dense", HIDDEN, 128)
        tensors |= _norm(f"{prefix}.output.LayerNorm")
    return tensors


def _norm(name: str) -> Tensors:
    return {f"{name}.weight": np.ones(HIDDEN, np.float32), f"{name}.bias": np.zeros(HIDDEN, np.float32)}


def _dense(dice: np.random.Generator, name: str, out: int, into: int) -> Tensors:
    return {f"{name}.weight": _random(dice, out, into, scale=0.02), f"{name}.bias": np.zeros(out, np.float32)}


def _random(dice: np.random.Generator, *shape: int, scale: float = 0.1) -> npt.NDArray[np.float32]:
    return dice.normal(0.0, scale, shape).astype(np.float32)
