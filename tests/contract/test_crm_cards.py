"""A retailCRM is told of calls, so that its users see its own cards: who, when, once, and of the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable
from datetime import datetime, timedelta
from typing import Any

import pytest
import structlog.testing
from aiohttp import web

from services.lookup.cards import CARDS
from services.lookup.handlers import router
from services.lookup.module_book import MODULES, ModuleBook
from shared.bus.port import Consumer
from shared.clock import ManualClock, SystemClock
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    CallTransferred,
    Direction,
    Disposition,
    LegEnded,
    LegOutcome,
    Party,
    TransferKind,
)
from shared.contracts.cards import CardMoment
from shared.contracts.contacts import CrmUser
from shared.contracts.envelope import Event
from shared.storage.port import Find
from shared.testing.builders import a_call
from shared.testing.waiting import eventually
from tests.contract.cards_kit import Replica, RetailShop, retail_shop
from tests.contract.scripted_crm import Asked, scripted

PHONES = [f"1{n:02}" for n in range(1, 21)]
CUSTOMER = Party(number="+79121234567")
STARTED = a_call(caller=CUSTOMER, dialled="+74999999999")


def rings(phone: str, *, leg: str = "", own: bool = False) -> CallRinging:
    return CallRinging(
        call_id="c1",
        pbx="main",
        leg_id=leg or phone,
        callee=Party(extension=phone),
        caller=CUSTOMER,
        own_phone=own,
    )


def answers(phone: str) -> CallAnswered:
    return CallAnswered(call_id="c1", pbx="main", leg_id=phone, callee=Party(extension=phone))


def ends(phone: str, outcome: LegOutcome) -> LegEnded:
    callee = Party(extension=phone)
    return LegEnded(call_id="c1", pbx="main", leg_id=phone, callee=callee, outcome=outcome)


OVER = CallEnded(call_id="c1", pbx="main", disposition=Disposition.ANSWERED)


class Floor:
    """A shop whose agents have the phones 101 to 120, and two replicas of lookup."""

    def __init__(self, shop: RetailShop) -> None:
        self.shop = shop
        self.crm = shop.crm

    async def apply(self, **connection: Any) -> None:
        await self.shop.apply(
            self.shop.connection(**connection),
            agents=[{"extension": phone} for phone in PHONES],
            dialing={"numbers": {"agents": {"101": "+74998888888"}}},
        )

    def has_codes(self, *phones: str) -> None:
        """The administrator set the module up by hand."""
        rows = [{"userId": 24, "code": phone} for phone in phones]
        telephony = {"makeCallUrl": "https://x.example", "additionalCodes": rows}
        self.crm.modules["hand"] = {
            "code": "hand",
            "active": True,
            "clientId": "c",
            "integrations": {"telephony": telephony},
        }

    async def hear(self, *events: Event, at: datetime | None = None, replica: int = 0) -> None:
        """One after the other."""
        for event in events:
            await self._heard(replica, event, at)

    async def hear_at_once(self, *events: Event) -> None:
        """By both replicas."""
        async with asyncio.TaskGroup() as together:
            for number, event in enumerate(events):
                together.create_task(self._heard(number % 2, event, None))

    async def _heard(self, replica: int, event: Event, at: datetime | None) -> None:
        found: Replica = self.shop.replicas[replica]
        site = found.site.site("acme")
        assert site is not None
        await found.cards.heard(site, self.shop.message(event, at))

    @property
    def types(self) -> list[tuple[str, list[str]]]:
        return [(card["type"], sorted(card["codes"])) for card in self.crm.cards]

    @property
    def ended(self) -> list[tuple[list[int], str]]:
        """Whose cards were closed, and how."""
        closed = (card for card in self.crm.cards if card["type"] == "hangup")
        return [(card["userIds"], card["hangupStatus"]) for card in closed]

    def counted(self, moment: str, outcome: str) -> float:
        return self.shop.metrics.value("callmesh_cards_total", moment, outcome)


@pytest.fixture(params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)])
async def floor(request: pytest.FixtureRequest) -> AsyncIterator[Floor]:
    url = request.getfixturevalue("mongo_url") if request.param == "mongo" else None
    async with retail_shop(request.param, SystemClock(), url) as shop:
        made = Floor(shop)
        await made.apply()
        made.has_codes(*PHONES)
        for _ in range(2):
            await shop.replica()
        yield made


async def test_who_is_rung_sees_the_card_and_its_end(floor: Floor) -> None:
    await floor.hear(STARTED, rings("101"))
    assert floor.crm.cards == [
        {
            "phone": "+79121234567",
            "type": "in",
            "codes": ["101"],
            "externalPhone": "+74999999999",
            "callExternalId": "c1",
        }
    ]
    await floor.hear(answers("101"), ends("101", LegOutcome.ANSWERED), OVER)
    assert floor.types == [("in", ["101"]), ("hangup", ["101"])]
    assert floor.crm.cards[1]["hangupStatus"] == "answered"
    await eventually(lambda: len(floor.shop.told) == 2)
    assert [one.moment for one in floor.shop.told] == [CardMoment.INCOMING, CardMoment.HANGUP]
    assert floor.counted("in", "told") == 1


async def test_a_queue_of_twenty_phones_over_two_replicas_is_few_requests(floor: Floor) -> None:
    await floor.hear(STARTED)
    await floor.hear_at_once(*(rings(phone) for phone in PHONES))
    shown = [code for card in floor.crm.cards for code in card["codes"]]
    assert sorted(shown) == PHONES
    assert len(floor.crm.cards) <= 6

    await floor.hear(answers("105"))
    others = [phone for phone in PHONES if phone != "105"]
    await floor.hear_at_once(*(ends(phone, LegOutcome.ELSEWHERE) for phone in others))
    closed = [card for card in floor.crm.cards if card["type"] == "hangup"]
    assert sorted(code for card in closed for code in card["codes"]) == others
    assert {card["hangupStatus"] for card in closed} == {"no answered"}
    assert len(closed) <= 6


async def test_what_comes_twice_is_told_once(floor: Floor) -> None:
    now = floor.shop.clock.now()
    for replica in (0, 1, 0):
        await floor.hear(STARTED, rings("101"), at=now, replica=replica)
    assert floor.types == [("in", ["101"])]
    await asyncio.gather(*(floor.hear(OVER, at=now, replica=replica) for replica in (0, 1, 0, 1)))
    assert floor.types == [("in", ["101"]), ("hangup", ["101"])]


async def test_a_ring_that_comes_before_its_call_is_told_with_it(floor: Floor) -> None:
    await floor.hear(rings("101"))
    assert floor.types == []
    await floor.hear(STARTED, replica=1)
    assert floor.types == [("in", ["101"])]


async def test_a_late_ring_is_dropped_and_counted(floor: Floor) -> None:
    late = floor.shop.clock.now() - timedelta(seconds=21)
    await floor.hear(STARTED, rings("101"), at=late)
    assert floor.types == []
    assert floor.counted("in", "late") == 1
    await floor.hear(rings("102"))
    assert floor.types == [("in", ["102"])]


async def test_a_transfer_shows_the_card_to_the_next(floor: Floor) -> None:
    await floor.hear(STARTED, rings("101"), answers("101"), rings("102"))
    await floor.hear(ends("101", LegOutcome.ANSWERED), answers("102"), OVER)
    assert floor.types == [
        ("in", ["101"]),
        ("in", ["102"]),
        ("hangup", ["101"]),
        ("hangup", ["102"]),
    ]


async def test_an_internal_call_and_a_strangers_phone_show_nothing(floor: Floor) -> None:
    internal = a_call(direction=Direction.INTERNAL, caller=Party(extension="101"), dialled="102")
    await floor.hear(internal, rings("102"), answers("102"), OVER)
    await floor.hear(
        *(event.model_copy(update={"call_id": "c2"}) for event in (STARTED, rings("900")))
    )
    assert floor.crm.cards == []


async def test_an_outbound_call_is_told_when_the_customer_rings(floor: Floor) -> None:
    clicked = a_call(
        direction=Direction.OUTBOUND,
        caller=Party(),
        dialled="+79121234567",
        dial_id="d1",
    )
    customer = rings("101").model_copy(update={"callee": CUSTOMER, "leg_id": "out"})
    await floor.hear(clicked, rings("101", own=True))
    assert floor.crm.cards == []
    await floor.hear(customer)
    (card,) = floor.crm.cards
    assert (card["type"], card["codes"], card["phone"]) == ("out", ["101"], "+79121234567")
    assert card["externalPhone"] == "+74998888888"
    await floor.hear(CallEnded(call_id="c1", pbx="main", disposition=Disposition.BUSY))
    assert floor.crm.cards[1]["hangupStatus"] == "busy"


async def test_who_dialled_by_hand_and_passes_the_call_on_loses_his_card(floor: Floor) -> None:
    dialled = a_call(
        direction=Direction.OUTBOUND, caller=Party(extension="101"), dialled="+79121234567"
    )
    customer = rings("101").model_copy(update={"callee": CUSTOMER, "leg_id": "out"})
    passed_on = CallTransferred(
        call_id="c1",
        pbx="main",
        kind=TransferKind.BLIND,
        by=Party(extension="101"),
        to=Party(extension="102"),
    )
    await floor.hear(dialled, customer, passed_on, rings("102"))
    assert floor.types == [("out", ["101"]), ("hangup", ["101"]), ("in", ["102"])]


def test_lookup_hears_of_transfers_also_of_those_while_it_was_away() -> None:
    assert Consumer("lookup", CallTransferred) in router.consumers


async def test_a_user_with_two_phones_sees_the_card_as_long_as_one_has_the_call(
    floor: Floor,
) -> None:
    await floor.shop.apply(
        floor.shop.connection(parameters={"cards_by": "users"}),
        agents=[
            {"extension": phone, "users": {"retail": user}}
            for phone, user in (("101", "24"), ("102", "24"), ("103", "25"))
        ],
    )
    ann = CrmUser(user_id="24", display_name="Ann", extension="101")
    await floor.shop.users_are(ann, CrmUser(user_id="25", display_name="Bob", extension="103"))
    await floor.hear(STARTED)
    at = floor.shop.clock.now()
    await asyncio.gather(*(floor.hear(rings(phone), at=at) for phone in ("101", "102", "103")))
    seen = [one for card in floor.crm.cards for one in card["userIds"]]
    assert set(seen) == {24, 25}
    await floor.hear(answers("101"), ends("102", LegOutcome.ELSEWHERE))
    await floor.hear(ends("103", LegOutcome.ELSEWHERE))
    assert floor.ended == [([25], "no answered")]
    await floor.hear(ends("101", LegOutcome.ANSWERED), OVER)
    assert floor.ended == [([25], "no answered"), ([24], "answered")]


async def test_switched_off_for_the_connection_nothing_is_told(floor: Floor) -> None:
    await floor.apply(popup={"in_crm": False})
    await floor.hear(STARTED, rings("101"), OVER)
    assert floor.crm.cards == []
    assert (await floor.shop.store.collection(CARDS).page(Find())).documents == []


async def test_shown_at_the_answer(floor: Floor) -> None:
    await floor.apply(popup={"moment": "answered"})
    await floor.hear(STARTED, rings("101"), rings("102"))
    assert floor.crm.cards == []
    await floor.hear(answers("102"))
    assert floor.types == [("in", ["102"])]


# -- what the CRM says ---------------------------------------------------------------------------------


async def test_codes_that_it_does_not_know_are_told_once_an_hour(floor: Floor) -> None:
    floor.has_codes("101")
    with structlog.testing.capture_logs() as lines:
        await floor.hear(STARTED, rings("101"), rings("102"), OVER)
    await eventually(lambda: any(one.unreached for one in floor.shop.told))
    assert {code for one in floor.shop.told for code in one.unreached} == {"102"}
    warned = [line for line in lines if line["event"] == "card_unreached"]
    assert [line["code"] for line in warned] == ["102"]
    book = ModuleBook(floor.shop.store.collection(MODULES), floor.shop.clock)
    known = await book.read("acme", "retail")
    assert known is not None
    assert [one.code for one in known.unreached] == ["102"]


@pytest.mark.parametrize(("times", "outcome"), [(4, "told"), (5, "failed")])
async def test_the_end_of_a_card_is_told_a_few_times_more(
    times: int, outcome: str, clock: ManualClock
) -> None:
    async with retail_shop("sqlite", clock) as shop:
        floor = Floor(shop)
        await floor.apply()
        floor.has_codes(*PHONES)
        await shop.replica()
        await passed(clock, floor.hear(STARTED, rings("101")))
        floor.crm.limited["call/event"] = times
        await passed(clock, floor.hear(answers("101"), OVER))
        assert floor.crm.asked["/api/v5/telephony/call/event"] == 1 + 5
        assert floor.types == [("in", ["101"]), ("hangup", ["101"])][: 2 if times == 4 else 1]
        assert floor.counted("hangup", outcome) == 1
        await eventually(lambda: len(floor.shop.told) == 2)
        assert bool(floor.shop.told[1].fault) is (outcome == "failed")
        await passed(clock, floor.hear(ends("101", LegOutcome.ANSWERED)))
        assert floor.crm.asked["/api/v5/telephony/call/event"] == 1 + 5


async def test_while_an_end_waits_the_next_agent_sees_his_card(clock: ManualClock) -> None:
    async with retail_shop("sqlite", clock) as shop:
        floor = Floor(shop)
        await floor.apply()
        floor.has_codes(*PHONES)
        await shop.replica()
        await passed(clock, floor.hear(STARTED, rings("101"), answers("101")))
        floor.crm.limited["call/event"] = 1
        ending = asyncio.create_task(floor.hear(ends("101", LegOutcome.ANSWERED)))
        await passed(clock, asked_twice(floor), by=timedelta(milliseconds=10))
        await floor.hear(rings("102"))
        await passed(clock, ending)
        assert floor.types == [("in", ["101"]), ("in", ["102"]), ("hangup", ["101"])]


async def test_a_card_that_may_be_there_is_closed(clock: ManualClock) -> None:
    """The CRM broke down over it, and who knows when."""
    told: list[str] = []

    def breaks_down(asked: Asked) -> Any:
        told.append(json.loads(asked.form["event"])["type"])
        return web.Response(status=500) if told[-1] == "in" else {"success": True}

    async with scripted(breaks_down) as crm, retail_shop("sqlite", clock) as shop:
        floor = Floor(shop)
        await floor.apply(parameters={"api_url": crm.url})
        await shop.replica()
        await passed(clock, floor.hear(STARTED, rings("101")))
        assert floor.counted("in", "failed") == 1
        await passed(clock, floor.hear(answers("101"), OVER))
        assert told == ["in", "in", "hangup"]


async def passed(
    clock: ManualClock, doing: Awaitable[None], by: timedelta = timedelta(milliseconds=500)
) -> None:
    """Time goes on until it is done."""
    task = asyncio.ensure_future(doing)

    async def is_done() -> bool:
        await clock.advance(by)
        return task.done()

    await eventually(is_done)
    await task


async def asked_twice(floor: Floor) -> None:
    await eventually(lambda: floor.crm.asked["/api/v5/telephony/call/event"] == 2)


@pytest.mark.parametrize("times", [1, 2])
async def test_over_its_limit_it_is_asked_once_more_and_given_up(
    times: int, clock: ManualClock
) -> None:
    async with retail_shop("sqlite", clock) as shop:
        floor = Floor(shop)
        await floor.apply()
        floor.has_codes(*PHONES)
        await shop.replica()
        floor.crm.limited["call/event"] = times
        telling = asyncio.create_task(floor.hear(STARTED, rings("101")))

        async def is_told() -> bool:
            await clock.advance(timedelta(milliseconds=100))
            return telling.done()

        await eventually(is_told)
        await telling
        await eventually(lambda: bool(shop.told))
        assert floor.crm.asked["/api/v5/telephony/call/event"] == 2
        assert len(floor.crm.cards) == 2 - times
        assert bool(shop.told[0].fault) is (times == 2)
        assert floor.counted("in", "told" if times == 1 else "failed") == 1


async def test_what_it_did_not_take_is_not_closed(floor: Floor) -> None:
    modules = dict(floor.crm.modules)
    floor.crm.modules.clear()
    await floor.hear(STARTED, rings("101"))
    floor.crm.modules |= modules
    await floor.hear(answers("101"), OVER)
    assert floor.crm.cards == []


async def test_a_refusal_is_not_tried_again(floor: Floor) -> None:
    floor.crm.modules.clear()  # no active telephony: 400
    await floor.hear(STARTED, rings("101"))
    await eventually(lambda: bool(floor.shop.told))
    assert floor.crm.asked["/api/v5/telephony/call/event"] == 1
    assert "no active telephony" in (floor.shop.told[0].fault or "")


async def test_a_module_of_ours_has_only_the_phones_whose_users_are_known(floor: Floor) -> None:
    await floor.apply(telephony={"registered": True})
    await floor.shop.users_are(CrmUser(user_id="24", display_name="Ann", extension="101"))
    await floor.hear(STARTED, rings("102"))
    assert floor.crm.cards == []
    await floor.hear_at_once(rings("101"), rings("103"))
    assert floor.types == [("in", ["101"])]
    await floor.hear(OVER)
    assert floor.types == [("in", ["101"]), ("hangup", ["101"])]


# -- who dies ------------------------------------------------------------------------------------------


async def test_a_message_that_is_delivered_again_goes_on_with_its_turn(floor: Floor) -> None:
    """The process dies while it waits for more phones; the next one has the message again."""
    now = floor.shop.clock.now()
    await floor.hear(STARTED, at=now)
    dying = asyncio.create_task(floor.hear(rings("101"), at=now))

    async def has_turn() -> bool:
        page = await floor.shop.store.collection(CARDS).page(Find())
        return any(one.turn_of for one in page.documents)

    await eventually(has_turn)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)
    assert floor.crm.cards == []
    # Another phone's ring leaves it to who has the turn, and that comes again.
    await floor.hear(rings("102"), at=now, replica=1)
    assert floor.crm.cards == []
    await floor.hear(rings("101"), at=now, replica=1)
    assert floor.types == [("in", ["101", "102"])]


async def test_of_two_connections_one_that_hangs_holds_up_no_other(floor: Floor) -> None:
    hangs = asyncio.Event()

    async def never(_: Any) -> Any:
        await hangs.wait()
        return {"success": True}

    async with scripted(never) as other:
        slow = floor.shop.connection(
            name="slow", parameters={"api_url": other.url}, popup={"in_crm": True}
        )
        await floor.shop.apply(
            slow, floor.shop.connection(), agents=[{"extension": phone} for phone in PHONES]
        )
        await floor.hear(STARTED)
        telling = asyncio.create_task(floor.hear(rings("101")))
        await eventually(lambda: floor.types == [("in", ["101"])])
        assert not telling.done()
        hangs.set()
        await telling


def test_a_started_call_of_the_kit_is_inbound() -> None:
    assert isinstance(STARTED, CallStarted)
    assert STARTED.direction is Direction.INBOUND
