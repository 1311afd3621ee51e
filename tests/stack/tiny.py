# SPDX-License-Identifier: Apache-2.0
"""Models that take no time: random weights in the folders that transformers reads, made without torch.

The embedder's attention is weak, so that its vectors are close to a mean over words and similar texts stay similar.
"""

import json
import math
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
END = 3
"""The token that ends an answer: `</s>`."""
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


def generator(folder: Path, seed: int = 0, length: int = LENGTH, layers: int = LAYERS) -> None:
    """Make a Llama with a chat template; it says nothing sensible, but the same for the same seed.

    It reads `length` tokens, answer included, and takes the longer for each the more `layers` it has.
    """
    tokenizer = _tokenizer()
    dice = np.random.default_rng(seed)
    size = tokenizer.get_vocab_size()
    tensors: Tensors = {"model.embed_tokens.weight": _random(dice, size, HIDDEN, scale=1.0)}
    for layer in range(layers):
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
        "intermediate_size": 128, "num_hidden_layers": layers, "num_attention_heads": HEADS,
        "num_key_value_heads": HEADS, "max_position_embeddings": length, "bos_token_id": 2, "eos_token_id": END,
        "pad_token_id": 0, "tie_word_embeddings": False, "dtype": "float32",
    }  # fmt: skip
    chat = {
        "chat_template": CHAT_TEMPLATE,
        "bos_token": "<s>",
        "eos_token": "</s>",
        "model_max_length": length,
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


def reranker(folder: Path, seed: int = 0) -> None:
    """Make a BERT cross-encoder that scores how much of the query's words the document has.

    In the first layer each token of the query looks for its own word in the document, in the second `[CLS]` takes the
    mean of what they found. Nothing is random but the words' directions.
    """
    from tokenizers import processors

    tokenizer = _tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 4), ("[SEP]", 5)],
    )
    size = tokenizer.get_vocab_size()
    config = {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert", "vocab_size": size,
        "hidden_size": HIDDEN, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 1,
        "max_position_embeddings": LENGTH, "type_vocab_size": 2, "pad_token_id": 0, "dtype": "float32",
        "hidden_act": "gelu", "layer_norm_eps": 1e-12, "id2label": {"0": "relevance"},
        "label2id": {"relevance": 0},
    }  # fmt: skip
    inputs = ["input_ids", "token_type_ids", "attention_mask"]
    marks = {
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "model_max_length": LENGTH,
        "model_input_names": inputs,
    }
    _write(folder, config, marks, _overlap(np.random.default_rng(seed), size))
    tokenizer.save(str(folder / "tokenizer.json"))


WORD, SIDE, START, FOUND, SHARE = 48, 48, 50, 52, 54
"""Columns of the reranker's vectors: so many of the word itself, then pairs x and -x, which keep the mean at 0: on
which side a token is, whether it is `[CLS]`, whether its word was found, how many were."""


def _overlap(dice: np.random.Generator, size: int) -> Tensors:
    """Every vector has length 8 after normalisation, so that attention scores are known numbers, named below."""
    words = dice.normal(0.0, 1.0, (size, HIDDEN)).astype(np.float32)
    words[:, WORD:] = 0.0
    words[:, :WORD] -= words[:, :WORD].mean(axis=1, keepdims=True)
    words *= math.sqrt(40) / np.linalg.norm(words, axis=1, keepdims=True)
    words[4] = _pair(START, math.sqrt(20))
    sides = np.stack([_pair(SIDE, math.sqrt(6)), _pair(SIDE, -math.sqrt(6))])
    unit = 8 / math.sqrt(52)
    same, other_side, side, start = 27.0, 30.0, unit * math.sqrt(6), unit * math.sqrt(20)
    tensors: Tensors = {
        "bert.embeddings.word_embeddings.weight": words,
        "bert.embeddings.position_embeddings.weight": np.zeros((LENGTH, HIDDEN), np.float32),
        "bert.embeddings.token_type_embeddings.weight": sides,
        **_norm("bert.embeddings.LayerNorm"),
    }
    # A word's own likeness scores `same` (others' up to 0.6 of it), the other side `other_side` more; where nothing
    # is alike, `[CLS]` wins, whose value is 0.
    look = np.diag(np.r_[np.full(WORD, same * 8 / (unit**2 * 40)), np.zeros(HIDDEN - WORD)]).astype(
        np.float32
    )
    look[SIDE, SIDE] = -other_side * 8 / side**2
    nothing = np.zeros(HIDDEN, np.float32)
    nothing[START] = (0.8 * same + 2 * other_side) * 8 / start
    found = np.zeros((HIDDEN, HIDDEN), np.float32)
    found[:, START] = _pair(FOUND, -1 / start)
    tensors |= _layer(0, (look, nothing), (found, _pair(FOUND, 1.0)), np.eye(HIDDEN, dtype=np.float32))
    # `[CLS]` reads the query's side, all tokens but itself alike, and keeps four times the mean.
    mean = np.zeros(HIDDEN, np.float32)
    mean[SIDE], mean[START] = 24.0, -24.0
    share = np.zeros((HIDDEN, HIDDEN), np.float32)
    share[:, FOUND] = _pair(SHARE, 4.0)
    none = np.zeros((HIDDEN, HIDDEN), np.float32)
    tensors |= _layer(1, (none, mean), (share, _pair(SHARE, 0.0)), np.eye(HIDDEN, dtype=np.float32))
    pooler = none.copy()
    pooler[0, SHARE] = 0.25
    tensors |= {"bert.pooler.dense.weight": pooler, "bert.pooler.dense.bias": np.zeros(HIDDEN, np.float32)}
    classifier = np.zeros((1, HIDDEN), np.float32)
    classifier[0, 0] = 10.0
    return tensors | {"classifier.weight": classifier, "classifier.bias": np.full(1, -4.0, np.float32)}


Affine = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""Weight and bias."""


def _layer(number: int, query: Affine, value: Affine, output: npt.NDArray[np.float32]) -> Tensors:
    """A BERT layer whose keys are its input and whose feed-forward part adds nothing."""
    prefix = f"bert.encoder.layer.{number}"
    zero = np.zeros(HIDDEN, np.float32)
    affine = {
        "attention.self.query": query,
        "attention.self.key": (np.eye(HIDDEN, dtype=np.float32), zero),
        "attention.self.value": value,
        "attention.output.dense": (output, zero),
        "intermediate.dense": (np.zeros((128, HIDDEN), np.float32), np.zeros(128, np.float32)),
        "output.dense": (np.zeros((HIDDEN, 128), np.float32), zero),
    }
    tensors: Tensors = {}
    for name, (weight, bias) in affine.items():
        tensors |= {f"{prefix}.{name}.weight": weight, f"{prefix}.{name}.bias": bias}
    return tensors | _norm(f"{prefix}.attention.output.LayerNorm") | _norm(f"{prefix}.output.LayerNorm")


def _pair(column: int, value: float) -> npt.NDArray[np.float32]:
    row = np.zeros(HIDDEN, np.float32)
    row[column], row[column + 1] = value, -value
    return row


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
