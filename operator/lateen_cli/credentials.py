# SPDX-License-Identifier: Apache-2.0
"""The generated secrets of one stack: tokens, keys and a small certificate authority.

`main.py` generates them at the first start; nothing here is ever put into a process's arguments.
"""

import ipaddress
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

LIFETIME = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=30)

SERVICE_NETWORK = "10.96.0.0/16"
"""Cluster addresses of Services; nothing answers on them in a local stack."""


class Secrets(BaseModel):
    """Tokens and keys; each is generated with 256 bits of entropy."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    admin_token: str
    operator_token: str
    controller_manager_token: str
    ray_token: str
    weaviate_key: str
    weaviate_cluster_password: str
    api_key: str


def generate() -> Secrets:
    """Fresh secrets."""
    return Secrets(
        admin_token=secrets.token_urlsafe(32),
        operator_token=secrets.token_urlsafe(32),
        controller_manager_token=secrets.token_urlsafe(32),
        ray_token=secrets.token_hex(32),
        weaviate_key=secrets.token_urlsafe(32),
        weaviate_cluster_password=secrets.token_urlsafe(32),
        api_key=f"ltn-{secrets.token_urlsafe(32)}",
    )


def token_file(values: Secrets) -> str:
    """kube-apiserver's `--token-auth-file`: who each token is."""
    rows = (
        (values.admin_token, "lateen-admin", "system:masters"),
        (values.operator_token, "lateen-operator", "system:masters"),
        (values.controller_manager_token, "system:kube-controller-manager", ""),
    )
    return "".join(f'{token},{user},{user},"{groups}"\n' for token, user, groups in rows)


def kubeconfig(server: str, authority: Path, token: str) -> dict[str, Any]:
    """A kubeconfig with one context, `lateen`."""
    cluster = {"server": server, "certificate-authority": str(authority)}
    context = {"cluster": "lateen", "user": "lateen", "namespace": "default"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lateen",
        "clusters": [{"name": "lateen", "cluster": cluster}],
        "users": [{"name": "lateen", "user": {"token": token}}],
        "contexts": [{"name": "lateen", "context": context}],
    }


@dataclass(frozen=True)
class Pki:
    """Where the certificates and keys of one stack lie; all in one folder, keys with mode 0600."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The certificate that signed all others."""
        return self.folder / "ca.crt"

    @property
    def server(self) -> tuple[Path, Path]:
        """Certificate and key of whatever listens: kube-apiserver, kube-controller-manager, etcd and its peer."""
        return self.folder / "server.crt", self.folder / "server.key"

    @property
    def client(self) -> tuple[Path, Path]:
        """Certificate and key with which kube-apiserver talks to etcd; nobody else has one."""
        return self.folder / "client.crt", self.folder / "client.key"

    @property
    def service_accounts(self) -> tuple[Path, Path]:
        """Public and private key of service account tokens; kept as long as the state directory."""
        return self.folder / "service-accounts.pub", self.folder / "service-accounts.key"

    def files(self) -> tuple[Path, ...]:
        """All of them."""
        return (self.authority, *self.server, *self.client, *self.service_accounts)


def due(pki: Pki, now: datetime | None = None) -> bool:
    """Whether certificates are missing or end within `RENEW_BEFORE`."""
    from cryptography import x509

    if not all(path.is_file() for path in pki.files()):
        return True
    ends = x509.load_pem_x509_certificate(pki.server[0].read_bytes()).not_valid_after_utc
    return ends < (now or datetime.now(UTC)) + RENEW_BEFORE


def certificates(pki: Pki) -> dict[Path, bytes]:
    """Content of every file of `pki`, freshly signed; the authority's own key is not kept."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = _certificate("lateen-ca", authority_key, None, authority_key)
    files = {pki.authority: _pem(authority)}
    for name, (certificate, key_file) in {
        "lateen-server": pki.server,
        "lateen-etcd-client": pki.client,
    }.items():
        key = ec.generate_private_key(ec.SECP256R1())
        files[certificate] = _pem(_certificate(name, key, authority, authority_key))
        files[key_file] = _private(key)
    public, private = pki.service_accounts
    if not private.is_file():
        signer = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        files[private] = _private(signer)
        files[public] = signer.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return files


def _certificate(name: str, key: Any, issuer: Any, issuer_key: Any) -> Any:
    """A certificate for this machine's loopback; without `issuer` it is its own authority."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    gateway = ipaddress.IPv4Network(SERVICE_NETWORK)[1]
    hosts = [x509.DNSName(host) for host in ("localhost", "kubernetes", "kubernetes.default.svc")]
    addresses = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.IPAddress(gateway)]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
    )
    if issuer is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([*hosts, *addresses]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _pem(certificate: Any) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    return bytes(certificate.public_bytes(Encoding.PEM))


def _private(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    encryption = serialization.NoEncryption()
    form = serialization.PrivateFormat.PKCS8
    return bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
