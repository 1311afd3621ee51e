# SPDX-License-Identifier: Apache-2.0
"""Tiny random models for the engine's tests, saved as real ones are: weights, configuration, tokenizer, template."""

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    PreTrainedTokenizerFast,
)

from lateen_serving.engine.protocol import GenerateRequest

CONTEXT = 160
torch.set_num_threads(
    1
)  # the reference runs beside the engine's thread; more threads only fight for the cores
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
ADAPTED = ["q_proj", "v_proj", "up_proj"]
SPECIAL = ["<|im_start|>", "<|im_end|>"]


def save_tokenizer(folder: Path, template: str | None = TEMPLATE) -> None:
    """A tokenizer with one token per byte, so that characters and words cross token borders all the time."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|im_end|>", model_max_length=CONTEXT
    )
    if template is not None:
        fast.chat_template = template
    fast.save_pretrained(folder)


def save_llama(folder: Path, **changes: Any) -> Path:
    """A two-layer Llama that answers with varied bytes."""
    settings: dict[str, Any] = {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "initializer_range": 0.6,
        "tie_word_embeddings": False,
        "eos_token_id": 257,
        "pad_token_id": 257,
        "bos_token_id": 256,
    }
    return save_causal(folder, LlamaConfig(**settings | changes))


def save_causal(folder: Path, config: Any) -> Path:
    """A random causal language model of any architecture."""
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():  # answers are ASCII letters, so that texts can be compared whole
        model.get_output_embeddings().weight[_other_than_ascii()] = 0.0
    model.generation_config.eos_token_id = [257]
    model.save_pretrained(folder)
    save_tokenizer(folder)
    return folder


def _other_than_ascii() -> list[int]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [at for at, letter in enumerate(alphabet) if not ("!" <= letter <= "~")] + [256]


def save_adapter(base: Path, folder: Path, seed: int, **changes: Any) -> Path:
    """A random adapter that changes answers, saved by peft."""
    torch.manual_seed(seed)
    settings: dict[str, Any] = {"r": 4, "lora_alpha": 16, "target_modules": ADAPTED, "task_type": "CAUSAL_LM"}
    config = LoraConfig(**settings | changes)
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.normal_(std=0.5)
    model.save_pretrained(str(folder))
    return folder


def save_bert(folder: Path, pooling: str | None = None, **changes: Any) -> Path:
    """A two-layer BERT; with `pooling` as a sentence-transformers folder."""
    torch.manual_seed(3)
    BertModel(_bert_config(changes)).save_pretrained(folder)
    save_tokenizer(folder, template=None)
    _wrap_texts(folder)
    if pooling is not None:
        (folder / "1_Pooling").mkdir()
        (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
        modules = [
            {"idx": 0, "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ]
        (folder / "modules.json").write_text(json.dumps(modules))
        (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 48}))
    return folder


def save_cross_encoder(folder: Path, **changes: Any) -> Path:
    """A two-layer BERT that scores pairs; `changes` are of its configuration, and may name an activation."""
    torch.manual_seed(5)
    config = _bert_config({"num_labels": 1, "initializer_range": 0.3} | changes)
    BertForSequenceClassification(config).save_pretrained(folder)
    save_tokenizer(folder, template=None)
    _wrap_texts(folder)
    path = folder / "tokenizer_config.json"
    names = {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | names))
    return folder


def _bert_config(changes: dict[str, Any]) -> BertConfig:
    settings: dict[str, Any] = {
        "vocab_size": 258,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "pad_token_id": 257,
    }
    return BertConfig(**settings | changes)


def _wrap_texts(folder: Path) -> None:
    """Let the tokenizer put special tokens around a text or a pair, as BERT's do."""
    path = str(folder / "tokenizer.json")
    tokenizer = Tokenizer.from_file(path)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>",
        pair="<|im_start|> $A <|im_end|> $B:1 <|im_end|>:1",
        special_tokens=[("<|im_start|>", 256), ("<|im_end|>", 257)],
    )
    tokenizer.save(path)


def request(text: str, **changes: Any) -> GenerateRequest:
    """A greedy request for at most 24 tokens."""
    base: dict[str, Any] = {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": 24,
        "temperature": 0.0,
        "top_p": 1.0,
        "seed": None,
        "stop": [],
    }
    return base | changes  # type: ignore[return-value]  # the TypedDict's keys, some replaced


class Reference:
    """What transformers' own `generate` answers, one prompt at a time."""

    def __init__(self, folder: Path) -> None:
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)

    def prompt(self, text: str) -> list[int]:
        """Tokens of the conversation `request(text)`."""
        ids: list[int] = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_dict=False
        )
        return ids

    def answer(self, text: str, tokens: int = 24) -> str:
        """The greedy answer, decoded whole."""
        ids = torch.tensor([self.prompt(text)])
        with torch.inference_mode():
            output = self.model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False
            )
        decoded: str = self.tokenizer.decode(output[0, ids.shape[1] :], skip_special_tokens=True)
        return decoded
