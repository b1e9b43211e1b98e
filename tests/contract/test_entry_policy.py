"""A connection's policy as it reaches the CRM: whose entries, how many, when; time is the test's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.journal.contents import Content, Contents
from services.journal.domain import Seen
from services.journal.entries import EntryDocument
from shared.clock import ManualClock
from shared.contracts.calls import CallEnded, CallSummarised, EndKnown, EntryState, RecordingReady
from shared.contracts.contacts import ContactResolved, ContactUnknown
from shared.contracts.envelope import Event, wrap
from shared.crm.candidates import Choose
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.people import USERS
from shared.sandbox.site import TENANT
from shared.site.journal import EntryPer, JournalPolicy
from shared.site.models import Agent, CrmConnection
from shared.testing.builders import NOON, a_contact
from tests.calltelling import BASE, seen_in
from tests.contract.journal_kit import SECOND, Journal, a_journal

ANNA, BEN = (user["id"] for user in USERS)
JANE = "829914000000600001"
STRANGER, MADE = "447700900555", "829914000000600777"

TWO_AGENTS = (
    "0 in, 1 ring 101, 5 answer 101, 20 blind 101 102, 20 over 101 answered,"
    "21 ring 102, 24 answer 102, 60 over 102 answered, 60 end"
)
UNANSWERED = (
    "0 in, 2 queue support, 3 ring 101 for support, 3 ring 102 for support,"
    "20 over 101 no_answer, 20 over 102 no_answer, 21 end"
)


@pytest.fixture
async def journal() -> AsyncIterator[Journal]:
    # Of the day of the calls, for what is sent by the clock.
    async with a_journal(clock=ManualClock(datetime(2100, 1, 1, 12, tzinfo=UTC))) as found:
        yield found


@pytest.fixture
async def crm(journal: Journal) -> AsyncIterator[SandboxCrm]:
    server = SandboxCrm(None, clock=journal.clock)
    await journal.apply(f"http://127.0.0.1:{await server.start()}")
    yield server
    await server.stop()


def connection(journal: Journal) -> CrmConnection:
    site = journal.site.site(TENANT)
    assert site is not None
    return site.crm[0]


async def by(journal: Journal, crm: dict[str, Any] | None = None, **policy: Any) -> None:
    """The connection with this policy, and these changes of its own."""
    said = {"after": "0s", **policy}
    changed = {"journal": JournalPolicy.model_validate(said), **(crm or {})}
    await journal.change_site(crm=(connection(journal).model_copy(update=changed),))


async def hear(journal: Journal, *calls: str, first: int = 1) -> None:
    """Calls as lines: c1, c2 …"""
    for number, line in enumerate(calls, start=first):
        for seen in seen_in(line):
            await tell(journal, seen, call=f"c{number}")


async def tell(journal: Journal, seen: Seen, *, call: str = "c1") -> None:
    body = seen.body.model_copy(update={"call_id": call})
    key = f"{call}/{seen.id}/{seen.at}"
    await journal.hear_message(
        wrap(body, source="test", occurred_at=seen.at, tenant=TENANT, key=key)
    )


async def say(journal: Journal, line: str, *, call: str = "c1") -> None:
    """More of a call, that comes later."""
    for seen in seen_in(line):
        await tell(journal, Seen(f"more/{seen.id}", seen.at, seen.body), call=call)


async def done(journal: Journal, call: str = "c1") -> list[EntryDocument]:
    """The call's entries, when nothing is to be done about them any more."""

    async def is_done() -> bool:
        return all(entry.due_at is None for entry in await journal.entries.of_call(call))

    await journal.until_true(is_done)
    return await journal.entries.of_call(call)


def calls(crm: SandboxCrm) -> list[dict[str, Any]]:
    return crm.records("Calls")


def owners(crm: SandboxCrm) -> list[str | None]:
    return [(record.get("Owner") or {}).get("id") for record in calls(crm)]


def known(contact_id: str = JANE, **card: Any) -> ContactResolved:
    return ContactResolved(
        call_id="c1", number="447700900123", contact=a_contact(contact_id=contact_id, **card)
    )


# -- one for the call, or one for each agent ------------------------------------------------------


async def test_each_agent_has_an_entry_by_which_it_is_found_again(
    journal: Journal, crm: SandboxCrm
) -> None:
    await by(journal, per="agent")
    async with journal.writing():
        await hear(journal, TWO_AGENTS)
        entries = await done(journal)
    assert {entry.agent for entry in entries} == {"101", "102"}
    assert sorted(owners(crm), key=str) == [ANNA, BEN]
    durations = {record["Owner"]["id"]: record["Call_Duration"] for record in calls(crm)}
    assert durations == {ANNA: "00:15", BEN: "00:36"}
    subjects = {record["id"]: record["Subject"] for record in calls(crm)}
    assert len({entry.reference for entry in entries}) == 2
    assert all(entry.reference in subjects[entry.entry_id or ""] for entry in entries)


