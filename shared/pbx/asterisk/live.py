"""A call in progress, as :mod:`tracker` keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shared.contracts.calls import Direction, Disposition, HangupBy, LegOutcome
from shared.pbx.asterisk.channels import Kind


@dataclass(slots=True, eq=False)
class LiveLeg:
    uniqueid: str
    endpoint: str
    kind: Kind
    call: LiveCall
    number: str | None = None
    name: str | None = None
    offered: bool = False
    rang: bool = False
    answered: bool = False
    #: It put the other side on hold.
    holds: bool = False
    gone: bool = False
    outcome: LegOutcome | None = None


@dataclass(slots=True, eq=False)
class LiveCall:
    linkedid: str
    began_at: datetime
    exten: str
    legs: dict[str, LiveLeg] = field(default_factory=dict)
    first: LiveLeg | None = None
    #: The channel of who is not one of ours; on an internal call the caller's.
    outside: LiveLeg | None = None
    direction: Direction | None = None
    started: bool = False
    #: Click-to-call: the first leg is a phone of ours that the PBX rang.
    originated: bool = False
    dial_id: str | None = None
    queue: str | None = None
    answered: bool = False
    abandoned: bool = False
    voicemail: bool = False
    merged: bool = False
    recordings: set[str] = field(default_factory=set)
    asked_to_hang_up: LiveLeg | None = None
    cause: int | None = None
    ended_at: datetime | None = None
    quiet_since: datetime | None = None
    talked: timedelta = timedelta(0)
    _together: bool = False
    _talking_since: datetime | None = None

    @property
    def is_over(self) -> bool:
        return all(leg.gone for leg in self.legs.values())

    def begin_to_close(self, at: datetime, now: datetime) -> None:
        """*at* by the PBX's clock, *now* by ours."""
        self.ended_at = at
        self.quiet_since = now

    def move(self, leg: LiveLeg, target: LiveCall) -> None:
        """The leg goes over; what became of it so far stays known in both."""
        self.legs.pop(leg.uniqueid, None)
        target.legs[leg.uniqueid] = leg
        leg.call = target
        self.merged = True

    def talk(self, leg: LiveLeg, at: datetime, *, together: bool) -> None:
        """The outside party came together with somebody, or no longer is."""
        if leg is self.outside:
            self._together = together
            self.count_talk(at)

    def count_talk(self, at: datetime) -> None:
        """Talk is to be in a bridge with somebody, and nobody holding."""
        talks = self._together and not any(leg.holds for leg in self.legs.values())
        if talks and self._talking_since is None:
            self._talking_since = at
        elif not talks and self._talking_since is not None:
            self.talked += max(at - self._talking_since, timedelta(0))
            self._talking_since = None

    def disposition(self) -> Disposition:
        outcomes = [leg.outcome for leg in self.legs.values()]
        if self.answered:
            return Disposition.ANSWERED
        if self.voicemail:
            return Disposition.VOICEMAIL
        gave_up = self.abandoned or (
            self.direction is Direction.INBOUND and self.asked_to_hang_up is self.first is not None
        )
        if gave_up:
            return Disposition.MISSED
        if LegOutcome.BUSY in outcomes:
            return Disposition.BUSY
        own_phone = self.first if self.originated else None
        if any(leg.rang for leg in self.legs.values() if leg is not own_phone):
            return Disposition.MISSED
        return Disposition.FAILED

    def hangup_by(self) -> HangupBy:
        leg = self.asked_to_hang_up
        if leg is None:
            return "pbx"
        return "caller" if leg is self.first else "callee"
