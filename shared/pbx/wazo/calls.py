"""A conversation of a Wazo, made of channels: whose call it is, and what is told of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from shared.contracts.calls import CallTransferred, Direction, LegOutcome, Party, TransferKind
from shared.pbx.causes import outcome_by_cause
from shared.pbx.port import Phones
from shared.pbx.told import ToldCall, ToldLeg
from shared.pbx.wazo.fields import Channel

RINGING, UP, DOWN = "ringing", "up", "down"
_NOBODY_ANSWERED = 19


@dataclass(slots=True, eq=False)
class WazoLeg:
    seen: Channel
    call: WazoCall
    #: The agent's own phone, which click-to-call rings first.
    own_phone: bool = False
    told: ToldLeg | None = None
    is_gone: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class WazoCall(ToldCall):
    conversation: str
    phones: Phones
    channels: dict[str, WazoLeg] = field(default_factory=dict)
    dialled: str = ""
    #: By our clock: when the last channel was gone.
    quiet_since: datetime | None = None
    #: A channel of it went on in another call.
    merged: bool = False

    @property
    def is_over(self) -> bool:
        return all(leg.is_gone for leg in self.channels.values())

    @property
    def shows_caller(self) -> bool:
        return bool(self._callers)

    def update(self, leg: WazoLeg, at: datetime) -> None:
        """After something of *leg* changed; *at* where Wazo does not say when."""
        seen = leg.seen
        if seen.is_caller:
            # A caller's phone is "Ring"; what rings or is not there yet was dialled by us.
            called = bool(seen.user) and seen.status in {RINGING, DOWN} and leg.told is None
            leg.own_phone = leg.own_phone or called
        self.dialled = self.dialled or seen.dialled
        if self.name is None and self._is_clear():
            self._begin()
        if self.name is not None:
            for one in list(self.channels.values()):
                self._tell_state(one, at)

    def gone(self, leg: WazoLeg, at: datetime, *, cause: int | None) -> None:
        leg.is_gone = True
        if leg.seen.is_caller:
            self.cause = cause
        offered = not leg.seen.is_caller and self.name is not None
        if leg.told is None and offered and (leg.seen.user or self.direction is Direction.OUTBOUND):
            # Busy, or nobody's phone: it never rang.
            leg.told = self.leg(leg.seen.leg, self.party(leg.seen))
        if leg.told is not None:
            self.leave(leg.told, at, _outcome(cause))

    def close(self, at: datetime) -> None:
        """Also where it never became clear whose call it was."""
        if self.name is None and not self.merged:
            self._begin()
        if self._lacks_far_end():
            self.leave(self._far_leg(), at, _outcome(self.cause) or LegOutcome.NO_ANSWER)
        self.end(at)

    def forget_one(self) -> bool:
        """The oldest phone that is gone makes room. False: there is none."""
        gone = (name for name, leg in self.channels.items() if leg.is_gone)
        oldest = next((name for name in gone if not self.channels[name].seen.is_caller), None)
        return oldest is not None and self.channels.pop(oldest) is not None

    def refuse(self, leg_id: str, extension: str, at: datetime, outcome: LegOutcome) -> None:
        """A phone that was not there to ring."""
        self.leave(self.leg(leg_id, Party(extension=extension)), at, outcome)

    def tell_transfer(
        self, transfer: str, at: datetime, by: str, to: WazoLeg, *, blind: bool
    ) -> None:
        self.tell(
            at,
            f"transferred/{transfer}",
            CallTransferred,
            kind=TransferKind.BLIND if blind else TransferKind.ATTENDED,
            by=Party(extension=by),
            to=to.call.party(to.seen),
        )

    def joins(self, older: WazoCall) -> str | None:
        """Who made this call to pass *older* on: its caller, who took part in that one too."""
        by = self.caller.extension if self.caller is not None else None
        took_part = any(
            leg.answered and leg.callee.extension == by for leg in older.legs.values()
        ) or (older.caller is not None and older.caller.extension == by)
        return by if took_part else None

    # -- whose call --------------------------------------------------------------------------

    @property
    def _callers(self) -> list[Channel]:
        return [leg.seen for leg in self.channels.values() if leg.seen.is_caller]

    @property
    def _callees(self) -> list[Channel]:
        return [leg.seen for leg in self.channels.values() if not leg.seen.is_caller]

    def _is_clear(self) -> bool:
        """Wazo says "internal" of every call until it has found out; a phone that rings waits not."""
        told = any(self._told(leg.seen) for leg in self.channels.values())
        own = any(leg.own_phone and leg.seen.status != DOWN for leg in self.channels.values())
        return told or own or any(one.status in {RINGING, UP} for one in self._callees)

    @staticmethod
    def _told(seen: Channel) -> Direction | None:
        return None if seen.direction is Direction.INTERNAL else seen.direction

    def _begin(self) -> None:
        caller, callee = next(iter(self._callers), None), next(iter(self._callees), None)
        if not self.dialled and caller is not None:
            self.dialled = caller.peer_number
        direction = self._direction()
        if direction is Direction.INBOUND:
            party = Party()
            if caller is not None and not caller.user:
                party = Party(number=caller.number or None, name=caller.name or None)
            elif callee is not None:
                party = Party(number=callee.peer_number or None, name=callee.peer_name or None)
        elif caller is not None:
            party = self.party(caller)
        else:
            party = Party(extension=(callee.peer_number if callee else "") or None)
        self.start(self.conversation, direction, caller=party, dialled=self.dialled or None)

    def _direction(self) -> Direction:
        legs = list(self.channels.values())
        told = next((found for leg in legs if (found := self._told(leg.seen))), None)
        if told is not None:
            return told
        if any(leg.own_phone for leg in legs):
            return Direction.INTERNAL if self._is_inside(self.dialled) else Direction.OUTBOUND
        caller, callees = next(iter(self._callers), None), self._callees
        said_internal = any(leg.seen.direction is Direction.INTERNAL for leg in legs)
        if caller is not None:
            if not caller.user and any(one.user for one in callees):
                return Direction.INBOUND
            goes_out = caller.user and callees and not said_internal
            outside = goes_out and not any(one.user for one in callees)
            return Direction.OUTBOUND if outside else Direction.INTERNAL
        if said_internal or any(self._is_inside(one.peer_number) for one in callees):
            return Direction.INTERNAL
        return Direction.INBOUND

    def party(self, seen: Channel) -> Party:
        """Whose end it is: a user's phone by its extension, a line outside by number."""
        if self.direction is Direction.OUTBOUND and not seen.is_caller:
            # The line outside may bear the user for whom it was dialled.
            callers = {one.user for one in self._callers}
            if not seen.user or seen.user in callers:
                return Party(number=self.dialled or seen.number or None)
        known = self.phones.users.get(seen.user)
        if known is not None or seen.user or self._is_inside(seen.number):
            return Party(extension=known or seen.number or None)
        return Party(number=seen.number or None)

    def _is_inside(self, number: str) -> bool:
        return number in self.phones.extensions or number in self.phones.users.values()

    # -- what becomes of it ------------------------------------------------------------------

    def _tell_state(self, leg: WazoLeg, at: datetime) -> None:
        seen = leg.seen
        if seen.is_caller and not leg.own_phone:
            self._far_end(seen, at, talks=seen.status == UP)
            return
        if seen.status not in {RINGING, UP}:
            return
        if leg.told is None:
            leg.told = self.leg(seen.leg, self.party(seen), own_phone=leg.own_phone)
        if seen.status == RINGING:
            number = self.dialled if leg.own_phone else seen.peer_number
            caller = Party(number=number or None, name=seen.peer_name or None)
            self.ring(leg.told, at, caller=caller)
        else:
            self.answer(leg.told, seen.answered_at or at)
        if leg.own_phone:
            self._far_end(seen, at, talks=seen.status == UP and seen.talks)

    def _far_end(self, seen: Channel, at: datetime, *, talks: bool) -> None:
        """Where Wazo does not show the line outside, the caller's end says that it answered."""
        if talks and self._lacks_far_end():
            self.answer(self._far_leg(), at)

    def _lacks_far_end(self) -> bool:
        if self.direction is not Direction.OUTBOUND:
            return False
        own = [leg for leg in self.legs.values() if leg.own_phone]
        others = [leg for leg in self.legs.values() if not leg.own_phone]
        return not others and not self._callees and all(leg.answered for leg in own)

    def _far_leg(self) -> ToldLeg:
        return self.leg(f"{self.conversation}/far", Party(number=self.dialled or None))


def _outcome(cause: int | None) -> LegOutcome | None:
    """Only what a cause says for sure; a normal end says nothing of a phone that rang."""
    found = outcome_by_cause(cause)
    return found if found is not LegOutcome.NO_ANSWER or cause == _NOBODY_ANSWERED else None
