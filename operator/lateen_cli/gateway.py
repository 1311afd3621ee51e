# SPDX-License-Identifier: Apache-2.0
"""Asking a gateway what a model would read of a prompt. The standard library's client: nothing else needs one here."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lateen_cli import environment
from lateen_cli.state import StateDir, Unusable

TIMEOUT = 150.0
"""Seconds an answer may take: a model that is scaled to zero starts first."""

_MAX_ANSWER = 64 * 2**20


class RefusedRequest(Exception):
    """The gateway refuses what was asked; the message is its own.

    Attributes:
        param: The field that is wrong; empty where it names none.

    """

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True)
class Gateway:
    """Where a gateway is and with which key it is asked."""

    url: str
    """Up to `/v1`, as OpenAI's clients take it."""
    key: str = field(repr=False)

    def rendering(self, prompt: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a dry run of a prompt. Raises RefusedRequest, or Unusable where there is no answer to use."""
        return self._answer(f"/prompts/{prompt}/render", body)

    def counted(self, model: str, messages: Sequence[Mapping[str, Any]]) -> int:
        """Tokens of messages as a model reads them. It is asked for an answer of one token, whose usage has the number.

        Raises RefusedRequest, also where they are longer than the model reads, or Unusable where there is no answer to use.
        """
        body = {"model": model, "messages": list(messages), "max_completion_tokens": 1}
        usage = self._answer("/chat/completions", body).get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        if not isinstance(tokens, int):
            raise Unusable(f"The gateway at {self.url} does not say how many tokens the prompt has.")
        return tokens

    def _answer(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        try:
            status, content = self._post(path, json.dumps(body))
            answer = json.loads(content)
        except (OSError, HTTPException, ValueError) as error:
            raise Unusable(f"The gateway at {self.url} gives no answer to use: {error}") from error
        if status == 200 and isinstance(answer, dict):
            return answer
        problem = answer.get("error") if isinstance(answer, dict) else None
        told = problem if isinstance(problem, dict) else {}
        message = str(told.get("message") or f"status {status}")
        if status == 400:
            raise RefusedRequest(str(told.get("param") or ""), message)
        raise Unusable(f"The gateway at {self.url}: {message}")

    def _post(self, path: str, body: str) -> tuple[int, bytes]:
        place = urlsplit(self.url)
        kind = {"http": HTTPConnection, "https": HTTPSConnection}.get(place.scheme)
        if kind is None or not place.hostname:
            raise ValueError("its address is no http:// or https:// one")
        connection = kind(place.hostname, place.port, timeout=TIMEOUT)
        try:
            headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
            connection.request("POST", place.path.rstrip("/") + path, body.encode(), headers)
            answer = connection.getresponse()
            return answer.status, answer.read(_MAX_ANSWER)
        finally:
            connection.close()


def find(state_dir: Path | None, variables: Mapping[str, str]) -> Gateway:
    """The gateway of the stack that is named, else of the environment (`lateen env`), else of the default stack.

    Where KUBECONFIG names a cluster, only its user knows its gateway. Raises Unusable.
    """
    if state_dir is None and variables.get("OPENAI_BASE_URL"):
        return Gateway(variables["OPENAI_BASE_URL"], variables.get("OPENAI_API_KEY", ""))
    state = StateDir.at(state_dir) if state_dir else StateDir.at_default()
    stack = state.stack() if state_dir is not None or "KUBECONFIG" not in variables else None
    if stack is None:
        raise Unusable("There is no gateway to ask: set OPENAI_BASE_URL and OPENAI_API_KEY, or --state-dir.")
    client = environment.variables(state, stack)
    return Gateway(client["OPENAI_BASE_URL"], client["OPENAI_API_KEY"])
