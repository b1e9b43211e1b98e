"""The outgoing HTTP client against a server of ours that misbehaves."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from aiohttp import WSMsgType, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from yarl import URL

from shared.errors import ContractError, Forbidden, OutOfTime, Rejected, Unavailable
from shared.net.client import MAX_ANSWER_BYTES, MAX_WEBSOCKET_BYTES, HttpClient
from shared.net.guard import AddressGuard, contains, networks
from shared.observe import tracing
from shared.testing.servers import free_port
from shared.testing.waiting import eventually

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


# -- WebSockets -----------------------------------------------------------------------------


class Talk:
    """A server of WebSockets that does what its path says."""

    def __init__(self) -> None:
        self.url = URL()
        #: What came in: path, and the token of its head.
        self.asked: list[tuple[str, str | None]] = []
        self.heard: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.path, request.headers.get("X-Auth-Token")))
        match request.path:
            case "/refused":
                return web.Response(status=int(request.query["status"]))
            case "/moved":
                # Another of our addresses: the guard of these tests lets nobody there.
                there = self.url.with_host("127.0.0.2").with_path("/echo")
                raise web.HTTPFound(there.with_scheme("http"))
            case "/silent":
                await asyncio.Event().wait()
        socket = web.WebSocketResponse(max_msg_size=0)
        await socket.prepare(request)
        match request.path:
            case "/bytes":
                await socket.send_bytes(b"\x00")
            case "/large":
                await socket.send_str("x" * (MAX_WEBSOCKET_BYTES + 1))
            case "/bye":
                await socket.close(code=1001)
                return socket
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                self.heard.append(message.data)
                await socket.send_str(f"{message.data}!")
        return socket


@asynccontextmanager
async def talking(tls: ssl.SSLContext | None = None) -> AsyncIterator[Talk]:
    found = Talk()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    listener = web.TCPSite(runner, "0.0.0.0", 0, ssl_context=tls)
    await listener.start()
    scheme = "https" if tls else "http"
    found.url = URL(f"{scheme}://127.0.0.1:{runner.addresses[0][1]}")
    try:
        yield found
    finally:
        await runner.cleanup()


@pytest.fixture
async def talk() -> AsyncIterator[Talk]:
    async with talking() as found:
        yield found


async def test_text_goes_and_comes_over_a_websocket(talk: Talk, client: HttpClient) -> None:
    head = {"X-Auth-Token": "t"}
    async with client.websocket(talk.url / "echo", within=A_WHILE, headers=head) as socket:
        for text in ("one", "two"):
            await socket.send(text)
            assert await socket.receive() == f"{text}!"
    assert talk.asked == [("/echo", "t")]


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, Forbidden),
        (403, Forbidden),
        (404, Unavailable),
        (500, Unavailable),
        (200, Unavailable),
    ],
)
async def test_a_websocket_that_is_refused_says_how(
    talk: Talk, client: HttpClient, status: int, error: type[Exception]
) -> None:
    url = (talk.url / "refused").with_query(status=status)
    with pytest.raises(error, match=str(status)):
        async with client.websocket(url, within=A_WHILE):
            pass


async def test_a_websocket_is_not_led_elsewhere_with_its_secrets(talk: Talk) -> None:
    """Not even to where the guard would let nobody: an address meets no resolver."""
    async with HttpClient(AddressGuard(networks("127.0.0.1/32", setting="X"))) as client:
        with pytest.raises(Unavailable, match="302"):
            async with client.websocket(
                talk.url / "moved", within=A_WHILE, headers={"X-Auth-Token": "secret"}
            ):
                pass
    assert talk.asked == [("/moved", "secret")]


async def test_a_websocket_that_does_not_open_costs_the_budget(
    talk: Talk, client: HttpClient
) -> None:
    with pytest.raises(OutOfTime, match=r"within 0\.1 s"):
        async with client.websocket(talk.url / "silent", within=timedelta(seconds=0.1)):
            pass


async def test_a_websocket_s_bytes_are_no_text_and_what_comes_after_is(
    talk: Talk, client: HttpClient
) -> None:
    async with client.websocket(talk.url / "bytes", within=A_WHILE) as socket:
        with pytest.raises(ContractError):
            await socket.receive()
        await socket.send("one")
        assert await socket.receive() == "one!"


@pytest.mark.parametrize(("path", "why"), [("bye", "1001"), ("large", "1009")])
async def test_a_websocket_that_is_over_says_so(
    talk: Talk, client: HttpClient, path: str, why: str
) -> None:
    async with client.websocket(talk.url / path, within=A_WHILE) as socket:
        with pytest.raises(Unavailable, match=why):
            await socket.receive()
        with pytest.raises(Unavailable):
            await socket.send("one")


async def test_a_peer_that_says_no_goodbye_does_not_hold_up_the_end(client: HttpClient) -> None:
    """Two seconds in real time: the bound itself."""

    async def answer(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(autoclose=False)
        await socket.prepare(request)
        await asyncio.Event().wait()
        return socket

    app = web.Application()
    app.router.add_get("/", answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with asyncio.timeout(60):
            url = URL(f"http://127.0.0.1:{runner.addresses[0][1]}/")
            async with client.websocket(url, within=A_WHILE):
                pass
    finally:
        await runner.cleanup()


async def test_a_websocket_to_our_own_network_is_refused(talk: Talk) -> None:
    async with HttpClient(AddressGuard()) as client:
        with pytest.raises(Rejected):
            async with client.websocket(talk.url / "echo", within=A_WHILE):
                pass
    assert talk.asked == []


async def test_where_nobody_listens_no_websocket_opens(client: HttpClient) -> None:
    url = URL(f"http://127.0.0.1:{free_port()}/")
    with pytest.raises(Unavailable, match=r"no connection to 127\.0\.0\.1"):
        async with client.websocket(url, within=A_WHILE):
            pass


async def test_open_websockets_take_no_places_of_requests(
    talk: Talk, site: Site, client: HttpClient
) -> None:
    """More than requests may be under way to one host; and a request still goes there."""
    assert client._session is not None
    assert client._session.connector is not None
    many = client._session.connector.limit_per_host + 1
    gate = asyncio.Event()
    opened = 0

    async def hold() -> None:
        nonlocal opened
        async with client.websocket(talk.url / "echo", within=A_WHILE):
            opened += 1
            await gate.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(many):
            group.create_task(hold())
        try:
            await eventually(lambda: opened == many)
            answer = await client.send(
                "GET", (talk.url / "refused").with_query(status=204), within=A_WHILE
            )
            assert answer.status == 204
        finally:
            gate.set()


# -- a certificate that no authority signed -------------------------------------------------


def self_signed(folder: Path) -> tuple[ssl.SSLContext, bytes]:
    """A server's context for 127.0.0.1, and the SHA-256 of its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pbx")])
    now = datetime.now(UTC)  # noqa: TID251  the certificate is read by OpenSSL's clock
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = folder / "pbx.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    der = certificate.public_bytes(serialization.Encoding.DER)
    return context, hashlib.sha256(der).digest()


