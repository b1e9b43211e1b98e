"""What `callmesh doctor` finds at a UIS account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web

from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.pbx.port import PbxAdapter, Phones
from shared.testing.servers import free_port
from tests.contract.uis_kit import (
    LOOPBACK,
    NOW,
    PHONES,
    Account,
    adapter,
    an_account,
    error,
    result,
)


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    async with an_account() as found:
        yield found


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient(LOOPBACK) as found:
        yield found


async def findings(made: PbxAdapter) -> dict[str, str | None]:
    return {found.what: found.fault async for found in made.check()}


ALL_WELL = {
    "time zone": None,
    "Data API at 127.0.0.1": None,
    "clock": None,
    "account's time zone": None,
    "employees": None,
    "Call API at 127.0.0.1": None,
}


async def test_an_account_as_it_should_be(account: Account, http: HttpClient) -> None:
    assert await findings(adapter(http, account.port, PHONES)) == ALL_WELL


async def test_a_call_api_without_the_component_of_lists_is_there(
    account: Account, http: HttpClient
) -> None:
    account.methods["list.calls"] = lambda _: error(-32008, "component_disabled")
    assert await findings(adapter(http, account.port, PHONES)) == ALL_WELL


@pytest.mark.parametrize(
    ("method", "answer", "what", "words"),
    [
        ("get.account", error(-32003, "ip_not_whitelisted"), "Data API at 127.0.0.1", "security"),
        ("get.employees", error(-32003, "forbidden"), "employees", "Managing users"),
        ("get.employees", result([]), "employees", "right to view employees"),
        ("list.calls", error(-32001, "access_token_invalid"), "Call API at 127.0.0.1", "key"),
        ("list.calls", error(-32602, "data_type_error"), "Call API at 127.0.0.1", "data_type"),
        ("get.account", result([{"timezone": "Asia/Dubai"}]), "account's time zone", "set `zone`"),
        ("get.account", web.Response(status=404), "Data API at 127.0.0.1", "site file right"),
    ],
)
async def test_what_is_wrong_is_found(
    account: Account,
    http: HttpClient,
    method: str,
    answer: dict[str, Any] | web.Response,
    what: str,
    words: str,
) -> None:
    account.methods[method] = lambda _: answer
    found = await findings(adapter(http, account.port, PHONES))
    faults = {name: fault for name, fault in found.items() if fault is not None}
    assert list(faults) == [what]
    assert words in faults[what]


@pytest.mark.parametrize(
    ("off", "words"),
    [(40, "40 s ahead of ours"), (-3600, "3600 s behind ours"), (4, None)],
)
async def test_a_clock_that_is_off_is_found(
    account: Account, http: HttpClient, off: int, words: str | None
) -> None:
    account.clock = NOW + timedelta(seconds=off)
    fault = (await findings(adapter(http, account.port, PHONES)))["clock"]
    assert (words in fault) if words and fault else fault is words


async def test_agents_and_employees_are_compared(account: Account, http: HttpClient) -> None:
    account.methods["get.employees"] = lambda _: result(
        [{"id": 25, "full_name": "Anna Agent"}, *({"id": n} for n in range(50, 58)), "x", {}]
    )
    phones = Phones(extensions=frozenset({"101", "102", "103"}), users={"25": "101", "99": "103"})
    fault = (await findings(adapter(http, account.port, phones)))["employees"]
    assert fault == (
        "agents without `pbx_user`: 102; their rings are not seen and they cannot click to dial; "
        "`pbx_user` of no employee of the account: 99; "
        "employees that no agent has: 50, 51, 52, 53, 54 and 3 more"
    )


async def test_an_account_that_cannot_be_reached_is_found_and_raises_nothing(
    http: HttpClient,
) -> None:
    found = await findings(adapter(http, free_port()))
    away = {name: fault for name, fault in found.items() if fault and "no connection" in fault}
    assert list(away) == ["Data API at 127.0.0.1", "Call API at 127.0.0.1"]


async def test_an_address_inside_is_refused_and_raises_nothing(account: Account) -> None:
    async with HttpClient(AddressGuard()) as guarded:
        found = await findings(adapter(guarded, account.port))
    assert "say https://127.0.0.1" in str(found["Data API at 127.0.0.1"])
    assert account.asked == []
