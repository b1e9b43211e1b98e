"""What an entry may say of a call. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.contracts.calls import Direction
from shared.crm.form.journal import Journal
from shared.crm.language.text import compile_text
from shared.crm.port import JournalEntry
from shared.crm.rendering import Scope

_LONGEST_SUBJECT = 250


def entry_variables(
    entry: JournalEntry, journal: Journal, scope: Scope, contact: Mapping[str, Any]
) -> dict[str, Any]:
    """``Subject`` and ``Description`` are the template's texts, or those of the connection."""
    outbound = entry.direction is Direction.OUTBOUND
    talked = entry.talk_time.total_seconds() > 0
    inside = entry.extension or entry.dialled
    variables: dict[str, Any] = {
        "Reference": entry.reference,
        "CallId": entry.reference,
        "Kind": f"{entry.direction} {entry.disposition}",
        "Direction": str(entry.direction),
        "Disposition": str(entry.disposition),
        "StartedAt": entry.started_at,
        "AnsweredAt": entry.ended_at - entry.talk_time if talked else None,
        "EndedAt": entry.ended_at,
        "TalkTime": entry.talk_time,
        "WaitTime": entry.wait_time,
        "Duration": entry.ended_at - entry.started_at,
        "Number": entry.number,
        "Dialled": entry.dialled,
        "From": inside if outbound else entry.number,
        "To": entry.number if outbound else entry.dialled or inside,
        "Queue": entry.queue,
        "Agent": entry.extension,
        "AgentName": entry.agent_name,
        "AgentEmail": entry.agent_email,
        "Owner": entry.owner_id,
        "Recording": entry.recording,
        **contact,
    }
    known = {**scope.all, **variables}
    subject = journal.subject if entry.subject is None else entry.subject
    description = journal.description if entry.description is None else entry.description
    for name, text in (("Subject", subject), ("Description", description)):
        variables[name] = " ".join(compile_text(text).text(known, maps=scope.maps).split())
    words = variables["Subject"]
    variables["Subject"] = words[:_LONGEST_SUBJECT]
    is_told = entry.subject is not None or entry.reference in words
    if is_told and entry.reference not in variables["Subject"]:
        # The template may look for the entry by it: a caller's long name must not push it out.
        room = _LONGEST_SUBJECT - len(entry.reference) - 1
        variables["Subject"] = f"{words[:room]} {entry.reference}"
    return variables
