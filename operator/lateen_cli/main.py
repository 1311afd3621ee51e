# SPDX-License-Identifier: Apache-2.0
"""The command line `lateen` (also `kubectl lateen`): arguments in, exit status out."""

import asyncio
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from lateen_api import digests
from lateen_cli import environment, index_plan, launch, overview, render, revisions, syncing, tools, validate
from lateen_cli.kubectl import Kubectl, Refused, resources
from lateen_cli.overview import Overview
from lateen_cli.screen import JsonLines, screen
from lateen_cli.state import DEFAULT, StateDir, Unusable
from lateen_cli.terminal import complain

application = typer.Typer(
    name="lateen",
    help="Run Lateen on this machine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

StateOption = Annotated[
    Path, typer.Option("--state-dir", help="Where the stack keeps everything.", envvar="LATEEN_STATE_DIR")
]


class Output(StrEnum):
    """How `lateen status` prints."""

    TABLE = "table"
    JSON = "json"


@application.command()
def up(
    state_dir: StateOption = DEFAULT,
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return when everything is ready.")] = False,
    events: Annotated[int, typer.Option(hidden=True)] = -1,
) -> None:
    """Start Kubernetes' API, Ray, Weaviate and the operator on loopback, and keep them running."""
    state = StateDir.at(state_dir)
    if detach:
        raise typer.Exit(launch.detach(state, screen()))
    raise typer.Exit(launch.supervise(state, JsonLines(events) if events >= 0 else screen()))


@application.command()
def down(state_dir: StateOption = DEFAULT) -> None:
    """Stop every process of the stack; resources, indexes and volumes stay."""
    raise typer.Exit(launch.shut(StateDir.at(state_dir), screen()))


@application.command(name="env")
def env(state_dir: StateOption = DEFAULT) -> None:
    """Print `export` lines for a shell: eval "$(lateen env)"."""
    state = StateDir.at(state_dir)
    stack = state.stack()
    if stack is None or overview.gather(state).health != "ready":
        raise Unusable(f"No stack is up in {state.root}. Start one: lateen up --state-dir {state.root}")
    print(environment.exports(state, stack))


@application.command()
def status(
    state_dir: StateOption = DEFAULT,
    output: Annotated[Output, typer.Option("--output", "-o", help="table or json")] = Output.TABLE,
) -> None:
    """Show the parts of the stack and its resources; exit status 1 where it is not up."""
    state = StateDir.at(state_dir)
    found = asyncio.run(_overview(state))
    if output is Output.JSON:
        print(found.model_dump_json(indent=2))
    else:
        console = Console()
        for piece in overview.tables(found):
            console.print(piece)
    raise typer.Exit(0 if found.health == "ready" else 1)


@application.command()
def digest(
    folder: Annotated[Path, typer.Argument(help="Folder that holds the weights, or one .gguf file.")],
) -> None:
    """Print what belongs into spec.source.digest for a model folder or a GGUF file."""
    try:
        print(digests.of_folder(folder))
    except OSError as error:
        raise Unusable(str(error)) from error


application.command()(revisions.history)
application.command()(revisions.rollback)
application.command()(revisions.diff)
application.command()(syncing.sync)
application.command()(index_plan.plan)
application.command()(validate.validate)
application.command()(render.render)


async def _overview(state: StateDir) -> Overview:
    found = overview.gather(state)
    program = tools.find("kubectl", os.environ)
    if found.health not in ("ready", "unsupervised") or program is None:
        return found
    try:
        items = await resources(Kubectl(program, state.kubeconfig, state.cache("lateen")))
    except Refused as error:
        return found.model_copy(update={"problem": str(error)})
    return found.model_copy(update={"resources": tuple(overview.resource(item) for item in items)})


def main() -> None:
    """Entry point of `lateen` and `kubectl-lateen`."""
    try:
        application()
    except Unusable as error:
        complain(str(error))
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
