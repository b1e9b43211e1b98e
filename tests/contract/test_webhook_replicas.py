"""Subscribers and their deliveries as several processes share them, in both stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pymongo
import pytest
from aiohttp import web
from pydantic import SecretStr

from services.gateway.subscribers.book import FAILS_FOR, SubscriberBook
from services.gateway.subscribers.delivery import (
    DELIVERIES,
    Delivery,
    DeliveryBook,
    DeliveryState,
)
from services.gateway.subscribers.noting import Noting
from services.gateway.subscribers.retrying import TRIES
from services.gateway.subscribers.sending import Sender
from services.gateway.subscribers.signing import new_secret
from services.gateway.subscribers.subscriber import (
    SUBSCRIBERS,
    SubscriberDocument,
    SubscriberSettings,
    SwitchedOff,
)
from shared.clock import ManualClock
from shared.contracts.calls import CallEnded, Disposition
from shared.contracts.envelope import wrap
from shared.errors import Unavailable
from shared.ids import new_id
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.secrets import SecretBox, new_key
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import Collection, DocumentStore, Find
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually
from tests.contract.webhook_kit import Receiver, a_receiver

SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.fixture(params=["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)])
async def store(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[DocumentStore]:
    if request.param == "sqlite":
        db = SqliteFile(None)
        await db.open()
        yield SqliteStore(db, clock)
        await db.close()
        return
    url, prefix = request.getfixturevalue("mongo_url"), f"t{new_id().hex[:10]}."
    store = MongoStore(SecretStr(url), database="callmesh_test", clock=clock, prefix=prefix)
    yield store
    await store.close()
    with pymongo.MongoClient[dict[str, object]](url) as client:
        for spec in (SUBSCRIBERS, DELIVERIES):
            client["callmesh_test"].drop_collection(prefix + spec.name)


class Behind:
    """Another machine's clock."""

    def __init__(self, clock: ManualClock, by: timedelta) -> None:
        self._clock = clock
        self._by = by

    def now(self) -> datetime:
        return self._clock.now() - self._by

    async def sleep(self, delay: timedelta) -> None:
        await self._clock.sleep(delay)


class Watched(DeliveryBook):
    """Counts the looks; its writes fail as its test says."""

    looks = 0
    is_away = False

    async def due(self, *, limit: int) -> Any:
        self.looks += 1
        return await super().due(limit=limit)

    async def claim(self, one: Delivery, *, lease: timedelta) -> Delivery | None:
        if self.is_away:
            raise Unavailable("the store takes no writes")
        return await super().claim(one, lease=lease)


class Replica:
    """A gateway as far as subscribers go; it sends while ``sending``."""

    def __init__(
        self, store: DocumentStore, clock: ManualClock, *, http: HttpClient, box: SecretBox
    ) -> None:
        self.clock = clock
        self.documents: Collection[SubscriberDocument] = store.collection(SUBSCRIBERS)
        self.book = SubscriberBook(self.documents, clock)
        self.deliveries = Watched(store.collection(DELIVERIES), clock, keep=30 * DAY)
        self.sender = Sender(
            self.book,
            self.deliveries,
            http=http,
            secrets=box,
            clock=clock,
            metrics=Metrics(),
        )
        self.noting = Noting(self.book, self.deliveries, self.sender)
        self.box = box
        self.secret = new_secret()

    async def subscribe(self, name: str, url: str, **said: Any) -> SubscriberDocument:
        settings = SubscriberSettings(url=url, events=("calls.*",), **said)
        now = self.clock.now()

        def edit(found: SubscriberDocument | None) -> SubscriberDocument:
            if found is not None:
                return found.model_copy(
                    update={"settings": settings, "off": None, "failing_since": None}
                )
            return SubscriberDocument(
                key=f"acme/{name}",
                tenant="acme",
                name=name,
                uid=str(new_id()),
                settings=settings,
                secret=self.box.seal(self.secret),
                created_at=now,
                changed_at=now,
                changed_by="test",
            )

        made = await self.book.change("acme", name, edit)
        assert made is not None
        return made

    async def happen(self, *calls: str) -> None:
        for call in calls:
            event = CallEnded(call_id=call, pbx="main", disposition=Disposition.MISSED)
            now = self.clock.now()
            await self.noting.note(wrap(event, source="test", occurred_at=now, tenant="acme"))

    async def of(self, name: str) -> list[Delivery]:
        to = await self.book.get("acme", name)
        return (await self.deliveries.page(to, limit=200, cursor=None)).documents

    async def states(self, name: str) -> list[str]:
        return sorted(one.state.value for one in await self.of(name))

    async def settled(self, *states: str, name: str, clock: ManualClock | None = None) -> None:
        """*clock* goes on meanwhile."""

        async def so() -> bool:
            if await self.states(name) == sorted(states):
                return True
            if clock is not None:
                await clock.advance(SECOND)
            return False

        await eventually(so)

    @asynccontextmanager
    async def sending(self) -> AsyncIterator[None]:
        running = asyncio.create_task(self.sender.run())
        try:
            yield
        finally:
            running.cancel()


