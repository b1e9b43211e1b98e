"""What a tenant may dial in a minute, an hour, a day, and for how much: over all replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from shared.clock import ManualClock
from shared.contracts.calls import Disposition
from shared.contracts.dialing import DialReason, DialRecord, DialState
from shared.errors import TooMany
from shared.site.dialing import DialPolicy
from shared.storage.port import DocumentStore
from tests.contract.dial_kit import (
    BOTH_STORES,
    SECOND,
    UNHEARD,
    Floor,
    Fuse,
    Replica,
    Seen,
    a_store,
    killed_at,
)

PHONES = [str(number) for number in range(1000, 1500)]
#: Ten cents a begun minute, mobile numbers twenty.
PRICES = {"+44": "0.10", "+447": "0.20"}
LANDLINE, MOBILE = "+442079460000", "+447700900123"


@pytest.fixture(params=BOTH_STORES)
async def store(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[DocumentStore]:
    async with a_store(request, clock) as store:
        yield store


@pytest.fixture
async def floor(store: DocumentStore, clock: ManualClock) -> Floor:
    return Floor(store, clock)


async def limited(floor: Floor, *, prices: Any = None, **limits: Any) -> Replica:
    known = {"per_minute": None, "agent_per_minute": None}
    policy = DialPolicy.model_validate({"limits": known | limits, "prices": prices or {}})
    await floor.say(policy, agents=PHONES)
    return await floor.replica()


async def talked(floor: Floor, replica: Replica, record: DialRecord, time: timedelta) -> None:
    await floor.run(replica)
    call = Seen.of(record)
    await call.come(replica, until=DialState.CONNECTED)
    await floor.clock.advance(time)
    await replica.hear(call.ends(Disposition.ANSWERED))


async def test_of_five_hundred_dials_at_once_over_three_replicas_a_hundred_are_let(
    floor: Floor,
) -> None:
    one = await limited(floor, per_day=100)
    replicas = [one, await floor.replica(), await floor.replica()]
    found = await asyncio.gather(
        *(replicas[n % 3].place(extension=phone) for n, phone in enumerate(PHONES)),
        return_exceptions=True,
    )

    errors = [error for error in found if isinstance(error, BaseException)]
    assert {type(error) for error in errors} == {TooMany}
    assert len(found) - len(errors) == 100
    meter = await floor.meter()
    assert (meter.today, len(meter.held)) == (100, 100)
    assert await floor.dials() == 100
    # Who was refused is not counted, and his phone is free.
    refused = next(phone for phone, error in zip(PHONES, found, strict=True) if error in errors)
    assert (await floor.meter(f"demo/{refused}")).today == 0
    with pytest.raises(TooMany, match="per_day"):
        await one.place(extension=refused)


@pytest.mark.parametrize(
    ("limit", "span", "step"),
    [
        ("per_minute", timedelta(minutes=1), SECOND),
        ("per_hour", timedelta(hours=1), timedelta(minutes=1)),
    ],
)
async def test_a_span_is_counted_back_from_now(
    floor: Floor, limit: str, span: timedelta, step: timedelta
) -> None:
    replica = await limited(floor, **{limit: 2})
    await replica.place(extension=PHONES[0])
    await floor.clock.advance(span / 2)
    await replica.place(extension=PHONES[1])
    with pytest.raises(TooMany, match=rf"2 times already: `dialing.limits.{limit}`") as caught:
        await replica.place(extension=PHONES[2])
    assert caught.value.retry_after is not None
    assert span / 2 <= caught.value.retry_after <= span / 2 + step
    await floor.clock.advance(caught.value.retry_after)

    await replica.place(extension=PHONES[2])
    with pytest.raises(TooMany):  # the second still counts
        await replica.place(extension=PHONES[3])


@pytest.mark.parametrize("zone", ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"])
async def test_a_day_is_the_tenants(floor: Floor, zone: str) -> None:
    await limited(floor)
    policy = DialPolicy.model_validate({"limits": {"per_day": 1}})
    await floor.say(policy, zone=zone)
    replica = await floor.replica()
    here = floor.clock.now().astimezone(ZoneInfo(zone))
    evening = datetime.combine(here.date(), here.time().replace(23, 59), tzinfo=here.tzinfo)
    await floor.clock.advance(max(evening - floor.clock.now(), timedelta(0)))
    await replica.place(extension=PHONES[0])
    with pytest.raises(TooMany) as caught:
        await replica.place(extension=PHONES[1])

    assert caught.value.retry_after == timedelta(minutes=1)
    await floor.clock.advance(timedelta(minutes=1))
    await replica.place(extension=PHONES[1])


async def test_an_agent_has_limits_of_his_own(floor: Floor) -> None:
    replica = await limited(floor, agent_per_minute=2)

    async def dialled(phone: str) -> None:
        record = await replica.place(extension=phone)
        await floor.run(replica)
        await replica.hear(Seen.of(record).ends(Disposition.BUSY))

    await dialled(PHONES[0])
    await dialled(PHONES[0])
    with pytest.raises(TooMany, match=r"This extension has dialled 2 times .*agent_per_minute"):
        await replica.place(extension=PHONES[0])
    await dialled(PHONES[1])

    assert (await floor.meter()).today == 3
    assert replica.deps.metrics.value("callmesh_dials_refused_total", "per_minute") == 1


async def test_a_dial_that_was_refused_for_the_tenant_does_not_count_for_the_agent(
    floor: Floor,
) -> None:
    replica = await limited(floor, per_day=1, agent_per_day=1)
    await replica.place(extension=PHONES[0])
    for _ in range(3):
        with pytest.raises(TooMany, match="The tenant"):
            await replica.place(extension=PHONES[1])
    await floor.clock.advance(timedelta(days=1))

    await replica.place(extension=PHONES[1])


# -- what it costs ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "time", "cost"),
    [
        (LANDLINE, timedelta(seconds=1), 100_000),
        (LANDLINE, timedelta(seconds=60), 100_000),
        (LANDLINE, timedelta(seconds=61), 200_000),
        (MOBILE, timedelta(minutes=5), 1_000_000),
        ("+4930901820", timedelta(minutes=5), 0),
    ],
)
async def test_a_conversation_costs_its_begun_minutes(
    floor: Floor, number: str, time: timedelta, cost: int
) -> None:
    replica = await limited(floor, prices=PRICES, cost_per_day="5")
    record = await replica.place(number, extension=PHONES[0])
    assert await floor.spent() == 0
    await talked(floor, replica, record, time)

    assert await floor.spent() == cost
    assert (await floor.meter()).held == ()


async def test_the_pbxs_own_count_of_the_conversation_is_believed(floor: Floor) -> None:
    replica = await limited(floor, prices=PRICES, cost_per_day="5")
    record = await replica.place(LANDLINE, extension=PHONES[0])
    await floor.run(replica)
    await Seen.of(record).come(replica, until=DialState.CONNECTED)
    await floor.clock.advance(timedelta(minutes=10))
    await replica.hear(Seen.of(record).ends(Disposition.ANSWERED, talk_time=timedelta(seconds=119)))

    assert await floor.spent() == 200_000


async def test_when_the_day_has_cost_what_it_may_nothing_that_costs_is_dialled(
    floor: Floor,
) -> None:
    replica = await limited(floor, prices=PRICES, cost_per_day="0.5")
    record = await replica.place(MOBILE, extension=PHONES[0])
    # The minute that is held counts: 0.2 of 0.5.
    await replica.place(MOBILE, extension=PHONES[1])
    with pytest.raises(TooMany, match="cost_per_day"):
        await replica.place(MOBILE, extension=PHONES[2])
    await replica.place(LANDLINE, extension=PHONES[2])
    await replica.place("+4930901820", extension=PHONES[3])  # costs nothing
    await replica.place(PHONES[5], extension=PHONES[4])  # a colleague
    await floor.run(replica)
    await replica.hear(Seen.of(record).ends(Disposition.BUSY))

    # It came to nothing, so there is room again.
    await replica.place(MOBILE, extension=PHONES[0])
    assert await floor.spent() == 0


async def test_a_long_call_uses_the_budget_up_and_tomorrow_is_another_day(floor: Floor) -> None:
    replica = await limited(floor, prices=PRICES, cost_per_day="0.5")
    record = await replica.place(MOBILE, extension=PHONES[0])
    await talked(floor, replica, record, timedelta(minutes=30))
    with pytest.raises(TooMany) as caught:
        await replica.place(MOBILE, extension=PHONES[0])
    assert await floor.spent() == 6_000_000
    await floor.clock.advance(caught.value.retry_after or timedelta(0))

    await replica.place(MOBILE, extension=PHONES[0])


async def test_a_call_over_midnight_is_of_the_day_on_which_it_was_dialled(floor: Floor) -> None:
    replica = await limited(floor, prices=PRICES, cost_per_day="0.5")
    await floor.clock.advance(timedelta(hours=23, minutes=59))
    record = await replica.place(MOBILE, extension=PHONES[0])
    await floor.run(replica)
    await Seen.of(record).come(replica, until=DialState.CONNECTED)
    await floor.clock.advance(timedelta(minutes=30))
    await replica.place(LANDLINE, extension=PHONES[1])
    await replica.hear(Seen.of(record).ends(Disposition.ANSWERED))

    assert await floor.spent() == 0
    await replica.place(MOBILE, extension=PHONES[0])


@pytest.mark.parametrize("reason", ["refused", "cancelled", "agent away", "unheard", "too late"])
async def test_what_never_rang_costs_nothing(floor: Floor, reason: str) -> None:
    replica = await limited(floor, prices=PRICES, cost_per_day="5")
    record = await replica.place(MOBILE, extension=PHONES[0])
    if reason == "too late":
        await floor.clock.advance(timedelta(seconds=31))
    await floor.run(replica)
    match reason:
        case "cancelled":
            await replica.cancel(record.dial_id)
        case "agent away":
            await replica.hear(Seen.of(record).ends(Disposition.FAILED))
        case "unheard" | "refused":
            await floor.clock.advance(UNHEARD)
            await replica.look()
    # An order that may yet be heard of is held for a while.
    held = 1 if reason in {"unheard", "refused", "cancelled"} else 0
    assert len((await floor.meter()).held) == held
    await floor.clock.advance(timedelta(minutes=11))
    await replica.look()

    assert (await floor.meter()).held == ()
    assert await floor.spent() == 0


async def test_a_conversation_that_is_told_of_behind_its_cancel_is_paid(floor: Floor) -> None:
    """The PBX's events lag: who cancels has been speaking for a while."""
    replica = await limited(floor, prices=PRICES, cost_per_day="5")
    record = await replica.place(MOBILE, extension=PHONES[0])
    await floor.run(replica)
    answered_at = floor.clock.now()
    await floor.clock.advance(timedelta(seconds=90))
    await replica.cancel(record.dial_id)
    await replica.hear(Seen.of(record).answers(agent=False), at=answered_at)
    await replica.hear(Seen.of(record).ends(Disposition.ANSWERED))
    await floor.clock.advance(timedelta(minutes=11))
    await replica.look()

    assert await floor.spent() == 400_000


