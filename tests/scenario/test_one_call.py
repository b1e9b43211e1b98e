"""One real call through the whole mesh: route, pop, entry, and a click that dials."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from shared.clock import SystemClock
from shared.contracts.calls import CallRecord, Disposition
from shared.ids import call_id
from shared.moments import to_text
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.sandbox.demo import is_settled
from shared.sandbox.people import USERS
from shared.sandbox.recording import Cast
from shared.sandbox.site import PBX, TENANT
from shared.testing.waiting import eventually
from tests.scenario.conftest import WholeMesh

#: A PBX's clock is believed that is less than a day off.
AN_HOUR_AGO = SystemClock().now().replace(microsecond=0) - timedelta(hours=1)
ANNA, BEN = (user["id"] for user in USERS)


def a_cast(**changes: Any) -> Cast:
    return Cast(**{"started_at": AN_HOUR_AGO, "serial": 1, **changes})


def is_whole(record: CallRecord) -> bool:
    """Of a call whose caller the CRM knows. Who it is and the route come by ways of their own."""
    told = record.contact and record.route and record.answered_at
    return bool(told) and all(leg.ended_at for leg in record.legs)


async def the_record(
    mesh: WholeMesh, cast: Cast, *, complete: Callable[[CallRecord], bool] = is_settled
) -> CallRecord:
    """As the API tells it, when its entry is settled and it is *complete*."""
    identity = call_id(TENANT, PBX, cast.linkedid)
    found: list[CallRecord] = []

    async def settled() -> bool:
        record = await mesh.api.call(identity)
        if record is not None and is_settled(record) and complete(record):
            found[:] = [record]
        return bool(found)

    await eventually(settled)
    return found[0]


def hold_the_end(mesh: WholeMesh, cast: Cast, seen: Callable[[], bool] = lambda: True) -> None:
    """
    Nobody hangs up before the screens have *seen* what they shall, of a call that is over none
    do, and before it is known who answered: whose the entry is can be said once.
    """

    async def is_answered() -> bool:
        record = await mesh.api.call(call_id(TENANT, PBX, cast.linkedid))
        return record is not None and record.answered_at is not None

    async def until() -> None:
        await eventually(seen)
        await eventually(is_answered)

    mesh.pbx.hold(until)


class Screen:
    """What one agent's browser was told."""

    def __init__(self, mesh: WholeMesh, extension: str) -> None:
        self.events: list[dict[str, Any]] = []
        self._task = asyncio.create_task(self._follow(mesh, extension))

    async def _follow(self, mesh: WholeMesh, extension: str) -> None:
        async for event in mesh.api.screen(extension):
            self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event["kind"] for event in self.events]

    async def close(self) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


@pytest.fixture
async def screens(mesh: WholeMesh) -> Any:
    found = {extension: Screen(mesh, extension) for extension in ("101", "102")}
    await eventually(lambda: mesh.platform.metrics.value("callmesh_live_streams") == 2)
    yield found
    for screen in found.values():
        await screen.close()


async def test_a_known_caller_is_routed_popped_and_journaled(
    mesh: WholeMesh, screens: dict[str, Screen]
) -> None:
    cast = a_cast()
    told = {"ringing", "pop", "answered"}
    hold_the_end(mesh, cast, lambda: told <= set(screens["101"].kinds))
    played = await mesh.pbx.play("answered", cast)
    record = await the_record(mesh, cast, complete=is_whole)

    assert played.variables["CRM_DEST"] == "extension:101"
    assert played.variables["CRM_REASON"] == "row_matched"
    assert played.variables["CRM_URL"].endswith("/tab/Contacts/829914000000600001/")
    assert record.disposition is Disposition.ANSWERED
    assert record.talk_time == timedelta(seconds=3.007696)
    assert record.contact is not None
    assert record.contact.display_name == "Jane Doe"
    assert record.route is not None
    assert (record.route.row, record.route.value) == (2, "SILVER")
    assert [step.step for step in record.route.trace] == [
        "rule",
        "contact",
        "value",
        "row",
        "row",
    ]
    assert [e.state.is_there for e in record.entries] == [True]
    await eventually(lambda: screens["101"].kinds[-1:] == ["closed"])
    assert "ringing" in screens["101"].kinds
    assert "answered" in screens["101"].kinds
    shown = [e["contact"]["display_name"] for e in screens["101"].events if e.get("contact")]
    assert shown[:1] == ["Jane Doe"]
    assert screens["102"].events == []
    (entry,) = mesh.crm.records("Calls")
    assert entry["id"] == record.entries[0].entry_id
    assert entry["Call_Type"] == "Inbound"
    assert entry["Call_Duration"] == "00:03"
    assert entry["Call_Start_Time"] == AN_HOUR_AGO.isoformat()
    assert entry["Who_Id"] == {"id": "829914000000600001"}
    assert entry["Owner"] == {"id": ANNA}
    assert "What_Id" not in entry


