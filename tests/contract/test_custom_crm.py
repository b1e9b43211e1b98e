"""The client of a Custom CRM against a server with a certificate of a company's own authority."""

from __future__ import annotations

import asyncio
import gzip
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import JsonValue, SecretStr
from yarl import URL

from services.routing.custom import MAX_ANSWER_BYTES, CustomCrmClient
from shared.clock import ManualClock
from shared.errors import (
    BadSetting,
    ContractError,
    Forbidden,
    MeshError,
    OutOfTime,
    Rejected,
    Throttled,
    Unavailable,
)
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.net.trust import trusting
from shared.runtime.platform import Choice, open_platform
from shared.runtime.settings import AmqpSettings, MeshSettings, MongoSettings, NetSettings
from shared.secrets import SecretBox, new_key
from shared.site.rules.rule import CustomCrm, HttpHeader, Sent
from shared.testing.servers import free_port
from shared.testing.waiting import eventually

A_WHILE = timedelta(seconds=5)
LOOPBACK = AddressGuard(networks("127.0.0.0/8", setting="X"))
CALL = {Sent.CALLER: "+447700900123", Sent.DID: "442079460000", Sent.IVR: "", Sent.CALL: "c 1"}


class Company:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self) -> None:
        self.url = ""
        self.asked: list[tuple[str, str, str]] = []
        self.headers: dict[str, str] = {}
        self.status, self.body = 200, b"GOLD"
        self.answer_headers = {"Content-Type": "text/plain"}
        self.open = asyncio.Event()
        self.open.set()
        self.waiting = 0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.text()
        self.asked.append((request.method, request.raw_path, body))
        self.headers = dict(request.headers)
        self.waiting += 1
        await self.open.wait()
        self.waiting -= 1
        return web.Response(status=self.status, body=self.body, headers=self.answer_headers)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ssl.SSLContext]:
    """The file of an authority, and the context of a server on 127.0.0.1 that it vouches for."""
    folder = tmp_path_factory.mktemp("authority")
    ours, theirs = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "A company")])

    def made(subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)  # noqa: TID251  the certificate is read by OpenSSL's clock
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=2))
        return builder.not_valid_after(now + timedelta(days=2))

    authority = (
        made(name, ours.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(ours, hashes.SHA256())
    )
    server = (
        made(x509.Name([]), theirs.public_key())
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=True
        )
        .sign(ours, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "ca.pem").write_bytes(authority.public_bytes(pem))
    (folder / "server.pem").write_bytes(
        theirs.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        + server.public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return folder / "ca.pem", context


@asynccontextmanager
async def serving(context: ssl.SSLContext) -> AsyncIterator[Company]:
    found = Company()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.answer)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    found.url = f"https://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield found
    finally:
        await runner.cleanup()


@pytest.fixture
async def company(certificates: tuple[Path, ssl.SSLContext]) -> AsyncIterator[Company]:
    async with serving(certificates[1]) as found:
        yield found


@pytest.fixture
def box() -> SecretBox:
    return SecretBox([new_key()])


@pytest.fixture
async def client(
    certificates: tuple[Path, ssl.SSLContext], box: SecretBox
) -> AsyncIterator[CustomCrmClient]:
    async with HttpClient(LOOPBACK, trust=trusting(certificates[0])) as http:
        yield CustomCrmClient(http, box, ManualClock())


async def ask(
    client: CustomCrmClient,
    company: Company,
    path: str = "",
    *,
    dtmf: str = "",
    within: timedelta = A_WHILE,
    **custom: Any,
) -> JsonValue:
    asked = CustomCrm(url=f"{company.url}{path}", **custom)
    return await client.value(asked, field="Field_Name", dtmf=dtmf, sent=CALL, within=within)


# -- what goes out ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "dtmf", "asked"),
    [
        ("", "", "/?field_name=Field_Name"),
        ("/crm", "42", "/crm?field_name=Field_Name&dtmf=42"),
        ("/crm", "*1#A", "/crm?field_name=Field_Name&dtmf=%2A1%23A"),
        ("/crm?", "", "/crm?field_name=Field_Name"),
        (
            "/crm?key=a%2Fb%20c+d&flag",
            "7",
            "/crm?key=a%2Fb%20c+d&flag&field_name=Field_Name&dtmf=7",
        ),
        ('/a"b<>?c={"d"}', "", "/a%22b%3C%3E?c=%7B%22d%22%7D&field_name=Field_Name"),
        ("/a:b;c=1,2/%41@x", "", "/a:b;c=1,2/%41@x?field_name=Field_Name"),
        ("/crm?a=1&", "", "/crm?a=1&field_name=Field_Name"),
        ("/\u043a\u0441?q=\u00e9", "", "/%D0%BA%D1%81?q=%C3%A9&field_name=Field_Name"),
    ],
)
async def test_the_field_and_the_digits_follow_the_address(
    client: CustomCrmClient, company: Company, path: str, dtmf: str, asked: str
) -> None:
    assert await ask(client, company, path, dtmf=dtmf) == "GOLD"
    assert company.asked == [("GET", asked, "")]


