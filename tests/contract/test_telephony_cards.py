"""Cards that a CRM shows by itself: what it is told at each moment of a call, and who saw nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from shared.clock import ManualClock
from shared.contracts.calls import Direction, Disposition
from shared.contracts.cards import CardMoment
from shared.contracts.contacts import ContactCard
from shared.crm.port import CallCard, ShowsCards
from shared.errors import OutOfTime, Rejected, Throttled, Unavailable
from tests.contract.retailcrm_server import RetailCrm
from tests.contract.scripted_crm import Answers, Asked, connected
from tests.contract.test_telephony_module import MODULE, SOON, VERSIONS, shop

RING = CallCard(
    moment=CardMoment.INCOMING,
    call_id="call-0001",
    direction=Direction.INBOUND,
    number="79121234567",
    own_number="74999999999",
    extensions=("101", "102"),
    users={"101": "24", "102": "25"},
)
#: retailCRM's words, of the vendor's enum.
HANGUPS = {
    Disposition.ANSWERED: "answered",
    Disposition.BUSY: "busy",
    Disposition.FAILED: "failed",
    Disposition.MISSED: "no answered",
    Disposition.VOICEMAIL: "no answered",
}
PHONE_BY_PHONE: dict[str, Any] = {
    "schema": 2,
    "name": "shop",
    "title": "Shop",
    "quality": "declared",
    "sources": ["this test"],
    "parameters": [{"name": "url", "title": "Address", "kind": "url", "https": False}],
    "phone_formats": ["e164"],
    "contacts": {"People": {"search": [{"request": {"url": "{{.url}}/p?q={{.Phone}}"}}]}},
    "check": {"url": "{{.url}}/me"},
    "telephony": {
        "cards": [
            {
                "moments": ["in"],
                "to": "users",
                "each": True,
                "absent": [404],
                "request": {
                    "method": "POST",
                    "url": "{{.url}}/pop/{{.User}}",
                    "json": {"contact": "{{.ContactId}}", "module": "{{.Module}}"},
                },
            }
        ]
    },
}


def card(**changes: Any) -> CallCard:
    own = {name: getattr(RING, name) for name in RING.__dataclass_fields__}
    return CallCard(**{**own, **changes})


async def registered(crm: RetailCrm, connector: Any) -> None:
    await connector.register_module(MODULE, within=SOON)
    assert crm.codes()


@pytest.mark.parametrize("version", VERSIONS)
async def test_who_is_rung_sees_the_card(version: str) -> None:
    async with shop(version) as (crm, connector):
        port: ShowsCards = connector
        assert port.card_moments == set(CardMoment)
        await registered(crm, connector)
        assert await port.show_card(RING, within=SOON) == ()
        assert crm.cards == [
            {
                "phone": "+79121234567",
                "type": "in",
                "codes": ["101", "102"],
                "externalPhone": "+74999999999",
                "callExternalId": "call-0001",
            }
        ]
        assert crm.shown_to(24) == crm.shown_to(25) == crm.cards
        assert crm.asked[f"/api/{version}/telephony/call/event"] == 1


@pytest.mark.parametrize("disposition", Disposition)
async def test_the_end_is_told_in_the_crms_words(disposition: Disposition) -> None:
    async with shop() as (crm, connector):
        await registered(crm, connector)
        end = card(moment=CardMoment.HANGUP, disposition=disposition, own_number=None)
        await connector.show_card(end, within=SOON)
        (event,) = crm.cards
        assert event["type"] == "hangup"
        assert event["hangupStatus"] == HANGUPS[disposition]
        assert "externalPhone" not in event


async def test_a_call_to_a_customer_is_told_as_such() -> None:
    async with shop(site="shop1", external_phone="+74998888888") as (crm, connector):
        await registered(crm, connector)
        out = card(
            moment=CardMoment.OUTGOING,
            direction=Direction.OUTBOUND,
            own_number=None,
            extensions=("101",),
        )
        await connector.show_card(out, within=SOON)
        (event,) = crm.cards
        assert (event["type"], event["codes"]) == ("out", ["101"])
        assert (event["site"], event["externalPhone"]) == ("shop1", "+74998888888")


async def test_codes_that_nobody_has_are_told() -> None:
    async with shop() as (crm, connector):
        await registered(crm, connector)
        ring = card(extensions=("101", "198", "199"))
        assert await connector.show_card(ring, within=SOON) == ("198", "199")


async def test_users_may_be_named_instead() -> None:
    async with shop(cards_by="users") as (crm, connector):
        await registered(crm, connector)
        ring = card(extensions=("101", "199", "103"), users={"101": "24", "103": "88"})
        assert await connector.show_card(ring, within=SOON) == ("199", "88")
        (event,) = crm.cards
        assert event["userIds"] == [24, 88]
        assert "codes" not in event


async def test_a_user_with_two_phones_is_named_once() -> None:
    async with shop(cards_by="users") as (crm, connector):
        await registered(crm, connector)
        await connector.show_card(card(users={"101": "24", "102": "24"}), within=SOON)
        assert [event["userIds"] for event in crm.cards] == [[24]]


async def test_of_phones_without_users_nobody_is_asked() -> None:
    async with shop(cards_by="users") as (crm, connector):
        await registered(crm, connector)
        before = crm.asked.total()
        assert await connector.show_card(card(users={}), within=SOON) == ("101", "102")
        assert crm.asked.total() == before


async def test_a_user_who_cannot_be_one_there_is_named() -> None:
    async with shop(cards_by="users") as (_, connector):
        with pytest.raises(Rejected, match="extension 101, user anna: "):
            await connector.show_card(card(users={"101": "anna"}), within=SOON)


@pytest.mark.parametrize(
    "number", ["", "anonymous", '","type":"out', "+7 912 123-45-67", "x" * 9999]
)
async def test_a_hostile_number_is_a_number_or_unknown(number: str) -> None:
    async with shop() as (crm, connector):
        await registered(crm, connector)
        await connector.show_card(card(number=number), within=SOON)
        (event,) = crm.cards
        assert event["type"] == "in"
        assert event["phone"] == ("+79121234567" if "912" in number else "unknown")


async def test_over_the_limit_a_card_is_not_sent_into_the_pause() -> None:
    async with shop() as (crm, connector):
        await registered(crm, connector)
        crm.limited["call/event"] = 1
        with pytest.raises(Throttled):
            await connector.show_card(RING, within=SOON)
        with pytest.raises(Throttled):
            await connector.show_card(RING, within=SOON / 50)
        assert crm.asked["/api/v5/telephony/call/event"] == 1
        assert crm.cards == []


async def test_without_an_active_module_the_crm_takes_none() -> None:
    async with shop() as (_, connector):
        with pytest.raises(Rejected, match="no active telephony"):
            await connector.show_card(RING, within=SOON)


# -- a request for each phone ----------------------------------------------------------------------


async def pop(answers: Answers, folder: Path, ring: CallCard = RING) -> tuple[Any, list[Asked]]:
    async with connected(PHONE_BY_PHONE, answers, folder) as made:
        return await made.connector.show_card(ring, within=SOON), made.crm.asked


def whose(asked: Asked) -> str:
    return asked.what.rpartition("/")[2]


async def test_each_phone_is_asked_for_by_itself(tmp_path: Path) -> None:
    ann = ContactCard(connection="crm", module="People", contact_id="7", display_name="Ann")
    found, asked = await pop(lambda _: {}, tmp_path, card(contact=ann))
    assert found == ()
    assert sorted(map(whose, asked)) == ["24", "25"]
    assert {str(one.json) for one in asked} == {"{'contact': '7', 'module': 'People'}"}


async def test_a_user_with_two_phones_is_asked_for_once(tmp_path: Path) -> None:
    found, asked = await pop(lambda _: {}, tmp_path, card(users={"101": "24", "102": "24"}))
    assert (found, [whose(one) for one in asked]) == ((), ["24"])


async def test_an_id_of_another_crm_is_nobodys_here(tmp_path: Path) -> None:
    ann = ContactCard(connection="other", module="People", contact_id="7", display_name="Ann")
    _, asked = await pop(lambda _: {}, tmp_path, card(contact=ann))
    assert [one.json for one in asked] == [None, None]


async def test_one_who_is_not_there_is_told_and_costs_the_others_nothing(tmp_path: Path) -> None:
    def answers(asked: Asked) -> Any:
        return web.Response(status=404) if whose(asked) == "24" else {}

    ring = card(extensions=("101", "102", "103"))
    found, _ = await pop(answers, tmp_path, ring)
    assert found == ("103", "24")


async def test_a_failure_is_one_where_it_is_everybodys(tmp_path: Path) -> None:
    def one_fails(asked: Asked) -> Any:
        return web.Response(status=500) if whose(asked) == "24" else {}

    assert (await pop(one_fails, tmp_path))[0] == ()
    with pytest.raises(Unavailable):
        await pop(lambda _: web.Response(status=500), tmp_path)


async def test_a_moment_that_it_is_not_told_of_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Rejected, match="no card of the moment hangup"):
        await pop(lambda _: {}, tmp_path, card(moment=CardMoment.HANGUP))


async def test_who_waits_for_a_card_waits_no_longer_than_was_said(
    tmp_path: Path, clock: ManualClock
) -> None:
    async def never(_: Asked) -> Any:
        await clock.sleep(SOON * 1000)

    async with connected(PHONE_BY_PHONE, never, tmp_path) as made:
        with pytest.raises(OutOfTime):
            await made.connector.show_card(RING, within=SOON / 50)


async def test_a_crm_without_cards_shows_none(tmp_path: Path) -> None:
    plain = {name: value for name, value in PHONE_BY_PHONE.items() if name != "telephony"}
    async with connected(plain, lambda _: {}, tmp_path) as made:
        assert made.connector.card_moments == frozenset()
        assert not made.connector.has_module
        assert not made.connector.tells_status
        with pytest.raises(Rejected):
            await made.connector.show_card(RING, within=SOON)
        with pytest.raises(Rejected, match=r"no `telephony\.modules`"):
            await made.connector.register_module(MODULE, within=SOON)
        with pytest.raises(Rejected, match=r"no `telephony\.status\.tell`"):
            await made.connector.tell_status("24", "free", extension="101", within=SOON)
