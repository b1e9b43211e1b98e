"""What the CRM counts: never more than it promised to take, with a part kept for calls."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.clock import ManualClock
from shared.crm.form.access import Limits, Rate
from shared.crm.port import Priority
from shared.crm.turns.gate import Gate
from shared.crm.turns.windows import Window
from shared.errors import Throttled

ROUTE, POP, JOURNAL, SYNC = Priority
STEP = timedelta(milliseconds=50)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Arrival:
    """In steps of the clock: when it comes, how long the CRM takes, when it counts it."""

    after: int
    takes: int
    counted: int
    priority: Priority


arrivals = st.builds(
    Arrival,
    after=st.integers(0, 8),
    takes=st.integers(0, 10),
    counted=st.integers(0, 10),
    priority=st.sampled_from(Priority),
)
rates = st.lists(
    st.builds(
        Rate,
        requests=st.integers(1, 6),
        per=st.integers(1, 30).map(lambda steps: STEP * steps),
    ),
    min_size=1,
    max_size=3,
)


async def counted_by_the_crm(
    found: list[Arrival], limits: Limits, *, replicas: int = 1
) -> list[datetime]:
    """When the CRM counted each of the requests that went through the gates of *replicas*."""
    clock = ManualClock()
    gates = [Gate(limits, share=lambda: replicas, clock=clock) for _ in range(replicas)]
    counted: list[datetime] = []

    async def one(number: int, arrival: Arrival) -> None:
        before = min(arrival.counted, arrival.takes)
        async with gates[number % replicas].turn(arrival.priority, within=DAY):
            if before:
                await clock.sleep(STEP * before)
            counted.append(clock.now())
            if arrival.takes - before:
                await clock.sleep(STEP * (arrival.takes - before))

    tasks = []
    for number, arrival in enumerate(found):
        for _ in range(arrival.after):
            await clock.advance(STEP)
        tasks.append(asyncio.create_task(one(number, arrival)))
        await settled()
    while not all(task.done() for task in tasks):
        await clock.advance(STEP)
        await settled()
    await asyncio.gather(*tasks)
    return sorted(counted)


async def settled() -> None:
    for _ in range(6):
        await asyncio.sleep(0)  # noqa: TID251  lets the tasks run, no time passes


def most_within(moments: list[datetime], per: timedelta) -> int:
    """In the fullest window, wherever it begins."""
    return max(sum(first <= m < first + per for m in moments) for first in moments)


@given(st.lists(arrivals, min_size=1, max_size=25), rates)
@settings(deadline=None, max_examples=60)
def test_no_window_ever_holds_more_than_was_promised(
    found: list[Arrival], promised: list[Rate]
) -> None:
    counted = asyncio.run(counted_by_the_crm(found, Limits(rates=tuple(promised))))

    assert len(counted) == len(found), "and everybody had their turn"
    for rate in promised:
        assert most_within(counted, rate.per) <= rate.requests


@given(st.lists(arrivals, min_size=1, max_size=25), st.integers(3, 9))
@settings(deadline=None, max_examples=20)
def test_replicas_together_keep_the_promise(found: list[Arrival], requests: int) -> None:
    limits = Limits(rates=(Rate(requests=requests, per=SECOND),))
    counted = asyncio.run(counted_by_the_crm(found, limits, replicas=3))

    assert most_within(counted, SECOND) <= requests


# -- Parts --------------------------------------------------------------------------------------


async def taken(gate: Gate, *priorities: Priority) -> list[bool]:
    """Which of them, one after the other, got their turn at once."""
    got = []
    for priority in priorities:
        try:
            async with gate.turn(priority, within=timedelta(0)):
                got.append(True)
        except Throttled:
            got.append(False)
    return got


def a_gate(clock: ManualClock, requests: int, *, replicas: int = 1) -> Gate:
    limits = Limits(rates=(Rate(requests=requests, per=DAY),))
    return Gate(limits, share=lambda: replicas, clock=clock)


@pytest.mark.parametrize(
    ("priority", "most"), [(SYNC, 5), (JOURNAL, 8), (POP, 10), (ROUTE, 10)], ids=str
)
async def test_a_sync_has_half_of_a_window_journals_four_fifths_calls_all(
    clock: ManualClock, priority: Priority, most: int
) -> None:
    assert sum(await taken(a_gate(clock, 10), *[priority] * 20)) == most


async def test_a_fifth_is_there_for_calls_whatever_else_there_is_to_do(clock: ManualClock) -> None:
    gate = a_gate(clock, 10)
    assert sum(await taken(gate, *[SYNC, JOURNAL] * 20)) == 8
    assert await taken(gate, ROUTE, POP, ROUTE) == [True, True, False]


async def test_a_sync_that_has_its_half_does_not_stop_the_journal(clock: ManualClock) -> None:
    gate = a_gate(clock, 10)
    await taken(gate, *[SYNC] * 10)
    assert await taken(gate, *[JOURNAL] * 4) == [True, True, True, False]


@pytest.mark.parametrize("priority", Priority)
async def test_everybody_has_at_least_one_request_of_a_window(
    clock: ManualClock, priority: Priority
) -> None:
    assert await taken(a_gate(clock, 1, replicas=5), priority, priority) == [True, False]


# -- One window ---------------------------------------------------------------------------------


def test_a_request_keeps_its_place_for_a_window_after_its_end(clock: ManualClock) -> None:
    window = Window(Rate(requests=1, per=SECOND))
    began = clock.now()
    window.start(ROUTE)
    window.end(ROUTE, began + SECOND * 3)

    assert window.free_at(ROUTE, began + SECOND * 3, 1) == began + SECOND * 4
    assert window.free_at(ROUTE, began + SECOND * 5, 1) == began + SECOND * 5


def test_ends_that_are_kept_as_one_count_from_the_last(clock: ManualClock) -> None:
    window = Window(Rate(requests=2, per=DAY))
    began = clock.now()
    for end in (began, began + SECOND):
        window.start(ROUTE)
        window.end(ROUTE, end)

    assert window.free_at(ROUTE, began + SECOND, 1) == began + SECOND + DAY


def test_a_large_window_takes_little_memory(clock: ManualClock) -> None:
    window = Window(Rate(requests=1_000_000, per=timedelta(minutes=1)))
    at = clock.now()
    for _ in range(20_000):
        window.start(SYNC)
        window.end(SYNC, at)
        at += timedelta(milliseconds=2)

    assert [len(part._ends) for _, _, part in window._parts] == [667] * 3
    assert [part._ended for _, _, part in window._parts] == [20_000] * 3
