"""
A process of the dialer is killed at each of its steps; what is left goes on with others.

Whatever the step: the PBX is asked at most once, the dial comes to an end that is true, the phone is
free afterwards, and what was counted is what was dialled.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from shared.clock import ManualClock
from shared.contracts.calls import Disposition
from shared.contracts.dialing import DialReason, DialState
from shared.errors import Conflict, NotFound
from shared.site.dialing import DialPolicy
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from tests.contract.dial_kit import SECOND, UNHEARD, Floor, Fuse, Seen, killed_at

#: More than any of them has.
STEPS = range(1, 40)
PRICED = DialPolicy.model_validate({"prices": {"+44": "0.1"}, "limits": {"cost_per_day": "10"}})


@pytest.fixture
async def floors(clock: ManualClock) -> AsyncIterator[list[SqliteFile]]:
    opened: list[SqliteFile] = []
    yield opened
    for db in opened:
        await db.close()


async def a_floor(floors: list[SqliteFile], clock: ManualClock) -> Floor:
    db = SqliteFile(None)
    await db.open()
    floors.append(db)
    floor = Floor(SqliteStore(db, clock), clock)
    await floor.say(PRICED)
    return floor


async def test_an_order_whose_taker_is_killed_at_any_step_is_dialled_once_by_its_repeat(
    floors: list[SqliteFile], clock: ManualClock
) -> None:
    was_killed = 0
    for step in STEPS:
        floor, fuse = await a_floor(floors, clock), Fuse()
        killed, other = await floor.replica(fuse), await floor.replica()
        fuse.at = fuse.steps + step
        died = await killed_at(fuse, killed.place(dial_id="d1"))
        was_killed += died
        # Who asked has no answer, and asks again.
        record = await other.place(dial_id="d1")
        await floor.run(other)
        await Seen.of(record).come(other, until=DialState.ENDED)

        assert [order.reference for order in floor.line.orders] == ["d1"], step
        assert await other.state("d1") == (DialState.ENDED, None), step
        await other.look()
        await clock.advance(timedelta(minutes=2))
        await other.look()
        assert not (await floor.meter()).held, step
        assert await floor.spent() == 100_000, step
        assert (await floor.meter()).today == 1, step
        await other.place()
        if not died:
            break

    # Turn, two meters, document, state, order: before and behind each.
    assert was_killed == 12


async def test_an_order_whose_taker_is_killed_and_that_nobody_repeats_frees_the_phone(
    floors: list[SqliteFile], clock: ManualClock
) -> None:
    for step in range(1, 13):
        floor, fuse = await a_floor(floors, clock), Fuse()
        killed, other = await floor.replica(fuse), await floor.replica()
        fuse.at = fuse.steps + step
        assert await killed_at(fuse, killed.place(dial_id="d1"))
        await clock.advance(timedelta(minutes=2))
        await floor.run(other)
        await other.look()

        assert floor.line.orders == [], step
        try:
            assert await other.state("d1") == (DialState.FAILED, DialReason.TOO_LATE), step
        except NotFound:
            assert step < 8, "there is a document from then on"
        await clock.advance(timedelta(minutes=2))
        await other.look()
        assert await floor.spent() == 0, step
        await other.place()


async def test_a_process_that_is_killed_while_it_gives_the_order_gives_it_once(
    floors: list[SqliteFile], clock: ManualClock
) -> None:
    ends = set()
    for step in STEPS:
        floor, fuse = await a_floor(floors, clock), Fuse()
        floor.line.fuse = fuse
        killed, other = await floor.replica(fuse), await floor.replica()
        await killed.place(dial_id="d1")
        (message,) = floor.wire.waiting
        fuse.at = fuse.steps + step
        died = await killed_at(fuse, killed.deliver(message))
        floor.line.fuse = Fuse()
        # The message was not done with: it comes again.
        await floor.run(other)

        assert len(floor.line.orders) <= 1, step
        state, reason = await other.state("d1")
        ends.add((state, reason, len(floor.line.orders)))
        if not died:
            break
        await clock.advance(UNHEARD)
        await other.look()
        await other.place()

    assert ends == {
        # Before the PBX was asked: the other asks it.
        (DialState.REQUESTED, None, 1),
        # It was marked as asked, and maybe was not: better not at all than twice.
        (DialState.FAILED, DialReason.INTERRUPTED, 0),
        (DialState.FAILED, DialReason.INTERRUPTED, 1),
    }


async def test_a_process_that_is_killed_at_the_end_of_a_call_ends_it_all_the_same(
    floors: list[SqliteFile], clock: ManualClock
) -> None:
    for step in STEPS:
        floor, fuse = await a_floor(floors, clock), Fuse()
        killed, other = await floor.replica(fuse), await floor.replica()
        record = await killed.place(dial_id="d1")
        await floor.run(killed)
        await Seen.of(record).come(killed, until=DialState.CONNECTED)
        await clock.advance(61 * SECOND)
        floor.wire.told.clear()
        fuse.at = fuse.steps + step
        end = Seen.of(record).ends(Disposition.ANSWERED)
        died = await killed_at(fuse, killed.hear(end))
        await other.hear(end)

        assert await other.state("d1") == (DialState.ENDED, None), step
        assert {told.state for told in floor.wire.told} == {DialState.ENDED}, step
        assert await floor.spent() == 200_000, step
        await other.place()
        if not died:
            break


async def test_a_process_that_is_killed_while_it_ends_a_call_has_it_ended_by_another(
    floors: list[SqliteFile], clock: ManualClock
) -> None:
    for step in STEPS:
        floor, fuse = await a_floor(floors, clock), Fuse()
        killed, other = await floor.replica(fuse), await floor.replica()
        record = await killed.place(dial_id="d1")
        await floor.run(killed)
        await Seen.of(record).come(killed, until=DialState.CUSTOMER_RINGING)
        floor.line.fuse = fuse
        fuse.at = fuse.steps + step
        died = await killed_at(fuse, killed.cancel("d1"))
        floor.line.fuse = Fuse()
        await other.look()
        state = await other.state("d1")
        if step > 1:  # what was wanted is kept from then on
            assert state == (DialState.FAILED, DialReason.CANCELLED), step
            assert floor.line.ended, step
        assert {end.reference for end in floor.line.ended} <= {"d1"}
        if state[0] is DialState.CUSTOMER_RINGING:
            with pytest.raises(Conflict):
                await other.place()
        else:
            await other.place()
        if not died:
            break
