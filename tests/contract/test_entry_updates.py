"""What becomes known of a call after its entry was sent changes that entry; there is never a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pymongo
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from services.journal.entries import MAX_UPDATES, EntryDocument
from shared.clock import ManualClock
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallQueued,
    Disposition,
    EndKnown,
    EntryState,
    Party,
    RecordingReady,
)
from shared.contracts.contacts import ContactResolved
from shared.contracts.envelope import Event
from shared.crm.registry import Templates
from shared.ids import new_id
from shared.sandbox.crm import Faults, SandboxCrm
from shared.sandbox.site import TENANT
from shared.site.pbx import UisPbx
from shared.storage.mongo import MongoStore
from shared.testing.builders import a_call, a_contact
from shared.testing.waiting import eventually
from tests.contract.journal_kit import SECOND, Journal, a_journal

JANE = "829914000000600001"
ACCOUNT = "829914000000489099"
CALL: dict[str, Any] = {"call_id": "c1", "pbx": "sandbox"}
RECORDING = RecordingReady(**CALL, recording="https://pbx.example/1.wav")
ENDED = CallEnded(**CALL, disposition=Disposition.ANSWERED, known=EndKnown.SILENCE)
#: The PBX's own record of the call, which knows better when it ended.
REPORTED = CallEnded(
    **CALL,
    disposition=Disposition.ANSWERED,
    talk_time=timedelta(seconds=95),
    known=EndKnown.REPORT,
)
ANSWERED = CallAnswered(**CALL, leg_id="1", callee=Party(extension="101"))


def known(contact_id: str = JANE, *, chosen_by: str | None = None, **card: Any) -> ContactResolved:
    """So nobody has to be asked who the caller is."""
    contact = a_contact(contact_id=contact_id, **card)
    return ContactResolved(
        call_id="c1", number="447700900123", contact=contact, chosen_by=chosen_by
    )


@asynccontextmanager
async def with_crm(journal: Journal, *, settle_s: float = 0) -> AsyncIterator[SandboxCrm]:
    crm = SandboxCrm(None, clock=journal.clock)
    await journal.apply(f"http://127.0.0.1:{await crm.start()}", settle_s=settle_s)
    try:
        yield crm
    finally:
        await crm.stop()


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def journal(request: pytest.FixtureRequest) -> AsyncIterator[Journal]:
    clock = ManualClock()
    with ExitStack() as stack:
        store = None
        if request.param == "mongo":
            url, database = request.getfixturevalue("mongo_url"), f"test-{new_id().hex[:10]}"
            store = MongoStore(SecretStr(url), database=database, clock=clock)
            client = stack.enter_context(pymongo.MongoClient[dict[str, object]](url))
            stack.callback(client.drop_database, database)
        async with a_journal(store=store, clock=clock) as found:
            yield found
        if store is not None:
            await store.close()


@pytest.fixture
async def crm(journal: Journal) -> AsyncIterator[SandboxCrm]:
    async with with_crm(journal) as found:
        yield found


def changes(crm: SandboxCrm) -> list[str]:
    return [asked.body for asked in crm.asked if asked.method == "PUT"]


async def sent(journal: Journal, *more: Event) -> EntryDocument:
    """An answered call of Jane's, whose end nobody told; its entry is in the CRM."""
    await journal.hear(a_call(), known(), *more)
    await journal.hear(ANSWERED, after=5)
    await journal.hear(ENDED, after=65)
    await journal.until(EntryState.SENT)
    return await journal.until_done()


