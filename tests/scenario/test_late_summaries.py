"""What was said in a call is told when its entry is in the CRM already, and ends up in it."""

from __future__ import annotations

from shared.testing.waiting import eventually
from tests.scenario.conftest import WholeMesh
from tests.scenario.test_late_data import IDENTITY, a_call, say

BOAT = "Asks for a boat.\nAnna calls back."


async def describes(mesh: WholeMesh, text: str) -> None:
    """The one entry of the call, after a while."""

    async def is_so() -> bool:
        (entry,) = mesh.crm.records("Calls")
        return bool(entry["Description"] == text)

    await eventually(is_so)


async def test_a_summary_is_a_line_of_the_entry_that_was_sent(mesh: WholeMesh) -> None:
    await a_call(mesh)
    (first,) = mesh.crm.records("Calls")

    await say(mesh, "summary", 50, summary=BOAT, sentiment="positive")
    await describes(mesh, f"{first['Description']}\n{BOAT}")

    record = await mesh.api.call(IDENTITY)
    assert record is not None
    assert (record.summary, record.sentiment) == (BOAT, "positive")


async def test_the_last_word_holds_whoever_says_it(mesh: WholeMesh) -> None:
    await a_call(mesh)
    (first,) = mesh.crm.records("Calls")

    await say(mesh, "summary", 50, summary=BOAT)
    await describes(mesh, f"{first['Description']}\n{BOAT}")
    status, answer = await mesh.post(f"/v1/calls/{IDENTITY}/summary", {"summary": "No boat."})
    assert status == 202, answer
    await describes(mesh, f"{first['Description']}\nNo boat.")
