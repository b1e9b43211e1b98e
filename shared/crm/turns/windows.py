"""
How many requests went out in the last second, minute, day; and when the next one may. Pure.

A sliding window: a request takes its place when it starts and gives it back a full window after it
*ended*. At whichever moment between the two the CRM counts it, and wherever the CRM's windows
begin, none of them holds more than was promised. A token bucket would let nearly twice as many
through one window; the price of this is a request's own time per window.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.crm.form.access import Rate
from shared.crm.port import Priority

#: What a class and those after it may have of a window, in percent. SYNC has no more than its half
#: and JOURNAL with SYNC no more than 80: a fifth is always there for calls, half of it where there
#: is nothing to journal.
_PARTS = ((Priority.ROUTE, 100), (Priority.JOURNAL, 80), (Priority.SYNC, 50))
#: Ends within this part of a window are kept as one, as of the last: the memory of a day's 250,000
#: requests is then that of 1,000.
_GRAINS = 1000


class Window:
    """One of a CRM's rates; *share* is the number of replicas that divide it."""

    def __init__(self, rate: Rate) -> None:
        self._requests = rate.requests
        self._parts = [(least, percent, _Part(rate.per)) for least, percent in _PARTS]

    def free_at(self, priority: Priority, now: datetime, share: int) -> datetime:
        """Not before this moment is there room; a request that is still out may make it later."""
        ours = max(1, self._requests // share)
        return max(
            part.free_at(now, max(1, ours * percent // 100))
            for least, percent, part in self._parts
            if priority >= least
        )

    def start(self, priority: Priority) -> None:
        for least, _, part in self._parts:
            if priority >= least:
                part.running += 1

    def end(self, priority: Priority, now: datetime) -> None:
        for least, _, part in self._parts:
            if priority >= least:
                part.end(now)


@dataclass(slots=True)
class _Ends:
    first: datetime
    last: datetime
    count: int = 1


class _Part:
    __slots__ = ("_ended", "_ends", "_per", "running")

    def __init__(self, per: timedelta) -> None:
        self._per = per
        self._ends: deque[_Ends] = deque()
        self._ended = 0
        self.running = 0

    def end(self, now: datetime) -> None:
        self.running -= 1
        self._forget(now)
        self._ended += 1
        if self._ends and now - self._ends[-1].first < self._per / _GRAINS:
            self._ends[-1].last = now
            self._ends[-1].count += 1
        else:
            self._ends.append(_Ends(now, now))

    def free_at(self, now: datetime, most: int) -> datetime:
        self._forget(now)
        over = self.running + self._ended - most + 1
        if over <= 0:
            return now
        for ends in self._ends:
            over -= ends.count
            if over <= 0:
                return ends.last + self._per
        return now + self._per

    def _forget(self, now: datetime) -> None:
        while self._ends and self._ends[0].last + self._per <= now:
            self._ended -= self._ends.popleft().count
