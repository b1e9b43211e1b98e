"""What the CRM does wrong ends in one entry all the same, or in a failure that says why."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.clock import SystemClock
from shared.contracts.calls import CallRecord, EntryState
from shared.ids import call_id
from shared.runtime.platform import Choice
from shared.sandbox.crm import Faults, SandboxCrm
from shared.sandbox.recording import Cast
from shared.sandbox.site import PBX, TENANT
from shared.testing.waiting import eventually
from tests.scenario.conftest import WholeMesh, opened

CAST = Cast(started_at=SystemClock().now().replace(microsecond=0), serial=1)
IDENTITY = call_id(TENANT, PBX, CAST.linkedid)
THERE = [state for state in EntryState if state.is_there]


@pytest.fixture
async def mesh(
    choice: Choice, crm: SandboxCrm, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[WholeMesh]:
    monkeypatch.setenv("CALLMESH_JOURNAL_RETRY_FIRST", "100ms")
    monkeypatch.setenv("CALLMESH_JOURNAL_WRITE_WITHIN", "1s")
    async with opened(choice, crm) as found:
        # Known already: the faults below are the journal's alone.
        await found.get("/v1/contacts", number=CAST.caller)
        yield found
        assert found.state.failed is None


async def entry_state(mesh: WholeMesh, *wanted: EntryState) -> CallRecord:
    found: list[CallRecord] = []

    async def there() -> bool:
        record = await mesh.api.call(IDENTITY)
        if record is not None and any(e.state in wanted for e in record.entries):
            found[:] = [record]
        return bool(found)

    await eventually(there)
    return found[0]


async def test_a_write_whose_answer_was_lost_is_found_again_not_repeated(mesh: WholeMesh) -> None:
    mesh.crm.faults = Faults(lose_answers=1)
    await mesh.pbx.play("answered", CAST)
    record = await entry_state(mesh, *THERE)
    (entry,) = mesh.crm.records("Calls")
    assert record.entries[0].entry_id == entry["id"]
    assert mesh.platform.metrics.value("callmesh_journal_entries_total", "found") == 1


async def test_an_entry_is_tried_until_the_crm_takes_it(mesh: WholeMesh) -> None:
    mesh.crm.faults = Faults(fail_next=2, fail_status=429, retry_after_s=1)
    await mesh.pbx.play("answered", CAST)
    await entry_state(mesh, *THERE)
    assert len(mesh.crm.records("Calls")) == 1


async def test_what_the_crm_refuses_is_dead_with_its_words(mesh: WholeMesh) -> None:
    mesh.crm.faults = Faults(fail_next=99, fail_status=400)
    await mesh.pbx.play("answered", CAST)
    record = await entry_state(mesh, EntryState.DEAD)
    assert record.entries[0].reason is not None
    assert "400 INTERNAL_ERROR" in record.entries[0].reason
    assert not mesh.crm.records("Calls")
