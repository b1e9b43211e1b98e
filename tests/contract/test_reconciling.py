"""Calls compared with their entries: what is found, and that its repair makes one entry, never two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.journal.reconciling import Reconciling
from services.journal.store import ENTRIES
from shared.contracts.calls import CallEnded, CallSummarised, EntryState
from shared.contracts.contacts import ContactResolved
from shared.contracts.journal import (
    Finding,
    FindingKind,
    ReconcileCalls,
    Reconciled,
)
from shared.crm import templates
from shared.crm.registry import Templates
from shared.errors import ContractError, NotFound
from shared.sandbox.crm import Faults, SandboxCrm
from shared.sandbox.site import CRM, TENANT
from shared.site.journal import JournalPolicy
from shared.testing.builders import NOON, a_call, a_contact
from tests.contract.journal_kit import HOUR, SECOND, Journal, a_journal, a_journal_on

DAY = timedelta(days=1)
MINUTE = timedelta(minutes=1)
AWAY = Faults(fail_next=1_000_000, fail_status=503)


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def journal(request: pytest.FixtureRequest) -> AsyncIterator[Journal]:
    url = lambda: str(request.getfixturevalue("mongo_url"))  # noqa: E731  asked for only by one
    async with a_journal_on(request.param, url) as found:
        yield found


@asynccontextmanager
async def with_crm(journal: Journal) -> AsyncIterator[SandboxCrm]:
    crm = SandboxCrm(None, clock=journal.clock)
    journal.url = f"http://127.0.0.1:{await crm.start()}"
    await journal.apply(journal.url)
    try:
        yield crm
    finally:
        await crm.stop()


@pytest.fixture
async def crm(journal: Journal) -> AsyncIterator[SandboxCrm]:
    async with with_crm(journal) as found:
        yield found


def a_span(**more: Any) -> ReconcileCalls:
    return ReconcileCalls(**{"since": NOON - HOUR, "until": NOON + HOUR, **more})


async def reconciled(journal: Journal, **asked: Any) -> Reconciled:
    """In one step."""
    found = await journal.reconciling.step(TENANT, a_span(**asked))
    assert found.next_cursor is None
    return found


def kinds(found: Reconciled) -> list[tuple[FindingKind, bool]]:
    return [(finding.kind, finding.repaired) for finding in found.findings]


async def an_ended_call(journal: Journal, call: str = "c1", *, after: float = 0) -> None:
    """Of a contact that is known, so that nobody is asked who it is."""
    known = ContactResolved(call_id=call, number="447700900123", contact=a_contact_there())
    ended = CallEnded(call_id=call, pbx="sandbox")
    await journal.hear(a_call(call_id=call), known, ended, after=after)


def a_contact_there() -> Any:
    return a_contact(contact_id="829914000000600001")


async def forget_entry(journal: Journal, call: str = "c1") -> None:
    """As a store lost it, or a journal of before made none."""
    await journal.store.collection(ENTRIES).delete((await journal.entry(call)).key)


async def sent(journal: Journal, *calls: str) -> None:
    for call in calls or ("c1",):
        await an_ended_call(journal, call)
    async with journal.writing():
        for call in calls or ("c1",):
            await journal.until_done(call)
    await journal.clock.advance(MINUTE)


async def sent_after(journal: Journal, call: str = "c1") -> None:
    async with journal.writing():
        await journal.until(EntryState.SENT, call=call)
        await journal.until_done(call)
    await journal.clock.advance(MINUTE)


# -- each finding, and its repair ------------------------------------------------------------------


async def test_calls_whose_entries_are_there_are_right(journal: Journal, crm: SandboxCrm) -> None:
    await sent(journal, "c1", "c2")

    found = await reconciled(journal, ask_crm=True, repair=True)

    assert (found.calls, found.entries, found.findings) == (2, 2, ())
    assert not found.not_asked
    assert len(crm.records("Calls")) == 2


async def test_a_missing_entry_is_found_and_ordered(journal: Journal, crm: SandboxCrm) -> None:
    await an_ended_call(journal)
    await forget_entry(journal)

    found = await reconciled(journal)
    assert found.findings == (
        Finding(kind=FindingKind.MISSING, call_id="c1", connection=CRM, started_at=NOON),
    )
    assert not await journal.entries.of_call("c1")
    for _ in range(2):
        found = await reconciled(journal, repair=True)
    assert not found.findings
    await sent_after(journal)
    assert len(crm.records("Calls")) == 1


async def test_a_policy_that_wants_calls_again_has_those_of_before_ordered(
    journal: Journal, crm: SandboxCrm
) -> None:
    site = journal.site.current[TENANT]
    off = site.crm[0].model_copy(update={"journal": JournalPolicy(enabled=False)})
    await journal.change_site(crm=(off,))
    await an_ended_call(journal)
    assert not (await reconciled(journal)).findings
    await journal.clock.advance(SECOND)
    await journal.change_site(crm=site.crm)

    assert kinds(await reconciled(journal, repair=True)) == [(FindingKind.MISSING, True)]
    await sent_after(journal)
    assert len(crm.records("Calls")) == 1


async def test_a_dead_entry_is_stuck_and_replayed(journal: Journal, crm: SandboxCrm) -> None:
    await an_ended_call(journal)
    crm.faults = AWAY
    async with journal.writing():
        await journal.until(EntryState.DEAD, step=timedelta(minutes=30))
    crm.faults = Faults()

    found = await reconciled(journal)
    assert kinds(found) == [(FindingKind.STUCK, False)]
    assert "503" in (found.findings[0].reason or "")
    assert kinds(await reconciled(journal, repair=True)) == [(FindingKind.STUCK, True)]
    # Its time began anew, but it is an hour late all the same.
    assert kinds(await reconciled(journal, repair=True)) == [(FindingKind.WAITING, False)]
    await sent_after(journal)
    assert len(crm.records("Calls")) == 1
    assert not (await reconciled(journal, ask_crm=True)).findings


async def test_one_that_waits_is_late_after_an_hour(journal: Journal, crm: SandboxCrm) -> None:
    await an_ended_call(journal)
    crm.faults = AWAY
    async with journal.writing():
        await journal.until(EntryState.MAYBE_SENT)
    assert not (await reconciled(journal)).findings
    await journal.clock.advance(HOUR + MINUTE)

    async def waits_longer() -> bool:
        entry = await journal.entry()
        soon = journal.clock.now() + timedelta(seconds=10)
        return entry.state is EntryState.MAYBE_SENT and (entry.due_at or soon) > soon

    async with journal.writing():
        await journal.until_true(waits_longer)
    crm.faults = Faults()
    before = await journal.entry()

    found = await reconciled(journal)
    assert kinds(found) == [(FindingKind.WAITING, False)]
    assert "503" in (found.findings[0].reason or "")
    assert kinds(await reconciled(journal, repair=True)) == [(FindingKind.WAITING, True)]
    hastened = await journal.entry()
    assert hastened.due_at is not None
    assert before.due_at is not None
    assert hastened.due_at < before.due_at
    # Who repairs every night must not have it tried for ever.
    assert hastened.tried_since == before.tried_since
    await sent_after(journal)
    assert len(crm.records("Calls")) == 1


async def test_what_waits_for_a_person_is_no_repair_of_ours(
    journal: Journal, crm: SandboxCrm
) -> None:
    await an_ended_call(journal)
    crm.faults = Faults(grant_revoked=True)
    async with journal.writing():
        await journal.until(EntryState.RECONNECT)
    await journal.clock.advance(2 * HOUR)

    found = await reconciled(journal, repair=True)
    assert kinds(found) == [(FindingKind.WAITING, False)]
    assert "connect it again" in (found.findings[0].reason or "")


async def test_an_entry_that_the_crm_lost_is_sent_once_more(
    journal: Journal, crm: SandboxCrm
) -> None:
    await sent(journal, "c1", "c2")
    lost = await journal.entry()
    crm.remove("Calls", str(lost.entry_id))

    assert not (await reconciled(journal)).findings
    found = await reconciled(journal, ask_crm=True)
    assert kinds(found) == [(FindingKind.LOST, False)]
    assert str(lost.entry_id) in (found.findings[0].reason or "")
    assert kinds(await reconciled(journal, ask_crm=True, repair=True)) == [(FindingKind.LOST, True)]
    assert not (await reconciled(journal, ask_crm=True, repair=True)).findings
    await sent_after(journal)
    again = await journal.entry()
    assert again.entry_id in {record["id"] for record in crm.records("Calls")}
    assert len(crm.records("Calls")) == 2
    told = [one.body for one in journal.told if one.body.call_id == "c1"]
    assert [body.entry_id for body in told] == [lost.entry_id, again.entry_id]


async def test_one_that_its_search_shows_late_is_not_lost(
    journal: Journal, crm: SandboxCrm
) -> None:
    """Nothing is asked before its `settle`; and who takes it for lost still finds it."""
    crm.faults = Faults(search_lag_ms=3_600_000)
    await an_ended_call(journal)
    async with journal.writing():
        entry = await journal.until_done()
    entry = await journal.entries.move(entry, sent_at=journal.clock.now())
    asked = len(crm.asked)
    assert not (await reconciled(journal, ask_crm=True)).findings
    assert len(crm.asked) == asked
    await journal.clock.advance(5 * SECOND)
    assert kinds(await reconciled(journal, ask_crm=True, repair=True)) == [(FindingKind.LOST, True)]
    crm.faults = Faults()  # its search has caught up
    async with journal.writing():
        found = await journal.until_done()
    assert found.found
    assert found.entry_id == entry.entry_id
    assert len(crm.records("Calls")) == 1


async def test_one_that_says_too_little_is_changed(journal: Journal, crm: SandboxCrm) -> None:
    await sent(journal)
    # As where the event came to the call, and its entry was not marked.
    entry = await journal.entry()
    await journal.hear(CallSummarised(call_id="c1", pbx="sandbox", summary="Wants an offer."))
    marked = await journal.entry()
    await journal.entries.move(marked, update_due=False, update_wanted_at=None, due_at=None)

    assert kinds(await reconciled(journal)) == [(FindingKind.OUTDATED, False)]
    for repaired in ([(FindingKind.OUTDATED, True)], []):
        assert kinds(await reconciled(journal, repair=True)) == repaired
    async with journal.writing():
        changed = await journal.until_done()
    assert (changed.entry_id, changed.updates) == (entry.entry_id, 1)
    (call,) = crm.records("Calls")
    assert "Wants an offer." in call["Description"]


async def test_one_that_somebody_deleted_stays_deleted(journal: Journal, crm: SandboxCrm) -> None:
    """It was to be changed, the CRM did not have it any more: who deleted it meant it."""
    await sent(journal)
    entry = await journal.entry()
    crm.remove("Calls", str(entry.entry_id))
    await journal.entries.move(entry, gone=True)

    assert not (await reconciled(journal, ask_crm=True, repair=True)).findings


# -- what is not compared --------------------------------------------------------------------------


async def test_calls_under_way_and_just_ended_are_left_alone(
    journal: Journal, crm: SandboxCrm
) -> None:
    now = journal.clock.now()
    just = (now - NOON).total_seconds() - 5
    await journal.hear(a_call(), after=just)
    await an_ended_call(journal, "c2", after=just)
    await forget_entry(journal, "c2")

    span: dict[str, Any] = {"since": now - HOUR, "until": now + HOUR}
    found = await reconciled(journal, **span)
    assert (found.calls, found.findings) == (2, ())
    await journal.clock.advance(MINUTE)
    found = await reconciled(journal, **span)
    assert [finding.call_id for finding in found.findings] == ["c2"]


async def test_another_tenant_has_its_own_calls(journal: Journal, crm: SandboxCrm) -> None:
    await an_ended_call(journal)
    await forget_entry(journal)
    with pytest.raises(NotFound):
        await journal.reconciling.step("globex", a_span())
    with pytest.raises(NotFound, match="hubspot"):
        await reconciled(journal, connection="hubspot")
    with pytest.raises(ContractError, match="until"):
        await reconciled(journal, until=NOON - DAY)
    assert kinds(await reconciled(journal, connection=CRM)) == [(FindingKind.MISSING, False)]


async def test_the_other_connection_is_left_alone(journal: Journal, crm: SandboxCrm) -> None:
    await journal.apply(journal.url, journal.url)
    await an_ended_call(journal)
    for entry in await journal.entries.of_call("c1"):
        await journal.store.collection(ENTRIES).delete(entry.key)

    found = await reconciled(journal, connection="zoho2", repair=True)
    assert [finding.connection for finding in found.findings] == ["zoho2"]
    assert [entry.connection for entry in await journal.entries.of_call("c1")] == ["zoho2"]
    found = await reconciled(journal)
    assert [finding.connection for finding in found.findings] == [CRM]


# -- CRMs that cannot be asked ---------------------------------------------------------------------


async def test_a_crm_that_is_away_is_asked_a_few_times_and_nothing_is_lost(
    journal: Journal, crm: SandboxCrm
) -> None:
    calls = [f"c{number:02}" for number in range(20)]
    await sent(journal, *calls)
    crm.faults = AWAY
    crm.asked.clear()

    found = await reconciled(journal, ask_crm=True, repair=True)

    assert not found.findings
    (not_asked,) = found.not_asked
    assert (not_asked.connection, not_asked.entries, not_asked.for_good) == (CRM, 20, False)
    assert "503" in not_asked.reason
    assert len(crm.asked) < 20
    crm.faults = Faults()
    await journal.clock.advance(5 * MINUTE)
    assert not (await reconciled(journal, ask_crm=True)).not_asked


async def test_a_crm_that_wants_a_pause_is_given_one(journal: Journal, crm: SandboxCrm) -> None:
    calls = [f"c{number:02}" for number in range(20)]
    await sent(journal, *calls)
    crm.remove("Calls", str((await journal.entry("c17")).entry_id))
    crm.faults = Faults(requests_per_minute=7)

    seen, lost, pauses, cursor = 0, [], 0, None
    while True:
        found = await journal.reconciling.step(TENANT, a_span(ask_crm=True, cursor=cursor))
        seen += found.calls
        lost += [finding.call_id for finding in found.findings]
        assert not found.not_asked
        cursor = found.next_cursor
        if cursor is None:
            break
        assert found.pause is not None
        pauses += 1
        assert pauses < 50
        await journal.clock.advance(found.pause + MINUTE)
    assert (seen, lost) == (20, ["c17"])
    assert pauses


async def test_a_crm_that_knows_repeats_is_not_asked(tmp_path: Path) -> None:
    """Its "not there" says nothing, and taken for an answer it would send all again."""
    zoho = yaml.safe_load((files(templates) / "zoho.yaml").read_text())
    del zoho["journal"]["find"]
    zoho["journal"]["idempotent"] = True
    (tmp_path / "zoho.yaml").write_text(yaml.safe_dump(zoho))
    async with a_journal(templates=Templates(tmp_path)) as journal, with_crm(journal) as crm:
        await sent(journal)
        crm.remove("Calls", str((await journal.entry()).entry_id))
        found = await reconciled(journal, ask_crm=True, repair=True)
        assert not found.findings
        (not_asked,) = found.not_asked
        assert (not_asked.connection, not_asked.entries, not_asked.for_good) == (CRM, 1, True)


# -- steps -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [timedelta(0), DAY])
async def test_steps_go_over_every_call_once(
    journal: Journal, crm: SandboxCrm, step: timedelta
) -> None:
    """Also where several began at the same moment on both sides of a page's border."""
    calls = [f"c{number:02}" for number in range(33)]
    for number, call in enumerate(calls):
        await an_ended_call(journal, call, after=number // 10)
        await forget_entry(journal, call)
    reconciling = Reconciling(
        journal.calls,
        journal.entries,
        journal.site,
        journal.connections(),
        journal.clock,
        step=step,
    )
    found: list[str] = []
    cursor, steps = None, 0
    while steps == 0 or cursor is not None:
        one = await reconciling.step(TENANT, a_span(limit=10, repair=True, cursor=cursor))
        found += [finding.call_id for finding in one.findings]
        cursor, steps = one.next_cursor, steps + 1
    assert found == calls
    assert steps == (4 if step else 5)
    for call in calls:
        assert (await journal.entry(call)).state is EntryState.DUE


async def test_the_span_is_that_of_the_calls_beginning(journal: Journal, crm: SandboxCrm) -> None:
    for number in range(3):
        await an_ended_call(journal, f"c{number}", after=60 * number)
        await forget_entry(journal, f"c{number}")

    def at(minutes: int) -> datetime:
        return NOON + minutes * MINUTE

    found = await reconciled(journal, since=at(1), until=at(2))
    assert [finding.call_id for finding in found.findings] == ["c1"]
