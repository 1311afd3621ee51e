# SPDX-License-Identifier: Apache-2.0
"""`lateen history`, `lateen rollback` and `lateen diff`: what `kubectl rollout history` and `undo` are for Deployments.

All read ControllerRevisions; a rollback writes the spec through kubectl, as a user would.
"""

import asyncio
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Protocol

import typer
from rich.console import Console
from rich.table import Table

from lateen_cli import difference, index_history, kept, model_history, prompt_history
from lateen_cli.kept import Kept, Kind, Revision
from lateen_cli.kubectl import FIELD_MANAGER, Kubectl, Refused
from lateen_cli.state import Unusable
from lateen_cli.terminal import complain

_KINDS = (Kind.MODEL, Kind.PROMPT, Kind.INDEX)
_TROUBLE = 2


class _History(Protocol):
    """What the kinds' modules have in common."""

    @property
    def table(self) -> Callable[[Kept], Table]: ...

    @property
    def present(self) -> Callable[[Kept], dict[str, Any]]: ...

    @property
    def find(self) -> Callable[[Kept, str], Revision]: ...

    @property
    def content(self) -> Callable[[Revision], dict[str, Any]]: ...


_HISTORIES: Mapping[Kind, _History] = {
    Kind.MODEL: model_history,
    Kind.PROMPT: prompt_history,
    Kind.INDEX: index_history,
}

TargetArgument = Annotated[
    str,
    typer.Argument(
        metavar="md/NAME|pt/NAME|rag/NAME", help="The ModelDeployment, PromptTemplate or RAGIndex."
    ),
]
Namespace = Annotated[
    str | None, typer.Option("--namespace", "-n", help="Its namespace. Default: kubectl's own.")
]
State = Annotated[
    Path | None,
    typer.Option(
        "--state-dir",
        envvar="LATEEN_STATE_DIR",
        help="Of the stack. Default: the cluster of KUBECONFIG, else the default stack.",
    ),
]


def history(target: TargetArgument, namespace: Namespace = None, state_dir: State = None) -> None:
    """Show the revisions of a model or an index or the versions of a prompt, newest first, and what became of each."""
    wanted = kept.target(target, *_KINDS)
    found = asyncio.run(kept.load(kept.cluster(state_dir, os.environ), wanted, namespace))
    Console().print(_HISTORIES[wanted.kind].table(found))


def rollback(
    target: TargetArgument,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="REVISION",
            help="Revision (of a prompt also its version). Default: the one before the present one.",
        ),
    ] = None,
    namespace: Namespace = None,
    state_dir: State = None,
) -> None:
    """Write an earlier revision into the spec: of a model its source, engine and resources, of a prompt everything, of an
    index what its passages and vectors depend on.
    """
    kubectl, wanted = kept.cluster(state_dir, os.environ), kept.target(target, *_KINDS)
    print(asyncio.run(_roll_back(kubectl, wanted, namespace, to)))


def diff(
    target: TargetArgument,
    one: Annotated[str, typer.Argument(metavar="FROM", help="Version or revision.")],
    other: Annotated[
        str | None, typer.Argument(metavar="TO", help="Version or revision. Default: the present spec.")
    ] = None,
    namespace: Namespace = None,
    state_dir: State = None,
) -> None:
    """Show what differs between two revisions. The exit status is 0 for nothing, 1 for something, 2 for trouble."""
    try:
        wanted = kept.target(target, *_KINDS)
        found = asyncio.run(kept.load(kept.cluster(state_dir, os.environ), wanted, namespace))
        before, after = _side(wanted.kind, found, one), _side(wanted.kind, found, other)
    except Unusable as error:
        complain(str(error))
        raise typer.Exit(_TROUBLE) from error
    lines = difference.lines(before, after, f"{target} {one}", f"{target} {other or 'spec'}")
    difference.show(Console(), lines)
    raise typer.Exit(1 if lines else 0)


async def _roll_back(kubectl: Kubectl, wanted: kept.Target, namespace: str | None, to: str | None) -> str:
    found = await kept.load(kubectl, wanted, namespace)
    match wanted.kind:
        case Kind.PROMPT:
            chosen = prompt_history.choose(found, to)
            patch, said = prompt_history.patch(found, chosen), prompt_history.said(found, wanted.name, chosen)
        case Kind.INDEX:
            chosen = index_history.choose(found, to)
            patch, said = index_history.patch(chosen), index_history.said(found, wanted.name, chosen)
        case Kind.MODEL:
            chosen = model_history.choose(found, to)
            patch, said = model_history.patch(chosen), model_history.said(wanted.name, chosen)
    await _write(kubectl, wanted, found, patch)
    return said


async def _write(kubectl: Kubectl, wanted: kept.Target, found: Kept, patch: list[dict[str, Any]]) -> None:
    place = ("--namespace", found.resource["metadata"]["namespace"])
    change = ("--type=json", f"--field-manager={FIELD_MANAGER}", "--patch", json.dumps(patch))
    try:
        await kubectl.run("patch", wanted.kind.resource, wanted.name, *place, *change)
    except Refused as error:
        raise Unusable(str(error)) from error


def _side(kind: Kind, found: Kept, named: str | None) -> Mapping[str, Any]:
    """What a revision holds of the spec; None names the present spec."""
    history = _HISTORIES[kind]
    return history.present(found) if named is None else history.content(history.find(found, named))