async def test_a_queue_call_pops_at_all_and_closes_where_another_was_faster(
    mesh: WholeMesh, screens: dict[str, Screen]
) -> None:
    cast = a_cast(caller="447700900145")
    hold_the_end(
        mesh,
        cast,
        lambda: "ringing" in screens["101"].kinds and "answered" in screens["102"].kinds,
    )
    played = await mesh.pbx.play("queue_ringall", cast)
    record = await the_record(mesh, cast)

    assert played.variables["CRM_DEST"] == "queue:support"
    assert record.queue == "support"
    await eventually(lambda: screens["101"].kinds[-1:] == ["closed"])
    closed = [e for e in screens["101"].events if e["kind"] == "closed"]
    assert closed[0]["reason"] in {"elsewhere", "ended"}
    assert "answered" not in screens["101"].kinds
    (entry,) = mesh.crm.records("Calls")
    assert entry["Owner"] == {"id": BEN}


@pytest.mark.parametrize(
    ("recording", "caller", "disposition", "linked"),
    [
        ("missed", "447700900168", Disposition.MISSED, {"Who_Id": {"id": "829914000000600004"}}),
        ("busy", "447700900167", Disposition.BUSY, {"Who_Id": {"id": "829914000000600003"}}),
        (
            "route_default",
            "447700900189",
            Disposition.ANSWERED,
            {"What_Id": {"id": "829914000000506002"}, "$se_module": "Leads"},
        ),
        ("route_default", "447700900199", Disposition.ANSWERED, {}),
    ],
)
async def test_every_call_has_one_entry_linked_as_its_contact_needs(
    mesh: WholeMesh,
    recording: str,
    caller: str,
    disposition: Disposition,
    linked: dict[str, Any],
) -> None:
    cast = a_cast(caller=caller)
    await mesh.pbx.play(recording, cast)
    record = await the_record(mesh, cast)

    assert record.disposition is disposition
    (entry,) = mesh.crm.records("Calls")
    links = {k: v for k, v in entry.items() if k in {"Who_Id", "What_Id", "$se_module"}}
    assert links == linked
    assert entry["Call_Type"] == ("Inbound" if disposition is Disposition.ANSWERED else "Missed")


async def test_a_call_that_the_pbx_sends_twice_is_one_call_and_one_entry(mesh: WholeMesh) -> None:
    cast = a_cast()
    hold_the_end(mesh, cast)
    await mesh.pbx.play("answered", cast)
    first = await the_record(mesh, cast, complete=is_whole)
    await mesh.pbx.play("answered", cast)
    await mesh.pbx.play("answered", a_cast(serial=2))
    await the_record(mesh, a_cast(serial=2))

    assert await the_record(mesh, cast) == first
    assert len(mesh.crm.records("Calls")) == 2


async def test_a_click_dials_and_tells_how_far_it_is(
    mesh: WholeMesh, screens: dict[str, Screen]
) -> None:
    def seen() -> list[str]:
        return [e["dial_state"] for e in screens["101"].events if e["kind"] == "dial"]

    # A state that the next one overtakes is not told.
    mesh.pbx.hold(lambda: eventually(lambda: "connected" in seen()))
    status, receipt = await mesh.post(
        "/v1/calls", {"extension": "101", "number": "+44 (7700) 900-123"}
    )
    assert status == 202
    dial = f"/v1/dials/{receipt['dial_id']}"

    async def over() -> bool:
        status, found = await mesh.get(dial)
        return status == 200 and found["state"] in {"ended", "failed"}

    await eventually(over)
    _, found = await mesh.get(dial)
    assert (found["state"], found["number"]) == ("ended", "+447700900123")
    await eventually(lambda: "ended" in seen())
    states = seen()
    order = [
        *("requested", "agent_ringing", "agent_answered"),
        *("customer_ringing", "connected", "ended"),
    ]
    # A step may be skipped where the next one was seen first; none comes twice or goes back.
    assert states == [state for state in order if state in states]
    assert {"connected", "ended"} <= set(states)
    assert "ringing" not in screens["101"].kinds
    await eventually(lambda: len(mesh.crm.records("Calls")) == 1)
    (entry,) = mesh.crm.records("Calls")
    assert entry["Call_Type"] == "Outbound"
    assert entry["Who_Id"] == {"id": "829914000000600001"}


