"""Our texts → Yeastar's: names, the four functions that it has, and XML around them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from shared.crm.importing.report import Notes
from shared.crm.importing.yeastar.words import ACTION
from shared.crm.language.lexer import Action, Kind, Token, read_parts

Names = Mapping[str, str]

_CALL = {
    "From": "Call_From",
    "To": "Call_To",
    "Disposition": "Call_Log_Status",
    "Direction": "Communication_Type",
    "Recording": "RecordPath",
    "Owner": "Owner",
    "Module": "WhoModule",
    "ContactId": "ContactId",
    "ContactName": "CallerDisplayName",
    "StartedAt": "StartTimeUnix",
}
SEARCH: Names = {"Phone": "Phone", "Number": "Phone", "Phones": "Phone"}
PAGE: Names = {
    "ContactId": "ContactId",
    "Module": "ContactSyncType",
    "Phone": "Phone",
    "ContactName": "CallerDisplayName",
}
CREATE: Names = {
    "FirstName": "FirstName",
    "LastName": "LastName",
    "DisplayName": "DisplayName",
    "Phone": "BusinessNumber",
    "Number": "BusinessNumber",
    "Company": "Company",
    "Email": "Email",
    "Owner": "Owner",
}
WORDS: Names = _CALL
JOURNAL: Names = {**_CALL, "Subject": "Subject", "Description": "Description"}

#: A variable piped through a function of ours, and the variable that says it there.
_PIPED = {
    ("TalkTime", "seconds"): "Talk_Duration_Sec",
    ("TalkTime", "mmss"): "Talk_Duration",
    ("StartedAt", "unix"): "StartTimeUnix",
}
_KNOWN = frozenset(
    {"if", "else", "end", "TimeFormat", "ToMillis", "Capitalize", "UrlEncode"}
    | {"eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "true", "false"}
)
_BLOCKS = frozenset({"if", "else", "end"})
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;"} | {
    letter: f"&#x{ord(letter):X};" for letter in "\t\n\r"
}


class Speaker:
    """*own*: parameters, credentials and what else keeps its name."""

    def __init__(self, notes: Notes, own: set[str]) -> None:
        self.notes = notes
        self._own = own

    def text(
        self, source: str, place: str, names: Names, *, literals: Mapping[str, str] | None = None
    ) -> str:
        """
        *literals* stand for variables that are known beforehand. What cannot be said is left out
        of the text, with a note.
        """
        words = literals or {}
        return ACTION.sub(lambda found: self._action(found[0], place, names, words), source)

    def _action(self, text: str, place: str, names: Names, literals: Mapping[str, str]) -> str:
        action = next(iter(read_parts(text)))
        if not isinstance(action, Action) or not action.tokens:
            return ""
        tokens = action.tokens
        if len(tokens) == 1 and tokens[0].kind is Kind.VARIABLE and tokens[0].value in literals:
            return literals[tokens[0].value]
        parts: list[str] = []
        done = at = 0
        while at < len(tokens):
            length, meant = self._meant(tokens[at:], names, literals)
            if meant is None:
                return self._unsaid(text, tokens, place)
            if length:
                parts += (text[done : tokens[at].at], meant)
                last = tokens[at + length - 1]
                done = last.at + _length(last)
            at += length or 1
        return "".join([*parts, text[done:]])

    def _meant(
        self, tokens: tuple[Token, ...], names: Names, literals: Mapping[str, str]
    ) -> tuple[int, str | None]:
        """How many tokens something else stands for; 0: they stay. None: it cannot be said."""
        first = tokens[0]
        values = tuple(token.value for token in tokens[:5])
        if first.kind is Kind.SYMBOL and values[2:3] == ("|",) and values[4:5] == (")",):
            # Brackets that were only needed for the pipe.
            if (said := _PIPED.get((values[1], values[3]))) is not None:
                return 5, f".{said}"
            return 0, ""
        if first.kind is Kind.WORD:
            return 0, "" if first.value in _KNOWN else None
        if first.kind is not Kind.VARIABLE:
            return 0, ""
        if values[1:2] == ("|",) and (said := _PIPED.get((first.value, values[2]))) is not None:
            return 3, f".{said}"
        if first.value in names:
            return 1, f".{names[first.value]}"
        if first.value in literals:
            return 1, json.dumps(literals[first.value])
        return (0, "") if first.value in self._own else (0, None)

    def _unsaid(self, text: str, tokens: tuple[Token, ...], place: str) -> str:
        self.notes.left(place, f"{text[:80]}: Yeastar has no such variable or function")
        words = [str(token.value) for token in tokens[:2] if token.kind is Kind.WORD]
        if words[:2] == ["else", "if"]:
            return '{{else if ""}}'
        return '{{if ""}}' if words[:1] == ["if"] else ""


def _length(token: Token) -> int:
    """Of a variable, a word or a symbol."""
    return len(token.value) + (token.kind is Kind.VARIABLE)


def query_text(text: str) -> str:
    """For a query: its own words encoded, each value by ``UrlEncode``."""
    parts: list[str] = []
    done = 0
    for found in ACTION.finditer(text):
        parts += (quote(text[done : found.start()], safe="():,*'-._"), _encoded(found[0]))
        done = found.end()
    return "".join([*parts, quote(text[done:], safe="():,*'-._")])


def _encoded(action: str) -> str:
    parts = next(iter(read_parts(action)))
    tokens = parts.tokens if isinstance(parts, Action) else ()
    if not tokens or tokens[0].value in {*_BLOCKS, "UrlEncode"}:
        return action
    inner = action[2:-2].strip()
    return f"{{{{UrlEncode {inner if len(tokens) == 1 else f'({inner})'}}}}}"


def json_source(value: Any) -> str:
    """JSON whose placeholders stay as they are; one that is a whole value stands in quotes."""
    if isinstance(value, dict):
        pairs = (f"{json_source(key)}: {json_source(item)}" for key, item in value.items())
        return f"{{{', '.join(pairs)}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(json_source(item) for item in value)}]"
    if not isinstance(value, str):
        return json.dumps(value)
    parts: list[str] = []
    done = 0
    for found in ACTION.finditer(value):
        parts += (json.dumps(value[done : found.start()])[1:-1], found[0])
        done = found.end()
    return f'"{"".join([*parts, json.dumps(value[done:])[1:-1]])}"'


class Xml:
    """An element with its attributes and what is in it."""

    def __init__(self, tag: str, **attributes: str | None) -> None:
        self.tag = tag
        self._attributes = {n: value for n, value in attributes.items() if value is not None}
        self._children: list[Xml] = []

    def add(self, tag: str, **attributes: str | None) -> Xml:
        child = Xml(tag, **attributes)
        self._children.append(child)
        return child

    def within(self, tag: str) -> Xml:
        """The child of that name, which is made where there is none."""
        return next((child for child in self._children if child.tag == tag), None) or self.add(tag)

    def text(self, depth: int = 0) -> str:
        given = "".join(f' {n}="{_escaped(value)}"' for n, value in self._attributes.items())
        blank = "  " * depth
        if not self._children:
            return f"{blank}<{self.tag}{given}></{self.tag}>\n"
        inner = "".join(child.text(depth + 1) for child in self._children)
        return f"{blank}<{self.tag}{given}>\n{inner}{blank}</{self.tag}>\n"


def _escaped(text: str) -> str:
    return re.sub('[&<>"\t\n\r]', lambda found: _ESCAPES[found[0]], _NO_XML.sub("", text))
