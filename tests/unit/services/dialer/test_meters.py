from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.dialer.meters import Caps, Meter, given_back, settled, taken
from services.dialer.permits import Why
from shared.errors import TooMany
from shared.site.dialing import DialLimits

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
NO_CAPS = Caps()


def fresh() -> Meter:
    return Meter(key="acme", tenant="acme", expires_at=NOON)


def one_more(
    meter: Meter,
    dial: str,
    *,
    price: int = 0,
    caps: Caps = NO_CAPS,
    now: datetime = NOON,
    zone: str = "UTC",
) -> Meter:
    return taken(meter, dial, price=price, caps=caps, now=now, zone=zone) or meter


def refusal(meter: Meter, dial: str, **asked: Any) -> TooMany | None:
    try:
        one_more(meter, dial, **asked)
    except TooMany as error:
        return error
    return None


def test_the_limits_of_a_site_are_of_the_tenant_and_of_each_agent() -> None:
    limits = DialLimits.model_validate(
        {"per_minute": 1, "per_hour": 2, "per_day": 3, "agent_per_minute": 4, "agent_per_day": 5}
        | {"cost_per_day": "12.345678"}
    )

    assert Caps.of_tenant(limits) == Caps(per_minute=1, per_hour=2, per_day=3, cost=12_345_678)
    assert Caps.of_agent(limits) == Caps(per_minute=4, per_day=5, whose="agent_")


def test_the_same_dial_is_counted_once() -> None:
    meter = one_more(one_more(fresh(), "d1"), "d1")

    assert (meter.today, len(meter.held)) == (1, 1)
    assert taken(meter, "d1", price=0, caps=Caps(per_day=1), now=NOON, zone="UTC") is None


def test_what_was_given_back_was_never_counted() -> None:
    before = one_more(fresh(), "d1")
    after = given_back(one_more(before, "d2", price=5), "d2")

    assert after == before
    assert given_back(before, "d2") is None


def test_only_the_first_word_of_what_it_cost_counts() -> None:
    meter = settled(one_more(fresh(), "d1", price=5), "d1", 15)
    assert meter is not None

    assert (meter.spent, meter.held, meter.held_since) == (15, (), None)
    assert settled(meter, "d1", 15) is None


def test_a_replica_whose_clock_is_behind_midnight_does_not_forget_the_day() -> None:
    midnight = datetime(2026, 1, 2, tzinfo=UTC)
    meter = one_more(fresh(), "d1", now=midnight)
    meter = one_more(meter, "d2", now=midnight - SECOND)

    assert (meter.day, meter.today) == ("2026-01-02", 2)


@pytest.mark.parametrize(
    ("zone", "now", "left"),
    [
        ("UTC", datetime(2026, 6, 1, 23, tzinfo=UTC), timedelta(hours=1)),
        ("Europe/Berlin", datetime(2026, 6, 1, 21, tzinfo=UTC), timedelta(hours=1)),
        # The clocks go forward and back: these days have 23 and 25 hours.
        ("Europe/Berlin", datetime(2026, 3, 28, 23, tzinfo=UTC), timedelta(hours=23)),
        ("Europe/Berlin", datetime(2026, 10, 24, 22, tzinfo=UTC), timedelta(hours=25)),
    ],
)
def test_a_day_ends_at_the_tenants_midnight(zone: str, now: datetime, left: timedelta) -> None:
    meter = one_more(fresh(), "d1", now=now, zone=zone)
    with pytest.raises(TooMany) as caught:
        one_more(meter, "d2", caps=Caps(per_day=1), now=now, zone=zone)

    assert (caught.value.retry_after, caught.value.details["why"]) == (left, Why.PER_DAY)


moves = st.lists(
    st.tuples(st.integers(0, 90), st.sampled_from(["take", "give back", "settle"])), max_size=120
)


@settings(deadline=None)
@given(moves=moves, per_minute=st.integers(1, 5), per_hour=st.integers(1, 20))
def test_no_span_ever_holds_more_than_its_limit_and_none_refuses_for_longer_than_a_step(
    moves: list[tuple[int, str]], per_minute: int, per_hour: int
) -> None:
    """Against a list of all moments, which is what the steps stand for."""
    caps = Caps(per_minute=per_minute, per_hour=per_hour)
    meter, now, dials = fresh(), NOON, list[tuple[str, datetime]]()
    for number, (seconds, move) in enumerate(moves):
        now += timedelta(seconds=seconds)
        if move == "take":
            exact = {
                span: sum(at > now - span for _, at in dials) for span in (MINUTE, 60 * MINUTE)
            }
            loose = {
                span: sum(at > now - span - step for _, at in dials)
                for span, step in ((MINUTE, SECOND), (60 * MINUTE, MINUTE))
            }
            if error := refusal(meter, str(number), caps=caps, now=now):
                assert loose[MINUTE] >= per_minute or loose[60 * MINUTE] >= per_hour
                assert error.retry_after is not None
                assert error.retry_after > timedelta(0)
                continue
            meter = one_more(meter, str(number), caps=caps, now=now)
            assert exact[MINUTE] < per_minute
            assert exact[60 * MINUTE] < per_hour
            dials.append((str(number), now))
        elif dials and move == "give back" and meter.held:
            last = meter.held[-1].dial_id
            meter = given_back(meter, last) or meter
            dials = [(dial, at) for dial, at in dials if dial != last]
        elif meter.held:
            meter = settled(meter, meter.held[0].dial_id, 1) or meter
    assert len(meter.seconds) <= 61
    assert len(meter.minutes) <= 61


@settings(deadline=None)
@given(moves=moves, budget=st.integers(1, 30))
def test_what_is_spent_and_held_is_never_more_than_the_budget(
    moves: list[tuple[int, str]], budget: int
) -> None:
    """As long as no call is longer than the minute that is held for it."""
    caps, meter, spent = Caps(cost=budget), fresh(), 0
    for number, (seconds, move) in enumerate(moves):
        dial, price = str(number), seconds % 7
        if move == "take":
            if error := refusal(meter, dial, price=price, caps=caps):
                assert error.details["why"] is Why.COST
                assert price
                continue
            meter = one_more(meter, dial, price=price, caps=caps)
        elif move == "settle" and meter.held:
            first = meter.held[0]
            spent += first.price
            meter = settled(meter, first.dial_id, first.price) or meter
        elif meter.held:
            meter = given_back(meter, meter.held[-1].dial_id) or meter
        assert meter.spent == spent
        assert meter.spent + sum(held.price for held in meter.held) <= budget
