"""
Columns of an answer → records and paths within one. Yeastar reads ``data.#.id`` and
``data.#.email`` side by side, and a record without an email shifts all that follow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from shared.crm.language.gjson_scan import Scan
from shared.crm.language.paths import split_at_first_array

_CONDITION = ("#(", "#[")


@dataclass(frozen=True, slots=True)
class Columns:
    """
    *records*: the path of the list; *head* of it before its first step into an array, None where
    the answer is one record; *condition* on its records; *inner*: of a list in each of them.
    """

    records: str
    id: str
    head: str | None = None
    condition: str = ""
    inner: str = ""

    @classmethod
    def of(cls, id_path: str) -> Self:
        """By the path of the ids, which every record has."""
        halves = split_at_first_array(id_path)
        if halves is None:
            return cls("", id_path)
        head, rest = halves
        dot = f"{head}." if head else ""
        condition = _condition(rest)
        if condition:
            return cls(f"{dot}{condition}#", rest[len(condition) + 1 :], head, condition)
        deeper = split_at_first_array(rest) if not rest.startswith(_CONDITION) else None
        if deeper is not None and deeper[0]:
            return cls(f"{dot}#.{deeper[0]}|@flatten", deeper[1], head, inner=deeper[0])
        return cls(head, rest, head)

    def path(self, column: str) -> str | None:
        """The same within one record; None where it is in another list, or beside this one."""
        if self.head is None:
            return first_of(column)
        halves = split_at_first_array(column)
        if halves is None:
            first = f"{self.head}.0." if self.head else "0."
            plain = not self.condition and not self.inner
            return column.removeprefix(first) if plain and column.startswith(first) else None
        head, rest = halves
        if head != self.head:
            return None
        if self.condition:
            return rest.removeprefix(f"{self.condition}.")
        if self.inner:
            deeper = split_at_first_array(rest)
            return deeper[1] if deeper is not None and deeper[0] == self.inner else None
        return rest


def column(records: str, path: str) -> str:
    """The way back: of every record, side by side with the others."""
    if records.endswith("|@flatten"):
        records = records.removesuffix("|@flatten")
    elif records.endswith("#"):
        return ",".join(f"{records}.{part}" for part in parts_of(path))
    dot = f"{records}." if records else ""
    found = []
    for part in parts_of(path):
        condition = _condition(part)
        rest = part[len(condition) :].removeprefix(".")
        found.append(f"{dot}{condition}#.{rest}" if condition else f"{dot}#.{part}")
    return ",".join(found)


def _condition(rest: str) -> str:
    """``#(type=="x")`` at its begin, where it is not one of several alternatives."""
    if not rest.startswith(_CONDITION) or len(parts_of(rest)) > 1:
        return ""
    end = Scan(rest).group_end(1, len(rest))
    return rest[:end] if end > 0 and rest[end : end + 1] == "." else ""


def first_of(path: str) -> str:
    """The same in the first record alone: ``data.#.id`` → ``data.0.id``."""
    halves = split_at_first_array(path)
    if halves is None:
        return path
    head, rest = halves
    dot = f"{head}." if head else ""
    return ",".join(
        f"{dot}{part}" if part.startswith(_CONDITION) else f"{dot}0.{part}"
        for part in parts_of(rest)
    )


def parts_of(path: str) -> list[str]:
    """Alternatives, apart at the commas that are in no brackets and no quotes."""
    return [path[start:stop].strip() for start, stop in Scan(path).commas(0, len(path))]
