"""
Phone numbers: what a PBX shows, what a CRM may hold, whether the two are the same.

PBXs and CRMs write one number in many ways. A number is kept as it came (*digits*) and, where
the `phonenumbers` metadata accepts it, as E.164. A CRM that compares text has to be asked for
every spelling under which it may have stored the number: :func:`spellings` makes them.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import phonenumbers
from phonenumbers import PhoneNumberFormat, PhoneNumberType, ValidationResult, shortnumberinfo

#: A caller who hides, in the words of Asterisk, SIP and the vendors' hooks.
_WITHHELD = frozenset(
    {"", "anonymous", "unknown", "<unknown>", "private", "restricted", "unavailable", "withheld"}
)
_NAMED_FORMATS = (
    "digits",
    "e164",
    "e164_digits",
    "zeros",
    "national",
    "national_digits",
    "international",
    "nsn",
)
_LAST = re.compile(r"^last:([4-9]|1[0-5])$")
_PATTERN = re.compile(r"^[*() +./-]*\*[*() +./-]*$")
#: ITU-T E.164 allows 15 digits; prefixes of a trunk come on top.
MAX_DIGITS = 20
_PLAIN = re.compile(r"^\+?[0-9]{2,20}$", re.ASCII)
#: Beside spaces, dashes and marks that cannot be seen (a phone book copies them along).
_PUNCTUATION = frozenset("()./\u2212\t")
_SCHEME = re.compile(r"^\s*tel:", re.IGNORECASE)
#: Where the region is not known: GSM phones take these for emergencies everywhere.
_EMERGENCIES_ANYWHERE = frozenset({"112", "911"})
#: Fewer digits behind the country code are nobody's whole number.
_SHORTEST_NSN = 4


@dataclass(frozen=True, slots=True)
class PhoneNumber:
    """*digits* has no punctuation; *e164* is None for what is no valid number of its region."""

    raw: str
    digits: str
    e164: str | None

    @property
    def withheld(self) -> bool:
        return not self.digits

    @property
    def key(self) -> str:
        """One text per number, whatever its spelling: what caches and locks are keyed by."""
        return self.e164 or self.digits

    def __str__(self) -> str:
        return self.key or "withheld"


_Candidate = tuple[str, str | None, Callable[[phonenumbers.PhoneNumber], bool]]


@lru_cache(maxsize=8192)
def parse(raw: str, region: str | None) -> PhoneNumber:
    """
    Never raises: what cannot be read as a number has no digits.

    *region* is an ISO 3166 country (``GB``) in which national numbers are read.
    """
    text = raw.strip()
    if text.lower() in _WITHHELD:
        return PhoneNumber(raw, "", None)
    digits = phonenumbers.normalize_digits_only(text)[:MAX_DIGITS]
    # The metadata lags behind new ranges, so a number that shows what it is (a trunk zero, or a
    # country code, with which PBXs often drop the plus sign) need only have a possible length.
    trunk_zero = digits.startswith("0")
    for candidate, default, accept in (
        *_with_its_country_code(text, digits, region),
        (text, region, phonenumbers.is_valid_number),
        (f"+{digits}", None, phonenumbers.is_possible_number),
        (text, region if trunk_zero else None, phonenumbers.is_possible_number),
    ):
        try:
            number = phonenumbers.parse(candidate, default)
        except phonenumbers.NumberParseException:
            continue
        if accept(number):
            return PhoneNumber(
                raw, digits, phonenumbers.format_number(number, PhoneNumberFormat.E164)
            )
    return PhoneNumber(raw, digits, None)


def _with_its_country_code(text: str, digits: str, region: str | None) -> list[_Candidate]:
    """``4915123456789`` in Germany may be of area 04915; a plus sign that was dropped is likelier."""
    code = phonenumbers.country_code_for_region(region) if region else 0
    if code and not text.startswith("+") and digits.startswith(str(code)):
        return [(f"+{digits}", None, phonenumbers.is_valid_number)]
    return []


def same_number(one: str, other: str, region: str | None) -> bool:
    """Whether two spellings mean one number; a withheld number is nobody's."""
    first, second = parse(one, region), parse(other, region)
    if first.withheld or second.withheld:
        return False
    if first.e164 and second.e164:
        return first.e164 == second.e164
    return first.digits == second.digits


