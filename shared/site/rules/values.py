"""
What comparing means. A value is what was found out (JSON), *wanted* the text that a row says. Pure.

**What is there.** None, blank text, an empty list are no value: every operator is False, ``!=`` too.
Of a list (of lists: one level) one fitting item is enough; ``!=`` is the opposite of ``=``, so no
item may be equal. Of an object its first of `name`, `label`, `title`, `value` counts, as of a lookup.

**What it is.** A finite number of up to 40 characters is a number (``1.50`` is ``1.5``, ``007`` is 7);
an ISO 8601 date or date-time is a moment (without an offset in the zone of `Around`, a date the start
of its day); all else is text, without regard to case, blanks around it and how accents are encoded.
A true is also ``true``, ``yes`` and 1, a false ``false``, ``no`` and 0. A whole number of 10 or 13
digits is also the moment it is in seconds or milliseconds since 1970, as HubSpot has them.

**When types differ** nothing is equal, less or greater: "GOLD" is neither more nor less than 50.
Telephone numbers are equal however they are spelled, and have no order. Times of day do.
"""

from __future__ import annotations

import operator as operators
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from shared.moments import to_duration
from shared.site.rules.conditions import Operator
from shared.site.rules.keys import (
    Around,
    Key,
    Kind,
    dialled_of,
    folded,
    head_of,
    heads_of,
    items_of,
    key_of,
    keys_of,
    kind_of,
    time_of,
)
from shared.site.rules.patterns import compiled
from shared.site.rules.reading import Reading

__all__ = [
    "Around",
    "Comparison",
    "Key",
    "Kind",
    "Reading",
    "check_age",
    "check_wanted",
    "head_of",
    "heads_of",
    "items_of",
    "key_of",
    "keys_of",
    "kind_of",
]

_Fits: TypeAlias = Callable[[Reading, datetime], bool]
_COMPARED: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.LESS: operators.lt,
    Operator.GREATER: operators.gt,
    Operator.LESS_OR_EQUAL: operators.le,
    Operator.GREATER_OR_EQUAL: operators.ge,
}
_DOWN = frozenset({Operator.LESS, Operator.LESS_OR_EQUAL})
_BOTH = 2


@dataclass(frozen=True, slots=True)
class Comparison:
    """Made once, asked for every call. Never raises, whatever the value and the words."""

    operator: Operator
    wanted: tuple[str, ...]
    kind: Kind
    around: Around
    _fits: _Fits = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_fits", self._made())

    def holds(self, value: JsonValue, *, now: datetime) -> bool:
        """Whether *value* is there and fits; *now* is what ages are counted from."""
        return self.fits(Reading(value, self.kind, self.around), now=now)

    def fits(self, value: Reading, *, now: datetime) -> bool:
        """The same of what was read for others too, as for this kind and around here."""
        if not value.items:
            return False
        return self._fits(value, now) is not (self.operator is Operator.NOT_EQUAL)

    def _made(self) -> _Fits:
        if self.operator is Operator.EXISTS:
            return lambda value, now: True
        if not self.wanted:
            return _never
        match self.operator:
            case Operator.EQUAL | Operator.NOT_EQUAL | Operator.IN:
                return self._equal()
            case Operator.CONTAINS:
                return self._contains()
            case Operator.STARTS_WITH:
                return self._starts_with()
            case Operator.MATCHES:
                return self._matches()
            case Operator.BETWEEN:
                return self._between()
            case Operator.OLDER_THAN | Operator.NEWER_THAN:
                return self._aged()
            case _:
                return self._ordered()

    def _equal(self) -> _Fits:
        keys = frozenset(key_of(wanted, self.kind, self.around) for wanted in self.wanted)
        return lambda value, now: not keys.isdisjoint(value.keys)

    def _ordered(self) -> _Fits:
        if self.kind is Kind.PHONE:
            return _never
        compare = _COMPARED[self.operator]
        # Of several items the one that is the likeliest to fit.
        likeliest = 0 if self.operator in _DOWN else -1
        type_, bound = key_of(self.wanted[0], self.kind, self.around)

        def fits(value: Reading, now: datetime) -> bool:
            found = value.bare.get(type_)
            return found is not None and compare(found[likeliest], bound)

        return fits

    def _between(self) -> _Fits:
        kind, around = self.kind, self.around
        if kind is Kind.PHONE or len(self.wanted) != _BOTH:
            return _never
        (type_, low), (high_type, high) = (key_of(wanted, kind, around) for wanted in self.wanted)
        if type_ != high_type:
            return _never
        inside = _outside_in if kind is Kind.TIME and operators.lt(high, low) else _inside

        def fits(value: Reading, now: datetime) -> bool:
            found = value.bare.get(type_)
            return found is not None and inside(found, low, high)

        return fits

    def _starts_with(self) -> _Fits:
        head = head_of(self.wanted[0], self.kind, self.around)
        return (lambda value, now: value.starts_with(head)) if head else _never

    def _contains(self) -> _Fits:
        part = (dialled_of if self.kind is Kind.PHONE else folded)(self.wanted[0])
        return (lambda value, now: value.contains(part)) if part else _never

    def _matches(self) -> _Fits:
        pattern = self.wanted[0]

        def fits(value: Reading, now: datetime) -> bool:
            try:
                # Not kept here: the patterns of all rules share a bounded memory.
                return any(compiled(pattern).search(text) is not None for text in value.searched)
            except ValueError:
                return False

        return fits

    def _aged(self) -> _Fits:
        try:
            age = _age(self.wanted[0])
        except ValueError:
            return _never
        if self.operator is Operator.OLDER_THAN:
            return lambda value, now: bool(value.moments) and now - value.moments[0] > age
        return lambda value, now: bool(value.moments) and now - value.moments[-1] <= age


