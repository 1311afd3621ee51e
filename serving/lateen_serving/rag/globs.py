# SPDX-License-Identifier: Apache-2.0
"""Which files of a source are taken. Pure; called by `sources.py` and `git.py`.

A pattern is matched part by part, so that no pattern is slow: `*` and `?` stay within one name, `**` as a whole
part stands for any number of folders. As in a shell, hidden names (`.git`, `..data`) need a pattern that starts
with a dot.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from lateen_serving.rag.parsing.metadata import SIDECAR


@dataclass(frozen=True)
class Selection:
    """Include and exclude patterns."""

    include: Sequence[str]
    exclude: Sequence[str] = ()

    def takes(self, path: str) -> bool:
        """Whether the file at `path` (relative, with `/`) is taken; a sidecar file is taken with its document."""
        path = path.removesuffix(SIDECAR)
        included = any(matches(path, pattern) for pattern in self.include)
        return included and not any(matches(path, pattern) for pattern in self.exclude)


def matches(path: str, pattern: str) -> bool:
    """Whether the whole of `path` fits `pattern`."""
    names = path.split("/")
    reached = {0}
    for part in pattern.split("/"):
        if part == "**":
            reached = _across_folders(names, reached)
        else:
            reached = {at + 1 for at in reached if at < len(names) and _fits(names[at], part)}
    return len(names) in reached


def _across_folders(names: Sequence[str], reached: set[int]) -> set[int]:
    found = set(reached)
    for at in range(len(names)):
        if at in found and not names[at].startswith("."):
            found.add(at + 1)
    return found


def _fits(name: str, part: str) -> bool:
    return (part.startswith(".") or not name.startswith(".")) and fnmatchcase(name, part)
