"""Journal entries on their way to a CRM that fails, hangs, forgets to answer; time is the test's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.journal.store import (
    MAX_REPEATS,
)
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    EntryState,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
)
from shared.sandbox.crm import Faults, SandboxCrm
from shared.sandbox.site import TENANT
from shared.testing.builders import a_call
from tests.contract.journal_kit import HOUR, SECOND, Journal, a_journal

AWAY = Faults(fail_next=1_000_000, fail_status=503)


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


def subjects(crm: SandboxCrm) -> list[Any]:
    return [record["Subject"] for record in crm.records("Calls")]


async def test_a_crm_that_is_away_for_two_days_gets_its_entry(
    journal: Journal, crm: SandboxCrm
) -> None:
    await journal.a_missed_call()
    crm.faults = AWAY
    async with journal.writing():
        started = journal.clock.now()
        while journal.clock.now() - started < 48 * HOUR:
            await journal.clock.advance(timedelta(minutes=16))
            await asyncio.sleep(0.002)  # noqa: TID251  requests need real time beside it
        waiting = await journal.entry()
        assert waiting.state is EntryState.FAILED
        assert "the CRM answered 503" in (waiting.reason or "")
        crm.faults = Faults()
        await journal.until(EntryState.SENT, step=timedelta(minutes=1))
    assert len(subjects(crm)) == 1


async def test_one_that_was_given_up_is_sent_when_it_is_told_to(
    journal: Journal, crm: SandboxCrm
) -> None:
    await journal.a_missed_call()
    crm.faults = AWAY
    async with journal.writing():
        await journal.until(EntryState.DEAD, step=timedelta(minutes=30))
        crm.faults = Faults()
        dead = await journal.until_done()
        assert "the CRM answered 503" in (dead.reason or "")
        await journal.entries.replay(dead, settle=SECOND)
        await journal.until(EntryState.SENT)
    assert len(subjects(crm)) == 1


async def test_what_a_dead_replica_sent_is_not_looked_for_before_it_can_be_found(
    journal: Journal, crm: SandboxCrm
) -> None:
    """The CRM took the entry, its search shows it four seconds later, and the replica died."""
    crm.faults = Faults(search_lag_ms=4000, lose_answers=1)
    await journal.a_missed_call()
    async with journal.writing():
        while not (await journal.entry()).maybe_sent:
            await journal.clock.advance(timedelta(milliseconds=10))
            await asyncio.sleep(0.002)  # noqa: TID251  requests need real time beside it
    # As a replica leaves it that was killed before it wrote anything down; its lease has passed.
    left = await journal.entry()
    await journal.entries.move(
        left, state=EntryState.SENDING, maybe_sent=False, due_at=journal.clock.now()
    )
    assert len(subjects(crm)) == 1
    async with journal.writing():
        await journal.until(EntryState.SENT)
    assert len(subjects(crm)) == 1
    assert (await journal.entry()).found


async def test_a_late_fact_does_not_hide_what_was_sent_already(
    journal: Journal, crm: SandboxCrm
) -> None:
    await journal.a_missed_call()
    crm.faults = Faults(lose_answers=1)
    async with journal.writing():
        while not subjects(crm):
            await journal.clock.advance(SECOND)
            await asyncio.sleep(0.002)  # noqa: TID251  requests need real time beside it
        # Now it is an answered call, whose entry would have another subject.
        await journal.hear(
            CallAnswered(call_id="c1", pbx="sandbox", leg_id="1", callee=Party(extension="101")),
            after=-1,
        )
        await journal.until(EntryState.SENT)
    assert len(subjects(crm)) == 1


async def test_a_link_that_the_crm_refuses_costs_the_link_not_the_entry(
    journal: Journal, crm: SandboxCrm
) -> None:
    """The agent's user is no longer in the CRM."""
    await journal.apply(journal.url, owner="829914000000121099")
    ringing = CallRinging(
        call_id="c1",
        pbx="sandbox",
        leg_id="1",
        callee=Party(extension="101"),
        caller=Party(number="447700900123"),
    )
    await journal.hear(a_call(), ringing, CallEnded(call_id="c1", pbx="sandbox"))
    async with journal.writing():
        await journal.until(EntryState.SENT)
    (entry,) = crm.records("Calls")
    assert "Owner" not in entry


async def test_a_lost_grant_holds_the_entries_until_it_is_mended(
    journal: Journal, crm: SandboxCrm
) -> None:
    """It takes a person, hours later; meanwhile the CRM is left in peace."""
    crm.faults = Faults(grant_revoked=True)
    for number in range(50):
        await journal.a_missed_call(f"c{number}")
    async with journal.writing():
        started = journal.clock.now()
        while journal.clock.now() - started < 4 * HOUR:
            await journal.clock.advance(timedelta(minutes=1))
            await asyncio.sleep(0.002)  # noqa: TID251  requests need real time beside it
        assert "connect it again" in str((await journal.entry("c7")).reason)
        assert crm.asked_for_tokens < 40
        crm.faults = Faults()
        for number in range(50):
            await journal.until(EntryState.SENT, step=timedelta(minutes=1), call=f"c{number}")
    assert len(subjects(crm)) == 50


async def test_a_crm_that_hangs_holds_up_no_other(journal: Journal, crm: SandboxCrm) -> None:
    other = SandboxCrm(None, clock=journal.clock)
    await journal.apply(journal.url, f"http://127.0.0.1:{await other.start()}")
    crm.faults = Faults(latency_ms=9000)
    for number in range(20):
        await journal.a_missed_call(f"c{number}")
    async with journal.writing():
        async with asyncio.timeout(300):
            while len(subjects(other)) < 20:
                await journal.clock.advance(timedelta(milliseconds=50))
                await asyncio.sleep(0.002)  # noqa: TID251  requests need real time beside it
        assert not subjects(crm)
        crm.faults = Faults()
        await journal.until(EntryState.SENT)
    await other.stop()


async def test_a_group_that_rings_loses_no_event(journal: Journal, crm: SandboxCrm) -> None:
    phones = [str(200 + number) for number in range(60)]
    events = [
        CallRinging(
            call_id="c1",
            pbx="sandbox",
            leg_id=phone,
            callee=Party(extension=phone),
            caller=Party(number="447700900123"),
        )
        for phone in phones
    ]
    await asyncio.gather(*(journal.hear(event) for event in events))
    record = await journal.calls.get(TENANT, "c1")
    assert {leg.callee.extension for leg in record.legs} == set(phones)


async def test_a_queue_that_rings_for_minutes_still_learns_who_answered(
    journal: Journal, crm: SandboxCrm
) -> None:
    base: dict[str, Any] = {"call_id": "c1", "pbx": "sandbox"}
    await journal.hear(a_call())
    for number in range(MAX_REPEATS):
        leg = LegEnded(
            **base,
            leg_id=str(number),
            callee=Party(extension=f"{number % 20}"),
            outcome=LegOutcome.NO_ANSWER,
        )
        await journal.hear(leg, after=number)
    await journal.hear(
        CallAnswered(**base, leg_id="last", callee=Party(extension="101")),
        RecordingReady(**base, recording="a.wav"),
        CallEnded(**base),
        after=900,
    )
    record = await journal.calls.get(TENANT, "c1")
    assert [leg.callee.extension for leg in record.legs if leg.answered_at] == ["101"]
    assert (record.recordings, record.ended_at is not None) == (("a.wav",), True)
