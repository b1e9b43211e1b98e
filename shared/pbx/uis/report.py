"""
The legs of a call → all that happened to it. Pure.

UIS tells legs, not calls: which way the call went, and who was asked, is read off the legs of the
contact (``is_operator`` false) and of the employees. Legs have the names that they have in
notifications, so that what both tell is told once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
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
    RecordingReady,
)
from shared.ids import call_id
from shared.pbx.port import Phones, Sighting
from shared.pbx.uis.legs import NOTHING, RANG, Leg
from shared.pbx.uis.parties import CONTACT_LEG, anybody, employee

_HANGUPS = frozenset({"subscriber_disconnects", "operator_disconnects"})
#: The report has whole seconds: what is not further apart ended at once.
_TOGETHER = timedelta(seconds=2)


@dataclass(frozen=True, slots=True)
class _Rung:
    """All legs of one employee, or of the contact, in one: who is rung twice is one leg."""

    leg_id: str
    party: Party
    own_phone: bool
    legs: tuple[Leg, ...]

    @property
    def outcome(self) -> LegOutcome:
        outcomes = [leg.outcome for leg in self.legs]
        return LegOutcome.ANSWERED if LegOutcome.ANSWERED in outcomes else outcomes[-1]

    @property
    def rang_at(self) -> datetime | None:
        return next((leg.start for leg in self.legs if leg.outcome in RANG), None)

    @property
    def answered_at(self) -> datetime | None:
        return next((leg.connected_at for leg in self.legs if leg.connected_at is not None), None)

    @property
    def ended_at(self) -> datetime:
        return max(leg.end for leg in self.legs)

    @property
    def talked(self) -> timedelta:
        return sum((leg.talked for leg in self.legs), start=NOTHING)


@dataclass(frozen=True, slots=True)
class Report:
    """*recordings*: the address under which the account keeps them."""

    tenant: str
    pbx: str
    session: str
    phones: Phones
    recordings: str

    def sightings(self, legs: Sequence[Leg]) -> list[Sighting]:
        """Nothing of no legs."""
        if not legs:
            return []
        direction = _direction(legs)
        rung = self._rung(legs, direction)
        caller, dialled = self._ends(legs, direction)
        found = [
            self._sighting(
                legs[0].start,
                "started",
                CallStarted,
                pbx_call_id=self.session,
                direction=direction,
                caller=caller,
                dialled=dialled,
            )
        ]
        for one in rung:
            found += self._of_leg(one, caller)
        for record in dict.fromkeys(record for leg in legs for record in leg.records):
            link = f"{self.recordings}/system/media/talk/{self.session}/{record}/"
            found.append(
                self._sighting(legs[-1].end, f"recording/{record}", RecordingReady, recording=link)
            )
        others = [one for one in rung if not one.own_phone]
        found.append(
            self._sighting(
                max(leg.end for leg in legs),
                f"ended/{EndKnown.REPORT}",
                CallEnded,
                disposition=_disposition(others, direction),
                talk_time=sum((one.talked for one in others), start=NOTHING),
                hangup_by=_hangup_by(legs, direction),
                known=EndKnown.REPORT,
            )
        )
        return found

    def _of_leg(self, one: _Rung, caller: Party) -> list[Sighting]:
        about: dict[str, Any] = {
            "leg_id": one.leg_id,
            "callee": one.party,
            "own_phone": one.own_phone,
        }
        found = []
        if (at := one.rang_at) is not None:
            key = f"ringing/{one.leg_id}"
            found.append(self._sighting(at, key, CallRinging, caller=caller, **about))
        if (at := one.answered_at) is not None:
            found.append(self._sighting(at, f"answered/{one.leg_id}", CallAnswered, **about))
        key = f"leg-ended/{one.leg_id}"
        found.append(self._sighting(one.ended_at, key, LegEnded, outcome=one.outcome, **about))
        return found

    def _rung(self, legs: Sequence[Leg], direction: Direction) -> list[_Rung]:
        """In the order in which they were first asked; who calls is not asked."""
        found: dict[str, _Rung] = {}
        for number, leg in enumerate(legs):
            own_phone = False
            if leg.operator:
                if direction is not Direction.INBOUND and number == 0 and not leg.outgoing:
                    continue  # the employee who dials by hand
                own_phone = direction is Direction.OUTBOUND and number == 0
                who = self._employee(leg)
                leg_id, party = who or (f"leg-{leg.fields.text('id') or number}"[:256], Party())
            elif direction is Direction.OUTBOUND and leg.outgoing:
                leg_id, party = CONTACT_LEG, Party(number=_contact(leg))
            else:
                continue  # the caller's own
            known = found.get(leg_id)
            if known is None:
                found[leg_id] = _Rung(leg_id, party, own_phone, (leg,))
            else:
                found[leg_id] = replace(known, legs=(*known.legs, leg))
        return list(found.values())

    def _employee(self, leg: Leg) -> tuple[str, Party] | None:
        who = employee(
            self.phones,
            user=leg.fields.text("employee_id"),
            number=leg.fields.text("employee_phone_number"),
            name=leg.fields.text("employee_full_name"),
        )
        return (who.leg_id, who.party) if who is not None else None

    def _ends(self, legs: Sequence[Leg], direction: Direction) -> tuple[Party, str | None]:
        """Who called, and what was dialled."""
        first = legs[0]
        if direction is Direction.INBOUND:
            number = _contact(first) or first.fields.text("calling_phone_number")
            name = first.fields.text("contact_full_name")
            caller = Party(number=number, name=None if name == number else name)
            return caller, first.fields.text("virtual_phone_number", "called_phone_number")
        agent = next((leg for leg in legs if leg.operator), None)
        who = self._employee(agent) if agent is not None else None
        if direction is Direction.OUTBOUND:
            last = next((leg for leg in legs if not leg.operator), first)
            return who[1] if who else Party(), _contact(last)
        calling = anybody(self.phones, first.fields.text("calling_phone_number"))
        return who[1] if who else calling, first.fields.text("called_phone_number")

    def _sighting(self, at: datetime, key: str, event: type[CallEvent], /, **more: Any) -> Sighting:
        body = event(call_id=call_id(self.tenant, self.pbx, self.session), pbx=self.pbx, **more)
        return Sighting(body, at, f"{self.pbx}/{self.session}/{key}")


def _direction(legs: Sequence[Leg]) -> Direction:
    """By the contact's leg; where there is none, the first employee calls, or is called."""
    contact = next((leg for leg in legs if not leg.operator), None)
    if contact is not None:
        return Direction.OUTBOUND if contact.outgoing else Direction.INBOUND
    # Click-to-call whose employee did not pick up; else a call from desk to desk.
    return Direction.OUTBOUND if legs[0].outgoing else Direction.INTERNAL


def _contact(leg: Leg) -> str | None:
    return leg.fields.text("contact_phone_number") or (
        leg.fields.text("called_phone_number") if leg.outgoing else None
    )


def _disposition(others: Sequence[_Rung], direction: Direction) -> Disposition:
    outcomes = {one.outcome for one in others}
    if LegOutcome.ANSWERED in outcomes:
        return Disposition.ANSWERED
    if direction is Direction.INBOUND:
        return Disposition.MISSED
    if LegOutcome.BUSY in outcomes:
        return Disposition.BUSY
    return Disposition.MISSED if outcomes & RANG else Disposition.FAILED


def _hangup_by(legs: Sequence[Leg], direction: Direction) -> HangupBy | None:
    """
    None where the legs that ended with the call tell it differently, or not at all; between two
    employees "operator" is either.
    """
    over = max(leg.end for leg in legs)
    reasons = {leg.reason for leg in legs if over - leg.end <= _TOGETHER} & _HANGUPS
    if len(reasons) != 1 or direction is Direction.INTERNAL:
        return None
    by_contact = reasons == {"subscriber_disconnects"}
    return "caller" if by_contact == (direction is Direction.INBOUND) else "callee"