@lru_cache(maxsize=8192)
def country_of(e164: str) -> str | None:
    """
    ISO 3166 country of an E.164 number. Of a range that the metadata does not know yet it is the
    main country of the calling code; None where there is no such code.
    """
    try:
        number = phonenumbers.parse(e164)
    except phonenumbers.NumberParseException:
        return None
    known = phonenumbers.region_code_for_number(number)
    known = known or phonenumbers.region_code_for_country_code(number.country_code or 0)
    # "001" is what no country has: freephone and such; "ZZ" what nobody knows.
    return known if known not in {"001", "ZZ"} else None


# -- numbers that somebody wants dialled ----------------------------------------------------------


def plain_number(text: str) -> str | None:
    """
    2 to 20 digits, with a plus sign in front where there was one: spaces, punctuation and ``tel:``
    are taken out, digits of any script are ours. None for anything else: letters, ``*``, ``;ext=``.
    """
    found = []
    for mark in unicodedata.normalize("NFKC", _SCHEME.sub("", text)):
        if mark in _PUNCTUATION or unicodedata.category(mark) in {"Zs", "Cf", "Pd"}:
            continue
        digit = unicodedata.decimal(mark, None)
        found.append(mark if digit is None else str(digit))
    plain = "".join(found)
    return plain if _PLAIN.fullmatch(plain) else None


@lru_cache(maxsize=8192)
def number_to_dial(plain: str, region: str | None) -> str | None:
    """
    E.164 of what :func:`plain_number` made, None where it is no whole number. Stricter than
    :func:`parse`, which reads what a PBX shows: a guess would ring a stranger.

    With a plus sign, or an international or trunk prefix, a possible length is enough: the metadata
    lags behind new ranges. Without, it has to be a number that is given out; or one with its
    country code that is no possible number at home.
    """
    abroad = _parsed(f"+{plain.removeprefix('+')}", None)
    if plain.startswith("+"):
        return _e164(abroad) if _accepted(abroad, possible=True) else None
    home = _parsed(plain, region) if region else None
    if home is None:
        return _e164(abroad) if _accepted(abroad, possible=False) else None
    code = str(phonenumbers.country_code_for_region(region or ""))
    if plain.startswith(code) and _accepted(abroad, possible=False):
        return _e164(abroad)  # it may be an area at home too; a plus that was dropped is likelier
    # A trunk zero, an international prefix (00, 011), or its own country code.
    shown = plain.startswith("0") or str(home.country_code) != code or home == abroad
    if _accepted(home, possible=shown):
        return _e164(home)
    can_be_home = _accepted(home, possible=True)
    return _e164(abroad) if _accepted(abroad, possible=not can_be_home) else None


