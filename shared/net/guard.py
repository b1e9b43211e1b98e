"""
May we call this address? Administrators of tenants write URLs; they must not reach the
operator's own network (server-side request forgery).

Every address that a name resolves to is checked, and the connection goes to a checked one, so
that a name cannot mean something else a moment later.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from shared.errors import BadSetting, Rejected

Network = IPv4Network | IPv6Network


class AddressGuard:
    """Public addresses, and those of the operator's list."""

    def __init__(self, allowed: Sequence[Network] = ()) -> None:
        self._allowed = tuple(allowed)

    def check(self, address: str) -> None:
        """Raises: Rejected."""
        ip = ip_address(address)
        # ::ffff:10.0.0.1 is 10.0.0.1 by another name.
        mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
        found: IPv4Address | IPv6Address = mapped or ip
        if any(found in network for network in self._allowed if network.version == found.version):
            return
        if not found.is_global or found.is_multicast:
            raise Rejected(
                f"{address} is not a public address; the operator can allow it in "
                "CALLMESH_NET_ALLOW"
            )

    def check_host(self, host: str) -> None:
        """A host that is an address by itself never meets the resolver. Raises: Rejected."""
        try:
            ip_address(host)
        except ValueError:
            return
        self.check(host)


class GuardedResolver(AbstractResolver):
    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._resolver = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await self._resolver.resolve(host, port, family)
        for result in found:
            self._guard.check(result["host"])
        return found

    async def close(self) -> None:
        await self._resolver.close()


def networks(text: str, *, setting: str) -> tuple[Network, ...]:
    """``10.0.0.0/8, 127.0.0.1``. Raises: BadSetting."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise BadSetting(f"{setting}: {error}") from None


def contains(allowed: Sequence[Network], address: str) -> bool:
    """Whether *address* lies in one of *allowed*; used for who may ask us."""
    ip = ip_address(address)
    mapped = ip.ipv4_mapped if isinstance(ip, IPv6Address) else None
    found: IPv4Address | IPv6Address = mapped or ip
    return any(found in network for network in allowed if network.version == found.version)
