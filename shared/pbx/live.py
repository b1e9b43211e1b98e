"""
A call in progress, as the readers of channel events keep it: what became of it, and what is told
of that. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRinging,
    CallStarted,
    Direction,
    Disposition,
    EndKnown,
    HangupBy,
    LegEnded,
    LegOutcome,
    Party,
)
from shared.pbx.causes import ANSWERED_ELSEWHERE, outcome_by_cause
from shared.pbx.port import Sighting

#: It was offered to somebody who let it pass.
_LET_PASS = frozenset({LegOutcome.NO_ANSWER, LegOutcome.CANCELLED})


class Kind(Enum):
    TRUNK = "trunk"
    PHONE = "phone"
    #: The PBX's own plumbing (Asterisk: ``Local/…``), nobody's phone.
    LOCAL = "local"


@dataclass(slots=True, eq=False)
class LiveLeg:
    leg_id: str
    endpoint: str
    kind: Kind
    call: LiveCall
    number: str | None = None
    name: str | None = None
    offered: bool = False
    #: A line outside may ring before it is known which number it was asked for.
    rang_early: tuple[datetime, Party] | None = None
    rang: bool = False
    answered: bool = False
    #: In a bridge with somebody else.
    together: bool = False
    #: It put the other side on hold.
    holds: bool = False
    gone: bool = False
    outcome: LegOutcome | None = None
    #: Calls that it was part of before: a late event does not take it back there.
    left: set[LiveCall] = field(default_factory=set)

    @property
    def party(self) -> Party:
        if self.kind is Kind.TRUNK:
            return Party(number=self.number)
        return Party(extension=self.endpoint)

    @property
    def own_phone(self) -> bool:
        """The agent's, which click-to-call rings first."""
        return self.call.originated and self is self.call.first

    @property
    def missed(self) -> bool:
        """Of a line outside, ringing is no proof: early media may say that there is no such number."""
        return self.outcome in _LET_PASS or (self.rang and self.kind is Kind.PHONE)