async def test_what_the_rule_names_goes_along_and_what_is_empty_does_not(
    client: CustomCrmClient, company: Company
) -> None:
    send = {"from": "caller", "to": "did", "menu": "ivr", "call": "call"}
    await ask(client, company, send=send)
    query = "field_name=Field_Name&from=%2B447700900123&to=442079460000&call=c%201"
    assert company.asked == [("GET", f"/?{query}", "")]


async def test_a_post_says_it_in_json_and_leaves_the_address_as_it_is(
    client: CustomCrmClient, company: Company
) -> None:
    await ask(client, company, "/crm?key=1", dtmf="42", post=True, send={"from": "caller"})
    ((method, path, body),) = company.asked
    assert (method, path) == ("POST", "/crm?key=1")
    said = {"field_name": "Field_Name", "dtmf": "42", "from": "+447700900123"}
    assert json.loads(body) == said
    assert company.headers["Content-Type"] == "application/json"


async def test_a_hostile_caller_breaks_out_of_nothing(
    client: CustomCrmClient, company: Company
) -> None:
    caller = "1&field_name=x\r\nX-Evil: 1 \ud800" + "9" * 1000
    for post in (False, True):
        custom = CustomCrm(url=company.url, post=post, send={"from": Sent.CALLER})
        asked = {Sent.CALLER: caller}
        await client.value(custom, field="F", dtmf="", sent=asked, within=A_WHILE)
    (_, path, _), (_, _, body) = company.asked
    query = URL(f"https://x{path}").query
    assert query.getall("field_name") == ["F"]
    assert query["from"] == caller.replace("\ud800", "?")[:256]
    assert json.loads(body)["from"] == caller[:256]
    assert "X-Evil" not in company.headers


async def test_the_header_of_the_rule_goes_with_each_request(
    client: CustomCrmClient, company: Company, box: SecretBox
) -> None:
    header = HttpHeader(name="X-Api-Key", value=box.seal(SecretStr("s3cret\n")))
    for post in (False, True):
        await ask(client, company, header=header, post=post)
        assert company.headers["X-Api-Key"] == "s3cret"


@pytest.mark.parametrize("host", ["xn--a", "a..b", "\u2025", "[::1", "x" * 64])
async def test_a_host_that_is_none_is_refused(client: CustomCrmClient, host: str) -> None:
    custom = CustomCrm.model_construct(
        url=f"https://{host}/", post=False, header=None, send=dict[str, Sent]()
    )
    with pytest.raises((Rejected, Unavailable)):
        await client.value(custom, field="F", dtmf="", sent={}, within=A_WHILE)


@pytest.mark.parametrize("value", ["s3cret\r\nX-Evil: 1", "s3cret\0", "s3cret\u00e9", "s3\x7fcret"])
async def test_a_header_that_none_carries_is_said_without_its_value(
    client: CustomCrmClient, company: Company, box: SecretBox, value: str
) -> None:
    header = HttpHeader(name="X-Api-Key", value=box.seal(SecretStr(value)))
    with pytest.raises(BadSetting, match="X-Api-Key") as caught:
        await ask(client, company, header=header)
    assert "cret" not in str(caught.value)
    assert company.asked == []


# -- what comes back -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (301, Rejected, "points elsewhere"),
        (400, Rejected, "400"),
        (401, Forbidden, "header"),
        (403, Forbidden, "header"),
        (418, Rejected, "418"),
        (429, Throttled, "slow down"),
        (500, Unavailable, "500"),
        (503, Unavailable, "503"),
    ],
)
async def test_a_refusal_is_said_by_its_kind(
    client: CustomCrmClient, company: Company, status: int, error: type[MeshError], said: str
) -> None:
    company.status = status
    company.answer_headers |= {"Retry-After": "30", "Location": f"{company.url}/elsewhere"}
    with pytest.raises(error, match=said) as caught:
        await ask(client, company, "/crm?key=s3cret")
    assert "s3cret" not in str(caught.value)
    assert len(company.asked) == 1, "a redirect is not followed, a refusal not asked again"
    if isinstance(caught.value, Throttled | Unavailable):
        assert caught.value.retry_after == timedelta(seconds=30)


@pytest.mark.parametrize(("status", "body"), [(204, b""), (404, b"<html>no</html>"), (200, b" \n")])
async def test_no_answer_is_no_value(
    client: CustomCrmClient, company: Company, status: int, body: bytes
) -> None:
    company.status, company.body = status, body
    assert await ask(client, company) is None