class Mesh:
    def __init__(
        self, store: DocumentStore, clock: ManualClock, http: HttpClient, to: Receiver
    ) -> None:
        self.store = store
        self.clock = clock
        self.http = http
        self.to = to
        self.box = SecretBox([new_key()])

    async def replica(self, *, behind: timedelta | None = None) -> Replica:
        clock: Any = self.clock if behind is None else Behind(self.clock, behind)
        found = Replica(self.store, clock, http=self.http, box=self.box)
        await found.book.refresh()
        return found


@pytest.fixture
async def mesh(store: DocumentStore, clock: ManualClock) -> AsyncIterator[Mesh]:
    guard = AddressGuard(networks("127.0.0.0/8", setting="X"))
    async with HttpClient(guard) as http, a_receiver() as to:
        yield Mesh(store, clock, http, to)


# -- the book --------------------------------------------------------------------------------------


async def test_a_change_is_seen_whose_clock_is_behind(mesh: Mesh) -> None:
    """What is newest is told by the moment of the last change, and clocks differ."""
    first, second = await mesh.replica(), await mesh.replica(behind=10 * SECOND)
    await first.subscribe("a", mesh.to.url)
    await second.subscribe("b", mesh.to.url)
    await first.book.refresh()
    assert {one.name for one in first.book.wanting("acme", "calls.ended")} == {"a", "b"}
    await second.subscribe("b", mesh.to.url, active=False)
    await first.book.refresh()
    assert [one.name for one in first.book.wanting("acme", "calls.ended")] == ["a"]
    # As many, and nothing that is newer by that clock.
    there = first.documents
    await there.delete("acme/a")
    await second.subscribe("c", mesh.to.url)
    await first.book.refresh()
    assert [one.name for one in first.book.wanting("acme", "calls.ended")] == ["c"]


async def test_two_changes_in_one_moment_are_seen_in_the_end(mesh: Mesh) -> None:
    first = await mesh.replica()
    made = await first.subscribe("a", mesh.to.url)
    # By another process that had not seen this one when it took its moment.
    other = made.model_copy(update={"key": "acme/b", "name": "b", "uid": str(new_id())})
    await first.documents.add(other)
    await first.book.refresh()
    quiet = other.model_copy(update={"settings": SubscriberSettings(url="x", events=("dials.*",))})
    await first.documents.put(quiet)
    await first.book.refresh()
    await mesh.clock.advance(30 * SECOND)
    await first.book.refresh()
    assert [one.name for one in first.book.wanting("acme", "calls.ended")] == ["a"]


async def test_one_of_a_newer_version_keeps_nobody_from_being_told(mesh: Mesh) -> None:
    """It runs beside this one while it is rolled out, and knows more events and fields."""
    first = await mesh.replica()
    made = await first.subscribe("a", mesh.to.url)
    newer = made.settings.model_copy(
        update={"events": ("calls.foretold", "calls.ended"), "body": {"x": "{{.Foretold}}"}}
    )
    await first.documents.add(
        made.model_copy(
            update={"key": "acme/b", "name": "b", "uid": str(new_id()), "settings": newer}
        )
    )
    await first.book.refresh()
    assert {one.name for one in first.book.wanting("acme", "calls.ended")} == {"a", "b"}


async def test_how_it_goes_is_noted_once_a_minute(mesh: Mesh) -> None:
    first, second = await mesh.replica(), await mesh.replica()
    made = await first.subscribe("a", mesh.to.url)
    for number in range(100):
        await (first.book.went_well if number % 2 else first.book.went_wrong)(made)
    noted = await first.book.get("acme", "a")
    assert noted.version - made.version <= 1
    # Nobody reads all subscribers again for that.
    assert noted.changed_at == made.changed_at
    await mesh.clock.advance(timedelta(minutes=1))
    await second.book.refresh()
    await first.book.went_well(made)
    noted = await first.book.get("acme", "a")
    assert noted.last_done_at == mesh.clock.now()
    assert noted.failing_since is None


