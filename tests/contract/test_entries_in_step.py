"""
Whatever comes of a call, in whatever order and however often, and whatever becomes of the policy
meanwhile: the call is never in a CRM twice, and in the end it is there as it would be had all come
at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from services.journal.book import EntryBook
from services.journal.domain import Seen, fold
from services.journal.entries import ENTRIES, EntryDocument
from services.journal.orders import due_at, orders
from services.journal.shown import shown_in_entry
from services.journal.wanting import is_settled, wanted
from shared.clock import ManualClock
from shared.contracts.calls import EntryState
from shared.moments import Instant
from shared.site.journal import DoNotLog, EntryPer, JournalPolicy, Misses, Upload
from shared.site.models import CrmConnection, Site
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import NOON
from tests.calltelling import seen_in

POOL = seen_in(
    "0 in, 0 queue support, 1 ring 101 for support, 1 ring 102 for support, 4 ring 103,"
    "5 answer 101, 5 over 102 elsewhere, 9 answer 103, 6 answer 102, 3 over 101 no_answer,"
    "20 blind 101 103, 20 over 101 answered, 21 ring 103#2, 24 answer 103#2, 30 ring 447700900777,"
    "31 answer 447700900777, 60 end, 61 end answered, 62 end missed"
)
#: With these any step after them finds the call settled.
SETTLED = (POOL[0], POOL[-3])
WHOLE_CALLS = [
    JournalPolicy(),
    JournalPolicy(misses=Misses.ANSWERED),
    JournalPolicy(enabled=False),
    JournalPolicy(do_not_log=DoNotLog(extensions=("101",))),
]
OF_AGENTS = [
    JournalPolicy(per=EntryPer.AGENT),
    JournalPolicy(per=EntryPer.AGENT, misses=Misses.ALL),
    JournalPolicy(per=EntryPer.AGENT, misses=Misses.ANSWERED),
    JournalPolicy(per=EntryPer.AGENT, enabled=False),
    JournalPolicy(per=EntryPer.AGENT, do_not_log=DoNotLog(extensions=("101",))),
    JournalPolicy(per=EntryPer.AGENT, do_not_log=DoNotLog(extensions=("102",))),
]


@dataclass(frozen=True)
class Step:
    """Events that come together, the policy by then, and which of the entries are sent after it."""

    events: tuple[Seen, ...]
    policy: JournalPolicy
    sent: tuple[bool, ...]


@st.composite
def courses(draw: st.DrawFn) -> list[Step]:
    """
    Some of the pool in any order, some of it twice, split over several steps; the policy changes
    from one to the next, mostly between those of one kind.
    """
    events = [*draw(st.sampled_from([SETTLED, ()]))]
    events += draw(st.lists(st.sampled_from(POOL), min_size=1, max_size=16))
    policies = draw(st.sampled_from([WHOLE_CALLS, OF_AGENTS, WHOLE_CALLS + OF_AGENTS]))
    cuts = sorted(draw(st.lists(st.integers(0, len(events)), max_size=4)))
    parts = zip([0, *cuts], [*cuts, len(events)], strict=True)
    return [
        Step(
            events=tuple(events[since:until]),
            policy=draw(st.sampled_from(policies)),
            sent=tuple(draw(st.lists(st.booleans(), max_size=4))),
        )
        for since, until in parts
    ]


def connection(policy: JournalPolicy) -> CrmConnection:
    return CrmConnection(name="zoho", template="zoho", journal=policy)


async def after(course: Sequence[Step], *, sends: bool) -> list[EntryDocument]:
    """The entries at the end; at every step there was no call in the CRM twice."""
    db = SqliteFile(None)
    await db.open()
    try:
        clock = ManualClock()
        book = EntryBook(SqliteStore(db, clock).collection(ENTRIES), clock)
        # A step in which nothing is new has the last policy carried out.
        last = Step(events=(), policy=course[-1].policy, sent=())
        seen: list[Seen] = []
        for step in (*course, last):
            seen += step.events
            record = fold("c1", seen)
            if not is_settled(record):
                continue
            crm = connection(step.policy)
            site = Site(tenant="acme", region="GB", crm=(crm,))
            await book.keep_in_step(record, site, crm, await book.of_call("c1"))
            entries = await book.of_call("c1")
            assert await book.keep_in_step(record, site, crm, entries) is None
            check(entries)
            for entry, goes in zip(entries, step.sent, strict=False):
                if sends and goes and entry.is_to_be_sent:
                    shown = shown_in_entry(record, entry, crm.journal, site.region)
                    await book.move(entry, state=EntryState.SENT, entry_id="1", shown=shown)
        return await book.of_call("c1")
    finally:
        await db.close()


def check(entries: Sequence[EntryDocument]) -> None:
    assert len({entry.per for entry in entries}) <= 1
    assert len({entry.reference for entry in entries}) == len(entries)
    if entries and entries[0].per is EntryPer.CALL:
        assert len(entries) == 1
    assert len(whose(entries)) == len(live(entries))


def live(entries: Sequence[EntryDocument]) -> list[EntryDocument]:
    return [entry for entry in entries if entry.state is not EntryState.NOT_WANTED]


def agents_wanted(course: Sequence[Step], per: EntryPer) -> set[str | None]:
    """Had all of it come at once."""
    record = fold("c1", [seen for step in course for seen in step.events])
    if not is_settled(record):
        return set()
    found = wanted(record, course[-1].policy, per=per, region="GB").agents
    return {None} if found and per is EntryPer.CALL else set(found)


@settings(deadline=None, max_examples=200)
@given(course=courses())
def test_what_was_not_sent_is_in_the_end_as_if_all_had_come_at_once(course: list[Step]) -> None:
    entries = asyncio.run(after(course, sends=False))
    per = entries[0].per if entries else course[-1].policy.per
    assert whose(entries) == agents_wanted(course, per)


@settings(deadline=None, max_examples=200)
@given(course=courses())
def test_what_was_sent_is_passed_on_or_left_and_never_doubled(course: list[Step]) -> None:
    entries = asyncio.run(after(course, sends=True))
    per = entries[0].per if entries else course[-1].policy.per
    expected = agents_wanted(course, per)
    assert expected <= whose(entries)
    left = [entry for entry in live(entries) if entry.agent not in expected]
    assert all(entry.state is EntryState.SENT for entry in left)


@settings(deadline=None, max_examples=100)
@given(course=courses(), data=st.data())
def test_the_order_of_what_came_does_not_matter(course: list[Step], data: st.DataObject) -> None:
    """By one policy, whole calls' as well as agents'."""
    policy = course[-1].policy
    events = [seen for step in course for seen in step.events]
    one_by_one = [
        Step(events=(seen,), policy=policy, sent=()) for seen in data.draw(st.permutations(events))
    ]
    together = [Step(events=tuple(events), policy=policy, sent=())]
    found, expected = (asyncio.run(after(c, sends=False)) for c in (one_by_one, together))
    assert whose(found) == whose(expected)


def whose(entries: Sequence[EntryDocument]) -> set[str | None]:
    return {entry.agent for entry in live(entries)}


def test_who_turns_out_to_have_taken_part_gets_the_entry_that_was_made_for_him_back() -> None:
    """It became another's meanwhile, and under its key there can be no second one."""
    crm = connection(JournalPolicy(per=EntryPer.AGENT))
    passed_on = an_entry("101", agent="102")
    both = fold("c1", seen_in("0 in, 5 answer 101, 20 over 101 answered, 30 answer 102, 60 end"))
    found = orders(both, crm, [passed_on], region="GB")
    assert found.moved == ((passed_on, "101"),)
    assert found.new == ("102",)


