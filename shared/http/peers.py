"""Where a request comes from, also where proxies stand before this server."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address

from aiohttp import web

from shared.net.guard import Network, contains

_PEER: web.RequestKey[str] = web.RequestKey("callmesh_peer", str)
#: More proxies in a row than anybody has.
_MOST_PROXIES = 20
#: Who has one address of a network of IPv6 has them all.
_V6_BITS = 64


def note_peer(request: web.Request, proxies: Sequence[Network]) -> None:
    """
    Reads ``X-Forwarded-For`` from its end, as far as *proxies* wrote it: what stands before that,
    anybody may have written.
    """
    peer = request.remote or ""
    told = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")[-_MOST_PROXIES:]
    while told and _is_address(peer) and contains(proxies, peer):
        before = told.pop().strip()
        if not _is_address(before):
            break
        peer = before
    request[_PEER] = peer


def peer_of(request: web.Request) -> str:
    """An address as text; empty where the connection is gone."""
    return request.get(_PEER) or request.remote or ""


def network_of(peer: str) -> str:
    """All that one who asks can choose his address from, as text."""
    if ":" not in peer or not _is_address(peer):
        return peer
    address = ip_address(peer.partition("%")[0])
    if address.version == 4:  # noqa: PLR2004  IPv4
        return peer
    mapped = address.ipv4_mapped
    return str(mapped) if mapped is not None else f"{int(address) >> _V6_BITS:x}::/64"


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
