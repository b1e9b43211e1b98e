"""
Somebody who is told: takes webhooks on a port of this machine, and checks each signature; and a mesh
that tells him.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from aiohttp import web

from services.gateway.subscribers.delivery import DELIVERIES, Delivery
from shared.clock import Clock, ManualClock
from shared.contracts.calls import CallEnded, CallStarted, Direction, Disposition, Party
from shared.contracts.envelope import Event
from shared.storage.port import Find
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import CrmApi, opened


@dataclass(frozen=True, slots=True)
class Told:
    """*signed*: whether the receiver's secret fits."""

    path: str
    query: str
    webhook_id: str
    body: Any
    headers: dict[str, str] = field(repr=False)
    signed: bool = True


Answer = Callable[[Told], web.StreamResponse]


class Receiver:
    def __init__(self) -> None:
        self.url = ""
        self.secret = ""
        self.told: list[Told] = []
        self.answer: Answer = lambda _: web.Response()
        #: While it is set, nothing is answered.
        self.hangs: asyncio.Event | None = None

    async def take(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        webhook_id = request.headers["webhook-id"]
        said = f"{webhook_id}.{request.headers['webhook-timestamp']}.".encode() + body
        key = base64.b64decode(self.secret.removeprefix("whsec_")) if self.secret else b""
        fits = "v1," + base64.b64encode(hmac.new(key, said, hashlib.sha256).digest()).decode()
        told = Told(
            request.path,
            request.query_string,
            webhook_id,
            json.loads(body),
            dict(request.headers),
            signed=fits in request.headers["webhook-signature"].split(" "),
        )
        self.told.append(told)
        if self.hangs is not None:
            await self.hangs.wait()
        return self.answer(told)

    @property
    def types(self) -> list[str]:
        return [told.body["type"] for told in self.told]


@asynccontextmanager
async def a_receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", found.take)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield found
    finally:
        if found.hangs is not None:
            found.hangs.set()
        await runner.cleanup()


# -- the mesh ----------------------------------------------------------------------------------------

KEPT = "********"


def started(call_id: str = "c1", number: str = "+447700900123") -> CallStarted:
    return CallStarted(
        call_id=call_id,
        pbx="main",
        pbx_call_id=f"pbx-{call_id}",
        direction=Direction.INBOUND,
        caller=Party(number=number, name='O"Neil <b>'),
        dialled="442079460000",
    )


def ended(call_id: str = "c1", disposition: Disposition = Disposition.ANSWERED) -> CallEnded:
    return CallEnded(call_id=call_id, pbx="main", disposition=disposition)


class Mesh:
    """The API with a receiver; ``tell`` publishes as ingest does."""

    def __init__(self, api: CrmApi, to: Receiver) -> None:
        self.api = api
        self.to = to

    async def subscribe(self, name: str = "crm", **said: Any) -> dict[str, Any]:
        body = {"url": f"{self.to.url}/hook", "events": ["*"], **said}
        status, found = await self.api.send("PUT", f"/v1/subscribers/{name}", json=body)
        assert status == 200, found
        self.to.secret = found.get("secret") or self.to.secret
        return dict(found)

    async def tell(self, event: Event, *, tenant: str = "acme", key: str | None = None) -> None:
        await self.api.publisher("ingest").publish(event, tenant=tenant, key=key)

    async def deliveries(self, name: str = "crm", query: str = "") -> list[dict[str, Any]]:
        status, found = await self.api.send("GET", f"/v1/subscribers/{name}/deliveries{query}")
        assert status == 200, found
        return list(found["deliveries"])

    async def states(self, name: str = "crm") -> list[str]:
        return sorted(one["state"] for one in await self.deliveries(name))

    async def settled(
        self, *states: str, name: str = "crm", clock: ManualClock | None = None
    ) -> None:
        async def so() -> bool:
            return await self.states(name) == sorted(states)

        await self.comes_true(so, clock)

    async def was_told(self, times: int, *, clock: ManualClock | None = None) -> None:
        async def so() -> bool:
            return len(self.to.told) == times

        await self.comes_true(so, clock)

    async def comes_true(
        self, holds: Callable[[], Awaitable[bool]], clock: ManualClock | None
    ) -> None:
        """*clock* goes on meanwhile: the sender may have looked the moment before it was put on."""

        async def so() -> bool:
            if await holds():
                return True
            if clock is not None:
                await clock.advance(timedelta(seconds=1))
            return False

        await eventually(so)

    async def stored(self) -> list[Delivery]:
        return (await self.api.store.collection(DELIVERIES).page(Find())).documents


@asynccontextmanager
async def a_mesh(folder: Path, *, clock: Clock | None = None) -> AsyncIterator[Mesh]:
    async with opened(folder, clock=clock) as api, a_receiver() as to:
        await api.apply()
        yield Mesh(api, to)
