"""The fields of Wazo's events and answers. Pure: what is no value of its kind is not there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.contracts.calls import Direction
from shared.errors import ContractError
from shared.pbx.lines import text_of

#: Asterisk's unique ids have some twenty characters; legs of ours are named after them.
_LONGEST_ID = 128
_FAR_OFF = timedelta(days=1)
_UNKNOWN = frozenset({"", "<unknown>", "unknown", "none"})
_USER = "user_uuid:"
_MOST_SECONDS = 10**7

Values = Mapping[str, Any]


def values_of(record: bytes) -> Values:
    """Raises: ContractError."""
    try:
        found = json.loads(record)
    except (ValueError, RecursionError):
        raise ContractError("a message of Wazo that is no JSON") from None
    if not isinstance(found, dict):
        raise ContractError("a message of Wazo that is no object")
    return found


def part_of(values: Values, name: str) -> Values:
    """Raises: ContractError."""
    found = values.get(name)
    if not isinstance(found, dict):
        raise ContractError(f"a message of Wazo without {name}")
    return found


def parts_of(values: Values, name: str) -> list[Values]:
    found = values.get(name)
    return [part for part in found if isinstance(part, dict)] if isinstance(found, list) else []


def text_in(values: Values, name: str) -> str:
    return text_of(values.get(name))


def id_in(values: Values, name: str) -> str:
    """Of a channel, a conversation or a user; nothing for what is too long to be one."""
    text = text_in(values, name)
    return text if len(text) <= _LONGEST_ID else ""


def shown_in(values: Values, name: str) -> str:
    """A caller id field; nothing for the words that stand for nothing."""
    text = text_in(values, name)
    return "" if text.lower() in _UNKNOWN else text


def whole_in(values: Values, name: str) -> int | None:
    text = text_in(values, name)
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004  32 bits


def length_in(values: Values, name: str) -> timedelta | None:
    """Seconds."""
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return timedelta(seconds=value) if 0 <= value < _MOST_SECONDS else None


def moment_in(values: Values, name: str, *, now: datetime) -> datetime | None:
    """
    By Wazo's clock: ``2026-08-05T09:59:50.027+0000``. None for a time without zone, and for one
    that is more than a day off: that clock is not believed.
    """
    try:
        at = datetime.fromisoformat(text_in(values, name))
    except ValueError:
        return None
    if at.tzinfo is None or abs(at - now) > _FAR_OFF:
        return None
    return at.astimezone(UTC)


def direction_in(values: Values, *names: str) -> Direction | None:
    told = next((text for name in names if (text := text_in(values, name).lower())), "")
    return Direction(told) if told in set(Direction) else None


def users_of(envelope: Values) -> list[str]:
    """Whom an event is for: ``"user_uuid:7171…": true`` beside its data."""
    return [
        name.removeprefix(_USER)
        for name, value in envelope.items()
        if name.startswith(_USER) and value is True
    ]


@dataclass(frozen=True, slots=True)
class Channel:
    """
    One end of a call as an event shows it. *number* is its own, *peer* the other side's. *status*
    is Asterisk's in lower case: ring, ringing, up.
    """

    leg: str
    call: str
    user: str
    is_caller: bool
    status: str
    direction: Direction | None
    number: str
    name: str
    peer_number: str
    peer_name: str
    dialled: str
    talks: bool
    is_sip: bool
    created_at: datetime | None
    answered_at: datetime | None


def channel(values: Values, *, now: datetime) -> Channel:
    """Raises: ContractError for one without ids."""
    leg, call = id_in(values, "call_id"), id_in(values, "conversation_id")
    if not leg or not call:
        raise ContractError("a call of Wazo without call_id or conversation_id")
    return Channel(
        leg=leg,
        call=call,
        user=text_in(values, "user_uuid"),
        is_caller=values.get("is_caller") is True,
        status=text_in(values, "status").lower(),
        direction=direction_in(values, "direction"),
        number=shown_in(values, "caller_id_number"),
        name=shown_in(values, "caller_id_name"),
        peer_number=shown_in(values, "peer_caller_id_number"),
        peer_name=shown_in(values, "peer_caller_id_name"),
        dialled=shown_in(values, "dialed_extension"),
        talks=bool(values.get("talking_to")),
        is_sip=bool(text_in(values, "sip_call_id")),
        created_at=moment_in(values, "creation_time", now=now),
        answered_at=moment_in(values, "answer_time", now=now),
    )
