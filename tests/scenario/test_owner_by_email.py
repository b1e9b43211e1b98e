"""An agent of whom the site says only an e-mail address owns the entries of his calls."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from shared.clock import SystemClock
from shared.ids import call_id
from shared.moments import to_text
from shared.sandbox.people import USERS
from shared.sandbox.site import CRM, TENANT
from shared.site.documents import SITES
from shared.site.models import Agent
from shared.storage.port import change
from shared.testing.waiting import eventually
from tests.scenario.conftest import WholeMesh

ANNA, BEN = USERS


async def by_email(mesh: WholeMesh) -> None:
    """Both agents as the CRM's users are found by their addresses, however they are written."""
    agents = (
        Agent(extension="101", name="Anna", email=ANNA["email"].upper()),
        Agent(extension="102", name="Ben", email="ben@elsewhere.example"),
    )

    def edited(found: Any) -> Any:
        site = found.site.model_copy(update={"agents": agents})
        return found.model_copy(update={"site": site, "changed_at": mesh.platform.clock.now()})

    await change(mesh.platform.store.collection(SITES), TENANT, edited)

    async def is_taken() -> bool:
        status, found = await mesh.get(f"/v1/crm/{CRM}/users")
        return status == 200 and list(found["unmatched"]) == ["102"]

    await eventually(is_taken)
    # Who joined the CRM since the mesh began is known once its users are read again.
    mesh.crm.users.append({**BEN, "id": "829914000000121003", "email": "ben@elsewhere.example"})
    assert (await mesh.post(f"/v1/crm/{CRM}/users/sync", {}))[0] == 202

    async def are_matched() -> bool:
        _, found = await mesh.get(f"/v1/crm/{CRM}/users")
        phones = {user["user_id"]: user.get("extension") for user in found["users"]}
        return phones == {ANNA["id"]: "101", BEN["id"]: None, "829914000000121003": "102"}

    await eventually(are_matched)


async def owner_of_a_call(mesh: WholeMesh, extension: str) -> Any:
    call = f"by-{extension}"
    began = SystemClock().now() - timedelta(minutes=1)
    about = {"call": call, "at": to_text(began)}
    events = [
        {**about, "event": "started", "direction": "inbound", "caller": "+447700900123"},
        {**about, "event": "answered", "extension": extension},
        {**about, "event": "ended", "at": to_text(began + timedelta(seconds=5))},
    ]
    assert (await mesh.post("/v1/hooks/door", {"events": events[:2]}))[0] == 202

    async def is_answered() -> bool:
        record = await mesh.api.call(call_id(TENANT, "door", call))
        return record is not None and record.answered_at is not None

    # Whose it is can be said once: the CRM lets nobody change it.
    await eventually(is_answered)
    assert (await mesh.post("/v1/hooks/door", {"events": events[2:]}))[0] == 202

    async def is_there() -> bool:
        record = await mesh.api.call(call_id(TENANT, "door", call))
        return record is not None and any(e.state.is_there for e in record.entries)

    await eventually(is_there)
    return mesh.crm.records("Calls")[-1].get("Owner")


async def test_an_entry_belongs_to_the_user_with_the_agents_address(mesh: WholeMesh) -> None:
    await by_email(mesh)
    assert await owner_of_a_call(mesh, "101") == {"id": ANNA["id"]}