async def test_the_whole_call_told_again_and_again_is_the_same_entries(
    journal: Journal, crm: SandboxCrm
) -> None:
    await by(journal, per="agent")
    async with journal.writing():
        for _ in range(3):
            await hear(journal, TWO_AGENTS)
            await done(journal)
    assert len(calls(crm)) == 2


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        ({}, [None]),
        ({"per": "agent"}, [None]),
        ({"misses": "answered"}, []),
        ({"misses": "all", "per": "agent"}, [ANNA, BEN]),
        ({"misses": "once", "fallback_owner": BEN}, [BEN]),
    ],
    ids=str,
)
async def test_what_a_queue_missed_is_logged_as_the_policy_says(
    journal: Journal, crm: SandboxCrm, policy: dict[str, Any], expected: list[str | None]
) -> None:
    await by(journal, **policy)
    async with journal.writing():
        await hear(journal, UNANSWERED)
        await done(journal)
    assert sorted(owners(crm), key=str) == sorted(expected, key=str)
    assert {record["Call_Type"] for record in calls(crm)} <= {"Missed"}


async def test_a_missed_call_that_turns_out_to_be_answered_is_the_agents_afterwards(
    journal: Journal, crm: SandboxCrm
) -> None:
    """The PBX's own record of the call is better than its silence; and there is one entry."""
    await by(journal, misses="once")
    async with journal.writing():
        await hear(journal, "0 in, 2 queue support, 3 ring 101 for support")
        await journal.hear(CallEnded(**BASE, known=EndKnown.SILENCE), after=90)
        (missed,) = await done(journal)
        assert "101" not in calls(crm)[0]["Description"]
        await say(journal, "12 answer 101, 72 over 101 answered")
        await journal.hear(CallEnded(**BASE, known=EndKnown.REPORT), after=72)
        (entry,) = await done(journal)
    (call,) = calls(crm)
    assert (call["id"], entry.key) == (missed.entry_id, missed.key)
    assert (call["Call_Duration"], entry.state) == ("01:00", EntryState.UPDATED)
    assert call["Description"].startswith("Agent 101 ")


async def test_a_miss_of_each_agent_becomes_the_answer_of_one(
    journal: Journal, crm: SandboxCrm
) -> None:
    """What is not in the CRM yet, and is not wanted any more, does not get there."""
    await by(journal, per="agent", misses="once", after="10s")
    await hear(journal, "0 in, 1 ring 101, 21 over 101 no_answer, 21 ring 102, 41 end")
    assert {entry.agent for entry in await journal.entries.of_call("c1")} == {"101", "102"}
    await say(journal, "15 queue support, 21 answer 102")
    async with journal.writing():
        await done(journal)
    assert owners(crm) == [BEN]
    states = [entry.state for entry in await journal.entries.of_call("c1")]
    assert sorted(states) == [EntryState.NOT_WANTED, EntryState.SENT]


# -- the policy is changed ------------------------------------------------------------------------


@pytest.mark.parametrize(("before", "then"), [("call", "agent"), ("agent", "call")])
@pytest.mark.parametrize("sent", [False, True])
async def test_another_kind_of_entry_is_for_calls_that_have_none_yet(
    journal: Journal, crm: SandboxCrm, before: str, then: str, *, sent: bool
) -> None:
    await by(journal, per=before)
    async with journal.writing():
        await hear(journal, TWO_AGENTS)
        if sent:
            await done(journal)
        await by(journal, per=then)
        await journal.hear(RecordingReady(**BASE, recording="https://pbx.example/1.wav"), after=70)
        entries = await done(journal)
        expected = 1 if before == "call" else 2
        assert (len(entries), len(calls(crm))) == (expected, expected)
        await hear(journal, TWO_AGENTS, first=2)
        assert len(await done(journal, "c2")) == 3 - expected


