"""Connections by TCP, and where they may go."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from shared.errors import Rejected
from shared.net.guard import AddressGuard, GuardedResolver, networks
from shared.net.streams import open_stream
from tests.contract.inner_service import inner_service

LOOPBACK = AddressGuard(networks("127.0.0.0/8", setting="X"))


def meaning(*addresses: str, guard: AddressGuard = LOOPBACK) -> GuardedResolver:
    """Every name means these."""

    def look_up(_: str, port: int, **__: object) -> list[Any]:
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses
        ]

    return GuardedResolver(guard, look_up=look_up)


async def reached(port: int, names: GuardedResolver | None, host: str = "pbx.example") -> None:
    reader, writer = await open_stream(host, port, names=names)
    await reader.read()
    writer.close()
    await writer.wait_closed()


async def test_it_goes_to_the_address_that_was_looked_at() -> None:
    async with inner_service() as (port, heard):
        await reached(port, meaning("127.0.0.1"))
        assert heard == ["127.0.0.1"]


async def test_where_one_address_does_not_answer_the_next_is_tried() -> None:
    async with inner_service() as (port, heard):
        await reached(port, meaning("127.0.0.2", "127.0.0.1"))
        assert heard == ["127.0.0.1"]
        for none in (meaning("127.0.0.2", "127.0.0.3"), meaning()):
            with pytest.raises(OSError):  # noqa: PT011  its words are the system's
                await reached(port, none)


async def test_a_name_of_which_one_address_is_forbidden_is_not_connected_to() -> None:
    guard = AddressGuard(networks("127.0.0.1/32", setting="X"))
    async with inner_service() as (port, heard):
        with pytest.raises(Rejected, match=r"127\.0\.0\.2 is not a public address"):
            await reached(port, meaning("127.0.0.1", "127.0.0.2", guard=guard))
        for host in ("127.0.0.1", "0x7f000001", "localhost"):
            with pytest.raises(Rejected):
                await reached(port, GuardedResolver(AddressGuard()), host)
        assert heard == []


async def test_who_is_not_guarded_goes_anywhere() -> None:
    async with inner_service() as (port, heard):
        await reached(port, None, "127.0.0.1")
        assert heard == ["127.0.0.1"]
