# SPDX-License-Identifier: Apache-2.0
"""`lateen render`: the messages a prompt becomes with given variables, from a file or from the cluster."""

import asyncio
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import typer

from lateen_api import rendering
from lateen_api.prompts.includes import IncludeError
from lateen_api.rendering import Injection
from lateen_cli import gateway, render_input
from lateen_cli import render_options as options
from lateen_cli.render_input import Prompt
from lateen_cli.revisions import Namespace, State
from lateen_cli.state import Unusable
from lateen_cli.terminal import complain, tell, tell_json
from lateen_cli.validate import Output

_TROUBLE = 2


@dataclass(frozen=True)
class Refusal:
    """One thing for which a request would be refused."""

    path: str
    """Field of the spec; empty where a value is wrong."""
    variable: str
    """Name of the variable; empty where the prompt is wrong, or the values together."""
    message: str


class _Refused(Exception):
    """A request with these values would be refused."""

    def __init__(self, refusals: Sequence[Refusal]) -> None:
        super().__init__(f"{len(refusals)} refusals")
        self.refusals = refusals


def render(
    source: options.Source,
    var: options.Variables = None,
    version: options.Version = None,
    model: options.Model = None,
    now: options.Now = None,
    name: options.Name = "",
    tenant: options.Tenant = "",
    metadata: options.Metadata = None,
    retrieved: options.Retrieved = None,
    output: options.Printed = Output.TEXT,
    namespace: Namespace = None,
    state_dir: State = None,
) -> None:
    """Print the messages that a prompt becomes and how long they are, or everything for which it would be refused.

    A variable's example stands in where none is given. What a file includes must be in the file. With --model the gateway
    is asked. Of pt/NAME it takes the time and the caller's name itself, finds no passages and cuts; the messages of a file
    are made here, and the model answers them with one token, so that its count of them is known. The exit status is 0, 1
    where the prompt or a value is refused, 2 where nothing can be read.
    """
    try:
        if model is not None:
            _check_asked(source, now, name, tenant, retrieved)
        prompt = _prompt(source, version, namespace, state_dir)
        injection = Injection(
            now=render_input.moment(now),
            name=name,
            tenant=tenant,
            metadata=render_input.assignments("--metadata", metadata),
            retrieved=render_input.passages(prompt.spec, retrieved),
        )
        values = _checked(prompt, render_input.assignments("--var", var), injection)
        if model is None:
            result = _rendered(prompt, values, injection)
        elif not prompt.id:
            result = _counted(gateway.find(state_dir, os.environ), model, prompt, values, injection)
        else:
            target = gateway.find(state_dir, os.environ)
            body = {"model": model, "version": version, "variables": values, "metadata": injection.metadata}
            result = _asked(target, prompt, body)
    except Unusable as error:
        complain(str(error))
        raise typer.Exit(_TROUBLE) from error
    except _Refused as error:
        _tell_refusals(error.refusals, output)
        raise typer.Exit(1) from error
    _tell(result, output)


def _check_asked(source: str, now: str | None, name: str, tenant: str, retrieved: options.Texts) -> None:
    if not render_input.is_of_cluster(source):
        return
    given = {"--now": now, "--name": name, "--tenant": tenant, "--retrieved": retrieved}
    injected = [option for option, value in given.items() if value]
    if injected:
        raise Unusable(
            f"{', '.join(injected)} can't go with pt/NAME and --model: the gateway injects its own."
        )


def _prompt(source: str, version: str | None, namespace: str | None, state_dir: Path | None) -> Prompt:
    if render_input.is_of_cluster(source):
        return asyncio.run(render_input.of_cluster(source, version, namespace, state_dir))
    try:
        return render_input.of_file(source, version)
    except IncludeError as error:
        raise _Refused([Refusal("spec.messages", "", str(error))]) from error


def _checked(prompt: Prompt, texts: dict[str, str], injection: Injection) -> dict[str, Any]:
    """What a caller would send. Raises _Refused with everything that is wrong with the prompt, else with the values."""
    violations = rendering.violations(prompt.spec)
    if violations:
        raise _Refused([Refusal(f"spec.{each.path}", "", str(each)) for each in violations])
    values, wrong = render_input.values(prompt.spec, texts)
    mistyped = {each.variable for each in wrong}
    others = rendering.CompiledPrompt(prompt.spec).refusals(values, injection)
    wrong += [each for each in others if each.variable not in mistyped]
    if wrong:
        raise _Refused([Refusal("", each.variable, str(each)) for each in wrong])
    return values


def _rendered(prompt: Prompt, values: dict[str, Any], injection: Injection) -> dict[str, Any]:
    messages = rendering.CompiledPrompt(prompt.spec).render(values, injection)
    return _result(prompt.spec.version, [asdict(message) for message in messages])


def _asked(target: gateway.Gateway, prompt: Prompt, body: dict[str, Any]) -> dict[str, Any]:
    try:
        answer = target.rendering(prompt.id, {name: value for name, value in body.items() if value})
    except gateway.RefusedRequest as error:
        variable = error.param.removeprefix("variables.") if error.param.startswith("variables.") else ""
        raise _Refused([Refusal("", variable, str(error))]) from error
    if not {"version", "messages", "tokens", "cut"} <= answer.keys():
        raise Unusable(f"The gateway at {target.url} is of another version: it counts no tokens.")
    counted = {"model": body["model"], "tokens": answer["tokens"], "cut": answer["cut"]}
    return _result(answer["version"], answer["messages"]) | counted


def _counted(
    target: gateway.Gateway, model: str, prompt: Prompt, values: dict[str, Any], injection: Injection
) -> dict[str, Any]:
    result = _rendered(prompt, values, injection)
    try:
        tokens = target.counted(model, result["messages"])
    except gateway.RefusedRequest as error:
        raise _Refused([Refusal("", "", str(error))]) from error
    window = prompt.spec.context_window
    most = window.max_prompt_tokens if window else None
    if window and most is not None and tokens > most and window.overflow == "Refuse":
        message = f"the prompt is {tokens} tokens; contextWindow.maxPromptTokens is {most}"
        raise _Refused([Refusal("spec.contextWindow.maxPromptTokens", "", message)])
    return result | {"model": model, "tokens": tokens, "maxPromptTokens": most}


def _result(version: str, messages: Sequence[dict[str, Any]]) -> dict[str, Any]:
    characters = sum(len(message["content"]) for message in messages)
    return {"version": version, "messages": messages, "characters": characters, "violations": []}


def _tell_refusals(refusals: Sequence[Refusal], output: Output) -> None:
    if output is Output.JSON:
        found = {"messages": [], "violations": [asdict(each) for each in refusals]}
        tell_json(found)
        return
    for each in refusals:
        complain(each.message)


def _tell(result: dict[str, Any], output: Output) -> None:
    if output is Output.JSON:
        tell_json(result)
        return
    for message in result["messages"]:
        tell(f"[{message['role']}]\n{message['content']}\n")
    tokens = f", {result['tokens']} tokens for {result['model']}" if "tokens" in result else ""
    tell(f"{len(result['messages'])} messages, {result['characters']} characters{tokens}")
    most = result.get("maxPromptTokens")
    if most is not None and result["tokens"] > most:
        tell(f"longer than contextWindow.maxPromptTokens ({most}): it is cut; of pt/NAME you see how")
    for cut in result.get("cut", ()):
        tell(f"cut: {cut['what']} from {cut['before']} to {cut['after']} {cut['unit']}")
