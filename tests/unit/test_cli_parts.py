# SPDX-License-Identifier: Apache-2.0
"""Command lines and environments of the parts of a local stack."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from lateen_cli import credentials, loopback, preparation, supervisor
from lateen_cli.credentials import Pki
from lateen_cli.parts import ray, reconciler
from lateen_cli.parts.part import Part, Site
from lateen_cli.ports import BLOCK, BLOCKS, layout
from lateen_cli.state import MARKER, StateDir

USER = {
    "PATH": "/usr/bin",
    "HOME": "/home/user",
    "KUBECONFIG": "/home/user/.kube/config",
    "RAY_ADDRESS": "elsewhere",
    "ETCD_NAME": "mine",
    "LATEEN_VOLUMES": "/mine",
    "LATEEN_OPERATOR_RESYNC_SECONDS": "1",
    "LATEEN_SOURCE_HOSTS": "[]",
    "HF_HOME": "/hub",
    "no_proxy": "example.org",
    "PYTHONDONTWRITEBYTECODE": "1",
}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """A stack of a user who also has other things running."""
    state = StateDir.at(tmp_path)
    return Site(
        state=state,
        ports=layout(BLOCKS[0]),
        secrets=credentials.generate(),
        pki=Pki(state.pki),
        tools={
            name: Path("/tools") / name
            for name in ("etcd", "kube-apiserver", "kube-controller-manager", "weaviate")
        },
        cache=Path("/cache"),
        cores=2,
        inherited=USER,
    )


def test_no_secret_is_in_a_command_line(site: Site) -> None:
    """Other users of the machine can read command lines."""
    words = [word for part in preparation.parts(site) for word in part.command]
    assert not [word for word in words for secret in site.secrets.model_dump().values() if secret in word]


def test_no_secret_is_in_a_parts_representation(site: Site) -> None:
    """A part that ends up in a log or a traceback shows no secret."""
    shown = " ".join(repr(part) for part in preparation.parts(site))
    assert not [secret for secret in site.secrets.model_dump().values() if secret in shown]


def test_every_process_carries_the_marker(site: Site) -> None:
    """Whatever a part starts can be found by the stack's id."""
    assert {part.environment[MARKER] for part in preparation.parts(site)} == {site.state.stack_id}


def test_every_port_in_a_command_line_is_of_the_block(site: Site) -> None:
    """No part falls back to a port that another stack may have."""
    block = range(BLOCKS[0], BLOCKS[0] + BLOCK)
    for part in preparation.parts(site):
        ports = [
            int(found)
            for word in part.command
            for found in re.findall(r"port[^=]*=(\d+)|127\.0\.0\.1:(\d+)", word)
            for found in found
            if found
        ]
        assert not [port for port in ports if port not in block], part.name


def test_everything_a_part_needs_exists(site: Site) -> None:
    """No part waits for something that never comes."""
    parts = preparation.parts(site)
    known = {part.name for part in parts} | {"resources"}
    assert {name for part in parts for name in part.needs} <= known


def test_a_users_settings_for_other_stacks_do_not_leak(site: Site) -> None:
    """Variables of the user's own Ray, etcd or cluster change nothing; what the user means for us does."""
    environment = site.environment()
    assert set(environment) & set(USER) == {
        "PATH",
        "HOME",
        "LATEEN_OPERATOR_RESYNC_SECONDS",
        "LATEEN_SOURCE_HOSTS",
        "HF_HOME",
        "no_proxy",
    }
    assert environment["no_proxy"] == "example.org,127.0.0.1,localhost"


def test_the_operators_addresses_win_over_the_users(site: Site) -> None:
    """A user may tune the operator of a local stack but not point it elsewhere by accident."""
    elsewhere = {**USER, "LATEEN_OPERATOR_RAY_URL": "http://elsewhere"}
    changed = Site(**{**vars(site), "inherited": elsewhere})
    assert reconciler.describe(changed).environment["LATEEN_OPERATOR_RAY_URL"].startswith("http://127.0.0.1:")


