"""
Thousands of calls and a CRM that fails all the time: each call ends with one entry, and nobody has to
look. What the sandbox CRM holds is the proof, not what the journal thinks.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from time import perf_counter

import aiohttp
import pytest
from yarl import URL

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from services.journal.entries import ENTRIES, EntryDocument
from shared.clock import ManualClock
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallStarted,
    Direction,
    EntryState,
    Party,
    RecordingReady,
)
from shared.contracts.envelope import Event
from shared.ids import call_id, new_id, reference
from shared.observe.logging import LogFormat, configure
from shared.runtime.host import running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Platform
from shared.runtime.settings import BusKind, HttpSettings, OpsSettings
from shared.sandbox.crm import Faults, SandboxCrm
from shared.sandbox.site import CRM, PBX, TENANT, site_file
from shared.site.accounts import account_of
from shared.storage.port import Find, every
from shared.testing.servers import free_port
from shared.testing.waiting import eventually
from tests.contract.journal_kit import SECOND, Journal, a_journal
from tests.scenario.conftest import has_begun

pytestmark = pytest.mark.timeout(1200)

MINUTE = timedelta(minutes=1)
OTHER = f"{CRM}2"
#: What is wrong with the CRM, one after the other. Of a batch that fails each entry is looked for
#: and sent by itself, so that one failure makes many requests, which fail in their turn.
WEATHER = (
    Faults(fail_share=0.1, fail_status=500),
    Faults(lose_share=0.1),
    Faults(fail_share=0.1, fail_status=503, retry_after_s=1),
    Faults(fail_share=0.05, lose_share=0.05, search_lag_ms=3000),
    Faults(throttle_share=0.01, lose_share=0.09),
    Faults(broken_json=1, html_page=1, lose_share=0.1),
    Faults(fail_share=0.1, latency_ms=100),
)
#: Longer than a request may take.
SLOW = Faults(latency_ms=2500)
#: The CRM gives ten tokens in ten minutes, so they must not all be short.
TOKEN_LIVES = (15, 3600, 3600)
CALLERS = 40


def a_call_of(number: int) -> tuple[str, list[Event]]:
    """Its id and what is told of it: of five calls one is answered, and recorded."""
    call = call_id(TENANT, PBX, f"soak-{number}")
    caller = Party(number=f"4477009{number % CALLERS:05}")
    told: list[Event] = [
        CallStarted(
            call_id=call,
            pbx=PBX,
            pbx_call_id=f"soak-{number}",
            direction=Direction.INBOUND,
            caller=caller,
            dialled="442079460000",
        )
    ]
    if number % 5 == 0:
        callee = Party(extension="101")
        told.append(CallAnswered(call_id=call, pbx=PBX, leg_id="1", callee=callee))
        told.append(RecordingReady(call_id=call, pbx=PBX, recording=f"{number}.wav"))
    told.append(CallEnded(call_id=call, pbx=PBX))
    return call, told


def assert_each_once(crm: SandboxCrm, calls: Sequence[str]) -> None:
    found = Counter(record["Subject"][-10:] for record in crm.records("Calls"))
    assert found == Counter(map(reference, calls))


# -- the whole service, real time --------------------------------------------------------------


@pytest.fixture(autouse=True)
def few_lines() -> Iterator[None]:
    """A hundred thousand lines of a log cost more than the calls."""
    configure(form=LogFormat.CONSOLE, level="ERROR")
    yield
    configure(form=LogFormat.CONSOLE)


@pytest.fixture
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CALLMESH_JOURNAL_RETRY_FIRST", "100ms")
    monkeypatch.setenv("CALLMESH_JOURNAL_WRITE_WITHIN", "2s")
    # What the CRM takes at once is its template's to say.
    monkeypatch.setenv("CALLMESH_JOURNAL_AT_ONCE", "16")


@asynccontextmanager
async def journaling(choice: Choice, crm: SandboxCrm) -> AsyncIterator[Platform]:
    url = f"http://127.0.0.1:{await crm.start()}"
    async with open_platform(choice, consumers=consumers()) as platform:
        await prepare(platform, site_file(crm_url=url, ami_port=1, settle_s=0.1))
        async with running(
            [CATALOG["journal"].build],
            platform,
            http=HttpSettings(port=0),
            ops=OpsSettings(port=0),
            drain=choice.mesh.drain,
        ) as state:
            await has_begun(platform)
            yield platform
            assert state.failed is None


async def tell(platform: Platform, calls: Sequence[Sequence[Event]]) -> None:
    publisher = platform.publisher("ingest")
    places = asyncio.Semaphore(64)

    async def tell_one(told: Sequence[Event]) -> None:
        async with places:
            for event in told:
                key = str(new_id())
                await eventually(partial(is_told, event, key), within=600)

    async def is_told(event: Event, key: str) -> bool:
        """What the broker of a busy machine does not confirm in time is told again."""
        await publisher.publish(event, tenant=TENANT, key=key)
        return True

    await asyncio.gather(*(tell_one(told) for told in calls))


def count(platform: Platform, outcome: str) -> float:
    return platform.metrics.value("callmesh_journal_entries_total", outcome)


def heard(platform: Platform) -> float:
    """Of entries that are there."""
    return platform.metrics.value(
        "callmesh_deliveries_total", "journal", "journal.written.v1", "done"
    )


async def worsen(platform: Platform, crm: SandboxCrm, calls: int) -> None:
    """Other faults each time that some more calls have their entry."""
    steps = len(WEATHER) * len(TOKEN_LIVES)
    crm.faults = SLOW.model_copy(update={"token_life_s": TOKEN_LIVES[0]})
    await by_and_by(lambda: count(platform, "retried") > 0)
    for step in range(steps):
        token_life_s = TOKEN_LIVES[step // len(WEATHER)]
        faults = WEATHER[step % len(WEATHER)]
        crm.faults = faults.model_copy(update={"token_life_s": token_life_s}, deep=True)
        await sent(platform, calls * (step + 1) // (steps + 1))
    crm.faults = WEATHER[0].model_copy(deep=True)


async def sent(platform: Platform, calls: int) -> None:
    await by_and_by(lambda: count(platform, "sent") + count(platform, "found") >= calls)


async def by_and_by(holds: Callable[[], bool]) -> None:
    """As ``eventually``, for what takes long: to look at the metrics costs as much as a call."""
    async with asyncio.timeout(600):
        while not holds():  # noqa: ASYNC110  as there
            await asyncio.sleep(0.25)  # noqa: TID251  a poll is no wait for the clock


@pytest.mark.usefixtures("quick_retries")
async def test_a_crm_that_fails_all_the_time_has_each_call_once(
    choice: Choice, crm: SandboxCrm
) -> None:
    calls = dict(
        a_call_of(n) for n in range(10_000 if choice.mesh.bus is BusKind.EMBEDDED else 1_000)
    )
    async with journaling(choice, crm) as platform:
        began = perf_counter()
        weather = asyncio.create_task(worsen(platform, crm, len(calls)))
        await tell(platform, list(calls.values()))
        await weather
        entries = platform.store.collection(ENTRIES)

        async def all_told() -> bool:
            return await entries.count(told=True, due_at=None) == len(calls)

        await sent(platform, len(calls))
        await eventually(all_told, within=600)
        await by_and_by(lambda: heard(platform) >= len(calls))
        took = perf_counter() - began
        states = Counter([entry.state async for entry in every(entries, Find())])
        print(  # noqa: T201  how long it takes is what a reader of a slow run asks
            f"{len(calls)} calls in {took:.1f} s, {count(platform, 'retried'):.0f} put off, "
            f"{count(platform, 'found'):.0f} found in the CRM, {crm.asked_for_tokens} tokens"
        )
        assert count(platform, "retried") > len(calls) / 100
        assert count(platform, "found") > 0

    assert_each_once(crm, list(calls))
    assert set(states) <= {EntryState.SENT, EntryState.UPDATED}
    assert sum(states.values()) == len(calls)
    assert crm.asked_for_tokens >= 2


# -- one connection among others, the test's time ----------------------------------------------


@dataclass
class Two:
    """A journal with two connections; the CRM of the other one is not up."""

    journal: Journal
    crm: SandboxCrm
    other: SandboxCrm
    port: int

    async def tell(self, numbers: range) -> list[str]:
        calls = dict(map(a_call_of, numbers))
        for told in calls.values():
            await self.journal.hear(*told)
        return list(calls)

    async def entries(self, connection: str) -> list[EntryDocument]:
        kept = self.journal.store.collection(ENTRIES)
        return [entry async for entry in every(kept, Find(equals={"connection": connection}))]

    async def states(self, connection: str) -> Counter[EntryState]:
        return Counter(entry.state for entry in await self.entries(connection))

    async def until_sent(self, connection: str, *, step: timedelta) -> None:
        """All that there are, and the mesh knows."""
        kept = self.journal.store.collection(ENTRIES)
        wanted = await kept.count(connection=connection)

        async def all_are() -> bool:
            return await kept.count(connection=connection, state="sent", told=True) == wanted

        await self.journal.until_true(all_are, step=step, within=600)


@pytest.fixture
async def two(clock: ManualClock) -> AsyncIterator[Two]:
    port = free_port()
    crm, other = SandboxCrm(clock=clock), SandboxCrm(clock=clock)
    async with a_journal(clock=clock) as journal:
        await journal.apply(f"http://127.0.0.1:{await crm.start()}", f"http://127.0.0.1:{port}")
        yield Two(journal, crm, other, port)
    await crm.stop()
    await other.stop()


async def test_a_dead_crm_holds_back_nobody_and_is_not_hammered(two: Two) -> None:
    calls = await two.tell(range(1_000))
    async with two.journal.writing():
        # All but no time passes: not even the first pause of the dead one is over.
        await two.until_sent(CRM, step=timedelta(milliseconds=1))
        assert_each_once(two.crm, calls)

        await two.journal.pass_time(timedelta(hours=1), step=20 * SECOND)
        waiting = await two.entries(OTHER)
        assert {entry.state for entry in waiting} <= {EntryState.DUE, EntryState.FAILED}
        # A trial a minute, and what was under way when it was found to be dead.
        assert sum(len(entry.tries) for entry in waiting) < 600
        assert max(len(entry.tries) for entry in waiting) < 5

        await two.other.start(port=two.port)
        await two.until_sent(OTHER, step=SECOND)
    assert_each_once(two.other, calls)
    assert_each_once(two.crm, calls)


async def test_entries_wait_for_a_grant_that_was_lost_and_go_when_it_is_there_again(
    two: Two,
) -> None:
    await two.other.start(port=two.port)
    before = await two.tell(range(150))
    async with two.journal.writing():
        await two.until_sent(CRM, step=SECOND)
        await two.journal.pass_time(5 * MINUTE, step=10 * SECOND)
        two.crm.faults = Faults(grant_revoked=True)
        two.crm.forget_tokens()
        after = await two.tell(range(150, 300))
        await two.until_sent(OTHER, step=SECOND)

        # Longer than entries are tried that a CRM lets fail.
        await two.journal.pass_time(timedelta(days=8), step=timedelta(hours=2))
        states = await two.states(CRM)
        assert states.pop(EntryState.SENT) == len(before)
        assert states[EntryState.RECONNECT] > 0
        assert set(states) <= {EntryState.RECONNECT, EntryState.DUE, EntryState.FAILED}
        assert sum(states.values()) == len(after)

        await connect_again(two)
        await two.until_sent(CRM, step=SECOND)
    assert_each_once(two.crm, before + after)
    assert_each_once(two.other, before + after)


async def connect_again(two: Two) -> None:
    """As an administrator does, in a browser."""
    site = two.journal.site.current[TENANT]
    connections = two.journal.connections()
    account = connections.connected(account_of(site, site.crm[0]))
    consents = connections.consents()
    page = await consents.begin(account, redirect_uri="https://callmesh.example/v1/crm/callback")
    async with (
        aiohttp.ClientSession() as browser,
        browser.get(URL(page).update_query(approve="1"), allow_redirects=False) as answer,
    ):
        back = URL(answer.headers["Location"]).query
    await consents.finish(back["state"], back["code"], connected=lambda *_: account)
    await connections.close()
