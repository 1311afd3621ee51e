# SPDX-License-Identifier: Apache-2.0
"""etcd: the API server's store. TLS with client certificates, because any local user can reach loopback."""

from lateen_cli.parts.part import Part, Site
from lateen_cli.probes import Probe


def describe(site: Site) -> Part:
    """One member, whose data stays in the state directory."""
    client, peer = f"https://127.0.0.1:{site.ports.etcd}", f"https://127.0.0.1:{site.ports.etcd_peer}"
    certificate, key = site.pki.server
    trust = site.pki.authority
    command = (
        str(site.tools["etcd"]),
        "--name=lateen",
        f"--data-dir={site.volume('etcd')}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=lateen={peer}",
        f"--cert-file={certificate}",
        f"--key-file={key}",
        "--client-cert-auth",
        f"--trusted-ca-file={trust}",
        f"--peer-cert-file={certificate}",
        f"--peer-key-file={key}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={trust}",
        "--auto-compaction-retention=1h",
        "--log-level=warn",
    )
    probe = Probe(
        site.ports.etcd, "/health", authority=trust, certificate=site.pki.client, contains=b'"true"'
    )
    ports = {"client": site.ports.etcd, "peer": site.ports.etcd_peer}
    return Part("etcd", command, site.bare(), probe, ports)