async def test_a_recording_that_comes_late_is_in_the_same_entry(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        first = await sent(journal)
        assert "recording" not in crm.records("Calls")[0]["Description"]
        await journal.hear(RECORDING, after=90)
        entry = await journal.until_done()
    (call,) = crm.records("Calls")
    assert call["Description"].endswith("recording https://pbx.example/1.wav")
    assert (entry.state, entry.updates, entry.reason) == (EntryState.UPDATED, 1, None)
    assert entry.entry_id == first.entry_id == call["id"]
    assert entry.record().updates == 1


async def test_a_better_known_end_and_a_chosen_contact_change_it_too(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await sent(journal)
        (call,) = crm.records("Calls")
        assert (call["Call_Duration"], call["Who_Id"]) == ("01:00", {"id": JANE})
        await journal.hear(REPORTED, after=100)
        await journal.until_done()
        chosen = known(ACCOUNT, module="Accounts", chosen_by="anna", display_name="testrouting1")
        await journal.hear(chosen, after=120)
        entry = await journal.until_done()
    (call,) = crm.records("Calls")
    assert call["Call_Duration"] == "01:35"
    assert (call["What_Id"], call["$se_module"]) == ({"id": ACCOUNT}, "Accounts")
    assert (entry.updates, entry.contact_id) == (2, ACCOUNT)


async def test_what_an_entry_does_not_show_changes_nothing(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await sent(journal, RECORDING)
        before = await journal.entry()
        await journal.hear(RECORDING, after=91)
        await journal.hear(known(), after=92)
        await journal.hear(RecordingReady(**CALL, recording="second.wav"), after=93)
        assert await journal.entry() == before
        # A person chose whom the journal had found: the entry is looked at, and is right.
        await journal.hear(known(chosen_by="anna"), after=94)
        assert (await journal.entry()).update_due
        assert (await journal.until_done()).updates == 0
    assert not changes(crm)


async def test_it_waits_for_more_and_says_all_at_once(journal: Journal) -> None:
    async with with_crm(journal, settle_s=30) as crm, journal.writing():
        await sent(journal)
        await journal.hear(RECORDING, after=90)
        await journal.pass_time(20 * SECOND)
        await journal.hear(REPORTED, after=100)
        await journal.pass_time(5 * SECOND)
        assert not changes(crm)
        await journal.until_done()
        (call,) = crm.records("Calls")
    assert len(changes(crm)) == 1
    assert "recording" in call["Description"]
    assert call["Call_Duration"] == "01:35"


async def test_the_mesh_is_told_of_the_entry_and_of_its_change(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await sent(journal)
        await journal.hear(RECORDING, after=90)
        await journal.until_done()
        await eventually(lambda: len(journal.told) == 2)
        assert [message.body.updated for message in journal.told] == [False, True]

        async def is_written_down() -> bool:
            record = await journal.calls.get(TENANT, "c1")
            return [entry.updates for entry in record.entries] == [1]

        await eventually(is_written_down)
        # What is told of a change is itself no news.
        await journal.until_done()
    assert len(changes(crm)) == 1


async def test_a_replica_that_died_after_the_crm_took_the_change_is_followed_by_another(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await sent(journal)
    await journal.hear(RECORDING, after=90)
    wanting = await journal.entry()
    async with journal.writing():
        await journal.until_done()
    assert len(changes(crm)) == 1
    # As a replica leaves it that was killed before it wrote anything down; its lease has passed.
    left = wanting.model_copy(update={"version": (await journal.entry()).version})
    await journal.entries.move(left, update_tries=1, told=True, due_at=journal.clock.now())
    async with journal.writing():
        entry = await journal.until_done()
    assert (len(changes(crm)), len(set(changes(crm)))) == (2, 1)
    assert (len(crm.records("Calls")), entry.updates) == (1, 1)


async def test_a_change_whose_answer_was_lost_is_made_again(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await sent(journal)
        crm.faults = Faults(lose_answers=1)
        await journal.hear(RECORDING, after=90)
        entry = await journal.until_done()
    assert (len(changes(crm)), len(crm.records("Calls"))) == (2, 1)
    assert (entry.updates, entry.reason) == (1, None)


async def test_a_crm_that_is_away_gets_the_change_later(journal: Journal, crm: SandboxCrm) -> None:
    async with journal.writing():
        await sent(journal)
        crm.faults = Faults(fail_next=5, fail_status=503)
        await journal.hear(RECORDING, after=90)

        async def waits() -> bool:
            return "503" in ((await journal.entry()).reason or "")

        await journal.until_true(waits)
        assert (await journal.entry()).state is EntryState.SENT
        entry = await journal.until_done()
    assert "recording" in crm.records("Calls")[0]["Description"]
    assert (entry.reason, entry.updates) == (None, 1)


async def test_one_that_is_away_for_a_week_is_given_up_and_the_entry_stays(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await sent(journal)
        crm.faults = Faults(fail_next=1_000_000, fail_status=503)
        await journal.hear(RECORDING, after=90)

        async def is_given_up() -> bool:
            return (await journal.entry()).due_at is None

        await journal.until_true(is_given_up, step=timedelta(minutes=30))
        entry = await journal.entry()
    assert (entry.state, entry.refusals) == (EntryState.SENT, 1)
    assert "503" in (entry.reason or "")


async def test_a_refused_change_leaves_the_entry_and_says_why(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await sent(journal)
        # With its links, and without them.
        crm.faults = Faults(fail_next=2, fail_status=400)
        await journal.hear(RECORDING, after=90)
        entry = await journal.until_done()
        assert entry.state is EntryState.SENT
        assert "400 INTERNAL_ERROR" in (entry.reason or "")
        assert "recording" not in crm.records("Calls")[0]["Description"]
        # What comes after it is a new reason to ask.
        await journal.hear(REPORTED, after=100)
        entry = await journal.until_done()
    (call,) = crm.records("Calls")
    assert "recording" in call["Description"]
    assert (entry.reason, entry.updates, entry.refusals) == (None, 1, 1)
    assert journal.metrics.value("callmesh_journal_entries_total", "update_refused") == 1


async def test_a_link_that_the_crm_refuses_costs_the_link_alone(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await sent(journal)
        await journal.hear(RECORDING, known("829914000000999999", chosen_by="anna"), after=90)
        await journal.until_done()
    (call,) = crm.records("Calls")
    assert "recording" in call["Description"]
    assert call["Who_Id"] == {"id": JANE}


async def test_an_entry_that_somebody_deleted_stays_deleted(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await sent(journal)
        crm.faults = Faults(fail_next=1, fail_status=404)
        await journal.hear(RECORDING, after=90)
        entry = await journal.until_done()
        assert (entry.state, entry.gone) == (EntryState.SENT, True)
        await journal.hear(REPORTED, after=100)
        await journal.pass_time(10 * SECOND)
    assert len(changes(crm)) == 1


async def test_two_replicas_make_a_change_once(journal: Journal, crm: SandboxCrm) -> None:
    async with journal.writing(), journal.writing():
        await sent(journal)
        for late in (RECORDING, REPORTED):
            await journal.hear(late, after=90)
            await journal.until_done()
    assert (len(changes(crm)), len(crm.records("Calls"))) == (2, 1)


async def test_what_comes_while_the_entry_is_on_its_way_is_not_lost(
    journal: Journal, crm: SandboxCrm
) -> None:
    """The first answer is lost, so what was sent is looked for as it was; then it is changed."""
    crm.faults = Faults(lose_answers=1)
    await journal.hear(a_call(), known())
    await journal.hear(ENDED, after=65)
    async with journal.writing():

        async def is_written() -> bool:
            return bool(crm.records("Calls"))

        await journal.until_true(is_written)
        await journal.hear(RECORDING, after=90)
        await journal.until(EntryState.SENT)
        entry = await journal.until_done()
    (call,) = crm.records("Calls")
    assert "recording" in call["Description"]
    assert (entry.found, entry.updates) == (True, 1)


async def test_what_comes_while_a_change_is_on_its_way_is_not_lost(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await sent(journal)
        crm.faults = Faults(latency_ms=3000)
        await journal.hear(RECORDING, after=90)

        async def is_asked() -> bool:
            return bool(changes(crm))

        await journal.until_true(is_asked, step=timedelta(milliseconds=50))
        await journal.hear(REPORTED, after=100)
        crm.faults = Faults()
        entry = await journal.until_done()
    assert crm.records("Calls")[0]["Call_Duration"] == "01:35"
    assert entry.updates == 2


async def test_a_pbx_that_never_stops_does_not_have_the_entry_written_for_ever(
    journal: Journal, crm: SandboxCrm
) -> None:
    async with journal.writing():
        await sent(journal)
        for number in range(MAX_UPDATES + 3):
            await journal.hear(known(chosen_by=f"key-{number}"), after=90 + number)
            card = ("Contacts", JANE) if number % 2 else ("Accounts", ACCOUNT)
            chosen = known(card[1], module=card[0], chosen_by="anna", display_name=str(number))
            await journal.hear(chosen, after=90.5 + number)
            await journal.until_done()
    assert (await journal.entry()).updates == MAX_UPDATES
    assert len(changes(crm)) == MAX_UPDATES


def templates_without_changes(folder: Path) -> Templates:
    file = Path(__file__).parents[2] / "shared" / "crm" / "templates" / "zoho.yaml"
    template = yaml.safe_load(file.read_text())
    del template["journal"]["update"]
    (folder / "zoho.yaml").write_text(yaml.safe_dump(template))
    return Templates(folder)


@pytest.mark.parametrize("can_change", [True, False])
async def test_what_a_report_will_tell_is_waited_for_where_the_entry_cannot_be_changed(
    tmp_path: Path,
    can_change: bool,
) -> None:
    templates = None if can_change else templates_without_changes(tmp_path)
    uis = UisPbx(kind="uis", name="sandbox", access_token="sealed:x", virtual_number="74993720692")
    async with a_journal(templates=templates) as journal, with_crm(journal) as crm:
        await journal.change_site(pbx=(uis,))
        await journal.hear(a_call(), known(), ANSWERED)
        await journal.hear(ENDED, after=65)
        ends_at = journal.clock.now()
        entry = await journal.entry()
        assert entry.due_at is not None
        assert entry.due_at - ends_at == (timedelta(0) if can_change else UisPbx.tells_late)
        await journal.hear(RECORDING, after=90)
        assert (await journal.entry()).due_at == entry.due_at
        async with journal.writing():
            await journal.until_done()
        (call,) = crm.records("Calls")
        assert call["Description"].endswith("recording https://pbx.example/1.wav")
        assert not changes(crm)


async def test_a_template_that_cannot_change_entries_is_left_in_peace(tmp_path: Path) -> None:
    templates = templates_without_changes(tmp_path)
    async with a_journal(templates=templates) as journal, with_crm(journal) as crm:
        async with journal.writing():
            await sent(journal)
            await journal.hear(RECORDING, after=90)
            entry = await journal.until_done()
        record = await journal.calls.get(TENANT, "c1")
        assert not changes(crm)
    assert (entry.state, record.recordings) == (EntryState.SENT, (RECORDING.recording,))
    assert "cannot change an entry" in (entry.reason or "")


LATE: tuple[tuple[Event, float], ...] = (
    (ANSWERED, 5),
    (CallQueued(**CALL, queue="sales"), 1),
    (CallHeld(**CALL, leg_id="1"), 20),
    (RECORDING, 90),
    (REPORTED, 65),
    (known(ACCOUNT, module="Accounts", chosen_by="anna", display_name="testrouting1"), 80),
)


async def _entry_after(
    before: list[int], after: list[int], pauses: list[bool]
) -> list[dict[str, Any]]:
    """The CRM's calls when *before* came before the entry was sent and *after* behind it."""
    async with a_journal() as journal, with_crm(journal) as crm:
        await journal.hear(a_call(), known())
        for place in before:
            await journal.hear(LATE[place][0], after=LATE[place][1])
        await journal.hear(ENDED, after=60)
        async with journal.writing():
            await journal.until(EntryState.SENT)
            for place, pause in zip(after, pauses, strict=True):
                await journal.hear(LATE[place][0], after=LATE[place][1])
                if pause:
                    await journal.until_done()
            await journal.until_done()
        return crm.records("Calls")


#: What Zoho lets a change say.
SAID = ("Subject", "Call_Start_Time", "Call_Duration", "Description", "What_Id", "$se_module")


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_however_late_and_in_whatever_order_the_entry_says_the_same(data: st.DataObject) -> None:
    order = data.draw(st.permutations(range(len(LATE))))
    cut = data.draw(st.integers(0, len(LATE)))
    doubled = [*order[cut:], *data.draw(st.lists(st.sampled_from(range(len(LATE))), max_size=3))]
    pauses = data.draw(st.lists(st.booleans(), min_size=len(doubled), max_size=len(doubled)))
    (wanted,) = asyncio.run(_entry_after(list(range(len(LATE))), [], []))
    (found,) = asyncio.run(_entry_after(list(order[:cut]), doubled, pauses))
    assert {name: found.get(name) for name in SAID} == {name: wanted.get(name) for name in SAID}
