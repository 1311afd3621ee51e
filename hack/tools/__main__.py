# SPDX-License-Identifier: Apache-2.0
"""`python3 hack/tools`: obtain the pinned programs and print the one folder that holds them.

Needs nothing but Python 3.11; made for `export LATEEN_TOOLS=$(python3 hack/tools)`.
"""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

import catalogue
from gobuild import GoBuilder
from obtain import Failure, Workshop, link
from progress import Progress
from releases import Releases

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def cache_folder() -> Path:
    """Where programs are kept between runs, free of links."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return (Path(base) / "lateen" / "bin").resolve()


def show(workshop: Workshop, tools: tuple[catalogue.Tool, ...]) -> None:
    """The pins and the way each tool would come, without going it."""
    for tool in tools:
        ready = workshop.ready(tool)
        if ready:
            where = f"{ready[1]} (from {ready[0]})"
        else:
            release = tool.release()
            module = tool.recipe.folder.relative_to(Path(__file__).resolve().parent)
            built = f"go build {tool.package} in {module}"
            where = f"{release.url} else {built}" if release else built
        print(f"{tool.name:<24}{tool.version:<9}{where}")


def interrupted(signum: int, _frame: FrameType | None) -> NoReturn:
    """End by an exception, so that children are stopped and partial files removed on the way out."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    raise SystemExit(128 + signum)


def parse(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python3 hack/tools", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="TOOL", help="only these; all without any")
    parser.add_argument("--list", action="store_true", help="show the pins and where each would come from")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    """Obtain or list; the exit status."""
    wanted = parse(arguments)
    try:
        tools = catalogue.named(wanted.names)
    except KeyError as error:
        known = ", ".join(tool.name for tool in catalogue.TOOLS)
        print(f"no tool is called {error.args[0]}; there are: {known}", file=sys.stderr)
        return 2
    cache, progress = cache_folder(), Progress()
    workshop = Workshop(cache, os.environ, Releases(), GoBuilder(cache, progress), progress)
    if wanted.list:
        show(workshop, tools)
        return 0
    try:
        print(link(cache, workshop.obtain(tools)))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    for number in ENDING:
        signal.signal(number, interrupted)
    sys.exit(main(sys.argv[1:]))
