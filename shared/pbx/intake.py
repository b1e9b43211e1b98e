"""The way of events from a WebSocket through a pure reader to whoever wants them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any

import structlog

from shared.clock import Clock
from shared.errors import ContractError
from shared.net.client import WebSocket
from shared.observe.metrics import Metrics
from shared.pbx.port import Keep, RecordReader, See

log = structlog.get_logger(__name__)

_TICK = timedelta(milliseconds=100)
#: What waits while a handler does; a busy PBX sends some hundred a second.
MOST_WAITING = 5000
#: And how long they may be together; one is some kilobytes, and the socket lets 1 MiB through.
MOST_CHARACTERS = 64 * 1024 * 1024


class Intake:
    """Records are kept, read and seen one after the other, whoever brings them."""

    def __init__(
        self,
        kind: str,
        reader: RecordReader,
        see: See,
        keep: Keep,
        *,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._kind = kind
        self._reader = reader
        self._see = see
        self._keep = keep
        self._clock = clock
        self._metrics = metrics
        self._one_by_one = asyncio.Lock()

    async def take(self, record: bytes) -> None:
        async with self._one_by_one:
            self._keep(record)
            try:
                found = self._reader.read(record, now=self._clock.now())
            except ContractError as error:
                self.garbage(error.message)
                return
            except Exception:
                # One record that surprises us must not end the reading of all others.
                self.count("garbage")
                log.exception("pbx_event_failed", kind=self._kind)
                return
            self.count("used" if found else "ignored")
            if found:
                await self._see(found)

    async def tick(self) -> None:
        """For ever: what follows from nothing having come."""
        while True:
            await self._clock.sleep(_TICK)
            async with self._one_by_one:
                if found := self._reader.tick(self._clock.now()):
                    await self._see(found)

    def garbage(self, why: str) -> None:
        """*why* holds nothing of what came."""
        self.count("garbage")
        log.warning("pbx_event_unreadable", kind=self._kind, error=why)

    def count(self, outcome: str) -> None:
        self._metrics.count("callmesh_pbx_events_total", self._kind, outcome)


class Inbox:
    """
    What came over a WebSocket and waits. The socket is emptied whatever the handlers do, so that
    its ping is answered; what no longer fits is dropped, and the state has to be asked for anew.
    """

    def __init__(self, intake: Intake, *, most: int | None = None) -> None:
        self._intake = intake
        self._waiting: asyncio.Queue[str] = asyncio.Queue(most or MOST_WAITING)
        self._characters = 0
        self._dropped = 0

    async def fill(self, socket: WebSocket) -> None:
        """Until the socket is over. Raises: Unavailable."""
        while True:
            try:
                text = await socket.receive()
            except ContractError as error:
                self._intake.garbage(error.message)
            else:
                self.put(text)

    def put(self, text: str) -> None:
        if self._waiting.full() or self._characters + len(text) > MOST_CHARACTERS:
            self._dropped += 1
            self._intake.count("dropped")
        else:
            self._characters += len(text)
            self._waiting.put_nowait(text)

    async def next(self) -> str:
        text = await self._waiting.get()
        self._characters -= len(text)
        return text

    def has_lost(self) -> bool:
        """Whether something was dropped since this was last true, and what had come is read."""
        if not self._dropped or not self._waiting.empty():
            return False
        log.error("pbx_events_dropped", dropped=self._dropped)
        self._dropped = 0
        return True


async def until_one_ends(*works: Coroutine[Any, Any, None]) -> None:
    """All at once, until the first returns or raises; that is what this does then."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
