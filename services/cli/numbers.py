"""A table of numbers to try, as people keep one, and the table that comes of it. Pure but for its files."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TextIO

from pydantic import JsonValue, ValidationError

from services.routing.explain_batch import Outcome
from services.routing.supposed import Supposed
from shared.errors import ContractError
from shared.faults import faults_in
from shared.pbx.lines import one_line
from shared.phone import parse

#: Columns that are read; every other goes along.
_ASKED = ("from", "did", "ivr", "dtmf")
DECIDED = ("destination", "reason", "rule", "row", "value", "took_ms", "fault")
COMPARED = ("now", "changed")
_DELIMITERS = ",;\t"
_LONGEST_VALUE = 500
_LONGEST_HEADER = 64 * 1024
#: What a spreadsheet takes for a formula: OWASP, "CSV Injection", with their full-width forms.
_FORMULA = tuple("=+-@\t\r＝＋－＠")  # noqa: RUF001  these very characters
#: What a spreadsheet makes of a long number.
_SHORTENED = re.compile(r"\d([.,]\d+)?[eE]\+?\d+")
#: In place of a number.
_WITHHELD = frozenset({"anonymous", "private", "restricted", "unknown", "withheld"})


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file; *fault* says why it cannot be asked."""

    cells: tuple[str, ...]
    asked: Supposed | None = None
    fault: str | None = None


class Numbers:
    """
    The lines of *file*, read one by one. It has a header with a column ``from``; commas, semicolons
    or tabs between the cells, as the header has them.

    Raises: ContractError for a header that cannot be read.
    """

    def __init__(self, file: TextIO, *, did: str = "") -> None:
        first = file.readline(_LONGEST_HEADER)
        self.delimiter = max(_DELIMITERS, key=first.count)
        try:
            header = next(csv.reader([first], delimiter=self.delimiter), [])
        except csv.Error as error:
            raise ContractError(f"line 1: the header cannot be read: {error}") from None
        self.header = tuple(name.strip().lstrip("\ufeff") for name in header)
        names = [name.lower() for name in self.header]
        if "from" not in names:
            raise ContractError(
                "line 1: the first line names the columns, and one of them is `from`: from,did"
            )
        if doubles := {name for name in names if name in _ASKED and names.count(name) > 1}:
            raise ContractError(f"line 1: the column {min(doubles)} is there twice")
        self._at = {name: names.index(name) for name in _ASKED if name in names}
        self._rest = {"did": did} if did else {}
        self._file = file

    def __iter__(self) -> Iterator[Line]:
        reader = csv.reader(self._file, delimiter=self.delimiter)
        while True:
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Line(("",) * len(self.header), fault=f"line {reader.line_num + 1}: {error}")
                continue
            if cells:
                yield self._line(cells, reader.line_num + 1)

    def _line(self, cells: list[str], number: int) -> Line:
        shown = tuple((cells + [""] * len(self.header))[: len(self.header)])
        if len(cells) > len(self.header):
            what = f"{len(cells)} cells under {len(self.header)} columns"
            return Line(shown, fault=f"line {number}: {what}")
        said = {name: shown[place].strip() for name, place in self._at.items()}
        if fault := _number_fault(said["from"]):
            return Line(shown, fault=f"line {number}: from: {fault}")
        given = {name: text for name, text in said.items() if text}
        try:
            asked = Supposed.model_validate({**self._rest, **given})
        except ValidationError as error:
            return Line(shown, fault=f"line {number}: {faults_in(error)}")
        return Line(shown, asked)


def _number_fault(text: str) -> str | None:
    if _SHORTENED.fullmatch(text):
        return "a spreadsheet has shortened the number; have it keep the column as text"
    if text and text.lower() not in _WITHHELD and parse(text, None).withheld:
        return "no number; leave it empty for a caller who withholds his"
    return None


class ResultTable:
    """What came of the lines, beside what they were."""

    def __init__(self, file: TextIO, numbers: Numbers, *, compares: bool) -> None:
        self._columns = (*DECIDED, *COMPARED) if compares else DECIDED
        taken = {*self._columns}
        # Of a table that is tried again, what came of it before is not kept.
        kept = [place for place, name in enumerate(numbers.header) if name.lower() not in taken]
        self._kept = kept
        self._writer = csv.writer(file, delimiter=numbers.delimiter, lineterminator="\n")
        self._writer.writerow([*(numbers.header[place] for place in kept), *self._columns])

    def add(self, line: Line, outcome: Outcome | None) -> None:
        """*outcome* None: the line has a fault."""
        said: dict[str, Any] = {"fault": line.fault}
        if outcome is not None:
            said = outcome.model_dump(include={*self._columns})
            said["changed"] = " ".join(outcome.differs)
        self._writer.writerow(
            [
                *(line.cells[place] for place in self._kept),
                *(cell(said.get(name)) for name in self._columns),
            ]
        )


def cell(value: JsonValue) -> str:
    """One line; a text that a spreadsheet would take for a formula has an apostrophe before it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case int() | float():
            return str(value)
        case str():
            text = value
        case _:
            text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = one_line(text, most=_LONGEST_VALUE)
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
