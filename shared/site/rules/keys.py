"""
What a value is: its items, the keys by which items are equal and in order, the heads with which they
start. What that means to a rule is said in `values`. Pure.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from enum import Enum
from itertools import chain, islice
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from shared.moments import from_ms
from shared.phone import PhoneNumber, parse, spellings
from shared.site.rules.patterns import LONGEST_TEXT
from shared.site.rules.subjects import Ask, Subject

#: Told apart by the first word: number, moment, telephone number, text. Equal keys, equal values.
Key: TypeAlias = (
    tuple[Literal["number"], Decimal]
    | tuple[Literal["moment"], datetime]
    | tuple[Literal["phone"], str]
    | tuple[Literal["text"], str]
)
#: Of a list, those that are looked at; together they are no longer than one text may be, but for
#: the last.
MOST_ITEMS = 1000
#: Accents upon one letter: Unicode's "stream-safe" text has no more. To put them in order takes as
#: long as their number squared.
_MOST_ACCENTS = 30
#: A number of more digits is no number that anybody compares.
_LONGEST_NUMBER = 40
_LONGEST_PHONE = 64
_NAMES_OF_AN_OBJECT = ("name", "label", "title", "value")
_YES: tuple[Key, ...] = (("text", "true"), ("text", "yes"), ("number", Decimal(1)))
_NO: tuple[Key, ...] = (("text", "false"), ("text", "no"), ("number", Decimal(0)))
_MOMENT = re.compile(
    r"\d{4}-\d\d-\d\d([Tt ]\d\d:\d\d(:\d\d([.,]\d{1,9})?)?( ?([Zz]|[+-]\d\d(:?\d\d)?))?)?", re.ASCII
)
#: Dynamics CRM 2015.
_MS_DATE = re.compile(r"/Date\((-?\d{1,15})([+-]\d{4})?\)/", re.ASCII)
#: Seconds, milliseconds.
_EPOCH = re.compile(r"[1-9]\d{9}(\d{3})?", re.ASCII)
_TIME = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(:[0-5]\d)?|24:00", re.ASCII)
_NO_PHONE = re.compile(r"[^\W\d_]|[*#]")
_NO_DIGIT = re.compile(r"[^\d+]")


class Kind(Enum):
    """How values of a subject are read."""

    VALUE = "value"
    PHONE = "phone"
    #: ``between 22:00 and 06:00`` goes over midnight.
    TIME = "time"


def kind_of(subject: Subject) -> Kind:
    if subject.is_number:
        return Kind.PHONE
    return Kind.TIME if subject.ask is Ask.TIME else Kind.VALUE


@dataclass(frozen=True, slots=True)
class Around:
    """*zone* is that of dates without one, *region* that of national telephone numbers."""

    zone: ZoneInfo
    region: str | None = None


def items_of(value: JsonValue) -> list[JsonValue]:
    """Texts, numbers, truths; none where there is no value."""
    if isinstance(value, str):
        return [value] if value.strip() else []
    if isinstance(value, list):
        flat = chain.from_iterable(
            item if isinstance(item, list) else (item,) for item in value[:MOST_ITEMS]
        )
        found: list[JsonValue] = []
        left = LONGEST_TEXT
        for item in islice(flat, MOST_ITEMS):
            if left > 0 and (one := _one(item)) is not None:
                found.append(one)
                left -= len(one) if isinstance(one, str) else 1
        return found
    return [] if (one := _one(value)) is None else [one]


def _one(item: JsonValue) -> JsonValue:
    if isinstance(item, dict):
        named = (item.get(name) for name in _NAMES_OF_AN_OBJECT)
        scalars = (value for value in named if not isinstance(value, dict))
        return next((one for value in scalars if (one := _one(value)) is not None), None)
    if isinstance(item, list) or (isinstance(item, str) and not item.strip()):
        return None
    return item


def key_of(wanted: str, kind: Kind, around: Around) -> Key:
    """That of what a row says; a value is equal when it is among `keys_of` it."""
    return keys_of(wanted, kind, around)[0]


def keys_of(item: JsonValue, kind: Kind, around: Around) -> tuple[Key, ...]:
    """Of one item; what it is first comes first. None of lists and objects."""
    if isinstance(item, str):
        text = item[:LONGEST_TEXT].strip()
    elif item is None or isinstance(item, list | dict):
        return ()
    elif isinstance(item, bool) and kind is Kind.VALUE:
        return _YES if item else _NO
    else:
        text = text_of(item)
    if kind is Kind.PHONE:
        phone = _phone(text, around)
        return (("text", folded(text)),) if phone is None else (("phone", phone.key),)
    if kind is Kind.TIME:
        return (("text", time_of(text) or folded(text)),)
    # Most values are words, and are no number at first sight.
    first = text[:1]
    if first.isdigit() or (first and first in "+-./"):
        if (number := _number(text)) is not None:
            return (("number", number), *_moments(_epoch(text)))
        if moment := _moments(_moment(text, around.zone)):
            return moment
    return (("text", folded(text)),)


def head_of(wanted: str, kind: Kind, around: Around) -> str:
    """
    What `starts_with` looks for at the beginning of one of `heads_of` a value. Empty for blanks,
    with which nothing starts.
    """
    if kind is Kind.PHONE:
        dialled = dialled_of(wanted)
        return f"+{dialled[2:]}" if dialled.startswith("00") else dialled
    return (time_of(wanted) if kind is Kind.TIME else None) or folded(wanted)


def heads_of(item: JsonValue, kind: Kind, around: Around) -> tuple[str, ...]:
    """
    The folded text; of a telephone number ``+4420…``, ``020…`` and the digits as the PBX shows
    them, with + for 00.
    """
    text = text_of(item)
    head = head_of(text, kind, around)
    if kind is Kind.PHONE and (phone := _phone(text, around)) is not None and phone.e164:
        return tuple(dict.fromkeys((*spellings(phone, ("e164", "national_digits")), head)))
    return (head,)


def moments_of(item: JsonValue, zone: ZoneInfo) -> tuple[datetime, ...]:
    """The moment that an item is, if it is one."""
    keys = keys_of(item, Kind.VALUE, Around(zone))
    return tuple(key[1] for key in keys if key[0] == "moment")


def text_of(item: JsonValue) -> str:
    """Of one item, without blanks around it, and no longer than anybody compares."""
    if isinstance(item, str):
        return item[:LONGEST_TEXT].strip()
    if isinstance(item, bool):
        return "true" if item else "false"
    if not isinstance(item, int | float):
        return ""
    try:
        return str(item)
    except ValueError:  # Python writes no number of thousands of digits.
        return ""


def folded(text: str) -> str:
    """As texts are compared: without regard to case, runs of blanks as one."""
    text = " ".join(text.split())
    if text.isascii():
        return text.lower()
    # Unicode's canonical caseless matching (D145), in composed form: "cafe" is not in "café".
    decomposed = unicodedata.normalize("NFD", stream_safe(text))
    return unicodedata.normalize("NFC", decomposed.casefold())


def stream_safe(text: str) -> str:
    """Without the accents that are too many for one letter."""
    if text.isascii() or len(text) <= _MOST_ACCENTS:
        return text
    kept, accents = [], 0
    for character in text:
        accents = accents + 1 if unicodedata.combining(character) else 0
        if accents <= _MOST_ACCENTS:
            kept.append(character)
    return "".join(kept)


def _number(text: str) -> Decimal | None:
    # Decimal takes underscores, which no CRM means.
    if len(text) > _LONGEST_NUMBER or "_" in text:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _moments(moment: datetime | None) -> tuple[Key, ...]:
    return () if moment is None else (("moment", moment),)


def _epoch(text: str) -> datetime | None:
    found = _EPOCH.fullmatch(text)
    return found and from_ms(int(text) if found[1] else int(text) * 1000)


def _moment(text: str, zone: ZoneInfo) -> datetime | None:
    try:
        if found := _MS_DATE.fullmatch(text):
            return from_ms(int(found[1]))
        if not _MOMENT.fullmatch(text):
            return None
        moment = datetime.fromisoformat(text.upper().replace(" ", "T", 1).replace(" ", ""))
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(UTC)
    except (ValueError, OverflowError):  # 30 February; no date of the calendar in UTC
        return None


def time_of(text: str) -> str | None:
    """``9:30`` as ``09:30``, so that the order of texts is that of the day; None for no time."""
    if not (found := _TIME.fullmatch(text.strip())):
        return None
    if found[1] is None:  # the day's end
        return found[0]
    seconds = "" if found[3] in {None, ":00"} else found[3]
    return f"{found[1]:0>2}:{found[2]}{seconds}"


def _phone(text: str, around: Around) -> PhoneNumber | None:
    """None for what is none: a word, a code with a star."""
    if len(text) > _LONGEST_PHONE or _NO_PHONE.search(text):
        return None
    phone = parse(text, around.region)
    return None if phone.withheld else phone


def dialled_of(text: str) -> str:
    """Digits and plus sign; the folded text of what is no telephone number."""
    text = text.strip()
    if _NO_PHONE.search(text):
        return folded(text)
    return _NO_DIGIT.sub("", text.replace("(0)", "") if "+" in text else text) or folded(text)
