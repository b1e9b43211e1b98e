"""
What may go wrong around an entry while it is on its way: handlers that overtake each other, sites
that were not read yet, operators in the middle of a try, faults of ours. Never a second entry, never
none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from yarl import URL

from services.journal.book import EntryBook
from services.journal.entries import EntryDocument
from services.journal.handlers import take_event
from services.journal.settings import JournalSettings
from services.journal.store import CALLS, ENTRIES, CallLog
from services.journal.writer import EntryWriter
from shared.clock import ManualClock
from shared.contracts.calls import CallEnded, CallRecord, EntryState
from shared.contracts.envelope import Event, wrap
from shared.contracts.journal import EntryFilter, ReconcileCalls
from shared.errors import ContractError
from shared.net.client import Answer, HttpClient
from shared.net.guard import AddressGuard, networks
from shared.sandbox.crm import Faults, SandboxCrm
from shared.sandbox.site import CRM, TENANT
from shared.site.book import SiteBook
from shared.site.documents import SITES
from shared.site.journal import EntryPer, JournalPolicy, Upload
from shared.site.models import CrmConnection
from shared.storage.port import Collection, Condition, Find, Page, cursor_after
from shared.testing.builders import NOON
from tests.calltelling import seen_in
from tests.contract.journal_kit import HOUR, SECOND, Journal, a_journal
from tests.contract.retailcrm_server import KEY, RetailCrm, retail_crm


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    async with a_journal() as found:
        yield found


@pytest.fixture
async def crm(journal: Journal) -> AsyncIterator[SandboxCrm]:
    server = SandboxCrm(None, clock=journal.clock)
    journal.url = f"http://127.0.0.1:{await server.start()}"
    await journal.apply(journal.url)
    yield server
    await server.stop()


class Slow(Collection[EntryDocument]):
    """A store in which whoever comes to do *at*, to the entry *of*, waits until he may go on."""

    def __init__(self, documents: Collection[EntryDocument], *, at: str, of: str = "") -> None:
        self._documents = documents
        self._place = (at, of)
        self.held = asyncio.Event()
        self.go_on = asyncio.Event()

    async def is_held(self) -> bool:
        return self.held.is_set()

    async def get(self, key: str) -> EntryDocument:
        return await self._documents.get(key)

    async def add(self, document: EntryDocument) -> None:
        await self._wait("add")
        await self._documents.add(document)

    async def add_all(self, documents: Sequence[EntryDocument]) -> None:
        await self._documents.add_all(documents)

    async def put(self, document: EntryDocument) -> None:
        await self._documents.put(document)

    async def replace(self, document: EntryDocument) -> EntryDocument:
        await self._wait("replace", document.key)
        return await self._documents.replace(document)

    async def delete(self, key: str) -> bool:
        return await self._documents.delete(key)

    async def page(self, query: Find) -> Page[EntryDocument]:
        await self._wait("page")
        return await self._documents.page(query)

    async def count(self, what: Find | Condition | None = None, /, **equals: Any) -> int:
        return await self._documents.count(what, **equals)

    async def _wait(self, doing: str, key: str = "") -> None:
        if (doing, key) == self._place:
            self.held.set()
            await self.go_on.wait()


# -- a site that was not read yet ------------------------------------------------------------------


async def test_a_connection_that_a_replica_has_not_read_yet_is_not_gone(
    journal: Journal, crm: SandboxCrm
) -> None:
    """The store was away when it began, or the connection is younger than its last look."""
    await journal.a_missed_call()
    late = SiteBook(journal.store.collection(SITES), journal.clock, poll=HOUR)
    async with writing(journal, site=late):
        done = await journal.until_done()
    assert done.state is EntryState.SENT
    assert len(crm.records("Calls")) == 1


# -- operators in the middle of a try --------------------------------------------------------------


async def test_a_repair_leaves_a_try_under_way_its_lease(journal: Journal, crm: SandboxCrm) -> None:
    """Else another replica takes it for broken off, looks for it too early and sends it again."""
    entry = await journal.a_missed_call()
    await journal.clock.advance(3 * HOUR)
    lease = journal.clock.now() + 25 * SECOND
    await journal.entries.move(entry, state=EntryState.SENDING, attempts=1, due_at=lease)

    asked = ReconcileCalls(since=NOON - HOUR, until=NOON + HOUR, repair=True)
    found = await journal.reconciling.step(TENANT, asked)

    assert [finding.repaired for finding in found.findings] == [False]
    assert (await journal.entry()).due_at == lease


async def test_a_cursor_that_is_none_is_refused_where_entries_are_named(
    journal: Journal, crm: SandboxCrm
) -> None:
    entry = await journal.a_missed_call()
    for cursor in (cursor_after("x", "y"), cursor_after(1, "y"), "x"):
        with pytest.raises(ContractError, match="cursor"):
            await journal.operating.replay(
                TENANT, EntryFilter(keys=(entry.key,)), limit=10, cursor=cursor
            )


# -- faults of ours --------------------------------------------------------------------------------


async def an_open_call_again(journal: Journal, call: str = "c1") -> None:
    """As it is after calls were restored from a backup of while it lasted."""
    kept = journal.store.collection(CALLS)
    document = await kept.get(call)
    record = document.record.model_copy(update={"ended_at": None, "disposition": None})
    await kept.put(document.model_copy(update={"record": record}))


async def test_a_fault_in_a_change_does_not_have_the_entry_sent_again(
    journal: Journal, crm: SandboxCrm
) -> None:
    await journal.a_missed_call()
    async with journal.writing():
        sent = await journal.until_done()
    await journal.entries.move(sent.wanting_update(journal.clock.now(), journal.clock.now()))
    await an_open_call_again(journal)
    async with journal.writing():
        await journal.pass_time(timedelta(minutes=2))
    left = await journal.entry()
    assert left.state is EntryState.SENT
    assert left.entry_id == sent.entry_id
    assert len(crm.records("Calls")) == 1


class Broken(RuntimeError):
    """A fault of the program."""


class BrokenLog(CallLog):
    """It cannot make anything of one call."""

    async def get(self, tenant: str, call_id: str) -> CallRecord:
        if call_id == "c2":
            raise Broken(call_id)
        return await super().get(tenant, call_id)


class BrokenClient(HttpClient):
    """It cannot send what has this text."""

    def __init__(self, text: str) -> None:
        super().__init__(AddressGuard(networks("127.0.0.0/8", setting="X")))
        self._text = text.encode()

    async def send(self, method: str, url: URL, **more: Any) -> Answer:
        if self._text in (more.get("body") or b""):
            raise Broken(self._text)
        return await super().send(method, url, **more)


@asynccontextmanager
async def writing(journal: Journal, **changed: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(EntryWriter(replace(journal.tools(), **changed)).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def shop(journal: Journal) -> AsyncIterator[RetailCrm]:
    """A CRM that takes 50 calls in one request, and knows a repeat of each."""
    await journal.apply("http://127.0.0.1:1")
    async with retail_crm() as server:
        connection = CrmConnection(
            name=CRM,
            template="retailcrm",
            parameters={"api_url": server.url},
            credentials={"api_key": journal.box.seal(SecretStr(KEY))},
            journal=JournalPolicy(upload=Upload(every=timedelta(minutes=1))),
        )
        await journal.change_site(crm=(connection,))
        yield server


async def test_a_call_that_nobody_can_make_an_entry_of_holds_up_no_other(
    journal: Journal, shop: RetailCrm
) -> None:
    for number in range(1, 6):
        await journal.a_missed_call(f"c{number}")
    log = BrokenLog(journal.store.collection(CALLS), journal.clock, silent_after=HOUR)
    async with writing(journal, calls=log):
        await journal.pass_time(timedelta(minutes=3))
    assert len(shop.calls) == 4
    assert (await journal.entry("c2")).state is EntryState.FAILED


async def test_a_call_that_breaks_the_request_holds_up_no_other(
    journal: Journal, shop: RetailCrm
) -> None:
    for number in range(1, 6):
        await journal.a_missed_call(f"c{number}")
    bad = await journal.entry("c2")
    async with BrokenClient(bad.reference) as journal.http, writing(journal):
        await journal.pass_time(timedelta(minutes=5))
    assert len(shop.calls) == 4
    assert (await journal.entry("c2")).state is EntryState.MAYBE_SENT


async def test_what_was_broken_off_waits_for_a_connection_that_is_set_up_wrongly(
    journal: Journal, shop: RetailCrm
) -> None:
    """It is a reason that somebody can read, and no look a second for ever."""
    entry = await journal.a_missed_call()
    now = journal.clock.now()
    await journal.entries.move(entry, state=EntryState.SENDING, attempts=1, due_at=now)
    site = journal.site.site(TENANT)
    assert site is not None
    wrong = {**site.crm[0].parameters, "api_url": "not an address"}
    await journal.change_site(crm=(site.crm[0].model_copy(update={"parameters": wrong}),))
    async with writing(journal):
        await journal.until(EntryState.DEAD)
    assert "api_url" in ((await journal.entry()).reason or "")


async def test_a_claim_that_came_too_long_before_its_try_is_given_up(
    journal: Journal, crm: SandboxCrm
) -> None:
    """The store was slow with the other claims of the request, and another replica took it over."""
    await by(journal, upload={"every": "1m"})
    for number in (1, 2):
        await journal.a_missed_call(f"c{number}")
    slow = Slow(journal.store.collection(ENTRIES), at="replace", of="c2/zoho")
    hasty = JournalSettings(write_within=timedelta(milliseconds=50))
    async with writing(journal, entries=EntryBook(slow, journal.clock), settings=hasty):
        await journal.until_true(slow.is_held)
        async with journal.writing():
            await journal.until(EntryState.SENT)
        await asyncio.sleep(0.2)  # noqa: TID251  longer than both of its steps may take
        slow.go_on.set()
        await journal.pass_time(timedelta(minutes=1))
    assert len(crm.records("Calls")) == 2


# -- clocks ----------------------------------------------------------------------------------------


class Wall(ManualClock):
    """It can be put back; who sleeps does so for as long as before."""

    def put_back(self, by: timedelta) -> None:
        self._now -= by
        self._sleepers = [(at - by, place, wake) for at, place, wake in self._sleepers]


async def test_a_clock_that_is_put_back_stops_nobody() -> None:
    async with a_journal(clock=Wall()) as journal:
        server = SandboxCrm(None, clock=journal.clock)
        await journal.apply(f"http://127.0.0.1:{await server.start()}")
        async with journal.writing():
            await journal.pass_time(timedelta(seconds=3))
            assert isinstance(journal.clock, Wall)
            journal.clock.put_back(HOUR)
            # Of another replica: nobody tells this one of it.
            await journal.a_missed_call()
            await journal.pass_time(timedelta(seconds=30))
            assert (await journal.entry()).state is EntryState.SENT
        await server.stop()


# -- lines that are longer than a look -------------------------------------------------------------


async def test_a_long_line_waits_beside_the_others_and_goes_when_its_crm_is_back(
    journal: Journal, crm: SandboxCrm
) -> None:
    other = SandboxCrm(None, clock=journal.clock)
    await journal.apply(journal.url, f"http://127.0.0.1:{await other.start()}")
    await journal.a_missed_call("c1", "zoho2")
    record = await journal.store.collection(CALLS).get("c1")
    now, calls = journal.clock.now(), [f"c{number}" for number in range(2, 1202)]
    for call in calls:
        said = record.record.model_copy(update={"call_id": call})
        await journal.store.collection(CALLS).put(
            record.model_copy(update={"key": call, "record": said})
        )
        wanted = EntryDocument.wanting(
            TENANT, call, CRM, agent=None, per=EntryPer.CALL, now=now, due_at=now
        )
        await journal.store.collection(ENTRIES).add(wanted)
    crm.faults = Faults(fail_next=1_000_000, fail_status=503)

    async def other_has(number: int) -> bool:
        return len(other.records("Calls")) == number

    async def all_are_there() -> bool:
        return len(crm.records("Calls")) == len(calls) + 2

    async with journal.writing():
        await journal.until_true(lambda: other_has(1))
        await journal.pass_time(timedelta(minutes=3))
        await journal.a_missed_call("d1", "zoho2")
        ordered_at = journal.clock.now()
        await journal.until_true(lambda: other_has(2))
        assert journal.clock.now() - ordered_at < timedelta(minutes=1)
        crm.faults = Faults()
        await journal.until_true(all_are_there)
    await other.stop()


# -- handlers that overtake each other -------------------------------------------------------------


async def overtaken(
    journal: Journal, slow: Slow, event: Event, *, site: SiteBook | None = None, at: float = 0
) -> asyncio.Task[None]:
    """*event* at a replica that stops where *slow* says."""
    deps = replace(
        journal._deps,
        entries=EntryBook(slow, journal.clock),
        site=site or journal.site,
    )
    said = wrap(event, source="test", occurred_at=NOON + timedelta(seconds=at), tenant=TENANT)

    async def take() -> None:
        await take_event(deps, said)

    task = asyncio.create_task(take())
    await slow.held.wait()
    return task


async def tell(journal: Journal, line: str) -> None:
    for seen in seen_in(line):
        await journal.hear_message(
            wrap(seen.body, source="test", occurred_at=seen.at, tenant=TENANT, key=str(seen))
        )


def live(entries: list[EntryDocument]) -> list[str]:
    return [entry.key for entry in entries if entry.state is not EntryState.NOT_WANTED]


async def test_who_knows_less_does_not_withdraw_what_who_knows_more_ordered(
    journal: Journal, crm: SandboxCrm
) -> None:
    await by(journal, misses="answered")
    await tell(journal, "0 in, 2 queue support, 3 ring 101 for support")
    slow = Slow(journal.store.collection(ENTRIES), at="page")
    late = await overtaken(journal, slow, CallEnded(call_id="c1", pbx="sandbox"), at=60)
    await tell(journal, "9 answer 101")
    assert live(await journal.entries.of_call("c1")) == ["c1/zoho"]
    slow.go_on.set()
    await late
    assert live(await journal.entries.of_call("c1")) == ["c1/zoho"]


async def test_two_replicas_of_which_one_has_the_old_policy_order_one_entry(
    journal: Journal, crm: SandboxCrm
) -> None:
    await by(journal, per="agent")
    old = SiteBook(journal.store.collection(SITES), journal.clock, poll=HOUR)
    await old.refresh()
    await by(journal, per="call")
    await tell(journal, "0 in, 3 ring 101, 5 answer 101")
    slow = Slow(journal.store.collection(ENTRIES), at="add")
    ended = CallEnded(call_id="c1", pbx="sandbox")
    late = await overtaken(journal, slow, ended, site=old, at=60)
    await tell(journal, "30 hold 101")
    slow.go_on.set()
    await late
    assert len(live(await journal.entries.of_call("c1"))) == 1


async def by(journal: Journal, **policy: Any) -> None:
    site = journal.site.site(TENANT)
    assert site is not None
    changed = JournalPolicy.model_validate({"after": "0s", **policy})
    await journal.change_site(crm=(site.crm[0].model_copy(update={"journal": changed}),))