@pytest.mark.parametrize(("cores", "logical"), [(1, 8), (2, 8), (4, 16), (64, 256)])
def test_ray_hands_out_more_cpus_than_there_are(cores: int, logical: int) -> None:
    """Several small models share the cores of a small machine."""
    assert ray.logical_cores(cores) == logical


def test_haproxys_sockets_fit_into_their_limit(site: Site) -> None:
    """Ray puts a node id of 56 characters into each path, and HAProxy refuses more than 97."""
    paths = [
        Path(site_value)
        for name, site_value in ray.describe(site).environment.items()
        if name.endswith("SOCKET_PATH")
    ]
    assert len(paths) == 2
    assert all(len(str(path.parent / ("n" * 56) / path.name)) <= 97 for path in paths)


@pytest.fixture
def haproxy(tmp_path: Path) -> Callable[[str], tuple[int, str]]:
    """The wrapper around a HAProxy that prints its configuration: exit status and output for a configuration."""
    program, config = tmp_path / "haproxy", tmp_path / "haproxy.cfg"
    program.write_text('#!/bin/sh\ncat "$3"\n')
    program.chmod(0o700)
    wrapper = tmp_path / "wrapper"
    wrapper.write_text(ray.wrapper(program))
    wrapper.chmod(0o700)

    def run(content: str) -> tuple[int, str]:
        config.write_text(content)
        command = [str(wrapper), "-db", "-f", str(config), "-sf", "1"]
        result = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
        return result.returncode, result.stdout

    return run


@pytest.mark.parametrize(
    ("line", "narrowed"),
    [
        ("    bind :21001", "    bind 127.0.0.1:21001"),
        ("  bind *:21002", "  bind 127.0.0.1:21002"),
        ("    bind 127.0.0.1:21003", "    bind 127.0.0.1:21003"),
        (
            "    stats socket /x/a.sock mode 666 level admin",
            "    stats socket /x/a.sock mode 600 level admin",
        ),
        ("    http-request return status 200", "    http-request return status 200"),
    ],
)
def test_haproxys_pages_are_narrowed(
    haproxy: Callable[[str], tuple[int, str]], line: str, narrowed: str
) -> None:
    """What Ray opens to every interface or user is on loopback and the owner's; the rest is as Ray wrote it."""
    assert haproxy(f"global\n{line}\n") == (0, f"global\n{narrowed}\n")


@pytest.mark.parametrize("line", ["bind 0.0.0.0:1", "bind [::]:1", "bind *:name", "bind :::1"])
def test_a_line_that_stays_open_ends_the_start(haproxy: Callable[[str], tuple[int, str]], line: str) -> None:
    """If Ray's configuration changes its form, HAProxy does not start rather than listen everywhere."""
    assert haproxy(f"  {line}\n") == (1, "")


@pytest.mark.parametrize(
    ("address", "here"),
    [("[::]:0", "127.0.0.1:0"), ("127.0.0.1:5", "127.0.0.1:5"), ("10.0.0.1:5", "10.0.0.1:5")],
)
def test_grpc_ports_of_replicas_are_on_loopback(address: str, here: str) -> None:
    """Only "every interface" is replaced."""
    assert loopback.here(address) == here


def test_parts_end_after_those_that_need_them(site: Site) -> None:
    """A stop never takes away what a part that still runs depends on."""
    order = [[part.name for part in round_] for round_ in supervisor.rounds(preparation.parts(site))]
    assert order[0] == ["operator"]
    assert order[-1] == ["etcd"]
    ended: set[str] = set()
    by_name: dict[str, Part] = {part.name: part for part in preparation.parts(site)}
    for names in order:
        for name in names:
            needing = {other.name for other in by_name.values() if name in other.needs}
            assert needing <= ended
        ended |= set(names)
    assert ended == set(by_name)


def test_secrets_that_the_operator_writes_are_where_rays_processes_look(site: Site) -> None:
    """In a folder of the state directory, which only the user can enter."""
    folder = ray.describe(site).environment["LATEEN_SECRETS"]
    assert folder == reconciler.describe(site).environment["LATEEN_OPERATOR_SECRETS_FOLDER"]
    assert Path(folder).parent == site.state.root
