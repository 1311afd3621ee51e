# SPDX-License-Identifier: Apache-2.0
"""`lateen validate`: what the operator would refuse, without a cluster. For people and for pipelines."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from lateen_api import admission, crd, names, rendering
from lateen_api.conditions import Reason
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts import includes
from lateen_cli import documents
from lateen_cli.documents import Document
from lateen_cli.state import Unusable
from lateen_cli.terminal import complain, tell

_TROUBLE = 2
_KINDS = {kind.name: kind for kind in crd.KINDS}
_REFUSED = {
    includes.ReferenceNotFound: Reason.REFERENCE_NOT_FOUND,
    includes.IncludeCycle: Reason.INCLUDE_CYCLE,
    includes.IncludeConflict: Reason.INVALID_TEMPLATE,
}


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

    The exit status is 0 where all is well, 1 where something would be refused, 2 where a file can't be read. Includes are
    looked for in the given files. What the API server refuses is found too; it is not asked.
    """
    try:
        found = [document for file in files for document in documents.read(file)]
    except Unusable as error:
        complain(str(error))
        raise typer.Exit(_TROUBLE) from error
    ours = [document for document in found if _is_ours(document)]
    findings = check(ours)
    _tell(findings, len(ours), output)
    raise typer.Exit(1 if findings else 0)


def check(found: Sequence[Document]) -> list[Finding]:
    """Everything that would be refused, in the order of the files."""
    checkers = {name: admission.Checker(kind) for name, kind in _KINDS.items()}
    return [finding for document in found for finding in _of_document(document, found, checkers)]


def _is_ours(document: Document) -> bool:
    return str(document.content.get("apiVersion") or "").startswith(f"{names.GROUP}/")


def _of_document(
    document: Document, found: Sequence[Document], checkers: Mapping[str, admission.Checker]
) -> Iterator[Finding]:
    content = document.content
    if content["apiVersion"] != names.API_VERSION or document.kind not in _KINDS:
        known = ", ".join(sorted(_KINDS))
        message = f"there is no such kind in {names.API_VERSION}; there are: {known}"
        yield _finding(document, ("kind",), Reason.INVALID_SPEC, message)
        return
    checker = checkers[document.kind]
    problems = checker.problems(content)
    for problem in problems:
        yield _finding(document, problem.path, Reason.INVALID_SPEC, problem.message)
    if any(problem.path[:1] != ("metadata",) for problem in problems):
        return
    try:
        spec = _KINDS[document.kind].spec.model_validate(checker.stored_spec(content))
    except ValidationError as error:
        for each in error.errors(include_url=False, include_input=False):
            yield _finding(document, ("spec", *each["loc"]), Reason.INVALID_SPEC, each["msg"])
        return
    if isinstance(spec, PromptTemplateSpec):
        yield from _of_prompt(document, spec, found)


def _of_prompt(document: Document, spec: PromptTemplateSpec, found: Sequence[Document]) -> Iterator[Finding]:
    try:
        whole = expanded(document, spec, found)
    except includes.IncludeError as error:
        yield _finding(document, ("spec", "messages"), _REFUSED[type(error)], str(error))
        return
    for violation in rendering.violations(whole):
        place = f" (line {violation.line}, column {violation.column} of the text)" if violation.line else ""
        path = ("spec", *_parts(violation.path)) if whole is spec else ("spec",)
        yield _finding(document, path, Reason.INVALID_TEMPLATE, f"{violation.message}{place}")


def expanded(document: Document, spec: PromptTemplateSpec, found: Sequence[Document]) -> PromptTemplateSpec:
    """`spec` of `document` with what it includes in its place, looked for in `found`; raises includes.IncludeError."""

    def lookup(name: str, version: str) -> PromptTemplateSpec | None:
        same = (each for each in found if each.name == name and _namespace(each) == _namespace(document))
        return next((spec for spec in map(_template, same) if spec and spec.version == version), None)

    return includes.expand(spec, lookup, document.name)


def _template(document: Document) -> PromptTemplateSpec | None:
    try:
        return PromptTemplateSpec.model_validate(
            admission.Checker(crd.PROMPT_TEMPLATE).stored_spec(document.content)
        )
    except ValidationError:
        return None  # it has a finding of its own


def _namespace(document: Document) -> str:
    metadata = document.content.get("metadata")
    return str(metadata.get("namespace") or "") if isinstance(metadata, Mapping) else ""


def _parts(path: str) -> list[str | int]:
    return [int(part) if part.isdecimal() else part for part in re.findall(r"[^.\[\]]+", path)]


def _finding(document: Document, path: Sequence[str | int], reason: Reason, message: str) -> Finding:
    place = document.place(path)
    return Finding(
        document.file,
        place.line,
        place.column,
        document.kind,
        document.name,
        admission.written(path),
        reason.value,
        message,
    )


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
        tell(each.text())
    if not findings:
        print(f"{documents_read} resource{'' if documents_read == 1 else 's'} valid")
