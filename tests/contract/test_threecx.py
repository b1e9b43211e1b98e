"""A 3CX connection against a server of ours that speaks its Call Control API."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from pydantic import SecretStr
from structlog.testing import capture_logs

from shared.clock import Clock, ManualClock, SystemClock
from shared.contracts.agents import AgentStatus
from shared.contracts.calls import CallAnswered, CallEnded, CallRinging, EndKnown, PbxResynced
from shared.contracts.dialing import DialReason
from shared.errors import Rejected, Unavailable
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.pbx.intake import Inbox, Intake
from shared.pbx.port import AgentAt, DialRequest, Finding, HangUp, PbxAdapter, Phones, Sighting
from shared.pbx.threecx.adapter import ThreeCxSettings, threecx_adapter
from shared.pbx.threecx.reader import ThreeCxReader
from shared.testing.servers import free_port
from shared.testing.waiting import eventually
from tests.contract.told_kit import Watch, watching

KEY = "the-api-key-of-acme"
SOON = timedelta(seconds=5)
LOOPBACK = AddressGuard(networks("127.0.0.0/8", setting="X"))
JANE = {
    "id": 22,
    "status": "Ringing",
    "dn": "101",
    "party_caller_name": "Jane Customer",
    "party_dn": "10000",
    "party_caller_id": "447700900123",
    "party_did": "",
    "party_dn_type": "Wexternalline",
    "callid": 15,
    "legid": 2,
}
MADE = {
    "finalstatus": "Success",
    "reason": "NotSpecified",
    "result": {"id": 78, "status": "Dialing", "dn": "101", "callid": 26, "legid": 1},
    "reasontext": "Dialing",
}


class _Refusal(web.HTTPException):
    def __init__(self, status: int) -> None:
        self.status_code = status
        super().__init__(text=json.dumps({"message": "not\ntoday"}))


class Exchange:
    """A small 3CX. One token is good at a time, as a new one ends the one before."""

    def __init__(self) -> None:
        self.types = {"101": "Wextension", "102": "Wextension", "callmesh": "Wroutepoint"}
        self.participants: dict[tuple[str, int], dict[str, Any]] = {}
        self.sockets: list[web.WebSocketResponse] = []
        self.asked: list[str] = []
        self.ordered: list[tuple[str, Any]] = []
        self.tokens = 0
        self.status: dict[str, int] = {}
        self.made: bytes = json.dumps(MADE).encode()
        self.dropped: bytes = b'{"finalstatus": "Success"}'
        self.date: str | None = None
        self.port = free_port()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/connect/token", self._token)
        app.router.add_get("/callcontrol", self._state)
        app.router.add_get("/callcontrol/ws", self._events)
        app.router.add_get("/callcontrol/{dn}/participants/{id}", self._participant)
        app.router.add_post("/callcontrol/{dn}/makecall", self._make_call)
        app.router.add_post("/callcontrol/{dn}/participants/{id}/drop", self._drop)
        app.on_response_prepare.append(self._dated)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def upsert(self, participant: dict[str, Any], *, told: bool = True) -> None:
        self.participants[participant["dn"], participant["id"]] = participant
        if told:
            await self.tell(0, participant)

    async def remove(self, participant: dict[str, Any], *, told: bool = True) -> None:
        self.participants.pop((participant["dn"], participant["id"]), None)
        if told:
            await self.tell(1, participant)

    async def tell(self, event_type: int, participant: dict[str, Any]) -> None:
        entity = f"/callcontrol/{participant['dn']}/participants/{participant['id']}"
        event = {"event_type": event_type, "entity": entity, "attached_data": None}
        await self.send(json.dumps({"sequence": 7, "event": event}))

    async def send(self, text: str) -> None:
        for socket in self.sockets:
            await socket.send_str(text)

    async def break_off(self) -> None:
        for socket in list(self.sockets):
            await socket.close()

    async def _dated(self, _: web.Request, response: web.StreamResponse) -> None:
        if self.date is not None:
            response.headers["Date"] = self.date

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.asked.append("token")
        if form != {
            "client_id": "callmesh",
            "client_secret": KEY,
            "grant_type": "client_credentials",
        }:
            raise web.HTTPUnauthorized
        self.tokens += 1
        body = {"token_type": "Bearer", "expires_in": 60, "access_token": f"token-{self.tokens}"}
        return web.json_response(body)

    def _check(self, request: web.Request, what: str) -> None:
        self.asked.append(what)
        if request.headers.get("Authorization") != f"Bearer token-{self.tokens}":
            raise web.HTTPUnauthorized
        if (status := self.status.get(what)) is not None:
            raise _Refusal(status)

    async def _state(self, request: web.Request) -> web.Response:
        self._check(request, "state")
        state = [
            {
                "dn": dn,
                "type": kind,
                "devices": [],
                "participants": [one for one in self.participants.values() if one["dn"] == dn],
            }
            for dn, kind in self.types.items()
        ]
        return web.json_response(state)

    async def _participant(self, request: web.Request) -> web.Response:
        self._check(request, "participant")
        key = request.match_info["dn"], int(request.match_info["id"])
        if key not in self.participants:
            raise web.HTTPNotFound
        return web.json_response(self.participants[key])

    async def _events(self, request: web.Request) -> web.WebSocketResponse:
        self._check(request, "ws")
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        try:
            async for message in socket:
                assert message.type is WSMsgType.TEXT
        finally:
            self.sockets.remove(socket)
        return socket

    async def _drop(self, request: web.Request) -> web.Response:
        self._check(request, f"drop {request.match_info['dn']}")
        await request.json()
        key = request.match_info["dn"], int(request.match_info["id"])
        if key not in self.participants:
            raise web.HTTPNotFound
        # Who is left alone is hung up as well.
        call = self.participants[key]["callid"]
        for other in [k for k, one in self.participants.items() if one["callid"] == call]:
            del self.participants[other]
        return web.Response(body=self.dropped)

    async def _make_call(self, request: web.Request) -> web.Response:
        self._check(request, "makecall")
        self.ordered.append((request.match_info["dn"], await request.json()))
        return web.Response(body=self.made)


@pytest.fixture
async def pbx() -> AsyncIterator[Exchange]:
    found = Exchange()
    await found.start()
    yield found
    await found.stop()


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient(LOOPBACK) as client:
        yield client


def settings_of(pbx: Exchange, **changes: Any) -> ThreeCxSettings:
    known: dict[str, Any] = {
        "url": f"http://127.0.0.1:{pbx.port}",
        "client_id": "callmesh",
        "client_secret": SecretStr(KEY),
    }
    return ThreeCxSettings(**(known | changes))


def adapter_of(
    settings: ThreeCxSettings,
    http: HttpClient,
    metrics: Metrics | None = None,
    clock: Clock | None = None,
) -> PbxAdapter:
    return threecx_adapter(
        settings,
        tenant="acme",
        pbx="main",
        http=http,
        clock=clock or SystemClock(),
        metrics=metrics or Metrics(),
    )


def reading(
    settings: ThreeCxSettings,
    http: HttpClient,
    metrics: Metrics | None = None,
    clock: Clock | None = None,
) -> AbstractAsyncContextManager[Watch]:
    return watching(adapter_of(settings, http, metrics, clock))


async def findings(settings: ThreeCxSettings, http: HttpClient) -> dict[str, str | None]:
    found: list[Finding] = [one async for one in adapter_of(settings, http).check()]
    return {one.what: one.fault for one in found}


# -- events ----------------------------------------------------------------------------------------


async def test_an_event_is_asked_for_and_becomes_a_pop(pbx: Exchange, http: HttpClient) -> None:
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: watch.source.connected)
        await pbx.upsert(JANE)
        await eventually(lambda: bool(watch.told(CallRinging)))
        await pbx.upsert(JANE | {"status": "Connected"})
        await eventually(lambda: bool(watch.told(CallAnswered)))
        await pbx.remove(JANE)
        await eventually(lambda: bool(watch.told(CallEnded)))

    assert [one.callee.extension for one in watch.told(CallAnswered)] == ["101"]
    assert [one.known for one in watch.told(CallEnded)] == [EndKnown.SEEN]


async def test_what_is_kept_can_be_read_again(pbx: Exchange, http: HttpClient) -> None:
    clock = SystemClock()
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: watch.source.connected)
        await pbx.upsert(JANE)
        await eventually(lambda: bool(watch.told(CallRinging)))

    again = ThreeCxReader(tenant="acme", pbx="main")
    found = [one for record in watch.kept for one in again.read(record, now=clock.now())]
    assert found == watch.seen


async def test_an_event_whose_participant_is_gone_by_then_ends_it(
    pbx: Exchange, http: HttpClient
) -> None:
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: watch.source.connected)
        await pbx.upsert(JANE | {"status": "Connected"})
        await eventually(lambda: bool(watch.told(CallAnswered)))
        await pbx.remove(JANE, told=False)
        await pbx.tell(0, JANE)
        await eventually(lambda: bool(watch.told(CallEnded)))


async def test_a_build_that_sends_the_participant_along_is_believed(
    pbx: Exchange, http: HttpClient
) -> None:
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: watch.source.connected)
        entity = "/callcontrol/101/participants/22"
        event = {"event_type": 0, "entity": entity, "attached_data": JANE}
        await pbx.send(json.dumps({"sequence": 7, "event": event}))
        await eventually(lambda: bool(watch.told(CallRinging)))

    assert "participant" not in pbx.asked


async def test_calls_that_go_on_and_that_ended_meanwhile_are_found_after_a_loss(
    pbx: Exchange, http: HttpClient
) -> None:
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: watch.source.connected)
        await pbx.upsert(JANE | {"status": "Connected"})
        await eventually(lambda: bool(watch.told(CallAnswered)))
        await pbx.break_off()
        await pbx.remove(JANE, told=False)
        await pbx.upsert(JANE | {"id": 23, "dn": "102", "callid": 16}, told=False)
        await eventually(lambda: bool(watch.told(CallEnded)) and bool(watch.told(CallRinging)))
        await eventually(lambda: watch.source.connected)

    assert [one.known for one in watch.told(CallEnded)] == [EndKnown.RESYNC]
    assert [one.callee.extension for one in watch.told(CallRinging)] == ["102"]
    first, second = watch.told(PbxResynced)
    assert first.live == ()
    assert [name.split("-")[1] for name in second.live] == ["16"]


async def test_a_3cx_that_is_away_is_tried_again(pbx: Exchange, http: HttpClient) -> None:
    await pbx.stop()
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: "no connection" in (watch.source.fault or ""))
        await pbx.start()
        await eventually(lambda: watch.source.connected)

    assert watch.source.fault is None


async def test_a_refused_login_is_final(pbx: Exchange, http: HttpClient) -> None:
    wrong = settings_of(pbx, client_secret=SecretStr("wrong"))
    clock = ManualClock()
    async with reading(wrong, http, clock=clock) as watch:
        await eventually(lambda: "refuses client_id" in (watch.source.fault or ""))
        await clock.advance(timedelta(minutes=5))

    assert pbx.asked == ["token"]
    assert "Integrations > API" in (watch.source.fault or "")


async def test_a_token_that_another_took_away_is_replaced(pbx: Exchange, http: HttpClient) -> None:
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: watch.source.connected)
        pbx.tokens += 1
        await pbx.upsert(JANE)
        await eventually(lambda: bool(watch.told(CallRinging)))

    assert watch.source.connected


async def test_a_3cx_that_asks_to_slow_down_is_asked_for_the_state_later(
    pbx: Exchange, http: HttpClient
) -> None:
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: watch.source.connected)
        pbx.status["participant"] = 429
        await pbx.upsert(JANE)
        await eventually(lambda: bool(watch.told(CallRinging)))

    assert pbx.asked.count("state") == 2


async def test_garbage_is_counted_and_read_past(pbx: Exchange, http: HttpClient) -> None:
    metrics = Metrics()

    def counted(outcome: str) -> float:
        labels = {"kind": "threecx", "outcome": outcome}
        return metrics.registry.get_sample_value("callmesh_pbx_events_total", labels) or 0

    async with reading(settings_of(pbx), http, metrics) as watch:
        await eventually(lambda: watch.source.connected)
        for text in ("{", "[]", '{"event": 7}'):
            await pbx.send(text)
        await pbx.send('{"event": {"event_type": 2, "entity": "/callcontrol/101/participants/22"}}')
        await pbx.send('{"event": {"event_type": 0, "entity": "/callcontrol/101"}}')
        await pbx.send('{"event": {"event_type": [], "entity": "/callcontrol/101/participants/1"}}')
        await pbx.upsert(JANE | {"callid": "none"})
        await eventually(lambda: counted("garbage") == 4)
        await pbx.upsert(JANE)
        await eventually(lambda: bool(watch.told(CallRinging)))

    assert (counted("garbage"), counted("ignored")) == (4, 3)
    assert pbx.asked.count("ws") == 1


async def test_what_does_not_fit_is_dropped_and_the_state_asked_for(
    pbx: Exchange, http: HttpClient
) -> None:
    async def see(_: Sequence[Sighting]) -> None: ...

    intake = Intake(
        "threecx",
        ThreeCxReader(tenant="acme", pbx="main"),
        see,
        lambda _: None,
        clock=SystemClock(),
        metrics=Metrics(),
    )
    inbox = Inbox(intake, most=2)
    make = adapter_of(settings_of(pbx), http).source
    assert make is not None
    source: Any = make()
    async with source._api.events() as socket:
        filling = asyncio.create_task(inbox.fill(socket))
        await eventually(lambda: bool(pbx.sockets))
        for _ in range(5):
            await pbx.send("{}")
        await eventually(lambda: inbox._dropped == 3)

        assert not inbox.has_lost()  # what came before is read first
        assert [await inbox.next(), await inbox.next()] == ["{}", "{}"]
        assert inbox.has_lost()
        assert not inbox.has_lost()
        filling.cancel()
        with suppress(asyncio.CancelledError):
            await filling


async def test_no_secret_is_in_a_log_or_a_fault(pbx: Exchange, http: HttpClient) -> None:
    with capture_logs() as logs:
        async with reading(settings_of(pbx), http) as watch:
            await eventually(lambda: watch.source.connected)
            await pbx.send("{")
            await pbx.stop()
            await eventually(lambda: "no connection" in (watch.source.fault or ""))

    said = f"{logs} {watch.source.fault} {settings_of(pbx)!r}"
    assert KEY not in said
    assert "token-" not in said
    assert any(line["event"] == "pbx_away" for line in logs)


async def test_the_key_does_not_go_without_tls(http: HttpClient) -> None:
    outside = ThreeCxSettings(
        url="http://pbx.example.com", client_id="callmesh", client_secret=SecretStr(KEY)
    )

    found = await findings(outside, http)

    assert "https://pbx.example.com" in (found["login at 3CX pbx.example.com"] or "")


# -- orders ----------------------------------------------------------------------------------------

ORDER = DialRequest(
    reference="d1", extension="101", number="+447700900777", ring_for=timedelta(seconds=15)
)


async def dialled(pbx: Exchange, http: HttpClient, order: DialRequest = ORDER) -> str | None:
    make = adapter_of(settings_of(pbx), http).switchboard
    assert make is not None
    return (await make().dial(order, within=SOON)).pbx_call_id


async def test_an_order_goes_to_the_extension_and_knows_its_call(
    pbx: Exchange, http: HttpClient
) -> None:
    before = SystemClock().now()
    name = await dialled(pbx, http)

    assert pbx.ordered == [("101", {"destination": "+447700900777"})]
    days = {f"{day:%Y%m%d}" for day in (before, SystemClock().now())}
    assert name in {f"{day}-26-0777" for day in days}


@pytest.mark.parametrize("final", ["Failed", "Rejected", 0, -1])
async def test_an_order_that_3cx_does_not_carry_out_is_rejected_with_its_words(
    pbx: Exchange, http: HttpClient, final: object
) -> None:
    answer = {"finalstatus": final, "reason": "NoTarget", "reasontext": "no\nphone is there"}
    pbx.made = json.dumps(answer).encode()

    with pytest.raises(Rejected, match="no phone is there"):
        await dialled(pbx, http)


@pytest.mark.parametrize(
    "made", [b"", b"{", b"[]", b'{"finalstatus": 1, "result": {"callid": "x"}}']
)
async def test_an_answer_that_cannot_be_read_is_no_refusal(
    pbx: Exchange, http: HttpClient, made: bytes
) -> None:
    pbx.made = made

    assert await dialled(pbx, http) is None
    assert len(pbx.ordered) == 1


@pytest.mark.parametrize(
    ("status", "words"),
    [(403, "Call Control API Access"), (404, "extension 101"), (422, "not today")],
)
async def test_a_refusal_says_what_to_change(
    pbx: Exchange, http: HttpClient, status: int, words: str
) -> None:
    pbx.status["makecall"] = status

    with pytest.raises(Rejected, match=words):
        await dialled(pbx, http)


async def test_an_order_is_not_sent_again_when_nobody_knows(
    pbx: Exchange, http: HttpClient
) -> None:
    pbx.status["makecall"] = 502

    with pytest.raises(Unavailable) as caught:
        await dialled(pbx, http)

    assert caught.value.details["sent"] is True
    assert pbx.asked.count("makecall") == 1


async def test_an_order_without_a_login_was_not_sent(pbx: Exchange, http: HttpClient) -> None:
    await pbx.stop()

    with pytest.raises(Unavailable) as caught:
        await dialled(pbx, http)

    assert caught.value.details["sent"] is False


async def test_an_extension_is_no_path(pbx: Exchange, http: HttpClient) -> None:
    with pytest.raises(Rejected, match="part of an address"):
        await dialled(
            pbx,
            http,
            DialRequest(reference="d", extension="..", number="1234", ring_for=SOON),
        )

    assert "makecall" not in pbx.asked


async def test_the_switchboard_is_ready_once_the_login_holds(
    pbx: Exchange, http: HttpClient
) -> None:
    make = adapter_of(settings_of(pbx), http).switchboard
    assert make is not None
    board = make()
    assert board.fault is not None

    async def refused(_: str, __: DialReason) -> None: ...

    task = asyncio.create_task(board.run(refused))
    await eventually(lambda: board.fault is None)
    with pytest.raises(Rejected, match="sets no status"):
        await board.set_status(AgentAt("101"), AgentStatus.BREAK, within=SOON)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


# -- cancelling ------------------------------------------------------------------------------------

NAME = "20261019-26-0777"
CLICK = HangUp(reference="d1", extension="101", pbx_call_id=NAME)


def in_call(dn: str, number: int, call: int = 26, party: str = "+447700900777") -> dict[str, Any]:
    return {
        "id": number,
        "status": "Connected",
        "dn": dn,
        "callid": call,
        "legid": 1,
        "party_caller_id": party,
        "party_dn_type": "Wexternalline",
        "party_dn": "10000",
    }


async def hung_up(pbx: Exchange, http: HttpClient, call: HangUp = CLICK) -> list[str]:
    """Whose end was dropped."""
    make = adapter_of(settings_of(pbx), http).switchboard
    assert make is not None
    await make().hang_up(call, within=SOON)
    return [what for what in pbx.asked if what.startswith("drop")]


async def test_the_agent_s_end_of_the_call_is_dropped_and_no_other_call(
    pbx: Exchange, http: HttpClient
) -> None:
    for one in (in_call("102", 5, call=27), in_call("101", 78), in_call("101", 79, call=28)):
        await pbx.upsert(one, told=False)

    assert await hung_up(pbx, http) == ["drop 101"]
    assert set(pbx.participants) == {("102", 5), ("101", 79)}


async def test_a_call_that_was_passed_on_is_dropped_where_it_is(
    pbx: Exchange, http: HttpClient
) -> None:
    await pbx.upsert(in_call("102", 80), told=False)

    assert await hung_up(pbx, http) == ["drop 102"]


async def test_what_goes_with_the_agent_s_end_is_no_fault(pbx: Exchange, http: HttpClient) -> None:
    """Not even where 3CX lets this client drop it no longer."""
    pbx.status["drop 102"] = 403
    await pbx.upsert(in_call("102", 80), told=False)
    await pbx.upsert(in_call("101", 78), told=False)

    assert await hung_up(pbx, http) == ["drop 101", "drop 102"]


async def test_a_number_that_was_given_anew_after_a_restart_is_another_call(
    pbx: Exchange, http: HttpClient
) -> None:
    await pbx.upsert(in_call("101", 1, party="447700900123"), told=False)

    assert await hung_up(pbx, http) == []


@pytest.mark.parametrize("words", [b"", b"<html>"])
async def test_a_drop_is_done_whatever_is_said_of_it(
    pbx: Exchange, http: HttpClient, words: bytes
) -> None:
    pbx.dropped = words
    await pbx.upsert(in_call("101", 78), told=False)

    assert await hung_up(pbx, http) == ["drop 101"]


async def test_a_call_that_cannot_be_ended_says_why(pbx: Exchange, http: HttpClient) -> None:
    pbx.status["drop 101"] = 403
    await pbx.upsert(in_call("101", 78), told=False)
    with pytest.raises(Rejected, match="Call Control API Access"):
        await hung_up(pbx, http)
    with pytest.raises(Rejected, match="end it at the phone"):
        await hung_up(pbx, http, HangUp(reference="d1", extension="101"))
    pbx.status["state"] = 404
    with pytest.raises(Rejected, match="404"):
        await hung_up(pbx, http)


# -- the doctor ------------------------------------------------------------------------------------


async def test_the_doctor_finds_nothing_where_all_is_well(pbx: Exchange, http: HttpClient) -> None:
    assert await findings(settings_of(pbx), http) == {
        "login at 3CX 127.0.0.1": None,
        "calls of the extensions": None,
        "events over the WebSocket": None,
        "clock": None,
    }


async def test_the_doctor_says_what_to_change_at_the_login(pbx: Exchange, http: HttpClient) -> None:
    found = await findings(settings_of(pbx, client_id="other"), http)

    assert list(found) == ["login at 3CX 127.0.0.1"]
    assert "Client ID and API key" in (found["login at 3CX 127.0.0.1"] or "")


@pytest.mark.parametrize(
    ("place", "what"),
    [("state", "calls of the extensions"), ("ws", "events over the WebSocket")],
)
async def test_the_doctor_says_which_permission_lacks(
    pbx: Exchange, http: HttpClient, place: str, what: str
) -> None:
    pbx.status[place] = 403

    found = await findings(settings_of(pbx), http)

    assert "Call Control API Access" in (found[what] or "")


async def test_the_doctor_misses_the_extensions(pbx: Exchange, http: HttpClient) -> None:
    pbx.types = {"callmesh": "Wroutepoint"}

    found = await findings(settings_of(pbx), http)

    assert "list the extensions" in (found["calls of the extensions"] or "")


async def test_the_doctor_names_agents_that_3cx_does_not_show(
    pbx: Exchange, http: HttpClient
) -> None:
    adapter = threecx_adapter(
        settings_of(pbx),
        tenant="acme",
        pbx="main",
        http=http,
        clock=SystemClock(),
        metrics=Metrics(),
        phones=Phones(extensions=frozenset({"101", "104"})),
    )

    faults = [one.fault async for one in adapter.check() if one.fault]

    assert len(faults) == 1
    assert "does not show 104:" in faults[0]


async def test_the_doctor_compares_the_clocks(pbx: Exchange, http: HttpClient) -> None:
    pbx.date = "Wed, 05 Aug 2026 10:00:00 GMT"

    found = await findings(settings_of(pbx), http)

    assert "NTP" in (found["clock"] or "")


async def test_the_doctor_finds_nobody_there(pbx: Exchange, http: HttpClient) -> None:
    await pbx.stop()

    found = await findings(settings_of(pbx), http)

    assert "no connection" in (found["login at 3CX 127.0.0.1"] or "")
