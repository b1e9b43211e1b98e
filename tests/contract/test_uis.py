"""The UIS adapter's orders and questions, against a server that speaks the account's JSON-RPC."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.calls import CallEnded, CallRinging, EndKnown
from shared.errors import Forbidden, Rejected, Throttled, Unavailable
from shared.net.client import HttpClient
from shared.pbx.port import AgentAt, DialRequest, HangUp, RawHook
from shared.pbx.uis.jsonrpc import JsonRpc
from shared.testing.servers import free_port
from tests.contract.uis_kit import (
    A_WHILE,
    LIMITS,
    LOOPBACK,
    NOW,
    PHONES,
    TOKEN,
    Account,
    adapter,
    an_account,
    error,
    result,
)

SAMPLES = Path(__file__).parents[1] / "data" / "pbx" / "uis"
ORDER = DialRequest(
    reference="click-0001",
    extension="101",
    number="+79260000000",
    ring_for=timedelta(seconds=15),
    user="25",
)


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    async with an_account() as found:
        yield found


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    async with HttpClient(LOOPBACK) as found:
        yield found


# -- JSON-RPC --------------------------------------------------------------------------------------


def rpc(http: HttpClient, account: Account, token: str = TOKEN) -> JsonRpc:
    url = f"http://127.0.0.1:{account.port}/data/v2.0"
    return JsonRpc(http, url, SecretStr(token), ManualClock(NOW))


async def test_a_result_comes_back_to_its_question(account: Account, http: HttpClient) -> None:
    found = await rpc(http, account).call("list.calls", {"limit": 1}, within=A_WHILE)
    assert found["data"] == []
    assert account.asked == [("/data/v2.0", "list.calls", {"limit": 1})]


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            error(-32602, "employee_not_found", "Employee with id 25 not found."),
            Rejected,
            "pbx_user",
        ),
        (error(-32602, "no_active_phone_number"), Rejected, "active phone number"),
        (
            error(-32602, "data_type_error", field="contact"),
            Rejected,
            "data_type_error: No .contact",
        ),
        (error(-32007, "virtual_phone_number_not_found"), Rejected, "virtual_number"),
        (error(-32002, "contact_in_blacklist"), Rejected, "blacklist"),
        (error(-32008, "component_disabled"), Rejected, "Tariffs and options"),
        (error(-32601, "method_not_found"), Rejected, "address"),
        (error(-32001, "access_token_expired"), Forbidden, "make another"),
        (error(-32003, "ip_not_whitelisted", "Your IP 192.0.2.1"), Forbidden, "192.0.2.1.*API"),
        (error(-32003, "forbidden"), Forbidden, "right"),
        (error(-32029, "limit_exceeded"), Throttled, "limit_exceeded"),
        (error(-32603, "internal_error"), Unavailable, "internal_error"),
        ({"error": {"code": "?" * 999, "message": ["x"], "data": 7}}, Rejected, "^.{1,99}$"),
        ({"error": {"code": {"a": []}}}, Rejected, "list.calls"),
        ({"error": {}}, Rejected, "list.calls"),
    ],
)
async def test_an_error_is_one_of_ours_and_says_what_to_change(
    account: Account, http: HttpClient, answer: dict[str, Any], kind: type[Exception], words: str
) -> None:
    account.methods["list.calls"] = lambda _: answer
    with pytest.raises(kind, match=words):
        await rpc(http, account).call("list.calls", {}, within=A_WHILE)


@pytest.mark.parametrize(
    ("limits", "seconds"),
    [
        ({**LIMITS, "minute_remaining": 0}, 42),
        ({**LIMITS, "day_remaining": 0}, 60340),
        ({**LIMITS, "day_remaining": 0, "day_reset": 1e300}, None),
        ({"minute_remaining": "none", "minute_reset": []}, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("place", ["beside", "within"])
async def test_a_used_up_limit_says_how_long_to_wait(
    account: Account, http: HttpClient, limits: Any, seconds: int | None, place: str
) -> None:
    metadata = {"metadata": {"limits": limits}}
    refused = error(-32029, "limit_exceeded")
    (refused["error"] if place == "within" else refused).update(metadata)
    account.methods["list.calls"] = lambda _: refused
    with pytest.raises(Throttled) as caught:
        await rpc(http, account).call("list.calls", {}, within=A_WHILE)
    wanted = None if seconds is None else timedelta(seconds=seconds)
    assert caught.value.retry_after == wanted


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (web.Response(status=200, text="<html>maintenance</html>"), Unavailable),
        (web.Response(status=502, text="bad gateway"), Unavailable),
        (web.Response(status=429), Throttled),
        (web.Response(status=401), Forbidden),
        (web.Response(status=404, text="nothing here"), Rejected),
        (web.Response(status=403, text='{"message": "Forbidden"}'), Forbidden),
        (web.Response(status=404, text='{"message": "no route"}'), Rejected),
        (web.Response(status=200, text="[" * 100_000), Unavailable),
        (web.Response(status=200, text='{"jsonrpc": "2.0", "id": "callmesh-1"}'), Unavailable),
        (web.Response(status=200, text='{"id": "another", "result": {}}'), Unavailable),
        (web.Response(status=200, text='{"id": "callmesh-1", "result": []}'), Unavailable),
    ],
    ids=[
        "html",
        "502",
        "429",
        "401",
        "404",
        "403 of a proxy",
        "404 of a proxy",
        "deep",
        "no result",
        "another id",
        "no object",
    ],
)
async def test_what_is_no_answer_to_the_question_is_none(
    account: Account, http: HttpClient, response: web.Response, kind: type[Exception]
) -> None:
    account.methods["list.calls"] = lambda _: response
    with pytest.raises(kind, match=r"list\.calls: 127\.0\.0\.1"):
        await rpc(http, account).call("list.calls", {}, within=A_WHILE)


async def test_the_token_is_in_no_word_even_where_the_account_repeats_it(
    account: Account, http: HttpClient
) -> None:
    with pytest.raises(Forbidden) as caught:
        await rpc(http, account, token="hush-hush").call("list.calls", {}, within=A_WHILE)
    assert "hush-hush" not in f"{caught.value} {caught.value.details} {caught.value.__cause__}"
    assert "Managing users" in caught.value.message


# -- orders ----------------------------------------------------------------------------------------


async def test_a_click_is_a_call_of_the_employee(account: Account, http: HttpClient) -> None:
    made = adapter(http, account.port)
    assert made.switchboard is not None
    board = made.switchboard()
    receipt = await board.dial(ORDER, within=A_WHILE)
    assert (board.fault, receipt.pbx_call_id) == (None, "237859081")
    assert account.asked == [
        (
            "/call/v4.0",
            "start.employee_call",
            {
                "first_call": "employee",
                "switch_at_once": True,
                "early_switching": True,
                "show_virtual_phone_number": False,
                "virtual_phone_number": "74993720692",
                "external_id": "click-0001",
                "direction": "out",
                "contact": "79260000000",
                "employee": {"id": 25},
            },
        )
    ]


@pytest.mark.parametrize("data", [None, [], {}, {"call_session_id": None}, {"call_session_id": ""}])
async def test_an_order_that_was_taken_without_an_id_was_taken(
    account: Account, http: HttpClient, data: Any
) -> None:
    account.methods["start.employee_call"] = lambda _: result(data)
    made = adapter(http, account.port)
    assert made.switchboard is not None
    assert (await made.switchboard().dial(ORDER, within=A_WHILE)).pbx_call_id is None


@pytest.mark.parametrize(
    ("user", "words"),
    [
        (None, "extension 101 has no employee id: set `pbx_user`"),
        ("25; drop", "a number"),
        ("٢٥", "a number"),
    ],
)
async def test_an_order_that_cannot_be_given_is_not_sent(
    account: Account, http: HttpClient, user: str | None, words: str
) -> None:
    made = adapter(http, account.port)
    assert made.switchboard is not None
    order = DialRequest(
        reference="r", extension="101", number="1234", ring_for=timedelta(seconds=15), user=user
    )
    with pytest.raises(Rejected, match=words):
        await made.switchboard().dial(order, within=A_WHILE)
    assert account.asked == []


@pytest.mark.parametrize(
    ("answer", "kind", "sent"),
    [
        (error(-32001, "access_token_blocked"), Rejected, None),
        (error(-32602, "employee_not_found"), Rejected, None),
        (error(-32029, "limit_exceeded"), Unavailable, False),
        (error(-32603, "internal_error"), Unavailable, True),
        (web.Response(status=502), Unavailable, True),
    ],
)
async def test_a_refused_order_is_refused_and_an_unclear_one_is_not_sent_again(
    account: Account,
    http: HttpClient,
    answer: dict[str, Any] | web.Response,
    kind: type[Rejected | Unavailable],
    sent: bool | None,
) -> None:
    account.methods["start.employee_call"] = lambda _: answer
    made = adapter(http, account.port)
    assert made.switchboard is not None
    with pytest.raises(kind) as caught:
        await made.switchboard().dial(ORDER, within=A_WHILE)
    assert caught.value.details.get("sent") is sent
    assert len(account.asked) == 1


async def test_an_account_that_cannot_be_reached_is_away(http: HttpClient) -> None:
    made = adapter(http, free_port())
    assert made.switchboard is not None
    with pytest.raises(Unavailable, match="no connection"):
        await made.switchboard().dial(ORDER, within=A_WHILE)


@pytest.mark.parametrize(
    ("more", "status", "wanted"),
    [
        ({}, AgentStatus.FREE, {"status": "available"}),
        ({}, AgentStatus.BUSY, {"status": "do_not_disturb"}),
        ({}, AgentStatus.BREAK, {"status": "break"}),
        ({}, AgentStatus.DINNER, {"status": "not_at_workplace"}),
        ({}, AgentStatus.OFFLINE, {"status": "not_at_work"}),
        (
            {"statuses": {AgentStatus.DINNER: "break"}},
            AgentStatus.DINNER,
            {"status": "break"},
        ),
        ({"calls_available": True}, AgentStatus.FREE, {"calls_available": True}),
        ({"calls_available": True}, AgentStatus.DINNER, {"calls_available": False}),
    ],
)
async def test_a_status_is_the_employees(
    account: Account,
    http: HttpClient,
    more: dict[str, Any],
    status: AgentStatus,
    wanted: dict[str, Any],
) -> None:
    made = adapter(http, account.port, **more)
    assert made.switchboard is not None
    await made.switchboard().set_status(AgentAt("101", "25"), status, within=A_WHILE)
    assert account.asked == [("/data/v2.0", "update.employees", {"id": 25, **wanted})]


STATUS = {
    "event": "status",
    "notification_time": "2026-03-04 10:15:58",
    "notification_timestamp": NOW.timestamp() - 2,
    "employee_id": 25,
}


@pytest.mark.parametrize("own", [None, "break", "Training", "NOT_AT_WORK"])
@pytest.mark.parametrize("site", [{}, {AgentStatus.DINNER: "break"}])
@pytest.mark.parametrize("by_flag", [False, True])
@pytest.mark.parametrize("status", AgentStatus)
async def test_what_is_set_is_heard_as_it_was_said_it_would_be(
    account: Account,
    http: HttpClient,
    status: AgentStatus,
    by_flag: bool,
    site: dict[AgentStatus, str],
    own: str | None,
) -> None:
    """A word of the account's that the site does not list is heard as a break."""
    made = adapter(http, account.port, statuses=site, calls_available=by_flag)
    assert made.switchboard is not None
    assert made.hooks is not None
    board = made.switchboard()
    await board.set_status(AgentAt("101", "25"), status, own=own, within=A_WHILE)
    ((_, _, asked),) = account.asked
    said = {"employee_status": asked.get("status"), "calls_available": asked.get("calls_available")}
    hook = RawHook(body=json.dumps(STATUS | said).encode(), received_at=NOW)

    (heard,) = made.hooks.read(hook, PHONES).sightings

    assert isinstance(heard.body, AgentStatusChanged)
    assert heard.body.status is board.heard_as(status, own)
    assert heard.body.own == asked.get("status")
    assert (heard.body.extension, heard.body.source_name) == ("101", "uis")
    assert heard.at == NOW - timedelta(seconds=2)


