"""
Events 30011, 30013 and 30016 → call events: states of members, each taken for what it says. Pure.

An event lists the members of a call with the state of each, and has no time of its own. What
follows from an earlier event (that a hold is over, whether who hangs up had answered) is told by
who remembers it; a webhook, read by itself, tells less and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shared.contracts.calls import (
    CallAnswered,
    CallEvent,
    CallHeld,
    CallQueued,
    CallResumed,
    CallRinging,
    CallStarted,
    CallTransferred,
    Direction,
    LegEnded,
    LegOutcome,
    Party,
    TransferKind,
)
from shared.pbx.yeastar.members import CallReport, Kind, Member, Status
from shared.pbx.yeastar.memory import CallMemory, Teller

#: Numbers that a P-Series gives to queues, where `Extension Preferences` are as they came.
_PRESET_QUEUES = re.compile(r"64[0-9]{2}")
_WORD = re.compile(r"^queue-?\s*(?P<number>[0-9*#]+)$", re.IGNORECASE)
_LINE_RINGS = frozenset({Status.RING, Status.ALERT, Status.EARLYMEDIA})
_LINE_ANSWERED = frozenset({Status.ANSWER, Status.ANSWERED})
_TALKS = frozenset({Status.ANSWER, Status.ANSWERED, Status.HOLD, Status.BYE})


def queue_of(path: str | None, queues: Collection[str]) -> str | None:
    """The queue that a call came through, of ``6400`` or ``queue-6400``; None for other ways."""
    if path is None:
        return None
    if word := _WORD.match(path):
        return word["number"]
    is_queue = path in queues if queues else _PRESET_QUEUES.fullmatch(path) is not None
    return path if is_queue else None


@dataclass(frozen=True, slots=True)
class Following:
    """One event about a call: what it lists, what is known, and who is told."""

    report: CallReport
    memory: CallMemory
    tell: Teller
    at: datetime

    def follow(self, queues: Collection[str]) -> None:
        self.announce()
        for member in self.report.members:
            self._queue(member, queues)
        for member in self.report.members:
            if member.kind is Kind.INBOUND:
                self.memory.caller_gone |= member.status is Status.BYE
            elif member.leg is not None:
                self._leg(member, member.leg)
            self._hold(member)
            if member.status is not None:
                key = member.kind, member.channel or member.leg or ""
                self.memory.present[key] = member.status

    def announce(self) -> None:
        """Which way the call goes, and that it is there: of 30016 no more is told."""
        _learn(self.report, self.memory)
        memory = self.memory
        # Read by itself, only an early event is near enough to the beginning.
        late = memory.blind and not self.report.early
        if memory.started or memory.direction is None or late:
            return
        memory.started = True
        self.tell.tell(
            self.at,
            "started",
            CallStarted,
            pbx_call_id=self.report.call_id,
            direction=memory.direction,
            caller=memory.caller or Party(),
            dialled=memory.dialled,
        )

    def transfer(self) -> None:
        """
        Who passes the call on is in it, to whom is called: told where just one of each is listed,
        before the same members are followed.
        """
        memory = self.memory
        legs = [m for m in self.report.members if m.leg and m.leg not in memory.callers]
        called = {m.leg: m for m in legs if m.status is Status.RING}
        new = called or {m.leg: m for m in legs if not memory.is_called(m.leg or "")}
        passed = {
            m.leg: m
            for m in legs
            if m.leg not in new and m.kind is Kind.EXTENSION and m.status in _TALKS
        }
        if len(new) != 1 or len(passed) != 1 or (memory.blind and not called):
            return
        ((target, to),), ((_, giver),) = new.items(), passed.items()
        self.tell.tell(
            self.at,
            f"transferred/{giver.leg}/{target}",
            CallTransferred,
            kind=TransferKind.BLIND if called else TransferKind.ATTENDED,
            by=giver.party,
            to=to.party,
        )

    def _queue(self, member: Member, queues: Collection[str]) -> None:
        queue, memory = queue_of(member.path, queues), self.memory
        if queue is None or queue == memory.queue or member.status is Status.BYE:
            return
        memory.queue = queue
        if memory.direction is not Direction.OUTBOUND and (self.report.early or not memory.blind):
            self.tell.tell(self.at, f"queued/{queue}", CallQueued, queue=queue)

    def _leg(self, member: Member, leg: str) -> None:
        memory = self.memory
        if leg in memory.callers and not memory.is_called(leg):
            memory.caller_gone |= member.status is Status.BYE
            return
        line = member.kind is Kind.OUTBOUND
        own = not line and leg == memory.own
        answered = _LINE_ANSWERED if line or own else {Status.ANSWER}
        if member.status is Status.RING or (line and member.status in _LINE_RINGS):
            self._rings(member, leg, own=own)
        elif member.status in answered:
            if (leg, member.channel) not in memory.answered:
                memory.answered[leg, member.channel] = None
                self._told_of(member, leg, "answered", CallAnswered, own_phone=own)
        elif member.status is Status.BYE:
            self._hung_up(member, leg, own=own)

    def _rings(self, member: Member, leg: str, *, own: bool) -> None:
        memory = self.memory
        if (leg, member.channel) in memory.rung:
            return
        memory.rung.add((leg, member.channel))
        caller = memory.caller or Party()
        if own:
            # The agent sees who will be called, where that is known.
            outbound = self.report.first(Kind.OUTBOUND)
            caller = Party(number=outbound.callee if outbound else None)
        queue = memory.queue if member.kind is Kind.EXTENSION and not own else None
        self._told_of(
            member, leg, "ringing", CallRinging, caller=caller, queue=queue, own_phone=own
        )

    def _hung_up(self, member: Member, leg: str, *, own: bool) -> None:
        key, outcome = (leg, member.channel), self._outcome(member, leg)
        if outcome is not None and key not in self.memory.ended:
            self.memory.ended.add(key)
            self._told_of(member, leg, "leg-ended", LegEnded, outcome=outcome, own_phone=own)

    def _outcome(self, member: Member, leg: str) -> LegOutcome | None:
        """None where it is not certain."""
        report, memory = self.report, self.memory
        if memory.blind:
            # The caller still hears ringback, so nobody has answered: this phone let it pass.
            inbound = report.first(Kind.INBOUND)
            waits = inbound is not None and inbound.status is Status.ALERT
            return LegOutcome.NO_ANSWER if waits else None
        if not memory.is_called(leg):
            return None
        if (leg, member.channel) in memory.answered:
            return LegOutcome.ANSWERED
        if any(other.status is Status.ANSWER for other in report.members) or memory.was_answered:
            return LegOutcome.ELSEWHERE
        callers = [m for m in report.members if m.kind is Kind.INBOUND or m.leg in memory.callers]
        gone = memory.caller_gone or any(m.status is Status.BYE for m in callers)
        return LegOutcome.CANCELLED if gone else LegOutcome.NO_ANSWER

    def _hold(self, member: Member) -> None:
        """Only by who remembers: else nobody would tell that it is over."""
        leg, holding = member.leg or member.caller or member.channel, self.memory.holding
        if self.memory.blind or member.status is None or not leg:
            return
        when = self.at.isoformat(timespec="seconds")
        if member.status is Status.HOLD:
            if leg not in holding:
                holding.add(leg)
                self.tell.tell(self.at, f"held/{leg}/{when}", CallHeld, leg_id=leg)
        elif leg in holding:
            holding.discard(leg)
            if member.status is not Status.BYE:
                self.tell.tell(self.at, f"resumed/{leg}/{when}", CallResumed, leg_id=leg)

    def _told_of(
        self, member: Member, leg: str, what: str, event: type[CallEvent], /, **more: Any
    ) -> None:
        key = f"{what}/{leg}/{member.channel}"
        self.tell.tell(self.at, key, event, leg_id=leg, callee=member.party, **more)


def _learn(report: CallReport, memory: CallMemory) -> None:
    """Which way the call goes and who called, as far as this event says it."""
    inbound, outbound = report.first(Kind.INBOUND), report.first(Kind.OUTBOUND)
    for member in report.extensions:
        number = member.number or ""
        if (member.calls or member.status is Status.EARLYMEDIA) and inbound is None:
            if not memory.is_called(number) and memory.direction is not Direction.INBOUND:
                memory.callers.setdefault(number)
        elif _is_own(member, report, memory):
            memory.own = number
    if memory.started:
        return
    if inbound is not None:
        memory.direction = Direction.INBOUND
        memory.caller, memory.dialled = Party(number=inbound.caller), inbound.callee
    elif outbound is not None and memory.direction is not Direction.INBOUND:
        memory.direction = Direction.OUTBOUND
        memory.caller, memory.dialled = _who_dials(report, memory, outbound), outbound.callee
    elif memory.direction is None:
        _learn_internal(report, memory)


def _learn_internal(report: CallReport, memory: CallMemory) -> None:
    caller = next(iter(memory.callers), memory.own)
    called = [member for member in report.extensions if member.number != caller]
    if caller is not None and called:
        memory.direction = Direction.INTERNAL
        memory.caller = Party(extension=caller)
        memory.dialled = next((m.path for m in called if m.path), called[0].number)


def _who_dials(report: CallReport, memory: CallMemory, outbound: Member) -> Party:
    known = next(iter(memory.callers), memory.own)
    listed = [member.number for member in report.extensions]
    if known is None and len(listed) == 1:
        known = listed[0]
    return Party(extension=known) if known is not None else Party(number=outbound.caller)


def _is_own(member: Member, report: CallReport, memory: CallMemory) -> bool:
    """
    The phone that click-to-call rings first: it rings while nobody calls it, and picks up before
    the other side rings.
    """
    if memory.own is not None:
        return member.number == memory.own
    if memory.callers or memory.rung or report.first(Kind.INBOUND) is not None:
        return False
    if memory.direction is Direction.INBOUND or len(report.extensions) != 1:
        return False
    outbound = report.first(Kind.OUTBOUND) is not None
    return member.status is Status.RING or (outbound and member.status is Status.ANSWER)
