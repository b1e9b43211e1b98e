"""The generic hook's events → call events. Pure: every dialect is a table of requests."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallHeld,
    CallQueued,
    CallResumed,
    CallRinging,
    CallStarted,
    Direction,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
)
from shared.contracts.hooks import HookEvent, HookEventKind
from shared.ids import call_id
from shared.pbx.port import Sighting


def sighting(event: HookEvent, *, tenant: str, pbx: str) -> Sighting:
    """The same event sent twice is the same sighting."""
    base = {"call_id": call_id(tenant, pbx, event.call), "pbx": pbx}
    body = _BODIES[event.event](event, base)
    key = f"{pbx}/{event.call}/{event.event}/{_leg(event)}"
    if event.event in _REPEATABLE:
        key += f"/{event.at.isoformat()}"
    return Sighting(body, event.at, key)


#: What may happen to one leg, or to a call, more than once.
_REPEATABLE = frozenset(
    {
        HookEventKind.QUEUED,
        HookEventKind.RINGING,
        HookEventKind.ANSWERED,
        HookEventKind.LEG_ENDED,
        HookEventKind.HELD,
        HookEventKind.RESUMED,
        HookEventKind.RECORDING,
    }
)


def _started(event: HookEvent, base: dict[str, Any]) -> CallEvent:
    direction = event.direction or Direction.INBOUND
    caller = Party(number=event.caller, name=event.caller_name)
    if direction is not Direction.INBOUND and event.extension:
        caller = Party(extension=event.extension, name=event.caller_name)
    return CallStarted(
        **base,
        pbx_call_id=event.call,
        direction=direction,
        caller=caller,
        dialled=event.dialled,
    )


def _ringing(event: HookEvent, base: dict[str, Any]) -> CallEvent:
    caller = Party(number=event.caller, name=event.caller_name)
    return CallRinging(
        **base, leg_id=_leg(event), callee=_callee(event), caller=caller, queue=event.queue
    )


def _leg_ended(event: HookEvent, base: dict[str, Any]) -> CallEvent:
    outcome = event.outcome or LegOutcome.NO_ANSWER
    return LegEnded(**base, leg_id=_leg(event), callee=_callee(event), outcome=outcome)


def _ended(event: HookEvent, base: dict[str, Any]) -> CallEvent:
    talked = event.talk_seconds
    return CallEnded(
        **base,
        disposition=event.disposition,
        talk_time=None if talked is None else timedelta(seconds=talked),
        hangup_by=event.hangup_by,
    )


def _leg(event: HookEvent) -> str:
    return event.extension or event.number or ""


def _callee(event: HookEvent) -> Party:
    return Party(extension=event.extension, number=event.number)


_BODIES: dict[HookEventKind, Callable[[HookEvent, dict[str, Any]], CallEvent]] = {
    HookEventKind.STARTED: _started,
    HookEventKind.QUEUED: lambda e, base: CallQueued(**base, queue=e.queue or ""),
    HookEventKind.RINGING: _ringing,
    HookEventKind.ANSWERED: lambda e, base: CallAnswered(**base, leg_id=_leg(e), callee=_callee(e)),
    HookEventKind.HELD: lambda e, base: CallHeld(**base, leg_id=_leg(e)),
    HookEventKind.RESUMED: lambda e, base: CallResumed(**base, leg_id=_leg(e)),
    HookEventKind.LEG_ENDED: _leg_ended,
    HookEventKind.ENDED: _ended,
    HookEventKind.RECORDING: lambda e, base: RecordingReady(**base, recording=e.recording or ""),
}