async def test_a_call_that_was_given_up_and_then_seen_is_paid(floor: Floor) -> None:
    replica = await limited(floor, prices=PRICES, cost_per_day="5")
    record = await replica.place(MOBILE, extension=PHONES[0])
    await floor.run(replica)
    await floor.clock.advance(UNHEARD)
    await replica.look()
    assert await replica.state(record.dial_id) == (DialState.FAILED, DialReason.INTERRUPTED)
    await talked(floor, replica, record, timedelta(seconds=90))

    assert await floor.spent() == 400_000


async def test_an_end_that_is_told_again_is_paid_once(floor: Floor) -> None:
    one = await limited(floor, prices=PRICES, cost_per_day="5")
    other = await floor.replica()
    record = await one.place(MOBILE, extension=PHONES[0])
    await talked(floor, one, record, timedelta(seconds=30))
    await floor.clock.advance(timedelta(minutes=5))
    for replica in (one, other):
        await replica.hear(Seen.of(record).ends(Disposition.ANSWERED))
        await replica.look()

    assert await floor.spent() == 200_000


async def test_an_end_without_its_beginning_is_waited_for_and_costs_a_minute(floor: Floor) -> None:
    replica = await limited(floor, prices=PRICES, cost_per_day="5")
    record = await replica.place(MOBILE, extension=PHONES[0])
    await floor.run(replica)
    await replica.hear(Seen.of(record).ends(Disposition.ANSWERED))
    assert len((await floor.meter()).held) == 1
    await floor.clock.advance(timedelta(minutes=2))
    await replica.look()

    assert await floor.spent() == 200_000


async def test_what_a_killed_process_held_comes_back(floor: Floor) -> None:
    other = await limited(floor, prices=PRICES, cost_per_day="0.2")
    fuse = Fuse()
    killed = await floor.replica(fuse)
    fuse.at = fuse.steps + 7  # turn and meters are taken; there is no document
    assert await killed_at(fuse, killed.place(MOBILE, extension=PHONES[0]))
    with pytest.raises(TooMany, match="cost"):
        await other.place(MOBILE, extension=PHONES[1])
    await floor.clock.advance(timedelta(minutes=2))
    await other.look()

    await other.place(MOBILE, extension=PHONES[1])
