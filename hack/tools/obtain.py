# SPDX-License-Identifier: Apache-2.0
"""Which way gives which tool: a setting, the cache, the official release, a build; in this order.

`__main__` is the only caller. A tool appears in the cache by one rename or not at all.
"""

import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Protocol

import catalogue
import locking
from catalogue import Recipe, Tool
from progress import Progress
from releases import Unavailable

REMEDY = (
    "either open the network to the release host, or to a Go module proxy (GOPROXY) and PyPI for the build;"
    " or put the program into a folder and name the folder in LATEEN_TOOLS"
)


class Fetcher(Protocol):
    """The way of the official release."""

    def fetch(self, tool: Tool, into: Path) -> Path:
        """The program, somewhere in the folder `into`; Unavailable says why not."""
        ...


class Builder(Protocol):
    """The way of the build."""

    def build(self, recipe: Recipe, tools: Sequence[Tool], into: Path) -> Mapping[Tool, Path]:
        """The programs, somewhere in the folder `into`; Unavailable says why not."""
        ...


class Failure(Exception):
    """Tools no way gave, each with the ways tried and why each failed."""

    def __init__(self, reasons: Mapping[Tool, Sequence[str]]) -> None:
        super().__init__(reasons)
        self.reasons = reasons

    def __str__(self) -> str:
        blocks = []
        for tool, reasons in self.reasons.items():
            tried = "\n".join(f"  - {reason}" for reason in reasons)
            blocks.append(f"{tool.name} {tool.version} cannot be obtained:\n{tried}\n  Remedy: {REMEDY}.")
        return "\n".join(blocks)


@dataclass
class Workshop:
    """Obtains tools into one cache folder, whose path is without links."""

    cache: Path
    settings: Mapping[str, str]
    fetcher: Fetcher
    builder: Builder
    progress: Progress
    reasons: dict[Tool, list[str]] = field(default_factory=dict)

    def cached(self, tool: Tool) -> Path:
        """The tool's place in the cache, filled or not."""
        return self.cache / f"{tool.name}-{tool.version}" / tool.name

    def ready(self, tool: Tool) -> tuple[str, Path] | None:
        """The way and the place of a tool that needs no work: a setting, else the cache."""
        for setting in catalogue.SETTINGS:
            folder = self.settings.get(setting)
            if folder and (found := self._in_setting(Path(folder) / tool.name, tool)):
                return setting, found
        return ("the cache", self.cached(tool)) if is_program(self.cached(tool)) else None

    def _in_setting(self, program: Path, tool: Tool) -> Path | None:
        """The program a setting offers, through links.

        LATEEN_TOOLS is often a folder this program linked earlier: a link into the cache under another pin is
        out of date, not the user's choice.
        """
        place = Path(os.path.realpath(program))
        outdated = place.is_relative_to(self.cache) and place != self.cached(tool)
        return place if is_program(place) and not outdated else None

    def obtain(self, tools: Iterable[Tool]) -> dict[Tool, Path]:
        """Where each tool lies; Failure names those that no way gave."""
        for _, group in groupby(tools, key=lambda tool: tool.recipe.name):
            self._obtain_group(tuple(group))
        places = {tool: found for tool in self.reasons if (found := self.ready(tool))}
        lacking = {tool: reasons for tool, reasons in self.reasons.items() if tool not in places}
        if lacking:
            raise Failure(lacking)
        return {tool: place for tool, (_, place) in places.items()}

    def _obtain_group(self, tools: tuple[Tool, ...]) -> None:
        """Tools of one recipe, under the recipe's lock where work is needed."""
        for tool in tools:
            self.reasons[tool] = self._no_setting(tool)
        lacking = self._lacking(tools)
        if not lacking:
            return
        recipe = lacking[0].recipe

        def waiting() -> None:
            self.progress.say(recipe.name, "another run is at it; waiting for it")

        with locking.held(self.cache / f".lock-{recipe.name}", waiting):
            self._make(recipe, self._lacking(lacking))

    def _lacking(self, tools: Sequence[Tool]) -> list[Tool]:
        """Those not ready; the ready ones are announced."""
        lacking = []
        for tool in tools:
            if found := self.ready(tool):
                self.progress.say(tool.name, f"{found[1]} (from {found[0]})")
            else:
                lacking.append(tool)
        return lacking

    def _no_setting(self, tool: Tool) -> list[str]:
        reasons = []
        for setting in catalogue.SETTINGS:
            folder = self.settings.get(setting)
            reasons.append(f"{setting}: {f'{folder} holds no usable {tool.name}' if folder else 'not set'}")
        return [*reasons, f"cache: {self.cached(tool)} is not there"]

    def _make(self, recipe: Recipe, tools: list[Tool]) -> None:
        """Release, then build, into a folder that never outlives this call."""
        prefix = f".part-{recipe.name}-"
        for abandoned in self.cache.glob(f"{prefix}*"):
            shutil.rmtree(abandoned, ignore_errors=True)
        if not tools:
            return
        with tempfile.TemporaryDirectory(prefix=prefix, dir=self.cache) as scratch:
            to_build = [tool for tool in tools if not self._fetch(tool, Path(scratch))]
            if to_build:
                self._build(recipe, to_build, Path(scratch))

    def _fetch(self, tool: Tool, scratch: Path) -> bool:
        started = self.progress.clock()
        self.progress.say(tool.name, f"{tool.version}: asking for the official release")
        try:
            program = self.fetcher.fetch(tool, scratch)
        except Unavailable as error:
            self.reasons[tool].append(f"release: {error}")
            self.progress.say(tool.name, f"no release: {error}")
            return False
        self._keep(tool, program, "release", started)
        return True

    def _build(self, recipe: Recipe, tools: list[Tool], scratch: Path) -> None:
        started = self.progress.clock()
        for tool in tools:
            self.progress.say(tool.name, f"{tool.version}: building from the pinned Go module")
        try:
            for tool, program in self.builder.build(recipe, tools, scratch).items():
                self._keep(tool, program, "build", started)
        except Unavailable as error:
            for tool in tools:
                self.reasons[tool].append(f"build: {error}")

    def _keep(self, tool: Tool, program: Path, way: str, started: float) -> None:
        """Move a finished program to its place in the cache."""
        place = self.cached(tool)
        place.parent.mkdir(parents=True, exist_ok=True)
        program.chmod(0o755)
        program.replace(place)
        self.progress.say(tool.name, f"{place} (from the {way}, {self.progress.clock() - started:.0f} s)")


def is_program(path: Path) -> bool:
    """Whether something can be started there."""
    return path.is_file() and os.access(path, os.X_OK)


def link(cache: Path, places: Mapping[Tool, Path]) -> Path:
    """One folder of links to the tools, complete from the moment it exists."""
    folder = cache / f"current-{catalogue.digest(places)}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".part-links-", dir=cache))
    try:
        for tool, place in places.items():
            (partial / tool.name).symlink_to(place)
        partial.chmod(0o755)
        partial.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder
