"""Calls of a PBX that tells states of their members: each thing is told once. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRinging,
    CallStarted,
    Direction,
    EndKnown,
    LegEnded,
    LegOutcome,
    Party,
)
from shared.ids import call_id
from shared.pbx.port import Sighting

#: Of several phones that ring, one is taken off a moment before or after another answers.
SETTLE = timedelta(seconds=1)
#: A queue rings its agents again and again while somebody waits.
MOST_LEGS = 200


@dataclass(slots=True, eq=False)
class ToldLeg:
    leg_id: str
    callee: Party
    own_phone: bool = False
    rang: bool = False
    answered: bool = False
    #: It has left the call.
    gone_at: datetime | None = None
    over: bool = False


@dataclass(slots=True, eq=False)
class ToldCall:
    """*out* takes what is told. Nothing is, before :meth:`start` gave the call its name."""

    tenant: str
    pbx: str
    began_at: datetime
    out: list[Sighting]
    legs: dict[str, ToldLeg] = field(default_factory=dict)
    name: str | None = None
    identity: str = ""
    direction: Direction | None = None
    caller: Party | None = None
    #: By somebody else than the agent's own phone in click-to-call; the last time.
    answered_at: datetime | None = None
    #: We came when it was under way.
    joined: bool = False
    #: It was over when the connection was back.
    lost: bool = False
    #: It is given up as nothing more came; it may go on all the same.
    silent: bool = False
    ended_at: datetime | None = None
    cause: int | None = None

    @property
    def answered(self) -> bool:
        return self.answered_at is not None

    def start(self, name: str, direction: Direction, *, caller: Party, dialled: str | None) -> None:
        """Once; *name* is the PBX's own id of the call."""
        if self.name is not None:
            return
        self.name, self.direction, self.caller = name, direction, caller
        self.identity = call_id(self.tenant, self.pbx, name)
        self.tell(
            self.began_at,
            "started",
            CallStarted,
            pbx_call_id=name,
            direction=direction,
            caller=caller,
            dialled=dialled,
        )

    def leg(self, leg_id: str, callee: Party, *, own_phone: bool = False) -> ToldLeg:
        if leg_id not in self.legs and len(self.legs) >= MOST_LEGS:
            self._forget_one()
        return self.legs.setdefault(leg_id, ToldLeg(leg_id, callee, own_phone))

    def _forget_one(self) -> None:
        """The oldest of which all is told, rather one that did not answer."""
        over = [leg for leg in self.legs.values() if leg.over]
        if over:
            del self.legs[min(over, key=lambda leg: leg.answered).leg_id]

    def ring(self, leg: ToldLeg, at: datetime, *, caller: Party, queue: str | None = None) -> None:
        if not leg.rang:
            leg.rang = True
            self._tell_of(leg, at, "ringing", CallRinging, caller=caller, queue=queue)

    def answer(self, leg: ToldLeg, at: datetime) -> None:
        if not leg.answered:
            leg.answered = True
            if not leg.own_phone:
                self.answered_at = at
            self._tell_of(leg, at, "answered", CallAnswered)

    def leave(self, leg: ToldLeg, at: datetime, outcome: LegOutcome | None = None) -> None:
        """
        *outcome* where the PBX says it of a phone that did not answer; without it that waits for
        :meth:`settle`, as another phone may prove to be the faster.
        """
        leg.gone_at = at
        if leg.answered:
            self._over(leg, LegOutcome.ANSWERED)
        elif outcome is not None:
            self._over(leg, outcome)

    def settle(self, *, before: datetime | None = None) -> None:
        """What became of the phones that left unanswered, *before* then or ever."""
        for leg in self.legs.values():
            if leg.over or leg.gone_at is None:
                continue
            if self.answered_at is not None and abs(leg.gone_at - self.answered_at) <= SETTLE:
                self._over(leg, LegOutcome.ELSEWHERE)
            elif before is None or leg.gone_at <= before:
                self._over(leg, LegOutcome.NO_ANSWER)

    def end(self, at: datetime) -> None:
        if self.name is None:
            return  # a phone that was lifted and called nobody
        for leg in self.legs.values():
            leg.gone_at = leg.gone_at or at
            if leg.answered and not leg.over:
                self._over(leg, LegOutcome.ANSWERED)
        self.settle()
        known = self._end_known()
        # Another replica may know better: these are two messages, and the better one holds.
        key = "ended" if known is EndKnown.SEEN else f"ended/{known}"
        if known is EndKnown.SILENCE:
            key += f"/{next(reversed(self.legs), '')}"  # one that goes on may fall silent again
        self.tell(at, key, CallEnded, cause=self.cause, known=known)

    def tell(self, at: datetime, key: str, event: type[CallEvent], /, **more: Any) -> None:
        body = event(call_id=self.identity, pbx=self.pbx, **more)
        self.out.append(Sighting(body, at, f"{self.pbx}/{self.name}/{key}"))

    def _end_known(self) -> EndKnown:
        if self.lost:
            return EndKnown.RESYNC
        if self.joined:
            return EndKnown.JOINED
        return EndKnown.SILENCE if self.silent else EndKnown.SEEN

    def _over(self, leg: ToldLeg, outcome: LegOutcome) -> None:
        if not leg.over:
            leg.over = True
            at = leg.gone_at or self.began_at
            self._tell_of(leg, at, "leg-ended", LegEnded, outcome=outcome)

    def _tell_of(
        self, leg: ToldLeg, at: datetime, what: str, event: type[CallEvent], /, **more: Any
    ) -> None:
        self.tell(
            at,
            f"{what}/{leg.leg_id}",
            event,
            leg_id=leg.leg_id,
            callee=leg.callee,
            own_phone=leg.own_phone,
            **more,
        )
