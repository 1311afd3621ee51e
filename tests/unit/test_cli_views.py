# SPDX-License-Identifier: Apache-2.0
"""What the command line prints: environment, status, events; and where it looks for programs."""

import io
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lateen_cli import credentials, environment, overview, tools
from lateen_cli.kubectl import base_objects, definition_names
from lateen_cli.overview import Overview, PartView
from lateen_cli.ports import BLOCKS, layout
from lateen_cli.screen import Event, JsonLines, Lines
from lateen_cli.state import Run, Stack, StateDir, Unusable, write
from lateen_cli.supervisor import tail


def stack() -> Stack:
    """What `stack.json` would hold."""
    return Stack(ports=layout(BLOCKS[0]), secrets=credentials.generate())


def test_env_survives_a_shell(tmp_path: Path) -> None:
    """`eval "$(lateen env)"` sets exact values, also where the state directory's name has quotes and spaces."""
    state = StateDir.at(tmp_path / "it's a dir; $HOME")
    described = stack()
    script = f'PATH=/usr/bin:/bin\n{environment.exports(state, described)}\nprintf "%s\\n" "$KUBECONFIG" "$OPENAI_BASE_URL" "$OPENAI_API_KEY" "$PATH"'
    shown = subprocess.run(["/bin/sh", "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [
        str(state.kubeconfig),
        f"http://127.0.0.1:{described.ports.gateway}/v1",
        described.secrets.api_key,
        f"{state.programs}:/usr/bin:/bin",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.4, "0s"), (59, "59s"), (61, "1m1s"), (3600, "1h0m"), (90061, "1d1h")],
)
def test_durations_show_two_units(seconds: float, shown: str) -> None:
    """An uptime is readable at a glance."""
    assert overview.duration(seconds) == shown


@pytest.mark.parametrize(("count", "shown"), [(0, "0 MiB"), (45 * 2**20, "45 MiB"), (3 * 2**29, "1.5 GiB")])
def test_memory_is_shown_in_binary_units(count: int, shown: str) -> None:
    """Memory is readable at a glance."""
    assert overview.size(count) == shown


@pytest.mark.parametrize(
    ("status", "ready", "reason"),
    [
        ({}, "Unknown", ""),
        ({"conditions": [{"type": "Reconciling", "status": "True"}]}, "Unknown", ""),
        ({"conditions": [{"type": "Ready", "status": "False", "reason": "Loading"}]}, "False", "Loading"),
    ],
)
def test_a_resource_shows_its_ready_condition(status: dict[str, Any], ready: str, reason: str) -> None:
    """A resource the operator has not looked at yet is Unknown, not an error."""
    item = {"kind": "RAGIndex", "metadata": {"name": "handbook", "namespace": "default"}, "status": status}
    view = overview.resource(item)
    assert (view.name, view.ready, view.reason) == ("handbook", ready, reason)


def test_status_shows_parts_and_resources() -> None:
    """The table names every part with its ports, every resource with its reason, and a problem in words."""
    part = PartView(
        name="etcd", state="ready", pid=7, memory=2**20, uptime=5, restarts=0, ports={"client": 2379}
    )
    item = {"kind": "RAGIndex", "metadata": {"name": "handbook"}, "status": {}}
    shown = Overview(
        state_dir="/s", health="ready", parts=(part,), resources=(overview.resource(item),), problem="refused"
    )
    console = Console(file=io.StringIO(), width=200)
    for piece in overview.tables(shown):
        console.print(piece)
    text = console.file.getvalue()  # type: ignore[attr-defined]  # a StringIO
    for word in ("/s: ready", "etcd", "client:2379", "handbook", "Unknown", "cannot be read: refused"):
        assert word in text


def test_a_stack_that_never_ran_is_down(tmp_path: Path) -> None:
    """Status of an empty directory is an answer, not an error."""
    assert overview.gather(StateDir.at(tmp_path)).health == "down"


def test_lines_show_a_failures_log() -> None:
    """Without a terminal a failure still comes with the part's last words."""
    out = io.StringIO()
    Lines(out).show(Event(kind="failed", part="etcd", text="ended", log=("first", "last")))
    assert out.getvalue().split("] ", 1)[1] == "etcd failed ended\n    first\n    last\n"


