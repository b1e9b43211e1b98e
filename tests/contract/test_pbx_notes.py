"""Each request and order to a PBX is noted for what it was; no secret of any kind is in a note."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.contracts.agents import AgentStatus
from shared.errors import MeshError
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.net.requests import AskedSide, Detail, RequestNote
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.adapter import AsteriskSettings
from shared.pbx.freeswitch.adapter import FreeSwitchSettings
from shared.pbx.ordering import ordering
from shared.pbx.port import AgentAt, DialRequest, HangUp, PbxAdapter, Phones
from shared.sandbox.pbx import SECRET, USERNAME
from shared.secrets import SecretBox, new_key
from shared.site.adapters import Adapters, PbxSettings
from shared.site.fetching import HttpOfPbx
from shared.site.models import Site
from shared.site.pbxnotes import PbxNotes
from shared.testing.waiting import eventually
from tests.contract import test_asterisk as asterisk
from tests.contract import test_freeswitch as freeswitch
from tests.contract import test_threecx as threecx
from tests.contract import test_wazo as wazo
from tests.contract import uis_kit as uis
from tests.contract import yeastar_server as yeastar
from tests.contract.notes_kit import Notes
from tests.contract.yeastar_kit import settings_of as yeastar_settings

LOOPBACK = AddressGuard(networks("127.0.0.0/8", setting="X"))
SOON = timedelta(seconds=5)
REFERENCE, NUMBER = "click-0001", "+447700900777"


@asynccontextmanager
async def made(
    settings: PbxSettings, notes: Notes, clock: ManualClock
) -> AsyncIterator[PbxAdapter]:
    async with HttpClient(LOOPBACK) as http:
        adapters = Adapters(
            secrets=SecretBox([new_key()]),
            http=http,
            clock=clock,
            metrics=Metrics(),
            notes=notes,
        )
        yield adapters.make("acme", "main", settings, phones=Phones())


async def everything(adapter: PbxAdapter, extension: str, user: str | None) -> None:
    """All that can be ordered and asked; what a stand-in does not know, it refuses."""
    assert adapter.switchboard is not None
    board = adapter.switchboard()
    order = DialRequest(
        reference=REFERENCE, extension=extension, number=NUMBER, ring_for=SOON, user=user
    )
    call: str | None = None
    with suppress(MeshError):
        call = (await board.dial(order, within=SOON)).pbx_call_id
    agent = AgentAt(extension, user)
    with suppress(MeshError):
        await board.set_status(agent, AgentStatus.DINNER, within=SOON)
    with suppress(MeshError):
        await board.hang_up(
            HangUp(reference=REFERENCE, extension=extension, pbx_call_id=call, user=user),
            within=SOON,
        )
    assert [finding async for finding in adapter.check()]
    if adapter.reporter is not None:
        with suppress(MeshError):
            await adapter.reporter.report("237859081", uis.NOW, Phones())
    if adapter.recordings is not None:
        with suppress(MeshError):
            async with adapter.recordings.fetch("a.wav") as pieces:
                async for _ in pieces:
                    pass


def operations(notes: Notes) -> set[str]:
    return {one.operation for one in notes.taken}


def one(notes: Notes, operation: str) -> RequestNote:
    (found,) = notes.of(operation)
    return found


# -- by HTTP ---------------------------------------------------------------------------------------


async def test_a_yeastar_s(clock: ManualClock) -> None:
    notes = Notes()
    async with yeastar.a_yeastar() as pbx:
        pbx.answers["call/dial"] = lambda _, __: yeastar.good(call_id="1650095575.872")
        pbx.answers["call/hangup"] = lambda _, body: yeastar.refused(1, f"{body} {yeastar.SECRET}")
        async with made(yeastar_settings(pbx), notes, clock) as adapter:
            await everything(adapter, "1005", None)
        tokens = [f"token-{number + 1}" for number in range(pbx.made)]

    assert notes.leaked([yeastar.SECRET, *tokens]) == []
    assert operations(notes) >= {"session", "originate", "set_status", "hangup", "check"}
    dialled = one(notes, "originate")
    assert dialled.url.startswith(f"{pbx.url}/openapi/v1.0/call/dial?access_token=")
    assert json.loads(dialled.request or "")["callee"] == NUMBER
    assert (dialled.status, dialled.error) == (200, None)


async def test_a_refusal_under_status_200_is_one(clock: ManualClock) -> None:
    notes = Notes(Detail.FAILED)
    async with yeastar.a_yeastar() as pbx:
        pbx.answers["call/dial"] = lambda _, __: yeastar.refused(20006, "EXTENSION NOT FOUND")
        async with made(yeastar_settings(pbx), notes, clock) as adapter:
            await everything(adapter, "1005", None)

    refused = one(notes, "originate")
    assert (refused.status, refused.error) == (200, "errcode 20006 EXTENSION NOT FOUND")
    assert json.loads(refused.answer or "")["errcode"] == 20006
    assert all(note.error for note in notes.taken)


async def test_a_wazo_s(clock: ManualClock) -> None:
    """A check has the token in its path."""
    notes, pbx = Notes(), wazo.Exchange()
    await pbx.start()
    try:
        async with made(wazo.settings_of(pbx), notes, clock) as adapter:
            await everything(adapter, "101", wazo.ANNA)
    finally:
        await pbx.stop()

    assert notes.leaked([wazo.PASSWORD, f"callmesh:{wazo.PASSWORD}", *pbx.good]) == []
    assert operations(notes) >= {"session", "originate", "set_status", "hangup", "check"}
    assert [n.method for n in notes.of("originate")] == ["GET", "POST"]
    assert any("/token/•••/scopes/check" in note.url for note in notes.taken)


async def test_a_3cx_s(clock: ManualClock) -> None:
    notes, pbx = Notes(), threecx.Exchange()
    await pbx.start()
    try:
        async with made(threecx.settings_of(pbx), notes, clock) as adapter:
            await everything(adapter, "101", None)
    finally:
        await pbx.stop()

    tokens = [f"token-{number + 1}" for number in range(pbx.tokens)]
    assert notes.leaked([threecx.KEY, *tokens]) == []
    assert operations(notes) >= {"session", "originate", "hangup", "check"}
    assert one(notes, "originate").url.endswith("/callcontrol/101/makecall")
    # Opened in the check; a status of HTTP is told for a WebSocket, too.
    assert 101 in {note.status for note in notes.of("check")}


async def test_a_uis_account_s(clock: ManualClock) -> None:
    """The token is in every body, and the account may repeat it."""
    notes = Notes()
    async with uis.an_account() as account:
        account.methods["release.call"] = lambda _: uis.error(
            -32003, "forbidden", f"{uis.TOKEN} may not"
        )
        account.methods["get.call_legs_report"] = lambda _: uis.result([])
        async with made(uis.settings(account.port), notes, clock) as adapter:
            await everything(adapter, "101", "25")

    assert notes.leaked([uis.TOKEN]) == []
    assert operations(notes) >= {"originate", "set_status", "hangup", "report", "check"}
    assert json.loads(one(notes, "originate").request or "")["method"] == "start.employee_call"
    assert notes.of("hangup")[0].error == "forbidden: ••• may not"
    # Where recordings are heard is told by the settings; the file was asked for, in vain.
    assert all(note.tenant == "acme" and note.side is AskedSide.PBX for note in notes.taken)


async def test_a_wrong_token_is_noted_as_wrong_and_not_told(clock: ManualClock) -> None:
    """The account says: Access token … is invalid."""
    notes, wrong = Notes(Detail.FAILED), "a-wrong-key-of-nobody"
    async with uis.an_account() as account:
        settings = uis.settings(account.port, access_token=SecretStr(wrong))
        async with made(settings, notes, clock) as adapter:
            await everything(adapter, "101", "25")

    assert notes.leaked([wrong]) == []
    assert "access_token_invalid: Access token ••• is invalid" in {n.error for n in notes.taken}


@asynccontextmanager
async def a_shelf(answer: Callable[[web.Request], web.Response]) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.Response:
        return answer(request)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_a_recording_s_server_s(clock: ManualClock) -> None:
    """A redirect leads to an address that is good by itself: for nobody who reads the log."""
    notes, box = Notes(), SecretBox([new_key()])

    def answer(request: web.Request) -> web.Response:
        if request.path.startswith("/store"):
            return web.Response(body=b"sound", headers={"Content-Type": "audio/wav"})
        signed = "/store/a.wav?X-Amz-Signature=canary-of-amz&X-Amz-Security-Token=canary-token"
        return web.Response(status=302, headers={"Location": signed})

    async with a_shelf(answer) as url, HttpClient(LOOPBACK) as http:
        said = HttpOfPbx(
            kind="http",
            url=f"{url}/files/{{{{.Recording}}}}",
            username="pbx",
            password=box.seal(SecretStr("canary-password")),
            headers={"X-Shelf": box.seal(SecretStr("canary-header"))},
        )
        site = Site.model_validate(
            {
                "tenant": "acme",
                "pbx": [
                    {
                        "name": "main",
                        "kind": "generic",
                        "fetch_recordings": said.model_dump(mode="json"),
                    }
                ],
            }
        )
        adapters = Adapters(secrets=box, http=http, clock=clock, metrics=Metrics(), notes=notes)
        recordings: Any = adapters.recordings(site, site.pbx[0])
        async with recordings.fetch("a.wav") as pieces:
            assert [piece async for piece in pieces] == [b"sound"]

    planted = ["canary-password", "pbx:canary-password", "canary-header", "canary-of-amz"]
    assert notes.leaked([*planted, "canary-token"]) == []
    assert [(note.operation, note.status) for note in notes.taken] == [
        ("recording", 302),
        ("recording", 200),
    ]


# -- by a protocol of its own ----------------------------------------------------------------------


async def test_an_asterisk_s(clock: ManualClock) -> None:
    """The login is no order; what an order was given with is kept, whatever came of it."""
    notes = Notes(Detail.ALL)
    exchange = asterisk.Exchange(
        clock.now(),
        {
            "QueueStatus": asterisk.members(*asterisk.IN_TWO_QUEUES),
            "CoreShowChannels": asterisk.channels(
                asterisk.a_channel("PJSIP/101-01", REFERENCE, REFERENCE)
            ),
            "QueuePause": lambda action: [
                asterisk.answered(action, "Message: No such interface", response="Error")
            ],
        },
        hears=False,
    )
    async with asterisk.serving(exchange) as port:
        settings = AsteriskSettings(
            host="127.0.0.1",
            port=port,
            username=USERNAME,
            secret=SecretStr(SECRET),
        )
        async with (
            made(settings, notes, clock) as adapter,
            asterisk.ordering(adapter) as (
                board,
                _,
            ),
        ):
            order = DialRequest(
                reference=REFERENCE,
                extension="101",
                number=NUMBER,
                ring_for=SOON,
                caller_id="+442079460123",
            )
            await board.dial(order, within=SOON)
            with suppress(MeshError):
                await board.set_status(AgentAt("101"), AgentStatus.BREAK, within=SOON)
            await board.hang_up(HangUp(reference=REFERENCE, extension="101"), within=SOON)

    assert notes.leaked([SECRET]) == []
    assert [(note.operation, note.method, note.url.rpartition("/")[2]) for note in notes.taken] == [
        ("originate", "AMI", "Originate"),
        ("set_status", "AMI", "QueueStatus"),
        ("set_status", "AMI", "QueuePause"),
        ("hangup", "AMI", "CoreShowChannels"),
        ("hangup", "AMI", "Hangup"),
    ]
    given = one(notes, "originate").request or ""
    assert "Channel: PJSIP/101\n" in given
    assert "Variable: __CRM_CALLER_ID=+442079460123" in given
    assert [note.error for note in notes.of("set_status")] == [
        None,
        "QueuePause: No such interface",
    ]


async def test_a_freeswitch_s(clock: ManualClock, metrics: Metrics) -> None:
    notes, switch = Notes(Detail.ALL), freeswitch.Switch()
    switch.answers["api callcenter"] = lambda _: [freeswitch.output("-ERR Agent not found!")]
    switch.answers["api uuid_kill"] = lambda _: [freeswitch.output("+OK\n")]
    async with freeswitch.serving(switch) as port:
        settings = FreeSwitchSettings(
            host="127.0.0.1", port=port, password=SecretStr(freeswitch.PASSWORD)
        )
        async with made(settings, notes, clock) as adapter:
            board = freeswitch.switchboard_of(adapter)
            async with freeswitch.running(board.run(freeswitch.Refusals().take)):
                await eventually(lambda: board.fault is None)
                order = DialRequest(
                    reference=REFERENCE, extension="101", number=NUMBER, ring_for=SOON
                )
                await board.dial(order, within=SOON)
                with suppress(MeshError):
                    await board.set_status(AgentAt("101"), AgentStatus.BREAK, within=SOON)
                await board.hang_up(HangUp(reference=REFERENCE, extension="101"), within=SOON)

    assert notes.leaked([freeswitch.PASSWORD]) == []
    assert [(note.operation, note.url.partition("127.0.0.1/")[2]) for note in notes.taken] == [
        ("originate", "bgapi/originate"),
        ("set_status", "api/callcenter_config"),
        ("hangup", "api/show"),
        ("hangup", "api/uuid_kill"),
    ]
    assert NUMBER in (one(notes, "originate").request or "")
    assert one(notes, "set_status").error == "api: -ERR Agent not found!"


def test_an_order_that_cannot_be_noted_is_given_all_the_same(clock: ManualClock) -> None:
    """It is noted within the order, whose outcome this would be."""
    notes = Notes(Detail.ALL)
    pbx = PbxNotes(
        tenant="acme", pbx="main", host="pbx.example", secrets=[], notes=notes, clock=clock
    )
    for text in ("Reason: half of a \ud800", "Reason: dinner"):
        with ordering(pbx.ordered, protocol="AMI", name="QueuePause", text=text, clock=clock):
            pass
    assert [note.request for note in notes.taken] == ["Reason: dinner"]


async def test_nothing_is_noted_where_the_log_is_off(clock: ManualClock) -> None:
    notes = Notes(Detail.OFF)
    async with (
        uis.an_account() as account,
        made(uis.settings(account.port), notes, clock) as adapter,
    ):
        await everything(adapter, "101", "25")

    assert notes.taken == []
    assert account.asked


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()
