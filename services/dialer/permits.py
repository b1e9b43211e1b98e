"""
Whether a number may be dialled by a click, and as what it is dialled. Pure.

What was checked is what is dialled: a number outside in E.164, however it was spelt, so that the
PBX cannot read another number in it than we did.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from shared.errors import ContractError, Forbidden
from shared.phone import (
    country_of,
    hides_emergency,
    is_emergency,
    is_short_code,
    kind_of,
    number_to_dial,
    plain_number,
)
from shared.site.dialing import DialPolicy
from shared.site.models import Site


class Why(StrEnum):
    """Why a dial was refused; what the refused ones are counted by."""

    NO_AGENT = "no_agent"
    NO_NUMBER = "no_number"
    OWN_PHONE = "own_phone"
    EMERGENCY = "emergency"
    SHORT_CODE = "short_code"
    BLOCKED = "blocked"
    COUNTRY = "country"
    INTERNATIONAL = "international"
    KIND = "kind"
    CALLER_ID = "caller_id"
    DIALLING = "dialling"
    OTHER_ORDER = "other_order"
    TOO_LATE = "too_late"
    PER_MINUTE = "per_minute"
    PER_HOUR = "per_hour"
    PER_DAY = "per_day"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class Permit:
    """*number* as the PBX dials it; *inside*: a phone of the site."""

    number: str
    inside: bool


def permit(text: str, *, extension: str, site: Site) -> Permit:
    """
    What dialling *text* from *extension* means.

    Emergency numbers are never dialled by a click: help is called by hand, from the phone at
    hand. So not even as an extension of the site. Other short codes are for `allow` no numbers.

    Raises: ContractError for what is no number, Forbidden for what the policy refuses; both with
    ``why``, and both without the number: it comes from outside.
    """
    plain, region = plain_number(text), site.region
    if plain is None:
        raise ContractError(
            "number: a number to dial is 2 to 20 digits, with a plus sign in front if need be",
            why=Why.NO_NUMBER,
        )
    if is_emergency(plain, region):
        raise _emergency()
    if site.agent_at(plain) is not None:
        if plain == extension:
            raise ContractError("number: this is the phone that rings first", why=Why.OWN_PHONE)
        return Permit(plain, inside=True)
    e164 = number_to_dial(plain, region)
    if e164 is None:
        raise _no_number(plain, region)
    if hides_emergency(e164):
        raise _emergency()
    _check(e164, site.dialing, region)
    return Permit(e164, inside=False)


def longest(prefixes: Iterable[str], e164: str) -> str | None:
    """The longest that *e164* begins with."""
    fitting = (prefix for prefix in prefixes if e164.startswith(prefix.removesuffix("*")))
    return max(fitting, key=lambda prefix: len(prefix.removesuffix("*")), default=None)


def _no_number(plain: str, region: str | None) -> ContractError | Forbidden:
    if is_emergency(plain, region, begins=True):
        return _emergency()
    if is_short_code(plain, region):
        return Forbidden(
            f"Short codes of {region} are not dialled by a click; dial it by hand.",
            why=Why.SHORT_CODE,
        )
    say = "say it with a plus sign and the country code"
    if plain.startswith("+"):
        wrong = "it has not as many digits as numbers of its country have"
    elif region is None:
        wrong = f"{say}, or set the tenant's `region`, of which national numbers are"
    else:
        wrong = f"it is none of {region}; {say}"
    return ContractError(f"number: this number cannot be dialled: {wrong}", why=Why.NO_NUMBER)


def _emergency() -> Forbidden:
    return Forbidden(
        "Emergency numbers are not dialled by a click; dial it by hand.", why=Why.EMERGENCY
    )


def _check(e164: str, policy: DialPolicy, region: str | None) -> None:
    """Raises: Forbidden."""
    allowed, blocked = longest(policy.allow, e164) or "", longest(policy.block, e164) or ""
    if len(blocked.removesuffix("*")) >= len(allowed.removesuffix("*")) and blocked:
        raise Forbidden(f"This number is blocked: `dialing.block` has {blocked}.", why=Why.BLOCKED)
    if allowed:
        return
    country = country_of(e164)
    if policy.countries and country not in policy.countries:
        raise Forbidden(
            f"This number is of {_named(country)}: `dialing.countries` has "
            f"{', '.join(policy.countries)}.",
            why=Why.COUNTRY,
        )
    if not policy.international and (region is None or country != region):
        home = f"and the tenant's `region` is {region}" if region else "and no `region` is set"
        raise Forbidden(
            f"This number is of {_named(country)}: `dialing.international` is off, {home}.",
            why=Why.INTERNATIONAL,
        )
    kind = kind_of(e164)
    if kind in {blocked_kind.value for blocked_kind in policy.block_kinds}:
        raise Forbidden(
            f"This is a {str(kind).replace('_', '-')} number: `dialing.block_kinds` has {kind}.",
            why=Why.KIND,
        )


def _named(country: str | None) -> str:
    return country or "no country"