async def test_the_customer_sees_the_number_of_the_order(
    account: Account, http: HttpClient
) -> None:
    made = adapter(http, account.port)
    assert made.switchboard is not None
    order = replace(ORDER, caller_id="+74951234567")
    await made.switchboard().dial(order, within=A_WHILE)

    assert account.asked[0][2]["virtual_phone_number"] == "74951234567"


# -- cancelling ------------------------------------------------------------------------------------

CLICK = HangUp(reference="click-0001", extension="101", pbx_call_id="237859081", user="25")


def live(*calls: tuple[int, str | None]) -> Any:
    return lambda _: result(
        [{"call_session_id": session, "external_id": external} for session, external in calls]
    )


def methods(account: Account) -> list[tuple[str, dict[str, Any]]]:
    return [(method, asked) for _, method, asked in account.asked]


async def test_a_call_is_released_by_its_session(account: Account, http: HttpClient) -> None:
    account.methods["release.call"] = lambda _: result({"success": "true"})
    made = adapter(http, account.port)
    assert made.switchboard is not None
    await made.switchboard().hang_up(CLICK, within=A_WHILE)

    assert account.asked == [("/call/v4.0", "release.call", {"call_session_id": 237859081})]


async def test_a_session_that_was_never_told_is_found_by_our_reference(
    account: Account, http: HttpClient
) -> None:
    account.methods["list.calls"] = live((1, None), (2, "click-0002"), (3, "click-0001"))
    account.methods["release.call"] = lambda _: result({"success": "true"})
    made = adapter(http, account.port)
    assert made.switchboard is not None
    await made.switchboard().hang_up(replace(CLICK, pbx_call_id=None), within=A_WHILE)

    assert methods(account) == [("list.calls", {}), ("release.call", {"call_session_id": 3})]


