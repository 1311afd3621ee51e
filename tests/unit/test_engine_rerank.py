# SPDX-License-Identifier: Apache-2.0
"""Reranking against transformers' own forward pass, on tiny random cross-encoders."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from engine_models import CONTEXT, request, save_bert, save_cross_encoder, save_tokenizer
from lateen_serving.engine.forward import Scoring
from lateen_serving.engine.jobs import Rows, Tokens
from lateen_serving.engine.options import LoadOptions
from lateen_serving.engine.reranker import TextReranker
from lateen_serving.errors import ContextTooLong, InputError, LoadError, ModelError
from stack import tiny

QUERY = "who sails?"
DOCUMENTS = ["a cat", "the ship sails at dawn", "x", "héllo wörld", "rigging and canvas", "a cat"]


def expected(folder: Path, query: str, documents: list[str]) -> list[float]:
    """Each pair alone through transformers, then a sigmoid."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32)
    scores = []
    for document in documents:
        with torch.inference_mode():
            logits = model(**tokenizer(query, document, return_tensors="pt")).logits
        scores.append(float(torch.sigmoid(logits)[0, 0]))
    return scores


async def scores_of(folder: Path) -> list[float]:
    """What the engine says of the documents, with the folder's weights."""
    engine = await TextReranker.create(LoadOptions(folder, dtype="float32"))
    try:
        return (await engine.rerank(QUERY, DOCUMENTS))["scores"]
    finally:
        await engine.aclose()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved cross-encoder that says nothing about its activation."""
    return save_cross_encoder(tmp_path_factory.mktemp("cross"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TextReranker]:
    """The engine most tests share."""
    made = asyncio.run(TextReranker.create(LoadOptions(folder, dtype="float32")))
    yield made
    asyncio.run(made.aclose())


async def test_pairs_of_concurrent_requests_get_their_own_scores(engine: TextReranker, folder: Path) -> None:
    """Batched across requests and sorted by length inside, scores are those of each pair alone, in order."""
    asked = [(QUERY, DOCUMENTS), ("cats?", DOCUMENTS[:2]), (QUERY, DOCUMENTS[3:4])]
    results = await asyncio.gather(*(engine.rerank(query, documents) for query, documents in asked))
    for (query, documents), result in zip(asked, results, strict=True):
        assert result["scores"] == pytest.approx(expected(folder, query, documents), abs=1e-5)
        assert result["tokens"] == [len(query) + len(text.encode()) + 3 for text in documents]
    assert len({round(score, 3) for score in results[0]["scores"]}) >= 4


async def test_the_model_is_told_query_from_document(
    engine: TextReranker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Token types tell the two apart, as transformers' tokenizer gives them; without them scores would be others."""
    seen: list[list[int] | None] = []
    real = Scoring.__call__

    def forget(self: Scoring, pairs: list[Tokens]) -> Rows:
        seen.extend(pair.types for pair in pairs)
        return real(self, [Tokens(pair.ids) for pair in pairs])

    told = (await engine.rerank("ship", ["cat"]))["scores"]
    monkeypatch.setattr(Scoring, "__call__", forget)
    untold = (await engine.rerank("ship", ["cat"]))["scores"]
    assert told == pytest.approx(expected(folder, "ship", ["cat"]), abs=1e-5)
    assert abs(told[0] - untold[0]) > 1e-3
    assert seen == [[0] * 6 + [1] * 4]


async def test_an_encoder_without_token_types(tmp_path: Path) -> None:
    """RoBERTa's one token type and shifted positions are handled as transformers does."""
    torch.manual_seed(1)
    config = RobertaConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        max_position_embeddings=400, type_vocab_size=1, pad_token_id=257, num_labels=1, initializer_range=0.3,
    )  # fmt: skip
    RobertaForSequenceClassification(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, template=None)
    assert await scores_of(tmp_path) == pytest.approx(expected(tmp_path, QUERY, DOCUMENTS), abs=1e-5)


async def test_a_decoder_with_a_score_on_top(tmp_path: Path) -> None:
    """Of a padded row the last real token decides, though the weights name no padding token."""
    torch.manual_seed(2)
    config = LlamaConfig(
        vocab_size=258, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=CONTEXT, num_labels=1, initializer_range=0.3,
    )  # fmt: skip
    LlamaForSequenceClassification(config).save_pretrained(tmp_path)
    save_tokenizer(tmp_path, template=None)
    written = json.loads((tmp_path / "config.json").read_text())
    assert written.get("pad_token_id") is None
    assert await scores_of(tmp_path) == pytest.approx(expected(tmp_path, QUERY, DOCUMENTS), abs=1e-5)


@pytest.mark.parametrize(
    ("query", "documents", "error", "param"),
    [
        ("", ["a"], InputError, "query"),
        ("q", [], InputError, "documents"),
        ("q", ["a", ""], InputError, "documents[1]"),
        ("q", ["a", "b", "x" * 61], ContextTooLong, "documents[2]"),
        ("q" * 80, ["a"], ContextTooLong, "documents[0]"),
    ],
)
async def test_bad_input_is_refused_by_position(
    engine: TextReranker, query: str, documents: list[str], error: type[InputError], param: str
) -> None:
    """The error names what can't be read."""
    with pytest.raises(error) as caught:
        await engine.rerank(query, documents)
    assert caught.value.param == param


async def test_the_longest_pair_that_fits_is_scored(engine: TextReranker, folder: Path) -> None:
    """A pair that fills the encoder exactly is served; query and special tokens count."""
    result = await engine.rerank("q", ["x" * 60])
    assert result["tokens"] == [64]
    assert result["scores"] == pytest.approx(expected(folder, "q", ["x" * 60]), abs=1e-5)


