# SPDX-License-Identifier: Apache-2.0
"""`lateen render --model`: what is asked of a gateway, and what its answers mean."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from lateen_cli import gateway
from lateen_cli.main import application
from lateen_cli.state import Unusable
from lateen_serving.gateway.requests.chat import ChatRequest
from lateen_serving.gateway.requests.prompts import RenderRequest
from unit import cli_kubectl
from unit.test_cli_prompt_history import ITEMS, TWO, template

MESSAGES = [{"role": "user", "content": "Tell me\nall of tea."}]
CUT = {"what": "topic", "unit": "characters", "before": 90, "after": 3}


class Answering(HTTPServer):
    """A gateway that gives one answer and remembers what it was asked."""

    status = 200
    answer: Any = None
    asked: tuple[str, str, dict[str, Any]] | None = None


class _Handler(BaseHTTPRequestHandler):
    server: Answering

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked = (self.path, self.headers["Authorization"], body)
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(json.dumps(self.server.answer).encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Answering]:
    """It listens on loopback."""
    found = Answering(("127.0.0.1", 0), _Handler)
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield found
    found.shutdown()
    thread.join()
    found.server_close()


@pytest.fixture(autouse=True)
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Answering) -> None:
    """A cluster with PromptTemplate team/tell, and the server as its gateway."""
    cli_kubectl.install(tmp_path, monkeypatch, template(TWO, TWO), ITEMS)
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{server.server_port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "ltn-key")


def run(*arguments: str) -> tuple[int, str]:
    """Exit status and output of `lateen render pt/tell --model small --var topic=tea`."""
    words = ["render", "pt/tell", "--model", "small", "--var", "topic=tea", *arguments]
    shown = CliRunner().invoke(application, words)
    return shown.exit_code, shown.output


def test_a_model_counts_the_tokens(server: Answering) -> None:
    """The gateway is asked as its API says, and what gave way is told."""
    server.answer = {"version": "1.2", "messages": MESSAGES, "tokens": 11, "cut": [CUT]}
    code, text = run("--metadata", "t=42", "--version", "1.2")
    assert (code, text) == (
        0,
        (
            "[user]\nTell me\nall of tea.\n\n1 messages, 19 characters, 11 tokens for small\n"
            "cut: topic from 90 to 3 characters\n"
        ),
    )
    assert server.asked is not None
    path, key, body = server.asked
    assert (path, key) == ("/v1/prompts/team.tell/render", "Bearer ltn-key")
    request = RenderRequest.model_validate(body)
    assert (request.model, request.version, request.variables) == ("small", "1.2", {"topic": "tea"})
    assert request.metadata == {"t": "42"}
    shown = json.loads(run("-o", "json")[1])
    assert (shown["tokens"], shown["cut"], shown["model"]) == (11, [CUT], "small")


@pytest.mark.parametrize(
    ("status", "answer", "code", "words"),
    [
        (
            400,
            {"error": {"message": "Too long: 9 of 8.", "param": "variables.topic"}},
            1,
            "Too long: 9 of 8.",
        ),
        (404, {"error": {"message": "There is no model small."}}, 2, "There is no model small."),
        (500, [], 2, "status 500"),
        (200, {"messages": []}, 2, "of another version"),
        (200, [], 2, "status 200"),
    ],
)
def test_a_refusal_is_told_in_the_gateways_words(
    server: Answering, status: int, answer: Any, code: int, words: str
) -> None:
    """A refused value ends with 1, everything else with 2."""
    server.status, server.answer = status, answer
    found, text = run()
    assert (found, words in text) == (code, True)


FILE = """\
kind: PromptTemplate
apiVersion: lateen.dev/v1alpha1
metadata: {name: tell}
spec:
  version: "3"
  messages: [{role: system, content: "Today is {day}."}, {role: user, content: "Tell me of {topic}."}]
  variables: [{name: topic}, {name: day, from: clock}]
  contextWindow: {maxPromptTokens: 11, overflow: Truncate, priority: [topic]}
"""


def counted(tmp_path: Path, text: str = FILE) -> tuple[int, str]:
    """Exit status and output of `lateen render FILE --model small`."""
    (tmp_path / "a.yaml").write_text(text)
    options = ["--model", "small", "--var", "topic=tea", "--now", "2026-01-31T12:00:00Z"]
    shown = CliRunner().invoke(application, ["render", str(tmp_path / "a.yaml"), *options])
    return shown.exit_code, shown.output


def test_a_model_counts_the_tokens_of_a_file(server: Answering, tmp_path: Path) -> None:
    """Its messages are made here, and the usage of an answer of one token has their number."""
    server.answer = {"usage": {"prompt_tokens": 11}}
    code, text = counted(tmp_path)
    assert (code, text.splitlines()[-1]) == (0, "2 messages, 35 characters, 11 tokens for small")
    assert server.asked is not None
    path, key, body = server.asked
    assert (path, key) == ("/v1/chat/completions", "Bearer ltn-key")
    request = ChatRequest.model_validate(body)
    assert (request.model, request.max_completion_tokens) == ("small", 1)
    assert [message["content"] for message in body["messages"]] == ["Today is 2026-01-31.", "Tell me of tea."]


def test_a_file_that_is_too_long_is_told(server: Answering, tmp_path: Path) -> None:
    """What would be refused is; of what would be cut, that it would be."""
    server.answer = {"usage": {"prompt_tokens": 12}}
    code, text = counted(tmp_path)
    assert (code, "longer than contextWindow.maxPromptTokens (11): it is cut" in text) == (0, True)
    code, text = counted(tmp_path, FILE.replace("overflow: Truncate, priority: [topic]", "overflow: Refuse"))
    assert (code, text) == (1, "the prompt is 12 tokens; contextWindow.maxPromptTokens is 11\n")
    server.status, server.answer = 400, {"error": {"message": "12 tokens; 8 fit.", "param": "messages"}}
    assert counted(tmp_path) == (1, "12 tokens; 8 fit.\n")
    server.status, server.answer = 200, {"usage": None}
    assert counted(tmp_path)[0] == 2


def test_what_is_wrong_already_here_is_not_asked(server: Answering) -> None:
    """Neither are injected values, which the gateway has itself."""
    assert run("--var", "other=1")[0] == 1
    code, text = run("--now", "2026-01-31T12:00:00Z", "--tenant", "blue")
    assert (code, "--now, --tenant can't go with pt/NAME and --model" in text) == (2, True)
    assert server.asked is None


def test_the_gateway_is_the_one_of_the_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """That of the environment; never the default stack's where KUBECONFIG names another cluster."""
    given = {"OPENAI_BASE_URL": "https://a/v1", "OPENAI_API_KEY": "k", "KUBECONFIG": "/a"}
    assert gateway.find(None, given) == gateway.Gateway("https://a/v1", "k")
    for place, variables in ((None, {"KUBECONFIG": "/a"}), (tmp_path, given)):
        with pytest.raises(Unusable, match="set OPENAI_BASE_URL and OPENAI_API_KEY"):
            gateway.find(place, variables)
    monkeypatch.setenv("OPENAI_BASE_URL", "ftp://127.0.0.1/v1")
    code, text = run()
    assert (code, "no http:// or https:// one" in text) == (2, True)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    code, text = run()
    assert (code, "gives no answer to use" in text) == (2, True)
