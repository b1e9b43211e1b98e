"""
The article's scheme, end to end: a UIS account and retailCRM with callmesh between them, on both
pairs of backends. Pop, lost call, talk with its record, click, status both ways.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.clock import ManualClock
from shared.runtime.platform import Choice
from shared.sandbox.site import TENANT
from shared.site.pbx import UisPbx
from tests.contract.retailcrm_server import KEY, retail_crm
from tests.contract.streams_kit import listening
from tests.contract.uis_kit import TOKEN, an_account, error
from tests.scenario.edge_kit import BEFORE_REPORT, PUBLIC_URL, Exchange, Office, an_office
from tests.scenario.uis_calls_kit import MOSCOW, Row, UisCall

SHOP1, SHOP2 = "+74999999999", "+74998888888"
CUSTOMER, STRANGER = "79121234567", "79127654321"

SITE = """\
version: 1
tenants:
  - tenant: {tenant}
    region: RU
    zone: Europe/Moscow
    pbx:
      - name: uis
        kind: uis
        call_api: http://127.0.0.1:{uis}/call/v4.0
        data_api: http://127.0.0.1:{uis}/data/v2.0
        access_token: {token}
        virtual_number: "+74993720692"
        recordings: http://127.0.0.1:{uis}
    crm:
      - name: shop
        template: retailcrm
        parameters:
          api_url: "{crm}"
          external_phones: "74999999999,74998888888"
          telephony_api: {api}
        credentials: {{api_key: {key}}}
        status: {{tell: true}}
        telephony: {{registered: true, title: Moscow office}}
    dialing:
      numbers:
        shops: {{shop1: "+74999999999", shop2: "+74998888888"}}
    agents:
      - {{extension: "101", name: Anna, pbx_user: "25", users: {{shop: "24"}}}}
      - {{extension: "102", name: Ben, pbx_user: "26", users: {{shop: "27"}}}}
