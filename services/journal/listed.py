"""Whether a number or an extension is on a list of those that are not logged. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from shared.phone import MAX_DIGITS, PhoneNumber, parse, spellings

#: In whatever way a number is written, its last digits are the same.
_TAIL = 3
_WITHHELD = "withheld"
_ABROAD = "00"


@dataclass(frozen=True, slots=True)
class _Numbers:
    """
    A list, read once. *by_tail*: numbers by their last digits, so that of 10,000 a call's is
    compared with some ten. *abroad*: beginnings with the country code, *beginnings*: as dialled.
    """

    by_tail: Mapping[str, tuple[str, ...]]
    beginnings: frozenset[str]
    abroad: frozenset[str]
    withheld: bool


@dataclass(frozen=True, slots=True)
class _Phones:
    whole: frozenset[str]
    beginnings: frozenset[str]


def is_number_listed(number: str | None, listed: tuple[str, ...], region: str | None) -> bool:
    """
    Whatever the spelling of the number and of what is listed; without a *region* national numbers
    are those that are written alike. No *number*: it is withheld.
    """
    if not listed:
        return False
    known = _numbers(listed)
    found = _parsed(number or "", region)
    if found.withheld:
        return known.withheld
    if found.e164 and _begins(found.e164[1:], known.abroad):
        return True
    if any(_begins(form, known.beginnings) for form in _as_dialled(found, region)):
        return True
    alike = known.by_tail.get(found.key[-_TAIL:], ())
    return any(_parsed(text, region).key == found.key for text in alike)


def is_phone_listed(extension: str | None, listed: tuple[str, ...]) -> bool:
    """None is nobody's phone."""
    if extension is None or not listed:
        return False
    known = _phones(listed)
    return extension in known.whole or _begins(extension, known.beginnings)


@lru_cache(maxsize=64)
def _numbers(listed: tuple[str, ...]) -> _Numbers:
    by_tail: defaultdict[str, list[str]] = defaultdict(list)
    beginnings: set[str] = set()
    abroad: set[str] = set()
    for text in listed:
        digits = "".join(filter(str.isdigit, text))[:MAX_DIGITS]
        if not text.endswith("*"):
            by_tail[digits[-_TAIL:]].append(text)
        elif text.startswith("+"):
            abroad.add(digits)
        else:
            beginnings.add(digits)
            if digits.startswith(_ABROAD) and digits != _ABROAD:
                abroad.add(digits.removeprefix(_ABROAD))
    return _Numbers(
        by_tail={tail: tuple(texts) for tail, texts in by_tail.items()},
        beginnings=frozenset(beginnings),
        abroad=frozenset(abroad),
        withheld=_WITHHELD in listed,
    )


@lru_cache(maxsize=64)
def _phones(listed: tuple[str, ...]) -> _Phones:
    return _Phones(
        whole=frozenset(text for text in listed if not text.endswith("*")),
        beginnings=frozenset(text[:-1] for text in listed if text.endswith("*")),
    )


def _parsed(text: str, region: str | None) -> PhoneNumber:
    """As :func:`~shared.phone.parse`, and 00 for the plus sign where no region says what it means."""
    found = parse(text, region)
    if found.e164 is None and found.digits.startswith(_ABROAD):
        abroad = parse(f"+{found.digits.removeprefix(_ABROAD)}", region)
        return abroad if abroad.e164 else found
    return found


def _as_dialled(number: PhoneNumber, region: str | None) -> Iterator[str]:
    """As it came, with its country code, and as it is dialled at home."""
    yield number.digits
    if number.e164 is None:
        return
    yield number.e164[1:]
    for home in spellings(number, ("national_digits",)):
        # Of a number of another country it is one that somebody else has here.
        if parse(home, region).e164 == number.e164:
            yield home


def _begins(text: str, beginnings: Collection[str]) -> bool:
    return bool(beginnings) and any(
        text[:length] in beginnings for length in range(1, len(text) + 1)
    )
