"""Who waits for a turn at a CRM, and who is next. Pure of time and limits."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime

from shared.crm.port import Priority
from shared.errors import TransientError

#: So often is the first of a class passed over by younger ones of the classes before it; the next
#: turn that it could take is then its own.
PASSES = 9


@dataclass(slots=True, eq=False, kw_only=True)
class Waiter:
    """*verdict*: None for "go", else the error for who waits."""

    priority: Priority
    deadline: datetime
    number: int
    verdict: asyncio.Future[TransientError | None]
    runs: bool = False
    is_probe: bool = False


class Line:
    """By class, first come within one."""

    def __init__(self) -> None:
        self._classes: dict[Priority, OrderedDict[int, Waiter]] = {
            priority: OrderedDict() for priority in Priority
        }
        self._passed = dict.fromkeys(Priority, 0)
        self._came = 0

    def __len__(self) -> int:
        return sum(map(len, self._classes.values()))

    def __iter__(self) -> Iterator[Waiter]:
        for waiting in self._classes.values():
            yield from waiting.values()

    def length(self, least: Priority) -> int:
        """How many wait of *least* and of the classes before it."""
        return sum(len(self._classes[one]) for one in Priority if one <= least)

    def join(self, priority: Priority, deadline: datetime) -> Waiter:
        self._came += 1
        verdict = asyncio.get_running_loop().create_future()
        waiter = Waiter(priority=priority, deadline=deadline, number=self._came, verdict=verdict)
        self._classes[priority][waiter.number] = waiter
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Also for one who is not in it any more."""
        waiting = self._classes[waiter.priority]
        waiting.pop(waiter.number, None)
        if not waiting:
            self._passed[waiter.priority] = 0

    def next(self, now: datetime, has_room: Callable[[Priority], bool]) -> Waiter | None:
        """Who goes now, taken out of the line; nobody whose time is over."""
        heads = [
            head
            for priority in Priority
            if (head := self._head(priority, now)) is not None and has_room(priority)
        ]
        if not heads:
            return None
        due = [head for head in heads if self._passed[head.priority] >= PASSES]
        chosen = min(due, key=_number) if due else heads[0]
        for head in heads:
            if head.number < chosen.number:
                self._passed[head.priority] += 1
        self._passed[chosen.priority] = 0
        self.leave(chosen)
        return chosen

    def _head(self, priority: Priority, now: datetime) -> Waiter | None:
        # A cancelled one stands here until its task has run once more.
        waiting = self._classes[priority].values()
        return next((w for w in waiting if not w.verdict.done() and w.deadline >= now), None)


def _number(waiter: Waiter) -> int:
    return waiter.number