def _never(value: Reading, now: datetime) -> bool:
    return False


def _inside(found: list[Any], low: Any, high: Any) -> bool:
    place = bisect_left(found, low)
    return place < len(found) and bool(found[place] <= high)


def _outside_in(found: list[Any], low: Any, high: Any) -> bool:
    """Over midnight: *low* is in the evening, *high* in the morning."""
    return bool(found[-1] >= low or found[0] <= high)


def _age(text: str) -> timedelta:
    age = to_duration(text)
    # A bare number would be seconds, which nobody means who says `older_than: 30`.
    if not isinstance(age, timedelta) or text.strip()[-1:].isdigit():
        raise ValueError(f"{text!r:.40} is no age: say 30d, 12h, 15m")
    return age


def check_age(text: str) -> None:
    """Raises: ValueError for what is no length of time."""
    _age(text)


#: Enough to tell which bound is the lower one.
_SOMEWHERE = Around(ZoneInfo("UTC"))


def check_wanted(operator: Operator, wanted: tuple[str, ...], kind: Kind) -> None:
    """
    *wanted* are as many as the operator takes. Raises: ValueError where no value of that kind can
    ever fit.
    """
    ordered = operator is Operator.BETWEEN or operator in _COMPARED
    if ordered and kind is Kind.PHONE:
        raise ValueError(
            f"`{operator}`: telephone numbers have no order; say `starts_with` or `in`"
        )
    if operator is not Operator.MATCHES and any(not text.strip() for text in wanted):
        raise ValueError(f"`{operator}` takes more than blanks: no value is asked for by `exists`")
    equal = operator in {Operator.EQUAL, Operator.NOT_EQUAL, Operator.IN}
    if kind is Kind.TIME and (ordered or equal):
        for text in wanted:
            if time_of(text) is None:
                raise ValueError(f"{text!r:.40} is no time of day: say 09:30")
    elif operator is Operator.BETWEEN:
        (word, low), (high_word, high) = (key_of(text, kind, _SOMEWHERE) for text in wanted)
        if word != high_word:
            raise ValueError(f"`between` takes two of a kind, not a {word} and a {high_word}")
        if operators.gt(low, high):
            raise ValueError(f"`between` takes the lower one first: [{wanted[1]}, {wanted[0]}]")
