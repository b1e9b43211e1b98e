"""PBXs of other kinds through the whole mesh: set up by the API, heard by their hooks, popped, journaled."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from shared.contracts.calls import CallRecord, Disposition, EndKnown
from shared.ids import call_id
from shared.sandbox.site import TENANT
from shared.site.documents import SITES
from shared.testing.waiting import eventually
from tests.contract.uis_kit import TOKEN, Account, an_account, result
from tests.scenario.conftest import WholeMesh

SAMPLES = Path(__file__).parents[1] / "data" / "pbx"
#: Jane Doe of the sandbox's CRM, whom the samples do not call by her number.
JANE = "447700900123"


async def set_up(mesh: WholeMesh, name: str, **settings: Any) -> None:
    async with mesh.session.put(
        f"{mesh.url}/v1/pbx/{name}", json=settings, headers=mesh.headers
    ) as answer:
        assert answer.status == 200, await answer.text()


async def send(mesh: WholeMesh, pbx: str, body: Any) -> None:
    """As the PBX does, which has no header for its key."""
    url = f"{mesh.url}/v1/pbx/{pbx}/events"
    key = {"key": mesh.key.get_secret_value()}
    async with mesh.session.post(url, params=key, json=body) as answer:
        assert answer.status == 202, await answer.text()


async def journaled(
    mesh: WholeMesh, pbx: str, pbx_call_id: str, *, is_whole: Callable[[CallRecord], object]
) -> CallRecord:
    """The call, once its entry is in the CRM and it *is_whole*: what is heard has no order."""
    wanted = call_id(TENANT, pbx, pbx_call_id)
    found: list[CallRecord] = []

    async def is_there() -> bool:
        record = await mesh.api.call(wanted)
        if record is None or not record.entries:
            return False
        found[:] = [record]
        return bool(is_whole(record)) and all(e.state.is_there for e in record.entries)

    await eventually(is_there)
    return found[0]


@asynccontextmanager
async def screen(mesh: WholeMesh, extension: str) -> AsyncIterator[list[dict[str, Any]]]:
    """What the agent's screen is told meanwhile."""
    seen: list[dict[str, Any]] = []

    async def watch() -> None:
        async for event in mesh.api.screen(extension):
            seen.append(event)  # noqa: PERF401  each as it comes, and not when all have

    watching = asyncio.create_task(watch())
    try:
        await eventually(lambda: mesh.platform.metrics.value("callmesh_live_streams") >= 1)
        yield seen
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def jane_calls(text: str, *numbers: str) -> str:
    """The sample, with the caller's number replaced by hers."""
    for number in numbers:
        text = text.replace(number, JANE)
    return text


@asynccontextmanager
async def a_uis(mesh: WholeMesh) -> AsyncIterator[Account]:
    async with an_account() as account:
        address = f"http://127.0.0.1:{account.port}"
        await set_up(
            mesh,
            "uis",
            kind="uis",
            call_api=f"{address}/call/v4.0",
            data_api=f"{address}/data/v2.0",
            access_token=TOKEN,
            virtual_number="+74993720692",
            branches={"extension:101": 3},
            default_branch=9,
        )
        yield account


async def test_uis_notifications_pop_and_the_report_completes_the_entry(mesh: WholeMesh) -> None:
    report = json.loads(
        jane_calls((SAMPLES / "uis" / "inbound_answered.report.json").read_text(), "79260000000")
    )
    async with a_uis(mesh) as account, screen(mesh, "101") as seen:
        account.methods["get.call_legs_report"] = lambda _: {"result": report["result"]}
        hooks = (SAMPLES / "uis" / "inbound_answered.hooks.jsonl").read_text()
        for line in jane_calls(hooks, "79260000000").splitlines():
            await send(mesh, "uis", {**json.loads(line), "employee_phone_number": "101"})
            if '"ringing"' in line:  # later hooks must not overtake it
                await eventually(lambda: any(event.get("kind") == "ringing" for event in seen))
        record = await journaled(
            mesh, "uis", "31451224", is_whole=lambda call: call.contact and call.answered_at
        )
        asked = [name for _, name, _ in account.asked]
        await eventually(lambda: "get.call_legs_report" in [n for _, n, _ in account.asked])

        async def complete() -> bool:
            found = await mesh.api.call(record.call_id)
            return found is not None and bool(found.recordings)

        await eventually(complete)

    assert asked.count("get.call_legs_report") <= 1
    assert (record.disposition, record.dialled) == (Disposition.ANSWERED, "74993720692")
    assert record.contact is not None
    assert record.contact.display_name == "Jane Doe"
    assert any(event.get("kind") == "ringing" for event in seen), seen


