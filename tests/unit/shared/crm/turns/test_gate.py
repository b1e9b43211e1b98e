"""Who goes first, who waits, who is sent away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest

from shared.clock import ManualClock
from shared.crm.form.access import Limits
from shared.crm.port import Priority
from shared.crm.turns.gate import LONGEST_PAUSE, MOST_WAITING, Gate
from shared.crm.turns.line import PASSES
from shared.errors import Throttled, TransientError

ROUTE, POP, JOURNAL, SYNC = Priority
SECOND = timedelta(seconds=1)
LONG = timedelta(hours=2)


class Desk:
    """Requests at one gate: who is in their turn, in the order of their turns."""

    def __init__(self, clock: ManualClock, **limits: object) -> None:
        self.replicas = 1
        self.gate = Gate(
            Limits.model_validate({"concurrent": 1, **limits}),
            share=lambda: self.replicas,
            clock=clock,
        )
        self.clock = clock
        self.went: list[str] = []
        self.tasks: dict[str, asyncio.Task[None]] = {}
        self._ends: dict[str, asyncio.Event] = {}

    async def ask(self, name: str, priority: Priority, *, within: timedelta = LONG) -> None:
        """It stays in its turn until it is ended."""
        self._ends[name] = asyncio.Event()
        self.tasks[name] = asyncio.create_task(self._request(name, priority, within))
        await settled()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self.tasks[name]
        await settled()

    async def cancel(self, name: str) -> None:
        self.tasks[name].cancel()
        await asyncio.gather(self.tasks[name], return_exceptions=True)
        await settled()

    async def pass_time(self, by: timedelta) -> None:
        await self.clock.advance(by)
        await settled()

    def refused(self, name: str) -> TransientError:
        error = self.tasks[name].exception()
        assert isinstance(error, TransientError)
        return error

    @property
    def waiting(self) -> list[str]:
        return [n for n, task in self.tasks.items() if n not in self.went and not task.done()]

    async def _request(self, name: str, priority: Priority, within: timedelta) -> None:
        async with self.gate.turn(priority, within=within):
            self.went.append(name)
            await self._ends[name].wait()


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)  # noqa: TID251  lets the tasks run, no time passes


Desks = Callable[..., Desk]


@asynccontextmanager
async def desks(clock: ManualClock) -> AsyncIterator[Desks]:
    made: list[Desk] = []

    def one(**limits: object) -> Desk:
        made.append(Desk(clock, **limits))
        return made[-1]

    yield one
    for desk in made:
        for name in list(desk.tasks):
            await desk.cancel(name)
    assert clock.sleepers == 0, "nobody waits, so no alarm is set"


@pytest.fixture
async def desk_with(clock: ManualClock) -> AsyncIterator[Desks]:
    async with desks(clock) as made:
        yield made


# -- Order --------------------------------------------------------------------------------------


async def test_calls_go_before_journals_before_a_sync_and_first_come_within_one(
    desk_with: Desks,
) -> None:
    desk = desk_with()
    await desk.ask("first", SYNC)
    order = [SYNC, JOURNAL, POP, ROUTE, SYNC, JOURNAL, POP, ROUTE]
    for number, priority in enumerate(order):
        await desk.ask(f"{priority.name} {number}", priority)
    for _ in order:
        await desk.end(desk.went[-1])

    assert desk.went[1:] == [
        *("ROUTE 3", "ROUTE 7"),
        *("POP 2", "POP 6"),
        *("JOURNAL 1", "JOURNAL 5"),
        *("SYNC 0", "SYNC 4"),
    ]


async def test_who_comes_while_others_wait_does_not_slip_in_before_them(desk_with: Desks) -> None:
    desk = desk_with(rates=[{"requests": 1, "per": "1s"}], concurrent=10)
    for name in ("first", "second"):
        await desk.ask(name, POP)
    await desk.end("first")
    await desk.pass_time(SECOND / 2)
    await desk.ask("third", POP)
    await desk.pass_time(SECOND / 2)

    assert (desk.went, desk.waiting) == (["first", "second"], ["third"])


async def test_a_sync_gets_its_turn_however_many_calls_come(desk_with: Desks) -> None:
    desk = desk_with()
    await desk.ask("0", ROUTE)
    await desk.ask("sync", SYNC)
    for number in range(1, 20):
        await desk.ask(str(number), ROUTE)
        await desk.end(desk.went[-1])

    assert desk.went.index("sync") == 1 + PASSES


async def test_a_sync_is_not_starved_by_calls_and_journals_together(desk_with: Desks) -> None:
    desk = desk_with()
    await desk.ask("0", ROUTE)
    await desk.ask("sync", SYNC)
    for number in range(1, 40):
        await desk.ask(str(number), JOURNAL if number % 2 else ROUTE)
        await desk.end(desk.went[-1])

    assert desk.went.index("sync") <= 1 + PASSES + 1


async def test_what_a_class_was_passed_over_is_forgotten_when_nobody_of_it_waits(
    desk_with: Desks,
) -> None:
    desk = desk_with()
    await desk.ask("0", ROUTE)
    await desk.ask("gone", SYNC)
    for number in range(1, PASSES + 1):
        await desk.ask(str(number), ROUTE)
        await desk.end(desk.went[-1])
    await desk.cancel("gone")
    await desk.ask("sync", SYNC)
    await desk.ask("call", ROUTE)
    await desk.end(desk.went[-1])

    assert desk.went[-1] == "call"


# -- Places -------------------------------------------------------------------------------------


async def test_no_more_are_out_than_the_crm_takes_at_once(desk_with: Desks) -> None:
    desk = desk_with(concurrent=2)
    for name in "abc":
        await desk.ask(name, ROUTE)
    assert desk.waiting == ["c"]

    await desk.end("a")
    assert desk.went == ["a", "b", "c"]


@pytest.mark.parametrize(("concurrent", "others"), [(1, 1), (2, 2), (3, 2), (10, 9)])
async def test_of_three_places_one_is_kept_for_calls(
    desk_with: Desks, concurrent: int, others: int
) -> None:
    desk = desk_with(concurrent=concurrent)
    for number in range(12):
        await desk.ask(str(number), SYNC if number % 2 else JOURNAL)
    assert len(desk.went) == others

    await desk.ask("call", POP)
    assert ("call" in desk.went) == (others < concurrent)


@pytest.mark.parametrize(("replicas", "places"), [(1, 7), (2, 3), (3, 2), (7, 1), (50, 1), (0, 7)])
async def test_replicas_divide_the_places(desk_with: Desks, replicas: int, places: int) -> None:
    desk = desk_with(concurrent=7)
    desk.replicas = replicas
    for number in range(10):
        await desk.ask(str(number), ROUTE)

    assert len(desk.went) == places


async def test_places_and_rates_follow_the_number_of_replicas(desk_with: Desks) -> None:
    desk = desk_with(concurrent=4, rates=[{"requests": 8, "per": "1m"}])
    for name in "abcde":
        await desk.ask(name, ROUTE)
    assert desk.went == list("abcd")

    desk.replicas = 2
    for name in "ab":
        await desk.end(name)
    assert desk.waiting == ["e"], "two places of its own are taken, four in a minute as well"
    for name in "cd":
        await desk.end(name)
    assert desk.waiting == ["e"], "four in a minute are its own"

    desk.replicas = 1
    await desk.ask("f", ROUTE)
    assert sorted(desk.went) == list("abcdef")


# -- In time or not -----------------------------------------------------------------------------


async def test_who_waits_for_a_place_gives_up_when_its_time_is_over(desk_with: Desks) -> None:
    desk = desk_with()
    await desk.ask("busy", ROUTE)
    await desk.ask("late", ROUTE, within=SECOND)
    await desk.pass_time(SECOND - timedelta(milliseconds=1))
    assert desk.waiting == ["late"]

    await desk.pass_time(timedelta(milliseconds=1))
    error = desk.refused("late")
    assert isinstance(error, Throttled)
    assert error.retry_after == SECOND


async def test_without_time_to_wait_there_is_a_turn_now_or_none(desk_with: Desks) -> None:
    desk = desk_with()
    await desk.ask("a", ROUTE, within=timedelta(0))
    await desk.ask("b", ROUTE, within=timedelta(0))

    assert desk.went == ["a"]
    assert isinstance(desk.refused("b"), Throttled)


async def test_a_rate_that_is_used_up_for_longer_refuses_at_once(desk_with: Desks) -> None:
    desk = desk_with(rates=[{"requests": 1, "per": "1d"}])
    await desk.ask("a", ROUTE)
    await desk.end("a")
    await desk.pass_time(timedelta(hours=3))
    await desk.ask("b", ROUTE, within=timedelta(minutes=1))

    assert desk.refused("b").retry_after == timedelta(hours=21)


async def test_a_turn_that_comes_too_late_is_not_given() -> None:
    clock = Wall()
    desk = Desk(clock)
    await desk.ask("busy", ROUTE)
    await desk.ask("late", ROUTE, within=SECOND)
    # The loop was held up: a place is free before the alarm has rung.
    clock.put_back(-SECOND * 2)
    await desk.end("busy")

    assert desk.went == ["busy"]
    assert isinstance(desk.refused("late"), Throttled)


async def test_a_line_without_end_is_not_joined(desk_with: Desks) -> None:
    desk = desk_with()
    gate = desk.gate
    await desk.ask("busy", ROUTE)

    async def wait() -> None:
        async with gate.turn(SYNC, within=LONG):
            pass

    crowd = [asyncio.create_task(wait()) for _ in range(MOST_WAITING)]
    await settled()
    with pytest.raises(Throttled, match="too many"):
        await wait()
    # A crowd of those who have time keeps no call away.
    await desk.ask("call", ROUTE)
    await desk.end("busy")
    assert desk.went == ["busy", "call"]
    await desk.cancel("call")
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)


async def test_a_clock_that_is_put_back_makes_nobody_wait_longer() -> None:
    clock = Wall()
    desk = Desk(clock, rates=[{"requests": 1, "per": "1s"}])
    await desk.ask("a", ROUTE)
    await desk.end("a")
    await desk.ask("b", ROUTE)
    clock.put_back(timedelta(hours=1))
    await desk.ask("c", ROUTE)
    await desk.pass_time(SECOND)

    assert desk.went == ["a", "b"]
    for name in "bc":
        await desk.cancel(name)


class Wall(ManualClock):
    """A wall clock that somebody corrects; who sleeps does so by another, as asyncio has it."""

    def put_back(self, by: timedelta) -> None:
        self._now -= by
        self._sleepers = [(due - by, order, wake) for due, order, wake in self._sleepers]


# -- Pauses -------------------------------------------------------------------------------------


async def test_nobody_asks_while_the_crm_wants_a_pause(desk_with: Desks) -> None:
    desk = desk_with()
    desk.gate.pause(SECOND * 5)
    await desk.ask("a", ROUTE)
    await desk.pass_time(SECOND * 5 - timedelta(milliseconds=1))
    assert desk.waiting == ["a"]

    await desk.pass_time(timedelta(milliseconds=1))
    assert desk.went == ["a"]


async def test_a_pause_that_is_too_long_refuses_at_once_those_who_wait_and_those_who_come(
    desk_with: Desks,
) -> None:
    desk = desk_with()
    await desk.ask("busy", ROUTE)
    await desk.ask("before", ROUTE, within=SECOND)
    desk.gate.pause(SECOND * 5)
    await desk.ask("after", ROUTE, within=SECOND)
    await desk.ask("patient", ROUTE, within=SECOND * 5)

    for name in ("before", "after"):
        error = desk.refused(name)
        assert isinstance(error, Throttled)
        assert error.retry_after == SECOND * 5
    assert desk.waiting == ["patient"]


async def test_the_longest_pause_wins(desk_with: Desks) -> None:
    desk = desk_with()
    desk.gate.pause(SECOND * 5)
    desk.gate.pause(SECOND)
    await desk.ask("a", ROUTE, within=SECOND * 2)

    assert desk.refused("a").retry_after == SECOND * 5


async def test_no_pause_is_longer_than_an_hour(desk_with: Desks) -> None:
    desk = desk_with()
    desk.gate.pause(timedelta.max)
    await desk.ask("a", ROUTE, within=SECOND)

    assert desk.refused("a").retry_after == LONGEST_PAUSE


# -- Cancelled ----------------------------------------------------------------------------------


async def test_who_is_cancelled_in_the_line_leaves_no_trace(
    desk_with: Desks, clock: ManualClock
) -> None:
    desk = desk_with()
    await desk.ask("busy", ROUTE)
    await desk.ask("gone", ROUTE)
    await desk.ask("next", SYNC)
    await desk.cancel("gone")
    await desk.end("busy")
    assert desk.went == ["busy", "next"]

    await desk.end("next")
    assert clock.sleepers == 0


async def test_who_is_cancelled_just_before_its_turn_does_not_get_it(desk_with: Desks) -> None:
    desk = desk_with()
    async with desk.gate.turn(ROUTE, within=SECOND):
        await desk.ask("gone", ROUTE)
        await desk.ask("next", ROUTE)
        # Its task has not run since when the turn is free.
        desk.tasks["gone"].cancel()
    await settled()

    assert desk.went == ["next"]


async def test_who_is_cancelled_in_the_moment_of_its_turn_gives_it_back(desk_with: Desks) -> None:
    desk = desk_with()
    async with desk.gate.turn(ROUTE, within=SECOND):
        await desk.ask("gone", ROUTE)
    # The turn is given, and the task has not run since.
    desk.tasks["gone"].cancel()
    await settled()
    await desk.ask("next", ROUTE)

    assert desk.went == ["next"]


async def test_who_is_cancelled_in_its_turn_gives_its_place_back(desk_with: Desks) -> None:
    desk = desk_with()
    await desk.ask("gone", ROUTE)
    await desk.ask("next", ROUTE)
    await desk.cancel("gone")

    assert desk.went == ["gone", "next"]
