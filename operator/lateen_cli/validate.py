# SPDX-License-Identifier: Apache-2.0
"""`lateen validate`: what the operator would refuse, without a cluster. For people and for pipelines."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ValidationError

from lateen_api import crd, names, rendering
from lateen_api.conditions import Reason
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.schema import MAX_NAME_LENGTH, RESOURCE_NAME_PATTERN
from lateen_cli import documents
from lateen_cli.documents import Document
from lateen_cli.state import Unusable

_TROUBLE = 2
_SPECS: dict[str, type[BaseModel]] = {kind.name: kind.spec for kind in crd.KINDS}
_PLACE = re.compile(r"(messages|variables)\[(\d+)\]")
"""How a refused template says where it is wrong."""


class Output(StrEnum):
    """How findings are printed."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True)
class Finding:
    """Something that would be refused."""

    file: str
    line: int
    column: int
    kind: str
    name: str
    path: str
    """Of the field, such as `spec.messages[0].content`."""
    reason: str
    message: str

    def text(self) -> str:
        """One line, which editors know how to follow."""
        what = f"{self.kind}/{self.name}" if self.name else self.kind
        return f"{self.file}:{self.line}:{self.column}: {what}: {self.path}: {self.message} [{self.reason}]"


def validate(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="YAML or JSON; - is standard input.")],
    output: Annotated[Output, typer.Option("--output", "-o", help="text or json")] = Output.TEXT,
) -> None:
    """Check manifests of Lateen's kinds as the operator does, without a cluster; other kinds are passed over.

    The exit status is 0 where all is well, 1 where something would be refused, 2 where a file can't be read. The rules
    of the API server that span several fields are checked only when it is asked.
    """
    try:
        found = [document for file in files for document in documents.read(file)]
    except Unusable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(_TROUBLE) from error
    ours = [document for document in found if _is_ours(document)]
    findings = check(ours)
    _tell(findings, len(ours), output)
    raise typer.Exit(1 if findings else 0)


def check(found: Sequence[Document]) -> list[Finding]:
    """Everything that would be refused, in the order of the files."""
    return [finding for document in found for finding in _of_document(document)]


def _is_ours(document: Document) -> bool:
    return str(document.content.get("apiVersion") or "").startswith(f"{names.GROUP}/")


def _of_document(document: Document) -> Iterator[Finding]:
    content = document.content
    if content["apiVersion"] != names.API_VERSION or document.kind not in _SPECS:
        known = ", ".join(sorted(_SPECS))
        message = f"there is no such kind in {names.API_VERSION}; there are: {known}"
        yield _finding(document, ("kind",), Reason.INVALID_SPEC, message)
        return
    if not re.fullmatch(RESOURCE_NAME_PATTERN, document.name):
        message = (
            f"must be a DNS label of at most {MAX_NAME_LENGTH} characters: lower-case letters, digits and '-'"
        )
        yield _finding(document, ("metadata", "name"), Reason.INVALID_SPEC, message)
    try:
        spec = _SPECS[document.kind].model_validate(content.get("spec"))
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            yield _finding(document, ("spec", *problem["loc"]), Reason.INVALID_SPEC, problem["msg"])
        return
    if isinstance(spec, PromptTemplateSpec):
        yield from _of_prompt(document, spec)


def _of_prompt(document: Document, spec: PromptTemplateSpec) -> Iterator[Finding]:
    try:
        rendering.check(spec)
    except rendering.InvalidTemplate as error:
        match = _PLACE.match(str(error))
        path = (match.group(1), int(match.group(2))) if match else ()
        yield _finding(document, ("spec", *path), Reason.INVALID_TEMPLATE, str(error))


def _finding(document: Document, path: Sequence[str | int], reason: Reason, message: str) -> Finding:
    place = document.place(path)
    return Finding(
        document.file,
        place.line,
        place.column,
        document.kind,
        document.name,
        _written(path),
        reason.value,
        message,
    )


def _written(path: Sequence[str | int]) -> str:
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


def _tell(findings: Sequence[Finding], documents_read: int, output: Output) -> None:
    if output is Output.JSON:
        result: dict[str, Any] = {
            "valid": not findings,
            "resources": documents_read,
            "findings": [asdict(each) for each in findings],
        }
        print(json.dumps(result, indent=2))
        return
    for each in findings:
        print(each.text())
    if not findings:
        print(f"{documents_read} resource{'' if documents_read == 1 else 's'} valid")
