# SPDX-License-Identifier: Apache-2.0
"""The Catalog survives its journey as JSON, and its revision says when it changed."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from lateen_api.catalog import Catalog

PROMPT = {"version": "1", "messages": [{"role": "user", "content": "{x}"}], "variables": [{"name": "x"}]}


def document(**changes: Any) -> dict[str, Any]:
    """A catalog with one of everything."""
    return {
        "keys": [{"name": "demo", "digest": "a" * 64}],
        "models": [
            {
                "id": "smollm2",
                "task": "generate",
                "revision": "r1",
                "application": "default_smollm2_r1",
                "created": 1,
                "requestTimeoutSeconds": 120,
            }
        ],
        "prompts": [
            {"id": "grounded-answer", "revisions": [{"revision": "p1", "created": 1, "spec": PROMPT}]}
        ],
        "indexes": [
            {
                "id": "handbook",
                "alias": "Lateen_a_live",
                "collection": "Lateen_a_r1",
                "revision": "r1",
                "embedder": "minilm",
                "embedderApplication": "default_minilm_e1",
                "embedderRevision": "e1",
                "retrieval": {"limit": 3, "mode": "Hybrid", "alpha": "0.6"},
                "created": 1,
            }
        ],
    } | changes


def test_a_catalog_survives_json() -> None:
    """What the gateway parses is what the operator composed, its revision included."""
    sent = Catalog.parse(document())
    received = Catalog.parse(json.loads(json.dumps(sent.dump())))
    assert received == sent
    assert received.revision == sent.revision


@pytest.mark.parametrize("part", ["keys", "models", "prompts", "indexes"])
def test_every_part_counts_for_the_revision(part: str) -> None:
    """Ready means that the gateway serves this very content, so nothing may change unseen."""
    assert Catalog.parse(document(**{part: []})).revision != Catalog.parse(document()).revision


def test_an_empty_catalog_lets_nobody_in() -> None:
    """No keys means no callers, not everybody."""
    assert Catalog().keys == []
    assert Catalog.parse({}).revision == Catalog().revision


@pytest.mark.parametrize(
    "changes",
    [
        {"schemaVersion": 2},
        {"assistants": []},
        {"keys": [{"name": "demo", "digest": "the key itself"}]},
        {"prompts": [{"id": "p", "revisions": []}]},
    ],
)
def test_a_catalog_of_another_shape_is_refused(changes: dict[str, Any]) -> None:
    """The gateway keeps what it serves rather than guess."""
    with pytest.raises(ValidationError):
        Catalog.parse(document(**changes))


def test_a_catalog_can_not_be_changed_in_place() -> None:
    """Requests in flight keep the one they started with."""
    catalog = Catalog.parse(document())
    with pytest.raises(ValidationError, match="frozen"):
        catalog.models = []  # type: ignore[misc]  # what the test is about


def test_known_revisions_are_not_read_again() -> None:
    """Only what changed is parsed; a namesake with other content counts as changed, and the result is the same."""
    before = Catalog.parse(document())
    sent = json.loads(json.dumps(before.dump()))
    again = Catalog.parse(sent, before.prompts)
    assert again == before
    assert again.prompts[0].revisions[0] is before.prompts[0].revisions[0]
    sent["prompts"][0]["revisions"][0]["spec"]["messages"][0]["content"] = "{x}!"
    changed = Catalog.parse(sent, before.prompts)
    assert changed == Catalog.parse(sent)
    assert changed.revision != before.revision


@pytest.mark.parametrize(
    "prompts",
    [
        {},
        [1],
        [{"id": [], "revisions": [{"revision": "p1"}]}],
        [{"id": "x", "revisions": [{"revision": {}}]}],
    ],
)
def test_a_broken_catalog_is_refused_as_ever(prompts: Any) -> None:
    """What is known does not change what is a catalog."""
    with pytest.raises(ValidationError):
        Catalog.parse(document(prompts=prompts), Catalog.parse(document()).prompts)
