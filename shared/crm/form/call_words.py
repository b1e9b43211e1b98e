"""
What an entry may say of its call: our variables, and the same values by the names that they have in
Yeastar's and 3CX's own templates. One table for the texts of a connection, for the importers and
for the reference (docs/reference/entry-variables.md). Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from shared.crm.language.text import compile_text
from shared.errors import ContractError

PAGE = "docs/reference/entry-variables.md"

#: By name, what it is.
OURS: Mapping[str, str] = MappingProxyType(
    {
        "Reference": "ten characters that are this call's alone; an entry is found again by them",
        "CallId": "the same",
        "LongReference": "up to 47 characters, of which no two entries ever have the same; of an "
        "entry of older versions its `Reference`",
        "Subject": "the entry's subject; in its text",
        "Description": "the entry's text; in the template's requests",
        "Kind": "direction and disposition, `inbound answered`",
        "Direction": "`inbound`, `outbound`, `internal`",
        "Disposition": "`answered`, `missed`, `busy`, `failed`, `voicemail`",
        "StartedAt": "a moment: when the call began",
        "AnsweredAt": "a moment; nothing where nobody answered",
        "EndedAt": "a moment, never before the start",
        "TalkTime": "a duration: time in conversation, holds left out",
        "WaitTime": "a duration: from the first ring or the queue to the answer, or the end",
        "Duration": "a duration: from the start to the end",
        "Number": "of the outside party, E.164 where it is known; empty where it is withheld",
        "Dialled": "the DID, or the number dialled",
        "OwnNumber": "the tenant's number: the DID, or what the customer of an outbound call sees; "
        "E.164 where it can be read so, nothing where it is not known",
        "From": "who called: a number, of an outbound call the extension",
        "To": "who was called: of an inbound call the DID or the extension",
        "Queue": "the queue or ring group that it came through",
        "Agent": "the agent's extension",
        "AgentName": "the agent's name",
        "AgentEmail": "the agent's e-mail address",
        "Owner": "the CRM's id of the user who owns the entry",
        "Recording": "the recording's address; nothing where there is none",
        "Summary": "what was said in short, where somebody told it",
        "Transcription": "what was said word by word, where somebody told it",
        "Sentiment": "how it was said, as who told it calls it: `positive`, `0.8`",
        "ContactId": "the CRM's id of the contact; nothing where it does not know the caller",
        "ContactName": "the contact's name",
        "Company": "the contact's company",
        "Module": "the contact's type: `Leads`",
        "Zone": "the time zone of the connection: `Europe/Berlin`",
    }
)


class Form(StrEnum):
    """How a value is written where a text names it without a format."""

    PLAIN = "plain"
    #: `2026-11-21 07:54:35`, in the zone of the connection.
    MOMENT = "moment"
    MOMENT_UTC = "moment in UTC"
    #: `01:02:05`.
    DURATION = "duration"


#: Of a moment without a format, in either vendor's texts; neither documents its own.
PLAIN_MOMENT = "yyyy-MM-dd HH:mm:ss"


@dataclass(frozen=True, slots=True)
class Word:
    """A vendor's variable: *operand* as it stands in our expressions."""

    operand: str
    form: Form = Form.PLAIN
    #: What is not quite the same as there.
    changed: str = ""

    @property
    def expression(self) -> str:
        """What is written between the braces."""
        match self.form:
            case Form.MOMENT:
                return f'TimeFormat {self.operand} "{PLAIN_MOMENT}"'
            case Form.MOMENT_UTC:
                return f'TimeFormat {self.operand} "{PLAIN_MOMENT}" "1"'
            case Form.DURATION:
                return f"hh_mm_ss {self.operand}"
        return self.operand.removeprefix("(").removesuffix(")")


def _moments(name: str, operand: str) -> dict[str, Word]:
    return {
        f"{name}Local": Word(operand, Form.MOMENT),
        f"{name}UTC": Word(operand, Form.MOMENT_UTC),
        f"{name}UTCMillis": Word(f"(unix_ms {operand})"),
        f"{name}LocalMillis": Word(
            f"(unix_ms {operand})", changed="milliseconds of UTC, not of the zone"
        ),
    }


#: Talk time is ``mm:ss``; the vendor's own form of it is not documented.
YEASTAR: Mapping[str, Word] = MappingProxyType(
    {
        "Call_From": Word(".From"),
        "Call_To": Word(".To"),
        "CallerNumber": Word(".From"),
        "CalleeNumber": Word(".To"),
        "CallerDisplayName": Word(".ContactName"),
        "Call_Log_Status": Word(".Disposition"),
        "Call_Status": Word(".Disposition"),
        "Communication_Type": Word(".Direction"),
        "StartTimeUnix": Word(".StartedAt | unix"),
        "Time": Word(".StartedAt", Form.MOMENT),
        "Talk_Duration": Word(".TalkTime | mmss"),
        "Talk_Duration_Sec": Word(".TalkTime | seconds"),
        "RecordPath": Word(".Recording"),
        "Subject": Word(".Subject"),
        "Description": Word(".Description"),
        "Phone": Word(".Number"),
        "ContactId": Word(".ContactId"),
        "ContactsId": Word(".ContactId"),
        "ContactSyncType": Word(".Module"),
        "Owner": Word(".Owner"),
        "WhoModule": Word(".Module"),
        "Company": Word(".Company"),
    }
)