@pytest.mark.parametrize(
    ("extension", "number", "reason"),
    [
        ("101", "+447700900700", "customer_busy"),
        ("101", "+447700900799", "agent_no_answer"),
    ],
)
async def test_a_dial_that_fails_says_why(
    mesh: WholeMesh, extension: str, number: str, reason: str
) -> None:
    _, receipt = await mesh.post("/v1/calls", {"extension": extension, "number": number})

    async def failed() -> bool:
        _, found = await mesh.get(f"/v1/dials/{receipt['dial_id']}")
        return bool(found.get("state") == "failed")

    await eventually(failed)
    _, found = await mesh.get(f"/v1/dials/{receipt['dial_id']}")
    assert found["reason"] == reason


async def test_the_same_idempotency_key_is_the_same_order(
    mesh: WholeMesh, screens: dict[str, Screen]
) -> None:
    order = {"extension": "101", "number": "+447700900123"}
    first = await mesh.post("/v1/calls", order, **{"Idempotency-Key": "click-7"})
    again = await mesh.post("/v1/calls", order, **{"Idempotency-Key": "click-7"})
    changed = {**order, "number": "+447700900124"}
    other = await mesh.post("/v1/calls", changed, **{"Idempotency-Key": "click-7"})
    assert (first[0], again[0]) == (202, 202)
    dial = first[1]["dial_id"]
    assert again[1]["dial_id"] == dial
    assert (other[0], other[1]["code"]) == (409, "conflict")
    await eventually(lambda: len(mesh.crm.records("Calls")) == 1)
    # The repeat met the first on its way, and nobody took it for lost.
    assert "failed" not in [e.get("dial_state") for e in screens["101"].events]


async def test_a_phone_dials_one_number_at_a_time(mesh: WholeMesh) -> None:
    order = {"extension": "101", "number": "+447700900123"}
    go_on = asyncio.Event()
    mesh.pbx.hold(go_on.wait)
    _, first = await mesh.post("/v1/calls", order)
    status, problem = await mesh.post("/v1/calls", {**order, "number": "+447700900124"})
    assert (status, problem["code"]) == (409, "conflict")
    assert first["dial_id"] in problem["detail"]
    assert (await mesh.post("/v1/calls", {**order, "extension": "102"}))[0] == 202

    async def connected() -> bool:
        _, found = await mesh.get(f"/v1/dials/{first['dial_id']}")
        return bool(found.get("state") == "connected")

    await eventually(connected)
    go_on.set()

    async def free() -> bool:
        status, _ = await mesh.post("/v1/calls", {**order, "number": "+447700900700"})
        return status == 202

    await eventually(free)
    status, page = await mesh.get("/v1/dials", extension="101")
    assert [dial["number"] for dial in page["dials"]] == ["+447700900700", "+447700900123"]
    assert page["dials"][1]["requested_by"] == "key demo"
    assert {"connected_at", "ended_at"} <= page["dials"][1].keys()


async def test_a_generic_pbx_reports_a_call_by_hooks(mesh: WholeMesh) -> None:
    def at(second: int) -> str:
        return to_text(AN_HOUR_AGO + timedelta(seconds=second))

    base = {"call": "g-1"}
    events = [
        {
            "event": "started",
            "at": at(0),
            "direction": "inbound",
            "caller": "07700 900123",
            "dialled": "442079460001",
        },
        {"event": "ringing", "at": at(1), "extension": "101", "caller": "07700 900123"},
        {"event": "answered", "at": at(2), "extension": "101"},
        {"event": "ended", "at": at(7), "hangup_by": "caller"},
    ]
    whole = [{**base, **event} for event in events]
    assert await mesh.post("/v1/hooks/door", whole[0]) == (202, {"accepted": 1})
    # The last first, and all of them again: order and repeats do not matter.
    assert await mesh.post("/v1/hooks/door", {"events": whole[::-1]}) == (202, {"accepted": 4})
    identity = call_id(TENANT, "door", "g-1")

    async def journaled() -> bool:
        record = await mesh.api.call(identity)
        whole = record is not None and record.contact and record.answered_at
        return bool(whole) and record is not None and is_settled(record)

    await eventually(journaled)
    record = await mesh.api.call(identity)
    assert record is not None
    assert record.disposition is Disposition.ANSWERED
    assert record.talk_time == timedelta(seconds=5)
    assert record.contact is not None
    assert record.contact.display_name == "Jane Doe"
    assert len(mesh.crm.records("Calls")) == 1