async def test_what_is_no_longer_wanted_is_withdrawn_and_sent_when_it_is_wanted_again(
    journal: Journal, crm: SandboxCrm
) -> None:
    await by(journal, after="60s")
    await hear(journal, TWO_AGENTS)
    await by(journal, after="60s", do_not_log={"extensions": ["102"]})
    summary = CallSummarised(**BASE, summary="wants a quote")
    await journal.hear(summary, after=61)
    withdrawn = await journal.entry()
    assert (withdrawn.state, withdrawn.due_at) == (EntryState.NOT_WANTED, None)
    assert withdrawn.reason == "calls of extension 102 are not logged"
    async with journal.writing():
        await journal.pass_time(timedelta(minutes=5), step=timedelta(minutes=1))
        assert calls(crm) == []
        await by(journal)
        await journal.hear(summary, after=90)
        (entry,) = await done(journal)
    assert (entry.key, entry.state, entry.reason) == (withdrawn.key, EntryState.SENT, None)
    assert owners(crm) == [BEN]


async def test_one_that_was_sent_stays_whatever_the_policy_says_now(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await by(journal)
        await hear(journal, TWO_AGENTS)
        await done(journal)
        before = calls(crm)
        await by(journal, enabled=False)
        await journal.hear(RecordingReady(**BASE, recording="https://pbx.example/1.wav"), after=70)
        (entry,) = await done(journal)
    assert (entry.state, entry.updates, calls(crm)) == (EntryState.SENT, 0, before)


# -- whose ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fallback", "expected"), [(None, None), (BEN, BEN), ("contact", ANNA)], ids=str
)
async def test_a_call_of_an_agent_without_a_user_is_the_fallbacks(
    journal: Journal, crm: SandboxCrm, fallback: str | None, expected: str | None
) -> None:
    """103 is nobody's phone in the CRM, and Anna owns Jane's record."""
    await journal.change_site(agents=(Agent(extension="103", name="Cleo"),))
    await by(journal, fallback_owner=fallback)
    async with journal.writing():
        await hear(journal, "0 in, 1 ring 103, 5 answer 103, 65 end")
        await done(journal)
    assert owners(crm) == [expected]
    assert "103 Cleo" in calls(crm)[0]["Description"]


async def test_the_fallback_is_not_for_who_has_a_user(journal: Journal, crm: SandboxCrm) -> None:
    await by(journal, fallback_owner="contact")
    async with journal.writing():
        await hear(journal, "0 in, 1 ring 102, 5 answer 102, 65 end")
        await done(journal)
    assert owners(crm) == [BEN]


async def test_the_owner_of_a_caller_whom_nobody_knows_is_nobody(
    journal: Journal, crm: SandboxCrm
) -> None:
    await by(journal, fallback_owner="contact")
    async with journal.writing():
        await hear(journal, f"0 in {STRANGER}, 2 queue support, 40 end")
        await done(journal)
    assert owners(crm) == [None]


# -- to whom it is linked -------------------------------------------------------------------------


async def test_a_contact_that_is_made_for_the_call_is_the_one_of_its_entry(
    journal: Journal, crm: SandboxCrm
) -> None:
    """However it comes: while the entry waits, or when it is there already."""
    line = f"0 in {STRANGER}, 1 ring 101, 5 answer 101, 65 end"
    await by(journal, after="3s")
    # By its number nobody finds it, as in a CRM whose search lags behind.
    crm.put("Contacts", {"id": MADE, "Full_Name": "Ada Lovelace"})
    async with journal.writing():
        for call, late in (("c1", False), ("c2", True)):
            await hear(journal, line, first=int(call[1]))
            await journal.hear(ContactUnknown(call_id=call, number=STRANGER), after=1)
            if late:
                await done(journal, call)
            made = known(MADE).model_copy(update={"call_id": call})
            await journal.hear(made, after=66)
            (entry,) = await done(journal, call)
            assert (entry.contact_id, entry.updates) == (MADE, int(late))
    assert [record["Who_Id"]["id"] for record in calls(crm)] == [MADE] * 2


TWINS = "447700900600"


def put_twins(crm: SandboxCrm) -> None:
    for number, owner in ((600100, ANNA), (600101, BEN)):
        crm.put(
            "Contacts",
            {
                "id": f"829914000000{number}",
                "Full_Name": f"Twin {number}",
                "Phone": f"+{TWINS}",
                "Owner": {"id": owner},
            },
        )


@pytest.mark.parametrize(
    ("choose", "linked"),
    [
        (Choose.FIRST, "829914000000600100"),
        (Choose.OWNER, "829914000000600101"),
        (Choose.ASK, None),
    ],
)
async def test_of_several_with_the_number_it_is_the_one_that_the_connection_chooses(
    journal: Journal, crm: SandboxCrm, choose: Choose, linked: str | None
) -> None:
    """102, who is Ben's, answers."""
    put_twins(crm)
    await by(journal, {"choose": choose})
    async with journal.writing():
        await hear(journal, f"0 in {TWINS}, 1 ring 102, 5 answer 102, 65 end")
        (entry,) = await done(journal)
    (call,) = calls(crm)
    assert entry.contact_id == linked
    assert (call.get("Who_Id") or {}).get("id") == linked


