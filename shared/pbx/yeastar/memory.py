"""What is remembered of the calls in progress between one event and the next. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from shared.contracts.calls import CallEvent, Direction, Party
from shared.ids import call_id as our_call_id
from shared.pbx.port import Sighting
from shared.pbx.yeastar.members import Status

log = structlog.get_logger(__name__)

#: The largest P-Series carries some 1,000 calls at once; more than these are no calls.
MOST_CALLS = 10_000
#: A call of which nothing was heard for so long is not waited for.
_FORGOTTEN = timedelta(days=1)
#: So long does a record of a call (30012) take at most after everybody hung up.
_RECORD_TAKES = timedelta(seconds=10)
_MOST_ENDED = 2_000


@dataclass(slots=True)
class CallMemory:
    """*blind*: there is no memory, each event is read by itself (webhooks, replicas share them)."""

    heard_at: datetime
    blind: bool = False
    #: Seen first when it was under way.
    joined: bool = False
    started: bool = False
    direction: Direction | None = None
    caller: Party | None = None
    dialled: str | None = None
    queue: str | None = None
    #: Extensions that called, in the order in which they were seen.
    callers: dict[str, None] = field(default_factory=dict)
    #: The phone that click-to-call rang first.
    own: str | None = None
    #: Legs by number and channel: a phone may be called twice in one call.
    rung: set[tuple[str, str]] = field(default_factory=set)
    answered: dict[tuple[str, str], None] = field(default_factory=dict)
    ended: set[tuple[str, str]] = field(default_factory=set)
    holding: set[str] = field(default_factory=set)
    caller_gone: bool = False
    #: Its end was told: what comes late adds to its legs alone.
    end_told: bool = False
    present: dict[tuple[str, str], Status] = field(default_factory=dict)

    def is_called(self, leg: str) -> bool:
        return any(number == leg for number, _ in (*self.rung, *self.answered))

    def has_answered(self, leg: str) -> bool:
        return any(number == leg for number, _ in self.answered)

    @property
    def over(self) -> bool:
        """Everybody who was seen in it hung up."""
        return bool(self.present) and all(status is Status.BYE for status in self.present.values())

    @property
    def was_answered(self) -> bool:
        """By somebody other than the agent whose own phone click-to-call rings."""
        return any(number != self.own for number, _ in self.answered)

    @property
    def called_nobody(self) -> bool:
        """Click-to-call whose agent did not pick up the own phone: no other was rung."""
        others = any(number != self.own for number, _ in self.rung)
        return self.own is not None and not self.answered and not others


@dataclass(slots=True)
class Teller:
    """Makes the sightings of one call."""

    tenant: str
    pbx: str
    pbx_call_id: str
    out: list[Sighting]

    def tell(self, at: datetime, key: str, event: type[CallEvent], /, **more: Any) -> None:
        """*more* are the fields that *event* has beside those of every call event."""
        call = our_call_id(self.tenant, self.pbx, self.pbx_call_id)
        body = event(call_id=call, pbx=self.pbx, **more)
        self.out.append(Sighting(body, at, f"{self.pbx}/{self.pbx_call_id}/{key}"))


class Calls:
    """Those in progress; bounded, and forgotten when they have ended."""

    def __init__(self) -> None:
        self._live: OrderedDict[str, CallMemory] = OrderedDict()
        #: Everybody hung up, and the record of the call is waited for: since then.
        self._closing: dict[str, datetime] = {}
        #: Of a call that ended more may come: its record again, or another one.
        self._ended: OrderedDict[str, CallMemory | None] = OrderedDict()
        self._full = False

    def __len__(self) -> int:
        return len(self._live)

    @property
    def live(self) -> list[str]:
        return list(self._live)

    def memory(self, call_id: str, now: datetime) -> CallMemory:
        found = self._live.get(call_id)
        if found is None:
            found = self._live[call_id] = self._ended.pop(call_id, None) or CallMemory(now)
            self._make_room(now)
        self._live.move_to_end(call_id)
        found.heard_at = now
        return found

    def known(self, call_id: str) -> CallMemory | None:
        return self._live.get(call_id)

    def remembered(self, call_id: str) -> CallMemory | None:
        return self._live.get(call_id) or self._ended.get(call_id)

    def closing(self, call_id: str, now: datetime) -> None:
        self._closing.setdefault(call_id, now)

    def goes_on(self, call_id: str) -> None:
        self._closing.pop(call_id, None)

    def overdue(self, now: datetime) -> list[tuple[str, CallMemory, datetime]]:
        """Calls that are over and of which no record came, since when; forgotten with that."""
        found = []
        while self._closing:
            call_id, since = next(iter(self._closing.items()))
            if now - since < _RECORD_TAKES:
                break  # they are in the order of their times
            memory = self._live.get(call_id)
            self.forget(call_id)
            if memory is not None and not memory.end_told:
                memory.end_told = True
                found.append((call_id, memory, since))
        return found

    def forget(self, call_id: str) -> None:
        self._closing.pop(call_id, None)
        self._ended[call_id] = self._live.pop(call_id, None) or self._ended.get(call_id)
        self._ended.move_to_end(call_id)
        while len(self._ended) > _MOST_ENDED:
            self._ended.popitem(last=False)

    def _make_room(self, now: datetime) -> None:
        while self._live:
            oldest, memory = next(iter(self._live.items()))
            if len(self._live) <= MOST_CALLS and now - memory.heard_at < _FORGOTTEN:
                return
            if len(self._live) > MOST_CALLS and not self._full:
                self._full = True
                log.error("yeastar_calls_dropped", most=MOST_CALLS)
            self._live.pop(oldest)
            self._closing.pop(oldest, None)
