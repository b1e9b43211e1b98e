"""Headers of AMQP messages: which are to be believed, and how they are read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aio_pika.abc import AbstractIncomingMessage

from shared.moments import from_ms


def our_headers(incoming: AbstractIncomingMessage) -> Mapping[str, Any]:
    """
    The headers of a message that we put into a queue ourselves; of any other, none.

    A retry and a replay come through the default exchange, to which no PBX may write. To a topic
    exchange it may, and with whatever headers it likes.
    """
    return {} if incoming.exchange else incoming.headers


def death_of(incoming: AbstractIncomingMessage) -> Mapping[str, Any]:
    """What the broker noted when it moved the message itself: the delivery limit was reached."""
    deaths = incoming.headers.get("x-death")
    first = deaths[0] if isinstance(deaths, list) and deaths else {}
    return first if isinstance(first, dict) else {}


def whole(headers: Mapping[str, Any], name: str) -> int | None:
    value = headers.get(name)
    return value if isinstance(value, int) else None


def moment(headers: Mapping[str, Any], name: str) -> datetime | None:
    ms = whole(headers, name)
    try:
        return None if ms is None else from_ms(ms)
    except OverflowError:
        return None