# -- what it says, and when -----------------------------------------------------------------------


@pytest.mark.parametrize("play", [True, False])
async def test_without_recordings_an_entry_has_no_address_of_one(
    journal: Journal, crm: SandboxCrm, *, play: bool
) -> None:
    await by(journal, play_recordings=play)
    async with journal.writing():
        await hear(journal, TWO_AGENTS)
        await journal.hear(RecordingReady(**BASE, recording="https://pbx.example/1.wav"), after=61)
        await done(journal)
    (call,) = calls(crm)
    assert ("https://" in call["Description"]) is play


async def test_an_entry_waits_for_what_comes_late(journal: Journal, crm: SandboxCrm) -> None:
    await by(journal, after="2m")
    async with journal.writing():
        await hear(journal, TWO_AGENTS)
        await journal.pass_time(timedelta(seconds=110), step=timedelta(seconds=10))
        assert calls(crm) == []
        await journal.hear(CallSummarised(**BASE, summary="wants a quote"), after=100)
        (entry,) = await done(journal)
    (call,) = calls(crm)
    assert call["Description"].endswith("wants a quote")
    assert (entry.updates, len(crm_writes(crm))) == (0, 1)


async def test_collected_entries_go_together_by_the_clock(
    journal: Journal, crm: SandboxCrm
) -> None:
    await by(journal, upload={"every": "10m", "at_most": 3})
    await journal.clock.advance(SECOND)
    await hear(journal, *[TWO_AGENTS] * 5)
    dues = {(await journal.entry(f"c{number}")).due_at for number in range(1, 6)}
    assert {f"{due:%H:%M:%S}" for due in dues if due} == {"12:10:00"}
    async with journal.writing():
        await journal.pass_time(timedelta(minutes=9, seconds=40), step=timedelta(seconds=10))
        sent_before = len(calls(crm))
        for number in range(1, 6):
            await done(journal, f"c{number}")
    assert (sent_before, len(calls(crm))) == (0, 5)
    assert sorted(map(len, crm_writes(crm))) == [2, 3]


def crm_writes(crm: SandboxCrm) -> list[list[dict[str, Any]]]:
    """The calls of each request that added some."""
    return [json.loads(asked.body)["data"] for asked in crm.asked if asked.method == "POST"]


# -- shown in an entry ----------------------------------------------------------------------------

LATER: list[Event] = [
    RecordingReady(**BASE, recording="https://pbx.example/1.wav"),
    RecordingReady(**BASE, recording="https://pbx.example/2.wav"),
    CallSummarised(**BASE, summary="wants a quote"),
    CallSummarised(**BASE, sentiment="0.2"),
    known(),
    known(connection="another"),
    ContactUnknown(call_id="c1", number="447700900123"),
    *(seen.body for seen in seen_in("0 queue support, 0 hold 101, 0 answer 102, 0 blind 101 102")),
    *(seen.body for seen in seen_in("0 in 07700900123, 0 end busy, 0 over 102 busy, 0 ring 103")),
]


@settings(deadline=None, max_examples=60)
@given(
    more=st.lists(st.tuples(st.integers(0, 70), st.sampled_from(LATER)), min_size=1, max_size=4),
    per=st.sampled_from(list(EntryPer)),
    play=st.booleans(),
)
def test_what_is_shown_changes_when_what_an_entry_says_does_and_only_then(
    more: list[tuple[int, Event]], per: EntryPer, *, play: bool
) -> None:
    first, then = asyncio.run(said_before_and_after(more, per=per, play=play))
    assert (first.said == then.said) is (first.shown == then.shown)


async def said_before_and_after(
    more: list[tuple[int, Event]], *, per: EntryPer, play: bool
) -> tuple[Content, Content]:
    async with a_journal() as journal:
        server = SandboxCrm(None, clock=journal.clock)
        await journal.apply(f"http://127.0.0.1:{await server.start()}")
        try:
            await by(journal, per=per, play_recordings=play)
            await hear(journal, "0 in, 1 ring 101, 5 answer 101, 65 end")
            entry, contents = await journal.entry(), Contents(journal.tools())
            first = await contents.of(entry, *contents.where(entry))
            for number, (at, body) in enumerate(more):
                await tell(journal, Seen(f"more{number}", NOON + at * SECOND, body))
            return first, await contents.of(entry, *contents.where(entry))
        finally:
            await server.stop()
