"""What the steps of a GJSON path share: nothing found, the budget of one evaluation, wildcards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from shared.crm.language.jsontext import MAX_DEPTH

#: Visits of one evaluation, about a fifth of a second. An answer of 200 records has some 10,000.
MAX_VISITS = 200_000
#: Letters that are looked at for the price of one visit.
_LETTERS = 64


class Nothing(Enum):
    """``MISSING`` does not exist; ``LOST`` is beyond it, where not even a modifier is asked."""

    MISSING = "missing"
    LOST = "lost"


MISSING: Final = Nothing.MISSING
LOST: Final = Nothing.LOST


class Spent(Exception):
    """The evaluation costs more than it may."""


class Budget:
    """How many visits an evaluation has left."""

    __slots__ = ("left",)

    def __init__(self, left: int = MAX_VISITS) -> None:
        self.left = left

    def spend(self, visits: int = 1) -> None:
        """Raises: Spent."""
        self.left -= visits
        if self.left < 0:
            raise Spent

    def spend_on(self, text: str) -> None:
        """Raises: Spent."""
        self.spend(1 + len(text) // _LETTERS)

    def weigh(self, value: Any) -> None:
        """
        Pays for the whole of *value*: what a path puts together may hold one part many times, and
        whoever writes it down would write them all. Raises: Spent, also where it is too deep.
        """
        waiting: list[tuple[Any, int]] = [(value, 0)]
        while waiting:
            inner, depth = waiting.pop()
            if depth > MAX_DEPTH:
                raise Spent
            if isinstance(inner, str):
                self.spend_on(inner)
            else:
                self.spend()
            if is_object(inner):
                for key in inner:
                    self.spend_on(key)
                waiting.extend((child, depth + 1) for child in inner.values())
            elif is_array(inner):
                self.spend(len(inner))
                waiting.extend((child, depth + 1) for child in inner)


def is_object(value: Any) -> bool:
    return isinstance(value, (dict, Mapping))


def is_array(value: Any) -> bool:
    return isinstance(value, (list, tuple))


@dataclass(frozen=True, slots=True)
class _Segment:
    """Letters between two stars. *pieces* stand at their offsets, all else is ``?``."""

    length: int
    pieces: tuple[tuple[int, str], ...]

    def is_at(self, text: str, at: int) -> bool:
        return all(text.startswith(piece, at + offset) for offset, piece in self.pieces)

    def find(self, text: str, at: int, end: int, budget: Budget) -> int:
        """The first place from *at* on, -1 where there is none. Raises: Spent."""
        budget.spend_on(text)
        if not self.pieces:
            return at if at + self.length <= end else -1
        offset, piece = self.pieces[0]
        while at + self.length <= end:
            found = text.find(piece, at + offset, end)
            if found < 0 or found - offset + self.length > end:
                return -1
            at = found - offset
            if self.is_at(text, at):
                return at
            budget.spend(len(self.pieces))
            at += 1
        return -1


@dataclass(frozen=True, slots=True)
class Wild:
    """
    A pattern over a whole text: ``*`` is any letters, ``?`` is one. What stands between two stars
    is taken where it fits first, which is enough: no going back, so the time is linear.
    """

    segments: tuple[_Segment, ...]

    def matches(self, text: str, budget: Budget) -> bool:
        """Raises: Spent."""
        budget.spend_on(text)
        first, last = self.segments[0], self.segments[-1]
        end = len(text) - last.length
        if len(self.segments) == 1:
            return end == 0 and first.is_at(text, 0)
        if first.length > end or not (first.is_at(text, 0) and last.is_at(text, end)):
            return False
        at = first.length
        for segment in self.segments[1:-1]:
            at = segment.find(text, at, end, budget)
            if at < 0:
                return False
            at += segment.length
        return True


#: A letter, and whether it only stands for itself.
Letter = tuple[str, bool]


def wild_of(letters: Iterable[Letter]) -> Wild:
    """A backslash takes the meaning of the letter behind it."""
    segments: list[_Segment] = []
    pieces: list[tuple[int, str]] = []
    length = 0
    is_escaped = False
    for letter, is_plain in letters:
        if letter == "\\" and not (is_plain or is_escaped):
            is_escaped = True
            continue
        if letter == "*" and not (is_plain or is_escaped):
            segments.append(_Segment(length, tuple(pieces)))
            pieces, length = [], 0
            continue
        if letter != "?" or is_plain or is_escaped:
            if pieces and pieces[-1][0] + len(pieces[-1][1]) == length:
                pieces[-1] = (pieces[-1][0], pieces[-1][1] + letter)
            else:
                pieces.append((length, letter))
        length += 1
        is_escaped = False
    segments.append(_Segment(length, tuple(pieces)))
    return Wild(tuple(segments))
