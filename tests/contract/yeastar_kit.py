"""A replica of ours beside a Yeastar: the adapter, its source, and a clock that is moved by hand."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import orjson
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.pbx.port import (
    DialRequest,
    Finding,
    PbxAdapter,
    Phones,
    Switchboard,
)
from shared.pbx.yeastar.adapter import YeastarSettings, yeastar_adapter
from shared.pbx.yeastar.api import YeastarApi
from tests.contract.told_kit import Watch, watching
from tests.contract.yeastar_server import (
    CLIENT_ID,
    SECRET,
    FakeYeastar,
    a_yeastar,
)

A_WHILE = timedelta(seconds=5)
LOOPBACK = AddressGuard(networks("127.0.0.0/8", setting="X"))
ORDER = DialRequest(
    reference="r1", extension="1005", number="07700900777", ring_for=timedelta(seconds=15)
)


def settings_of(pbx: FakeYeastar, **more: Any) -> YeastarSettings:
    said = {
        "url": pbx.url,
        "client_id": CLIENT_ID,
        "client_secret": SecretStr(SECRET),
        "zone": "Europe/Berlin",
        **more,
    }
    return YeastarSettings(**said)


@dataclass
class Mesh:
    """One replica's adapter of the PBX."""

    pbx: FakeYeastar
    http: HttpClient
    clock: ManualClock
    metrics: Metrics
    settings: YeastarSettings = field(init=False)

    def __post_init__(self) -> None:
        self.settings = settings_of(self.pbx)

    def adapter(self, **more: Any) -> PbxAdapter:
        return yeastar_adapter(
            replace(self.settings, **more),
            tenant="acme",
            pbx="berlin",
            http=self.http,
            clock=self.clock,
            metrics=self.metrics,
        )

    def api(self, **more: Any) -> YeastarApi:
        return YeastarApi(replace(self.settings, **more), self.http, self.clock)

    def board(self, **more: Any) -> Switchboard:
        make = self.adapter(**more).switchboard
        assert make is not None
        return make()

    async def findings(self, **more: Any) -> list[Finding]:
        return [finding async for finding in self.adapter(**more).check()]

    async def faults(self, **more: Any) -> dict[str, str | None]:
        return {finding.what: finding.fault for finding in await self.findings(**more)}


@asynccontextmanager
async def a_mesh(clock: ManualClock, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Mesh]:
    async with a_yeastar(tls=tls) as pbx, HttpClient(LOOPBACK) as http:
        yield Mesh(pbx, http, clock, Metrics())


def reading(mesh: Mesh, **more: Any) -> AbstractAsyncContextManager[Watch]:
    return watching(mesh.adapter(**more), Phones(extensions=frozenset({"1005", "1006"})))


def ringing(call_id: str) -> str:
    said = {
        "call_id": call_id,
        "members": [
            {"inbound": {"from": "447700900123", "to": "442", "member_status": "ALERT"}},
            {"extension": {"number": "1005", "member_status": "RING"}},
        ],
    }
    return orjson.dumps({"type": 30011, "sn": "x", "msg": orjson.dumps(said).decode()}).decode()


async def let_pass(clock: ManualClock, length: timedelta) -> None:
    """In steps, so that whoever wakes is heard."""
    for _ in range(20):
        await clock.advance(length / 20)
        for _ in range(5):
            await asyncio.sleep(0)  # noqa: TID251  lets the woken tasks run, no time passes


async def advanced_until(clock: ManualClock, holds: Any) -> bool:
    await clock.advance(timedelta(seconds=1))
    return bool(holds())
