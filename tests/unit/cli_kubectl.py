# SPDX-License-Identifier: Apache-2.0
"""A kubectl for unit tests of the command line: it knows one object and its revisions."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest


def install(
    folder: Path, monkeypatch: pytest.MonkeyPatch, found: dict[str, Any], revisions: Sequence[dict[str, Any]]
) -> None:
    """Make it the kubectl of the user's own cluster: it prints `found`, or for ControllerRevisions `revisions`.

    What it was called with is written to `folder/calls`, one call a line.
    """
    (folder / "found.json").write_text(json.dumps(found))
    (folder / "revisions.json").write_text(json.dumps({"items": list(revisions)}))
    program = folder / "kubectl"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {folder}/calls\n'
        f'case "$2" in controllerrevisions*) cat {folder}/revisions.json;; *) cat {folder}/found.json;; esac\n'
    )
    program.chmod(0o700)
    monkeypatch.setenv("LATEEN_TOOLS", str(folder))
    monkeypatch.setenv("KUBECONFIG", "/home/user/config")
    monkeypatch.delenv("LATEEN_STATE_DIR", raising=False)
