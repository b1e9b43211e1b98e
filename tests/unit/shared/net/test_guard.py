from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from shared.errors import BadSetting, Rejected
from shared.net.guard import AddressGuard, GuardedResolver, contains, networks


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # where clouds keep the machine's credentials
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "::",
        "fe80::1",
        "fd00::1",
        "ff02::1",
        "::ffff:10.0.0.1",
    ],
)
def test_an_address_of_the_operators_own_network_is_refused(address: str) -> None:
    with pytest.raises(Rejected, match="CALLMESH_NET_ALLOW"):
        AddressGuard().check(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "::ffff:8.8.8.8"])
def test_a_public_address_may_be_called(address: str) -> None:
    AddressGuard().check(address)


def test_the_operators_list_opens_what_it_names_and_no_more() -> None:
    guard = AddressGuard(networks("10.0.0.0/8, ::1", setting="X"))
    guard.check("10.9.9.9")
    guard.check("::ffff:10.9.9.9")
    guard.check("::1")
    with pytest.raises(Rejected):
        guard.check("192.168.0.1")


def test_a_wrong_list_names_its_setting() -> None:
    with pytest.raises(BadSetting, match=r"CALLMESH_NET_ALLOW: .*10\.0\.0\.0/99"):
        networks("10.0.0.0/99", setting="CALLMESH_NET_ALLOW")


def test_a_host_that_is_an_address_is_checked_without_a_resolver() -> None:
    with pytest.raises(Rejected):
        AddressGuard().check_host("127.0.0.1")
    AddressGuard().check_host("crm.example.com")


async def test_a_name_that_means_a_private_address_is_refused() -> None:
    resolver = GuardedResolver(AddressGuard())
    with pytest.raises(Rejected):
        await resolver.resolve("localhost", 80)
    await resolver.close()


@pytest.mark.parametrize(
    ("address", "inside"), [("10.0.0.7", True), ("::ffff:10.0.0.7", True), ("10.0.1.7", False)]
)
def test_who_may_ask_us_is_told_by_network(address: str, *, inside: bool) -> None:
    assert contains(networks("10.0.0.0/24", setting="X"), address) is inside


async def test_names_that_nobody_answers_for_hold_up_no_other_work() -> None:
    answered = threading.Event()

    def silent(host: str, port: int, **_: object) -> list[Any]:
        answered.wait()
        raise socket.gaierror(socket.EAI_AGAIN, host)

    resolver = GuardedResolver(AddressGuard(), look_up=silent)
    asking = [asyncio.create_task(resolver.resolve(f"h{n}.example")) for n in range(32)]
    try:
        async with asyncio.timeout(30):
            assert await asyncio.to_thread(lambda: "done") == "done"
    finally:
        answered.set()
        assert all(
            isinstance(e, OSError) for e in await asyncio.gather(*asking, return_exceptions=True)
        )
        await resolver.close()
