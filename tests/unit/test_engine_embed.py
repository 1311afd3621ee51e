# SPDX-License-Identifier: Apache-2.0
"""Embeddings against a straightforward reference, on tiny random encoders."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from engine_models import request, save_bert
from lateen_serving.engine import pooling
from lateen_serving.engine.embedder import TextEmbedder
from lateen_serving.engine.forward import Embedding
from lateen_serving.engine.jobs import Rows, Tokens
from lateen_serving.engine.options import LoadOptions
from lateen_serving.errors import ContextTooLong, InputError, LoadError, ModelError

TEXTS = ["a cat", "the ship sails at dawn", "x", "héllo wörld", "rigging and canvas", "a cat"]


def expected(folder: Path, texts: list[str], kind: str) -> npt.NDArray[np.float32]:
    """Each text alone through transformers, pooled by the definition."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    rows = []
    for text in texts:
        with torch.inference_mode():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        vector = hidden[0] if kind == "cls" else hidden[-1] if kind == "lasttoken" else hidden.mean(0)
        rows.append((vector / vector.norm()).numpy())
    return np.stack(rows)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved encoder that says nothing about pooling."""
    return save_bert(tmp_path_factory.mktemp("bert"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[TextEmbedder]:
    """The engine most tests share."""
    made = asyncio.run(TextEmbedder.create(LoadOptions(folder, dtype="float32")))
    yield made
    asyncio.run(made.aclose())


async def test_texts_of_concurrent_requests_get_their_own_vectors(engine: TextEmbedder, folder: Path) -> None:
    """Batched across requests and sorted by length inside, vectors come back in order, each of length 1."""
    groups = [TEXTS[:4], TEXTS[4:], TEXTS[:1]]
    results = await asyncio.gather(*(engine.embed(group) for group in groups))
    for group, result in zip(groups, results, strict=True):
        np.testing.assert_allclose(result["vectors"], expected(folder, group, "mean"), atol=1e-5)
        np.testing.assert_allclose(np.linalg.norm(result["vectors"], axis=1), 1.0, atol=1e-5)
        assert result["tokens"] == [len(text.encode()) + 2 for text in group]


@pytest.mark.parametrize(
    ("flag", "kind"), [("cls_token", "cls"), ("mean_tokens", "mean"), ("lasttoken", "lasttoken")]
)
async def test_a_sentence_transformers_folder_is_followed(tmp_path: Path, flag: str, kind: str) -> None:
    """Pooling and length come from the folder's own files."""
    engine = await TextEmbedder.create(LoadOptions(save_bert(tmp_path, pooling=flag), dtype="float32"))
    result = await engine.embed(TEXTS)
    await engine.aclose()
    np.testing.assert_allclose(result["vectors"], expected(tmp_path, TEXTS, kind), atol=1e-5)
    facts = engine.describe()
    assert (facts["max_tokens"], facts["dimension"], facts["dtype"]) == (48, 32, "float32")


@pytest.mark.parametrize(
    ("texts", "error", "param"),
    [
        ([], InputError, "input"),
        (["a", ""], InputError, "input[1]"),
        (["a", "b", "x" * 63], ContextTooLong, "input[2]"),
    ],
)
async def test_bad_input_is_refused_by_position(
    engine: TextEmbedder, texts: list[str], error: type[InputError], param: str
) -> None:
    """The error names the text that can't be embedded."""
    with pytest.raises(error) as caught:
        await engine.embed(texts)
    assert caught.value.param == param


async def test_the_longest_text_that_fits_is_embedded(engine: TextEmbedder) -> None:
    """A text that fills the encoder exactly is served; its special tokens count."""
    assert (await engine.embed(["x" * 62]))["tokens"] == [64]


async def test_an_embedder_knows_spans_and_does_not_generate(engine: TextEmbedder) -> None:
    """Spans leave special tokens out; generation is refused as the caller's mistake."""
    assert await engine.tokenize(["ab"]) == [[(0, 1), (1, 2)]]
    with pytest.raises(InputError):
        engine.generate(request("hi"))


async def test_broken_numbers_fail_only_the_request(
    engine: TextEmbedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass that fails is told to its requests; later ones are served."""
    real = Embedding.__call__
    monkeypatch.setattr(Embedding, "__call__", lambda self, texts: real(self, texts) * np.float32("nan"))
    with pytest.raises(ModelError, match="not a number"):
        await engine.embed(["a"])

    def explode(self: Embedding, texts: list[Tokens]) -> Rows:
        if len(texts[0]) == 1:  # the smallest pass, which shows that the model itself still works
            return real(self, texts)
        raise RuntimeError("out of luck")

    monkeypatch.setattr(Embedding, "__call__", explode)
    with pytest.raises(ModelError, match="RuntimeError"):
        await engine.embed(["a"])
    monkeypatch.undo()
    assert (await engine.embed(["a"]))["vectors"].shape == (1, 32)


@pytest.mark.parametrize(
    ("config", "expected_mode"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_mean_tokens": True, "word_embedding_dimension": 3}, "mean"),
        ({"pooling_mode": "lasttoken"}, "lasttoken"),
        ({"pooling_mode_max_tokens": True}, None),
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True}, None),
        ({"pooling_mode": "weightedmean"}, None),
        ({}, None),
    ],
)
def test_pooling_modes(config: dict[str, object], expected_mode: str | None) -> None:
    """One known mode is taken; combinations and unknown ones are ModelUnsupported."""
    if expected_mode is not None:
        assert pooling.pooling_of(config) == expected_mode
        return
    with pytest.raises(LoadError) as caught:
        pooling.pooling_of(config)
    assert caught.value.code == "ModelUnsupported"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"modules.json": [{"type": "sentence_transformers.models.Dense", "path": "2_Dense"}]}, "Dense"),
        ({"modules.json": [{"type": "x.Pooling", "path": "../outside"}]}, "outside"),
        ({"modules.json": {}}, "not a list"),
        ({"config.json": {"architectures": ["LlamaForCausalLM"]}}, "task: generate"),
    ],
)
def test_folders_that_do_not_embed_as_we_do(tmp_path: Path, files: dict[str, object], words: str) -> None:
    """A folder whose vectors we would get wrong is refused at load."""
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(LoadError, match=words):
        pooling.read(tmp_path)
