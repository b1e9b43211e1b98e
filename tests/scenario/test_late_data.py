"""What a PBX tells of a call when its entry is in the CRM already ends up in that entry."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from shared.clock import SystemClock
from shared.contracts.calls import CallRecord, EntryState
from shared.ids import call_id
from shared.moments import to_text
from shared.sandbox.site import TENANT
from shared.testing.waiting import eventually
from tests.scenario.conftest import WholeMesh

PBX = "door"
CALL = "pbx-0001"
IDENTITY = call_id(TENANT, PBX, CALL)
LEAD = "829914000000506009"
RECORDING = "https://pbx.example/rec/0001.wav"


#: A PBX's clock that is days off is not believed.
AN_HOUR_AGO = SystemClock().now() - timedelta(hours=1)


def at(second: int) -> str:
    return to_text(AN_HOUR_AGO + timedelta(seconds=second))


async def say(mesh: WholeMesh, event: str, second: int, **more: Any) -> None:
    body = {"event": event, "call": CALL, "at": at(second), **more}
    status, answer = await mesh.post(f"/v1/hooks/{PBX}", body)
    assert status == 202, answer


async def with_entry(mesh: WholeMesh, *, updates: int) -> CallRecord:
    """The call, once its entry was sent and changed so often."""
    found: list[CallRecord] = []

    async def is_there() -> bool:
        record = await mesh.api.call(IDENTITY)
        found[:] = [record] if record is not None else []
        return bool(record) and [(e.state, e.updates) for e in found[0].entries] == [
            (EntryState.UPDATED if updates else EntryState.SENT, updates)
        ]

    await eventually(is_there)
    return found[0]


async def a_call(mesh: WholeMesh) -> CallRecord:
    """Jane called and Anna answered; the PBX has told all but the recording."""
    await say(mesh, "started", 0, direction="inbound", caller="+447700900123", dialled="1")
    await say(mesh, "ringing", 1, extension="101", caller="+447700900123")
    await say(mesh, "answered", 3, extension="101")

    async def is_known() -> bool:
        record = await mesh.api.call(IDENTITY)
        if record is None or not record.legs or record.legs[0].rang_at is None:
            return False
        return bool(record.answered_at and record.candidates)

    await eventually(is_known)
    await say(mesh, "ended", 33, disposition="answered", hangup_by="caller")
    return await with_entry(mesh, updates=0)


async def test_a_recording_that_comes_late_is_in_the_entry_that_was_sent(mesh: WholeMesh) -> None:
    before = await a_call(mesh)
    (first,) = mesh.crm.records("Calls")
    assert RECORDING not in first["Description"]

    await say(mesh, "recording", 40, recording=RECORDING)
    after = await with_entry(mesh, updates=1)

    (entry,) = mesh.crm.records("Calls")
    assert entry["Description"] == f"{first['Description']} - recording {RECORDING}"
    assert entry["id"] == first["id"] == after.entries[0].entry_id == before.entries[0].entry_id
    assert after.recordings == (RECORDING,)


async def test_the_same_late_event_again_changes_nothing(mesh: WholeMesh) -> None:
    await a_call(mesh)
    for _ in range(3):
        await say(mesh, "recording", 40, recording=RECORDING)
    await with_entry(mesh, updates=1)
    # A later change, which says that those before it were looked at.
    await say(mesh, "answered", 8, extension="102")
    await with_entry(mesh, updates=2)
    assert len([one for one in mesh.crm.asked if one.method == "PUT"]) == 2
    assert len(mesh.crm.records("Calls")) == 1


async def test_who_the_caller_is_may_be_chosen_later(mesh: WholeMesh) -> None:
    number = {"Last_Name": "Jones", "Full_Name": "Jane Jones", "Phone": "+447700900123"}
    mesh.crm.put("Leads", {"id": LEAD, **number})
    call = await a_call(mesh)
    assert {card.module for card in call.candidates} == {"Contacts", "Leads"}
    body = {"connection": "zoho", "module": "Leads", "contact_id": LEAD}
    status, answer = await mesh.post(f"/v1/calls/{IDENTITY}/contact", body)
    assert status == 202, answer
    await with_entry(mesh, updates=1)
    (entry,) = mesh.crm.records("Calls")
    assert (entry["What_Id"], entry["$se_module"]) == ({"id": LEAD}, "Leads")