async def test_failing_is_that_nothing_came_through_by_anybody(mesh: Mesh) -> None:
    first, second = await mesh.replica(), await mesh.replica()
    made = await first.subscribe("a", mesh.to.url)
    await second.book.refresh()
    await first.book.went_wrong(made)
    await mesh.clock.advance(2 * DAY)
    await second.book.went_well(made)
    await mesh.clock.advance(2 * DAY)
    await first.book.went_wrong(made)
    assert (await first.book.get("acme", "a")).is_on
    # From now on nothing comes through to either.
    for _ in range(4):
        await first.book.refresh()
        await first.book.went_wrong(made)
        await mesh.clock.advance(DAY)
    await first.book.went_wrong(made)
    assert (await first.book.get("acme", "a")).off is SwitchedOff.FAILING


async def test_who_was_set_up_anew_is_not_switched_off_for_what_was(mesh: Mesh) -> None:
    first = await mesh.replica()
    made = await first.subscribe("a", mesh.to.url)
    await first.book.went_wrong(made)
    await mesh.clock.advance(FAILS_FOR + SECOND)
    moved = await first.subscribe("a", f"{mesh.to.url}/moved")
    # The try had begun before that, and its answer came after.
    await first.book.went_wrong(made)
    assert not await first.book.switch_off(made, SwitchedOff.GONE)
    assert (await first.book.get("acme", "a")).is_on
    assert await first.book.switch_off(moved, SwitchedOff.GONE)
    # One of its name is another.
    await first.book.remove("acme", "a", lambda _: None)
    await first.subscribe("a", f"{mesh.to.url}/moved")
    assert await first.book.switch_off(moved, SwitchedOff.GONE)
    assert (await first.book.get("acme", "a")).is_on


# -- the sender ------------------------------------------------------------------------------------


async def test_what_one_process_does_not_know_yet_is_not_ended(mesh: Mesh) -> None:
    """Switched on, and made, a moment ago by another process."""
    first, second = await mesh.replica(), await mesh.replica()
    await first.subscribe("a", mesh.to.url, active=False)
    await second.book.refresh()
    await first.subscribe("a", mesh.to.url)
    await first.subscribe("b", mesh.to.url)
    await first.happen("c1")
    async with second.sending():
        await second.settled("done", name="a")
        await second.settled("done", name="b")
    assert len(mesh.to.told) == 2


async def test_an_answer_of_the_old_address_switches_nobody_off(mesh: Mesh) -> None:
    first = await mesh.replica()
    arrived, may_answer = asyncio.Event(), asyncio.Event()
    mesh.to.answer = lambda told: web.Response(status=410 if told.path == "/old" else 200)
    mesh.to.hangs = may_answer
    await first.subscribe("a", f"{mesh.to.url}/old")
    await first.happen("c1")
    async with first.sending():
        await eventually(lambda: bool(mesh.to.told))
        await first.subscribe("a", f"{mesh.to.url}/new")
        arrived.set()
        may_answer.set()
        await first.settled("waiting", name="a")
        await first.settled("done", name="a", clock=mesh.clock)
    assert [told.path for told in mesh.to.told] == ["/old", "/new"]
    assert (await first.book.get("acme", "a")).is_on


async def test_a_last_try_that_was_broken_off_was_the_last(mesh: Mesh) -> None:
    first = await mesh.replica()
    await first.subscribe("a", mesh.to.url)
    await first.happen("c1")
    (one,) = await first.of("a")
    broken = one.model_copy(
        update={
            "state": DeliveryState.SENDING,
            "tries": TRIES,
            "due_at": mesh.clock.now() + 45 * SECOND,
        }
    )
    await mesh.store.collection(DELIVERIES).put(broken)
    async with first.sending():
        await eventually(lambda: mesh.clock.sleepers > 0)
        await mesh.clock.advance(46 * SECOND)
        await first.settled("dead", name="a", clock=mesh.clock)
    assert mesh.to.told == []
    (one,) = await first.of("a")
    assert "broken off" in str(one.attempts[-1].error)


async def test_what_is_to_be_tried_again_is_kept_until_then(mesh: Mesh) -> None:
    first = await mesh.replica()
    await first.subscribe("a", mesh.to.url)
    await first.happen("c1")
    (one,) = await first.of("a")
    short = one.model_copy(update={"expires_at": mesh.clock.now() + timedelta(hours=1)})
    await mesh.store.collection(DELIVERIES).put(short)
    mesh.to.answer = lambda _: web.Response(status=429, headers={"Retry-After": "86400"})
    async with first.sending():
        await eventually(lambda: len(mesh.to.told) == 1)
        await first.settled("waiting", name="a")
        mesh.to.answer = lambda _: web.Response()
        await mesh.clock.advance(DAY)
        await first.settled("done", name="a", clock=mesh.clock)


