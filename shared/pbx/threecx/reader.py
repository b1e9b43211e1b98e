"""
Records of a 3CX → call events. Pure.

How a record looks is in ``records``, how a participant is read in ``participants``. The times
are ours: 3CX tells none. What of it no recording of a real 3CX has shown yet is in
``docs/how-to/pbx/threecx.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog

from shared.contracts.calls import (
    CallQueued,
    CallTransferred,
    Direction,
    Party,
    PbxResynced,
    TransferKind,
)
from shared.errors import ContractError
from shared.pbx.port import Phones, Sighting
from shared.pbx.threecx.participants import (
    CONNECTED,
    DIALING,
    EXTENSION,
    EXTERNAL,
    QUEUE,
    RINGING,
    Participant,
    call_name,
    entity,
    number_in,
    participant,
    state_of,
)
from shared.pbx.threecx.records import REMOVE, moment_of, record_of
from shared.pbx.threecx.surroundings import Surroundings
from shared.pbx.told import SETTLE, ToldCall, ToldLeg

log = structlog.get_logger(__name__)

#: A transfer takes one phone off before it rings the next.
_LINGER = timedelta(seconds=2)
#: A queue that 3CX does not show us lets the caller wait between two agents.
_LINGER_UNANSWERED = timedelta(seconds=30)
_MOST_CALLS = 5000
_MOST_IN_A_CALL = 200


@dataclass(slots=True, eq=False, kw_only=True)
class _Call(ToldCall):
    number: int
    #: The participants that are in it now.
    members: set[tuple[str, int]] = field(default_factory=set)
    #: The other side's number.
    far: str = ""
    #: Who calls, while it is not known whom.
    unsaid: Participant | None = None


@dataclass(slots=True, eq=False)
class _Member:
    call: _Call
    #: The DN's own leg, and the other side's where nobody else tells of it.
    leg: ToldLeg | None = None
    far: ToldLeg | None = None
    #: It was seen dialling: it placed the call, whatever is said of it later.
    placed: bool = False
    #: Nothing was told of it yet.
    is_new: bool = True


class ThreeCxReader:
    """One 3CX connection of one tenant."""

    def __init__(self, *, tenant: str, pbx: str) -> None:
        self._tenant = tenant
        self._pbx = pbx
        self._here = Surroundings()
        self._calls: dict[int, _Call] = {}
        self._members: dict[tuple[str, int], _Member] = {}
        self._out: list[Sighting] = []
        self._full = False

    @property
    def live_calls(self) -> int:
        return len(self._calls)

    def know(self, phones: Phones) -> None:
        self._here.phones = phones

    def read(self, record: bytes, *, now: datetime) -> list[Sighting]:
        """Raises: ContractError."""
        values = record_of(record)
        at = moment_of(values.get("at"), now)
        self._close_quiet(at)
        if "state" in values:
            self._resync(state_of(values["state"]), at, moment_of(values.get("heard"), at))
        else:
            self._read_event(values, at)
        return self._taken()

    def tick(self, now: datetime) -> list[Sighting]:
        self._close_quiet(now)
        return self._taken()

    # -- records -----------------------------------------------------------------------------

    def _read_event(self, values: Mapping[str, Any], at: datetime) -> None:
        event = values.get("event")
        if not isinstance(event, dict):
            raise ContractError("a record of 3CX without event or state")
        key = entity(event.get("entity"))
        if key is None:
            return
        known = values.get("participant")
        if event.get("event_type") == REMOVE or known is None:
            self._remove(key, at)
        elif isinstance(known, dict):
            self._upsert(participant(known, dn=key[0], number=key[1]), at, joining=False)
        else:
            raise ContractError("a participant that is no object")

    def _resync(
        self,
        state: Mapping[str, tuple[str, list[Mapping[str, Any]]]],
        at: datetime,
        heard: datetime,
    ) -> None:
        self._here.types = {dn: kind for dn, (kind, _) in state.items()}
        present: list[Participant] = []
        for dn, (_, listed) in state.items():
            for values in listed:
                if (number := number_in(values)) is not None:
                    try:
                        present.append(participant(values, dn=dn, number=number))
                    except ContractError:
                        continue
        self._end_namesakes(present, at)
        # Who talks first: that tells whether we came in the middle of a call.
        for one in sorted(present, key=lambda one: one.status != CONNECTED):
            self._upsert(one, at, joining=True)
        here = {one.key for one in present}
        for key in [key for key in self._members if key not in here]:
            call = self._members[key].call
            self._remove(key, at)
            call.lost = not call.members
        # Those that wait for a next phone may do so still; whoever had answered is gone.
        for call in [call for call in self._calls.values() if not call.members and call.answered]:
            self._close(call, at)
        live = tuple(sorted(call.name for call in self._calls.values() if call.name))
        body = PbxResynced(pbx=self._pbx, live=live, heard_until=min(heard, at))
        self._out.append(Sighting(body, at, f"{self._pbx}/resynced/{at.isoformat()}"))

    def _end_namesakes(self, present: list[Participant], at: datetime) -> None:
        """After a restart of 3CX its calls bear the numbers of earlier ones."""
        for call in list(self._calls.values()):
            now_in = [one for one in present if one.call == call.number]
            same = any(one.key in call.members or self._here.far(one) == call.far for one in now_in)
            if now_in and not same:
                for key in list(call.members):
                    self._depart(key, at)
                call.lost = True
                self._close(call, at)

    # -- participants ------------------------------------------------------------------------

    def _upsert(self, seen: Participant, at: datetime, *, joining: bool) -> None:
        member = self._members.get(seen.key)
        left: _Call | None = None
        if member is not None and member.call.number != seen.call:
            left, member = member.call, None
            self._remove(seen.key, at)
        if member is None and (member := self._enter(seen, at, joining=joining)) is None:
            return
        call = member.call
        member.placed = member.placed or (seen.caller and seen.status == DIALING)
        seen = replace(seen, caller=seen.did is None and (seen.caller or member.placed))
        self._begin(call, seen)
        if call.name is None:
            return
        kind = self._here.kind_of(seen.dn)
        if kind == EXTENSION and seen.caller:
            self._calling(member, seen, at)
        elif kind == EXTENSION:
            self._called(member, seen, at)
            self._transferred(member, seen, at, left)
        elif kind == QUEUE and member.is_new:
            call.tell(at, f"queued/{seen.dn}/{seen.number}", CallQueued, queue=seen.dn)
        member.is_new = False

    def _enter(self, seen: Participant, at: datetime, *, joining: bool) -> _Member | None:
        call = self._calls.get(seen.call)
        if call is None:
            if len(self._calls) >= _MOST_CALLS:
                self._say_full()
                return None
            call = _Call(
                tenant=self._tenant, pbx=self._pbx, began_at=at, out=self._out, number=seen.call
            )
            call.joined = joining and seen.status == CONNECTED
            self._calls[seen.call] = call
        if len(call.members) >= _MOST_IN_A_CALL:
            self._say_full()
            return None
        call.members.add(seen.key)
        call.ended_at, call.lost = None, False
        member = self._members[seen.key] = _Member(call)
        return member

    def _called(self, member: _Member, seen: Participant, at: datetime) -> None:
        call = member.call
        if seen.status not in {RINGING, CONNECTED}:
            return
        leg = member.leg = call.leg(f"{seen.dn}/{seen.number}", Party(extension=seen.dn))
        leg.gone_at = None
        if seen.status == RINGING:
            call.ring(leg, at, caller=self._here.party(seen), queue=seen.queue)
        else:
            call.answer(leg, at)
            call.settle(before=at - SETTLE)

    def _calling(self, member: _Member, seen: Participant, at: datetime) -> None:
        """The agent's own phone rings only when we had it dialled."""
        call, other = member.call, self._here.party(seen)
        if seen.status == RINGING:
            leg_id = f"{seen.dn}/{seen.number}"
            leg = member.leg = call.leg(leg_id, Party(extension=seen.dn), own_phone=True)
            call.ring(leg, at, caller=other)
            return
        if member.leg is not None and seen.status in {DIALING, CONNECTED}:
            call.answer(member.leg, at)
        if member.far is None and self._here.is_told_once(seen):
            member.far = call.leg(f"{seen.dn}/{seen.number}/far", other)
        if member.far is not None:
            call.ring(member.far, at, caller=Party(extension=seen.dn))
            if seen.status == CONNECTED:
                call.answer(member.far, at)

    def _begin(self, call: _Call, seen: Participant) -> None:
        """As soon as it is known who the other side is; before that nothing is told."""
        if call.name is not None:
            return
        if (
            seen.party_type == EXTERNAL
            or seen.status == RINGING
            or (seen.party_type and seen.party_dn)
        ):
            self._start(call, seen)
        elif seen.caller and seen.party_number:
            call.unsaid = seen

    def _start(self, call: _Call, seen: Participant) -> None:
        far, direction = self._here.far(seen), self._here.direction(seen)
        caller = Party(extension=seen.dn) if seen.caller else self._here.party(seen)
        # What a line outside was asked for, where 3CX says it; else the number that was dialled.
        dialled = seen.did if direction is Direction.INBOUND else far or None
        call.far = far
        call.start(
            call_name(call.number, far, call.began_at), direction, caller=caller, dialled=dialled
        )

    def _transferred(
        self, member: _Member, seen: Participant, at: datetime, left: _Call | None
    ) -> None:
        """Somebody who was in the call passed it on to this phone."""
        call, by = member.call, seen.referred_by
        if not member.is_new:
            return
        if by is None and left is not None and left.caller is not None:
            by = left.caller.extension
        if by is None or by == seen.dn or not self._took_part(call, by):
            return
        kind = TransferKind.BLIND if seen.status == RINGING else TransferKind.ATTENDED
        call.tell(
            at,
            f"transferred/{by}/{seen.dn}/{seen.number}",
            CallTransferred,
            kind=kind,
            by=Party(extension=by),
            to=Party(extension=seen.dn),
        )

    @staticmethod
    def _took_part(call: _Call, extension: str) -> bool:
        called = call.caller is not None and call.caller.extension == extension
        return called or any(
            leg.answered and leg.callee.extension == extension for leg in call.legs.values()
        )

    # -- ends --------------------------------------------------------------------------------

    def _remove(self, key: tuple[str, int], at: datetime) -> None:
        call = self._depart(key, at)
        if call is not None and not call.members:
            call.ended_at = at

    def _depart(self, key: tuple[str, int], at: datetime) -> _Call | None:
        member = self._members.pop(key, None)
        if member is None:
            return None
        member.call.members.discard(key)
        for leg in (member.leg, member.far):
            if leg is not None:
                member.call.leave(leg, at)
        return member.call

    def _close_quiet(self, now: datetime) -> None:
        for call in list(self._calls.values()):
            if call.name is not None:
                call.settle(before=now - SETTLE)
            if call.ended_at is None:
                continue
            waits = call.direction is Direction.INBOUND and not call.answered
            if now - call.ended_at >= (_LINGER_UNANSWERED if waits else _LINGER):
                call.silent = waits
                self._close(call, call.ended_at)

    def _close(self, call: _Call, at: datetime) -> None:
        self._calls.pop(call.number, None)
        if call.name is None and call.unsaid is not None:
            self._start(call, call.unsaid)  # it got no further than that; an order may wait for it
        call.end(at)
        self._full = False

    def _say_full(self) -> None:
        if not self._full:
            self._full = True
            log.error("pbx_too_many_calls", pbx=self._pbx, live=len(self._calls))

    def _taken(self) -> list[Sighting]:
        found, self._out[:] = list(self._out), []
        return found
