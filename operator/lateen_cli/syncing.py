# SPDX-License-Identifier: Apache-2.0
"""`lateen sync`: asks for one synchronization of a RAGIndex now, and with `--wait` tells how it went."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from typing import Annotated, Any, get_args

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lateen_api import crd, names
from lateen_api.conditions import ConditionType, Reason
from lateen_api.index_build import SourceFailureReason
from lateen_api.status_types import RAGIndexStatus
from lateen_cli import kept
from lateen_cli.kubectl import Kubectl, Refused
from lateen_cli.revisions import Namespace, State
from lateen_cli.state import Unusable
from lateen_cli.terminal import tell, visible

POLL_SECONDS = 0.5
_FAILURES = {
    *get_args(SourceFailureReason),
    Reason.DOCUMENTS_FAILED.value,
    Reason.QUALITY_CHECK_FAILED.value,
}
_KIND = crd.RAG_INDEX
_RESOURCE = f"{_KIND.plural}.{names.GROUP}"
_WORDS = (_KIND.short, _KIND.name.lower(), _KIND.plural, _RESOURCE)


def sync(
    target: Annotated[str, typer.Argument(metavar="rag/NAME", help="The RAGIndex.")],
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when it is done; exit status 1 if something failed.")
    ] = False,
    timeout: Annotated[int, typer.Option(help="Longest time to wait, in seconds.", min=1)] = 600,
    namespace: Namespace = None,
    state_dir: State = None,
) -> None:
    """Read the sources of an index now, without waiting for its schedule."""
    asking = _Asking(kept.cluster(state_dir, os.environ), named(target), namespace)
    try:
        value = asyncio.run(asking.ask())
        if not wait:
            print(f"{target} will be synchronized.")
            return
        status = asyncio.run(asking.answered(value, timeout))
    except Refused as error:
        raise Unusable(str(error)) from error
    Console().print(table(status))
    held = is_held(status)
    if held:
        tell(_ready(status), sys.stderr)
    raise typer.Exit(1 if status.failed or held else 0)


def named(text: str) -> str:
    """The name in `rag/NAME`; raises Unusable for anything else."""
    word, slash, name = text.partition("/")
    if not slash or word.lower() not in _WORDS or not name or "/" in name:
        raise Unusable(f"{text!r} is not {_KIND.short}/NAME ({_KIND.name}).")
    return name


def table(status: RAGIndexStatus) -> Table:
    """What the synchronization did, by source."""
    made = Table("Source", "Documents", "Changed", "Removed", "Failed", "Why")
    for source in status.sources or ():
        counts = (source.documents, source.changed, source.removed, source.failed)
        documents = [item for item in status.failures or () if item.document.startswith(f"{source.name}/")]
        first = f"{documents[0].document}: {documents[0].message}" if documents else ""
        why = f"{source.reason}: {source.message}" if source.reason else first
        made.add_row(*(Text(visible(each)) for each in (source.name, *map(str, counts), why)))
    return made


def is_held(status: RAGIndexStatus) -> bool:
    """Whether what was built does not answer, or answers without a source or a document; Ready says why."""
    ready = next((each for each in status.conditions or () if each.type == ConditionType.READY), None)
    return ready is not None and ready.status == "False" and ready.reason in _FAILURES


def is_answered(handled: str | None, asked: str) -> bool:
    """Whether a build took note of the request `asked`, or of a later one that replaced it."""
    try:
        return handled is not None and datetime.fromisoformat(handled) >= datetime.fromisoformat(asked)
    except (ValueError, TypeError):  # somebody has written another kind of value, or a time without a zone
        return False


class _Asking:
    """One index in one cluster."""

    def __init__(self, kubectl: Kubectl, name: str, namespace: str | None) -> None:
        self._kubectl, self._name = kubectl, name
        self._place = ("--namespace", namespace) if namespace else ()

    async def ask(self) -> str:
        """Set the annotation to a new value, which is returned; raises Unusable and Refused."""
        found = await self._resource()
        if found.get("spec", {}).get("suspend"):
            raise Unusable(f"{self._name} is suspended; set spec.suspend to false first.")
        value = datetime.now(UTC).isoformat(timespec="microseconds")
        change = ("--overwrite", f"{names.SYNC_ANNOTATION}={value}")
        await self._kubectl.run("annotate", _RESOURCE, self._name, *self._place, *change)
        return value

    async def answered(self, value: str, seconds: float) -> RAGIndexStatus:
        """The status once the synchronization that `value` asked for has ended; raises Unusable and Refused."""
        status = RAGIndexStatus()
        try:
            async with asyncio.timeout(seconds):
                while not is_answered(status.last_handled_sync, value):
                    await asyncio.sleep(POLL_SECONDS)
                    status = RAGIndexStatus.model_validate((await self._resource()).get("status", {}))
        except TimeoutError as error:
            raise Unusable(
                f"{self._name} was not synchronized within {seconds:g} s; {_ready(status)}"
            ) from error
        return status

    async def _resource(self) -> dict[str, Any]:
        text = await self._kubectl.run("get", _RESOURCE, self._name, *self._place, "--output=json")
        found: dict[str, Any] = json.loads(text)
        return found


def _ready(status: RAGIndexStatus) -> str:
    for condition in status.conditions or ():
        if condition.type == "Ready":
            return f"Ready is {condition.status} ({condition.reason}): {condition.message}"
    return "it has no status"
