"""Time as a port, so that no test sleeps."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    async def sleep(self, delay: timedelta) -> None: ...


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)  # noqa: TID251  the one place that reads the wall clock

    async def sleep(self, delay: timedelta) -> None:
        await asyncio.sleep(delay.total_seconds())  # noqa: TID251  the one place that sleeps


class ManualClock:
    """
    Stands still until ``advance`` is called; wakes sleepers in the order they are due.

    It starts in the future, where no database's own sweep takes its documents for expired.
    """

    def __init__(self, start: datetime = datetime(2100, 1, 1, tzinfo=UTC)) -> None:
        self._now = start
        self._order = itertools.count()
        self._sleepers: list[tuple[datetime, int, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    async def sleep(self, delay: timedelta) -> None:
        wake = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + delay, next(self._order), wake))
        await wake

    @property
    def sleepers(self) -> int:
        """How many tasks wait for this clock."""
        return sum(not wake.done() for _, _, wake in self._sleepers)

    async def advance(self, by: timedelta) -> None:
        target = self._now + by
        while self._sleepers and self._sleepers[0][0] <= target:
            due, _, wake = heapq.heappop(self._sleepers)
            self._now = due
            if not wake.done():
                wake.set_result(None)
            await asyncio.sleep(0)  # noqa: TID251  lets the woken task run, no time passes
        self._now = target