def _parsed(text: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        return phonenumbers.parse(text, region)
    except phonenumbers.NumberParseException:
        return None


def _accepted(number: phonenumbers.PhoneNumber | None, *, possible: bool) -> bool:
    if number is None:
        return False
    length = phonenumbers.is_possible_number_with_reason(number)
    return phonenumbers.is_valid_number(number) or (
        possible and length == ValidationResult.IS_POSSIBLE
    )


def _e164(number: phonenumbers.PhoneNumber | None) -> str | None:
    """None also for what reads as another number the next time: zeros in front of zeros."""
    if number is None:
        return None
    text: str = phonenumbers.format_number(number, PhoneNumberFormat.E164)
    return text if _parsed(text, None) == number else None


def is_emergency(plain: str, region: str | None, *, begins: bool = False) -> bool:
    """Whether it calls for help there. *begins*: also where digits that follow are ignored."""
    if region is None or plain.startswith("+"):
        return plain in _EMERGENCIES_ANYWHERE
    asked = shortnumberinfo.connects_to_emergency_number
    return bool((asked if begins else shortnumberinfo.is_emergency_number)(plain, region))


def hides_emergency(e164: str) -> bool:
    """
    ``+49 0112``: a possible length, and a PBX that takes the country code or a zero for the line
    away calls for help.
    """
    number = _parsed(e164, None)
    if number is None or phonenumbers.is_valid_number(number):
        return False
    digits = str(number.national_number)
    regions = phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(number.country_code or 0, ())
    return any(
        shortnumberinfo.is_emergency_number(digits, region)
        for region in regions
        if region in phonenumbers.SUPPORTED_REGIONS
    )


def is_short_code(plain: str, region: str | None) -> bool:
    """A number of a network's own, that is none abroad: directory services, 116 117."""
    if region is None or plain.startswith("+"):
        return False
    number = _parsed(plain, region)
    if number is None:
        return False
    return bool(shortnumberinfo.is_valid_short_number_for_region(number, region))


@lru_cache(maxsize=8192)
def kind_of(e164: str) -> str | None:
    """
    ``premium``, ``shared_cost``, ``satellite``, ``personal``, ``pager``; None: of no such kind.

    Digits at the end that are too many change nothing: the network ignores them, and a premium
    number would pass for one that nobody knows.
    """
    number = _parsed(e164, None)
    if number is None:
        return None
    code = str(number.country_code)
    if code in _KINDS_BY_CODE:
        return _KINDS_BY_CODE[code]
    for end in range(len(e164), len(code) + _SHORTEST_NSN, -1):
        shorter = _parsed(e164[:end], None)
        if shorter is not None and phonenumbers.is_valid_number(shorter):
            return _KINDS.get(phonenumbers.number_type(shorter))
    return None


_KINDS = {
    PhoneNumberType.PREMIUM_RATE: "premium",
    PhoneNumberType.SHARED_COST: "shared_cost",
    PhoneNumberType.PERSONAL_NUMBER: "personal",
    PhoneNumberType.PAGER: "pager",
}
#: Inmarsat, the global satellite networks, networks of no country (Thuraya among them), and
#: universal personal numbers; the metadata calls them mobile or VoIP. ITU-T E.164, list of codes.
_KINDS_BY_CODE = {
    "870": "satellite",
    "881": "satellite",
    "882": "satellite",
    "883": "satellite",
    "878": "personal",
}


def is_region(text: str) -> bool:
    """Whether it is an ISO 3166 country of which national numbers are known."""
    return text in phonenumbers.SUPPORTED_REGIONS


def valid_format(text: str) -> bool:
    """A named format, ``last:7``, or a pattern in which each ``*`` is a digit: ``***-***-****``."""
    return text in _NAMED_FORMATS or bool(_LAST.fullmatch(text) or _PATTERN.fullmatch(text))


def spellings(number: PhoneNumber, formats: Iterable[str]) -> tuple[str, ...]:
    """
    The number in each of *formats* that fits it, without repeats, in their order.

    ``digits``: as the PBX gave it. ``e164``, ``e164_digits`` (without the plus sign), ``zeros``
    (00 in its place), ``national``, ``national_digits`` (with the trunk zero where the country has
    one), ``international``, ``nsn`` (national significant number, digits only): valid numbers only.
    ``last:7``: the last seven digits of that, of any number that has as many. A pattern fits a
    number of as many digits as it has stars: the number as given, else its national significant
    number.
    """
    found: dict[str, None] = {}
    for wanted in formats:
        if text := _spell(number, wanted):
            found.setdefault(text)
    return tuple(found)


def _spell(number: PhoneNumber, wanted: str) -> str | None:
    if wanted == "digits":
        return number.digits or None
    if wanted in _NAMED_FORMATS:
        return _valid_forms(number.e164)[wanted] if number.e164 else None
    if last := _LAST.fullmatch(wanted):
        digits = _valid_forms(number.e164)["nsn"] if number.e164 else number.digits
        return digits[-int(last[1]) :] if len(digits) >= int(last[1]) else None
    stars = wanted.count("*")
    candidates = [number.digits]
    if number.e164:
        candidates.append(_valid_forms(number.e164)["nsn"])
    for digits in candidates:
        if len(digits) == stars:
            return "{}".join(wanted.split("*")).format(*digits)
    return None


@lru_cache(maxsize=8192)
def _valid_forms(e164: str) -> dict[str, str]:
    number = phonenumbers.parse(e164)
    national = phonenumbers.format_number(number, PhoneNumberFormat.NATIONAL)
    return {
        "e164": e164,
        "e164_digits": e164[1:],
        "zeros": f"00{e164[1:]}",
        "national": national,
        "national_digits": phonenumbers.normalize_digits_only(national),
        "international": phonenumbers.format_number(number, PhoneNumberFormat.INTERNATIONAL),
        "nsn": phonenumbers.national_significant_number(number),
    }
