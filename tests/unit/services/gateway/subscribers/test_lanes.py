"""Who may send how much at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from services.gateway.subscribers.delivery import Delivery
from services.gateway.subscribers.lanes import (
    AT_ONCE,
    AT_ONCE_TO_ONE,
    SLOW_AT_ONCE,
    SLOW_TO_ONE,
    Lanes,
)

NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def due(*lanes: str, each: int = 20) -> list[Delivery]:
    """All of the first lane before those of the next."""
    return [
        Delivery(
            key=f"{lane}-{number}",
            tenant="acme",
            subscriber="crm",
            lane=lane,
            webhook_id="msg_1",
            type="calls.ended",
            event="{}",
            created_at=NOW,
            due_at=NOW,
            expires_at=NOW,
        )
        for lane in lanes
        for number in range(each)
    ]


def taken(lanes: Lanes, found: Iterable[Delivery], now: datetime = NOW) -> Counter[str]:
    counted: Counter[str] = Counter()
    for one in lanes.in_turn(found, now):
        lanes.take(one.lane)
        counted[one.lane] += 1
    return counted


def quick(lanes: Lanes, *uids: str) -> None:
    for uid in uids:
        lanes.lane(uid).answered(SECOND)


def test_one_that_answers_quickly_has_more_places() -> None:
    lanes = Lanes()
    quick(lanes, "known")
    assert taken(lanes, due("new", "known")) == {"new": SLOW_TO_ONE, "known": AT_ONCE_TO_ONE}


def test_those_that_hang_leave_room_for_the_others() -> None:
    lanes = Lanes()
    hanging = [f"h{n}" for n in range(100)]
    assert taken(lanes, due(*hanging)).total() == SLOW_AT_ONCE
    assert taken(lanes, due("another")).total() == 0
    quick(lanes, "well")
    assert taken(lanes, due("well")) == {"well": AT_ONCE_TO_ONE}


def test_places_go_to_who_has_least() -> None:
    """Also where much older ones of others wait."""
    lanes = Lanes()
    busy = [f"b{n}" for n in range(8)]
    quick(lanes, "fresh", *busy)
    back = [lanes.take(one.lane) for one in lanes.in_turn(due(*busy), NOW)]
    assert len(back) == AT_ONCE
    back[0]()
    assert taken(lanes, due(*busy, "fresh")) == {"fresh": 1}


def test_one_that_fails_is_left_alone_and_then_tried_with_one() -> None:
    lanes = Lanes()
    quick(lanes, "x")
    lane = lanes.lane("x")
    for _ in range(8):  # that were under way when it broke
        lane.went_wrong(NOW)
    assert taken(lanes, due("x")).total() == 0
    assert taken(lanes, due("x"), NOW + 2 * SECOND) == {"x": 1}
    waits = []
    now = NOW + 2 * SECOND
    for _ in range(12):
        lane.went_wrong(now)
        assert lane.held_until is not None
        waits.append((lane.held_until - now) / SECOND)
        now = lane.held_until
    assert waits[:4] == [4, 8, 16, 32]
    assert waits[-1] == 60
    lane.went_well()
    assert lane.places(now) == AT_ONCE_TO_ONE - 1


def test_a_clock_that_is_put_back_holds_nobody_for_longer() -> None:
    lanes = Lanes()
    lane = lanes.lane("x")
    for _ in range(3):
        lane.went_wrong(NOW)
    assert lane.places(NOW + SECOND) == 0
    assert lane.places(NOW - timedelta(days=1)) == 1


def test_lanes_of_who_is_gone_are_forgotten() -> None:
    lanes = Lanes()
    lanes.stir(("gone", "busy", "there"))
    give_back = lanes.take("busy")
    lanes.keep({"there"})
    assert lanes.stirred(NOW) == ["there", "busy"]
    give_back()
    lanes.keep({"there"})
    assert lanes.stirred(NOW) == ["there"]
