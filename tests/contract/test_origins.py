"""Pages of other origins: which may ask, which may open sockets, and what browsers are told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from shared.errors import BadSetting
from shared.http.origins import Origins, origin_of
from tests.contract.office_kit import MINE, MY_SOCKET, Office, office_at

CRM, EVIL = "https://crm.example", "https://evil.example"


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    origins = Origins([CRM], public_url="https://mesh.example")
    async with office_at(tmp_path, origins=origins) as found:
        yield found


async def asks(
    office: Office, method: str, path: str, origin: str | None = CRM, **headers: str
) -> aiohttp.ClientResponse:
    sent = {**({"Origin": origin} if origin else {}), **headers}
    async with office.api.session.request(method, path, headers=sent) as response:
        await response.content.read(10)
        return response


async def preflight(office: Office, path: str, origin: str | None) -> aiohttp.ClientResponse:
    wanted: dict[str, str] = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "x-api-key, content-type",
    }
    return await asks(office, "OPTIONS", path, origin, **wanted)


async def test_a_browser_is_told_what_an_allowed_page_may_send(office: Office) -> None:
    answer = await preflight(office, "/v1/streams/tickets", CRM)
    assert answer.status == 204
    assert answer.headers["Access-Control-Allow-Origin"] == CRM
    assert "POST" in answer.headers["Access-Control-Allow-Methods"]
    taken = answer.headers["Access-Control-Allow-Headers"].lower().split(", ")
    assert {"x-api-key", "content-type", "authorization", "last-event-id"} <= set(taken)
    assert answer.headers["Vary"] == "Origin"
    assert "Access-Control-Allow-Credentials" not in answer.headers


@pytest.mark.parametrize("origin", [EVIL, "null", "https://crm.example.evil", "http://crm.example"])
async def test_a_page_that_is_not_allowed_is_told_nothing(office: Office, origin: str) -> None:
    for answer in (
        await preflight(office, "/v1/streams/tickets", origin),
        await asks(office, "GET", "/v1/calls", origin),
        await asks(office, "GET", MINE, origin, **{"X-Api-Key": office.api.key}),
    ):
        assert not [name for name in answer.headers if name.startswith("Access-Control")]
        assert answer.headers["Vary"] == "Origin"


async def test_answers_errors_and_streams_may_be_read_by_an_allowed_page(office: Office) -> None:
    key = {"X-Api-Key": office.api.key}
    for answer, status in (
        (await asks(office, "GET", "/v1/calls", **key), 200),
        (await asks(office, "GET", "/v1/calls"), 401),
        (await asks(office, "GET", "/v1/nothing"), 404),
        (await asks(office, "GET", MINE, **key), 200),
    ):
        assert answer.status == status
        assert answer.headers["Access-Control-Allow-Origin"] == CRM
        assert "X-Trace-Id" in answer.headers["Access-Control-Expose-Headers"]


async def test_only_the_api_is_for_pages(office: Office) -> None:
    answer = await preflight(office, "/recordings/x", CRM)
    assert answer.status == 405
    assert "Access-Control-Allow-Origin" not in answer.headers


async def test_a_question_that_is_no_preflight_is_answered_as_any(office: Office) -> None:
    assert (await asks(office, "OPTIONS", "/v1/calls")).status == 405
    assert (await preflight(office, "/v1/calls", None)).status == 405


async def test_without_a_setting_nothing_is_said_of_origins(tmp_path: Path) -> None:
    async with office_at(tmp_path) as office:
        answer = await asks(office, "GET", "/v1/calls")
        assert not {"Vary", "Access-Control-Allow-Origin"} & set(answer.headers)
        assert "Access-Control-Allow-Origin" not in (await preflight(office, "/v1/x", CRM)).headers


@pytest.mark.parametrize("origin", [None, CRM, "https://mesh.example"])
async def test_programs_allowed_pages_and_our_own_open_sockets(
    office: Office, origin: str | None
) -> None:
    headers = {"Origin": origin} if origin else {}
    async with office.talk(headers=headers) as socket:
        assert not socket.over


async def test_a_page_of_this_very_address_opens_sockets(office: Office) -> None:
    async with office.talk(headers={"Origin": office.api.origin}):
        pass


@pytest.mark.parametrize("origin", [EVIL, "null", "", "file://", "https://mesh.example.evil"])
async def test_a_page_of_elsewhere_opens_none_whatever_key_or_ticket_it_has(
    office: Office, origin: str
) -> None:
    _, ticket = await office.api.send("POST", "/v1/streams/tickets", json={"extension": "101"})
    ways: tuple[dict[str, Any], ...] = (
        {"headers": {"Origin": origin, "X-Api-Key": office.api.key}},
        {"headers": {"Origin": origin}, "params": {"ticket": ticket["ticket"]}},
    )
    for way in ways:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await office.api.session.ws_connect(MY_SOCKET, **way)
        assert refused.value.status == 403


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("https://crm.example", "https://crm.example"),
        (" https://CRM.example/path?x#y ", "https://crm.example"),
        ("https://crm.example:443", "https://crm.example"),
        ("http://crm.example:80/", "http://crm.example"),
        ("http://crm.example:443", "http://crm.example:443"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_an_origin_is_written_as_browsers_do(address: str, origin: str) -> None:
    assert origin_of(address) == origin


@pytest.mark.parametrize(
    "wrong",
    ["*", "crm.example", "ftp://crm.example", "https://", "https://u@crm.example", "https://x:y"],
)
def test_what_is_no_origin_stops_the_start(wrong: str) -> None:
    with pytest.raises(BadSetting, match="CALLMESH_HTTP_ORIGINS"):
        Origins.named(
            f"https://a.example, {wrong}", public_url=None, setting="CALLMESH_HTTP_ORIGINS"
        )