async def test_a_store_that_takes_no_writes_is_not_asked_without_end(mesh: Mesh) -> None:
    first = await mesh.replica()
    await first.subscribe("a", mesh.to.url)
    await first.happen("c1", "c2")
    first.deliveries.is_away = True
    async with first.sending():
        for look in range(3):
            await eventually(lambda: mesh.clock.sleepers > 0)
            for _ in range(200):
                await asyncio.sleep(0)  # noqa: TID251  lets what would go on go on
            assert first.deliveries.looks <= 2 * (look + 1)
            await mesh.clock.advance(SECOND)
        first.deliveries.is_away = False
        await first.settled("done", "done", name="a", clock=mesh.clock)


async def test_nothing_is_sent_before_the_subscribers_are_known(mesh: Mesh) -> None:
    first = await mesh.replica()
    await first.subscribe("a", mesh.to.url)
    await first.happen("c1")
    fresh = Replica(mesh.store, mesh.clock, http=mesh.http, box=mesh.box)
    async with fresh.sending():
        await eventually(lambda: mesh.clock.sleepers > 0)
        assert fresh.deliveries.looks == 0
        await fresh.book.refresh()
        await first.settled("done", name="a", clock=mesh.clock)


# -- a million behind one ----------------------------------------------------------------------------


async def test_who_has_little_is_found_behind_who_has_much(mesh: Mesh) -> None:
    """Of another process, so nobody told this one: it asks lane by lane."""
    first, second = await mesh.replica(), await mesh.replica()
    mesh.to.answer = lambda told: web.Response(status=500 if told.path == "/bad" else 200)
    await first.subscribe("bad", f"{mesh.to.url}/bad")
    await first.happen(*(f"c{n}" for n in range(120)))
    await mesh.clock.advance(SECOND)
    await first.subscribe("well", f"{mesh.to.url}/well")
    await first.happen("late")
    await second.book.refresh()
    async with second.sending():
        await eventually(lambda: mesh.clock.sleepers > 0)

        async def told() -> bool:
            await mesh.clock.advance(SECOND)
            return await second.states("well") == ["done"]

        await eventually(told)
    assert len([one for one in mesh.to.told if one.path == "/bad"]) < 20


async def test_what_happens_here_is_told_at_once_behind_who_has_much(mesh: Mesh) -> None:
    first = await mesh.replica()
    mesh.to.answer = lambda told: web.Response(status=500 if told.path == "/bad" else 200)
    await first.subscribe("bad", f"{mesh.to.url}/bad")
    await first.happen(*(f"c{n}" for n in range(120)))
    async with first.sending():
        await eventually(lambda: len(mesh.to.told) >= 3)
        await first.subscribe("well", f"{mesh.to.url}/well")
        await first.happen("late")
        await first.settled("done", name="well")  # the clock stands still


async def test_a_look_costs_the_same_however_much_waits(clock: ManualClock) -> None:
    """Measured in SQLite's own steps: a look over what waits of one would stop the whole file."""
    db = SqliteFile(None)
    await db.open()
    collection = SqliteStore(db, clock).collection(DELIVERIES)
    book = DeliveryBook(collection, clock, keep=DAY)
    steps = 0

    def count() -> int:
        nonlocal steps
        steps += 1
        return 0

    async def cost() -> int:
        nonlocal steps
        await db.read(lambda db: db.set_progress_handler(count, 100))
        steps = 0
        assert len(await book.due(limit=50)) == 50
        assert len(await book.due_in("small", limit=8)) == 1
        assert len(await book.due_in("large", limit=8)) == 8
        await db.read(lambda db: db.set_progress_handler(None, 100))
        return steps

    async def fill(lane: str, count: int) -> None:
        now = clock.now()
        one = Delivery(
            key="",
            tenant="acme",
            subscriber="a",
            lane=lane,
            webhook_id="msg",
            type="calls.ended",
            event="{}",
            created_at=now,
            due_at=now,
            expires_at=now + DAY,
        )
        await asyncio.gather(
            *(
                collection.add(
                    one.model_copy(
                        update={"key": str(new_id()), "due_at": now - n * timedelta(milliseconds=1)}
                    )
                )
                for n in range(count)
            )
        )

    await fill("small", 1)
    await fill("large", 200)
    few = await cost()
    await fill("large", 4800)
    many = await cost()
    await db.close()
    assert many < 2 * few + 10


async def test_deliveries_of_a_former_one_of_that_name_are_not_its_own(mesh: Mesh) -> None:
    first = await mesh.replica()
    await first.subscribe("a", mesh.to.url)
    await first.happen(*(f"c{n}" for n in range(30)))
    await first.book.remove("acme", "a", lambda _: None)
    await first.subscribe("a", mesh.to.url)
    await first.happen("late")
    assert len(await first.of("a")) == 1
    assert await mesh.store.collection(DELIVERIES).count(Find()) == 31
