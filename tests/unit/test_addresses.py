# SPDX-License-Identifier: Apache-2.0
"""Which hosts may be reached on behalf of a spec's author."""

import ipaddress
import socket

import pytest

from lateen_serving.outbound import addresses
from lateen_serving.outbound.addresses import Allowed, Forbidden, Unresolved


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("93.184.216.34", True), ("2606:4700::1111", True), ("10.0.0.1", False), ("127.0.0.1", False),
        ("169.254.169.254", False), ("100.64.0.1", False), ("0.0.0.1", False), ("224.0.0.1", False),
        ("255.255.255.255", False), ("::1", False), ("::", False), ("fe80::1", False), ("fd00::1", False),
        ("::ffff:127.0.0.1", False), ("::ffff:93.184.216.34", True), ("64:ff9b::a00:1", False),
        ("2002:7f00:1::", False), ("::ffff:169.254.169.254", False), ("::7f00:1", False),
    ],
)  # fmt: skip
def test_only_public_addresses(address: str, expected: bool) -> None:
    """Private, local and multicast addresses are refused in every notation."""
    assert addresses.is_public(ipaddress.ip_address(address)) is expected


@pytest.mark.parametrize(
    ("host", "allowed", "expected"),
    [
        ("93.184.216.34", (), "93.184.216.34"), ("10.0.0.1", (), "private"), ("127.0.0.1", (), "private"),
        ("2130706433", (), "private"), ("0x7f.1", (), "private"), ("0177.0.0.1", (), "private"),
        ("::1", (), "private"), ("::ffff:10.0.0.1", (), "private"), ("64:ff9b::a00:1", (), "private"),
        ("10.0.0.1", ("10.0.0.1",), "10.0.0.1"), ("10.0.0.1", ("10.0.0.1:443",), "10.0.0.1"),
        ("10.0.0.1", ("10.0.0.1:80",), "private"), ("10.0.0.1", ("http://10.0.0.1:443/",), "10.0.0.1"),
        ("::1", ("[::1]",), "::1"), ("localhost", ("LOCALHOST",), "127.0.0.1"),
        ("169.254.169.254", (), "metadata"), ("169.254.169.254", ("169.254.169.254",), "metadata"),
        ("::ffff:169.254.169.254", ("[::ffff:169.254.169.254]",), "metadata"),
        ("fe80::1", ("[fe80::1]",), "metadata"), ("fd00:ec2::254", ("[fd00:ec2::254]",), "metadata"),
        ("100.100.100.200", ("100.100.100.200",), "metadata"), ("168.63.129.16", (), "metadata"),
        ("::", ("[::]",), "private"), ("224.0.0.1", ("224.0.0.1",), "private"),
    ],
)  # fmt: skip
async def test_private_hosts_need_the_administrator(
    host: str, allowed: tuple[str, ...], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Private addresses need the setting, metadata addresses are refused always, in every way to write them."""
    real = socket.getaddrinfo

    def lookup(name: str, *arguments: object, **options: object) -> object:
        return real("127.0.0.1" if name == "localhost" else name, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    if expected in {"private", "metadata"}:
        with pytest.raises(Forbidden, match=expected):
            await addresses.resolve(host, 443, Allowed.of(allowed))
    else:
        found = await addresses.resolve(host, 443, Allowed.of(allowed))
        assert [str(address) for address in found] == [expected]


async def test_one_bad_address_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a public and a private address is refused; one without any is not resolved."""
    answer = [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (text, 443)) for text in ("93.184.216.34", "10.0.0.1")
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answer)
    with pytest.raises(Forbidden):
        await addresses.resolve("two.example", 443, Allowed())

    def absent(*arguments: object, **options: object) -> None:
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", absent)
    with pytest.raises(Unresolved):
        await addresses.resolve("none.example", 443, Allowed())


def test_plain_http_is_a_permission_of_its_own() -> None:
    """A host that may be private must still speak TLS unless its entry says http."""
    allowed = Allowed.of(["one", "http://two:5000"])
    assert allowed.private("one", 443)
    assert not allowed.plain("one", 80)
    assert allowed.private("two", 5000)
    assert allowed.plain("two", 5000)
    assert not allowed.plain("two", 80)
