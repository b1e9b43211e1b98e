"""One dial at a time per phone, over all replicas; and nothing that holds a phone for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from services.dialer.turns import TURNS
from shared.clock import ManualClock
from shared.contracts.calls import Disposition
from shared.contracts.dialing import DialReason, DialRecord, DialState
from shared.errors import Conflict
from shared.sandbox.site import PBX, TENANT
from tests.contract.dial_kit import (
    BOTH_STORES,
    SECOND,
    UNHEARD,
    Floor,
    Fuse,
    Seen,
    a_store,
    killed_at,
)


@pytest.fixture(params=BOTH_STORES)
async def floor(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[Floor]:
    async with a_store(request, clock) as store:
        yield Floor(store, clock)


async def test_of_fifty_clicks_at_once_on_one_phone_one_dials(floor: Floor) -> None:
    replicas = [await floor.replica() for _ in range(3)]
    found = await asyncio.gather(
        *(replicas[n % 3].place(f"+4477009001{n:02}") for n in range(50)), return_exceptions=True
    )
    await floor.run(*replicas)

    dialled = [record for record in found if isinstance(record, DialRecord)]
    errors = [error for error in found if isinstance(error, BaseException)]
    assert len(dialled) == 1
    assert {type(error) for error in errors} == {Conflict}
    assert dialled[0].dial_id in str(errors[0])
    assert [order.reference for order in floor.line.orders] == [dialled[0].dial_id]
    assert await floor.dials() == 1
    # What was refused counts for nothing.
    assert (await floor.meter()).today == 1


async def test_other_phones_dial_meanwhile(floor: Floor) -> None:
    replica = await floor.replica()
    await replica.place(extension="101")
    await replica.place(extension="102")
    await floor.run(replica)

    assert [order.extension for order in floor.line.orders] == ["101", "102"]


@pytest.mark.parametrize("state", [s for s in DialState if not s.is_final])
async def test_a_phone_is_taken_until_its_dial_is_over(floor: Floor, state: DialState) -> None:
    replica = await floor.replica()
    record = await replica.place()
    await floor.run(replica)
    await Seen.of(record).come(replica, until=state)
    with pytest.raises(Conflict, match=f"dial {record.dial_id}"):
        await replica.place()
    await replica.hear(Seen.of(record).ends(Disposition.MISSED))

    await replica.place()


async def test_an_end_that_was_told_while_we_were_down_frees_the_phone(floor: Floor) -> None:
    """The event waits in the queue; another replica has nothing but the store."""
    before = await floor.replica()
    record = await before.place()
    await floor.run(before)
    await Seen.of(record).come(before, until=DialState.CONNECTED)
    await floor.clock.advance(timedelta(hours=1))
    after = await floor.replica()
    await after.hear(Seen.of(record).ends(Disposition.ANSWERED))

    await after.place()


async def test_an_order_that_was_lost_frees_the_phone(floor: Floor) -> None:
    replica = await floor.replica()
    record = await replica.place()
    await floor.run(replica)
    await floor.clock.advance(UNHEARD)
    await replica.look()

    assert await replica.state(record.dial_id) == (DialState.FAILED, DialReason.INTERRUPTED)
    await replica.place()


@pytest.mark.parametrize(
    ("state", "held"),
    [
        (DialState.AGENT_RINGING, timedelta(minutes=5)),
        (DialState.CUSTOMER_RINGING, timedelta(minutes=5)),
        (DialState.CONNECTED, timedelta(hours=4)),
    ],
)
async def test_a_dial_whose_end_never_comes_holds_nobody_up_for_ever(
    floor: Floor, state: DialState, held: timedelta
) -> None:
    replica = await floor.replica()
    record = await replica.place()
    await floor.run(replica)
    await Seen.of(record).come(replica, until=state)
    await floor.clock.advance(held)
    with pytest.raises(Conflict):
        await replica.place()
    await floor.clock.advance(SECOND)

    await replica.place()


async def test_whoever_slept_over_his_turn_does_not_dial(floor: Floor) -> None:
    """He took the turn, and slept; another took it over, and dials."""
    sleeper, other = await floor.replica(), await floor.replica()
    await sleeper.deps.turns.take(TENANT, PBX, "101", "d1")
    await floor.clock.advance(16 * SECOND)
    dialled = await other.place()
    await floor.run(other)
    with pytest.raises(Conflict, match="dialling already"):
        await sleeper.place(dial_id="d1")

    assert [order.reference for order in floor.line.orders] == [dialled.dial_id]


async def test_a_turn_that_was_lost_after_the_document_was_made_is_seen_before_the_pbx_is_asked(
    floor: Floor,
) -> None:
    replica = await floor.replica()
    record = await replica.place()
    turns = floor.store.collection(TURNS)
    turn = await turns.get(f"{TENANT}/{PBX}/101")
    await turns.replace(turn.model_copy(update={"dial_id": "other", "taken_at": floor.clock.now()}))
    await floor.run(replica)

    assert await replica.state(record.dial_id) == (DialState.FAILED, DialReason.ALREADY_DIALLING)
    assert floor.line.orders == []


async def test_a_turn_that_is_given_back_late_takes_it_from_nobody(floor: Floor) -> None:
    replica = await floor.replica()
    turns = replica.deps.turns
    await turns.take(TENANT, PBX, "101", "d1")
    await floor.clock.advance(16 * SECOND)
    record = await replica.place()
    await turns.give_back(TENANT, PBX, "101", "d1")

    with pytest.raises(Conflict, match=record.dial_id):
        await replica.place()


async def test_a_process_that_dies_with_the_turn_holds_it_for_seconds(floor: Floor) -> None:
    fuse = Fuse()
    killed, other = await floor.replica(fuse), await floor.replica()
    fuse.at = fuse.steps + 2  # the turn is taken, and nothing else
    assert await killed_at(fuse, killed.place())
    with pytest.raises(Conflict):
        await other.place()
    await floor.clock.advance(16 * SECOND)

    await other.place()
