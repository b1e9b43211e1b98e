"""
Which phones of a tenant are in a conversation, by what is told of calls, in whatever order. Pure.

Times are the PBX's, and are compared within a call alone; how long ago something was heard is by
our clock.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRecord,
    CallStarted,
    CallTransferred,
    LegEnded,
    LegOutcome,
    LegRecord,
    Party,
    PbxResynced,
)
from shared.contracts.envelope import Event
from shared.ids import call_id

#: An end that nobody told must not keep somebody busy for ever; few conversations are longer.
LONGEST_CALL = timedelta(hours=4)
#: Under way, and that have ended, of one tenant.
MOST_CALLS = 5_000
#: A queue that rings twenty phones in turn makes hundreds of legs.
MOST_LEGS = 200
#: What was told of a call since then may have come before a list of calls that was made earlier.
_SURELY = timedelta(seconds=10)


@dataclass(slots=True)
class _Stint:
    """One leg, or the caller; it may be answered, and be over, several times."""

    extension: str | None = None
    answered_at: datetime | None = None
    ended_at: datetime | None = None
    #: By our clock: when the answer was told.
    heard_at: datetime | None = None

    def goes_on(self, left: Mapping[str, datetime]) -> bool:
        if self.answered_at is None or self.extension is None:
            return False
        ends = [end for end in (self.ended_at, left.get(self.extension)) if end is not None]
        # Of one moment, the end came after the answer.
        return all(self.answered_at > end for end in ends)


@dataclass(slots=True)
class _Call:
    key: str
    pbx: str
    heard_at: datetime
    checked_at: datetime
    #: By leg; None is the caller, of whose leg nothing is told.
    stints: dict[str | None, _Stint] = field(default_factory=dict)
    #: Extension → when it passed the call on, or hung up its own phone.
    left: dict[str, datetime] = field(default_factory=dict)
    #: Who may be in it.
    extensions: set[str] = field(default_factory=set)

    def has(self, extension: str, now: datetime) -> bool:
        return any(
            stint.extension == extension
            and stint.goes_on(self.left)
            and stint.heard_at is not None
            and now - stint.heard_at < LONGEST_CALL
            for stint in self.stints.values()
        )

    @property
    def goes_on(self) -> bool:
        return any(stint.goes_on(self.left) for stint in self.stints.values())

    def answer(self, leg: str | None, extension: str, at: datetime, heard_at: datetime) -> bool:
        """Whether there was room for one more."""
        if extension not in self.extensions and len(self.extensions) >= MOST_LEGS:
            return False
        self.extensions.add(extension)
        stint = self._stint(leg)
        if stint.answered_at is None or stint.answered_at < at:
            stint.extension, stint.answered_at, stint.heard_at = extension, at, heard_at
        return True

    def end(self, leg: str, at: datetime) -> None:
        stint = self._stint(leg)
        stint.ended_at = max(stint.ended_at or at, at)

    def leave(self, extension: str, at: datetime) -> None:
        if extension not in self.left and len(self.left) >= MOST_LEGS:
            del self.left[next(iter(self.left))]
        self.left[extension] = max(self.left.get(extension, at), at)

    def _stint(self, leg: str | None) -> _Stint:
        if leg not in self.stints and len(self.stints) >= MOST_LEGS:
            over = (key for key, one in self.stints.items() if not one.goes_on(self.left))
            del self.stints[next(over, next(iter(self.stints)))]
        return self.stints.setdefault(leg, _Stint())


class OnCall:
    """Of one tenant. The calls of which nothing was heard for longest make room."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._calls: OrderedDict[str, _Call] = OrderedDict()
        #: What has ended: an answer that is told after it is no news.
        self._over: OrderedDict[str, None] = OrderedDict()
        #: Extension → the calls that it may be in.
        self._at: defaultdict[str, set[str]] = defaultdict(set)

    def has(self, extension: str, now: datetime) -> bool:
        return any(self._calls[key].has(extension, now) for key in self._at.get(extension, ()))

    def hear(self, body: Event, at: datetime, now: datetime) -> None:
        """*at* is when it happened, *now* when it was heard. Other events are nothing to it."""
        match body:
            case CallStarted(caller=Party(extension=str(who))):
                self._answered(self._call(body, now), None, who, at, now)
            case CallAnswered(callee=Party(extension=str(who))):
                self._answered(self._call(body, now), body.leg_id, who, at, now)
            case LegEnded() if (call := self._call(body, now)) is not None:
                call.end(body.leg_id, at)
                if _hung_up(body):
                    call.leave(body.callee.extension or "", at)
            case CallTransferred(by=Party(extension=str(who))):
                if (call := self._call(body, now)) is not None:
                    call.leave(who, at)
            case CallEnded():
                self.end(body.call_id)
            case PbxResynced():
                self._resynced(body, at)
            case _:
                pass

    def learn(self, record: CallRecord, now: datetime) -> None:
        """What the journal keeps of a call: with the events of it that did not reach us."""
        key = record.call_id
        if record.ended_at is not None:
            self.end(key)
        if record.pbx is None or key in self._over:
            return
        call = self._calls.get(key) or self._open(key, record.pbx, now)
        caller = record.caller.extension if record.caller is not None else None
        if caller is not None and (began := record.started_at) is not None:
            self._answered(call, None, caller, began, min(began, now))
        for leg in record.legs:
            who = leg.callee.extension
            if who is not None and (answered := leg.answered_at) is not None:
                self._answered(call, leg.leg_id, who, answered, min(answered, now))
            if leg.ended_at is not None:
                call.end(leg.leg_id, leg.ended_at)
                if _hung_up(leg):
                    call.leave(who or "", leg.ended_at)
        for transfer in record.transfers:
            if transfer.by.extension is not None:
                call.leave(transfer.by.extension, transfer.at)
        call.checked_at = now

    def end(self, key: str) -> None:
        """For good: what is told of it later does not begin it anew."""
        if (call := self._calls.pop(key, None)) is not None:
            self._unmark(call)
        self._over[key] = None
        self._over.move_to_end(key)
        while len(self._over) > MOST_CALLS:
            self._over.popitem(last=False)

    def unchecked(self, before: datetime) -> list[tuple[datetime, str]]:
        """Calls that keep somebody busy, of which nothing was heard or learnt since *before*: since when."""
        return [
            (since, key)
            for key, call in self._calls.items()
            if (since := max(call.checked_at, call.heard_at)) < before and call.goes_on
        ]

    def checked(self, key: str, now: datetime) -> None:
        """Nobody knows more of it."""
        if (call := self._calls.get(key)) is not None:
            call.checked_at = now

    def _call(self, body: CallEvent, now: datetime) -> _Call | None:
        """None: it has ended."""
        if body.call_id in self._over:
            return None
        call = self._calls.get(body.call_id) or self._open(body.call_id, body.pbx, now)
        call.heard_at = now
        self._calls.move_to_end(body.call_id)
        return call

    def _open(self, key: str, pbx: str, now: datetime) -> _Call:
        while len(self._calls) >= MOST_CALLS:
            self._unmark(self._calls.popitem(last=False)[1])
        call = self._calls[key] = _Call(key, pbx, now, now)
        return call

    def _answered(
        self,
        call: _Call | None,
        leg: str | None,
        who: str,
        at: datetime,
        heard_at: datetime,
    ) -> None:
        if call is not None and call.answer(leg, who, at, heard_at):
            self._at[who].add(call.key)

    def _resynced(self, body: PbxResynced, at: datetime) -> None:
        live = {call_id(self._tenant, body.pbx, name) for name in body.live}
        gone = [
            key
            for key, call in self._calls.items()
            if call.pbx == body.pbx and key not in live and call.heard_at < at - _SURELY
        ]
        for key in gone:
            self.end(key)

    def _unmark(self, call: _Call) -> None:
        for extension in call.extensions:
            self._at[extension].discard(call.key)
            if not self._at[extension]:
                del self._at[extension]


def _hung_up(leg: LegEnded | LegRecord) -> bool:
    """Click-to-call: the leg and the caller are one. Of several phones one answers for all."""
    return leg.own_phone and leg.outcome is LegOutcome.ANSWERED
