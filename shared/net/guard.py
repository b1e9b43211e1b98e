"""
May we call this address? Administrators of tenants write URLs; they must not reach the
operator's own network (server-side request forgery).

Every address that a name resolves to is checked, and the connection goes to a checked one, so
that a name cannot mean something else a moment later.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

from shared.errors import BadSetting, Rejected

Network = IPv4Network | IPv6Network
#: As sockets say it; of IPv6 with a flow and a scope.
Address = tuple[Any, ...]
#: As :func:`socket.getaddrinfo`.
LookUp = Callable[..., Sequence[tuple[int, int, int, str, Address]]]

#: Names that are looked up at the same time.
_AT_ONCE = 32

#: Their last 32 bits are an IPv4 address that is meant: compatible (RFC 4291), NAT64 (RFC 6052).
_CARRIERS = (ip_network("::/96"), ip_network("64:ff9b::/96"))
#: NAT64 of a network of one's own (RFC 8215): where it leads is not to be seen.
_LOCAL_NAT64 = ip_network("64:ff9b:1::/48")
#: Decimal, octal or hexadecimal, in one to four parts: what inet_aton reads.
_NUMERIC = re.compile(r"(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+))*\.?", re.IGNORECASE)


_HOST = re.compile(r"[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


class AddressGuard:
    """Public addresses, and those of the operator's list."""

    def __init__(
        self, allowed: Sequence[Network] = (), *, plain: Collection[str] = frozenset()
    ) -> None:
        """*plain*: names of hosts, in lower case, that may be asked without TLS."""
        self._allowed = tuple(allowed)
        self._plain = frozenset(plain)

    def check(self, address: str) -> None:
        """Raises: Rejected."""
        if contains(self._allowed, address):
            return
        found = _plain(address)
        if not found.is_global or found.is_multicast or _is_local(found):
            raise Rejected(
                f"{address} is not a public address; the operator can allow it in "
                "CALLMESH_NET_ALLOW"
            )

    def allows(self, host: str) -> bool:
        """
        Whether *host* is an address of the list, this machine by its name where that is listed, or
        a name that may be asked without TLS.
        """
        if host.lower() in self._plain:
            return True
        address = "127.0.0.1" if host == "localhost" else host.strip("[]")
        try:
            return contains(self._allowed, address)
        except ValueError:
            return False

    def check_host(self, host: str) -> None:
        """A host that is an address by itself never meets the resolver. Raises: Rejected."""
        try:
            ip_address(host)
        except ValueError:
            if ":" in host or _NUMERIC.fullmatch(host):
                raise Rejected(f"{host} looks like an address; write it in full") from None
            return
        self.check(host)


class GuardedResolver(AbstractResolver):
    """
    By threads of its own: where nobody answers for a name, looking it up holds one for ten seconds
    and more, and tenants choose the names. Those of the process have other work.
    """

    def __init__(self, guard: AddressGuard, *, look_up: LookUp = socket.getaddrinfo) -> None:
        self._guard = guard
        self._look_up = look_up
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="names")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Raises: OSError, Rejected."""
        asking = partial(
            self._look_up,
            host,
            port,
            type=socket.SOCK_STREAM,
            family=family,
            flags=socket.AI_ADDRCONFIG,
        )
        found = await asyncio.get_running_loop().run_in_executor(self._threads, asking)
        return [
            self._checked(host, of, proto, address)
            for of, _, proto, _, address in found
            if of in {socket.AF_INET, socket.AF_INET6}
        ]

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _checked(self, host: str, family: int, proto: int, address: Address) -> ResolveResult:
        found, port = str(address[0]), int(address[1])
        self._guard.check(found)
        return ResolveResult(
            hostname=host,
            host=found,
            port=port,
            family=family,
            proto=proto,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )


def networks(text: str, *, setting: str) -> tuple[Network, ...]:
    """``10.0.0.0/8, 127.0.0.1``. Raises: BadSetting."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as error:
        raise BadSetting(f"{setting}: {error}") from None


def hosts(text: str, *, setting: str) -> frozenset[str]:
    """``crm.lan, sandbox``. Raises: BadSetting."""
    found = frozenset(part.strip().lower() for part in text.split(",") if part.strip())
    for host in found:
        if not _HOST.fullmatch(host):
            raise BadSetting(f"{setting}: {host} is no name of a host")
    return found


def contains(allowed: Sequence[Network], address: str) -> bool:
    """Whether *address* lies in one of *allowed*; used for who may ask us."""
    found = _plain(address)
    return any(found in network for network in allowed if network.version == found.version)


def _plain(address: str) -> IPv4Address | IPv6Address:
    """Where *address* leads: ::ffff:10.0.0.1 and its like are 10.0.0.1 by another name."""
    ip = ip_address(address)
    if isinstance(ip, IPv4Address) or ip.is_loopback or ip.is_unspecified:
        return ip
    if any(ip in network for network in _CARRIERS):
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _is_local(address: IPv4Address | IPv6Address) -> bool:
    """Inner networks that the library takes for public."""
    return isinstance(address, IPv6Address) and (address.is_site_local or address in _LOCAL_NAT64)
