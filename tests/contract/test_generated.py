# SPDX-License-Identifier: Apache-2.0
"""What is generated from the types is current, small enough to apply, and documented."""

import subprocess
from enum import StrEnum
from pathlib import Path

import pytest
import yaml

from generator import __main__ as generate
from generator import artifacts, reasons
from lateen_api import crd, names
from lateen_api.conditions import ConditionType, Reason

ROOT = Path(__file__).resolve().parents[2]
MAX_ANNOTATION_BYTES = 256 * 1024
"""Client-side apply keeps the whole object in an annotation of at most this size."""


def test_generated_files_are_current() -> None:
    """`hack/generate --check` passes in this tree."""
    command = [str(ROOT / "hack" / "generate"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_edited_file_is_noticed_and_put_right(tmp_path: Path) -> None:
    """The difference is shown line by line; writing twice writes once."""
    files = artifacts.everything()
    assert sorted(generate.write(files, tmp_path)) == sorted(files)
    assert generate.difference(files, tmp_path) == ""
    edited = tmp_path / "crds" / "ragindexes.yaml"
    edited.write_text(edited.read_text().replace("maxItems: 32", "maxItems: 64"))
    lines = generate.difference(files, tmp_path).splitlines()
    assert any(line.startswith("-") and "maxItems: 64" in line for line in lines)
    assert any(line.startswith("+") and "maxItems: 32" in line for line in lines)
    assert generate.write(files, tmp_path) == ["crds/ragindexes.yaml"]
    assert generate.write(files, tmp_path) == []


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.plural)
def test_a_crd_fits_client_side_apply(kind: crd.Kind) -> None:
    """`kubectl apply -f crds/` works without `--server-side`."""
    assert (ROOT / "crds" / f"{kind.plural}.yaml").stat().st_size < MAX_ANNOTATION_BYTES


@pytest.mark.parametrize("kind", crd.KINDS, ids=lambda kind: kind.plural)
def test_a_crd_has_what_users_rely_on(kind: crd.Kind) -> None:
    """Group, short name, category, status subresource, the first columns."""
    manifest = yaml.safe_load((ROOT / "crds" / f"{kind.plural}.yaml").read_text(encoding="utf-8"))
    (version,) = manifest["spec"]["versions"]
    assert manifest["metadata"]["name"] == f"{kind.plural}.{names.GROUP}"
    assert manifest["spec"]["names"]["shortNames"] == [kind.short]
    assert manifest["spec"]["names"]["categories"] == ["lateen"]
    assert "status" in version["subresources"]
    assert ("scale" in version["subresources"]) == (kind.name == "ModelDeployment")
    assert [c["name"] for c in version["additionalPrinterColumns"]][:2] == ["Ready", "Reason"]


def test_no_crd_is_left_over() -> None:
    """Every file beside the kinds' own would be applied too."""
    assert {path.stem for path in (ROOT / "crds").glob("*.yaml")} == {kind.plural for kind in crd.KINDS}


@pytest.mark.parametrize("enum", [ConditionType, Reason])
def test_every_type_and_reason_is_documented(enum: type[StrEnum]) -> None:
    """A docstring under each member: reasons are API."""
    documented = reasons.documented(enum)
    assert list(documented) == [member.value for member in enum]
    assert not [name for name, text in documented.items() if len(text.split()) < 3]
