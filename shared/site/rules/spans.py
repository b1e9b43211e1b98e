"""Spans of keys of one type, and which of them holds another. Pure."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from operator import itemgetter
from typing import Any, TypeAlias

from shared.site.rules.conditions import Operator

#: Ordered: ``LOWEST``, then keys, each with just before, at and just after it, then ``HIGHEST``.
Bound: TypeAlias = tuple[Any, ...]
LOWEST: Bound = (-1,)
HIGHEST: Bound = (1,)
Span: TypeAlias = tuple[Bound, Bound]


def at(key: Any) -> Bound:
    return (0, key, 0)


def _before(key: Any) -> Bound:
    return (0, key, -1)


def _after(key: Any) -> Bound:
    return (0, key, 1)


def spans_of(operator: Operator, keys: Sequence[Any], *, over_midnight: bool) -> tuple[Span, ...]:
    """
    What an ordering operator or ``between`` takes; with *over_midnight*, from 22:00 to 06:00 too.
    None: there is nothing between the two.
    """
    first, last = keys[0], keys[-1]
    match operator:
        case Operator.LESS:
            return ((LOWEST, _before(first)),)
        case Operator.LESS_OR_EQUAL:
            return ((LOWEST, at(first)),)
        case Operator.GREATER:
            return ((_after(first), HIGHEST),)
        case Operator.GREATER_OR_EQUAL:
            return ((at(first), HIGHEST),)
        case _ if first <= last:
            return ((at(first), at(last)),)
        case _:
            return ((at(first), HIGHEST), (LOWEST, at(last))) if over_midnight else ()


class Spans:
    """
    With the row of each, in the order of their beginnings; those that lie in another are not kept,
    so that it is the order of their ends too.
    """

    def __init__(self) -> None:
        self._spans: list[tuple[Bound, Bound, int]] = []

    def around(self, low: Bound, high: Bound) -> int | None:
        """The row of one that holds it whole."""
        place = bisect_right(self._spans, low, key=itemgetter(0))
        if place and self._spans[place - 1][1] >= high:
            return self._spans[place - 1][2]
        return None

    def add(self, low: Bound, high: Bound, row: int) -> None:
        if self.around(low, high) is not None:
            return
        first = last = bisect_right(self._spans, low, key=itemgetter(0))
        while last < len(self._spans) and self._spans[last][1] <= high:
            last += 1
        self._spans[first:last] = [(low, high, row)]