async def test_a_session_that_nobody_has_is_over(account: Account, http: HttpClient) -> None:
    account.methods["list.calls"] = live((2, "click-0002"))
    made = adapter(http, account.port)
    assert made.switchboard is not None
    await made.switchboard().hang_up(replace(CLICK, pbx_call_id=None), within=A_WHILE)

    assert methods(account) == [("list.calls", {})]


async def test_a_refusal_of_a_call_that_is_over_is_no_fault(
    account: Account, http: HttpClient
) -> None:
    """Whatever word the account has for it: the calls that go on are listed."""
    account.methods["release.call"] = lambda _: error(-32602, "call_session_not_found")
    account.methods["list.calls"] = live((2, None))
    made = adapter(http, account.port)
    assert made.switchboard is not None
    await made.switchboard().hang_up(CLICK, within=A_WHILE)

    assert [method for method, _ in methods(account)] == ["release.call", "list.calls"]


@pytest.mark.parametrize(
    "listed",
    [live((237859081, "click-0001")), lambda _: error(-32003, "component_disabled")],
    ids=["it is listed", "no list"],
)
async def test_a_refusal_of_a_call_that_may_go_on_is_told(
    account: Account, http: HttpClient, listed: Any
) -> None:
    account.methods["release.call"] = lambda _: error(-32003, "forbidden")
    account.methods["list.calls"] = listed
    made = adapter(http, account.port)
    assert made.switchboard is not None
    with pytest.raises(Rejected, match=r"release\.call: forbidden"):
        await made.switchboard().hang_up(CLICK, within=A_WHILE)


