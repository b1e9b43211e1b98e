"""A process that did not hear all: at its start, while the bus is away, and when an end was lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from services.gateway.screens.desk import ScreenDesk
from services.gateway.screens.following import Following, Wants
from shared.clock import ManualClock
from shared.contracts.screens import PopSeen, Seen
from shared.errors import Unavailable
from shared.moments import to_ms
from shared.observe.metrics import Metrics
from shared.testing.waiting import eventually
from tests.contract.office_kit import CALL, OTHER, Office, office_at

SECOND = timedelta(seconds=1)
MINE = Wants(extension="101")


class Process:
    """Another gateway, to which no live copy comes: what it knows it has from the journal."""

    def __init__(self, office: Office, clock: ManualClock) -> None:
        api = office.api
        self.clock = clock
        self.bus_is_there = True
        self.metrics = Metrics()
        self.desk = ScreenDesk.over(
            api.store,
            site=api.site,
            connections=api.connections(),
            publisher=api.publisher("gateway"),
            tickets=api.tickets,
            clock=clock,
            metrics=self.metrics,
            bus_ready=self._is_bus_there,
            ask_within=5 * SECOND,
        )

    async def _is_bus_there(self) -> bool:
        return self.bus_is_there

    async def kinds(self, following: Following) -> list[str]:
        """Of what waits for the client."""
        found = []
        while following._again or following._live:
            placed = await following.next()
            assert placed is not None
            found.append(placed.event.kind.value)
        return found

    async def ticks(self) -> None:
        await eventually(lambda: self.clock.sleepers >= 1)
        await self.clock.advance(SECOND)

    def hears(self, call: str, seconds: int = 0) -> None:
        """A live copy, of whatever."""
        told = PopSeen(call_id=call, extension="101", seen=Seen.OPENED)
        now = self.clock.now()
        self.desk.screens.take("acme", told, at=now + seconds * SECOND, now=now)


@asynccontextmanager
async def run(process: Process) -> AsyncIterator[None]:
    running = asyncio.create_task(process.desk.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await process.desk.close()


@pytest.fixture
async def office(tmp_path: Path, clock: ManualClock) -> AsyncIterator[Office]:
    async with office_at(tmp_path, clock) as found:
        yield found


@pytest.fixture
async def process(office: Office, clock: ManualClock) -> AsyncIterator[Process]:
    found = Process(office, clock)
    async with run(found):
        yield found


async def test_the_end_of_a_call_that_nobody_heard_is_found_in_the_journal(
    office: Office, process: Process
) -> None:
    await office.rings()
    await office.is_journaled(CALL)
    following = await process.desk.follow("acme", MINE, None)
    assert await process.kinds(following) == ["ringing", "pop"]
    await office.jane.ends(CALL)
    told: list[str] = []

    async def is_closed() -> bool:
        await process.ticks()
        told.extend(await process.kinds(following))
        return told == ["closed"]

    began = process.clock.now()
    await eventually(is_closed)
    assert process.clock.now() - began <= timedelta(minutes=3)


async def test_while_the_bus_is_away_nobody_goes_on_from_later(process: Process) -> None:
    following = await process.desk.follow("acme", MINE, None)
    await process.ticks()
    heard_until = process.clock.now()
    process.bus_is_there = False
    for _ in range(20):
        await process.ticks()
    assert following.position == f"at-{to_ms(heard_until)}"
    process.bus_is_there = True

    async def is_back() -> bool:
        await process.ticks()
        return following.position == f"at-{to_ms(process.clock.now())}"

    await eventually(is_back)


async def test_after_a_short_cut_the_bus_brings_what_came_and_clients_go_on(
    process: Process,
) -> None:
    process.hears(CALL)
    first = await process.desk.follow("acme", MINE, None)
    process.bus_is_there = False
    for _ in range(20):
        await process.ticks()
    process.bus_is_there = True
    await process.ticks()
    process.hears(OTHER)
    (last, *_) = [placed.event.id for placed in (await first.next(),) if placed is not None]
    again = await process.desk.follow("acme", MINE, last)
    assert "reset" not in await process.kinds(again)


async def test_after_a_long_cut_clients_are_told_what_there_is_now(
    office: Office, process: Process
) -> None:
    """Calls have begun and ended meanwhile, which the bus has not kept for this process."""
    await office.rings()
    await office.is_journaled(CALL)
    before = await process.desk.follow("acme", MINE, None)
    assert await process.kinds(before) == ["ringing", "pop"]
    process.hears(CALL)
    placed = await before.next()
    assert placed is not None
    process.bus_is_there = False
    for _ in range(50):
        await process.ticks()
    await office.jane.ends(CALL)
    await office.rings(OTHER)
    await office.is_journaled(OTHER)
    process.bus_is_there = True
    told: list[str] = []

    async def is_right() -> bool:
        await process.ticks()
        told.extend(await process.kinds(before))
        return sorted(told) == ["closed", "pop", "ringing"]

    await eventually(is_right)
    again = await process.desk.follow("acme", MINE, placed.event.id)
    assert await process.kinds(again) == ["reset", "ringing", "pop"]


async def test_without_the_journal_a_screen_is_shown_without_and_told_later(
    office: Office, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    await office.rings()
    await office.is_journaled(CALL)
    asked = 0
    ask = office.api.bus.ask

    async def away(*_: object, **__: object) -> bytes:
        nonlocal asked
        asked += 1
        raise Unavailable("the journal is away")

    monkeypatch.setattr(office.api.bus, "ask", away)
    following = await process.desk.follow("acme", MINE, None)
    assert asked == 1
    assert await process.kinds(following) == []
    monkeypatch.setattr(office.api.bus, "ask", ask)
    told: list[str] = []

    async def is_shown() -> bool:
        await process.ticks()
        told.extend(await process.kinds(following))
        return told in (["ringing", "contact", "pop"], ["ringing", "pop"])

    await eventually(is_shown)


async def test_a_journal_that_hangs_holds_a_screen_up_for_two_seconds(
    office: Office, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs(*_: object, **__: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    monkeypatch.setattr(office.api.bus, "ask", hangs)
    async with asyncio.timeout(30):
        following = await process.desk.follow("acme", MINE, None)
    process.hears(CALL)
    assert await process.kinds(following) == ["seen"]


async def test_tenants_whom_nobody_follows_are_not_asked_for(
    office: Office, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    ask = office.api.bus.ask

    async def listening(message: object, **more: object) -> bytes:
        asked.append(message)
        return await ask(message, **more)  # type: ignore[arg-type]  # as it came

    monkeypatch.setattr(office.api.bus, "ask", listening)
    await office.rings()
    for _ in range(70):
        await process.ticks()
    assert asked == []
