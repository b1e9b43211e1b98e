"""The table of calls.md: what is given, what is expected, and how an outcome looks in it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.contracts.calls import CallRecord, LegRecord

_TEXT = (Path(__file__).parent / "calls.md").read_text()
_CELLS = [
    [cell.strip() for cell in line.strip("| ").split("|")]
    for line in _TEXT.splitlines()
    if line[:2] == "| "
]
COLUMNS, *_ROWS = _CELLS
_NOTHING = "-"
#: What a caller's line says of most callers.
CUSTOMER = "Customer"
#: Where rules send who is not in the CRM, if they say nothing else.
ELSE = "extension:118"
#: Rules that are written out under the table, and what they need: YAML, as in a site file.
BELOW = _TEXT.partition("```yaml\n")[2].partition("```")[0]
_BELOW = "below: "


@dataclass(frozen=True, slots=True)
class Row:
    """One call of the lab."""

    cells: Mapping[str, str]

    @property
    def name(self) -> str:
        return self.cells["call"]

    @property
    def caller(self) -> str:
        return self.cells["caller"].split(" ", 1)[0]

    @property
    def shown_name(self) -> str:
        """What the caller's line says of him, behind the number in brackets."""
        return self.cells["caller"].partition(" (")[2].removesuffix(")") or CUSTOMER

    @property
    def dialled(self) -> str:
        return self.cells["dialled"]

    @property
    def contact(self) -> str | None:
        """First and last name of the outside party's contact in the CRM."""
        name = self.cells["known as"].partition(" (")[0]
        return None if name == _NOTHING else name

    @property
    def owner(self) -> int | None:
        """The extension of the user who is responsible for the contact, in brackets behind it."""
        extension = self.cells["known as"].partition(" (of ")[2].removesuffix(")")
        return int(extension) if extension else None

    @property
    def outside_number(self) -> str:
        return self.dialled if self.dialled.startswith("+") else self.caller

    @property
    def rules(self) -> Iterable[tuple[str, str, str]]:
        """
        Numbers, where their rules send who is in the CRM, and where everybody else: the number
        dialled, and choices of a menu behind it. None of a rule that is written out below.
        """
        if self.cells["rule"].startswith(_BELOW):
            return
        rule, _, other = self.cells["rule"].partition(", else ")
        first, *choices = rule.split("; ")
        if first != _NOTHING:
            yield self.dialled, first, other or ELSE
        for choice in choices:
            digit, _, destination = choice.partition(": ")
            yield self.dialled + digit, destination, ELSE


#: The first row of each call says how it begins; the others are further calls that belong to it.
ROWS = {cells[0]: Row(dict(zip(COLUMNS, cells, strict=True))) for cells in reversed(_ROWS)}
EXPECTED = {
    name: [dict(zip(COLUMNS, cells, strict=True)) for cells in _ROWS if cells[0] == name]
    for name in ROWS
}


def all_of(row: Row) -> list[Row]:
    """The call and the further ones."""
    return [Row(cells) for cells in EXPECTED[row.name]]


def given(row: Row, number: int) -> dict[str, str]:
    """What was given of its call of that *number*, from 0: an outcome does not show it."""
    expected = EXPECTED[row.name]
    cells = expected[number] if number < len(expected) else {}
    told = {column: cells.get(column, _NOTHING) for column in ("known as", "rule")}
    return {"call": row.name, **told}


def as_cells(
    record: CallRecord, screens: Mapping[str, Sequence[Mapping[str, Any]]], entry: str
) -> dict[str, str]:
    """*screens* are the events that each extension was shown of this call."""
    return {
        "caller": _caller(record),
        "dialled": record.dialled or _NOTHING,
        "becomes": _becomes(record),
        "decided": _decided(record),
        "phones": _list(sorted(f"{_label(leg)} {leg.outcome}" for leg in record.legs)),
        "transfers": _list(f"{t.kind} {t.by.label} to {t.to.label}" for t in record.transfers),
        "screens": _list(
            (_screen(name, events) for name, events in sorted(screens.items()) if events), "; "
        ),
        "CRM entry": entry,
    }


def _caller(record: CallRecord) -> str:
    if record.caller is None:
        return _NOTHING
    name = record.caller.name
    usual = name in {None, CUSTOMER} or record.caller.extension is not None
    return record.caller.label if usual else f"{record.caller.label} ({name})"


def _becomes(record: CallRecord) -> str:
    talked = ", talked" if record.talk_time else ""
    return f"{record.direction} {record.disposition}{talked}, ended by {record.hangup_by}"


def _decided(record: CallRecord) -> str:
    route = record.route
    return f"{route.destination or 'nothing'}, {route.reason}" if route else _NOTHING


def _label(leg: LegRecord) -> str:
    return f"{leg.callee.label} (own)" if leg.own_phone else leg.callee.label


def _screen(extension: str, events: Sequence[Mapping[str, Any]]) -> str:
    cards = [event["contact"]["display_name"] for event in events if event.get("contact")]
    known = f" {cards[-1]}" if cards else ""
    dial = [event for event in events if event["kind"] == "dial"]
    words = [_word(event["kind"], event.get("reason")) for event in events if event not in dial]
    # A step on the way may be skipped where the next one was seen first.
    words = [word for word in words if word not in {"contact", "pop"}]
    words += [f"dial {_word(e['dial_state'], e.get('dial_reason'))}" for e in dial[-1:]]
    return f"{extension}{known}: {', '.join(words)}"


def _word(word: str, reason: str | None) -> str:
    return f"{word} ({reason})" if reason else word


def _list(parts: Iterable[str], separator: str = ", ") -> str:
    return separator.join(parts) or _NOTHING