@dataclass(slots=True, eq=False)
class LiveCall:
    """*out* takes what is told."""

    call_id: str
    pbx: str
    pbx_call_id: str
    began_at: datetime
    exten: str
    out: list[Sighting]
    legs: dict[str, LiveLeg] = field(default_factory=dict)
    first: LiveLeg | None = None
    direction: Direction | None = None
    started: bool = False
    #: Click-to-call: the first leg is a phone of ours that the PBX rang.
    originated: bool = False
    dial_id: str | None = None
    queue: str | None = None
    answered: bool = False
    abandoned: bool = False
    voicemail: bool = False
    #: A leg of it went on in another call.
    merged: bool = False
    #: We came when it was under way: what was before is not known.
    joined: bool = False
    #: It was gone when the connection to the PBX was back.
    lost_sight: bool = False
    recordings: set[str] = field(default_factory=set)
    #: All ids under which the PBX speaks of it.
    known_as: set[str] = field(default_factory=set)
    asked_to_hang_up: LiveLeg | None = None
    cause: int | None = None
    ended_at: datetime | None = None
    quiet_since: datetime | None = None
    talked: timedelta = timedelta(0)
    _talking_since: datetime | None = None

    @property
    def is_over(self) -> bool:
        return all(leg.gone for leg in self.legs.values())

    @property
    def outside(self) -> LiveLeg | None:
        """The channel of who is not one of ours; on an internal call the caller's."""
        if self.direction is not Direction.OUTBOUND:
            return self.first
        lines = [leg for leg in self.legs.values() if leg.kind is Kind.TRUNK and leg.offered]
        # One after the other until one gets through, or several at once.
        answered = [leg for leg in lines if leg.answered]
        return next(iter(answered or reversed(lines)), None)

    @property
    def _who_is_there(self) -> Party | None:
        return self.outside.party if self.outside else None

    @property
    def leads_outside(self) -> bool:
        return self.direction in {Direction.INBOUND, Direction.OUTBOUND}

    # -- what happens to it ------------------------------------------------------------------

    def start(self, direction: Direction, *, dialled: str | None) -> None:
        """Once; dated back to the first channel, where the direction is known only later."""
        first = self.first
        if self.started or first is None:
            return
        self.started = True
        self.direction = direction
        if first.kind is Kind.TRUNK:
            caller = Party(number=first.number, name=first.name)
        else:
            caller = Party(extension=first.endpoint, name=None if self.originated else first.name)
        self.tell(
            self.began_at,
            "started",
            CallStarted,
            pbx_call_id=self.pbx_call_id,
            direction=direction,
            caller=caller,
            dialled=dialled,
            dial_id=self.dial_id,
        )

    def ring(self, leg: LiveLeg, at: datetime, *, caller: Party) -> None:
        """*caller* as the phone shows it. Once a leg."""
        if leg.kind is Kind.TRUNK and leg is not self.first and not leg.offered:
            leg.rang_early = at, caller
            return
        if leg.rang:
            return
        leg.rang = True
        self.tell(
            at,
            f"ringing/{leg.leg_id}",
            CallRinging,
            leg_id=leg.leg_id,
            callee=leg.party,
            caller=caller,
            queue=self.queue,
            own_phone=leg.own_phone,
        )

    def answer(self, leg: LiveLeg, at: datetime) -> None:
        """Once a leg. Whose phone did not ring, as in a pickup, is told who is there."""
        if not leg.answered:
            leg.answered = True
            handed = leg.kind is Kind.PHONE and not (leg.rang or leg.own_phone)
            self._tell_answered(leg, at, caller=self._who_is_there if handed else None)

    def leg_over(self, leg: LiveLeg, at: datetime, outcome: LegOutcome) -> None:
        """Once a leg; the first word holds."""
        if leg.outcome is None:
            leg.outcome = outcome
            self._tell_leg_over(leg, at, outcome)

    def leg_gone(self, leg: LiveLeg, at: datetime, *, cause: int | None) -> None:
        leg.gone, leg.holds, leg.together = True, False, False
        self.count_talk(at)
        if leg.kind is not Kind.LOCAL and (leg.offered or leg.own_phone):
            gave_up = self.asked_to_hang_up is self.first and not self.answered
            outcome = LegOutcome.ANSWERED if leg.answered else outcome_by_cause(cause)
            if gave_up and outcome is LegOutcome.ELSEWHERE and cause != ANSWERED_ELSEWHERE:
                outcome = LegOutcome.CANCELLED
            if gave_up and outcome is LegOutcome.NO_ANSWER and leg is not self.first:
                outcome = LegOutcome.CANCELLED
            self.leg_over(leg, at, outcome)
        if leg is self.first:
            self.cause = cause

    def give(self, leg: LiveLeg, target: LiveCall, at: datetime) -> None:
        """
        The leg goes over; what became of it so far stays known in both, and who had answered has
        answered the other call too.
        """
        if leg.answered and leg.offered:
            self._tell_leg_over(leg, at, LegOutcome.ANSWERED)
        self.legs.pop(leg.leg_id, None)
        target.legs[leg.leg_id] = leg
        leg.call = target
        leg.left.add(self)
        self.merged = True
        self.count_talk(at)
        target.count_talk(at)
        if leg.answered and leg.kind is Kind.PHONE:
            target._tell_answered(leg, at, caller=target._who_is_there)

    def count_talk(self, at: datetime) -> None:
        """Talk is: the outside party is in a bridge with somebody, and nobody holds."""
        outside = self.outside
        talks = (
            outside is not None
            and outside.call is self
            and outside.together
            and not any(leg.holds for leg in self.legs.values())
        )
        if talks and self._talking_since is None:
            self._talking_since = at
        elif not talks and self._talking_since is not None:
            self.talked += max(at - self._talking_since, timedelta(0))
            self._talking_since = None

    def begin_to_close(self, at: datetime, now: datetime) -> None:
        """*at* by the PBX's clock, *now* by ours."""
        self.ended_at = at
        self.quiet_since = now

    def end(self) -> None:
        if self.merged and not self.started:
            return  # a pickup, a call taken from the parking lot: it was never one of its own
        # A phone that called nobody: a feature code, a wrong number, its own voicemail; or an
        # order without a caller id whose agent did not pick up.
        direction = Direction.OUTBOUND if self.originated else Direction.INTERNAL
        self.start(direction, dialled=None if self.originated else self.exten)
        known = self._end_known()
        self.tell(
            self.ended_at or self.began_at,
            # Another replica may know better: these are two messages, and the better one holds.
            "ended" if known is EndKnown.SEEN else f"ended/{known}",
            CallEnded,
            disposition=self._disposition() if known is EndKnown.SEEN else None,
            talk_time=self.talked if known is EndKnown.SEEN else None,
            hangup_by=None if self.lost_sight else self._hangup_by(),
            cause=self.cause,
            known=known,
        )

    # -- what is told ------------------------------------------------------------------------

    def tell(self, at: datetime, key: str, event: type[CallEvent], /, **more: Any) -> None:
        """*more* are the fields that *event* has beside those of every call event."""
        body = event(call_id=self.call_id, pbx=self.pbx, **more)
        self.out.append(Sighting(body, at, f"{self.pbx}/{self.pbx_call_id}/{key}"))

    def _tell_answered(self, leg: LiveLeg, at: datetime, *, caller: Party | None = None) -> None:
        self.answered = self.answered or not leg.own_phone
        self.tell(
            at,
            f"answered/{leg.leg_id}",
            CallAnswered,
            leg_id=leg.leg_id,
            callee=leg.party,
            own_phone=leg.own_phone,
            caller=caller,
        )

    def _tell_leg_over(self, leg: LiveLeg, at: datetime, outcome: LegOutcome) -> None:
        self.tell(
            at,
            f"leg-ended/{leg.leg_id}",
            LegEnded,
            leg_id=leg.leg_id,
            callee=leg.party,
            outcome=outcome,
            own_phone=leg.own_phone,
        )

    def _disposition(self) -> Disposition:
        if self.answered:
            return Disposition.ANSWERED
        if self.voicemail:
            return Disposition.VOICEMAIL
        gave_up = self.abandoned or (
            self.direction is Direction.INBOUND and self.asked_to_hang_up is self.first is not None
        )
        if gave_up:
            return Disposition.MISSED
        called = [leg for leg in self.legs.values() if not leg.own_phone]
        if any(leg.outcome is LegOutcome.BUSY for leg in called):
            return Disposition.BUSY
        if any(leg.missed for leg in called):
            return Disposition.MISSED
        return Disposition.FAILED

    def _end_known(self) -> EndKnown:
        if self.lost_sight:
            return EndKnown.RESYNC
        return EndKnown.JOINED if self.joined else EndKnown.SEEN

    def _hangup_by(self) -> HangupBy:
        leg = self.asked_to_hang_up
        if leg is None:
            return "pbx"
        return "caller" if leg is self.first else "callee"
