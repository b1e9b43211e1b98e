"""Which number of a call a CRM would know. Pure."""

from __future__ import annotations

from shared.contracts.calls import CallStarted, Direction
from shared.phone import parse


def number_to_look_up(call: CallStarted, region: str | None) -> str | None:
    """
    The outside party's: the caller of an inbound call, the dialled number of an outbound one.
    None for internal calls and withheld numbers: there is nobody to look up.
    """
    if call.direction is Direction.INTERNAL:
        return None
    raw = call.dialled if call.direction is Direction.OUTBOUND else call.caller.number
    return raw if raw and not parse(raw, region).withheld else None
