"""What an entry may say of a call. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.contracts.calls import Direction
from shared.crm.form.call_words import CALL_WORDS, alias_values, in_our_words
from shared.crm.form.journal import Journal
from shared.crm.language.evaluate import within_steps
from shared.crm.language.text import compile_text
from shared.crm.port import JournalEntry
from shared.crm.rendering import Scope

_LONGEST_SUBJECT = 250
#: Characters. Salesforce's and Zoho's long texts end there, and those of the others that say so are
#: longer, but for Dynamics (2,000), whose templates cut it themselves.
_LONGEST_DESCRIPTION = 32_000
#: Of its texts together, which the connection may have written: twenty functions of the longest
#: transcription.
_MOST_STEPS = 2_000_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@within_steps(_MOST_STEPS)
def entry_variables(
    entry: JournalEntry,
    journal: Journal,
    scope: Scope,
    contact: Mapping[str, Any],
    *,
    words: Collection[str] = CALL_WORDS,
) -> dict[str, Any]:
    """
    *words*: what of it the connection's own texts may name (``Manifest.entry_words``); another
    name is empty there, so that no credential gets into an entry by a site file of before.

    ``Subject`` and ``Description`` are the template's texts, or those of the connection. The subject
    is one line of up to 250 characters, the description has the lines that its text has, up to
    32,000 characters. Where the template has the Reference in one of them, so has the connection's.
    """
    outbound = entry.direction is Direction.OUTBOUND
    inside = entry.extension or entry.dialled
    # In UTC: of two moments of one zone, Python reckons with what its clocks show. An end before the
    # start is that of a clock that was set back.
    started_at = entry.started_at.astimezone(UTC)
    ended_at = max(started_at, entry.ended_at.astimezone(UTC))
    variables: dict[str, Any] = {
        "Reference": entry.reference,
        "CallId": entry.reference,
        "LongReference": entry.long_reference or entry.reference,
        "Kind": f"{entry.direction} {entry.disposition}",
        "Direction": str(entry.direction),
        "Disposition": str(entry.disposition),
        "StartedAt": started_at,
        "AnsweredAt": _answered_at(entry, started_at, ended_at),
        "EndedAt": ended_at,
        "TalkTime": entry.talk_time,
        "WaitTime": entry.wait_time,
        "Duration": ended_at - started_at,
        "Number": entry.number,
        "Dialled": entry.dialled,
        "OwnNumber": entry.own_number,
        "From": inside if outbound else entry.number,
        "To": entry.number if outbound else entry.dialled or inside,
        "Queue": entry.queue,
        "Agent": entry.extension,
        "AgentName": entry.agent_name,
        "AgentEmail": entry.agent_email,
        "Owner": entry.owner_id,
        "Recording": entry.recording,
        "Summary": entry.summary,
        "Transcription": entry.transcription,
        "Sentiment": entry.sentiment,
        **contact,
    }
    known = {**scope.all, **variables}

    def said(own: str | None, template: str) -> str:
        if own is None:
            return compile_text(template).text(known, maps=scope.maps)
        shown = {name: value for name, value in known.items() if name in words}
        return _in_own_words(own, shown, scope)

    line = _line(said(entry.subject, journal.subject))
    is_told = entry.subject is not None or entry.reference in line
    variables["Subject"] = _cut(line, _LONGEST_SUBJECT, keep=entry.reference if is_told else "")
    known["Subject"] = variables["Subject"]
    lines = _lines(said(entry.description, journal.description))
    is_told = "Reference" in compile_text(journal.description).names or entry.reference in lines
    variables["Description"] = _cut(
        lines, _LONGEST_DESCRIPTION, keep=entry.reference if is_told else ""
    )
    return variables


def _answered_at(entry: JournalEntry, started_at: datetime, ended_at: datetime) -> datetime | None:
    """None for a call without a talk; where nobody says when, it ended with the talk."""
    if entry.talk_time <= timedelta(0):
        return None
    if entry.answered_at is not None:
        return max(started_at, entry.answered_at.astimezone(UTC))
    # A PBX may say a talk that is longer than its call, or than the calendar.
    return started_at if entry.talk_time >= ended_at - started_at else ended_at - entry.talk_time


def _in_own_words(own: str, known: Mapping[str, Any], scope: Scope) -> str:
    """The connection's *own* text may use the vendors' names, too. Raises: ContractError."""
    text = compile_text(in_our_words(own))
    return text.text({**known, **alias_values(text.names, known)}, maps=scope.maps)


def _line(text: str) -> str:
    """Blanks are one, as is a sign that no text has: a database that refuses it is not away."""
    return " ".join(_CONTROL.sub(" ", text).split())


def _lines(text: str) -> str:
    """Blanks are one within a line; of empty lines one stays between others."""
    lines: list[str] = []
    for line in map(_line, text.splitlines()):
        if line or (lines and lines[-1]):
            lines.append(line)
    return "\n".join(lines).strip()


def _cut(text: str, longest: int, *, keep: str) -> str:
    """
    What is over *longest* goes; not *keep*: the template may look for the entry by it, and a
    caller's long name must not push it out.
    """
    cut = text[:longest].rstrip()
    if keep in cut:
        return cut
    return f"{text[: longest - len(keep) - 1].rstrip()} {keep}".strip()