"""


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@asynccontextmanager
async def opened(choice: Choice, clock: ManualClock, *, api: str = "v5") -> AsyncIterator[Office]:
    async with an_account() as account, retail_crm() as crm:
        crm.add_user(27)
        customer = crm.add_customer("Olga", f"+{CUSTOMER}", manager_id=24)
        assert customer.has(CUSTOMER)
        site = SITE.format(
            tenant=TENANT, uis=account.port, crm=crm.url, key=KEY, token=TOKEN, api=api
        )
        exchange = Exchange(account, clock, 25, 26)
        async with an_office(choice, clock, exchange, crm, site=site) as office:
            await registered(office)
            yield office


async def registered(office: Office) -> None:
    async def is_registered() -> bool:
        return office.crm.telephony is not None and len(office.crm.codes()) == 2

    await office.until(is_registered, of="the module")


@pytest.fixture
async def office(choice: Choice, clock: ManualClock) -> AsyncIterator[Office]:
    async with opened(choice, clock) as found:
        yield found


def kinds(office: Office, user: int) -> list[str]:
    """Of the cards that this user saw."""
    return [card["type"] for card in office.crm.shown_to(user)]


async def uploaded(office: Office, call: UisCall) -> dict[str, Any]:
    """The call in the CRM, once it and its report are through; it was sent once."""

    def is_asked_for() -> bool:
        asked = office.uis.asked("get.call_legs_report")
        return call.session in {one["filter"]["value"] for one in asked}

    await office.pass_to(office.clock.now() + BEFORE_REPORT)
    await office.until(is_asked_for, of="the report", due=UisPbx.tells_late)
    await office.quiet()
    # It goes when no recording can be told any more.
    assert call.ended is not None
    await office.pass_to(call.ended + UisPbx.tells_late)
    await office.until(lambda: call.reference in office.crm.calls, of="the upload")
    await office.sent()
    await office.pass_time(120)
    assert office.crm.batches == [1]
    return office.crm.calls[call.reference]


async def hears_of(office: Office, *bodies: Row) -> None:
    for body in bodies:
        await office.notify(body)
    await office.quiet()


# -- the module ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("api", "path"),
    [("v5", "/api/v5/integration-modules/callmesh"), ("v4", "/api/v4/telephony/setting/callmesh")],
)
async def test_telephony_is_activated_with_both_addresses(
    choice: Choice, clock: ManualClock, api: str, path: str
) -> None:
    async with opened(choice, clock, api=api) as office:
        crm = office.crm
        telephony = crm.telephony
        assert telephony is not None
        token = telephony["makeCallUrl"].removeprefix(f"{PUBLIC_URL}/v1/crm-calls/")
        assert token.endswith("/dial")
        status_url = telephony["changeUserStatusUrl"]
        assert status_url == telephony["makeCallUrl"].removesuffix("dial") + "status"
        assert crm.codes() == {"101": 24, "102": 27}
        assert {row["siteCode"]: row["externalPhone"] for row in telephony["externalPhones"]} == {
            "shop1": SHOP1,
            "shop2": SHOP2,
        }
        assert crm.modules["callmesh"]["name"] == "Moscow office"
        assert crm.client_id not in telephony["makeCallUrl"]
        # Told once, and read; an hour later it is read again and is what it was.
        assert crm.asked[f"{path}/edit"] == 1
        reads = crm.asked[path]
        await office.pass_time(3700, step=timedelta(seconds=10))
        await office.until(lambda: crm.asked[path] > reads, of="the comparison")
        assert crm.asked[f"{path}/edit"] == 1
        # A call out of a click by this module, whichever API made it.
        answer = await office.done(crm.click(24, f"+{CUSTOMER}"), of="the click")
        assert answer.status == 200, answer.body


# -- calls in --------------------------------------------------------------------------------------


async def test_who_calls_is_shown_while_the_phone_rings(office: Office) -> None:
    path = f"{office.url}/v1/agents/101/events"
    async with listening(office.session, path, key=office.key.get_secret_value()) as screen:
        call = office.uis.comes_in(CUSTOMER, SHOP1[1:])
        await hears_of(office, call.incoming(office.clock.now()))
        assert kinds(office, 24) == []
        await hears_of(office, call.rings(25, office.clock.now()))
        (card,) = office.crm.shown_to(24)
        assert card == {
            "phone": f"+{CUSTOMER}",
            "type": "in",
            "codes": ["101"],
            "externalPhone": SHOP1,
            "callExternalId": call.call_id,
        }
        await office.until(lambda: {"ringing", "pop"} <= set(screen.kinds), of="the screen")
        (ringing,) = screen.of("ringing")
        assert (ringing["call_id"], ringing["caller_number"]) == (call.call_id, CUSTOMER)
        pops = [pop for pop in screen.of("pop") if pop["call_id"] == call.call_id]
        assert {pop["contact"]["display_name"] for pop in pops} == {"Olga"}
        assert office.crm.shown_to(27) == []


async def test_a_lost_call_is_uploaded_as_one_that_nobody_answered(office: Office) -> None:
    call = office.uis.comes_in(STRANGER, SHOP2[1:])
    await hears_of(office, call.incoming(call.began), call.rings(26, call.began))
    assert kinds(office, 27) == ["in"]
    await office.pass_time(17)
    await hears_of(office, call.ends(call.began + timedelta(seconds=17), is_lost=True))
    assert kinds(office, 27) == ["in", "hangup"]
    assert office.crm.shown_to(27)[-1]["hangupStatus"] == "no answered"
    said = await uploaded(office, call)
    assert said == {
        "date": call.began.astimezone(MOSCOW).strftime("%Y-%m-%d %H:%M:%S"),
        "type": "in",
        "phone": f"+{STRANGER}",
        "userId": 27,
        "result": "no answer",
        "duration": 0,
        "durationWaiting": 17,
        "externalId": call.reference,
        "externalPhone": SHOP2,
    }
    assert kinds(office, 24) == []


async def a_talk(office: Office, *, told: int = 1) -> UisCall:
    """Olga calls, both phones ring, Anna answers after 8 s and talks for 65; *told*: so often."""
    call = office.uis.comes_in(CUSTOMER, SHOP1[1:])

    def at(seconds: int) -> datetime:
        return call.began + timedelta(seconds=seconds)

    async def tell(*bodies: Row) -> None:
        await hears_of(office, *(body for body in bodies for _ in range(told)))

    await tell(call.incoming(at(0)), call.rings(25, at(1)), call.rings(26, at(1)))
    assert kinds(office, 24) == kinds(office, 27) == ["in"]
    await office.pass_to(at(8))
    await tell(call.answers(25, at(8)))
    await office.pass_to(at(73))
    await tell(call.leaves(25, at(73)))
    assert kinds(office, 24) == ["in", "hangup"]
    await tell(call.ends(at(73)))
    assert kinds(office, 27) == ["in", "hangup"]
    return call


async def test_a_talk_is_uploaded_with_what_the_report_has_of_it(office: Office) -> None:
    call = await a_talk(office)
    assert office.uis.asked("get.call_legs_report") == []
    ends = {user: office.crm.shown_to(user)[-1]["hangupStatus"] for user in (24, 27)}
    assert ends == {24: "answered", 27: "no answered"}
    said = await uploaded(office, call)
    assert said == {
        "date": call.began.astimezone(MOSCOW).strftime("%Y-%m-%d %H:%M:%S"),
        "type": "in",
        "phone": f"+{CUSTOMER}",
        "userId": 24,
        "result": "answered",
        "duration": 65,
        "durationWaiting": 7,  # since the first phone rang
        "externalId": call.reference,
        "externalPhone": SHOP1,
        "recordUrl": office.uis.recording_of(call),
    }
    (asked,) = office.uis.asked("get.call_legs_report")
    assert asked["filter"] == {
        "field": "call_session_id",
        "operator": "=",
        "value": call.session,
    }


async def test_notifications_that_come_twice_change_nothing(office: Office) -> None:
    call = await a_talk(office, told=2)
    said = await uploaded(office, call)
    assert (said["duration"], said["userId"]) == (65, 24)
    assert kinds(office, 24) == kinds(office, 27) == ["in", "hangup"]
    letters = await office.platform.bus.dead_letters.list()
    assert not letters


# -- calls out -------------------------------------------------------------------------------------


async def test_a_click_is_a_call_of_the_employee_and_is_followed_to_its_end(
    office: Office,
) -> None:
    answer = await office.done(office.crm.click(24, f"+{CUSTOMER}", shop="shop2"), of="the click")
    assert answer.status == 200, answer.body
    dial_id = json.loads(answer.body)["dial_id"]
    (order,) = office.uis.asked("start.employee_call")
    assert order == {
        "first_call": "employee",
        "switch_at_once": True,
        "early_switching": True,
        "show_virtual_phone_number": False,
        "virtual_phone_number": SHOP2[1:],
        "external_id": dial_id,
        "direction": "out",
        "contact": CUSTOMER,
        "employee": {"id": 25},
    }
    (call,) = office.uis.ordered
    states = [await dial_state(office, dial_id)]

    async def tell(body: Row) -> None:
        await hears_of(office, body)
        states.append(await dial_state(office, dial_id))

    def at(seconds: int) -> datetime:
        return call.began + timedelta(seconds=seconds)

    await office.pass_to(at(1))
    await tell(call.rings(25, at(1)))
    assert kinds(office, 24) == [], "his own phone rings: he knows whom he calls"
    call.picks_up(25, at(4))
    await office.pass_to(at(9))
    await tell(call.answers(25, at(9)))
    assert kinds(office, 24) == ["out"]
    await office.pass_to(at(51))
    await tell(call.ends(at(51)))
    assert states == ["requested", "agent_ringing", "connected", "ended"]
    assert kinds(office, 24) == ["out", "hangup"]
    out, hangup = office.crm.shown_to(24)
    assert (out["phone"], out["codes"]) == (f"+{CUSTOMER}", ["101"])
    assert (out["externalPhone"], hangup["externalPhone"]) == (SHOP2, SHOP2), "the record's shop"
    assert hangup["hangupStatus"] == "answered"
    assert kinds(office, 27) == []

    said = await uploaded(office, call)
    assert (said["type"], said["phone"], said["userId"]) == ("out", f"+{CUSTOMER}", 24)
    assert (said["result"], said["duration"]) == ("answered", 42)
    assert said["externalPhone"] == SHOP2
    assert len(office.uis.asked("start.employee_call")) == 1


async def dial_state(office: Office, dial_id: str) -> str:
    status, found = await office.ask("GET", f"/v1/dials/{dial_id}")
    assert status == 200, found
    return str(found["state"])


async def test_a_double_click_rings_once(office: Office) -> None:
    click = office.crm.click
    both = asyncio.gather(click(24, f"+{CUSTOMER}"), click(24, f"+{CUSTOMER}"))
    answers = await office.done(both, of="the clicks")
    assert [answer.status for answer in answers] == [200, 200]
    assert answers[0].body == answers[1].body
    assert len(office.uis.asked("start.employee_call")) == 1


@pytest.mark.parametrize(
    "refusal",
    [
        error(-32002, "contact_in_blacklist"),
        error(-32602, "employee_not_found", "Employee with id 25 not found."),
        error(-32007, "virtual_phone_number_not_found"),
        error(-32003, "forbidden"),
        error(-32029, "limit_exceeded"),
    ],
    ids=["blacklist", "no employee", "not our number", "no right", "limit"],
)
async def test_a_click_that_the_account_refuses_is_refused_in_the_crm(
    office: Office, refusal: dict[str, Any]
) -> None:
    """By its status, while the user still looks: retailCRM asks no second time."""
    office.uis.refuses[STRANGER] = refusal
    refused = await office.done(office.crm.click(24, f"+{STRANGER}"), of="the click")
    assert refused.status == 409, refused.body
    assert TOKEN not in refused.body
    assert office.uis.ordered == []
    assert len(office.uis.asked("start.employee_call")) == 1
    _, found = await office.ask("GET", "/v1/dials")
    dials = [(dial["state"], dial["number"]) for dial in found["dials"]]
    assert dials == [("failed", f"+{STRANGER}")]
    # The phone is free again: the next click is taken.
    taken = await office.done(office.crm.click(24, f"+{CUSTOMER}"), of="the next click")
    assert taken.status == 200, taken.body

    async def is_noted() -> bool:
        """What came of a request is noted when it has been answered."""
        _, audit = await office.ask("GET", "/v1/audit?action=dial")
        entries = audit.get("entries", ())
        outcomes = [(one["key"], one["outcome"], one.get("status")) for one in entries]
        return outcomes == [("crm shop", "done", 200), ("crm shop", "refused", 409)]

    await office.until(is_noted, of="the audit log")
    await office.pass_time(120)
    assert office.crm.calls == {}, "no call, no entry"


# -- statuses --------------------------------------------------------------------------------------

SAME = {
    "free": "available",
    "busy": "do_not_disturb",
    "break": "break",
    "dinner": "not_at_workplace",
}


async def test_what_a_user_does_goes_to_the_account_and_back_without_a_loop(
    office: Office,
) -> None:
    office.crm.echoes = True
    path = "/api/v5/users/24/status"
    changes = 0
    for word in ("busy", "dinner", "break", "free", "dinner"):
        answer = await office.done(office.crm.change_status(24, word), of="the change")
        assert answer is not None
        assert answer.status == 202, answer.body
        changes += 1
        await office.quiet()
        assert office.uis.employees[25] == SAME[word]
        # Longer than an echo is known for, and than all tries of telling.
        await office.pass_time(200)
        assert office.crm.users[24].status == word
        assert len(office.uis.asked("update.employees")) == changes
        assert office.crm.asked[path] == 0
    wanted = [{"id": 25, "status": SAME[word]} for word in ("busy", "dinner", "break", "free")]
    assert office.uis.asked("update.employees") == [*wanted, wanted[1]]
    assert office.uis.employees[26] == "available"

    # The other way: Anna says it at the account.
    for told, word in enumerate(("free", "busy", "break", "dinner"), start=1):
        office.uis.does(25, SAME[word])
        await office.quiet()
        assert office.crm.users[24].status == word
        await office.pass_time(200)
        assert office.crm.asked[path] == told
        assert office.uis.employees[25] == SAME[word]
        assert len(office.uis.asked("update.employees")) == changes
    assert [word for _, word in office.crm.told] == ["free", "busy", "break", "dinner"]
    assert office.crm.users[27].status == "free"
