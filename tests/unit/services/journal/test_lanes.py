"""How long a connection is left alone after what it did."""

from __future__ import annotations

from datetime import timedelta

from services.journal.lanes import RECONNECT_LOOK, Lane
from shared.clock import ManualClock
from shared.errors import NeedsReconnect, Throttled, Unavailable

FIRST = timedelta(seconds=2)
AWAY = Unavailable("connection refused")


def a_lane(clock: ManualClock) -> Lane:
    return Lane("demo/zoho", places=4, first_hold=FIRST, clock=clock)


def held_for(lane: Lane, clock: ManualClock) -> timedelta:
    until = lane._held_until
    return max(until - clock.now(), timedelta(0)) if until else timedelta(0)


async def test_one_that_fails_again_and_again_gets_one_trial_after_longer_and_longer_waits(
    clock: ManualClock,
) -> None:
    lane = a_lane(clock)
    waits = []
    for _ in range(10):
        lane.went_wrong(AWAY)
        waits.append(held_for(lane, clock).total_seconds())
        await clock.advance(held_for(lane, clock))

    assert waits == [0, 0, 2, 4, 8, 16, 32, 60, 60, 60]
    assert (lane.places, lane.is_trusted) == (1, False)
    lane.went_well()
    assert (lane.places, lane.is_trusted) == (4, True)


async def test_what_was_under_way_when_it_broke_down_counts_no_more(clock: ManualClock) -> None:
    lane = a_lane(clock)
    for _ in range(16):
        lane.went_wrong(AWAY)

    assert held_for(lane, clock) == FIRST


async def test_a_request_with_a_hundred_entries_is_one_failure(clock: ManualClock) -> None:
    lane = a_lane(clock)
    lane.went_wrong(*[AWAY] * 100)

    assert (lane.places, lane.is_held) == (4, False)


async def test_a_pause_that_the_crm_asked_for_outlasts_an_answer_that_was_under_way(
    clock: ManualClock,
) -> None:
    lane = a_lane(clock)
    lane.went_wrong(AWAY, Throttled("later", retry_after=timedelta(minutes=5)))
    lane.went_well()
    assert held_for(lane, clock) == timedelta(minutes=5)

    await clock.advance(timedelta(minutes=5))
    assert lane.places == 4


async def test_a_lost_grant_is_looked_at_now_and_then(clock: ManualClock) -> None:
    lane = a_lane(clock)
    lane.went_wrong(NeedsReconnect("connect it again"))
    assert held_for(lane, clock) == RECONNECT_LOOK

    await clock.advance(RECONNECT_LOOK)
    assert (lane.places, lane.is_trusted) == (1, False)
    lane.went_well()
    assert lane.is_idle
