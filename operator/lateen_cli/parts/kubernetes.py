# SPDX-License-Identifier: Apache-2.0
"""kube-apiserver and the few controllers that make deletion, namespaces and service accounts work."""

from lateen_cli.credentials import SERVICE_NETWORK
from lateen_cli.parts.part import Part, Site
from lateen_cli.probes import Probe

CONTROLLERS = (
    "garbage-collector-controller",
    "namespace-controller",
    "serviceaccount-controller",
    "serviceaccount-token-controller",
    "root-ca-certificate-publisher-controller",
    "clusterrole-aggregation-controller",
)


def apiserver(site: Site) -> Part:
    """The API server: RBAC, bearer tokens from a file, no anonymous requests at all."""
    certificate, key = site.pki.server
    client_certificate, client_key = site.pki.client
    public, private = site.pki.service_accounts
    command = (
        str(site.tools["kube-apiserver"]),
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--secure-port={site.ports.apiserver}",
        f"--cert-dir={site.pki.folder}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--etcd-servers=https://127.0.0.1:{site.ports.etcd}",
        f"--etcd-cafile={site.pki.authority}",
        f"--etcd-certfile={client_certificate}",
        f"--etcd-keyfile={client_key}",
        "--anonymous-auth=false",
        "--authorization-mode=RBAC",
        f"--token-auth-file={site.pki.folder / 'tokens.csv'}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={public}",
        f"--service-account-signing-key-file={private}",
        f"--service-cluster-ip-range={SERVICE_NETWORK}",
        "--profiling=false",
    )
    headers = {"Authorization": f"Bearer {site.secrets.admin_token}"}
    probe = Probe(site.ports.apiserver, "/readyz", headers, site.pki.authority)
    ports = {"https": site.ports.apiserver}
    return Part("apiserver", command, site.bare(), probe, ports, needs=frozenset({"etcd"}))


def controller_manager(site: Site) -> Part:
    """The controllers, each with its own service account."""
    certificate, key = site.pki.server
    config = site.pki.folder / "controller-manager.kubeconfig"
    command = (
        str(site.tools["kube-controller-manager"]),
        "--bind-address=127.0.0.1",
        f"--secure-port={site.ports.controller_manager}",
        f"--tls-cert-file={certificate}",
        f"--tls-private-key-file={key}",
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        f"--controllers={','.join(CONTROLLERS)}",
        "--use-service-account-credentials",
        f"--service-account-private-key-file={site.pki.service_accounts[1]}",
        f"--root-ca-file={site.pki.authority}",
        "--leader-elect=false",
        "--profiling=false",
    )
    probe = Probe(site.ports.controller_manager, "/healthz", authority=site.pki.authority)
    ports = {"https": site.ports.controller_manager}
    return Part("controllers", command, site.bare(), probe, ports, needs=frozenset({"apiserver"}))
