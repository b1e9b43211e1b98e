"""Two gateways over RabbitMQ: a client goes from one to the other as it likes and misses nothing."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import aiohttp
import pytest

from services.catalog import CATALOG, consumers
from services.gateway.domain.past import MARGIN
from shared.clock import SystemClock
from shared.contracts.calls import LegOutcome
from shared.ids import new_id
from shared.runtime.host import running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.settings import HttpSettings, OpsSettings
from shared.sandbox.site import TENANT
from shared.testing.waiting import eventually
from tests.contract.streams_kit import Event, Heard, Page, Phones, listening
from tests.scenario.conftest import WholeMesh, has_begun

pytestmark = [pytest.mark.rabbitmq, pytest.mark.mongodb]

JANE, STRANGER = "447700900123", "447700900999"
MINE, ALL = "/v1/agents/101/events", "/v1/events"
CALLS = 60
CLOCK = SystemClock()


@pytest.fixture(params=["servers"])
def choice(request: pytest.FixtureRequest, choice: Choice) -> Choice:
    return choice


@dataclass
class Two:
    """A mesh, and beside it a gateway of its own process as far as the mesh can see."""

    mesh: WholeMesh
    urls: tuple[str, str]

    @property
    def session(self) -> aiohttp.ClientSession:
        return self.mesh.session

    @property
    def key(self) -> str:
        return self.mesh.key.get_secret_value()


@asynccontextmanager
async def another_gateway(choice: Choice) -> AsyncIterator[str]:
    async with (
        open_platform(choice, consumers=consumers()) as platform,
        running(
            [CATALOG["gateway"].build],
            platform,
            http=HttpSettings(port=0),
            ops=OpsSettings(port=0),
            drain=timedelta(seconds=1),
        ) as state,
    ):
        await has_begun(platform)
        yield f"http://127.0.0.1:{state.http_port}"


@pytest.fixture
async def two(mesh: WholeMesh, choice: Choice) -> AsyncIterator[Two]:
    async with another_gateway(choice) as url:
        yield Two(mesh, (mesh.url, url))


class Traffic:
    """
    Calls that ring at two phones, are taken, missed, handed on or given up, as it falls out. Nobody
    hangs up before *screens*, which are of phone 101, show what is to be shown until then; but for
    calls that are *over_at_once*, of which one replica may hear the end first.
    """

    def __init__(self, mesh: WholeMesh, luck: random.Random, *screens: Heard) -> None:
        publisher = mesh.platform.publisher("ingest")
        self._known = Phones(publisher, number=JANE, tenant=TENANT)
        self._strange = Phones(publisher, number=STRANGER, tenant=TENANT)
        self._luck = luck
        self._screens = screens
        self.calls = [str(new_id()) for _ in range(CALLS)]
        self.over_at_once: set[str] = set()

    async def play(self) -> None:
        async with asyncio.TaskGroup() as group:
            for call in self.calls:
                group.create_task(self._play(call))
                await self._pause(0.05)

    async def _pause(self, most: float) -> None:
        await CLOCK.sleep(timedelta(seconds=self._luck.random() * most))

    async def _are_shown(self, call: str, kind: str, *, times: int = 1) -> None:
        def are_shown() -> bool:
            return all(
                sum(event["call_id"] == call for event in screen.of(kind)) >= times
                for screen in self._screens
            )

        await eventually(are_shown)

    async def _play(self, call: str) -> None:
        phones = self._known if self._luck.random() < 0.7 else self._strange
        await phones.starts(call)
        await asyncio.gather(
            phones.rings(call, "101", f"{call}-1"), phones.rings(call, "102", f"{call}-2")
        )
        await self._pause(0.3)
        match self._luck.randrange(4):
            case 0:  # 101 takes it
                await phones.answers(call, "101", f"{call}-1")
                await phones.leaves(call, "102", f"{call}-2", LegOutcome.ELSEWHERE)
                await self._pause(0.3)
                await self._are_shown(call, "pop")
                await self._are_shown(call, "answered")
                await phones.leaves(call, "101", f"{call}-1")
            case 1:  # 102 takes it and hands it on to 101
                await self._are_shown(call, "pop")
                await phones.answers(call, "102", f"{call}-2")
                await phones.leaves(call, "101", f"{call}-1", LegOutcome.ELSEWHERE)
                await self._are_shown(call, "closed")
                await phones.rings(call, "101", f"{call}-3")
                await phones.leaves(call, "102", f"{call}-2")
                await self._pause(0.2)
                await phones.answers(call, "101", f"{call}-3")
                await self._are_shown(call, "pop", times=2)
                await self._are_shown(call, "answered")
                await phones.leaves(call, "101", f"{call}-3")
            case 2:  # nobody does, and it is all over at once
                self.over_at_once.add(call)
                await asyncio.gather(
                    phones.leaves(call, "101", f"{call}-1", LegOutcome.CANCELLED),
                    phones.leaves(call, "102", f"{call}-2", LegOutcome.CANCELLED),
                    phones.ends(call),
                )
            case _:  # who called hangs up
                await self._are_shown(call, "pop")
        await phones.ends(call)


async def moves_about(
    two: Two, luck: random.Random, done: asyncio.Event, wanted: Callable[[], set[str]]
) -> list[Event]:
    """
    All that a client is told that is cut off again and again and connects anywhere; at last, it
    stays for what it has not had of *wanted*.
    """
    told: list[Event] = []
    last: str | None = None
    while True:
        was_done = done.is_set()
        url = luck.choice(two.urls)
        headers = {"Last-Event-ID": last} if last is not None else None
        async with listening(two.session, url + MINE, key=two.key, headers=headers) as heard:
            if was_done:
                known = {event["id"] for event in told}
                await eventually(
                    lambda: wanted() <= known | {event["id"] for event in heard.events}  # noqa: B023  asked at once
                )
                await settled(heard)
            else:
                await CLOCK.sleep(timedelta(seconds=luck.random() * 0.4))
            told += heard.events
            last = heard.last_id
        # For a moment it is nowhere.
        await CLOCK.sleep(timedelta(seconds=luck.random() * 0.1))
        if was_done:
            return told


async def settled(*heard: Heard) -> None:
    """Nothing has come for two seconds."""
    before = -1
    while before != (before := sum(len(one.events) for one in heard)):
        await CLOCK.sleep(timedelta(seconds=2))


@pytest.mark.parametrize("seed", [1, 2])
async def test_a_client_that_moves_between_replicas_misses_nothing(two: Two, seed: int) -> None:
    luck, done = random.Random(seed), asyncio.Event()
    # A replica that has just begun cannot say of what came shortly before: it resets.
    await CLOCK.sleep(MARGIN)
    async with (
        listening(two.session, two.urls[0] + MINE, key=two.key) as here,
        listening(two.session, two.urls[1] + MINE, key=two.key) as there,
    ):
        traffic = Traffic(two.mesh, luck, here, there)

        def told_by(heard: Heard) -> list[set[str]]:
            """What every replica tells by the same ids."""
            return [
                ids(heard.events, "pop", but_of=traffic.over_at_once),
                ids(heard.events, "answered", but_of=traffic.over_at_once),
                ids(heard.events, "closed"),
            ]

        def told_by_both() -> set[str]:
            return {
                one
                for kind in ("pop", "answered", "closed")
                for one in ids(here.events, kind) & ids(there.events, kind)
            }

        moving = [
            asyncio.create_task(moves_about(two, random.Random(seed + n), done, told_by_both))
            for n in range(3)
        ]
        await traffic.play()
        await settled(here, there)
        # On a busy machine one may be seconds behind the other.
        await eventually(lambda: told_by(here) == told_by(there))
        await eventually(lambda: shown_by(here.events).calls == {} == shown_by(there.events).calls)
        done.set()
        movers = await asyncio.gather(*moving)

    # What both replicas told, each in its order, has the same ids: all rings, answers, cards.
    assert told_by(here) == told_by(there)
    assert {event["call_id"] for event in here.of("pop")} >= {*traffic.calls} - traffic.over_at_once
    assert traffic.over_at_once < {*traffic.calls}
    for told in movers:
        assert "reset" not in [event["kind"] for event in told]
        assert {event["id"] for event in told} >= told_by_both()
    for told in (here.events, there.events, *movers):
        page = shown_by(told)
        assert page.calls == {}, "everything that was shown is closed"
        assert len(page.opened) == len(set(page.opened)) == len(ids(told, "pop"))
    for told in (here.events, there.events):
        assert_in_order(told)


def ids(events: list[Event], kind: str, *, but_of: Collection[str] = ()) -> set[str]:
    """Of that kind, but those of these calls."""
    return {
        event["id"] for event in events if event["kind"] == kind and event["call_id"] not in but_of
    }


def shown_by(events: list[Event]) -> Page:
    page = Page()
    for event in without_doubles_of(events):
        page.take(event)
    return page


def without_doubles_of(events: list[Event]) -> list[Event]:
    """Those that come first, as a client drops what it has had."""
    first: dict[str, Event] = {}
    for event in events:
        first.setdefault(event["id"], event)
    return list(first.values())


def assert_in_order(events: list[Event]) -> None:
    """On one connection a call rings before all else, and is closed before it rings again."""
    open_now: set[tuple[str, str]] = set()
    for event in events:
        screen = (event["call_id"], event["extension"])
        if event["kind"] == "ringing":
            assert screen not in open_now
            open_now.add(screen)
        elif event["kind"] == "closed":
            open_now.discard(screen)
        else:
            assert screen in open_now, event["kind"]


async def test_a_pop_dismissed_at_one_replica_is_told_at_the_other(two: Two) -> None:
    phones = Phones(two.mesh.platform.publisher("ingest"), number=JANE, tenant=TENANT)
    call = str(new_id())
    async with (
        listening(two.session, two.urls[0] + MINE, key=two.key) as here,
        listening(two.session, two.urls[1] + ALL, key=two.key) as there,
    ):
        await phones.starts(call)
        await phones.rings(call)
        for heard in (here, there):
            await heard.has(lambda event: event["kind"] == "pop")
        async with two.session.post(
            f"{two.urls[1]}/v1/agents/101/pops/{call}",
            headers=two.mesh.headers,
            json={"seen": "dismissed"},
        ) as answer:
            assert answer.status == 202
        for heard in (here, there):
            event = await heard.has(lambda event: event["kind"] == "seen")
            assert (event["call_id"], event["seen"]) == (call, "dismissed")


async def test_a_replica_that_comes_late_shows_what_the_others_do(
    mesh: WholeMesh, choice: Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rolling restart in the middle of calls: what is open stays, by the same ids."""
    # What comes later than that is told by and by, in another order.
    for name in ("_WAITED_FOR", "_ASKED_WITHIN"):
        monkeypatch.setattr(f"services.gateway.screens.catching.{name}", timedelta(minutes=1))
    phones = Phones(mesh.platform.publisher("ingest"), number=JANE, tenant=TENANT)
    open_call, over = str(new_id()), str(new_id())
    key = mesh.key.get_secret_value()
    async with listening(mesh.session, mesh.url + MINE, key=key) as before:
        for call in (open_call, over):
            await phones.starts(call)
            await phones.rings(call)
        await eventually(lambda: len(before.of("pop")) == 2)
        await phones.answers(open_call)
        await phones.ends(over)
        await before.has(lambda event: event["kind"] == "closed")

        async def is_journaled() -> bool:
            records = [await mesh.get(f"/v1/calls/{call}") for call in (open_call, over)]
            found = [record for status, record in records if status == 200]
            return [r.get("answered_at") is not None for r in found] == [True, False] and (
                "ended_at" in found[1]
            )

        await eventually(is_journaled)
        async with (
            another_gateway(choice) as url,
            listening(
                mesh.session, url + MINE, key=key, headers={"Last-Event-ID": before.last_id or ""}
            ) as after,
        ):
            await after.until("reset", "ringing", "answered", "pop")
            known = {event["id"] for event in before.events}
            assert {event["id"] for event in after.events[1:]} <= known
            assert {event["call_id"] for event in after.events[1:]} == {open_call}
            await phones.ends(open_call)
            await after.has(lambda event: event["kind"] == "closed")
