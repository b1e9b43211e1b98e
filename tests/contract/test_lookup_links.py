"""Whom a call's entry is linked to, and who owns it: the journal over a CRM of several matches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.journal.settings import JournalSettings
from services.journal.store import CALLS, ENTRIES, CallLog, EntryBook
from services.journal.writer import EntryWriter, Tools
from shared.bus.embedded import EmbeddedBus
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock, SystemClock
from shared.contracts.calls import CallAnswered, CallEnded, CallQueued, Party, RecordingReady
from shared.contracts.contacts import ContactResolved, CrmUser
from shared.contracts.envelope import Event, wrap
from shared.crm.port import JournalEntry, Priority
from shared.crm.users import USERS, UserBook
from shared.observe.metrics import Metrics
from shared.site.book import SiteBook
from shared.site.documents import SITES
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import NOON, a_call
from shared.testing.waiting import eventually
from tests.contract.lookup_kit import JANE, Desk, a_card

SECOND = timedelta(seconds=1)
ANNS, BENS, OTHER = (
    a_card("anns", owner_id="ann"),
    a_card("bens", owner_id="ben"),
    a_card("other", owner_id="eve"),
)
ANN = CrmUser(user_id="ann", display_name="Ann", email="ann@acme.example")
BEN = CrmUser(user_id="ben", display_name="Ben", email="ben@acme.example")


class Journal:
    def __init__(self, db: SqliteFile, clock: ManualClock) -> None:
        store = SqliteStore(db, clock)
        self.desk = Desk(store, clock)
        self.clock = clock
        self.site = SiteBook(store.collection(SITES), clock, poll=SECOND)
        self.calls = CallLog(store.collection(CALLS), clock, silent_after=SECOND)
        self.entries = EntryBook(store.collection(ENTRIES), clock)
        self.users = UserBook(store.collection(USERS), clock)
        self.bus = EmbeddedBus(db, clock=SystemClock(), metrics=Metrics())
        connections = self.desk.connections()
        self.writer = EntryWriter(
            Tools(
                calls=self.calls,
                entries=self.entries,
                site=self.site,
                connections=connections,
                finder=self.desk.finder(connections),
                publisher=ServicePublisher(self.bus, service="journal", clock=clock),
                clock=clock,
                metrics=self.desk.metrics,
                settings=JournalSettings(),
                users=self.users,
            )
        )

    async def apply(self, **crm: Any) -> None:
        await self.desk.apply(
            self.site,
            crm=[{"name": "zoho", "template": "zoho", **crm}],
            agents=[
                {"extension": "101", "name": "Ann", "email": "ANN@acme.example"},
                {"extension": "102", "users": {"zoho": "ben"}},
                {"extension": "103"},
            ],
        )

    async def entry_of(self, extension: str, *more: Event) -> JournalEntry:
        """What the CRM gets for a call that *extension* took."""
        events = (
            a_call(caller=Party(number=JANE)),
            CallAnswered(call_id="c1", pbx="main", leg_id="1", callee=Party(extension=extension)),
            *more,
            CallEnded(call_id="c1", pbx="main"),
        )
        for after, event in enumerate(events):
            at = NOON + after * SECOND
            await self.calls.take(wrap(event, source="x", occurred_at=at, tenant="acme"), "c1")
        site = self.site.current["acme"]
        record = await self.calls.get("acme", "c1")
        await self.entries.keep_in_step(record, site, site.crm[0], ())
        await self.clock.advance(site.crm[0].journal.after)
        task = asyncio.create_task(self.writer.run())
        try:
            await eventually(lambda: bool(self.desk.crm.entries))
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        (entry,) = self.desk.crm.entries
        return entry


@pytest.fixture
async def journal(clock: ManualClock) -> AsyncIterator[Journal]:
    db = SqliteFile(None)
    await db.open()
    found = Journal(db, clock)
    found.desk.crm.cards = [OTHER, BENS, ANNS]
    await found.users.keep("acme", "zoho", (ANN, BEN))
    await found.bus.start()
    yield found
    await found.desk.close()
    await found.bus.stop(drain=SECOND)
    await db.close()


def resolved(*, ambiguous: bool = False) -> ContactResolved:
    """As lookup tells it when the call begins."""
    cards = (OTHER, BENS, ANNS)
    return ContactResolved(
        call_id="c1", number=JANE, contact=OTHER, candidates=cards, ambiguous=ambiguous
    )


@pytest.mark.parametrize(
    ("extension", "owner_id"), [("101", "ann"), ("102", "ben"), ("103", None), ("104", None)]
)
async def test_an_entry_belongs_to_the_agents_user(
    journal: Journal, extension: str, owner_id: str | None
) -> None:
    """By e-mail, as the site says, and nobody's where nobody is known."""
    await journal.apply()
    entry = await journal.entry_of(extension, resolved())
    assert entry.owner_id == owner_id


