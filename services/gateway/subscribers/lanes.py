"""
Lanes: how each subscriber takes requests at the moment, as this process sees it. Pure.

A subscriber that answers quickly has a few places. One that is slow, or fails, or is not known yet
has fewer, and all such together have half of them: whoever hangs holds up others that hang.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.gateway.subscribers.delivery import Delivery

#: Requests at once in this process, and to one subscriber.
AT_ONCE, AT_ONCE_TO_ONE = 64, 8
#: The same of those that are slow, or not known yet.
SLOW_AT_ONCE, SLOW_TO_ONE = 32, 2
_QUICK = timedelta(seconds=5)
#: Failures in a row after which it is the subscriber that fails; how long it is left alone doubles.
_TRUSTED = 3
_FIRST_HOLD, _LONGEST_HOLD = timedelta(seconds=2), timedelta(minutes=1)


@dataclass(slots=True)
class Lane:
    in_hand: int = 0
    setbacks: int = 0
    is_quick: bool = False
    held_until: datetime | None = None
    #: More may be due than was read.
    is_stirred: bool = False

    def places(self, now: datetime) -> int:
        return 0 if self._is_held(now) else self._most - self.in_hand

    def _is_held(self, now: datetime) -> bool:
        # Nobody is held for longer than that: then the clock was put back.
        return self.held_until is not None and now < self.held_until <= now + _LONGEST_HOLD

    @property
    def _most(self) -> int:
        if self.setbacks >= _TRUSTED:
            return 1
        return AT_ONCE_TO_ONE if self.is_quick else SLOW_TO_ONE

    @property
    def is_slow(self) -> bool:
        return not self.is_quick or self.setbacks >= _TRUSTED

    def answered(self, took: timedelta) -> None:
        """Or fell silent for so long."""
        self.is_quick = took < _QUICK

    def went_well(self) -> None:
        self.setbacks, self.held_until = 0, None

    def went_wrong(self, now: datetime) -> None:
        if self._is_held(now):
            return  # it was under way already, and says nothing new
        self.setbacks += 1
        if self.setbacks >= _TRUSTED:
            wait = _FIRST_HOLD * (1 << min(self.setbacks - _TRUSTED, 10))
            self.held_until = now + min(wait, _LONGEST_HOLD)


class Lanes:
    """By the uid of the subscriber."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}
        self._in_hand = 0
        self._slow_in_hand = 0

    @property
    def room(self) -> int:
        return AT_ONCE - self._in_hand

    def stir(self, uids: Iterable[str]) -> None:
        for uid in uids:
            self._of(uid).is_stirred = True

    def stirred(self, now: datetime) -> list[str]:
        """Those that could take something; who has least in hand comes first."""
        found = [(lane.in_hand, uid) for uid, lane in self._lanes.items() if lane.is_stirred]
        return [uid for _, uid in sorted(found) if self._places(self._lanes[uid], now) > 0]

    def has_places(self, uid: str, now: datetime) -> bool:
        return self._places(self._of(uid), now) > 0

    def calm(self, uid: str) -> None:
        self._of(uid).is_stirred = False

    def keep(self, uids: Collection[str]) -> None:
        """And whoever has something in hand still."""
        self._lanes = {
            uid: lane for uid, lane in self._lanes.items() if uid in uids or lane.in_hand
        }

    def in_turn(self, due: Iterable[Delivery], now: datetime) -> Iterator[Delivery]:
        """Of *due* those that can go now, which are to be taken: from each lane in its turn."""
        waiting: defaultdict[str, deque[Delivery]] = defaultdict(deque)
        for one in due:
            waiting[one.lane].append(one)
        while self.room > 0:
            open_ones = [uid for uid in waiting if self._places(self._of(uid), now) > 0]
            if not open_ones:
                return
            uid = min(open_ones, key=lambda uid: self._of(uid).in_hand)
            yield waiting[uid].popleft()
            if not waiting[uid]:
                del waiting[uid]

    def take(self, uid: str) -> Callable[[], Lane]:
        """A place; what is returned gives it back."""
        lane = self._of(uid)
        slow = lane.is_slow
        lane.in_hand += 1
        self._in_hand += 1
        self._slow_in_hand += slow

        def give_back() -> Lane:
            lane.in_hand -= 1
            self._in_hand -= 1
            self._slow_in_hand -= slow
            return lane

        return give_back

    def lane(self, uid: str) -> Lane:
        return self._of(uid)

    def _of(self, uid: str) -> Lane:
        return self._lanes.setdefault(uid, Lane())

    def _places(self, lane: Lane, now: datetime) -> int:
        if lane.is_slow and self._slow_in_hand >= SLOW_AT_ONCE:
            return 0
        return min(lane.places(now), self.room)
