"""
A call told in one line, for tables of calls: ``0 in, 1 ring 101, 5 answer 101, 65 end``.

Each part is the second and what was seen:

* ``in [NUMBER] [to DID]``, ``out EXTENSION NUMBER``, ``internal EXTENSION EXTENSION``,
  ``click EXTENSION NUMBER``: how it began; the number ``hidden`` is withheld
* ``route PLACE``: where the mesh sent it; ``queue NAME``: where it waits
* ``ring WHO [for QUEUE]``, ``answer WHO``, ``over WHO OUTCOME``: a phone (up to four digits) or a line
  outside; ``WHO#2`` is another of its legs, ``WHO!`` the agent's own phone in click-to-call
* ``blind WHO WHO``, ``attended WHO WHO``: passed on by the first to the second
* ``hold WHO``, ``resume WHO``; ``end [DISPOSITION]``: the word of the PBX, where it has one
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from services.journal.domain import Seen, fold
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallQueued,
    CallRecord,
    CallResumed,
    CallRinging,
    CallTransferred,
    Direction,
    Disposition,
    LegEnded,
    LegOutcome,
    Party,
    TransferKind,
)
from shared.contracts.envelope import Event
from shared.contracts.routing import CallRouted, Destination, RouteDecision, RouteReason
from shared.testing.builders import NOON, a_call

BASE: dict[str, Any] = {"call_id": "c1", "pbx": "main"}
CALLER = "447700900123"
DID = "442079460000"
#: Longer ones are lines outside.
_LONGEST_EXTENSION = 4


def told(line: str) -> CallRecord:
    """What the call of *line* adds up to."""
    return fold("c1", seen_in(line))


def seen_in(line: str) -> list[Seen]:
    """In the order of the line; the ids are the parts' places in it."""
    found = []
    for place, part in enumerate(line.split(",")):
        second, verb, *words = part.split()
        at = NOON + timedelta(seconds=float(second))
        found.append(Seen(f"e{place:03}", at, _VERBS[verb](*words)))
    return found


def _party(who: str) -> Party:
    label = who.partition("#")[0].rstrip("!")
    inside = len(label) <= _LONGEST_EXTENSION
    return Party(extension=label) if inside else Party(number=label)


def _leg(who: str) -> dict[str, Any]:
    return {**BASE, "leg_id": who, "callee": _party(who), "own_phone": who.endswith("!")}


def _in(number: str = CALLER, to: str = "to", did: str = DID) -> Event:
    if number == "to":
        number, did = CALLER, to
    return a_call(caller=Party(number=None if number == "hidden" else number), dialled=did)


def _out(extension: str, number: str, **more: Any) -> Event:
    return a_call(direction=Direction.OUTBOUND, caller=_party(extension), dialled=number, **more)


def _internal(extension: str, called: str) -> Event:
    return a_call(direction=Direction.INTERNAL, caller=_party(extension), dialled=called)


def _click(extension: str, number: str) -> Event:
    return _out(extension, number, dial_id="d1")


def _route(place: str) -> Event:
    decision = RouteDecision(destination=Destination.parse(place), reason=RouteReason.ROW_MATCHED)
    return CallRouted(**BASE, did=DID, decision=decision)


def _ring(who: str, *queue: str) -> Event:
    return CallRinging(**_leg(who), caller=Party(number=CALLER), queue=queue[1] if queue else None)


def _over(who: str, outcome: str) -> Event:
    return LegEnded(**_leg(who), outcome=LegOutcome(outcome))


def _passed(kind: TransferKind) -> Callable[[str, str], Event]:
    return lambda by, to: CallTransferred(**BASE, kind=kind, by=_party(by), to=_party(to))


def _end(disposition: str | None = None) -> Event:
    return CallEnded(**BASE, disposition=Disposition(disposition) if disposition else None)


_VERBS: dict[str, Callable[..., Event]] = {
    "in": _in,
    "out": _out,
    "internal": _internal,
    "click": _click,
    "route": _route,
    "queue": lambda name: CallQueued(**BASE, queue=name),
    "ring": _ring,
    "answer": lambda who: CallAnswered(**_leg(who)),
    "over": _over,
    "blind": _passed(TransferKind.BLIND),
    "attended": _passed(TransferKind.ATTENDED),
    "hold": lambda who: CallHeld(**BASE, leg_id=who),
    "resume": lambda who: CallResumed(**BASE, leg_id=who),
    "end": _end,
}
