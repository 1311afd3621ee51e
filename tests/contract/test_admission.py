# SPDX-License-Identifier: Apache-2.0
"""`lateen validate` refuses what the API server refuses, with the same words, and nothing else.

The tables are asked of the API server itself in tests/integration/test_crds.py.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lateen_api import admission, crd
from lateen_cli import documents, kubectl, validate
from stack.crd_cases import ACCEPTED, REFUSED, SPECS, Case

SAMPLES = Path(__file__).resolve().parents[2] / "crds" / "samples"


def found(case: Case, folder: Path) -> list[str]:
    """What `lateen validate` says of a case, as it prints it."""
    file = folder / "case.yaml"
    file.write_text(case.manifest())
    return [finding.text() for finding in validate.check(documents.read(str(file)))]


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_what_the_api_server_refuses_is_found(case: Case, tmp_path: Path) -> None:
    """With the same field and the same words."""
    assert any(case.message in text for text in found(case, tmp_path)), found(case, tmp_path)


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_what_the_api_server_accepts_is_not(case: Case, tmp_path: Path) -> None:
    """What is only wrong as a prompt is another matter: the API server does not read templates."""
    assert [text for text in found(case, tmp_path) if "[InvalidSpec]" in text] == []


def test_the_samples_are_sound() -> None:
    """Every rule holds for every object under crds/samples."""
    read = [each for file in sorted(SAMPLES.rglob("*.yaml")) for each in documents.read(str(file))]
    assert len(read) > len(crd.KINDS)
    assert [finding.text() for finding in validate.check(read)] == []


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.name)
def test_defaults_are_those_of_the_types(kind: crd.Kind) -> None:
    """As the API server stores it; fields that are null count as left out."""
    spec: dict[str, Any] = SPECS[kind.name]
    stored = admission.Checker(kind).stored_spec({"spec": spec | {"suspend": None}})
    expected = kind.spec.model_validate(spec).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert stored == expected


def test_every_rule_has_a_result_for_what_it_is_about() -> None:
    """No rule of the installed CRDs uses what is not evaluated here: each holds for some case and is broken by another."""
    broken, rules = set(), {rule["rule"]: rule["message"] for rule in _rules()}
    for case in REFUSED:
        (kind,) = (kind for kind in crd.KINDS if kind.name == case.kind)
        broken |= {
            problem.message for problem in admission.Checker(kind).problems(json.loads(case.manifest()))
        }
    assert set(rules.values()) - broken == set()
    assert not [rule for rule in rules if "oldSelf" in rule]


def _rules() -> Iterator[dict[str, str]]:
    for file in kubectl.definitions():
        yield from _below(yaml.safe_load(file.read_text()))


def _below(node: Any) -> Iterator[dict[str, str]]:
    if isinstance(node, dict):
        rules = node.get("x-kubernetes-validations")
        yield from rules if isinstance(rules, list) else ()
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _below(child)
