# SPDX-License-Identifier: Apache-2.0
"""`hack/generate [--check]`: write the generated files, or compare them and show what differs."""

import argparse
import difflib
import sys
from collections.abc import Mapping
from pathlib import Path

from generator import artifacts

ROOT = Path(__file__).resolve().parents[2]


def write(files: Mapping[str, str], root: Path) -> list[str]:
    """Write what differs; the paths that were written."""
    written = []
    for path, text in files.items():
        target = root / path
        if _current(target) != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def difference(files: Mapping[str, str], root: Path) -> str:
    """A unified diff from what is in `root` to what the types say; empty when all is current."""
    lines: list[str] = []
    for path, text in files.items():
        before = _current(root / path).splitlines(keepends=True)
        lines += difflib.unified_diff(before, text.splitlines(keepends=True), f"{path} (now)", path)
    return "".join(lines)


def _current(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def main() -> int:
    """The command; 1 with `--check` when a file is out of date."""
    parser = argparse.ArgumentParser(prog="hack/generate", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a file is out of date")
    files = artifacts.everything()
    if not parser.parse_args().check:
        for path in write(files, ROOT):
            print(f"wrote {path}")
        return 0
    diff = difference(files, ROOT)
    if diff:
        print(diff, end="")
        print("generated files are out of date: run hack/generate and commit the result", file=sys.stderr)
    return 1 if diff else 0


if __name__ == "__main__":
    sys.exit(main())