@pytest.mark.parametrize(
    ("choose", "extension", "linked"),
    [
        ("first", "101", OTHER),
        ("recent", "101", OTHER),
        ("owner", "101", ANNS),
        ("owner", "102", BENS),
        ("owner", "103", OTHER),
        ("ask", "101", None),
    ],
)
@pytest.mark.parametrize("told", [True, False])
async def test_an_entry_is_linked_as_the_connection_chooses(
    journal: Journal, choose: str, extension: str, linked: Any, told: bool
) -> None:
    """Whether the lookup came to an end or not."""
    await journal.apply(choose=choose)
    events = [resolved(ambiguous=choose == "ask")] if told else []
    assert (await journal.entry_of(extension, *events)).contact == linked


async def test_one_alone_is_linked_without_asking_the_agent(journal: Journal) -> None:
    await journal.apply(choose="ask")
    journal.desk.crm.cards = [OTHER]
    assert (await journal.entry_of("101", resolved())).contact == OTHER


@pytest.mark.parametrize("choose", ["first", "owner", "ask"])
async def test_a_contact_that_the_search_does_not_show_yet_is_linked(
    journal: Journal, choose: str
) -> None:
    """It was made for the caller a moment ago."""
    await journal.apply(choose=choose)
    journal.desk.crm.cards = []
    assert (await journal.entry_of("101", resolved())).contact == OTHER


async def test_the_crm_is_asked_with_the_journals_priority_and_only_where_need_be(
    journal: Journal,
) -> None:
    await journal.apply(choose="owner")
    journal.desk.crm.cards = [OTHER, ANNS]
    await journal.entry_of("101", resolved())
    assert [priority for _, priority in journal.desk.crm.searches] == [Priority.JOURNAL]


async def test_an_entry_has_the_connections_own_words(journal: Journal) -> None:
    policy = {
        "subject": "Call {{.Reference}}",
        "description": "Line {{.Dialled}}",
        "recording": "https://pbx.example/rec/{{.Recording | UrlEncode}}?call={{.CallId}}",
    }
    await journal.apply(journal=policy)
    entry = await journal.entry_of(
        "101",
        CallQueued(call_id="c1", pbx="main", queue="sales"),
        RecordingReady(call_id="c1", pbx="main", recording="a b/1.wav"),
    )
    assert (entry.subject, entry.description) == ("Call {{.Reference}}", "Line {{.Dialled}}")
    assert entry.recording == "https://pbx.example/rec/a%20b%2F1.wav?call=c1"
    assert (entry.queue, entry.agent_email) == ("sales", "ANN@acme.example")


async def test_without_them_the_template_has_its_own(journal: Journal) -> None:
    await journal.apply()
    entry = await journal.entry_of(
        "103", RecordingReady(call_id="c1", pbx="main", recording="https://pbx.example/1.wav")
    )
    assert (entry.subject, entry.description) == (None, None)
    assert entry.recording == "https://pbx.example/1.wav"