async def test_uis_asks_where_the_call_shall_go(mesh: WholeMesh) -> None:
    async with a_uis(mesh):
        query = {
            "key": mesh.key.get_secret_value(),
            "cdr_id": "1",
            "numa": JANE,
            "numb": "442079460000",
            "input_result": "None",
        }
        url = f"{mesh.url}/v1/pbx/uis/route"
        async with mesh.session.get(url, params=query) as answer:
            assert answer.status == 200
            assert await answer.json() == {"returned_code": 3}
        async with mesh.session.get(url, params=query | {"numb": "499"}) as answer:
            assert await answer.json() == {"returned_code": 9}


async def test_uis_takes_a_status_and_an_order(mesh: WholeMesh) -> None:
    async with a_uis(mesh) as account:
        account.methods["update.employees"] = lambda _: result({"success": True})
        document = await mesh.platform.store.collection(SITES).get(TENANT)
        agents = tuple(
            agent.model_copy(update={"pbx": "uis", "pbx_user": "25"})
            if agent.extension == "101"
            else agent
            for agent in document.site.agents
        )
        site = document.site.model_copy(update={"agents": agents})
        now = mesh.platform.clock.now()
        await mesh.platform.store.collection(SITES).replace(
            document.model_copy(update={"site": site, "changed_at": now})
        )
        await eventually(lambda: mesh.platform.site.current[TENANT] == site)

        async with mesh.session.put(
            f"{mesh.url}/v1/agents/101/status", json={"status": "break"}, headers=mesh.headers
        ) as answer:
            assert answer.status == 202
        status, told = await mesh.post("/v1/calls", {"extension": "101", "number": "+79260000000"})
        assert status == 202, told

        def orders() -> dict[str, dict[str, Any]]:
            return {name: asked for _, name, asked in account.asked}

        await eventually(lambda: {"update.employees", "start.employee_call"} <= orders().keys())
        assert orders()["update.employees"] == {"id": 25, "status": "break"}
        dial = orders()["start.employee_call"]
        assert (dial["external_id"], dial["employee"]["id"]) == (told["dial_id"], 25)

        # Its call has an id of the account's own, and is followed by it.
        await send(
            mesh,
            "uis",
            {
                "event": "ringing",
                "call_session_id": 237859081,
                "direction": "out",
                "external_id": told["dial_id"],
                "employee_id": 25,
                "contact_phone_number": "79260000000",
                "virtual_phone_number": "74993720692",
            },
        )

        async def rings() -> bool:
            found = await mesh.api.dialled(told["dial_id"])
            return found is not None and found.state == "agent_ringing"

        await eventually(rings)


async def test_yeastar_webhooks(mesh: WholeMesh) -> None:
    await set_up(
        mesh,
        "yeastar",
        kind="yeastar",
        url="http://127.0.0.1:9",
        client_id="c",
        client_secret="s",
        events="webhook",
        zone="Europe/Berlin",
    )
    async with screen(mesh, "101") as seen:
        sample = (SAMPLES / "yeastar" / "answered.jsonl").read_text().replace("1005", "101")
        for line in sample.splitlines():
            await send(mesh, "yeastar", json.loads(line)["record"])
            if "RING" in line and not seen:  # later hooks must not overtake it
                await eventually(lambda: any(event.get("kind") == "ringing" for event in seen))
        record = await journaled(
            mesh,
            "yeastar",
            "1792418400.1",
            is_whole=lambda call: call.recordings and call.end_known is EndKnown.REPORT,
        )

    assert record.disposition is Disposition.ANSWERED
    assert record.end_known is EndKnown.REPORT
    assert record.talk_time.total_seconds() == 20
    assert record.recordings
    assert any(event.get("kind") == "ringing" for event in seen), seen