async def test_a_certificate_of_one_s_own_is_taken_by_its_fingerprint_alone(
    tmp_path: Path, client: HttpClient
) -> None:
    context, fingerprint = self_signed(tmp_path)
    async with talking(context) as talk:
        url = (talk.url / "refused").with_query(status=204)
        answer = await client.send("GET", url, within=A_WHILE, fingerprint=fingerprint)
        assert answer.status == 204

        with pytest.raises(Unavailable, match="certificate") as caught:
            await client.send("POST", url, within=A_WHILE)
        assert caught.value.details["sent"] is False
        assert len(talk.asked) == 1, "a connection that was pinned does not do for others"

        with pytest.raises(Unavailable, match=fingerprint.hex()) as caught:
            await client.send("POST", url, within=A_WHILE, fingerprint=bytes(32))
        assert caught.value.details["sent"] is False
        assert len(talk.asked) == 1, "nothing was sent to who is somebody else"


async def test_a_websocket_is_pinned_as_requests_are(tmp_path: Path, client: HttpClient) -> None:
    context, fingerprint = self_signed(tmp_path)
    async with talking(context) as talk:
        url = talk.url / "echo"
        async with client.websocket(url, within=A_WHILE, fingerprint=fingerprint) as socket:
            await socket.send("one")
            assert await socket.receive() == "one!"
        for wrong in (None, bytes(32)):
            with pytest.raises(Unavailable, match="certificate"):
                async with client.websocket(url, within=A_WHILE, fingerprint=wrong):
                    pass
        assert len(talk.asked) == 1
