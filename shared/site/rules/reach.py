"""
Rows that can never be taken, because earlier ones take all that they would. Pure.

A row is beyond reach when earlier rows took every piece of its condition. What spans or beginnings
take only together (``< 10`` and ``>= 10``) is not looked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

from shared.phone import PhoneNumber, spellings
from shared.site.rules.pieces import (
    AllOfThem,
    Begins,
    Cutter,
    Is,
    IsNot,
    NoneOfThem,
    Piece,
    Pieces,
    There,
    Within,
)
from shared.site.rules.places import is_sure
from shared.site.rules.rule import RoutingRule
from shared.site.rules.spans import Bound, Spans, at
from shared.site.rules.subjects import Ask, Subject
from shared.site.rules.values import Around, Key, Kind, keys_of, kind_of
from shared.site.rules.wording import worded

_ROWS_NAMED = 5


def unreachable(rule: RoutingRule, around: Around) -> Iterator[tuple[int, str]]:
    """
    Their numbers, from 1, each with why. Only earlier rows that lead to a place that is surely
    there take anything. Its time grows with the rows as n log n.
    """
    taken, always = _Taken(around), None
    cutter = Cutter(Subject(Ask.FIELD, rule.field or ""), around)
    for number, row in enumerate(rule.rows, start=1):
        if always is not None:
            yield number, f"row {always} always matches"
            continue
        sure = is_sure(row.destination)
        if row.when is None and row.operator is None:
            always = number if sure else None
            continue
        pieces = cutter.row(row)
        by = taken.by(pieces)
        if by is not None:
            yield number, _why(by, number, rule)
        elif sure:
            taken.add(pieces, number)


def _why(rows: tuple[int, ...], number: int, rule: RoutingRule) -> str:
    match rows:
        case ():
            return f"no value can match {worded(rule.rows[number - 1], rule.field)}"
        case (row,):
            said = worded(rule.rows[row - 1], rule.field)
            return f"row {row} takes all that it would: {said}"
        case (*some, last) if len(rows) <= _ROWS_NAMED:
            return f"rows {', '.join(map(str, some))} and {last} take all that it would"
    return f"rows {', '.join(map(str, rows[:_ROWS_NAMED]))} and others take all that it would"


@dataclass(frozen=True, slots=True)
class _Taken:
    """Piece → the row that took it; where it takes two rows, both."""

    around: Around
    of: dict[Subject, _TakenOf] = field(default_factory=dict)
    several: dict[AllOfThem | NoneOfThem, int] = field(default_factory=dict)

    def by(self, pieces: Pieces) -> tuple[int, ...] | None:
        """Empty for what never holds; None where some of it is left."""
        rows: set[int] = set()
        for piece in pieces:
            if (found := self._by(piece)) is None:
                return None
            rows.update(found)
        return tuple(sorted(rows))

    def _by(self, piece: Piece | AllOfThem | NoneOfThem) -> tuple[int, ...] | None:
        if isinstance(piece, AllOfThem | NoneOfThem):
            if (row := self.several.get(piece)) is not None:
                return (row,)
            parts = piece.parts if isinstance(piece, AllOfThem) else ()
            # One that cannot hold any more is enough; the first, so that it is always the same.
            return min((by for by in map(self.by, parts) if by is not None), default=None)
        known = self.of.get(piece.subject)
        return known.by(piece) if known else None

    def add(self, pieces: Pieces, row: int) -> None:
        for piece in pieces:
            if isinstance(piece, AllOfThem | NoneOfThem):
                self.several.setdefault(piece, row)
            else:
                subject = piece.subject
                self.of.setdefault(subject, _TakenOf(subject, self.around)).add(piece, row)


class _TakenOf:
    """Of one subject."""

    def __init__(self, subject: Subject, around: Around) -> None:
        self._kind, self._around = kind_of(subject), around
        #: Together they take every value.
        self._there: tuple[int, ...] | None = None
        self._rows: dict[Piece, int] = {}
        self._heads: dict[str, int] = {}
        self._lengths: set[int] = set()
        self._spans: dict[str, Spans] = {}

    def by(self, piece: Piece) -> tuple[int, ...] | None:
        if self._there is not None:
            return self._there
        row = self._rows.get(piece)
        if row is None:
            row = self._by_more(piece)
        return None if row is None else (row,)

    def _by_more(self, piece: Piece) -> int | None:
        match piece:
            case Is(_, (type_, bare) as key):
                if (row := self._by_span(type_, at(bare), at(bare))) is not None:
                    return row
                return self._by_head(self._heads_of(key)) if self._heads else None
            case Within(_, type_, low, high):
                return self._by_span(type_, low, high)
            case Begins(_, head):
                return self._by_head((head,))
            case _:
                return None

    def _by_span(self, type_: str, low: Bound, high: Bound) -> int | None:
        spans = self._spans.get(type_)
        return spans.around(low, high) if spans else None

    def _by_head(self, texts: Iterable[str]) -> int | None:
        beginnings = (text[:length] for text in texts for length in self._lengths)
        rows = (self._heads.get(beginning) for beginning in beginnings)
        return min((row for row in rows if row is not None), default=None)

    def add(self, piece: Piece, row: int) -> None:
        self._rows.setdefault(piece, row)
        match piece:
            case There():
                self._there = self._there or (row,)
            case Is(subject, key):
                self._add_opposite(IsNot(subject, key), row)
            case IsNot(subject, key):
                self._add_opposite(Is(subject, key), row)
            case Within(_, type_, low, high):
                self._spans.setdefault(type_, Spans()).add(low, high, row)
            case Begins(_, head):
                self._heads.setdefault(head, row)
                self._lengths.add(len(head))

    def _add_opposite(self, opposite: Piece, row: int) -> None:
        """A value equals or does not: the two take everything."""
        if self._there is None and (other := self._rows.get(opposite)) is not None:
            self._there = (other, row)

    def _heads_of(self, key: Key) -> tuple[str, ...]:
        """Those that every item with the key has, however it is spelled."""
        match key:
            case ("phone", e164) if e164.startswith("+"):
                return spellings(PhoneNumber(e164, e164[1:], e164), ("e164", "national_digits"))
            case ("text", text) if self._kind is not Kind.PHONE:
                # A true is also `yes`, but begins with "t" alone.
                truths = (keys_of(truth, self._kind, self._around) for truth in (True, False))
                return () if key in chain(*truths) else (text,)
            case _:
                return ()
