# SPDX-License-Identifier: Apache-2.0
"""What `lateen render` is given: a prompt out of a file or the cluster, values, and what a gateway would inject."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from lateen_api import admission, crd, names
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts.values import typed
from lateen_api.rendering import InvalidVariable
from lateen_cli import documents, kept, prompt_history, validate
from lateen_cli.documents import Document
from lateen_cli.kept import Kind
from lateen_cli.state import Unusable


@dataclass(frozen=True)
class Prompt:
    """A prompt with everything that it includes in its place."""

    spec: PromptTemplateSpec
    id: str = ""
    """What clients call it; empty where it is no cluster's."""


def is_of_cluster(source: str) -> bool:
    """Whether `source` is `pt/NAME`."""
    return source.lower().startswith(tuple(f"{word}/" for word in Kind.PROMPT.words))


def of_file(name: str, version: str | None) -> Prompt:
    """The one PromptTemplate of a file that no other of it includes, or the one of that version.

    Raises Unusable, or includes.IncludeError where something that it includes is not in the file.
    """
    found = [each for each in documents.read(name) if each.kind == "PromptTemplate"]
    inner = {target for each in found for target in _included(each)}
    matching = [
        each for each in found if _version(each) == version or (version is None and _named(each) not in inner)
    ]
    if len(matching) != 1:
        listed = ", ".join(":".join(_named(each)) for each in found) or "none"
        raise Unusable(
            f"{name} must hold one PromptTemplate that no other of it includes (of the version that is"
            f" asked for); it holds: {listed}."
        )
    checker = admission.Checker(crd.PROMPT_TEMPLATE)
    refused = f"{name} is refused; lateen validate says where"
    if checker.problems(matching[0].content):
        raise Unusable(f"{refused}.")
    spec = _read(checker.stored_spec(matching[0].content), refused)
    return Prompt(validate.expanded(matching[0], spec, found))


async def of_cluster(
    source: str, version: str | None, namespace: str | None, state_dir: Path | None
) -> Prompt:
    """The live revision of `pt/NAME`, or the one of that version; raises Unusable."""
    wanted = kept.target(source, Kind.PROMPT)
    found = await kept.load(kept.cluster(state_dir, os.environ), wanted, namespace)
    live = (found.resource.get("status") or {}).get("revision") or "(live)"
    data = prompt_history.find(found, version or live).data
    spec = _read(data.get("expanded") or data.get("spec"), f"{source} was kept by another version of lateen")
    return Prompt(spec, names.client_id(found.resource["metadata"]["namespace"], wanted.name))


def assignments(option: str, texts: Iterable[str] | None) -> dict[str, str]:
    """`NAME=VALUE` and `NAME=@FILE` as a mapping; Unusable for anything else."""
    return dict(_assignment(option, text) for text in texts or ())


def passages(spec: PromptTemplateSpec, texts: Sequence[str] | None) -> list[str]:
    """What retrieval would find: each text, or the content of each `@FILE`.

    Raises Unusable where that can't be read, or the prompt has no place for it.
    """
    if texts and not any(each.from_ == "retrieval" for each in spec.variables):
        raise Unusable("--retrieved: no variable of this prompt is from: retrieval.")
    return [_content("--retrieved", text) for text in texts or ()]


def moment(text: str | None) -> datetime:
    """The time that `--now` names, by default this one; Unusable where it is none or has no zone."""
    if text is None:
        return datetime.now(UTC)
    try:
        found = datetime.fromisoformat(text)
    except ValueError as error:
        raise Unusable(f"--now {text!r} is not a time such as 2026-01-31T12:00:00Z.") from error
    if found.tzinfo is None:
        raise Unusable(f"--now {text!r} needs a time zone, such as 2026-01-31T12:00:00Z.")
    return found


def values(
    spec: PromptTemplateSpec, texts: Mapping[str, str]
) -> tuple[dict[str, Any], list[InvalidVariable]]:
    """What a caller would send for `texts`, a variable's example where there is none; and what is of a wrong type."""
    declared = {variable.name: variable for variable in spec.variables}
    examples = {
        each.name: each.example
        for each in spec.variables
        if each.from_ == "request" and each.example is not None and each.default is None
    }
    found: dict[str, Any] = {}
    wrong: list[InvalidVariable] = []
    for name, text in {**examples, **texts}.items():
        try:
            found[name] = typed(declared[name], text) if name in declared else text
        except InvalidVariable as error:
            wrong.append(InvalidVariable(name, f"variable {name!r}: {error}"))
    return found, wrong


def _assignment(option: str, text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Unusable(f"{option} {text!r} is not NAME=VALUE or NAME=@FILE.")
    return name, _content(f"{option} {name}", value)


def _content(option: str, text: str) -> str:
    if not text.startswith("@"):
        return text
    try:
        with Path(text[1:]).open("rb") as file:
            content = file.read(documents.MAX_BYTES + 1)
        if len(content) > documents.MAX_BYTES:
            raise Unusable(f"{option}: {text[1:]} is larger than {documents.MAX_BYTES // 2**20} MiB.")
        return content.decode()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"{option}: {text[1:]} can't be read: {error}") from error


def _spec(document: Document) -> Mapping[str, Any]:
    spec = document.content.get("spec")
    return spec if isinstance(spec, Mapping) else {}


def _version(document: Document) -> str:
    return str(_spec(document).get("version") or "")


def _named(document: Document) -> tuple[str, str]:
    return document.name, _version(document)


def _included(document: Document) -> list[tuple[str, str]]:
    messages = _spec(document).get("messages")
    items = [each.get("include") for each in messages or () if isinstance(each, Mapping)]
    return [(str(item.get("name")), str(item.get("version"))) for item in items if isinstance(item, Mapping)]


def _read(content: object, otherwise: str) -> PromptTemplateSpec:
    try:
        return PromptTemplateSpec.model_validate(content)
    except ValidationError as error:
        raise Unusable(f"{otherwise}.") from error
