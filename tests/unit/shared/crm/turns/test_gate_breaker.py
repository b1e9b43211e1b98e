"""A CRM that does not answer is left alone, and tried by one request at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from shared.clock import ManualClock
from shared.crm.form.access import Limits
from shared.crm.port import Priority
from shared.crm.turns.breaker import FAILURES
from shared.crm.turns.gate import Gate
from shared.errors import Throttled, Unavailable

SECOND = timedelta(seconds=1)
JUST_BEFORE = timedelta(milliseconds=1)


@pytest.fixture
def gate(clock: ManualClock) -> Gate:
    return Gate(Limits(concurrent=20), share=lambda: 1, clock=clock)


async def asked(gate: Gate, *then: Callable[[], None], within: timedelta = SECOND) -> None:
    async with gate.turn(Priority.ROUTE, within=within):
        for say in then:
            say()


async def open_for(gate: Gate) -> timedelta | None:
    """None: it is closed."""
    try:
        await asked(gate)
    except Unavailable as error:
        return error.retry_after
    return None


async def opened(gate: Gate) -> None:
    for _ in range(FAILURES):
        await asked(gate, gate.failed)


async def test_five_failures_in_a_row_open_it_for_two_seconds(
    gate: Gate, clock: ManualClock
) -> None:
    for _ in range(FAILURES - 1):
        await asked(gate, gate.failed)
    assert await open_for(gate) is None

    await asked(gate, gate.failed)
    assert await open_for(gate) == SECOND * 2
    await clock.advance(SECOND * 2 - JUST_BEFORE)
    assert await open_for(gate) == JUST_BEFORE
    await clock.advance(JUST_BEFORE)
    assert await open_for(gate) is None


async def test_an_answer_between_failures_keeps_it_closed(gate: Gate) -> None:
    for _ in range(FAILURES):
        await asked(gate, gate.failed)
        await asked(gate, gate.answered)

    assert await open_for(gate) is None


async def test_a_slow_down_is_no_failure(gate: Gate, clock: ManualClock) -> None:
    for _ in range(FAILURES * 2):
        await asked(gate, lambda: gate.pause(SECOND), gate.answered)
        with pytest.raises(Throttled):
            await asked(gate, within=timedelta(0))
        await clock.advance(SECOND)


async def test_each_probe_that_fails_doubles_the_time_up_to_thirty_seconds(
    gate: Gate, clock: ManualClock
) -> None:
    await opened(gate)
    for seconds in (2, 4, 8, 16, 30, 30):
        assert await open_for(gate) == SECOND * seconds
        await clock.advance(SECOND * seconds)
        await asked(gate, gate.failed)


async def test_a_probe_that_is_answered_closes_it_and_forgets_what_was(
    gate: Gate, clock: ManualClock
) -> None:
    await opened(gate)
    await clock.advance(SECOND * 2)
    await asked(gate, gate.failed)
    await clock.advance(SECOND * 4)
    await asked(gate, gate.answered)
    assert await open_for(gate) is None

    await opened(gate)
    assert await open_for(gate) == SECOND * 2


async def test_one_probe_at_a_time(gate: Gate, clock: ManualClock) -> None:
    await opened(gate)
    await clock.advance(SECOND * 2)
    async with gate.turn(Priority.ROUTE, within=SECOND):
        assert await open_for(gate) == SECOND * 2
        gate.answered()
        assert await open_for(gate) is None


async def test_a_probe_that_ends_without_a_verdict_makes_room_for_the_next(
    gate: Gate, clock: ManualClock
) -> None:
    await opened(gate)
    await clock.advance(SECOND * 2)
    with pytest.raises(asyncio.CancelledError):
        await asked(gate, raise_cancelled)
    async with gate.turn(Priority.ROUTE, within=SECOND):
        assert await open_for(gate) is not None, "this one is the probe"


def raise_cancelled() -> None:
    raise asyncio.CancelledError


async def test_what_became_of_a_probe_may_be_told_after_its_turn(
    gate: Gate, clock: ManualClock
) -> None:
    await opened(gate)
    await clock.advance(SECOND * 2)
    await asked(gate)
    gate.failed()
    assert await open_for(gate) == SECOND * 4
    gate.failed()
    assert await open_for(gate) == SECOND * 4, "it is told once"


async def test_who_waits_when_it_opens_is_sent_away_at_once(clock: ManualClock) -> None:
    gate = Gate(Limits(concurrent=1), share=lambda: 1, clock=clock)
    for _ in range(FAILURES - 1):
        await asked(gate, gate.failed)
    async with gate.turn(Priority.ROUTE, within=SECOND):
        waits = asyncio.create_task(asked(gate))
        await asyncio.sleep(0)  # noqa: TID251  lets it join the line
        gate.failed()
        with pytest.raises(Unavailable) as refused:
            await waits
    assert refused.value.retry_after == SECOND * 2


@pytest.mark.parametrize("is_answered", [True, False])
async def test_who_waits_behind_the_probe_shares_its_fate(
    gate: Gate, clock: ManualClock, is_answered: bool
) -> None:
    await opened(gate)
    await clock.advance(SECOND * 2)
    gate.pause(SECOND)
    first, second = (asyncio.create_task(asked_and_held(gate)) for _ in range(2))
    await settled()
    await clock.advance(SECOND)
    await settled()
    assert not first.done()

    (gate.answered if is_answered else gate.failed)()
    await settled()
    assert second.done() == (not is_answered)
    if not is_answered:
        assert isinstance(second.exception(), Unavailable)
    for task in (first, second):
        task.cancel()
    await asyncio.gather(first, second, return_exceptions=True)


async def asked_and_held(gate: Gate) -> None:
    async with gate.turn(Priority.ROUTE, within=SECOND * 5):
        await asyncio.Event().wait()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)  # noqa: TID251  lets the tasks run, no time passes


async def test_what_went_out_before_it_opened_neither_prolongs_it_nor_counts_twice(
    gate: Gate, clock: ManualClock
) -> None:
    async with gate.turn(Priority.ROUTE, within=SECOND):
        await opened(gate)
        await clock.advance(SECOND)
        gate.failed()
        assert await open_for(gate) == SECOND
        await clock.advance(SECOND)
        gate.failed()
        assert await open_for(gate) is None


async def test_an_answer_to_what_went_out_before_closes_it(gate: Gate) -> None:
    async with gate.turn(Priority.ROUTE, within=SECOND):
        await opened(gate)
        gate.answered()
    assert await open_for(gate) is None