def test_events_cross_a_pipe_and_its_end_is_no_error() -> None:
    """A detached supervisor goes on when the terminal that started it is gone."""
    reading, writing = os.pipe()
    events = JsonLines(writing)
    event = Event(kind="ready", part="etcd")
    events.show(event)
    with os.fdopen(reading) as pipe:
        assert Event.model_validate_json(pipe.readline()) == event
    events.show(event)
    events.show(event)
    events.close()


def program(path: Path) -> Path:
    """An empty executable file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o700)
    return path


def test_the_newest_cached_program_wins(tmp_path: Path) -> None:
    """Versions are compared as numbers, and names that only begin alike are not mistaken."""
    for version in ("3.6.9", "3.6.16", "3.5.99"):
        program(tmp_path / f"etcd-{version}" / "etcd")
    program(tmp_path / "etcd-proxy-9.0.0" / "etcd")
    assert tools.newest(tmp_path, "etcd") == tmp_path / "etcd-3.6.16" / "etcd"


def test_a_named_folder_wins_over_the_cache(tmp_path: Path) -> None:
    """LATEEN_TOOLS is the user's word."""
    program(tmp_path / "lateen" / "bin" / "etcd-3.6.16" / "etcd")
    mine = program(tmp_path / "mine" / "etcd")
    settings = {"XDG_CACHE_HOME": str(tmp_path), "LATEEN_TOOLS": str(tmp_path / "mine"), "PATH": ""}
    assert tools.find("etcd", settings) == mine


def test_missing_programs_are_named_with_the_remedy(tmp_path: Path) -> None:
    """The message says everything a user needs to go on."""
    with pytest.raises(Unusable, match=r"etcd, kube-apiserver, .*python3 hack/tools"):
        tools.locate({"XDG_CACHE_HOME": str(tmp_path), "PATH": ""})


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    """A half-understood stack.json is refused with its path, never guessed at."""
    state = StateDir.at(tmp_path)
    write(state.stack_file, '{"version": 1}')
    with pytest.raises(Unusable, match=r"stack\.json"):
        state.stack()


def test_written_files_are_private_and_whole(tmp_path: Path) -> None:
    """Secrets are readable by their owner only, and no partial file stays behind."""
    state = StateDir.at(tmp_path)
    described = stack()
    write(state.stack_file, described.model_dump_json())
    assert state.stack() == described
    assert state.stack_file.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["stack.json"]


def test_only_one_supervisor_holds_a_stack(tmp_path: Path) -> None:
    """The second `lateen up` sees that the first is there."""
    state = StateDir.at(tmp_path)
    first = state.lock()
    assert first is not None
    assert state.lock() is None
    os.close(first)
    again = state.lock()
    assert again is not None
    os.close(again)


def test_stacks_have_ids_of_their_own(tmp_path: Path) -> None:
    """The id follows the real directory: the same through a link, another for another directory."""
    (tmp_path / "a").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "a")
    ids = [StateDir.at(tmp_path / name).stack_id for name in ("a", "link", "b")]
    assert ids[0] == ids[1] != ids[2]


def test_the_key_is_in_a_labelled_secret() -> None:
    """The operator finds client keys by label, in its namespace."""
    text = base_objects("ltn-secret")
    assert '"lateen.dev/api-key": "true"' in text
    assert '"key": "ltn-secret"' in text


def test_the_definitions_are_found() -> None:
    """The command applies every kind the repository defines."""
    assert {"modeldeployments.lateen.dev", "prompttemplates.lateen.dev", "ragindexes.lateen.dev"} <= set(
        definition_names()
    )


def test_a_logs_tail_is_its_last_lines(tmp_path: Path) -> None:
    """A failure shows the end of a log, however long and however odd its bytes."""
    log = tmp_path / "part.log"
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100)) + b"\xff end")
    assert tail(log, 2) == ["line 99", "\ufffd end"]


def test_run_file_of_a_dead_supervisor_reads_back(tmp_path: Path) -> None:
    """What a killed supervisor left is still understood by `lateen down`."""
    state = StateDir.at(tmp_path)
    content = {"phase": "ready", "supervisor": {"pid": 1, "created": 0.0}, "parts": {}}
    write(state.run_file, Run.model_validate(content).model_dump_json())
    found = state.run()
    assert found is not None
    assert found.phase == "ready"
    assert overview.gather(state).health == "down"