async def test_a_malformed_hook_names_its_faults_and_publishes_nothing(mesh: WholeMesh) -> None:
    status, problem = await mesh.post(
        "/v1/hooks/door",
        {"event": "started", "call": "x", "at": "yesterday", "caller": "sesame-007", "what": 1},
    )
    assert status == 422
    assert problem["code"] == "invalid_request"
    assert {fault["where"] for fault in problem["errors"]} >= {"body.at", "body.what"}
    assert "sesame" not in str(problem)
    metrics = mesh.platform.metrics
    assert metrics.value("callmesh_http_requests_total", "/v1/hooks/{pbx}", "422") == 1
    assert metrics.value("callmesh_published_total", "hooks.received.v1", "accepted") == 0


async def test_whoever_has_no_key_learns_nothing(mesh: WholeMesh) -> None:
    for path in ("/v1/calls", f"/v1/calls/{call_id(TENANT, PBX, '1.1')}", "/v1/hooks/door"):
        async with mesh.session.get(mesh.url + path) as answer:
            assert answer.status in {401, 405}
    async with mesh.session.get(
        f"{mesh.url}/v1/calls", headers={"Authorization": "Bearer cm_guess"}
    ) as answer:
        assert answer.status == 401
        assert "tenant" not in await answer.text()


async def test_a_number_is_looked_up_by_the_api(mesh: WholeMesh) -> None:
    status, found = await mesh.get("/v1/contacts", number="+44 7700 900145")
    assert status == 200
    assert [card["display_name"] for card in found["candidates"]] == ["Grace Gold"]
    assert found["candidates"][0]["page_url"].endswith(
        "/crm/org20105630807/tab/Contacts/829914000000600002/"
    )
    assert await mesh.get("/v1/contacts", number="+447700900999") == (200, {"candidates": []})


@pytest.mark.parametrize(
    ("state", "event", "channel"),
    [
        ("agent_ringing", "Newstate", "PJSIP/101-"),
        ("customer_ringing", "Newstate", "PJSIP/trunk-"),
        ("connected", "HangupRequest", "PJSIP/101-"),
    ],
)
async def test_a_dial_is_cancelled_and_the_call_hung_up(
    mesh: WholeMesh, state: str, event: str, channel: str
) -> None:
    """It stays in *state* until then: the *event* of a *channel* that is up would end that."""

    def ends_it(message: AmiMessage) -> bool:
        what, which, how = (message.get(n) for n in ("Event", "Channel", "ChannelStateDesc"))
        return (what, how) == (event, "Up") and which.startswith(channel)

    cancelled = asyncio.Event()
    mesh.pbx.hold(cancelled.wait, before=ends_it)
    _, receipt = await mesh.post("/v1/calls", {"extension": "101", "number": "+447700900123"})
    dial = f"/v1/dials/{receipt['dial_id']}"

    async def there() -> bool:
        return bool((await mesh.get(dial))[1].get("state") == state)

    await eventually(there)
    status, found = await mesh.post(f"{dial}/cancel", {})
    assert status == 200, found
    cancelled.set()
    over = ("ended", None) if state == "connected" else ("failed", "cancelled")
    assert (found["state"], found.get("reason")) == over
    await eventually(lambda: receipt["dial_id"] not in mesh.pbx.channels)

    async def ended() -> bool:
        call = await mesh.api.call(found["call_id"])
        return call is not None and call.ended_at is not None

    await eventually(ended)
    _, found = await mesh.get(dial)
    assert (found["state"], found.get("reason")) == over
    assert (await mesh.post("/v1/calls", {"extension": "101", "number": "+447700900700"}))[0] == 202
