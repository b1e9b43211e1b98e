"""Hooks that are forged, replayed, too large, unreadable, or from elsewhere: refused, and counted as what they are."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import io
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from services.gateway.hooks.counting import HookOutcome
from services.gateway.hooks.marks import MARKS, HookMarks, Signed
from services.ingest.handlers import router as ingest
from shared.bus.port import Consumer, Subscription
from shared.clock import ManualClock
from shared.contracts.envelope import Message
from shared.contracts.hooks import CrmHookReceived, HookReceived
from shared.errors import Unavailable
from shared.http.auth import Scope
from shared.storage.port import Find
from shared.testing.patience import Patient
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import SECRET, CrmApi, opened
from tests.contract.lookup_kit import desk_on

DOOR = {"kind": "generic", "name": "door"}
EVENT = {
    "event": "started",
    "call": "x1",
    "at": "2100-01-01T00:00:00Z",
    "direction": "inbound",
    "caller": "447700900123",
}
BODY = json.dumps(EVENT).encode()
STAMPED = {
    "kind": "hmac",
    "secret": "hook_secret",
    "header": "X-Sig",
    "text": "{{.Timestamp}}.{{.Body}}",
    "timestamp_header": "X-Time",
}
HOOKS = ("/v1/hooks/door", "/v1/pbx/uis/events", "/v1/crm/shop/hook")


class Gate:
    """A generic PBX that signs, one that does not, and a CRM that signs with its time."""

    def __init__(self, api: CrmApi) -> None:
        self.api = api
        self.came: list[Message[Any]] = []

    async def apply(self, check: dict[str, Any] | None = None, **door: Any) -> None:
        self.api.template(
            "shop", changes={"hook": {"map": {"contact_id": "id"}, "check": check or STAMPED}}
        )
        sealed = self.api.box.seal(SecretStr(SECRET))
        await self.api.apply(
            {
                "name": "shop",
                "template": "shop",
                "parameters": {"url": "http://127.0.0.1:1"},
                "credentials": {"hook_secret": SECRET},
            },
            pbx=[
                {**DOOR, "signing_secret": sealed, **door},
                {**DOOR, "name": "open", "signing_secret": None, **door},
                {
                    "kind": "uis",
                    "name": "uis",
                    "virtual_number": "74993720692",
                    "access_token": sealed,
                    **door,
                },
                {
                    "kind": "yeastar",
                    "name": "star",
                    "url": "https://pbx.example",
                    "client_id": "c",
                    "client_secret": sealed,
                    "events": "webhook",
                    "webhook_secret": sealed,
                },
            ],
        )

    def signed(self, body: bytes = BODY, *, by: str = SECRET, ago: float = 0) -> dict[str, str]:
        """By a generic PBX, so many seconds ago."""
        stamp = str(int(self.api.clock.now().timestamp() - ago))
        mac = hmac.new(by.encode(), stamp.encode() + b"." + body, hashlib.sha256)
        return {
            "Content-Type": "application/json",
            "X-Callmesh-Timestamp": stamp,
            "X-Callmesh-Signature": f"sha256={mac.hexdigest()}",
        }

    def stamped(self, body: bytes, *, ago: float = 0) -> dict[str, str]:
        """By the CRM."""
        stamp = str(int((self.api.clock.now().timestamp() - ago) * 1000))
        mac = hmac.new(SECRET.encode(), stamp.encode() + b"." + body, hashlib.sha256)
        return {"X-Sig": mac.hexdigest(), "X-Time": stamp}

    async def send(
        self, path: str = "/v1/hooks/door", body: bytes = BODY, **more: Any
    ) -> tuple[int, Any]:
        return await self.api.send("POST", path, data=io.BytesIO(body), **more)

    def counted(self) -> dict[str, float]:
        found = {
            one.value: self.api.metrics.value("callmesh_hooks_total", one.value)
            for one in HookOutcome
        }
        return {name: value for name, value in found.items() if value}

    async def passes(self, time: timedelta) -> None:
        assert isinstance(self.api.clock, ManualClock)
        await self.api.clock.advance(time)


@pytest.fixture
async def gate(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Gate]:
    made: list[Gate] = []

    async def take(message: Message[Any]) -> None:
        made[0].came.append(message)

    hears = (
        Subscription(consumer=Consumer("ingest", HookReceived), handler=take),
        Subscription(consumer=Consumer("test", CrmHookReceived), handler=take),
    )
    async with opened(tmp_path, also=hears, clock=clock) as api:
        made.append(Gate(api))
        await made[0].apply()
        yield made[0]


# -- forged ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", HOOKS)
@pytest.mark.parametrize("method", ["POST", "GET"])
async def test_without_a_key_of_ours_it_is_forged(gate: Gate, path: str, method: str) -> None:
    if (path, method) == ("/v1/hooks/door", "GET"):
        return  # there is no such operation
    for number, key in enumerate(("cm_guess", "x" * 500, "")):
        headers = {"X-Api-Key": key or "-"}
        status, _ = await gate.api.send(method, path, data=BODY, headers=headers)
        assert status == 401
        assert gate.counted() == {"forged": number + 1}


async def test_a_wrong_signature_is_forged(gate: Gate) -> None:
    good = gate.signed()
    wrong = (
        gate.signed(by="guessed"),
        {**good, "X-Callmesh-Signature": "sha256=" + "0" * 64},
        {**good, "X-Callmesh-Timestamp": str(int(good["X-Callmesh-Timestamp"]) + 1)},
        {"Content-Type": "application/json"},
    )
    for headers in wrong:
        assert (await gate.send(headers=headers))[0] == 403
    status, _ = await gate.send("/v1/crm/shop/hook", b'{"id": 7}', headers={"X-Sig": "0" * 64})
    assert status == 401
    assert (await gate.send("/v1/pbx/star/events", headers={"X-Signature": "AAAA"}))[0] == 403
    assert gate.counted() == {"forged": len(wrong) + 2}
    assert gate.came == []


async def test_an_unsigned_body_that_was_changed_on_its_way_is_forged(gate: Gate) -> None:
    """Every byte of it."""
    headers = gate.signed()
    for place in range(len(BODY)):
        body = BODY[:place] + bytes([BODY[place] ^ 1]) + BODY[place + 1 :]
        status, _ = await gate.send(body=body, headers=headers)
        # What is no JSON any more is not read far enough.
        assert status in {400, 403, 422}
    assert gate.came == []
    assert set(gate.counted()) <= {"forged", "unreadable"}


# -- replayed ----------------------------------------------------------------------------------------------


async def test_the_very_same_signed_request_is_answered_as_the_first_and_does_nothing(
    gate: Gate,
) -> None:
    headers = gate.signed()
    answers = [await gate.send(headers=headers) for _ in range(4)]
    assert answers == [(202, {"accepted": 1})] * 4
    assert gate.counted() == {"accepted": 1, "replayed": 3}
    await eventually(lambda: len(gate.came) == 1)


async def test_it_cannot_be_told_by_the_way_it_is_written(gate: Gate) -> None:
    headers = gate.signed()
    assert (await gate.send(headers=headers))[0] == 202
    loud = {**headers, "X-Callmesh-Signature": headers["X-Callmesh-Signature"].upper()}
    assert (await gate.send(headers=loud))[0] == 202
    assert gate.counted() == {"accepted": 1, "replayed": 1}


async def test_signed_anew_it_is_another_request_and_the_event_counts_once(gate: Gate) -> None:
    assert (await gate.send(headers=gate.signed()))[0] == 202
    assert (await gate.send(headers=gate.signed(ago=1)))[0] == 202
    assert gate.counted() == {"accepted": 2}
    # The same message, whoever sent it: by its id it is one.
    await eventually(lambda: len(gate.came) == 2)
    assert len({message.id for message in gate.came}) == 1


@pytest.mark.parametrize("ago", [301, -301, 86400])
async def test_out_of_its_time_it_is_refused(gate: Gate, ago: int) -> None:
    assert (await gate.send(headers=gate.signed(ago=ago)))[0] == 403
    body = b'{"id": 7}'
    status, _ = await gate.send("/v1/crm/shop/hook", body, headers=gate.stamped(body, ago=ago))
    assert status == 401
    assert gate.counted() == {"replayed": 2}


async def test_when_its_time_is_over_it_is_refused_and_forgotten(gate: Gate) -> None:
    headers = gate.signed()
    assert (await gate.send(headers=headers))[0] == 202
    await gate.passes(timedelta(seconds=301))
    assert (await gate.send(headers=headers))[0] == 403
    await gate.passes(timedelta(minutes=5))
    assert (await gate.api.store.collection(MARKS).page(Find())).documents == []


async def test_a_crm_s_signed_hook_comes_once(gate: Gate) -> None:
    body = b'{"id": 7}'
    headers = gate.stamped(body)
    answers = [await gate.send("/v1/crm/shop/hook", body, headers=headers) for _ in range(3)]
    assert answers == [(200, {"changes": 1})] * 3
    assert gate.counted() == {"accepted": 1, "replayed": 2}
    await eventually(lambda: len(gate.came) == 1)
    later = gate.stamped(body, ago=1)
    assert (await gate.send("/v1/crm/shop/hook", body, headers=later))[0] == 200
    await eventually(lambda: len(gate.came) == 2)


@pytest.mark.parametrize(
    "check",
    [
        {"kind": "hmac", "secret": "hook_secret", "header": "X-Sig"},
        {**STAMPED, "text": "{{.Body}}"},
    ],
    ids=["no time", "a time that nobody signed"],
)
async def test_a_signature_that_says_nothing_of_its_time_may_come_again(
    gate: Gate, check: dict[str, Any]
) -> None:
    """Of two changes of a contact many a CRM says the very same."""
    await gate.apply(check)
    body = b'{"id": 7}'
    mac = hmac.new(SECRET.encode(), body, hashlib.sha256).hexdigest()
    stamp = str(int(gate.api.clock.now().timestamp()))
    headers = {"X-Sig": mac, "X-Time": stamp}
    for _ in range(2):
        assert (await gate.send("/v1/crm/shop/hook", body, headers=headers))[0] == 200
    assert gate.counted() == {"accepted": 2}
    await eventually(lambda: len(gate.came) == 2)


async def test_a_yeastar_s_bytes_may_come_again(gate: Gate) -> None:
    """Its signature covers no time: an agent who is free again is told by the same bytes."""
    body = b'{"type":30007}'
    sign = base64.b64encode(hmac.digest(SECRET.encode(), body, "sha256")).decode()
    for _ in range(2):
        status, _ = await gate.send("/v1/pbx/star/events", body, headers={"X-Signature": sign})
        assert status == 202
    assert gate.counted() == {"accepted": 2}
    await eventually(lambda: len(gate.came) == 2)


class Away:
    """A store, of which only this is asked."""

    async def add(self, _: Any) -> None:
        raise Unavailable("the store is away")


async def test_one_that_could_not_be_kept_may_come_again(gate: Gate) -> None:
    """Broker and store were away: the sender is told so, and its retry is no replay."""
    headers = gate.signed()
    gate.api.bus.is_away = True
    spool = gate.api.deps.spool
    kept, spool._spool = spool._spool, Away()  # type: ignore[assignment]  # asked for add alone
    assert (await gate.send(headers=headers))[0] == 503
    spool._spool = kept
    gate.api.bus.is_away = False
    assert (await gate.send(headers=headers))[0] == 202
    assert gate.counted() == {"not_now": 1, "accepted": 1}
    await eventually(lambda: len(gate.came) == 1)


async def test_a_spooled_one_is_known_again(gate: Gate) -> None:
    headers = gate.signed()
    gate.api.bus.is_away = True
    for _ in range(2):
        assert (await gate.send(headers=headers))[0] == 202
    assert gate.counted() == {"spooled": 1, "replayed": 1}


@pytest.mark.parametrize("kind", ["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def test_marks_are_of_one_tenant_and_connection_and_end(
    kind: str, clock: ManualClock, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("mongo_url") if kind == "mongo" else None
    async with desk_on(kind, clock, url) as desk:
        marks = [HookMarks(desk.store.collection(MARKS), clock, Patient(clock)) for _ in range(2)]
        one = Signed("pbx/door", "abc", keep=timedelta(minutes=10))
        assert not await marks[0].came("acme", one)
        await asyncio.gather(*(mark.note("acme", one) for mark in marks for _ in range(3)))
        assert await marks[1].came("acme", one)
        assert not await marks[1].came("other", one)
        assert not await marks[1].came("acme", Signed("pbx/yard", "abc", keep=one.keep))
        assert not await marks[1].came("acme", None)
        await clock.advance(timedelta(minutes=10))
        assert not await marks[0].came("acme", one)


# -- too large, unreadable, from elsewhere -------------------------------------------------------------------


@pytest.mark.parametrize("path", HOOKS)
async def test_a_body_that_is_too_large_is_counted(gate: Gate, path: str) -> None:
    body = b'{"id": "' + b"x" * (1024 * 1024) + b'"}'
    headers = {"Content-Type": "application/json"}
    assert (await gate.send(path, body, headers=headers))[0] == 413
    assert gate.counted() == {"oversized": 1}


@pytest.mark.parametrize(
    ("path", "body", "kind", "status"),
    [
        ("/v1/hooks/open", b"{", "application/json", 400),
        ("/v1/hooks/open", b"{}", "application/json", 422),
        ("/v1/hooks/open", b"{}", "text/plain", 415),
        ("/v1/hooks/open", b'{"event": "nonsense"}', "application/json", 422),
        ("/v1/pbx/uis/events", b"\xff\xfe", "application/json", 400),
    ],
)
async def test_what_cannot_be_read_is_counted(
    gate: Gate, path: str, body: bytes, kind: str, status: int
) -> None:
    assert (await gate.send(path, body, headers={"Content-Type": kind}))[0] == status
    assert gate.counted() == {"unreadable": 1}


async def test_from_another_network_or_by_another_key_it_is_not_allowed(gate: Gate) -> None:
    await gate.apply(senders=["192.0.2.0/24"])
    assert (await gate.send(headers=gate.signed()))[0] == 403
    assert (await gate.send("/v1/pbx/uis/events"))[0] == 403
    reader = await gate.api.a_key(Scope.CALLS_READ)
    assert (await gate.send(headers=gate.signed(), key=reader))[0] == 403
    assert gate.counted() == {"not_allowed": 3}
    assert gate.came == []


@pytest.mark.parametrize("path", ["/v1/hooks/nosuch", "/v1/pbx/nosuch/events", "/v1/crm/x/hook"])
async def test_for_a_connection_that_is_not_there_it_is_unknown(gate: Gate, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    assert (await gate.send(path, headers=headers))[0] == 404
    assert gate.counted() == {"unknown": 1}


async def test_another_tenant_s_key_finds_no_connection_here(gate: Gate) -> None:
    token = await gate.api.keys.issue(tenant="other", name="k", scopes=tuple(Scope))
    status, _ = await gate.send(headers=gate.signed(), key=token.get_secret_value())
    assert status == 404
    assert gate.counted() == {"unknown": 1}


def test_what_is_kept_is_read_by_ingest() -> None:
    assert HookReceived in ingest.contracts
