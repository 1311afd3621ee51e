# SPDX-License-Identifier: Apache-2.0
"""Generated secrets and certificates of a local stack."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from lateen_cli import credentials
from lateen_cli.credentials import LIFETIME, Pki
from lateen_cli.state import write


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    """Certificates of a new stack, written as `lateen up` writes them."""
    made = Pki(tmp_path)
    for path, content in credentials.certificates(made).items():
        write(path, content)
    return made


def test_the_api_key_is_a_prefix_and_256_bits() -> None:
    """A client key is recognisable and long enough for the operator."""
    assert re.fullmatch(r"ltn-[A-Za-z0-9_-]{43}", credentials.generate().api_key)


def test_no_two_secrets_are_equal() -> None:
    """Knowing one secret of a stack says nothing about another one or another stack."""
    values = [*credentials.generate().model_dump().values(), *credentials.generate().model_dump().values()]
    assert len(set(values)) == len(values)


def test_the_token_file_gives_each_token_one_identity() -> None:
    """Administrator, operator and controllers are told apart in the API server."""
    secrets = credentials.generate()
    rows = [row.split(",") for row in credentials.token_file(secrets).splitlines()]
    assert {row[0]: row[1] for row in rows} == {
        secrets.admin_token: "lateen-admin",
        secrets.operator_token: "lateen-operator",
        secrets.controller_manager_token: "system:kube-controller-manager",
    }


def test_the_server_certificate_names_loopback_and_is_signed_by_the_authority(pki: Pki) -> None:
    """Clients verify what they talk to."""
    authority = x509.load_pem_x509_certificate(pki.authority.read_bytes())
    server = x509.load_pem_x509_certificate(pki.server[0].read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "127.0.0.1" in [str(address) for address in names.get_values_for_type(x509.IPAddress)]


def test_private_keys_are_readable_by_their_owner_only(pki: Pki) -> None:
    """No other user of the machine can read a key, and the authority's key is not kept at all."""
    keys = list(pki.folder.glob("*.key"))
    assert {key.name for key in keys} == {"server.key", "client.key", "service-accounts.key"}
    assert {key.stat().st_mode & 0o777 for key in keys} == {0o600}


def test_renewal_keeps_the_key_of_service_accounts(pki: Pki) -> None:
    """Tokens of service accounts that were issued before a renewal stay valid."""
    assert not set(pki.service_accounts) & set(credentials.certificates(pki))


@pytest.mark.parametrize(
    ("age", "due"), [(timedelta(0), False), (LIFETIME - timedelta(days=31), False), (LIFETIME, True)]
)
def test_certificates_are_renewed_before_they_end(pki: Pki, age: timedelta, due: bool) -> None:
    """A start within 30 days of the end signs new certificates."""
    assert credentials.due(pki, datetime.now(UTC) + age) is due


def test_missing_certificates_are_due(tmp_path: Path) -> None:
    """A new state directory gets certificates."""
    assert credentials.due(Pki(tmp_path))
