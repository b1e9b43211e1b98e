"""Clients of live streams, as a browser would be: server-sent events and sockets, read and kept."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp

from shared.bus.publisher import ServicePublisher
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRinging,
    LegEnded,
    LegOutcome,
    Party,
)
from shared.errors import Unavailable
from shared.ids import new_id
from shared.testing.builders import a_call
from shared.testing.waiting import eventually

Event = dict[str, Any]


@dataclass
class Heard:
    """What one client was told; ``last_id`` is what it goes on from."""

    #: Those of server-sent events; with ``id`` and ``event`` as they were framed.
    frames: list[dict[str, str]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    last_id: str | None = None
    over: bool = False

    @property
    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events]

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.events if event["kind"] == kind]

    async def until(self, *kinds: str) -> list[Event]:
        """Those events once the last ones have these kinds."""
        await eventually(lambda: self.kinds[-len(kinds) :] == list(kinds))
        return self.events[-len(kinds) :]

    async def has(self, holds: Callable[[Event], bool]) -> Event:
        await eventually(lambda: any(map(holds, self.events)))
        return next(filter(holds, self.events))


@asynccontextmanager
async def listening(
    session: aiohttp.ClientSession,
    path: str,
    *,
    key: str | None = None,
    headers: dict[str, str] | None = None,
    **params: str,
) -> AsyncIterator[Heard]:
    """Server-sent events of *path*, from the moment on when the stream is open."""
    sent = {**({"X-Api-Key": key} if key else {}), **(headers or {})}
    async with session.get(
        path, params=params, headers=sent, timeout=aiohttp.ClientTimeout(total=None)
    ) as response:
        assert response.status == 200, await response.text()
        assert response.content_type == "text/event-stream"
        heard = Heard()
        reading = asyncio.create_task(_read(response, heard))
        await eventually(lambda: heard.last_id is not None or heard.over)
        try:
            yield heard
        finally:
            response.close()
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _read(response: aiohttp.ClientResponse, heard: Heard) -> None:
    """As HTML, 9.2.6 has it, of the fields that there are."""
    frame: dict[str, str] = {}
    with suppress(aiohttp.ClientError):
        async for line in response.content:
            text = line.decode().rstrip("\n")
            if text:
                name, _, value = text.partition(":")
                frame[name] = value.removeprefix(" ")
                continue
            heard.last_id = frame.get("id", heard.last_id)
            if "data" in frame and frame["event"] != "alive":
                heard.frames.append(frame)
                heard.events.append(json.loads(frame["data"]))
            frame = {}
    heard.over = True


@dataclass
class Socket(Heard):
    ws: aiohttp.ClientWebSocketResponse | None = None

    async def say(self, **said: Any) -> None:
        assert self.ws is not None
        await self.ws.send_json(said)

    @property
    def close_code(self) -> int | None:
        return self.ws.close_code if self.ws is not None else None


@asynccontextmanager
async def on_socket(
    session: aiohttp.ClientSession,
    path: str,
    *,
    key: str | None = None,
    headers: dict[str, str] | None = None,
    **params: str,
) -> AsyncIterator[Socket]:
    sent = {**({"X-Api-Key": key} if key else {}), **(headers or {})}
    async with session.ws_connect(path, params=params, headers=sent) as ws:
        heard = Socket(ws=ws)
        reading = asyncio.create_task(_hear(ws, heard))
        await eventually(lambda: heard.last_id is not None or heard.over)
        try:
            yield heard
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def _hear(ws: aiohttp.ClientWebSocketResponse, heard: Socket) -> None:
    async for message in ws:
        event = json.loads(message.data)
        heard.last_id = event.get("position", heard.last_id)
        if event["kind"] != "alive":
            heard.events.append(event)
    heard.over = True


def without_doubles(events: list[Event]) -> list[Event]:
    """As a client keeps them that drops what it has had."""
    return list({event["id"]: event for event in reversed(events)}.values())[::-1]


@dataclass
class Page:
    """What a page shows that follows the rules of the guide: by call, and each card once."""

    had: set[str] = field(default_factory=set)
    calls: dict[str, set[str]] = field(default_factory=dict)
    opened: list[str] = field(default_factory=list)

    def take(self, event: Event) -> None:
        kind, call = event["kind"], event.get("call_id")
        if kind == "reset":
            self.calls.clear()
            return
        if event["id"] in self.had and kind == "pop":
            return
        self.had.add(event["id"])
        match kind:
            case "ringing" | "outgoing":
                self.calls.setdefault(call or "", set()).add(event["extension"])
            case "closed":
                self.calls.get(call or "", set()).discard(event["extension"])
                if not self.calls.get(call or ""):
                    self.calls.pop(call or "", None)
            case "pop" if event.get("opens") == "automatic" and "seen" not in event:
                self.opened.append(event["id"])


class Phones:
    """Plays calls of tenant acme as a PBX connection would tell of them."""

    def __init__(self, publisher: ServicePublisher, *, number: str, tenant: str = "acme") -> None:
        self._publisher = publisher
        self._number = number
        self._tenant = tenant

    async def tell(self, *events: CallEvent) -> None:
        for event in events:
            await eventually(partial(self._is_told, event, str(new_id())))

    async def _is_told(self, event: CallEvent, key: str) -> bool:
        """A PBX connection tells again what the broker of a busy machine did not confirm in time."""
        try:
            await self._publisher.publish(event, tenant=self._tenant, key=key)
        except Unavailable:
            return False
        return True

    async def starts(self, call: str, **changes: Any) -> None:
        await self.tell(a_call(call_id=call, caller=Party(number=self._number), **changes))

    async def rings(self, call: str, extension: str = "101", leg: str | None = None) -> None:
        await self.tell(
            CallRinging(
                call_id=call,
                pbx="main",
                leg_id=leg or extension,
                callee=Party(extension=extension),
                caller=Party(number=self._number),
            )
        )

    async def answers(self, call: str, extension: str = "101", leg: str | None = None) -> None:
        callee = Party(extension=extension)
        leg_id = leg or extension
        await self.tell(CallAnswered(call_id=call, pbx="main", leg_id=leg_id, callee=callee))

    async def leaves(
        self,
        call: str,
        extension: str = "101",
        leg: str | None = None,
        outcome: LegOutcome = LegOutcome.ANSWERED,
    ) -> None:
        callee = Party(extension=extension)
        leg_id = leg or extension
        await self.tell(
            LegEnded(call_id=call, pbx="main", leg_id=leg_id, callee=callee, outcome=outcome)
        )

    async def ends(self, call: str) -> None:
        await self.tell(CallEnded(call_id=call, pbx="main"))
