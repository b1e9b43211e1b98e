"""An index of rows that are one test each over one subject. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from datetime import datetime
from heapq import merge
from typing import Generic, TypeAlias, TypeVar

from shared.site.rules.conditions import Operator
from shared.site.rules.spans import Bound, at, spans_of
from shared.site.rules.values import (
    Around,
    Comparison,
    Key,
    Kind,
    Reading,
    head_of,
    key_of,
)

_ORDERS = frozenset(
    {
        Operator.LESS,
        Operator.LESS_OR_EQUAL,
        Operator.GREATER,
        Operator.GREATER_OR_EQUAL,
        Operator.BETWEEN,
    }
)
#: A row's number, its operator and the values that it wants.
Tested: TypeAlias = tuple[int, Operator, tuple[str, ...]]


class Index:
    """
    *rows* come in their order. Keys and beginnings are looked up, spans of keys searched by halves;
    what is left (``contains``, ``matches``, ``!=``, ``exists``, ages) is tried in turn, but only
    before the first row that is found otherwise.
    """

    def __init__(self, rows: Iterable[Tested], kind: Kind, around: Around) -> None:
        self._kind, self._around = kind, around
        self._equal: _Places[Key] = _Places()
        self._heads: _Places[str] = _Places()
        #: Of the heads, in characters.
        self._lengths: tuple[int, ...] = ()
        tried: list[tuple[int, Comparison]] = []
        lengths: set[int] = set()
        spans: defaultdict[str, list[tuple[int, Bound, Bound]]] = defaultdict(list)
        for number, operator, wanted in rows:
            match operator:
                case Operator.EQUAL | Operator.IN:
                    for text in wanted:
                        self._equal.add(key_of(text, kind, around), number)
                case Operator.STARTS_WITH:
                    # With blanks nothing starts.
                    if head := head_of(wanted[0], kind, around):
                        self._heads.add(head, number)
                        lengths.add(len(head))
                case _ if operator in _ORDERS:
                    for type_, low, high in self._spans_of(operator, wanted):
                        spans[type_].append((number, low, high))
                case _:
                    tried.append((number, Comparison(operator, wanted, kind, around)))
        self._tried, self._lengths = tuple(tried), tuple(sorted(lengths))
        self._spanned = {type_: _Spanned(of_type) for type_, of_type in spans.items()}

    def matching(self, value: Reading, now: datetime) -> Iterator[int]:
        """
        Numbers of the rows that are true, in their order. Lazy; after the first one with a span,
        the others with one are tried in turn.
        """
        if not value.items:
            return
        found = self._found(value)
        best = next(found, None)
        for number, comparison in self._tried:
            while best is not None and best < number:
                yield best
                best = next(found, None)
            if comparison.fits(value, now=now):
                yield number
        if best is not None:
            yield best
            yield from found

    def _found(self, value: Reading) -> Iterator[int]:
        """Of those that need not be tried."""
        ways: list[Iterator[int]] = []
        if self._equal:
            ways += (self._equal.rows(key) for key in value.keys if key in self._equal)
        if self._heads:
            ways += (self._heads.rows(head) for head in self._beginnings(value))
        for type_, spanned in self._spanned.items():
            if of_type := value.bare.get(type_):
                ways.append(spanned.rows([at(bare) for bare in of_type]))
        return _once(ways[0] if len(ways) == 1 else merge(*ways))

    def _beginnings(self, value: Reading) -> set[str]:
        """Heads that are wanted by some row."""
        return {
            text[:length]
            for text in value.heads
            for length in self._lengths
            if length <= len(text) and text[:length] in self._heads
        }

    def _spans_of(
        self, operator: Operator, wanted: tuple[str, ...]
    ) -> Iterator[tuple[str, Bound, Bound]]:
        if self._kind is Kind.PHONE:  # those have no order
            return
        keys = [key_of(text, self._kind, self._around) for text in wanted]
        if len({key[0] for key in keys}) == 1:
            ends, over = [key[1] for key in keys], self._kind is Kind.TIME
            for low, high in spans_of(operator, ends, over_midnight=over):
                yield keys[0][0], low, high


def _once(numbers: Iterator[int]) -> Iterator[int]:
    """Without those that come again, as of ``in [GOLD, SILVER]`` when the value is both."""
    last = 0
    for number in numbers:
        if number != last:
            yield number
        last = number


_K = TypeVar("_K", bound=Hashable)


class _Places(Generic[_K]):
    """Key → the rows that want it, in their order."""

    def __init__(self) -> None:
        # Few keys are wanted twice, and a list for each would be half of the memory.
        self._first: dict[_K, int] = {}
        self._again: dict[_K, list[int]] = {}

    def __bool__(self) -> bool:
        return bool(self._first)

    def __contains__(self, key: _K) -> bool:
        return key in self._first

    def add(self, key: _K, number: int) -> None:
        """*number* is not lower than those before."""
        if self._first.setdefault(key, number) != number:
            again = self._again.setdefault(key, [])
            if not again or again[-1] != number:
                again.append(number)

    def rows(self, key: _K) -> Iterator[int]:
        """Of a key that is there."""
        yield self._first[key]
        yield from self._again.get(key, ())


class _Spanned:
    """Rows that want a key of one type within a span; rows in their order."""

    def __init__(self, spans: Sequence[tuple[int, Bound, Bound]]) -> None:
        self._spans = spans
        self._bounds = sorted({bound for _, *bounds in spans for bound in bounds})
        #: Of each bound, and of what lies behind it until the next: where its first span is.
        self._firsts = [len(spans)] * (2 * len(self._bounds))
        places = {bound: place for place, bound in enumerate(self._bounds)}
        # Where to look for one that no span has yet: each is painted once, by the first.
        free = list(range(len(self._firsts) + 1))
        for span, (_, low, high) in enumerate(spans):
            place, last = _free_from(2 * places[low], free), 2 * places[high]
            while place <= last:
                self._firsts[place] = span
                free[place] = place + 1
                place = _free_from(place, free)

    def rows(self, keys: Sequence[Bound]) -> Iterator[int]:
        """One key within is enough; *keys* are in their order."""
        for place in range(min(map(self._first, keys)), len(self._spans)):
            number, low, high = self._spans[place]
            nearest = bisect_left(keys, low)
            if nearest < len(keys) and keys[nearest] <= high:
                yield number

    def _first(self, key: Bound) -> int:
        behind = bisect_left(self._bounds, key)
        if behind < len(self._bounds) and self._bounds[behind] == key:
            return self._firsts[2 * behind]
        return self._firsts[2 * behind - 1] if behind else len(self._spans)


def _free_from(place: int, free: list[int]) -> int:
    while free[place] != place:
        free[place] = place = free[free[place]]
    return place
