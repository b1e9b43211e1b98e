"""Contracts with defaults: a test names what it is about and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from shared.contracts.calls import CallStarted, Direction, Party
from shared.contracts.contacts import ContactCard
from shared.site.file import Surroundings

#: For site files whose CRM stands on this machine.
HERE = Surroundings(may_be_plain=lambda host: host == "127.0.0.1")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_call(**changes: Any) -> CallStarted:
    known: dict[str, Any] = {
        "call_id": "c1",
        "pbx": "main",
        "pbx_call_id": "1795244075.0",
        "direction": Direction.INBOUND,
        "caller": Party(number="447700900123"),
        "dialled": "442079460000",
    }
    return CallStarted(**(known | changes))


def a_contact(**changes: Any) -> ContactCard:
    known: dict[str, Any] = {
        "connection": "zoho",
        "module": "Contacts",
        "contact_id": "829",
        "display_name": "Ada Lovelace",
        "phones": ("+44 7700 900123",),
    }
    return ContactCard(**(known | changes))
