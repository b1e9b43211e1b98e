"""The outgoing HTTP client against a server of ours that misbehaves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from aiohttp import web
from yarl import URL

from shared.errors import OutOfTime, Rejected, Unavailable
from shared.net.client import MAX_ANSWER_BYTES, HttpClient
from shared.net.guard import AddressGuard, contains, networks
from shared.observe import tracing
from shared.testing.servers import free_port

A_WHILE = timedelta(seconds=5)
LOOPBACK = AddressGuard(networks("127.0.0.0/8", setting="X"))


class Site:
    def __init__(self) -> None:
        self.asked: list[str] = []
        self.url = URL()
        self.headers: dict[str, str] = {}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.raw_path}")
        self.headers = dict(request.headers)
        match request.path:
            case "/slow":
                await asyncio.Event().wait()
            case "/moved":
                raise web.HTTPFound("/elsewhere")
            case "/cut":
                assert request.transport is not None
                request.transport.close()
            case "/large":
                return await self._large(request)
        return web.Response(text="hello", headers={"Set-Cookie": "a=b", "X-Rate": "7"})

    @staticmethod
    async def _large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        part = bytes(64 * 1024)
        for _ in range(MAX_ANSWER_BYTES // len(part) + 1):
            await response.write(part)
        return response


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    found = Site()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    found.url = URL(f"http://127.0.0.1:{runner.addresses[0][1]}")
    yield found
    await runner.cleanup()


@pytest.fixture
async def client() -> AsyncIterator[HttpClient]:
    async with HttpClient(LOOPBACK) as found:
        yield found


async def test_an_answer_comes_with_its_status_headers_and_body(
    site: Site, client: HttpClient
) -> None:
    found = await client.send("GET", site.url / "a", within=A_WHILE)
    assert (found.status, found.headers["x-rate"], found.body) == (200, "7", b"hello")


async def test_a_url_goes_out_as_it_is(site: Site, client: HttpClient) -> None:
    path = "/s?criteria=(Phone:equals:%2B44(0)7700%20900)"
    await client.send("GET", URL(f"{site.url}{path}", encoded=True), within=A_WHILE)
    assert site.asked == [f"GET {path}"]


async def test_a_server_that_does_not_answer_costs_the_budget_and_no_more(
    site: Site, client: HttpClient
) -> None:
    with pytest.raises(OutOfTime, match=r"127\.0\.0\.1 did not answer within 0\.1 s"):
        await client.send("GET", site.url / "slow", within=timedelta(seconds=0.1))


async def test_a_redirect_is_an_answer_and_is_not_followed(site: Site, client: HttpClient) -> None:
    found = await client.send("GET", site.url / "moved", within=A_WHILE)
    assert found.status == 302
    assert site.asked == ["GET /moved"]


async def test_an_answer_without_end_is_cut_at_the_cap(site: Site, client: HttpClient) -> None:
    with pytest.raises(Rejected, match=str(MAX_ANSWER_BYTES)):
        await client.send("GET", site.url / "large", within=A_WHILE)


async def test_a_write_whose_answer_has_no_end_may_have_come_through(
    site: Site, client: HttpClient
) -> None:
    with pytest.raises(Unavailable, match=str(MAX_ANSWER_BYTES)):
        await client.send("POST", site.url / "large", within=A_WHILE, body=b"x")


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (f"http://{'a' * 64}.example/", {}),
        ("http://a..b/", {}),
        ("http://xn--a/", {}),
        ("http://\u2025.example/", {}),
        ("http://ann:secret@127.0.0.1:{port}/", {"Authorization": "Bearer x"}),
        ("http://127.0.0.1:{port}/", {"X-Name": "a\r\nX-Evil: secret"}),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_not_repeated_in_words(
    site: Site, client: HttpClient, url: str, headers: dict[str, str]
) -> None:
    address = URL(url.replace("{port}", str(site.url.port)), encoded=True)
    with pytest.raises(Rejected) as caught:
        await client.send("GET", address, within=A_WHILE, headers=headers)
    assert "secret" not in str(caught.value)
    assert site.asked == []


async def test_no_cookie_is_kept(site: Site, client: HttpClient) -> None:
    for _ in range(2):
        await client.send("GET", site.url / "a", within=A_WHILE)
    assert "Cookie" not in site.headers


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("POST", 1)])
async def test_what_was_cut_off_is_asked_again_only_if_that_changes_nothing(
    site: Site, client: HttpClient, method: str, times: int
) -> None:
    with pytest.raises(Unavailable, match="broke off"):
        await client.send(method, site.url / "cut", within=A_WHILE)
    assert site.asked == [f"{method} /cut"] * times


async def test_a_port_where_nobody_listens_is_unavailable(client: HttpClient) -> None:
    with pytest.raises(Unavailable, match="no connection"):
        await client.send("POST", URL(f"http://127.0.0.1:{free_port()}/"), within=A_WHILE)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f.1"])
async def test_our_own_network_is_not_reached_by_any_spelling(site: Site, host: str) -> None:
    async with HttpClient(AddressGuard()) as client:
        url = URL(f"http://{host}:{site.url.port}/")
        with pytest.raises((Rejected, Unavailable)):
            await client.send("GET", url, within=A_WHILE)
    assert site.asked == []


@pytest.mark.parametrize(
    "host",
    [
        *("::ffff:10.0.0.1", "::10.0.0.1", "64:ff9b::a00:1", "2002:a00:1::1"),
        *("64:ff9b:1::808:808", "fec0::1", "::", "fe80::1", "ff02::1", "fd00::1"),
        *("127.1", "0x7f.1", "0177.0.0.1", "2130706433", "127.0.0.1.", "1.2.3.4:80", "::g"),
    ],
)
def test_an_address_that_leads_inside_is_refused_in_any_clothes(host: str) -> None:
    with pytest.raises(Rejected):
        AddressGuard().check_host(host)


@pytest.mark.parametrize(
    "host",
    ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8", "crm.example", "3com.com"],
)
def test_an_address_that_leads_outside_is_taken(host: str) -> None:
    AddressGuard().check_host(host)


def test_what_the_operator_allows_is_allowed_in_any_clothes() -> None:
    allowed = networks("10.0.0.0/8, ::1/128", setting="X")
    for address in ("10.0.0.1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "::1"):
        AddressGuard(allowed).check(address)
        assert contains(allowed, address)


async def test_the_trace_goes_along(site: Site, client: HttpClient) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with tracing.span("test", parent=parent):
        await client.send("GET", site.url / "a", within=A_WHILE)
    assert site.headers["traceparent"].split("-")[1] == parent.split("-")[1]
