"""
What the transport of a 3CX composes, as its events hold no data. Pure.

* ``{"event": {"event_type": 0, "entity": "/callcontrol/101/participants/22"}, "participant": {…},
  "at": …}``: what the entity was when asked after the event; null when it was gone by then;
* ``{"state": […], "at": …, "heard": …}``: what ``GET /callcontrol`` told after (re)connecting;
  *heard* is until when the connection before was up.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.errors import ContractError

#: ``event_type``; 2 is DTMF, 3 the end of an announcement, 4 an answer over the WebSocket.
UPSERT, REMOVE = 0, 1
_FAR_OFF = timedelta(days=1)


def event_record(
    event: Mapping[str, Any], participant: Mapping[str, Any] | None, *, at: datetime
) -> bytes:
    kept = {"event_type": event.get("event_type"), "entity": event.get("entity")}
    return _encoded({"event": kept, "participant": participant, "at": at.isoformat()})


def state_record(state: Any, *, at: datetime, heard: datetime) -> bytes:
    """*state* as it came, but for the devices."""
    kept = state
    if isinstance(state, list):
        names = ("dn", "type", "participants")
        kept = [
            {name: entry.get(name) for name in names} for entry in state if isinstance(entry, dict)
        ]
    return _encoded({"state": kept, "at": at.isoformat(), "heard": heard.isoformat()})


def event_of(text: str) -> Mapping[str, Any]:
    """The event in a message of the WebSocket. Raises: ContractError."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise ContractError("a message of 3CX that is no JSON") from None
    event = message.get("event") if isinstance(message, dict) else None
    if not isinstance(event, dict):
        raise ContractError("a message of 3CX without an event")
    return event


def record_of(record: bytes) -> dict[str, Any]:
    try:
        values = json.loads(record)
    except (ValueError, RecursionError):
        raise ContractError("a record of 3CX that is no JSON") from None
    if not isinstance(values, dict):
        raise ContractError("a record of 3CX that is no object")
    return values


def moment_of(text: object, now: datetime) -> datetime:
    """What the transport wrote; *now* for anything else."""
    try:
        at = datetime.fromisoformat(text) if isinstance(text, str) else now
    except ValueError:
        return now
    if at.tzinfo is None or abs(at - now) > _FAR_OFF:
        return now
    return at.astimezone(UTC)


def _encoded(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()