async def test_what_is_no_session_is_not_sent(account: Account, http: HttpClient) -> None:
    made = adapter(http, account.port)
    assert made.switchboard is not None
    for session in ("1; drop", "١٢", "9" * 40):
        with pytest.raises(Rejected, match="no id of a UIS call session"):
            await made.switchboard().hang_up(replace(CLICK, pbx_call_id=session), within=A_WHILE)

    assert account.asked == []


async def test_the_data_api_may_have_a_key_of_its_own(account: Account, http: HttpClient) -> None:
    made = adapter(
        http,
        account.port,
        access_token=SecretStr("of the Call API"),
        data_token=SecretStr(TOKEN),
    )
    assert made.switchboard is not None
    board = made.switchboard()
    await board.set_status(AgentAt("101", "25"), AgentStatus.FREE, within=A_WHILE)
    with pytest.raises(Rejected, match="access_token_invalid"):
        await board.dial(ORDER, within=A_WHILE)


async def test_there_is_no_connection_to_keep(http: HttpClient) -> None:
    async def never(reference: str, reason: object) -> None:
        raise AssertionError(reference)

    made = adapter(http, free_port())
    assert made.switchboard is not None
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await made.switchboard().run(never)


# -- reports ---------------------------------------------------------------------------------------


async def test_a_report_is_asked_for_one_call_around_its_end(
    account: Account, http: HttpClient
) -> None:
    sample = json.loads((SAMPLES / "inbound_answered.report.json").read_text())
    account.methods["get.call_legs_report"] = lambda _: {"result": sample["result"]}
    made = adapter(http, account.port)
    assert made.reporter is not None

    found = await made.reporter.report("31451224", NOW, PHONES)

    [(path, method, params)] = account.asked
    fields = params.pop("fields")
    assert (path, method) == ("/data/v2.0", "get.call_legs_report")
    assert params == {
        "date_from": "2026-03-03 22:16:00",
        "date_till": "2026-03-04 12:16:00",
        "filter": {"field": "call_session_id", "operator": "=", "value": 31451224},
        "limit": 500,
        "offset": 0,
    }
    assert set(sample["result"]["data"][0]) == set(fields)
    ended = [one.body for one in found if isinstance(one.body, CallEnded)]
    rung = [one.body.callee.extension for one in found if isinstance(one.body, CallRinging)]
    assert [body.known for body in ended] == [EndKnown.REPORT]
    assert rung == ["101", "102"]


