"""The Open API of a Yeastar: logins that replicas share, orders, and what the adapter offers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import orjson
import pytest
from aiohttp import web
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.errors import BadSetting, MeshError, Rejected, Unavailable
from shared.pbx.port import (
    AgentAt,
    HangUp,
    LoginRefused,
    Phones,
)
from shared.testing.waiting import eventually
from tests.contract.yeastar_kit import (
    A_WHILE,
    ORDER,
    Mesh,
    a_mesh,
)
from tests.contract.yeastar_server import (
    SECRET,
    FakeYeastar,
    good,
    refused,
)


@pytest.fixture
async def mesh(clock: ManualClock) -> AsyncIterator[Mesh]:
    async with a_mesh(clock) as found:
        yield found


@pytest.fixture
def pbx(mesh: Mesh) -> FakeYeastar:
    return mesh.pbx


# -- logins ----------------------------------------------------------------------------------------


async def test_a_login_is_made_once_and_every_request_says_who_asks(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    api = mesh.api()
    for _ in range(3):
        await api.ask("GET", "system/information", within=A_WHILE)

    assert pbx.paths() == ["get_token", *["system/information"] * 3]
    assert set(pbx.agents) == {"OpenAPI"}


async def test_many_at_once_share_one_login(pbx: FakeYeastar, mesh: Mesh) -> None:
    api = mesh.api()
    await asyncio.gather(*(api.ask("GET", "system/capacity", within=A_WHILE) for _ in range(8)))

    assert pbx.paths().count("get_token") == 1


async def test_a_token_is_renewed_before_it_ends_without_a_new_login(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    api = mesh.api()
    for _ in range(4):
        await api.ask("GET", "system/information", within=A_WHILE)
        await mesh.clock.advance(timedelta(minutes=28))

    assert pbx.paths().count("get_token") == 1
    assert pbx.paths().count("refresh_token") == 3


async def test_a_renewal_that_is_not_taken_is_followed_by_a_login(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    api = mesh.api()
    await api.ready(within=A_WHILE)
    pbx.takes_refresh = False
    await mesh.clock.advance(timedelta(minutes=28))
    await api.ask("GET", "system/information", within=A_WHILE)

    assert pbx.paths() == ["get_token", "refresh_token", "get_token", "system/information"]


async def test_a_refresh_token_that_is_over_is_not_tried(pbx: FakeYeastar, mesh: Mesh) -> None:
    api = mesh.api()
    await api.ready(within=A_WHILE)
    await mesh.clock.advance(timedelta(hours=25))
    await api.ready(within=A_WHILE)

    assert pbx.paths() == ["get_token", "get_token"]


async def test_a_renewal_that_nobody_answers_is_tried_again_and_costs_no_place(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    api = mesh.api()
    await api.ready(within=A_WHILE)
    await mesh.clock.advance(timedelta(minutes=28))
    pbx.answers["refresh_token"] = lambda _, __: web.Response(status=500)
    with pytest.raises(Unavailable):
        await api.ready(within=A_WHILE)
    del pbx.answers["refresh_token"]
    await api.ready(within=A_WHILE)

    assert pbx.paths() == ["get_token", "refresh_token", "refresh_token"]


async def test_a_token_that_another_request_has_replaced_is_not_given_back(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    api = mesh.api()
    await api.ready(within=A_WHILE)
    await api.leave("token-0")
    assert pbx.paths() == ["get_token"]

    await api.leave("token-1")
    assert pbx.paths() == ["get_token", "del_token"]


@pytest.mark.parametrize("most_tokens", [1, 8])
async def test_replicas_that_share_a_client_all_get_their_answers(
    pbx: FakeYeastar, mesh: Mesh, most_tokens: int
) -> None:
    pbx.most_tokens = most_tokens
    replicas = [mesh.api() for _ in range(4)]
    for _ in range(3):
        for api in replicas:
            await api.ask("GET", "system/information", within=A_WHILE)

    assert pbx.paths().count("get_token") == (12 if most_tokens == 1 else 4)


async def test_an_order_whose_token_had_ended_is_carried_out_once(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    pbx.most_tokens = 1
    dialled: list[Any] = []

    def dial(_: web.Request, body: dict[str, Any]) -> dict[str, Any]:
        dialled.append(body)
        return good(call_id="1.9")

    pbx.answers["call/dial"] = dial
    board = mesh.board()
    await board.dial(ORDER, within=A_WHILE)
    await mesh.api().ready(within=A_WHILE)  # somebody else logs in
    await board.dial(ORDER, within=A_WHILE)

    assert len(dialled) == 2
    assert pbx.paths().count("call/dial") == 3


async def test_a_wrong_secret_is_tried_once_and_never_again(pbx: FakeYeastar, mesh: Mesh) -> None:
    api = mesh.api(client_secret=SecretStr("wrong-and-secret"))
    lengths = set()
    for _ in range(5):
        with pytest.raises(LoginRefused, match="Blocked IPs") as caught:
            await api.ask("GET", "system/information", within=A_WHILE)
        assert "wrong-and-secret" not in str(caught.value)
        lengths.add(len(caught.traceback))
    # One error raised again and again would keep the frames of every try.
    assert len(lengths) <= 2

    assert pbx.paths() == ["get_token"]


async def test_a_login_for_which_there_is_no_place_is_tried_later(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    pbx.answers["get_token"] = lambda _, __: refused(20010, "TOKEN NUMBER REACHES THE MAX")
    board = mesh.board()
    with pytest.raises(Unavailable, match="eight programs") as caught:
        await board.dial(ORDER, within=A_WHILE)
    assert caught.value.details["sent"] is False

    del pbx.answers["get_token"]
    pbx.answers["call/dial"] = lambda _, __: good(call_id="1.9")
    assert (await board.dial(ORDER, within=A_WHILE)).pbx_call_id == "1.9"


@pytest.mark.parametrize(
    "answer",
    [
        web.Response(text="<html>", content_type="text/html"),
        web.Response(text="[]", content_type="application/json"),
        web.Response(text='{"errcode":0}', content_type="application/json"),
        web.Response(status=404),
        web.Response(status=500),
        web.Response(status=302, headers={"Location": "/login"}),
    ],
)
async def test_an_answer_that_is_none_is_a_fault_and_no_order_was_sent(
    pbx: FakeYeastar, mesh: Mesh, answer: web.Response
) -> None:
    pbx.answers["get_token"] = lambda _, __: web.Response(
        status=answer.status, body=answer.body, content_type=answer.content_type
    )
    with pytest.raises(Unavailable) as caught:
        await mesh.board().dial(ORDER, within=A_WHILE)

    assert caught.value.details["sent"] is False
    assert "call/dial" not in pbx.paths()


async def test_plain_http_is_refused_where_the_operator_did_not_allow_it(mesh: Mesh) -> None:
    api = mesh.api(url="http://pbx.example")
    with pytest.raises(Rejected, match="use https"):
        await api.ready(within=A_WHILE)


async def test_a_silent_pbx_costs_the_budget_and_no_more(pbx: FakeYeastar, mesh: Mesh) -> None:
    board = mesh.board()
    pbx.answers["call/dial"] = lambda _, __: good(call_id="1.9")
    await board.dial(ORDER, within=A_WHILE)
    pbx.silent = True
    with pytest.raises(Unavailable, match=r"did not answer within 0\.2 s") as caught:
        await board.dial(ORDER, within=timedelta(seconds=0.2))

    assert caught.value.details["sent"] is True


async def test_no_fault_and_no_word_of_ours_holds_a_token_or_a_secret(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    api = mesh.api()
    await api.ready(within=A_WHILE)
    answers = [web.Response(status=500), web.Response(status=403), web.Response(text="x")]
    pbx.answers["call/dial"] = lambda _, __: answers.pop()
    faults = []
    while answers:
        with pytest.raises(MeshError) as caught:
            await api.ask("POST", "call/dial", within=A_WHILE)
        faults.append(str(caught.value))
    pbx.silent = True
    with pytest.raises(MeshError) as caught:
        await api.ask("POST", "call/dial", within=timedelta(seconds=0.1))
    said = " ".join([*faults, str(caught.value), repr(api), repr(mesh.settings)])

    assert pbx.tokens == ["token-1"]
    assert "token-1" not in said
    assert SECRET not in said


# -- orders ----------------------------------------------------------------------------------------


async def test_click_to_call_rings_the_agent_first_by_the_agents_own_rights(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    pbx.answers["call/dial"] = lambda _, __: good(call_id="1650095575.872")
    receipt = await mesh.board(auto_answer=True).dial(ORDER, within=A_WHILE)

    assert receipt.pbx_call_id == "1650095575.872"
    assert pbx.asked[-1] == (
        "call/dial",
        {},
        {
            "caller": "1005",
            "callee": "07700900777",
            "dial_permission": "1005",
            "auto_answer": "yes",
        },
    )


async def test_a_refused_order_says_the_pbxs_words(pbx: FakeYeastar, mesh: Mesh) -> None:
    pbx.answers["call/dial"] = lambda _, __: refused(20006, "EXTENSION NOT FOUND")
    with pytest.raises(Rejected, match="20006 EXTENSION NOT FOUND"):
        await mesh.board().dial(ORDER, within=A_WHILE)


async def test_an_order_that_became_no_call_that_can_be_named_may_have_been_taken(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    pbx.answers["call/dial"] = lambda _, __: good()
    with pytest.raises(Unavailable, match="is 1005 an extension") as caught:
        await mesh.board().dial(ORDER, within=A_WHILE)

    assert caught.value.details["sent"] is True


async def test_an_interface_that_the_firmware_does_not_have_is_named(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    pbx.answers["call/dial"] = lambda _, __: refused(10001, "INTERFACE NOT EXISTED")
    with pytest.raises(Rejected, match="update it"):
        await mesh.board().dial(ORDER, within=A_WHILE)


@pytest.mark.parametrize(
    ("status", "presence"),
    [
        (AgentStatus.FREE, "available"),
        (AgentStatus.BUSY, "do_not_disturb"),
        (AgentStatus.BREAK, "away"),
        (AgentStatus.DINNER, "lunch"),
        (AgentStatus.OFFLINE, "off_work"),
    ],
)
async def test_a_status_is_set_as_the_extensions_presence(
    pbx: FakeYeastar, mesh: Mesh, status: AgentStatus, presence: str
) -> None:
    found = [{"id": 11, "number": "10051"}, {"id": 60, "number": "1005"}, {"id": 7}]
    pbx.answers["extension/search"] = lambda _, __: good(total_number=3, data=found)
    await mesh.board().set_status(AgentAt("1005"), status, within=A_WHILE)

    assert pbx.asked[-2][1] == {"page": "1", "page_size": "100", "search_value": "1005"}
    assert pbx.asked[-1] == ("extension/update", {}, {"id": 60, "presence_status": presence})


@pytest.mark.parametrize("found", [[], None, "x", [{"number": "10051", "id": 1}], [{"id": "1"}]])
async def test_the_status_of_a_phone_that_is_not_there_cannot_be_set(
    pbx: FakeYeastar, mesh: Mesh, found: object
) -> None:
    pbx.answers["extension/search"] = lambda _, __: good(data=found)
    with pytest.raises(Rejected, match="no extension 1005"):
        await mesh.board().set_status(AgentAt("1005"), AgentStatus.FREE, within=A_WHILE)
    assert "extension/update" not in pbx.paths()


@pytest.mark.parametrize("own", [None, "business_trip", "AWAY"])
@pytest.mark.parametrize("site", [{}, {AgentStatus.BREAK: "business_trip"}])
@pytest.mark.parametrize("status", AgentStatus)
async def test_what_is_set_is_heard_as_it_was_said_it_would_be(
    pbx: FakeYeastar,
    mesh: Mesh,
    status: AgentStatus,
    site: dict[AgentStatus, str],
    own: str | None,
) -> None:
    pbx.answers["extension/search"] = lambda _, __: good(data=[{"id": 60, "number": "1005"}])
    adapter = mesh.adapter(statuses=site)
    assert adapter.switchboard is not None
    assert adapter.reader is not None
    board, reader = adapter.switchboard(), adapter.reader()
    reader.know(Phones(extensions=frozenset({"1005"})))
    await board.set_status(AgentAt("1005"), status, own=own, within=A_WHILE)
    said = pbx.asked[-1][2]["presence_status"]
    event = {"type": 30009, "sn": "x", "msg": {"extension": "1005", "status": said}}

    (heard,) = reader.read(orjson.dumps(event), now=mesh.clock.now())

    assert isinstance(heard.body, AgentStatusChanged)
    assert heard.body.status is board.heard_as(status, own)
    assert (heard.body.own, heard.body.source_name) == (said, "berlin")


async def test_a_presence_that_there_is_not_is_not_set(pbx: FakeYeastar, mesh: Mesh) -> None:
    with pytest.raises(Rejected, match="no presence 'coffee': it has available, away"):
        await mesh.board().set_status(
            AgentAt("1005"), AgentStatus.BREAK, own="Coffee", within=A_WHILE
        )

    assert pbx.asked == []


# -- cancelling ------------------------------------------------------------------------------------

CLICK = HangUp(reference="r1", extension="1005", pbx_call_id="1650095575.872")


def in_call(*members: dict[str, Any], call_id: str = "1650095575.872") -> dict[str, Any]:
    return good(data=[{"call_id": call_id, "members": list(members)}])


CUSTOMER = {
    "outbound": {"to": "07700900777", "channel_id": "PJSIP/main-08", "member_status": "RING"}
}
AGENT = {"extension": {"number": "1005", "channel_id": "PJSIP/1005-07", "member_status": "ANSWER"}}
GONE = {"extension": {"number": "1006", "channel_id": "PJSIP/1006-06", "member_status": "BYE"}}


def hung_up(pbx: FakeYeastar) -> list[str]:
    return [body["channel_id"] for path, _, body in pbx.asked if path == "call/hangup"]


async def test_all_who_are_in_a_call_are_hung_up_the_agent_first(
    pbx: FakeYeastar, mesh: Mesh
) -> None:
    pbx.answers["call/query"] = lambda _, __: in_call(CUSTOMER, GONE, AGENT)
    await mesh.board().hang_up(CLICK, within=A_WHILE)

    assert pbx.asked[1] == ("call/query", {"call_id": "1650095575.872"}, None)
    assert hung_up(pbx) == ["PJSIP/1005-07", "PJSIP/main-08"]


async def test_who_went_with_the_agent_is_no_fault(pbx: FakeYeastar, mesh: Mesh) -> None:
    left = [in_call(), in_call(CUSTOMER, AGENT)]
    pbx.answers["call/query"] = lambda _, __: left.pop()
    done = [refused(20010, "CHANNEL NOT FOUND"), good()]
    pbx.answers["call/hangup"] = lambda _, __: done.pop()

    await mesh.board().hang_up(CLICK, within=A_WHILE)

    assert len(hung_up(pbx)) == 2


async def test_a_call_that_goes_on_was_not_ended(pbx: FakeYeastar, mesh: Mesh) -> None:
    pbx.answers["call/query"] = lambda _, __: in_call(CUSTOMER, AGENT)
    pbx.answers["call/hangup"] = lambda _, __: refused(10005, "NO PERMISSION")

    with pytest.raises(Rejected, match="10005 NO PERMISSION"):
        await mesh.board().hang_up(CLICK, within=A_WHILE)


@pytest.mark.parametrize(
    "answer",
    [
        refused(20008, "NO SUCH CALL"),
        good(),
        good(data=[]),
        in_call(AGENT, call_id="1650095575.999"),
        in_call(GONE),
    ],
)
async def test_a_call_that_is_over_is_no_fault(
    pbx: FakeYeastar, mesh: Mesh, answer: dict[str, Any]
) -> None:
    """What is said of another call is not acted on."""
    pbx.answers["call/query"] = lambda _, __: answer
    await mesh.board().hang_up(CLICK, within=A_WHILE)

    assert hung_up(pbx) == []


async def test_a_call_that_cannot_be_ended_says_why(pbx: FakeYeastar, mesh: Mesh) -> None:
    pbx.answers["call/query"] = lambda _, __: refused(10001, "INTERFACE NOT EXISTED")
    with pytest.raises(Rejected, match="update it"):
        await mesh.board().hang_up(CLICK, within=A_WHILE)
    with pytest.raises(Rejected, match="end it at the phone"):
        await mesh.board().hang_up(HangUp(reference="r1", extension="1005"), within=A_WHILE)


async def test_a_switchboard_says_why_no_order_can_be_given(pbx: FakeYeastar, mesh: Mesh) -> None:
    async def nobody(reference: str, reason: object) -> None:
        raise AssertionError(reference)

    board, wrong = mesh.board(), mesh.board(client_secret=SecretStr("wrong"))
    works = [asyncio.create_task(each.run(nobody)) for each in (board, wrong)]
    try:
        await eventually(lambda: board.fault is None)
        await eventually(lambda: "WRONG PASSWORD" in (wrong.fault or ""))
    finally:
        for work in works:
            work.cancel()
        await asyncio.gather(*works, return_exceptions=True)

    # Its place is free again, so that a service that is started often finds one.
    assert pbx.paths()[-1] == "del_token"


# -- the adapter -----------------------------------------------------------------------------------


def test_an_adapter_offers_what_it_is_set_up_for(mesh: Mesh) -> None:
    by_socket, by_hook = mesh.adapter(), mesh.adapter(events="webhook")

    assert (by_socket.hooks, by_hook.source, by_hook.reader) == (None, None, None)
    assert by_socket.source is not None
    assert by_hook.hooks is not None
    assert by_hook.switchboard is not None
    assert by_hook.route is not None


@pytest.mark.parametrize("zone", ["Berlin", "", "../etc/passwd", "Europe/"])
def test_a_zone_that_is_none_is_a_bad_setting(mesh: Mesh, zone: str) -> None:
    with pytest.raises(BadSetting, match="like Europe/Berlin"):
        mesh.adapter(zone=zone)


def test_no_secret_is_in_the_settings_words(mesh: Mesh) -> None:
    assert SECRET not in repr(mesh.settings)
