"""The store as a help that may be away: looked at for a moment, then left alone for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog

from shared.clock import Clock
from shared.errors import Unavailable

log = structlog.get_logger(__name__)

T = TypeVar("T")

#: A store that is away or frozen must not use up a ringing call's time; a healthy one answers in
#: milliseconds.
WITHIN = timedelta(milliseconds=250)
_LEFT_ALONE = timedelta(seconds=2)


class Glance:
    """One for all that a process asks of a store only to save itself a CRM's time."""

    def __init__(self, clock: Clock, *, within: timedelta = WITHIN) -> None:
        self._clock = clock
        self._within = within
        self._away_until: datetime | None = None

    @property
    def within(self) -> timedelta:
        """How long one look takes at most."""
        return self._within

    async def at(self, work: Coroutine[Any, Any, T]) -> T | None:
        """None where the store is away; whether *work* was done is then not known."""
        now = self._clock.now()
        if self._away_until is not None and now < self._away_until:
            work.close()
            return None
        try:
            async with asyncio.timeout(self._within.total_seconds()):
                return await work
        except (Unavailable, TimeoutError) as error:
            self._away_until = now + _LEFT_ALONE
            log.warning("store_left_alone", error=str(error) or "no answer in time")
            return None