_LINK = '<a href="{{.Recording}}">'
THREECX: Mapping[str, Word] = MappingProxyType(
    {
        "CallType": Word('(map .Kind "call-type")'),
        "CallDirection": Word('(map .Direction "call-direction")'),
        "Number": Word(".Number"),
        "Name": Word(".ContactName"),
        "EntityId": Word(".ContactId"),
        "EntityType": Word(".Module"),
        "Agent": Word(".Agent"),
        "AgentFirstName": Word(
            '(before .AgentName " ")', changed="the agent's name up to its first blank"
        ),
        "AgentLastName": Word(
            '(after .AgentName " ")', changed="the agent's name behind its first blank"
        ),
        "AgentEmail": Word(".AgentEmail"),
        "QueueExtension": Word(".Queue"),
        "DateTime": Word(".StartedAt", Form.MOMENT),
        "Duration": Word(".TalkTime", Form.DURATION),
        "DurationTimespan": Word(".TalkTime", Form.DURATION),
        "RecordingUrl": Word(".Recording"),
        "RecordingHyperLink": Word(
            ".Recording", changed=f"the address itself; HTML would be `{_LINK}…</a>`"
        ),
        "Transcription": Word(".Transcription"),
        "Summary": Word(".Summary"),
        "Sentiment": Word(".Sentiment"),
        "LineBreak": Word(r'"\n"'),
        **_moments("CallStartTime", ".StartedAt"),
        **_moments("CallEstablishedTime", ".AnsweredAt"),
        **_moments("CallEndTime", ".EndedAt"),
    }
)
#: The maps that some of them are piped through.
CALL_MAPS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "call-type": {
            "outbound answered": "Outbound",
            "outbound *": "Notanswered",
            "* answered": "Inbound",
            "*": "Missed",
        },
        "call-direction": {"outbound": "Outbound", "*": "Inbound"},
    }
)
#: Where a name of ours is one of theirs, too, it is ours; the two vendors share none.
_ALIASES: Mapping[str, Word] = MappingProxyType(
    {name: word for name, word in (*YEASTAR.items(), *THREECX.items()) if name not in OURS}
)
#: What a text of a connection may name, beside what its template adds.
CALL_WORDS = frozenset({*OURS, *_ALIASES})

_BRACKETED = re.compile(r"\[([A-Za-z_]\w{0,63})\]")


def in_our_words(text: str) -> str:
    """
    A text of 3CX, ``[CallType] call of [Number]``, in our language: one without ``{{`` that has at
    least one of 3CX's variables in brackets. Any other is as it was, and so are other brackets.
    """
    if not _names_of_threecx(text):
        return text
    return _BRACKETED.sub(
        lambda found: f"{{{{{_meant(found[1])}}}}}" if found[1] in THREECX else found[0], text
    )


def _names_of_threecx(text: str) -> list[str]:
    names = [] if "{{" in text else _BRACKETED.findall(text)
    return names if THREECX.keys() & set(names) else []


def _meant(name: str) -> str:
    """Between the braces; ``[Duration]`` is what 3CX means by it."""
    return THREECX[name].expression if name in OURS else f".{name}"


def check_words(text: str, *, known: Collection[str], maps: Collection[str]) -> None:
    """
    *known* are variables: `CALL_WORDS` and what the connection's template adds; *maps* are the
    template's. Raises: ContractError for what is none of them, with what may have been meant.
    """
    names = _names_of_threecx(text)
    if names and "[[" in text:
        raise ContractError(
            "[[…]], an expression of 3CX, is not read here; in our words it is "
            '{{TimeFormat .StartedAt "dd.MM.yyyy"}}'
        )
    for name in names:
        if name not in THREECX:
            raise ContractError(f"there is no variable [{name}]{_hint(name, THREECX)}")
    read = compile_text(in_our_words(text))
    for name in sorted(read.names - set(known)):
        raise ContractError(f"there is no variable .{name}{_hint(name, known)}")
    for name in sorted(read.maps_used - set(maps)):
        raise ContractError(f"the template has no map {name}")


def _hint(name: str, known: Collection[str]) -> str:
    letters = {one.lower(): one for one in known}
    near = get_close_matches(name.lower(), letters, n=1)
    meant = f"; did you mean {letters[near[0]]}?" if near else "."
    return f"{meant} All are in {PAGE}"


def alias_values(names: Collection[str], known: Mapping[str, Any]) -> dict[str, Any]:
    """Of the vendors' names among *names*, their values. Raises: ContractError."""
    return {
        name: compile_text(f"{{{{{_ALIASES[name].expression}}}}}").value(known, maps=CALL_MAPS)
        for name in names
        if name in _ALIASES
    }
