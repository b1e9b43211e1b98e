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
import unicodedata
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
    moments_of,
    text_of,
    time_of,
)
from shared.site.rules.patterns import compiled

__all__ = [
    "Around",
    "Comparison",
    "Key",
    "Kind",
    "check_age",
    "check_wanted",
    "head_of",
    "heads_of",
    "items_of",
    "key_of",
    "keys_of",
    "kind_of",
]

_Fits: TypeAlias = Callable[[JsonValue, datetime], bool]
_COMPARED: dict[Operator, Callable[[Any, Any], bool]] = {
    Operator.LESS: operators.lt,
    Operator.GREATER: operators.gt,
    Operator.LESS_OR_EQUAL: operators.le,
    Operator.GREATER_OR_EQUAL: operators.ge,
}


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
        fits, items = self._fits, items_of(value)
        for item in items:
            if fits(item, now):
                return self.operator is not Operator.NOT_EQUAL
        return self.operator is Operator.NOT_EQUAL and bool(items)

    def _made(self) -> _Fits:
        if self.operator is Operator.EXISTS:
            return lambda item, now: True
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
                return self._ordered(_COMPARED[self.operator])

    def _equal(self) -> _Fits:
        kind, around = self.kind, self.around
        keys = frozenset(key_of(wanted, kind, around) for wanted in self.wanted)
        return lambda item, now: not keys.isdisjoint(keys_of(item, kind, around))

    def _ordered(self, compare: Callable[[Any, Any], bool]) -> _Fits:
        kind, around = self.kind, self.around
        if kind is Kind.PHONE:
            return _never
        word, bound = key_of(self.wanted[0], kind, around)
        return lambda item, now: any(
            key[0] == word and compare(key[1], bound) for key in keys_of(item, kind, around)
        )

    def _between(self) -> _Fits:
        kind, around = self.kind, self.around
        if kind is Kind.PHONE or len(self.wanted) != _BOTH:
            return _never
        ends = tuple(key_of(wanted, kind, around) for wanted in self.wanted)
        (word, low), (high_word, high) = ends
        if word != high_word:
            return _never
        inside = _inside(low, high, over_midnight=kind is Kind.TIME)
        return lambda item, now: any(
            key[0] == word and inside(key[1]) for key in keys_of(item, kind, around)
        )

    def _starts_with(self) -> _Fits:
        kind, around = self.kind, self.around
        head = head_of(self.wanted[0], kind, around)
        if not head:
            return _never
        return lambda item, now: any(
            found.startswith(head) for found in heads_of(item, kind, around)
        )

    def _contains(self) -> _Fits:
        kind, around = self.kind, self.around
        if kind is Kind.PHONE:
            digits = dialled_of(self.wanted[0])
            return lambda item, now: (
                bool(digits)
                and any(
                    digits in shown
                    for shown in (*heads_of(item, kind, around), dialled_of(text_of(item)))
                )
            )
        part = folded(self.wanted[0])
        return lambda item, now: bool(part) and part in folded(text_of(item))

    def _matches(self) -> _Fits:
        kind, around, pattern = self.kind, self.around, self.wanted[0]

        def fits(item: JsonValue, now: datetime) -> bool:
            texts: tuple[str, ...] = (unicodedata.normalize("NFC", text_of(item)),)
            if kind is Kind.PHONE:
                texts += heads_of(item, kind, around)
            try:
                # Not kept here: the patterns of all rules share a bounded memory.
                return any(compiled(pattern).search(text) is not None for text in texts)
            except ValueError:
                return False

        return fits

    def _aged(self) -> _Fits:
        zone = self.around.zone
        try:
            age = _age(self.wanted[0])
        except ValueError:
            return _never
        if self.operator is Operator.OLDER_THAN:
            return lambda item, now: any(now - moment > age for moment in moments_of(item, zone))
        return lambda item, now: any(now - moment <= age for moment in moments_of(item, zone))


_BOTH = 2


def _never(item: JsonValue, now: datetime) -> bool:
    return False


def _inside(low: Any, high: Any, *, over_midnight: bool) -> Callable[[Any], bool]:
    if over_midnight and high < low:
        return lambda found: bool(found >= low or found <= high)
    return lambda found: bool(low <= found <= high)


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
    if operator in {Operator.STARTS_WITH, Operator.CONTAINS} and not wanted[0].strip():
        raise ValueError(f"`{operator}` takes more than blanks")
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
