"""The generic hook's events → sightings. Pure: every dialect is a table of requests."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from shared.contracts.agents import AgentStatusChanged
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallHeld,
    CallQueued,
    CallResumed,
    CallRinging,
    CallStarted,
    CallSummarised,
    CallTransferred,
    Direction,
    EndKnown,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
    TransferKind,
)
from shared.contracts.hooks import NEEDS_A_PHONE, HookEvent, HookEventKind
from shared.ids import call_id
from shared.pbx.port import Phones, Sighting

_EXTENSION = re.compile(r"[A-Za-z0-9_.*#-]{1,32}")
#: Digits alone, where nobody says what they are: more than so many are a number.
_MOST_DIGITS = 5
NOBODY = Phones()


def sighting(
    event: HookEvent,
    *,
    tenant: str,
    pbx: str,
    phones: Phones = NOBODY,
    known: EndKnown = EndKnown.SEEN,
) -> Sighting:
    """
    Of any event but ``cdr``, which has several. The same event sent twice is the same sighting.
    *known* is how an end is known: each way is a sighting of its own, and the best one holds.
    """
    if event.event is HookEventKind.AGENT_STATUS:
        return _status(event, pbx)
    call = event.call or ""
    base = {"call_id": call_id(tenant, pbx, call), "pbx": pbx}
    if event.event is HookEventKind.TRANSFERRED:
        body: CallEvent = _transferred(event, base, phones)
    elif event.event is HookEventKind.ENDED:
        body = _ended(event, base, known)
    else:
        body = _BODIES[event.event](event, base)
    key = f"{pbx}/{_quoted(call)}/{event.event}/{_detail(event, known)}"
    if event.event in _REPEATABLE:
        key += f"/{event.at.isoformat()}"
    return Sighting(body, event.at, key)


def is_extension(text: str, phones: Phones) -> bool:
    """
    Whether *text* names a phone of the PBX: one that the site lists, the name of a user, or a few
    digits. A SIP address, a number with a plus sign and whatever else is a number, kept as it is.
    """
    if not _EXTENSION.fullmatch(text):
        return False
    return text in phones.extensions or not text.isdigit() or len(text) <= _MOST_DIGITS


#: What may happen to one leg, or to a call, more than once.
_REPEATABLE = frozenset(
    {
        HookEventKind.QUEUED,
        HookEventKind.RINGING,
        HookEventKind.ANSWERED,
        HookEventKind.LEG_ENDED,
        HookEventKind.HELD,
        HookEventKind.RESUMED,
        HookEventKind.TRANSFERRED,
        HookEventKind.RECORDING,
        HookEventKind.SUMMARY,
    }
)
#: Of what was said, each may be told by itself.
_SAID = ("summary", "transcription", "sentiment")


def _detail(event: HookEvent, known: EndKnown) -> str:
    """What tells it apart from others of its kind and call at the same moment."""
    if event.event is HookEventKind.TRANSFERRED:
        return f"{_quoted(event.by or '')}/{_quoted(event.to or '')}"
    if event.event is HookEventKind.ENDED and known is not EndKnown.SEEN:
        return known
    if event.event is HookEventKind.SUMMARY:
        return "+".join(name for name in _SAID if getattr(event, name) is not None)
    return _quoted(_leg(event)) if event.event in NEEDS_A_PHONE else ""


def _quoted(text: str) -> str:
    """A PBX's own id may have slashes; no two calls or legs have one key for that."""
    return text.replace("%", "%25").replace("/", "%2F")


def _status(event: HookEvent, pbx: str) -> Sighting:
    assert event.extension is not None  # noqa: S101  HookEvent asks for both
    assert event.status is not None  # noqa: S101  as above
    body = AgentStatusChanged(extension=event.extension, status=event.status, source_name=pbx)
    return Sighting(body, event.at, f"{pbx}/agents/{event.extension}/{event.at.isoformat()}")


def _started(event: HookEvent, base: dict[str, Any]) -> CallEvent:
    direction = event.direction or Direction.INBOUND
    caller = Party(number=event.caller, name=event.caller_name)
    if direction is not Direction.INBOUND and event.extension:
        caller = Party(extension=event.extension, name=event.caller_name)
    return CallStarted(
        **base,
        pbx_call_id=event.call or "",
        direction=direction,
        caller=caller,
        dialled=event.dialled,
        dial_id=event.dial_id,
    )


def _ringing(event: HookEvent, base: dict[str, Any]) -> CallEvent:
    caller = Party(number=event.caller, name=event.caller_name)
    return CallRinging(**_leg_of(event, base), caller=caller, queue=event.queue)


def _leg_ended(event: HookEvent, base: dict[str, Any]) -> CallEvent:
    return LegEnded(**_leg_of(event, base), outcome=event.outcome or LegOutcome.NO_ANSWER)


def _transferred(event: HookEvent, base: dict[str, Any], phones: Phones) -> CallEvent:
    return CallTransferred(
        **base,
        kind=event.kind or TransferKind.BLIND,
        by=_named(event.by or "", phones),
        to=_named(event.to or "", phones),
    )


def _ended(event: HookEvent, base: dict[str, Any], known: EndKnown) -> CallEvent:
    talked = event.talk_seconds
    return CallEnded(
        **base,
        disposition=event.disposition,
        talk_time=None if talked is None else timedelta(seconds=talked),
        hangup_by=event.hangup_by,
        known=known,
    )


def _leg(event: HookEvent) -> str:
    return event.extension or event.number or ""


def _leg_of(event: HookEvent, base: dict[str, Any]) -> dict[str, Any]:
    callee = Party(extension=event.extension, number=event.number)
    return {**base, "leg_id": _leg(event), "callee": callee, "own_phone": event.own_phone}


def _named(text: str, phones: Phones) -> Party:
    return Party(extension=text) if is_extension(text, phones) else Party(number=text)


_BODIES: dict[HookEventKind, Callable[[HookEvent, dict[str, Any]], CallEvent]] = {
    HookEventKind.STARTED: _started,
    HookEventKind.QUEUED: lambda e, base: CallQueued(**base, queue=e.queue or ""),
    HookEventKind.RINGING: _ringing,
    HookEventKind.ANSWERED: lambda e, base: CallAnswered(**_leg_of(e, base)),
    HookEventKind.HELD: lambda e, base: CallHeld(**base, leg_id=_leg(e)),
    HookEventKind.RESUMED: lambda e, base: CallResumed(**base, leg_id=_leg(e)),
    HookEventKind.LEG_ENDED: _leg_ended,
    HookEventKind.RECORDING: lambda e, base: RecordingReady(**base, recording=e.recording or ""),
    HookEventKind.SUMMARY: lambda e, base: CallSummarised(
        **base, **{name: getattr(e, name) for name in _SAID}
    ),
}