async def test_json_is_read_by_its_field(client: CustomCrmClient, company: Company) -> None:
    company.answer_headers = {"Content-Type": "application/json"}
    company.body = b'{"value": "x", "field_name": "GOLD"}'
    assert await ask(client, company) == "GOLD"


async def test_a_page_is_no_value(client: CustomCrmClient, company: Company) -> None:
    company.answer_headers = {"Content-Type": "text/html; charset=utf-8"}
    company.body = b"<html>Sign in, s3cret</html>"
    with pytest.raises(ContractError, match="a page") as caught:
        await ask(client, company)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("post", [False, True])
async def test_more_than_a_value_is_not_read(
    client: CustomCrmClient, company: Company, post: bool
) -> None:
    company.body = bytes(MAX_ANSWER_BYTES + 1)
    with pytest.raises((Rejected, Unavailable), match=f"more than {MAX_ANSWER_BYTES} bytes"):
        await ask(client, company, post=post)


async def test_a_bomb_is_capped_as_it_unfolds(client: CustomCrmClient, company: Company) -> None:
    company.body = gzip.compress(bytes(50_000_000))
    company.answer_headers["Content-Encoding"] = "gzip"
    with pytest.raises(Rejected, match="more than"):
        await ask(client, company)


# -- who is asked, and for how long ----------------------------------------------------------


async def test_one_that_hangs_costs_the_budget(client: CustomCrmClient, company: Company) -> None:
    company.open.clear()
    with pytest.raises(OutOfTime, match=r"127\.0\.0\.1 did not answer within 0\.1 s"):
        await ask(client, company, within=timedelta(seconds=0.1))
    company.open.set()


async def test_one_that_hangs_holds_a_few_connections_and_no_more(
    client: CustomCrmClient, company: Company
) -> None:
    company.open.clear()
    calls = [asyncio.create_task(ask(client, company)) for _ in range(60)]
    await eventually(lambda: company.waiting == 24)
    assert len(company.asked) == 24
    company.open.set()
    assert await asyncio.gather(*calls) == ["GOLD"] * 60
    assert len(company.asked) == 60, "each call asks: what one is told may be wrong for another"


async def test_where_nobody_listens_it_is_unavailable(
    client: CustomCrmClient, company: Company
) -> None:
    custom = CustomCrm(url=f"https://127.0.0.1:{free_port()}/")
    with pytest.raises(Unavailable, match="no connection"):
        await client.value(custom, field="F", dtmf="", sent={}, within=A_WHILE)


async def test_the_operators_own_network_is_not_asked(
    company: Company, box: SecretBox, certificates: tuple[Path, ssl.SSLContext]
) -> None:
    async with HttpClient(AddressGuard(), trust=trusting(certificates[0])) as http:
        with pytest.raises(Rejected, match="not a public address"):
            await ask(CustomCrmClient(http, box, ManualClock()), company)
    assert company.asked == []


async def test_a_server_that_nobody_vouches_for_is_not_asked(
    company: Company, box: SecretBox
) -> None:
    async with HttpClient(LOOPBACK) as http:
        with pytest.raises(Unavailable, match="certificate"):
            await ask(CustomCrmClient(http, box, ManualClock()), company)
    assert company.asked == []


async def test_an_authority_vouches_for_the_names_in_its_certificates_alone(
    client: CustomCrmClient, company: Company
) -> None:
    company.url = company.url.replace("127.0.0.1", "localhost")
    with pytest.raises(Unavailable, match="certificate"):
        await ask(client, company)
    assert company.asked == []


async def test_the_setting_reaches_the_client_of_the_whole_process(
    company: Company,
    box: SecretBox,
    certificates: tuple[Path, ssl.SSLContext],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CALLMESH_NET_ALLOW", "127.0.0.0/8")
    monkeypatch.setenv("CALLMESH_NET_CA_FILE", str(certificates[0]))
    choice = Choice(
        MeshSettings(data_dir=tmp_path), AmqpSettings(), MongoSettings(), NetSettings.read()
    )
    async with open_platform(choice, consumers=()) as platform:
        client = CustomCrmClient(platform.http, box, platform.clock)
        assert await ask(client, company) == "GOLD"


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "cannot read"), (b"", "PEM"), (b"\x00\x01", "PEM"), (b"-----BEGIN X-----", "PEM")],
)
def test_a_file_of_no_authority_stops_the_start(
    tmp_path: Path, content: bytes | None, said: str
) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(BadSetting, match=f"CALLMESH_NET_CA_FILE.*{said}"):
        trusting(file)


def test_a_folder_is_no_file_of_authorities(tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match=r"CALLMESH_NET_CA_FILE"):
        trusting(tmp_path)
