from __future__ import annotations

from typing import Any

import pytest

from services.dialer.callerids import Shown, shown
from services.dialer.permits import Why
from shared.errors import Forbidden
from shared.site.dialing import OwnNumbers

CAMPAIGN, SHOP, AGENT, DEFAULT, MORE = (f"+44207946000{n}" for n in range(5))
OWN = OwnNumbers(
    campaigns={"spring": CAMPAIGN},
    shops={"outlet": SHOP, "twin": SHOP, "more": MORE},
    agents={"101": AGENT},
    default=DEFAULT,
)


def seen(own: OwnNumbers = OWN, **asked: Any) -> Shown:
    known: dict[str, Any] = {
        "extension": "102",
        "campaign": None,
        "shop": None,
        "caller_id": None,
        "region": "GB",
    }
    return shown(own, **(known | asked))


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        ({}, DEFAULT),
        ({"extension": "101"}, AGENT),
        ({"extension": "101", "caller_id": MORE}, MORE),
        ({"extension": "101", "caller_id": MORE, "shop": "outlet"}, SHOP),
        ({"caller_id": MORE, "shop": "outlet", "campaign": "spring"}, CAMPAIGN),
        # What nobody knows a number for changes nothing.
        ({"extension": "101", "campaign": "autumn", "shop": "nowhere"}, AGENT),
        ({"campaign": "autumn", "shop": "outlet"}, SHOP),
    ],
)
def test_the_first_number_there_is_is_shown(asked: dict[str, Any], number: str) -> None:
    assert seen(**asked).number == number


def test_without_numbers_the_pbx_decides() -> None:
    assert seen(OwnNumbers(), campaign="spring", shop="outlet") == Shown(None, "outlet")


@pytest.mark.parametrize(
    "spelling",
    [SHOP, SHOP[1:], "020 7946 0001", "02079460001", "0044 20 7946 0001", "+44 (0)20 7946-0001"],
)
def test_a_crm_may_name_its_shop_by_the_number_it_has_of_it(spelling: str) -> None:
    assert seen(shop=spelling) == Shown(SHOP, "outlet")


def test_a_number_that_is_no_shops_but_ones_own_is_shown() -> None:
    assert seen(shop=AGENT) == Shown(AGENT, AGENT)


@pytest.mark.parametrize("spelling", ["020 7946 0004", MORE, MORE[1:]])
def test_the_number_asked_for_may_be_spelt_as_one_likes(spelling: str) -> None:
    assert seen(caller_id=spelling).number == MORE


@pytest.mark.parametrize(
    "foreign", ["+442079460999", "+12025550143", "112", "anonymous", "0", "02079460004x", "*67"]
)
def test_nobody_shows_a_number_that_is_not_the_tenants(foreign: str) -> None:
    with pytest.raises(Forbidden, match=r"dialing\.numbers") as caught:
        seen(caller_id=foreign)

    assert caught.value.details["why"] is Why.CALLER_ID
    assert foreign not in caught.value.message or foreign == "0"


def test_a_number_asked_for_is_checked_even_where_the_campaigns_is_shown() -> None:
    with pytest.raises(Forbidden):
        seen(campaign="spring", caller_id="+442079460999")
