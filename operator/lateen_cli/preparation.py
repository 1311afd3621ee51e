# SPDX-License-Identifier: Apache-2.0
"""From a state directory to everything a start needs: ports, secrets, files, the list of parts.

The supervisor's process calls `prepare` once, under the lock.
"""

import json
import os
from pathlib import Path
from socket import socket

from lateen_cli import credentials, ports, tools
from lateen_cli.credentials import Pki
from lateen_cli.parts import etcd, kubernetes, ray, reconciler, weaviate
from lateen_cli.parts.part import Part, Site
from lateen_cli.state import Stack, StateDir, write


def prepare(state: StateDir) -> tuple[Site, socket]:
    """The site of this start, written down, and what holds its ports; Unusable says why not."""
    programs = tools.locate()
    tools.require_ray()
    haproxy = tools.haproxy()
    state.create()
    previous = state.stack()
    chosen, guard = ports.choose(previous.ports if previous else None)
    stack = Stack(ports=chosen, secrets=previous.secrets if previous else credentials.generate())
    write(state.stack_file, stack.model_dump_json(indent=2))
    site = Site(
        state=state,
        ports=stack.ports,
        secrets=stack.secrets,
        pki=Pki(state.pki),
        tools=programs,
        cache=tools.cache_folder(os.environ),
        cores=os.cpu_count() or 1,
        inherited=dict(os.environ),
    )
    _write_identities(site)
    _write_programs(site, haproxy)
    return site, guard


def parts(site: Site) -> tuple[Part, ...]:
    """All parts in the order of their start; a part ends before those that stand before it."""
    return (
        etcd.describe(site),
        weaviate.describe(site),
        ray.describe(site),
        kubernetes.apiserver(site),
        kubernetes.controller_manager(site),
        reconciler.describe(site),
    )


def _write_identities(site: Site) -> None:
    if credentials.due(site.pki):
        for path, content in credentials.certificates(site.pki).items():
            write(path, content)
    write(site.pki.folder / "tokens.csv", credentials.token_file(site.secrets))
    server = f"https://127.0.0.1:{site.ports.apiserver}"
    for path, token in (
        (site.state.kubeconfig, site.secrets.admin_token),
        (site.pki.folder / "operator.kubeconfig", site.secrets.operator_token),
        (site.pki.folder / "controller-manager.kubeconfig", site.secrets.controller_manager_token),
    ):
        write(path, json.dumps(credentials.kubeconfig(server, site.pki.authority, token), indent=2))


def _write_programs(site: Site, haproxy: Path) -> None:
    write(ray.wrapper_path(site.state.root), ray.wrapper(haproxy), mode=0o700)
    for name in ("kubectl", *tools.OPTIONAL):
        link = site.state.programs / name
        link.unlink(missing_ok=True)
        if name in site.tools:
            link.symlink_to(site.tools[name])
