"""
What was told of late, for clients that come back. Pure.

A client names the last event that it had and when that was told, or a moment up to which it had
all. Another replica may have heard the events in another order, so what it heard shortly before is
told again too; and the last event not yet, so then it goes by the moment.
"""

from __future__ import annotations

import re
from collections import defaultdict, deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from services.gateway.domain.events import AgentEvent
from shared.moments import from_ms, to_ms

KEPT = timedelta(minutes=10)
#: Replicas hear of an event within this of each other; and so far may their clocks be apart.
MARGIN = timedelta(seconds=5)
#: Of one tenant, and of all: a kilobyte each.
_MOST, _MOST_OF_ALL = 20_000, 100_000
_POSITION = re.compile(r"(?:([A-Za-z0-9]+)-)?at-([0-9]{1,14})")


def position_at(moment: datetime) -> str:
    """For who has had all that was told until then."""
    return f"at-{to_ms(moment)}"


def position_of(event: AgentEvent, told_at: datetime) -> str:
    """For who has had *event*, and what was told before it."""
    return f"{event.id}-{position_at(told_at)}"


@dataclass(frozen=True, slots=True)
class _Entry:
    number: int
    told_at: datetime
    event: AgentEvent


@dataclass(slots=True)
class _OfTenant:
    #: Nothing is missing since then.
    whole_since: datetime
    entries: deque[_Entry] = field(default_factory=deque)
    by_id: dict[str, _Entry] = field(default_factory=dict)


class Past:
    def __init__(self, now: datetime) -> None:
        """*now*: from when on all is heard."""
        self._tenants: defaultdict[str, _OfTenant]
        #: The events that there are in the order in which they were told, and whose each is.
        self._order: deque[tuple[int, str]] = deque()
        self._number = self._kept = 0
        self.begin_again(now)

    def begin_again(self, now: datetime) -> None:
        """Some of it was not heard: nobody can go on from before *now*."""
        self._tenants = defaultdict(lambda: _OfTenant(now))
        self._order.clear()
        self._kept = 0

    def note(self, tenant: str, event: AgentEvent, now: datetime, *, was_live: bool = True) -> None:
        """*was_live* False: made out of the journal; what came after it is not all known."""
        self._number += 1
        found = self._tenants[tenant]
        entry = _Entry(self._number, now, event)
        found.entries.append(entry)
        if was_live:
            found.by_id[event.id] = entry
        self._order.append((self._number, tenant))
        self._kept += 1
        while found.entries[0].told_at < now - KEPT or len(found.entries) > _MOST:
            self._drop_oldest(tenant)
        while self._kept > _MOST_OF_ALL or self._is_dropped(*self._order[0]):
            number, oldest = self._order.popleft()
            if not self._is_dropped(number, oldest):
                self._drop_oldest(oldest)

    def since(self, tenant: str, position: str, now: datetime) -> list[AgentEvent] | None:
        """
        What was told after *position*, an event's id or one of :func:`position_at` and
        :func:`position_of`, and shortly before it. None: that is not known any more.
        """
        found = self._tenants[tenant]
        place = _POSITION.fullmatch(position)
        after = found.by_id.get((place[1] or "") if place else position)
        begin = after.told_at if after else _moment_in(place, now)
        if begin is None or (after is None and begin - MARGIN < found.whole_since):
            return None
        wanted: deque[AgentEvent] = deque()
        for entry in reversed(found.entries):
            if entry.told_at < begin - MARGIN:
                break
            if entry is not after:
                wanted.appendleft(entry.event)
        return list(wanted)

    def _is_dropped(self, number: int, tenant: str) -> bool:
        entries = self._tenants[tenant].entries
        return not entries or entries[0].number > number

    def _drop_oldest(self, tenant: str) -> None:
        found = self._tenants[tenant]
        oldest = found.entries.popleft()
        self._kept -= 1
        found.whole_since = oldest.told_at
        if found.by_id.get(oldest.event.id) is oldest:
            del found.by_id[oldest.event.id]


def _moment_in(place: re.Match[str] | None, now: datetime) -> datetime | None:
    if place is None:
        return None
    try:
        return min(from_ms(int(place[2])), now)
    except OverflowError:
        return None
