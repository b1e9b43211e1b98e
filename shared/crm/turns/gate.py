"""Turns at a CRM: its rates, its concurrency, the pauses it asks for, a circuit breaker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from functools import partial

from shared.clock import Clock
from shared.crm.form.access import Limits
from shared.crm.port import Priority
from shared.crm.turns.breaker import OPEN_FOR, Breaker
from shared.crm.turns.line import Line, Waiter
from shared.crm.turns.windows import Window
from shared.errors import Throttled, TransientError, Unavailable

#: A CRM that asks for more than an hour means tomorrow; retries come back to it before.
LONGEST_PAUSE = timedelta(hours=1)
#: Behind so many of its class and those before it nobody's turn comes in time.
MOST_WAITING = 1000
#: Of this many places at the same time, one is kept for calls.
_PLACES_TO_KEEP_ONE = 3
#: When to come back where only a place was missing: a request takes about that long.
_AGAIN = timedelta(seconds=1)
_AT_ONCE = timedelta(milliseconds=1)
_CALLS = frozenset({Priority.ROUTE, Priority.POP})


class Gate:
    """
    One for each connection in a process. *share*: how many replicas live that use the connection;
    each takes its part of the limits, rounded down, but one request per window and at a time.

    ROUTE goes before POP before JOURNAL before SYNC, first come within one. A class is passed over
    nine times by younger requests of those before it, then its first is next. Parts of the limits
    are kept for calls: see windows.py; of three places or more, one.
    """

    def __init__(self, limits: Limits, *, share: Callable[[], int], clock: Clock) -> None:
        self._places = limits.concurrent
        self._windows = [Window(rate) for rate in limits.rates]
        self._share = share
        self._clock = clock
        self._time = _Steady(clock)
        self._running = dict.fromkeys(Priority, 0)
        self._line = Line()
        self._why = ""
        self._breaker = Breaker()
        self._paused_until = self._time.now()
        self._alarm: tuple[datetime, asyncio.Task[None]] | None = None

    @asynccontextmanager
    async def turn(self, priority: Priority, *, within: timedelta) -> AsyncIterator[None]:
        """
        One request goes out inside of it. *within* is the time to wait for the turn. What became
        of it is best told inside, too: as the turn ends, the next one goes.

        Raises: Throttled, as soon as it is certain that there is no turn in time; Unavailable
        while the breaker is open. Both say when to come back.
        """
        waiter = self._joined(priority, within)
        try:
            if (refusal := await waiter.verdict) is not None:
                raise refusal
            yield
        finally:
            self._leave(waiter)

    def pause(self, wait: timedelta) -> None:
        """
        The CRM said "slow down": nobody asks for so long, an hour at most; the longest pause wins.
        It says nothing about the breaker: call :meth:`answered` as well.
        """
        until = self._time.now() + min(wait, LONGEST_PAUSE)
        self._paused_until = max(self._paused_until, until)
        self._serve()

    def answered(self) -> None:
        """The CRM answered, whatever it said: the breaker closes."""
        self._breaker.answered()
        self._serve()

    def failed(self, why: str = "it does not answer") -> None:
        """No answer, or a server error; *why* is told to who is refused because of it."""
        now = self._time.now()
        self._why = why
        if self._breaker.failed(now):
            for waiter in list(self._line):
                self._refuse(waiter, self._away(self._breaker.shut_for(now) or OPEN_FOR))
        self._serve()

    def _away(self, shut: timedelta) -> Unavailable:
        return Unavailable(f"the CRM is left alone for now: {self._why}", retry_after=shut)

    def _joined(self, priority: Priority, within: timedelta) -> Waiter:
        now = self._time.now()
        if (shut := self._breaker.shut_for(now)) is not None:
            raise self._away(shut)
        if self._line.length(priority) >= MOST_WAITING:
            raise Throttled("too many requests wait for this CRM", retry_after=_AGAIN)
        waiter = self._line.join(priority, now + within)
        self._serve()
        return waiter

    def _leave(self, waiter: Waiter) -> None:
        self._line.leave(waiter)
        if waiter.runs:
            now = self._time.now()
            waiter.runs = False
            self._running[waiter.priority] -= 1
            for window in self._windows:
                window.end(waiter.priority, now)
            if waiter.is_probe:
                self._breaker.probe_over()
        self._serve()

    def _serve(self) -> None:
        """Give the turns that there are, refuse who gets none in time, see to the next moment."""
        if not self._line:
            self._set_alarm(None)
            return
        now, share = self._time.now(), max(1, self._share())
        has_room = partial(self._has_room, now=now, share=share)
        while (waiter := self._line.next(now, has_room)) is not None:
            self._start(waiter)
        free = {priority: self._free_at(priority, now, share) for priority in Priority}
        for waiter in list(self._line):
            at = free[waiter.priority]
            if waiter.deadline <= now or waiter.deadline < at:
                self._refuse(waiter, self._throttled(now, at))
        moments = [
            moment
            for waiter in self._line
            for moment in (waiter.deadline, free[waiter.priority])
            if moment > now
        ]
        self._set_alarm(min(moments, default=None))

    def _start(self, waiter: Waiter) -> None:
        waiter.runs = True
        waiter.is_probe = self._breaker.start()
        self._running[waiter.priority] += 1
        for window in self._windows:
            window.start(waiter.priority)
        waiter.verdict.set_result(None)

    def _refuse(self, waiter: Waiter, error: TransientError) -> None:
        self._line.leave(waiter)
        if not waiter.verdict.done():
            waiter.verdict.set_result(error)

    def _throttled(self, now: datetime, free_at: datetime) -> Throttled:
        if now < self._paused_until:
            return Throttled("the CRM asked for a pause", retry_after=free_at - now)
        if now < free_at:
            return Throttled("the CRM's limit is used up for now", retry_after=free_at - now)
        return Throttled("other requests to this CRM were before it", retry_after=_AGAIN)

    def _has_room(self, priority: Priority, *, now: datetime, share: int) -> bool:
        return (
            self._breaker.shut_for(now) is None
            and self._has_place(priority, share)
            and self._free_at(priority, now, share) <= now
        )

    def _has_place(self, priority: Priority, share: int) -> bool:
        places = max(1, self._places // share)
        if sum(self._running.values()) >= places:
            return False
        if priority in _CALLS or places < _PLACES_TO_KEEP_ONE:
            return True
        others = sum(count for other, count in self._running.items() if other not in _CALLS)
        return others < places - 1

    def _free_at(self, priority: Priority, now: datetime, share: int) -> datetime:
        """Not before this moment do the pause and the rates let one go."""
        free = (window.free_at(priority, now, share) for window in self._windows)
        return max(now, self._paused_until, *free)

    def _set_alarm(self, at: datetime | None) -> None:
        """One that rings too soon is left: it sees for itself that there is nothing to do."""
        if self._alarm is not None:
            if at is not None and self._alarm[0] <= at:
                return
            self._alarm[1].cancel()
            self._alarm = None
        if at is not None:
            self._alarm = (at, asyncio.create_task(self._ring(at), name="crm gate"))

    async def _ring(self, at: datetime) -> None:
        while (left := at - self._time.now()) > timedelta(0):
            await self._clock.sleep(max(left, _AT_ONCE))
        self._alarm = None
        self._serve()


class _Steady:
    """
    A clock that is never put back. The wall's is, and who waits for a moment would then wait an
    hour for the next second.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last = clock.now()
        self._behind = timedelta(0)

    def now(self) -> datetime:
        read = self._clock.now()
        self._behind += max(self._last - read, timedelta(0))
        self._last = read
        return read + self._behind