def test_a_second_entry_of_one_agent_is_withdrawn() -> None:
    """Two replicas that knew different halves of a call may have ordered it twice."""
    crm = connection(JournalPolicy(per=EntryPer.AGENT))
    first, second = an_entry("101"), an_entry("102", agent="101")
    alone = fold("c1", seen_in("0 in, 5 answer 101, 60 end"))
    found = orders(alone, crm, [first, second], region="GB")
    assert (found.kept, found.withdrawn) == ((first,), (second,))


def an_entry(made_for: str, *, agent: str | None = None) -> EntryDocument:
    entry = EntryDocument.wanting(
        "acme", "c1", "zoho", agent=made_for, per=EntryPer.AGENT, now=NOON, due_at=NOON
    )
    return entry.model_copy(update={"agent": agent or made_for})


# -- when ------------------------------------------------------------------------------------


@given(
    now=st.timedeltas(timedelta(0), timedelta(days=800)).map(lambda since: NOON + since),
    wait=st.timedeltas(timedelta(0), timedelta(hours=2)),
    every=st.timedeltas(timedelta(minutes=1), timedelta(hours=24)),
)
def test_collected_entries_go_at_the_next_stroke_after_their_wait(
    now: Instant, wait: timedelta, every: timedelta
) -> None:
    alone = JournalPolicy(after=wait)
    assert due_at(alone, now) == now + wait
    together = due_at(alone.model_copy(update={"upload": Upload(every=every)}), now)
    assert timedelta(0) <= together - (now + wait) < every
    assert (
        due_at(JournalPolicy(after=timedelta(0), upload=Upload(every=every)), together) == together
    )


def test_every_ten_minutes_are_those_of_the_clock() -> None:
    policy = JournalPolicy(upload=Upload(every=timedelta(minutes=10)))
    dues = [
        due_at(policy, NOON + timedelta(minutes=m, seconds=s))
        for m, s in ((0, 0), (9, 58), (10, 0))
    ]
    assert [f"{due:%H:%M:%S}" for due in dues] == ["12:10:00", "12:20:00", "12:20:00"]
