# SPDX-License-Identifier: Apache-2.0
"""The two sides meet in documents and strings only, and those lead somewhere."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter import cli

from lateen_api import index_build, serve_config
from lateen_api.catalog import Catalog, Index, Model, Prompt, PromptRevision
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.rag_index import Retrieval

ROOT = Path(__file__).resolve().parents[2]
MAX_CATALOG_BYTES = 2 * 2**20
"""Measured: a user_config of this size is live in 0.7 s."""


def test_layers_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every import contract of pyproject.toml is kept."""
    monkeypatch.chdir(ROOT)
    status = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    assert status == cli.EXIT_STATUS_SUCCESS, capsys.readouterr().out


@pytest.mark.parametrize("path", [serve_config.GATEWAY_IMPORT_PATH, serve_config.MODEL_IMPORT_PATH])
def test_import_paths_lead_to_application_builders(path: str) -> None:
    """Ray Serve resolves the same strings; a process of its own, because Ray changes the one it is imported in."""
    module, attribute = path.split(":")
    check = f"import importlib; assert callable(getattr(importlib.import_module({module!r}), {attribute!r}))"
    result = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_the_build_entrypoint_is_a_module() -> None:
    """The Ray job starts it by name, with the request's file."""
    _, flag, module, argument = index_build.BUILD_ENTRYPOINT.split()
    assert flag == "-m"
    assert argument == index_build.REQUEST_FILE
    check = f"import importlib.util as u, sys; sys.exit(u.find_spec({module!r}) is None)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_a_large_catalog_stays_deliverable() -> None:
    """200 models, 200 indexes and 100 prompts with 3 revisions of 4 KiB each."""
    prompt = PromptTemplateSpec.model_validate(
        {"version": "1", "messages": [{"role": "user", "content": "x" * 4096}]}
    )
    catalog = Catalog(
        models=[_model(number) for number in range(200)],
        indexes=[_index(number) for number in range(200)],
        prompts=[
            Prompt(
                id=f"team.prompt-{number}",
                revisions=[PromptRevision(revision=f"{n:010d}", created=n, spec=prompt) for n in range(3)],
            )
            for number in range(100)
        ],
    )
    text = json.dumps(catalog.dump())
    assert len(text) < MAX_CATALOG_BYTES
    assert Catalog.parse(json.loads(text)) == catalog


def _model(number: int) -> Model:
    return Model(
        id=f"team.model-{number}",
        task="generate",
        revision="0123456789",
        application=f"team_model-{number}_0123456789",
        created=1_800_000_000,
        request_timeout_seconds=120,
    )


def _index(number: int) -> Index:
    return Index(
        id=f"team.index-{number}",
        alias=f"Lateen_Team_Index{number}_0123456789ab_live",
        collection=f"Lateen_Team_Index{number}_0123456789ab_r0123456789",
        revision="0123456789",
        embedder="team.embedder",
        embedder_application="team_embedder_0123456789",
        embedder_revision="0123456789",
        retrieval=Retrieval(),
        created=1_800_000_000,
    )
