"""What doctor finds out about a Yeastar."""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.contracts.calls import CallRinging
from shared.testing.servers import free_port
from shared.testing.waiting import eventually
from tests.contract.yeastar_kit import (
    Mesh,
    a_mesh,
    reading,
    ringing,
)
from tests.contract.yeastar_server import (
    FakeYeastar,
    good,
    refused,
)


@pytest.fixture
async def mesh(clock: ManualClock) -> AsyncIterator[Mesh]:
    async with a_mesh(clock) as found:
        yield found


@pytest.fixture
def pbx(mesh: Mesh) -> FakeYeastar:
    return mesh.pbx


def information(clock: ManualClock, **more: Any) -> dict[str, Any]:
    local = clock.now() + timedelta(hours=1)  # Berlin on the first of January
    said = {
        "sn": "3631A2124XXX",
        "system_time": local.strftime("%Y/%m/%d %H:%M:%S"),
        "timestamp": int(clock.now().timestamp()),
        **more,
    }
    return good(data=said)


async def test_a_pbx_in_order_has_no_faults_and_its_place_is_given_back(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    pbx.answers["system/information"] = lambda _, __: information(mesh.clock)
    found = await mesh.faults()

    assert found == {
        f"Open API at {pbx.url.removeprefix('http://')}": None,
        "its clock": None,
        "its time zone": None,
        "events by WebSocket": None,
    }
    assert pbx.paths()[-1] == "del_token"


async def test_a_closed_port_says_so(pbx: FakeYeastar, mesh: Mesh) -> None:
    (finding,) = await mesh.findings(url=f"http://127.0.0.1:{free_port()}")

    assert "no connection to 127.0.0.1" in (finding.fault or "")


async def test_a_wrong_secret_says_where_to_look(pbx: FakeYeastar, mesh: Mesh) -> None:
    (finding,) = await mesh.findings(client_secret=SecretStr("wrong-and-secret"))

    assert "Integrations > API" in (finding.fault or "")
    assert "wrong-and-secret" not in (finding.fault or "")


@pytest.mark.parametrize(
    ("off", "words"), [(42, "42 s ahead of ours"), (-7, "7 s behind ours"), (4, None)]
)
async def test_a_clock_that_is_off_is_found(
    pbx: FakeYeastar, mesh: Mesh, off: int, words: str | None
) -> None:
    stamp = int(mesh.clock.now().timestamp()) + off
    pbx.answers["system/information"] = lambda _, __: information(mesh.clock, timestamp=stamp)
    fault = (await mesh.faults())["its clock"]

    assert (fault is None) if words is None else (words in (fault or ""))


async def test_the_date_of_the_answer_will_do_where_the_firmware_says_no_time(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    pbx.answers["system/information"] = lambda _, __: web.json_response(
        good(data={}), headers={"Date": "Fri, 01 Jan 2100 00:10:00 GMT"}
    )
    found = await mesh.faults()

    assert "600 s ahead of ours" in (found["its clock"] or "")
    assert "its time zone" not in found


async def test_a_zone_that_is_another_is_found(pbx: FakeYeastar, mesh: Mesh) -> None:
    pbx.answers["system/information"] = lambda _, __: information(mesh.clock)
    fault = (await mesh.faults(zone="Asia/Shanghai"))["its time zone"]

    assert "UTC+1, and Asia/Shanghai is not there" in (fault or "")


async def test_a_refused_subscription_is_found(pbx: FakeYeastar, mesh: Mesh) -> None:
    pbx.subscription = refused(10003, "NO PERMISSION")

    assert "10003 NO PERMISSION" in ((await mesh.faults())["events by WebSocket"] or "")


HOOK_URL = "https://mesh.example/v1/pbx/berlin/events?key=k"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"enb_webhook_event_push": 0}, "tick Webhook Event Push"),
        ({"enb_webhook_event_push": 1, "webhook_event_push_list": []}, "no webhook"),
        ({"webhook_event_push_list": [{"url": "https://x.example/[", "secret": 1}, 7]}, "no webh"),
        (
            {"webhook_event_push_list": [{"url": HOOK_URL, "request_method": "GET"}]},
            "Request Method to POST",
        ),
        (
            {
                "webhook_event_push_list": [
                    {"url": HOOK_URL, "request_method": "POST", "event_ids": [30011, [], 30016]}
                ]
            },
            "events 30012 too",
        ),
        (
            {
                "webhook_event_push_list": [
                    {"url": HOOK_URL, "request_method": "POST", "secret": "their-secret"}
                ]
            },
            "Secret is another",
        ),
        (
            {
                "webhook_event_push_list": [
                    {
                        "url": HOOK_URL,
                        "request_method": "POST",
                        "secret": "our-secret",
                        "event_ids": [30011, 30012, 30013],
                    }
                ]
            },
            None,
        ),
    ],
)
async def test_a_webhook_that_does_not_lead_to_us_is_found(
    pbx: FakeYeastar, mesh: Mesh, data: dict[str, Any], words: str | None
) -> None:
    pbx.answers["webhook/query"] = lambda _, __: good(data=data)
    found = await mesh.faults(events="webhook", webhook_secret=SecretStr("our-secret"))
    fault = found["events by webhook"]

    assert (fault is None) if words is None else (words in (fault or ""))
    assert "our-secret" not in (fault or "")
    assert "their-secret" not in (fault or "")


async def test_firmware_that_does_not_show_its_webhooks_is_no_fault(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    pbx.answers["webhook/query"] = lambda _, __: refused(10001, "INTERFACE NOT EXISTED")

    assert (await mesh.faults(events="webhook"))["events by webhook"] is None


def self_signed(folder: Path) -> tuple[ssl.SSLContext, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "PBX")])
    began = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(began)
        .not_valid_after(datetime(2099, 1, 1, tzinfo=UTC))
        .sign(key, hashes.SHA256())
    )
    path = folder / "pbx.pem"
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context, certificate.fingerprint(hashes.SHA256())


async def test_a_self_signed_certificate_is_shown_then_pinned(
    clock: ManualClock, tmp_path: Path
) -> None:
    context, fingerprint = self_signed(tmp_path)
    async with a_mesh(clock, tls=context) as mesh:
        pbx = mesh.pbx
        (finding,) = await mesh.findings()
        shown = re.search(r"`fingerprint: ([0-9a-f]{64})`", finding.fault or "")
        assert shown is not None
        assert shown[1] == fingerprint.hex()
        assert pbx.paths() == []

        async with reading(mesh, fingerprint=fingerprint) as found:
            await eventually(lambda: found.source.connected)
            await pbx.tell(ringing("1.1"))
            await eventually(lambda: bool(found.told(CallRinging)))

        (other,) = await mesh.findings(fingerprint=bytes(31) + b"\x01")
        assert "its certificate is another" in (other.fault or "")
