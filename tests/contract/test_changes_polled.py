"""A CRM without hooks is asked what changed; time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from services.lookup.polling import OVERLAP, POLLS, Poller
from shared.bus.port import Consumer, Subscription
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.contacts import ContactChanged
from shared.contracts.envelope import Message
from shared.observe.metrics import Metrics
from shared.sqlite import SqliteFile
from shared.testing.waiting import eventually
from tests.contract.crm_api_kit import Broker, CrmApi
from tests.contract.sessions_kit import Got, scripted

MINUTE = timedelta(minutes=1)
EVERY = 5 * MINUTE
POLL = {
    "every": "5m",
    "request": {"url": "{{.url}}/changed", "query": {"since": "{{.Since | iso_utc}}"}},
    "records": "people",
    "map": {"contact_id": "id", "numbers": ["phone"]},
}


class Crm:
    """What changed, each time it is asked; ``fails`` with this status."""

    def __init__(self) -> None:
        self.asked: list[datetime] = []
        self.changed: list[dict[str, str]] = []
        self.fails: int | None = None
        self.open = asyncio.Event()
        self.open.set()

    async def answer(self, got: Got) -> Any:
        self.asked.append(datetime.fromisoformat(got.query["since"]))
        await self.open.wait()
        if self.fails is not None:
            return web.Response(status=self.fails)
        return {"people": self.changed}


class Polling:
    """Replicas over one store; ``told`` is what the mesh heard."""

    def __init__(self, db: SqliteFile, clock: ManualClock, folder: Path, crm: Crm) -> None:
        self.clock = clock
        self.crm = crm
        self.api = CrmApi(db, folder, clock)
        self.polls = self.api.store.collection(POLLS)
        self.bus = Broker(db, clock=SystemClock(), metrics=Metrics())
        self.told: list[ContactChanged] = []

        async def hear(message: Message[Any]) -> None:
            self.told.append(message.body)

        self.bus.subscribe(Subscription(consumer=Consumer("test", ContactChanged), handler=hear))

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[None]:
        connections = self.api.connections()
        poller = Poller(
            connections=connections,
            site=self.api.site,
            polls=self.polls,
            publisher=ServicePublisher(self.bus, service="lookup", clock=self.clock),
            clock=self.clock,
        )
        task = asyncio.create_task(poller.run())
        try:
            # Where nobody polled before, it begins now.
            await eventually(self.has_begun)
            yield
            assert not task.done()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await connections.close()

    async def has_begun(self) -> bool:
        return await self.polls.count(tenant="acme") == 1

    async def until(self, holds: Callable[[], bool], *, step: timedelta = 5 * MINUTE / 60) -> None:
        """Let time pass, step by step."""
        async with asyncio.timeout(300):
            while not holds():
                await self.clock.advance(step)
                await asyncio.sleep(0.002)  # noqa: TID251  requests need real time beside it

    async def asked(self, times: int) -> None:
        await self.until(lambda: len(self.crm.asked) >= times)


@pytest.fixture
async def polling(clock: ManualClock, tmp_path: Path) -> AsyncIterator[Polling]:
    crm = Crm()
    db = SqliteFile(None)
    await db.open()
    async with scripted(crm.answer) as server:
        found = Polling(db, clock, tmp_path, crm)
        found.api.template("shop", changes={"poll": POLL})
        connection = {"name": "shop", "template": "shop", "parameters": {"url": server.url}}
        await found.api.apply(connection)
        await found.bus.start()
        async with found.api.http:
            yield found
        await found.bus.stop(drain=timedelta(seconds=1))
    await db.close()


async def test_what_changed_is_told_and_asked_for_from_there(polling: Polling) -> None:
    began = polling.clock.now()
    polling.crm.changed = [{"id": "7", "phone": "+447700900123"}, {"id": "8"}]
    async with polling.replica():
        await polling.asked(2)
        await eventually(lambda: len(polling.told) >= 4)
    first, second = polling.crm.asked
    assert first == began - OVERLAP
    assert EVERY <= second - first <= EVERY + MINUTE
    assert polling.told[:2] == [
        ContactChanged(connection="shop", contact_id="7", numbers=("+447700900123",)),
        ContactChanged(connection="shop", contact_id="8"),
    ]


async def test_of_several_replicas_one_asks(polling: Polling) -> None:
    async with polling.replica(), polling.replica(), polling.replica():
        await polling.asked(3)
        gaps = zip(polling.crm.asked, polling.crm.asked[1:], strict=False)
        assert all(later - earlier >= EVERY for earlier, later in gaps)


async def test_who_fails_asks_again_from_where_it_was(polling: Polling) -> None:
    began = polling.clock.now()
    polling.crm.fails = 503
    async with polling.replica():
        await polling.asked(2)
        polling.crm.fails = None
        await polling.asked(4)
    assert polling.crm.asked[:3] == [began - OVERLAP] * 3
    assert polling.crm.asked[3] > began


async def test_while_the_broker_is_away_nothing_is_taken_for_told(polling: Polling) -> None:
    polling.crm.changed = [{"id": "7"}]
    polling.bus.is_away = True
    async with polling.replica():
        await polling.asked(2)
        assert polling.crm.asked[0] == polling.crm.asked[1]
        polling.bus.is_away = False
        await polling.until(lambda: bool(polling.told))


async def test_a_replica_that_dies_while_it_asks_is_replaced(polling: Polling) -> None:
    began = polling.clock.now()
    polling.crm.open.clear()
    async with polling.replica():
        await polling.asked(1)
    polling.crm.open.set()
    async with polling.replica():
        await polling.asked(2)
    assert polling.crm.asked == [began - OVERLAP] * 2


async def test_after_weeks_off_no_more_is_asked_for_than_could_be_cached(polling: Polling) -> None:
    async with polling.replica():
        await polling.asked(1)
    await polling.clock.advance(timedelta(days=20))
    back = polling.clock.now()
    async with polling.replica():
        await polling.asked(2)
    assert back - timedelta(days=1) - OVERLAP <= polling.crm.asked[1] <= back - timedelta(hours=23)


async def test_a_crm_that_is_not_asked_keeps_none_from_being_asked(polling: Polling) -> None:
    """One without changes, one whose template is gone, one that is polled."""
    polling.api.template("plain")
    site = polling.api.site.site("acme")
    assert site is not None
    url = site.crm[0].parameters["url"]
    await polling.api.apply(
        {"name": "plain", "template": "plain", "parameters": {"url": url}},
        {"name": "lost", "template": "lost"},
        {"name": "shop", "template": "shop", "parameters": {"url": url}},
    )
    async with polling.replica():
        await polling.asked(1)
