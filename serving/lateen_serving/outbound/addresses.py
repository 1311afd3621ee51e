# SPDX-License-Identifier: Apache-2.0
"""Which hosts a spec's author may make this service talk to. Used by the sources of weights and of documents.

The author of a spec is not the administrator: an address inside the network, above all the cloud's metadata service,
must not be reached through us. So names are resolved here, all addresses are checked, and the connection goes to an
address that was checked, whatever the name resolves to a moment later.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from dataclasses import dataclass

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in ("100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
)
"""Metadata services of clouds that are not link-local: Alibaba, Azure, Oracle, AWS."""


class Forbidden(Exception):
    """The host must not be reached; the text says why and what the administrator can do."""


class Unresolved(Exception):
    """The name has no address now."""


@dataclass(frozen=True)
class Allowed:
    """Hosts that the administrator allows although they are private (`LATEEN_SOURCE_HOSTS`).

    An entry is `host`, `host:port` or, where plain http may be spoken, `http://host` or `http://host:port`.
    """

    entries: frozenset[str] = frozenset()

    @classmethod
    def of(cls, entries: Iterable[str]) -> "Allowed":
        """From the setting's list, in any case of letters."""
        return cls(frozenset(entry.lower().rstrip("/") for entry in entries))

    def private(self, host: str, port: int) -> bool:
        """Whether `host` may have a private address."""
        return self._has(host, port) or self.plain(host, port)

    def plain(self, host: str, port: int) -> bool:
        """Whether http without TLS may be spoken with `host`."""
        return self._has(host, port, "http://")

    def _has(self, host: str, port: int, prefix: str = "") -> bool:
        name = f"[{host}]" if ":" in host else host.lower()
        return not self.entries.isdisjoint({f"{prefix}{name}", f"{prefix}{name}:{port}"})


async def resolve(host: str, port: int, allowed: Allowed) -> list[Address]:
    """The addresses of `host`, best first, every one of them permitted; raises Forbidden or Unresolved."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unresolved(f"{host} can't be resolved") from error
    addresses = [ipaddress.ip_address(str(item[4][0]).split("%")[0]) for item in found]
    for address in addresses:
        _check(host, address, private=allowed.private(host, port))
    return list(dict.fromkeys(addresses))


def _check(host: str, address: Address, *, private: bool) -> None:
    inner = embedded(address)
    if is_metadata(address) or (inner is not None and is_metadata(inner)):
        raise Forbidden(f"{host} has a link-local or metadata address, which is always refused")
    if not is_public(address) and not (private and not address.is_multicast and not address.is_unspecified):
        raise Forbidden(
            f"{host} has a private address, which is refused unless the administrator allows the host"
            " (LATEEN_SOURCE_HOSTS)"
        )


def is_metadata(address: Address) -> bool:
    """Whether `address` may be a cloud's metadata service, which hands out the node's credentials."""
    return address.is_link_local or address in _METADATA


def is_public(address: Address) -> bool:
    """Whether `address` is one of the public internet, also seen through IPv6's ways to write IPv4."""
    inner = embedded(address)
    if inner is not None:
        return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def embedded(address: Address) -> Address | None:
    """The IPv4 address that an IPv6 one carries (mapped, 6to4, Teredo, NAT64), if it does."""
    if not isinstance(address, ipaddress.IPv6Address):
        return None
    teredo = address.teredo
    inner = address.ipv4_mapped or address.sixtofour or (teredo[1] if teredo else None)
    if inner is None and address in ipaddress.ip_network("64:ff9b::/96"):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return inner
