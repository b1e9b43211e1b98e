"""A Wazo connection against a server of ours that speaks its REST APIs and its WebSocket."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr
from structlog.testing import capture_logs

from shared.clock import Clock, ManualClock, SystemClock
from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.calls import CallAnswered, CallEnded, CallRinging, EndKnown, PbxResynced
from shared.errors import Rejected, Unavailable
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard, networks
from shared.observe.metrics import Metrics
from shared.pbx.port import (
    AgentAt,
    DialRequest,
    HangUp,
    PbxAdapter,
    Phones,
    Switchboard,
)
from shared.pbx.wazo.adapter import WazoSettings, wazo_adapter
from shared.pbx.wazo.reader import WazoReader
from shared.testing.servers import free_port
from shared.testing.waiting import eventually
from tests.contract.told_kit import Watch, watching

PASSWORD = "the-password-of-acme"
SOON = timedelta(seconds=5)
LOOPBACK = AddressGuard(networks("127.0.0.0/8", setting="X"))
ANNA = "71710101-0000-4000-8000-000000000101"
TENANT = "5f5f0000-0000-4000-8000-00000000acfe"
PHONES = Phones(extensions=frozenset({"101"}), users={ANNA: "101"})
JANE: dict[str, Any] = {
    "call_id": "1785924001.42",
    "conversation_id": "1785924000.41",
    "user_uuid": ANNA,
    "is_caller": False,
    "status": "Ringing",
    "direction": "inbound",
    "caller_id_number": "101",
    "peer_caller_id_name": "Jane Customer",
    "peer_caller_id_number": "447700900123",
    "dialed_extension": "442079460000",
    "sip_call_id": "sip-42",
    "talking_to": {},
}


class _Refusal(web.HTTPException):
    def __init__(self, status: int) -> None:
        self.status_code = status
        super().__init__(text=json.dumps({"message": "not\ntoday", "error_id": "no"}))


class Exchange:
    """A small Wazo: auth, websocketd, calld, agentd and confd behind one address."""

    def __init__(self) -> None:
        self.tokens = 0
        self.gives_tokens = True
        self.refused_tokens = 0
        self.good: set[str] = set()
        self.metadata: dict[str, Any] = {"purpose": "external_api", "tenant_uuid": TENANT}
        self.lacking: set[str] = set()
        self.calls: list[dict[str, Any]] = []
        self.agents: Any = {
            "items": [
                {"id": 1, "number": "9001", "extension": "101", "logged": True},
                {"id": 2, "number": "102", "extension": None, "logged": False},
            ]
        }
        self.asked: list[tuple[str, Any]] = []
        self.headers: dict[str, str] = {}
        self.operations: list[dict[str, Any]] = []
        self.status: dict[str, int] = {}
        self.greets = True
        self.sockets: list[web.WebSocketResponse] = []
        self.port = free_port()
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/api/auth/0.1/token", self._token)
        app.router.add_get("/api/websocketd/", self._events)
        app.router.add_route("*", "/api/{path:.*}", self._answer)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def tell(self, name: str, data: dict[str, Any]) -> None:
        envelope = {"name": name, "tenant_uuid": TENANT, "data": data}
        await self.send(json.dumps({"op": "event", "code": 0, "data": envelope}))

    async def send(self, text: str) -> None:
        for socket in self.sockets:
            await socket.send_str(text)

    async def break_off(self) -> None:
        for socket in list(self.sockets):
            await socket.close(code=1011)

    @property
    def subscribed(self) -> set[str]:
        return {op["data"]["event_name"] for op in self.operations if op["op"] == "subscribe"}

    async def _token(self, request: web.Request) -> web.Response:
        login = base64.b64encode(f"callmesh:{PASSWORD}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {login}":
            raise web.HTTPUnauthorized
        if not self.gives_tokens:
            self.refused_tokens += 1
            raise web.HTTPServiceUnavailable
        self.tokens += 1
        token = f"token-{self.tokens}"
        self.good.add(token)
        return web.json_response({"data": {"token": token, "metadata": self.metadata}})

    def _check(self, request: web.Request) -> None:
        if request.headers.get("X-Auth-Token") not in self.good:
            raise web.HTTPUnauthorized

    async def _events(self, request: web.Request) -> web.WebSocketResponse:
        assert request.query_string == "version=2"
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        if request.headers.get("X-Auth-Token") not in self.good:
            await socket.close(code=4002)
            return socket
        if self.greets:
            await socket.send_str('{"op": "init", "code": 0, "data": {"version": 2}}')
        self.sockets.append(socket)
        try:
            async for message in socket:
                self.operations.append(json.loads(message.data))
                await socket.send_str(json.dumps({"op": self.operations[-1]["op"], "code": 0}))
        finally:
            self.sockets.remove(socket)
        return socket

    async def _answer(self, request: web.Request) -> web.Response:
        self._check(request)
        path, self.headers = request.match_info["path"], dict(request.headers)
        body: Any = await request.json() if request.can_read_body else None
        if path.endswith("scopes/check"):
            found = [{scope: scope not in self.lacking} for scope in body["scopes"]]
            return web.json_response({"scopes": found})
        self.asked.append((f"{request.method} {path}", body))
        if (status := self.status.get(f"{request.method} {path}")) is not None:
            raise _Refusal(status)
        if request.method == "POST" and path.startswith("agentd"):
            return web.Response(status=204)
        if request.method == "DELETE" and path.startswith("calld"):
            there = [one for one in self.calls if path.endswith(f"/{one['call_id']}")]
            if not there:
                raise _Refusal(404)
            # Who is left alone is hung up as well.
            self.calls = [] if len(self.calls) < 3 else self.calls[1:]
            return web.Response(status=204)
        answers: dict[str, Any] = {
            "GET calld/1.0/calls": {"items": self.calls},
            "POST calld/1.0/calls": {
                "call_id": "1785924300.80",
                "conversation_id": "1785924300.80",
            },
            "GET agentd/1.0/agents": self.agents,
            f"GET confd/1.1/users/{ANNA}": {
                "lines": [{"id": 1, "extensions": [{"exten": "101", "context": "ctx-acme"}]}]
            },
        }
        answer = answers.get(f"{request.method} {path}")
        if answer is None:
            raise _Refusal(404)
        return web.json_response(answer, status=201 if request.method == "POST" else 200)


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


def settings_of(pbx: Exchange, **changes: Any) -> WazoSettings:
    known: dict[str, Any] = {
        "url": f"http://127.0.0.1:{pbx.port}",
        "username": "callmesh",
        "password": SecretStr(PASSWORD),
    }
    return WazoSettings(**(known | changes))


def adapter_of(settings: WazoSettings, http: HttpClient, clock: Clock | None = None) -> PbxAdapter:
    return wazo_adapter(
        settings,
        tenant="acme",
        pbx="main",
        http=http,
        clock=clock or SystemClock(),
        metrics=Metrics(),
    )


def reading(
    settings: WazoSettings, http: HttpClient, clock: Clock | None = None
) -> AbstractAsyncContextManager[Watch]:
    return watching(adapter_of(settings, http, clock), PHONES)


async def findings(settings: WazoSettings, http: HttpClient) -> dict[str, str | None]:
    return {one.what: one.fault async for one in adapter_of(settings, http).check()}


# -- events ----------------------------------------------------------------------------------------


async def test_events_that_were_asked_for_become_a_pop(pbx: Exchange, http: HttpClient) -> None:
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: watch.source.connected)
        await pbx.tell("call_updated", JANE)
        await pbx.tell("call_answered", JANE | {"status": "Up"})
        await pbx.tell("call_ended", JANE | {"status": "Down", "reason_code": 16})
        await pbx.tell("call_log_created", {"conversation_id": JANE["conversation_id"]})
        await eventually(lambda: bool(watch.told(CallEnded)))

    assert {"call_created", "call_updated", "call_ended", "call_log_created"} <= pbx.subscribed
    assert [op["op"] for op in pbx.operations][-1] == "start"
    assert [one.callee.extension for one in watch.told(CallRinging)] == ["101"]
    assert len(watch.told(CallAnswered)) == 1


async def test_what_is_kept_can_be_read_again(pbx: Exchange, http: HttpClient) -> None:
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: watch.source.connected)
        await pbx.tell("call_updated", JANE)
        await eventually(lambda: bool(watch.told(CallRinging)))

    again = WazoReader(tenant="acme", pbx="main", base="")
    again.know(PHONES)
    now = watch.seen[-1].at
    found = [one.key for record in watch.kept for one in again.read(record, now=now)]
    assert found[1:] == [one.key for one in watch.seen][1:]


async def test_calls_that_go_on_and_that_ended_meanwhile_are_found_after_a_loss(
    pbx: Exchange, http: HttpClient
) -> None:
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: watch.source.connected)
        await pbx.tell("call_updated", JANE | {"status": "Up"})
        await eventually(lambda: bool(watch.told(CallAnswered)))
        pbx.calls = [JANE | {"call_id": "9.2", "conversation_id": "9.1"}]
        await pbx.break_off()
        await eventually(lambda: bool(watch.told(CallEnded)) and bool(watch.told(CallRinging)))

    assert [one.known for one in watch.told(CallEnded)] == [EndKnown.RESYNC]
    assert [one.live for one in watch.told(PbxResynced)] == [(), ("9.1",)]


async def test_a_wazo_that_does_not_list_calls_is_read_all_the_same(
    pbx: Exchange, http: HttpClient
) -> None:
    pbx.status["GET calld/1.0/calls"] = 403
    with capture_logs() as logs:
        async with reading(settings_of(pbx), http) as watch:
            await eventually(lambda: watch.source.connected)

    assert "pbx_resync_refused" in [line["event"] for line in logs]


async def test_a_refused_login_is_final(pbx: Exchange, http: HttpClient) -> None:
    clock = ManualClock()
    async with reading(settings_of(pbx, username="other"), http, clock) as watch:
        await eventually(lambda: "refuses username" in (watch.source.fault or ""))
        await clock.advance(timedelta(minutes=5))

    assert "external_api" in (watch.source.fault or "")
    assert pbx.tokens == 0


async def test_a_websocket_that_does_not_greet_is_a_fault(pbx: Exchange, http: HttpClient) -> None:
    pbx.greets = False
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: bool(pbx.sockets))
        await pbx.send('{"op": "hello"}')
        await eventually(lambda: "does not greet" in (watch.source.fault or ""))


async def test_a_token_that_was_revoked_is_replaced(pbx: Exchange, http: HttpClient) -> None:
    async with reading(settings_of(pbx), http) as watch:
        await eventually(lambda: watch.source.connected)
        pbx.good.clear()
        await pbx.break_off()
        await eventually(lambda: not watch.source.connected)
        await eventually(lambda: watch.source.connected)

    assert pbx.tokens > 1


async def test_the_token_is_renewed_over_the_open_websocket(
    pbx: Exchange, http: HttpClient
) -> None:
    clock = ManualClock()
    async with reading(settings_of(pbx), http, clock) as watch:
        await eventually(lambda: watch.source.connected)
        await eventually(lambda: clock.sleepers == 2)  # the ticks, and the token's
        await clock.advance(timedelta(hours=2))
        await eventually(lambda: pbx.operations[-1]["op"] == "token")

    assert pbx.operations[-1]["data"] == {"token": "token-2"}
    assert len([op for op in pbx.operations if op["op"] == "start"]) == 1


async def test_a_token_that_could_not_be_renewed_at_once_costs_no_event(
    pbx: Exchange, http: HttpClient
) -> None:
    clock = ManualClock()
    async with reading(settings_of(pbx), http, clock) as watch:
        await eventually(lambda: watch.source.connected)
        await eventually(lambda: clock.sleepers == 2)  # the ticks, and the token's
        pbx.gives_tokens = False
        await clock.advance(timedelta(minutes=96))
        await eventually(lambda: pbx.refused_tokens == 1)
        pbx.gives_tokens = True
        await eventually(lambda: clock.sleepers == 2)
        await clock.advance(timedelta(minutes=1))
        await eventually(lambda: pbx.operations[-1]["op"] == "token")

    assert len([op for op in pbx.operations if op["op"] == "start"]) == 1


async def test_no_secret_is_in_a_log_or_a_fault(pbx: Exchange, http: HttpClient) -> None:
    with capture_logs() as logs:
        async with reading(settings_of(pbx), http) as watch:
            await eventually(lambda: watch.source.connected)
            await pbx.send("{")
            await pbx.send('{"op": "subscribe", "code": 1}')
            await pbx.stop()
            await eventually(lambda: "no connection" in (watch.source.fault or ""))
        found = await findings(settings_of(pbx), http)

    said = f"{logs} {watch.source.fault} {settings_of(pbx)!r} {found}"
    assert PASSWORD not in said
    assert "token-" not in said
    events = [line["event"] for line in logs]
    assert {"pbx_event_unreadable", "pbx_refuses", "pbx_away"} <= set(events)


async def test_the_password_does_not_go_without_tls(http: HttpClient) -> None:
    outside = WazoSettings(
        url="http://wazo.example.com", username="callmesh", password=SecretStr(PASSWORD)
    )

    found = await findings(outside, http)

    assert "https://wazo.example.com" in (found["login at Wazo wazo.example.com"] or "")


# -- orders ----------------------------------------------------------------------------------------

ORDER = DialRequest(
    reference="d1", extension="101", number="+447700900777", ring_for=SOON, user=ANNA
)


def a_board(pbx: Exchange, http: HttpClient, **changes: Any) -> Switchboard:
    make = adapter_of(settings_of(pbx, **changes), http).switchboard
    assert make is not None
    return make()


async def test_an_order_dials_in_the_context_of_the_users_line(
    pbx: Exchange, http: HttpClient
) -> None:
    receipt = await a_board(pbx, http, tenant_uuid=TENANT).dial(ORDER, within=SOON)

    assert receipt.pbx_call_id == "1785924300.80"
    assert pbx.asked[-1] == (
        "POST calld/1.0/calls",
        {
            "source": {"user": ANNA},
            "destination": {"extension": "+447700900777", "context": "ctx-acme", "priority": 1},
        },
    )
    assert pbx.headers["Wazo-Tenant"] == TENANT


async def test_a_context_of_the_settings_is_not_asked_for(pbx: Exchange, http: HttpClient) -> None:
    await a_board(pbx, http, context="default").dial(ORDER, within=SOON)

    [(_, body)] = pbx.asked
    assert body["destination"]["context"] == "default"


async def test_an_agent_without_a_user_cannot_click_to_dial(
    pbx: Exchange, http: HttpClient
) -> None:
    order = DialRequest(reference="d1", extension="101", number="1234", ring_for=SOON)

    with pytest.raises(Rejected, match="`pbx_user`"):
        await a_board(pbx, http).dial(order, within=SOON)


@pytest.mark.parametrize(("status", "words"), [(400, "not today"), (403, "ACL"), (401, "ACL")])
async def test_a_refusal_says_what_to_change(
    pbx: Exchange, http: HttpClient, status: int, words: str
) -> None:
    pbx.status["POST calld/1.0/calls"] = status

    with pytest.raises(Rejected, match=words):
        await a_board(pbx, http).dial(ORDER, within=SOON)


async def test_an_order_is_not_sent_again_when_nobody_knows(
    pbx: Exchange, http: HttpClient
) -> None:
    pbx.status["POST calld/1.0/calls"] = 503

    with pytest.raises(Unavailable) as caught:
        await a_board(pbx, http).dial(ORDER, within=SOON)

    assert caught.value.details["sent"] is True
    assert [what for what, _ in pbx.asked].count("POST calld/1.0/calls") == 1


async def test_an_order_whose_context_could_not_be_asked_for_was_not_sent(
    pbx: Exchange, http: HttpClient
) -> None:
    pbx.status[f"GET confd/1.1/users/{ANNA}"] = 503

    with pytest.raises(Unavailable) as caught:
        await a_board(pbx, http).dial(ORDER, within=SOON)

    assert caught.value.details["sent"] is False


async def test_a_user_that_wazo_does_not_know_is_said(pbx: Exchange, http: HttpClient) -> None:
    order = DialRequest(reference="d", extension="101", number="1234", ring_for=SOON, user="nobody")

    with pytest.raises(Rejected, match="no user nobody"):
        await a_board(pbx, http).dial(order, within=SOON)


@pytest.mark.parametrize(
    ("extension", "status", "asked"),
    [
        ("101", AgentStatus.DINNER, ("POST agentd/1.0/agents/by-number/9001/pause", "dinner")),
        ("101", AgentStatus.FREE, ("POST agentd/1.0/agents/by-number/9001/unpause", None)),
        ("102", AgentStatus.OFFLINE, ("POST agentd/1.0/agents/by-number/102/logoff", None)),
    ],
)
async def test_a_status_is_set_at_the_agent_of_the_phone(
    pbx: Exchange, http: HttpClient, extension: str, status: AgentStatus, asked: tuple[str, str]
) -> None:
    await a_board(pbx, http).set_status(AgentAt(extension), status, within=SOON)

    what, body = pbx.asked[-1]
    assert (what, body.get("reason")) == asked


async def test_a_phone_without_an_agent_has_no_status(pbx: Exchange, http: HttpClient) -> None:
    with pytest.raises(Rejected, match="no agent of Wazo"):
        await a_board(pbx, http).set_status(AgentAt("103"), AgentStatus.BREAK, within=SOON)


@pytest.mark.parametrize("own", [None, "smoke", "Coffee", "free", "dinner"])
@pytest.mark.parametrize("status", AgentStatus)
async def test_what_is_set_is_heard_as_it_was_said_it_would_be(
    pbx: Exchange, http: HttpClient, status: AgentStatus, own: str | None
) -> None:
    """A logoff is no pause: it is not heard of."""
    adapter = adapter_of(settings_of(pbx, statuses={AgentStatus.BREAK: "coffee"}), http)
    assert adapter.switchboard is not None
    assert adapter.reader is not None
    board, reader = adapter.switchboard(), adapter.reader()
    reader.know(PHONES)
    await board.set_status(AgentAt("101"), status, own=own, within=SOON)
    what, body = pbx.asked[-1]
    action = what.rpartition("/")[2]
    if action == "logoff":
        assert board.heard_as(status, own) is status is AgentStatus.OFFLINE
        return
    paused = action == "pause"
    data = {"agent_number": "9001", "paused": paused, "paused_reason": body.get("reason") or ""}
    envelope = {"name": f"agent_{action}d", "data": data, f"user_uuid:{ANNA}": True}

    (heard,) = reader.read(
        json.dumps({"op": "event", "data": envelope}).encode(), now=SystemClock().now()
    )

    assert isinstance(heard.body, AgentStatusChanged)
    assert heard.body.status is board.heard_as(status, own)
    assert heard.body.own == (body.get("reason") if paused else None)
    assert heard.body.source_name == "main"


# -- cancelling ------------------------------------------------------------------------------------

CLICK = HangUp(reference="d1", extension="101", pbx_call_id="1785924300.80", user=ANNA)


def a_call(call_id: str, conversation: str) -> dict[str, Any]:
    return {"call_id": call_id, "conversation_id": conversation, "status": "Up"}


async def test_all_channels_of_a_conversation_are_hung_up_and_no_other(
    pbx: Exchange, http: HttpClient
) -> None:
    """The phone that was rung first comes first; what went with it is no fault."""
    pbx.calls = [
        a_call("1785924300.81", "1785924300.80"),
        a_call("1785924300.80", "1785924300.80"),
    ]

    await a_board(pbx, http).hang_up(CLICK, within=SOON)

    assert [what for what, _ in pbx.asked if what.startswith("DELETE")] == [
        "DELETE calld/1.0/calls/1785924300.80",
        "DELETE calld/1.0/calls/1785924300.81",
    ]


async def test_a_call_that_is_over_is_no_fault(pbx: Exchange, http: HttpClient) -> None:
    pbx.calls = [a_call("1785924999.90", "1785924999.90")]

    await a_board(pbx, http).hang_up(CLICK, within=SOON)

    assert [what for what, _ in pbx.asked] == ["GET calld/1.0/calls"]


@pytest.mark.parametrize(("status", "words"), [(403, "ACL"), (401, "ACL"), (400, "not today")])
async def test_who_may_not_end_calls_is_told_what_to_change(
    pbx: Exchange, http: HttpClient, status: int, words: str
) -> None:
    pbx.calls = [a_call("1785924300.80", "1785924300.80")]
    pbx.status["DELETE calld/1.0/calls/1785924300.80"] = status

    with pytest.raises(Rejected, match=words):
        await a_board(pbx, http).hang_up(CLICK, within=SOON)


async def test_a_call_without_a_name_cannot_be_ended(pbx: Exchange, http: HttpClient) -> None:
    with pytest.raises(Rejected, match="end it at the phone"):
        await a_board(pbx, http).hang_up(HangUp(reference="d1", extension="101"), within=SOON)

    assert pbx.asked == []


# -- the doctor ------------------------------------------------------------------------------------


async def test_the_doctor_finds_nothing_where_all_is_well(pbx: Exchange, http: HttpClient) -> None:
    assert await findings(settings_of(pbx), http) == {
        "login at Wazo 127.0.0.1": None,
        "permissions": None,
        "events over the WebSocket": None,
        "clock": None,
    }


async def test_the_doctor_names_each_permission_that_lacks(pbx: Exchange, http: HttpClient) -> None:
    pbx.lacking = {"calld.calls.create", "events.calls.any"}

    found = await findings(settings_of(pbx), http)

    assert "click-to-call" in (found["permission calld.calls.create"] or "")
    assert "screen pop" in (found["permission events.calls.*"] or "")
    assert "permissions" not in found


async def test_the_doctor_knows_a_user_that_sees_only_itself(
    pbx: Exchange, http: HttpClient
) -> None:
    pbx.metadata = {"purpose": "user", "tenant_uuid": TENANT}

    found = await findings(settings_of(pbx), http)

    assert "external_api" in (found["login at Wazo 127.0.0.1"] or "")


@pytest.mark.parametrize("metadata", [None, [], {"purpose": ["user"]}, {"purpose": {}}])
async def test_a_user_of_which_wazo_tells_nothing_is_believed(
    pbx: Exchange, http: HttpClient, metadata: Any
) -> None:
    pbx.metadata = metadata

    assert (await findings(settings_of(pbx), http))["login at Wazo 127.0.0.1"] is None


async def test_the_doctor_names_agents_without_a_user(pbx: Exchange, http: HttpClient) -> None:
    adapter = wazo_adapter(
        settings_of(pbx),
        tenant="acme",
        pbx="main",
        http=http,
        clock=SystemClock(),
        metrics=Metrics(),
        phones=Phones(extensions=frozenset({"101", "104"}), users={ANNA: "101"}),
    )

    faults = [one.fault async for one in adapter.check() if one.fault]

    assert len(faults) == 1
    assert "without pbx_user: 104;" in faults[0]


async def test_the_doctor_finds_nobody_there(pbx: Exchange, http: HttpClient) -> None:
    await pbx.stop()

    found = await findings(settings_of(pbx), http)

    assert "no connection" in (found["login at Wazo 127.0.0.1"] or "")