@pytest.mark.parametrize("data", [[], None, {}, [{"call_session_id": 1}], ["x", 7]])
async def test_a_report_that_lags_behind_is_empty(
    account: Account, http: HttpClient, data: Any
) -> None:
    account.methods["get.call_legs_report"] = lambda _: result(data)
    made = adapter(http, account.port)
    assert made.reporter is not None
    assert await made.reporter.report("31451224", NOW, PHONES) == []


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(-32001, "access_token_invalid"), Rejected),
        (error(-32029, "limit_exceeded"), Unavailable),
        (error(-32603, "internal_error"), Unavailable),
    ],
)
async def test_a_report_that_is_refused_says_why(
    account: Account, http: HttpClient, answer: dict[str, Any], kind: type[Exception]
) -> None:
    account.methods["get.call_legs_report"] = lambda _: answer
    made = adapter(http, account.port)
    assert made.reporter is not None
    with pytest.raises(kind):
        await made.reporter.report("31451224", NOW, PHONES)


@pytest.mark.parametrize("session", ["", "abc", "1 or 1=1", "9" * 19, "-1", "١٢"])
async def test_no_report_is_asked_for_what_is_no_call(
    account: Account, http: HttpClient, session: str
) -> None:
    made = adapter(http, account.port)
    assert made.reporter is not None
    with pytest.raises(Rejected, match="no id of a UIS call"):
        await made.reporter.report(session, NOW, PHONES)
    assert account.asked == []
