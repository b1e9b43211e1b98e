"""Which of the tenant's own numbers the customer sees. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.dialer.permits import Why
from shared.errors import Forbidden
from shared.phone import number_to_dial, plain_number
from shared.site.dialing import OwnNumbers


@dataclass(frozen=True, slots=True)
class Shown:
    """*number* None: as the PBX does by itself. *shop*: by the site's name for it, where known."""

    number: str | None
    shop: str | None


def shown(
    numbers: OwnNumbers,
    *,
    extension: str,
    campaign: str | None,
    shop: str | None,
    caller_id: str | None,
    region: str | None,
) -> Shown:
    """
    The campaign's, the shop's, the one asked for, the agent's, the default: the first there is.

    A CRM may name its shop by the number that it knows of it (retailCRM's ``externalPhone``): such
    a *shop* is the one that has it, or that own number. One that nobody knows is no fault: a click
    shall dial.

    Raises: Forbidden for a *caller_id* that is none of the tenant's numbers.
    """
    asked = _own(numbers, caller_id, region) if caller_id else None
    if caller_id and asked is None:
        raise Forbidden(
            "caller_id: this is none of the tenant's own numbers; they are in `dialing.numbers`",
            why=Why.CALLER_ID,
        )
    of_shop = numbers.shops.get(shop) if shop else None
    if shop and of_shop is None:
        of_shop = _own(numbers, shop, region)
        named = (name for name, number in numbers.shops.items() if number == of_shop)
        shop = next(named, shop)
    number = (
        (numbers.campaigns.get(campaign) if campaign else None)
        or of_shop
        or asked
        or numbers.of(extension)
    )
    return Shown(number, shop)


def _own(numbers: OwnNumbers, text: str, region: str | None) -> str | None:
    """The own number that *text* spells."""
    plain = plain_number(text)
    e164 = number_to_dial(plain, region) if plain else None
    return next((own for own in sorted(numbers.all) if own in {e164, plain, f"+{plain}"}), None)
