"""A call's record as the events that it is made of, as far as screens are concerned. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRecord,
    CallRinging,
    CallStarted,
    CallTransferred,
    EndKnown,
    LegEnded,
    LegOutcome,
    LegRecord,
    Party,
)
from shared.contracts.contacts import ContactResolved, ContactUnknown
from shared.contracts.envelope import Event

_NOBODY = Party()


def events_in(call: CallRecord) -> Iterator[tuple[Event, datetime]]:
    """
    Each with its moment, to be taken as any that comes late. Their legs have the ids that they had,
    so what screens are told by them has the ids that it had. Nothing of a call that has no
    beginning yet, or no PBX: what began it is still on its way.
    """
    began, pbx = call.started_at, call.pbx
    if began is None or pbx is None:
        return
    # Who it is was asked when it began: whatever is heard live is newer.
    if (who := _contact_in(call)) is not None:
        yield who, began
    caller = call.caller or _NOBODY
    if call.direction is not None:
        started = CallStarted(
            call_id=call.call_id,
            pbx=pbx,
            pbx_call_id=call.pbx_call_id or "",
            direction=call.direction,
            caller=caller,
            dialled=call.dialled,
            dial_id=call.dial_id,
        )
        yield started, began
    for leg in call.legs:
        yield from _leg_in(call.call_id, pbx, leg, caller)
    for step in call.transfers:
        handed = CallTransferred(
            call_id=call.call_id, pbx=pbx, kind=step.kind, by=step.by, to=step.to
        )
        yield handed, step.at
    if call.ended_at is not None:
        known = call.end_known or EndKnown.SEEN
        yield CallEnded(call_id=call.call_id, pbx=pbx, known=known), call.ended_at


def _leg_in(
    call_id: str, pbx: str, leg: LegRecord, caller: Party
) -> Iterator[tuple[Event, datetime]]:
    if leg.rang_at is not None:
        ringing = CallRinging(
            call_id=call_id,
            pbx=pbx,
            leg_id=leg.leg_id,
            callee=leg.callee,
            caller=caller,
            queue=leg.queue,
            own_phone=leg.own_phone,
        )
        yield ringing, leg.rang_at
    if leg.answered_at is not None:
        answered = CallAnswered(
            call_id=call_id,
            pbx=pbx,
            leg_id=leg.leg_id,
            callee=leg.callee,
            own_phone=leg.own_phone,
            # One that did not ring was handed the call.
            caller=caller if leg.rang_at is None else None,
        )
        yield answered, leg.answered_at
    if leg.ended_at is not None:
        ended = LegEnded(
            call_id=call_id,
            pbx=pbx,
            leg_id=leg.leg_id,
            callee=leg.callee,
            outcome=leg.outcome or LegOutcome.ANSWERED,
            own_phone=leg.own_phone,
        )
        yield ended, leg.ended_at


def _contact_in(call: CallRecord) -> Event | None:
    number = call.outside_number or ""
    first = call.contact or (call.candidates[0] if call.candidates else None)
    if first is not None:
        return ContactResolved(
            call_id=call.call_id,
            number=number,
            contact=first,
            candidates=call.candidates,
            ambiguous=call.contact is None,
            chosen_by=call.chosen_by,
        )
    if call.contact_known is False:
        return ContactUnknown(call_id=call.call_id, number=number)
    return None
