"""
Lanes: how each connection takes entries at the moment, as this process sees it. One that is away,
throttles or has lost its grant is tried with one entry at a time, and the others wait in the store
as they are; no lane waits for another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta

from services.journal.entries import EntryDocument
from shared.clock import Clock
from shared.errors import MeshError, NeedsReconnect, Throttled, TransientError

#: Failures in a row after which it is the connection that fails, and not the entries.
_TRUSTED = 3
_LONGEST = timedelta(minutes=1)
#: How often it is looked whether a person has connected the CRM again; that costs it nothing.
RECONNECT_LOOK = timedelta(seconds=30)


class Lane:
    """One connection's. *waiting* are entries that are due, as they were read."""

    def __init__(self, key: str, *, places: int, first_hold: timedelta, clock: Clock) -> None:
        self.key = key
        self.waiting: deque[EntryDocument] = deque()
        #: Requests on their way.
        self.in_hand = 0
        #: More of it may be due than a look at what came lately finds.
        self.is_behind = False
        self._places = places
        self._first_hold = first_hold
        self._clock = clock
        self._setbacks = 0
        self._held_until: datetime | None = None
        #: Held because the CRM asked for it.
        self._is_paused = False
        self._grant_is_lost = False
        self._regained_at: datetime | None = None

    @property
    def places(self) -> int:
        """How many requests may be made now."""
        if self.is_held:
            return 0
        # Somebody has to find out whether it is well again; one is enough.
        return max(0, (self._places if self.is_trusted else 1) - self.in_hand)

    @property
    def is_trusted(self) -> bool:
        """Whether a request may be more than a trial, of one entry."""
        return self._setbacks < _TRUSTED

    @property
    def is_held(self) -> bool:
        return self._held_until is not None and self._clock.now() < self._held_until

    @property
    def takes_more(self) -> bool:
        return not self.waiting and not self.is_held

    @property
    def is_idle(self) -> bool:
        busy = self.waiting or self.in_hand or self.is_behind
        return not busy and not self._setbacks and not self.is_held

    @property
    def opens_at(self) -> datetime | None:
        """When entries that wait may be tried; None: they may now, or there are none."""
        return self._held_until if self.waiting and self.is_held else None

    def went_well(self) -> None:
        """A request was answered, whatever it said to the entry."""
        self._setbacks = 0
        if self._grant_is_lost:
            self._grant_is_lost = False
            self._regained_at = self._clock.now()
        # A pause that the CRM asked for meanwhile holds for all that were not under way.
        if not self._is_paused:
            self._held_until = None

    def went_wrong(self, *errors: MeshError) -> None:
        """One request, for one reason or, where it has several entries, for some; none: it did not."""
        if not errors:
            return
        error = max(errors, key=_weight)
        if isinstance(error, Throttled):
            self._hold(error.retry_after or self._first_hold, paused=True)
        elif isinstance(error, NeedsReconnect):
            self._setbacks = max(self._setbacks, _TRUSTED)
            self._grant_is_lost = True
            self._hold(RECONNECT_LOOK)
        elif not self.is_held:  # else it was under way already, and says nothing new
            self._setbacks += 1
            over = self._setbacks - _TRUSTED
            if over >= 0:
                self._hold(min(self._first_hold * (1 << min(over, 10)), _LONGEST))

    def tried_since(self, since: datetime | None) -> datetime:
        """
        From when the time of an entry runs that is tried *since* then, None: since now. While a
        person is waited for it does not, also of those that wait behind the one that is tried.
        """
        now = self._clock.now()
        if self._grant_is_lost:
            return now
        return max(since or now, self._regained_at or since or now)

    def _hold(self, wait: timedelta, *, paused: bool = False) -> None:
        now = self._clock.now()
        self._is_paused = paused or (self._is_paused and self.is_held)
        self._held_until = max(self._held_until or now, now + wait)


def _weight(error: MeshError) -> tuple[bool, bool, timedelta]:
    asked = error.retry_after if isinstance(error, TransientError) else None
    return (
        isinstance(error, NeedsReconnect),
        isinstance(error, Throttled),
        asked or timedelta(0),
    )


class Lanes:
    def __init__(self, *, places: int, first_hold: timedelta, clock: Clock) -> None:
        """
        *places*: requests on their way to one connection at once. *first_hold*: how long one that
        fails is left alone; it doubles.
        """
        self._lanes: dict[str, Lane] = {}
        self._places = places
        self._first_hold = first_hold
        self._clock = clock

    def __iter__(self) -> Iterator[Lane]:
        return iter(list(self._lanes.values()))

    def of(self, entry: EntryDocument) -> Lane:
        lane = self._lanes.get(entry.lane)
        if lane is None:
            lane = self._lanes[entry.lane] = Lane(
                entry.lane,
                places=self._places,
                first_hold=self._first_hold,
                clock=self._clock,
            )
        return lane

    @property
    def that_take_no_more(self) -> list[Lane]:
        return [lane for lane in self if not lane.takes_more]

    def forget_idle(self) -> None:
        """Of connections that are gone none shall stay."""
        for lane in self:
            if lane.is_idle:
                del self._lanes[lane.key]
