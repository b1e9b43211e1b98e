"""A rule in a file of its own, its rows in another where they are many."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.progress import Progress

from services.cli.console import out
from shared.errors import BadSetting
from shared.site.file import line
from shared.site.parts import PartPath, Sealing
from shared.site.rules.misread import faults_of_rule
from shared.site.rules.rule import MOST_ROWS, RoutingRule, Row
from shared.yamltext import YamlText, read_yaml

_COLUMNS = ("of", "operator", "value", "destination", "priority")
_NEEDED = frozenset({"operator", "value", "destination"})
_BETWEEN = "|"
_OF_SEVERAL = frozenset({"in", "between"})
#: A rule of 100,000 rows has some megabytes.
_LARGEST = 32 * 1024 * 1024
_MOST_FAULTS = 200
#: From here on a bar shows how far it is.
_MANY = 5000


@dataclass(frozen=True, slots=True)
class RuleText:
    """A rule, and where each part of it stands: *lines* are those of its rows in *rows*."""

    rule: RoutingRule
    file: Path
    document: YamlText
    rows: Path | None = None
    lines: Sequence[int] = ()

    def at(self, path: PartPath, what: str) -> str:
        """``rows.csv:12: destination: what``; the path is within the rule."""
        match path:
            case ("rows", int(row), *rest) if self.rows is not None and row < len(self.lines):
                return ": ".join([f"{self.rows.name}:{self.lines[row]}", *map(str, rest), what])
            case _:
                return line(self.file.name, self.document, path, what)


def read_rule_file(file: Path, *, rows: Path | None, sealing: Sealing) -> RuleText:
    """
    The rule of *file*, secrets sealed, asterisks too; *rows* is a CSV file with its rows.

    Raises: BadSetting with a line for each fault: ``rows.csv:12: destination: …``.
    """
    try:
        document = read_yaml(_text(file))
    except BadSetting as error:
        raise BadSetting(f"{file.name}: {error.message}") from None
    said = document.value
    if not isinstance(said, dict):
        raise BadSetting(f"{file.name}:1: a rule is needed: name, dids, crm, field, rows, default")
    found: tuple[Row, ...] = ()
    lines: tuple[int, ...] = ()
    if rows is not None:
        if "rows" in said:
            where = f"{file.name}:{document.line_of(('rows',))}"
            raise BadSetting(f"{where}: rows: they are in {rows.name}; say them once")
        found, lines = read_rows(rows)
        said = {**said, "rows": found}
    try:
        rule = RoutingRule.model_validate(said, context=replace(sealing, kept=True))
    except ValidationError as error:
        faults = [
            line(file.name, document, path, what)
            for path, what in faults_of_rule(error, RoutingRule)
        ]
        raise BadSetting("\n".join(faults)) from None
    return RuleText(rule, file, document, rows, lines)


def read_rows(file: Path) -> tuple[tuple[Row, ...], tuple[int, ...]]:
    """The rows and their lines. Raises: BadSetting with a line for each fault."""
    text = _text(file)
    found: dict[int, Row] = {}
    faults: list[str] = []
    count = text.count("\n")
    with Progress(console=out, transient=True, disable=count < _MANY) as progress:
        task = progress.add_task(f"reading {file.name}", total=count)
        for number, cells in _records(file, text):
            if len(found) == MOST_ROWS:
                faults.append(f"{file.name}:{number}: a rule has up to {MOST_ROWS} rows")
                break
            try:
                found[number] = Row.model_validate(_row(cells))
            except ValidationError as error:
                faults += [
                    ": ".join([f"{file.name}:{number}", *map(str, path[2:]), what])
                    for path, what in faults_of_rule(error, Row, above=("rows", 0))
                ]
            if len(faults) >= _MOST_FAULTS:
                faults.append(f"{file.name}: and more faults")
                break
            if number % 1000 == 0:
                progress.update(task, completed=number)
    if faults:
        raise BadSetting("\n".join(faults))
    if not found:
        raise BadSetting(f"{file.name}:1: there are no rows below the names of the columns")
    return tuple(found.values()), tuple(found)


def _records(file: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and cells of each row that is not empty. Raises: BadSetting."""
    # What a spreadsheet writes where the comma is in the numbers, and what it copies.
    mark = max(",;\t", key=text.partition("\n")[0].count)
    reader = csv.reader(StringIO(text, newline=""), delimiter=mark, strict=True)
    number = 1
    try:
        columns = [name.strip().lower() for name in next(reader, [])]
        _check_columns(file, columns)
        number = reader.line_num + 1
        for cells in reader:
            if any(cell.strip() for cell in cells):
                if len(cells) > len(columns):
                    raise BadSetting(
                        f"{file.name}:{number}: {len(cells)} cells under {len(columns)} columns; "
                        'a text with a comma stands in "quotes"'
                    )
                yield number, dict(zip(columns, cells, strict=False))
            number = reader.line_num + 1
    except csv.Error as error:
        raise BadSetting(f"{file.name}:{number}: not CSV: {error}") from None


def _check_columns(file: Path, columns: Sequence[str]) -> None:
    known = set(columns) <= set(_COLUMNS) and len(columns) == len(set(columns))
    if not known or not set(columns) >= _NEEDED:
        raise BadSetting(
            f"{file.name}:1: the first line names the columns: operator,value,destination, and if "
            "you like `priority`, and `of` for what is asked about in place of the rule's field"
        )


def _row(cells: dict[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {name: text.strip() for name, text in cells.items() if text.strip()}
    if row.get("operator") in _OF_SEVERAL and "value" in row:
        row["value"] = [text.strip() for text in row["value"].split(_BETWEEN)]
    ways = row.get("destination", "").split(_BETWEEN)
    if len(ways) > 1:
        row["destination"] = [way.strip() for way in ways]
    if "of" in row:
        row["when"] = {name: row.pop(name) for name in ("of", "operator", "value") if name in row}
    return row


def _text(file: Path) -> str:
    """Raises: BadSetting."""
    try:
        if file.stat().st_size > _LARGEST:
            raise BadSetting(f"{file}: larger than {_LARGEST // 1024**2} MiB")
        # A spreadsheet puts a mark before the first letter.
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise BadSetting(f"{file}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise BadSetting(
            f"{file}:{number}: cannot be read: not UTF-8; save it anew in that encoding"
        ) from None