async def test_the_tokenizers_own_limit_holds(tmp_path: Path) -> None:
    """Where the folder reads shorter pairs than the encoder could, that is the limit."""
    save_cross_encoder(tmp_path, max_position_embeddings=512)
    engine = await TextReranker.create(LoadOptions(tmp_path, dtype="float32"))
    await engine.aclose()
    assert engine.describe()["max_tokens"] == CONTEXT


async def test_a_reranker_neither_generates_nor_embeds(engine: TextReranker) -> None:
    """Other tasks are refused as the caller's mistake; adapters are refused by name."""
    with pytest.raises(InputError, match="does not generate"):
        engine.generate(request("hi"))
    with pytest.raises(InputError, match="does not embed"):
        await engine.embed(["a"])
    refused = await engine.set_adapters([{"name": "a", "folder": "/x", "identity": "1"}])
    assert list(refused) == ["a"]
    assert await engine.tokenize(["ab"]) == [[(0, 1), (1, 2)]]


async def test_a_request_that_is_given_up_does_not_disturb_others(
    engine: TextReranker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that is cancelled ends at once and is dropped; one that came with it is answered."""
    entered = asyncio.Event()
    loop = asyncio.get_running_loop()
    seen: list[int] = []
    real = Scoring.__call__

    def watch(self: Scoring, pairs: list[Tokens]) -> Rows:
        seen.append(len(pairs))
        loop.call_soon_threadsafe(entered.set)
        return real(self, pairs)

    monkeypatch.setattr(Scoring, "__call__", watch)
    long = asyncio.create_task(engine.rerank(QUERY, ["y" * 40] * 20_000))
    await entered.wait()
    long.cancel()
    with pytest.raises(asyncio.CancelledError):
        await long
    other = await engine.rerank(QUERY, DOCUMENTS[:2])
    assert other["scores"] == pytest.approx(expected(folder, QUERY, DOCUMENTS[:2]), abs=1e-5)
    assert sum(seen) < 20_000


async def test_a_request_with_broken_numbers_fails_alone(
    engine: TextReranker, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two requests in one pass only the one whose score is not a number ends with an error."""
    real = Scoring.__call__

    def spoil(self: Scoring, pairs: list[Tokens]) -> Rows:
        rows = real(self, pairs)
        rows[[ord("z") - ord("!") in pair.ids for pair in pairs]] = float("nan")
        return rows

    monkeypatch.setattr(Scoring, "__call__", spoil)
    good, bad = await asyncio.gather(
        engine.rerank(QUERY, DOCUMENTS[:2]), engine.rerank(QUERY, ["zz", "a"]), return_exceptions=True
    )
    assert isinstance(bad, ModelError)
    assert not isinstance(good, BaseException)
    assert good["scores"] == pytest.approx(expected(folder, QUERY, DOCUMENTS[:2]), abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"},
        {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": "5.0"}},
    ],
)
async def test_activations_of_sentence_transformers_folders(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Whether the folder wants a sigmoid or the bare number, scores are between 0 and 1 and in the same order."""
    save_cross_encoder(tmp_path, **changes)
    assert await scores_of(tmp_path) == pytest.approx(expected(tmp_path, QUERY, DOCUMENTS), abs=1e-5)


def _config(**changes: Any) -> dict[str, object]:
    return {"config.json": {"architectures": ["BertForSequenceClassification"]} | changes}


@pytest.mark.parametrize(
    ("files", "words"),
    [
        (_config(sbert_ce_default_activation_function="torch.nn.modules.activation.Tanh"), "Tanh"),
        (_config(sentence_transformers={"activation_fn": "mine.Squash"}), "Squash"),
        ({"config_sentence_transformers.json": {"activation_fn": "torch.nn.Softmax"}}, "Softmax"),
        ({"modules.json": [{"type": "sentence_transformers.models.Pooling"}]}, "Pooling"),
    ],
)
async def test_folders_that_score_otherwise(tmp_path: Path, files: dict[str, object], words: str) -> None:
    """A folder whose scores we would get wrong is refused at load, before its weights are read."""
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(LoadError, match=words) as caught:
        await TextReranker.create(LoadOptions(tmp_path))
    assert caught.value.code == "ModelUnsupported"


@pytest.mark.parametrize(
    ("save", "words"),
    [
        (lambda folder: save_cross_encoder(folder, num_labels=3), "3 labels"),
        (save_bert, "spec.task"),
    ],
)
async def test_weights_that_do_not_rerank(tmp_path: Path, save: Any, words: str) -> None:
    """A classifier with several labels and a bare encoder are ModelUnsupported."""
    save(tmp_path)
    with pytest.raises(LoadError, match=words) as caught:
        await TextReranker.create(LoadOptions(tmp_path, dtype="float32"))
    assert caught.value.code == "ModelUnsupported"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_the_small_reranker_of_the_stack_tests_prefers_shared_words(tmp_path: Path, dtype: str) -> None:
    """Its scores rise with the share of the query's words that a document has, however long the document is."""
    tiny.reranker(tmp_path / "reranker")
    engine = await TextReranker.create(LoadOptions(tmp_path / "reranker", dtype=dtype))
    documents = [
        "the garden is green",
        "every visitor has a badge",
        "vacation days per year for every employee are many more than a week, and so on and on",
        "vacation at the harbour",
    ]
    scores = (await engine.rerank("vacation days per year", documents))["scores"]
    await engine.aclose()
    assert scores[2] > 0.9
    assert scores[2] > scores[3] + 0.2
    assert scores[3] > max(scores[0], scores[1]) + 0.05
