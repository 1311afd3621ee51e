# SPDX-License-Identifier: Apache-2.0
"""`lateen render`: the messages a prompt becomes with given variables, from a file or from the cluster."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from lateen_api import rendering
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompt_variables import Variable
from lateen_api.rendering import RenderedMessage, Value
from lateen_cli import documents, kept, prompt_history
from lateen_cli.kept import Kind
from lateen_cli.revisions import Namespace, State
from lateen_cli.state import Unusable
from lateen_cli.validate import Output

_TROUBLE = 2


def render(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE|pt/NAME", help="A manifest, - for standard input, or what is in the cluster."
        ),
    ],
    var: Annotated[
        list[str] | None,
        typer.Option("--var", metavar="NAME=VALUE", help="A variable; NAME=@FILE reads its value."),
    ] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Of pt/NAME. Default: the live one.")
    ] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="text or json")] = Output.TEXT,
    namespace: Namespace = None,
    state_dir: State = None,
) -> None:
    """Print the messages that a prompt becomes, and how many characters they have.

    A variable's example stands in where none is given; what retrieval would find is empty. The exit status is 0, 1 where
    the prompt or a variable is refused, 2 where nothing can be read.
    """
    try:
        if source.lower().startswith(tuple(f"{word}/" for word in Kind.PROMPT.words)):
            spec = asyncio.run(_of_cluster(source, version, namespace, state_dir))
        else:
            spec = _of_file(source, version)
        texts = dict(_assignment(text) for text in var or ())
    except Unusable as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(_TROUBLE) from error
    try:
        rendering.check(spec)
        messages = rendering.render(spec, values(spec, texts))
    except (rendering.InvalidTemplate, rendering.InvalidVariable) as error:
        _tell_refusal(error, output)
        raise typer.Exit(1) from error
    _tell(spec, messages, output)


def values(spec: PromptTemplateSpec, texts: Mapping[str, str]) -> dict[str, Value]:
    """What a caller would send for `texts`; raises rendering.InvalidVariable for what is not of the variable's type."""
    declared = {variable.name: variable for variable in spec.variables}
    examples = {
        each.name: each.example
        for each in spec.variables
        if each.from_ == "request" and each.example is not None and each.default is None
    }
    return {
        name: _typed(declared[name], text) if name in declared else text
        for name, text in {**examples, **texts}.items()
    }


def _typed(variable: Variable, text: str) -> Value:
    if variable.type not in ("integer", "number", "boolean", "list", "object"):
        return text
    try:
        value: Value = json.loads(text)
    except ValueError as error:
        message = f"{text!r} is not of type {variable.type}"
        raise rendering.InvalidVariable(variable.name, f"variable {variable.name!r}: {message}") from error
    return value


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise Unusable(f"--var {text!r} is not NAME=VALUE or NAME=@FILE.")
    if not value.startswith("@"):
        return name, value
    try:
        return name, Path(value[1:]).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise Unusable(f"--var {name}: {value[1:]} can't be read: {error}") from error


def _of_file(name: str, version: str | None) -> PromptTemplateSpec:
    found = [each for each in documents.read(name) if each.kind == "PromptTemplate"]
    matching = [each for each in found if version in (None, (each.content.get("spec") or {}).get("version"))]
    if len(matching) != 1:
        listed = ", ".join(each.name for each in found) or "none"
        raise Unusable(
            f"{name} must hold one PromptTemplate (of the version that is asked for); it holds: {listed}."
        )
    return _read(matching[0].content.get("spec"), f"{name} is refused; lateen validate says where")


async def _of_cluster(
    source: str, version: str | None, namespace: str | None, state_dir: Path | None
) -> PromptTemplateSpec:
    wanted = kept.target(source, Kind.PROMPT)
    found = await kept.load(kept.cluster(state_dir, os.environ), wanted, namespace)
    live = (found.resource.get("status") or {}).get("revision") or "(live)"
    data = prompt_history.find(found, version or live).data
    return _read(data.get("expanded") or data.get("spec"), f"{source} was kept by another version of lateen")


def _read(content: object, otherwise: str) -> PromptTemplateSpec:
    try:
        return PromptTemplateSpec.model_validate(content)
    except ValidationError as error:
        raise Unusable(f"{otherwise}.") from error


def _tell_refusal(error: rendering.InvalidTemplate | rendering.InvalidVariable, output: Output) -> None:
    variable = error.variable if isinstance(error, rendering.InvalidVariable) else ""
    if output is Output.JSON:
        print(
            json.dumps(
                {"messages": [], "violations": [{"variable": variable, "message": str(error)}]}, indent=2
            )
        )
    else:
        typer.echo(str(error), err=True)


def _tell(spec: PromptTemplateSpec, messages: Sequence[RenderedMessage], output: Output) -> None:
    characters = sum(len(message.content) for message in messages)
    if output is Output.JSON:
        result: dict[str, Any] = {
            "version": spec.version,
            "messages": [asdict(message) for message in messages],
            "characters": characters,
            "violations": [],
        }
        print(json.dumps(result, indent=2, ensure_ascii=False))
        return
    for message in messages:
        print(f"[{message.role}]\n{message.content}\n")
    print(f"{len(messages)} messages, {characters} characters")
