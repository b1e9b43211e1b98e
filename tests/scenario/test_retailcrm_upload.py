"""Calls go to retailCRM as its page of telephony says: up to 50 in a request, and each of them once."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shared.clock import ManualClock
from shared.contracts.calls import Direction, Disposition
from shared.crm.engine.connector import TemplateConnector
from shared.crm.exchanges import exchange_of
from shared.crm.port import JournalEntry
from shared.errors import MeshError, NeedsReconnect, Rejected, Throttled, Unavailable
from shared.testing.cassettes import ConnectionIn, Recorder, recorder
from tests.contract.retailcrm_server import KEY, MOST_CALLS, RetailCrm, retail_crm

WITHIN = timedelta(seconds=10)
#: An agent who left: the CRM does not know this user any more.
GONE = "99"
NOON = datetime(2026, 11, 21, 12, 6, 34, tzinfo=UTC)


@dataclass(frozen=True)
class Shop:
    crm: RetailCrm
    recorder: Recorder

    def connector(self, key: str = KEY, **parameters: str) -> TemplateConnector:
        given = ConnectionIn(
            parameters={"api_url": "{server}", **parameters},
            credentials={"api_key": key},
            region="RU",
            zone="Europe/Moscow",
        )
        account = self.recorder.account("retailcrm", given, self.crm.url)
        return self.recorder.connections.connector(account)


@pytest.fixture
async def shop(clock: ManualClock) -> AsyncIterator[Shop]:
    async with retail_crm() as crm, recorder(clock=clock) as made:
        yield Shop(crm, made)


def call(place: int, **other: Any) -> JournalEntry:
    said: dict[str, Any] = {
        "direction": Direction.INBOUND,
        "disposition": Disposition.ANSWERED,
        "started_at": NOON + timedelta(minutes=place),
        "ended_at": NOON + timedelta(minutes=place, seconds=190),
        "talk_time": timedelta(seconds=184),
        "wait_time": timedelta(seconds=6),
        "number": f"+7922911{place:04}",
        "dialled": "8 (499) 999-99-99",
        "own_number": "+74999999999",
        "extension": "101",
        "agent_name": "Anna",
        "owner_id": "24",
        "contact": None,
        "recording": None,
    }
    return JournalEntry(reference=f"ref-{place:04}", **{**said, **other})


async def refused(
    connector: TemplateConnector, calls: list[JournalEntry], within: timedelta = WITHIN
) -> MeshError:
    with pytest.raises(MeshError) as caught:
        await connector.write_entries(calls, within=within)
    return caught.value


async def one_by_one(
    connector: TemplateConnector, calls: list[JournalEntry], clock: ManualClock
) -> list[str | MeshError]:
    found: list[str | MeshError] = []
    for one in calls:
        found += await connector.write_entries([one], within=WITHIN)
        await clock.advance(timedelta(seconds=1))  # ten requests a second
    return found


async def test_a_call_has_every_field_of_the_documented_form(shop: Shop) -> None:
    recording = "https://mesh.example/rec/1.mp3?sig=x&y=ё"
    missed: dict[str, Any] = {"disposition": Disposition.MISSED, "talk_time": timedelta(0)}
    connector = shop.connector(
        site="shop1", external_phone="+7-499-888-88-88", external_phones="74999999999"
    )
    calls = [
        call(1, recording=recording),
        call(2, direction=Direction.OUTBOUND, own_number=None, owner_id=None),
        call(3, **missed, number="", owner_id=None, extension=None, own_number="+74999999998"),
        call(4, disposition=Disposition.BUSY, own_number=None),
        call(5, disposition=Disposition.FAILED),
        call(6, disposition=Disposition.VOICEMAIL),
        call(7, direction=Direction.OUTBOUND, own_number="+74997777777"),
    ]

    assert await connector.write_entries(calls, within=WITHIN) == [one.reference for one in calls]

    sent = [shop.crm.calls[one.reference] for one in calls]
    # 12:07:34 UTC is 15:07:34 in the account's zone.
    assert sent[0] == {
        "date": "2026-11-21 15:07:34",
        "type": "in",
        "phone": "+79229110001",
        "userId": 24,
        "result": "answered",
        "duration": 184,
        "durationWaiting": 6,
        "externalId": "ref-0001",
        "externalPhone": "+74999999999",
        "site": "shop1",
        "recordUrl": recording,
    }
    assert (sent[1]["type"], sent[1]["code"], "userId" in sent[1]) == ("out", "101", False)
    assert (sent[2]["phone"], sent[2]["duration"]) == ("unknown", 0)
    results = [one["result"] for one in sent[2:6]]
    assert results == ["no answer", "busy", "failed", "no answer"]
    # Whose number nobody registered, or is not known, goes with the shop's.
    assert {one["externalPhone"] for one in sent[1:4]} == {"+7-499-888-88-88"}
    # What the customer of a click saw is one of ours: the click's order says so.
    assert sent[6]["externalPhone"] == "+74997777777"


async def test_a_call_with_a_long_reference_is_known_by_that(shop: Shop) -> None:
    """One of an older version has none, and keeps what it was sent with."""
    connector = shop.connector()
    calls = [call(1, long_reference="6f2d3a8e-6a53-4d0e-9a52-9d1c1f0c3a11"), call(2)]
    # The same ten characters, of another call.
    calls.append(replace(calls[0], long_reference="0b6a4f64-11c3-5a3e-8d5e-9d1c1f0c3a11"))
    answers = await connector.write_entries(calls, within=WITHIN)
    assert answers == ["ref-0001", "ref-0002", "ref-0001"]
    assert list(shop.crm.calls) == [
        "6f2d3a8e-6a53-4d0e-9a52-9d1c1f0c3a11",
        "ref-0002",
        "0b6a4f64-11c3-5a3e-8d5e-9d1c1f0c3a11",
    ]


async def test_a_hundred_and_twenty_calls_are_three_requests(shop: Shop) -> None:
    connector = shop.connector()
    calls = [call(number) for number in range(120)]
    assert connector.batch == MOST_CALLS

    for first in range(0, len(calls), connector.batch):
        some = calls[first : first + connector.batch]
        answers = await connector.write_entries(some, within=WITHIN)
        assert answers == [one.reference for one in some]

    assert shop.crm.batches == [50, 50, 20]
    assert list(shop.crm.calls) == [one.reference for one in calls]


async def test_more_than_it_takes_are_not_sent(shop: Shop) -> None:
    with pytest.raises(ValueError, match="51 entries"):
        await shop.connector().write_entries([call(n) for n in range(51)], within=WITHIN)
    assert shop.crm.requests == 0


async def test_an_account_of_the_old_api_has_its_address(shop: Shop) -> None:
    connector = shop.connector(telephony_api="v4")
    await connector.write_entries([call(1), call(2)], within=WITHIN)
    assert len(shop.crm.calls) == 2


async def test_with_one_bad_call_none_is_taken_and_the_others_go_alone(
    shop: Shop, clock: ManualClock
) -> None:
    connector = shop.connector()
    bad = call(17, owner_id=GONE)
    calls = [bad if number == 17 else call(number) for number in range(50)]

    error = await refused(connector, calls)
    assert isinstance(error, Rejected)
    assert not shop.crm.calls

    alone = await one_by_one(connector, calls, clock)
    of_the_bad = alone.pop(17)
    assert alone == [one.reference for one in calls if one is not bad]
    assert isinstance(of_the_bad, Rejected)
    shown = exchange_of(of_the_bad)
    assert shown is not None
    assert "calls[0][userId]" in shown.answer


async def test_the_same_calls_again_are_known_and_there_once(shop: Shop) -> None:
    connector = shop.connector()
    calls = [call(number) for number in range(50)]
    first = await connector.write_entries(calls[:30], within=WITHIN)
    again = await connector.write_entries(calls, within=WITHIN)

    assert again[:30] == first
    assert again == [one.reference for one in calls]
    assert len(shop.crm.calls) == 50


async def test_after_a_lost_answer_they_are_simply_sent_again(shop: Shop) -> None:
    connector = shop.connector()
    calls = [call(number) for number in range(50)]
    shop.crm.lose_answers = 1

    assert isinstance(await refused(connector, calls), Unavailable)
    again = await connector.write_entries(calls, within=WITHIN)

    assert again == [one.reference for one in calls]
    assert len(shop.crm.calls) == 50
    assert await connector.find_entry(calls[0], within=WITHIN) is None


async def test_a_call_that_is_neither_taken_nor_known_is_not_lost(
    shop: Shop, clock: ManualClock
) -> None:
    connector = shop.connector()
    shop.crm.drops = {"ref-0003"}
    calls = [call(number) for number in range(5)]

    error = await refused(connector, calls)
    assert isinstance(error, Rejected)
    assert "took 4 of 5" in error.message

    alone = await one_by_one(connector, calls, clock)
    assert [isinstance(one, Rejected) for one in alone] == [False, False, False, True, False]


async def test_over_the_limit_it_is_left_alone_for_a_while(shop: Shop, clock: ManualClock) -> None:
    connector = shop.connector()
    calls = [call(number) for number in range(50)]
    shop.crm.over_limit = 1

    error = await refused(connector, calls)
    assert isinstance(error, Throttled)
    assert error.retry_after is not None
    soon = timedelta(seconds=1)
    assert isinstance(await refused(connector, calls, soon), Throttled)
    assert shop.crm.requests == 1

    await clock.advance(error.retry_after + timedelta(seconds=1))
    assert await connector.write_entries(calls, within=WITHIN) == [one.reference for one in calls]


async def test_the_key_that_is_refused_is_in_nothing_that_is_told(shop: Shop) -> None:
    wrong = 'wrong/key+"1"&'
    error = await refused(shop.connector(key=wrong), [call(1), call(2)])
    assert isinstance(error, NeedsReconnect)
    shown = exchange_of(error)
    assert shown is not None
    assert shown.status == 403
    told = f"{error.message} {shown.model_dump_json()}"
    assert wrong not in told
    assert json.dumps(wrong)[1:-1] not in told
    assert "+79229110001" in shown.body


async def test_of_a_single_call_the_refusal_is_its_own(shop: Shop) -> None:
    connector = shop.connector()
    (answer,) = await connector.write_entries([call(1, owner_id=GONE)], within=WITHIN)
    assert isinstance(answer, Rejected)
    assert await connector.write_entries([], within=WITHIN) == []
