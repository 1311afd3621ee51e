# SPDX-License-Identifier: Apache-2.0
"""Git repositories that tests make and commit to."""

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Repository:
    """A repository with the branch `main`."""

    folder: Path

    @classmethod
    def create(cls, folder: Path) -> "Repository":
        """An empty one in a new folder."""
        folder.mkdir(parents=True)
        made = cls(folder)
        made._git("init", "--quiet", "--initial-branch=main")
        return made

    @property
    def url(self) -> str:
        """What a git source reads it by."""
        return f"file://{self.folder}"

    def commit(self, files: Mapping[str, str]) -> str:
        """Write files and commit them; the commit's id."""
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        self._git("add", "--all")
        self._git("commit", "--quiet", "--message=Change")
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        identity = {"NAME": "Test", "EMAIL": "test@lateen.example"}
        people = {
            f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in identity.items()
        }
        environment = {**os.environ, **people, "GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull}
        return subprocess.run(
            ["git", "-C", str(self.folder), *arguments],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
