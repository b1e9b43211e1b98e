"""The door for PBXs' hooks: who may come in, and that what came is kept as it was."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from shared.bus.port import Consumer, Subscription
from shared.contracts.envelope import Message
from shared.contracts.hooks import HookKind, HookReceived
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import CrmApi, opened

UIS = {
    "kind": "uis",
    "name": "uis",
    "virtual_number": "74993720692",
}
EVENT = {
    "event": "started",
    "call": "x1",
    "at": "2026-01-01T12:00:00Z",
    "direction": "inbound",
    "caller": "447700900123",
}


class Door:
    def __init__(self, api: CrmApi) -> None:
        self.api = api
        self.came: list[Message[HookReceived]] = []

    async def apply(self, *pbx: dict[str, Any]) -> None:
        def sealed(one: dict[str, Any]) -> dict[str, Any]:
            secrets = {"access_token", "signing_secret", "client_secret"} & one.keys()
            return one | {name: self.api.box.seal(one[name]) for name in secrets}

        await self.api.apply(pbx=[sealed(one) for one in pbx])

    async def hook(self) -> HookReceived:
        await eventually(lambda: bool(self.came))
        return self.came[-1].body

    async def take(self, message: Message[Any]) -> None:
        self.came.append(message)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    taking: list[Door] = []

    async def take(message: Message[Any]) -> None:
        await taking[0].take(message)

    subscription = Subscription(consumer=Consumer("ingest", HookReceived), handler=take)
    async with opened(tmp_path, also=(subscription,)) as api:
        taking.append(Door(api))
        yield taking[0]


def secret(text: str) -> Any:
    return SecretStr(text)


async def test_a_vendor_s_body_is_kept_as_it_came_and_the_key_is_not(door: Door) -> None:
    await door.apply({**UIS, "access_token": secret("t")})
    body = '{"notification_mnemonic": "x", "odd":  [1,2 ]}'
    status, said = await door.api.send(
        "POST",
        f"/v1/pbx/uis/events?key={door.api.key}&from=a%20b",
        data=body,
        headers={"Content-Type": "application/json"},
    )

    assert (status, said) == (202, {"accepted": 1})
    hook = await door.hook()
    assert (hook.kind, hook.body, hook.query) == (HookKind.UIS, body, {"from": "a b"})
    assert door.api.key not in hook.model_dump_json()


async def test_a_hook_by_url_alone_is_one(door: Door) -> None:
    await door.apply({**UIS, "access_token": secret("t")})
    status, _ = await door.api.send("GET", "/v1/pbx/uis/events?call_session_id=5")

    assert status == 202
    hook = await door.hook()
    assert (hook.method, hook.query) == ("GET", {"call_session_id": "5"})


@pytest.mark.parametrize("path", ["/v1/pbx/uis/events", "/v1/hooks/door"])
async def test_from_another_address_it_may_not_come_in(door: Door, path: str) -> None:
    senders = {"senders": ["192.0.2.0/24"]}
    await door.apply(
        {**UIS, "access_token": secret("t"), **senders},
        {"kind": "generic", "name": "door", **senders},
    )
    status, problem = await door.api.send("POST", path, json=EVENT)

    assert status == 403
    assert "senders" in problem["detail"]
    assert not door.came
    assert door.api.metrics.value("callmesh_hooks_total", "not_allowed") == 1


async def test_a_kind_that_sends_no_hooks_says_so(door: Door) -> None:
    await door.apply(
        {
            "kind": "threecx",
            "name": "cx",
            "url": "https://pbx.example",
            "client_id": "c",
            "client_secret": secret("t"),
        }
    )
    status, _ = await door.api.send("POST", "/v1/pbx/cx/events", data="x")
    assert status == 404
    assert (await door.api.send("POST", "/v1/pbx/nosuch/events", data="x"))[0] == 404


async def test_bytes_that_are_no_text_are_refused(door: Door) -> None:
    await door.apply({**UIS, "access_token": secret("t")})
    status, problem = await door.api.send("POST", "/v1/pbx/uis/events", data=b"\xff\xfe")
    assert (status, problem["code"]) == (400, "unreadable_body")


def signed(body: bytes, *, key: str, at: float) -> dict[str, str]:
    stamp = str(int(at))
    digest = hmac.new(key.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {
        "Content-Type": "application/json",
        "X-Callmesh-Timestamp": stamp,
        "X-Callmesh-Signature": f"sha256={digest}",
    }


async def test_a_signed_hook_comes_in_and_no_other(door: Door) -> None:
    await door.apply({"kind": "generic", "name": "door", "signing_secret": secret("both know")})
    body = json.dumps(EVENT).encode()
    now = time.time()  # noqa: TID251  the sender's clock, of the same machine

    async def status(data: bytes, headers: dict[str, str]) -> int:
        return (await door.api.send("POST", "/v1/hooks/door", data=data, headers=headers))[0]

    good = signed(body, key="both know", at=now)
    assert await status(body, good) == 202
    assert await status(body.replace(b"x1", b"x2"), good) == 403
    assert await status(body, signed(body, key="guessed", at=now)) == 403
    assert await status(body, signed(body, key="both know", at=now - 3600)) == 403
    assert await status(body, {"Content-Type": "application/json"}) == 403
    hook = await door.hook()
    assert len(door.came) == 1
    assert hook.kind is HookKind.GENERIC