async def test_freeswitch_records_of_a_call_that_nobody_heard(mesh: WholeMesh) -> None:
    await set_up(
        mesh,
        "switch",
        kind="freeswitch",
        host="127.0.0.1",
        port=9,
        password="p",
        trunks=["external"],
    )
    records = json.loads((SAMPLES / "freeswitch" / "answered.cdr.json").read_text())
    for one in records:
        await send(mesh, "switch", one)

    pbx_call_id = records[0]["variables"]["uuid"]
    record = await journaled(mesh, "switch", pbx_call_id, is_whole=lambda call: call.legs)
    assert record.disposition is Disposition.ANSWERED
    assert record.end_known is EndKnown.REPORT
    assert [leg.callee.label for leg in record.legs] == ["101"]


async def test_freeswitch_asks_by_xml_curl(mesh: WholeMesh) -> None:
    await set_up(
        mesh,
        "switch",
        kind="freeswitch",
        host="127.0.0.1",
        port=9,
        password="p",
        trunks=["external"],
    )
    asked = {
        "section": "dialplan",
        "Hunt-Destination-Number": "442079460000",
        "Hunt-Caller-ID-Number": JANE,
        "Hunt-Context": "public",
        "Unique-ID": "00000000-0000-4000-8000-00000000000a",
    }
    key = {"key": mesh.key.get_secret_value()}
    url = f"{mesh.url}/v1/pbx/switch/route"
    async with mesh.session.post(url, params=key, data=asked) as answer:
        text = await answer.text()
    assert answer.status == 200
    assert "xml" in answer.content_type
    assert 'transfer" data="101 XML crm_to_extension"' in text
    async with mesh.session.post(
        url, params=key, data=asked | {"Hunt-Destination-Number": "999"}
    ) as answer:
        assert "not found" in await answer.text()


async def test_pbxware_asks_us_as_its_custom_crm(mesh: WholeMesh) -> None:
    await set_up(mesh, "ware", kind="pbxware", crm="zoho", modules=["Contacts"], within="10s")
    url = f"{mesh.url}/v1/pbx/ware/crm"
    bearer = mesh.headers

    async def value(**query: str) -> str:
        async with mesh.session.get(url, params=query, headers=bearer) as answer:
            assert answer.status == 200, await answer.text()
            return await answer.text()

    assert await value(field_name="Tier", dtmf="", caller=JANE) == "SILVER"
    # Without the caller's number, the digits that he entered are it.
    assert await value(field_name="Tier", dtmf=JANE) == "SILVER"
    assert await value(field_name="Tier", dtmf="12") == ""
    assert await value(field_name="Tier", dtmf="", caller="anonymous") == ""
    async with mesh.session.post(
        url, json={"field_name": "Tier", "dtmf": JANE}, headers=bearer
    ) as answer:
        assert await answer.text() == "SILVER"
    async with mesh.session.get(url, params={"field_name": "Ti er"}, headers=bearer) as answer:
        assert answer.status == 400


async def test_an_order_that_no_pbx_takes_fails_and_says_so(mesh: WholeMesh) -> None:
    """A second PBX that takes orders, and an agent of whom nobody says at which he is."""
    await set_up(
        mesh, "switch", kind="freeswitch", host="127.0.0.1", port=9, password="p", trunks=["t"]
    )
    status, told = await mesh.post("/v1/calls", {"extension": "101", "number": "+447700900145"})
    assert status == 202

    async def failed() -> bool:
        found = await mesh.api.dialled(told["dial_id"])
        return found is not None and (found.state, found.reason) == ("failed", "pbx_unavailable")

    await eventually(failed)
