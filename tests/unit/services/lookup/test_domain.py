from __future__ import annotations

import pytest

from services.lookup.domain import number_to_look_up
from shared.contracts.calls import Direction, Party
from shared.testing.builders import a_call


def test_of_an_inbound_call_the_caller_is_looked_up() -> None:
    assert number_to_look_up(a_call(), "GB") == "447700900123"


def test_of_an_outbound_call_the_dialled_number_is_looked_up() -> None:
    call = a_call(
        direction=Direction.OUTBOUND, caller=Party(extension="101"), dialled="+447700900777"
    )

    assert number_to_look_up(call, "GB") == "+447700900777"


def test_of_an_internal_call_nobody_is_looked_up() -> None:
    call = a_call(direction=Direction.INTERNAL, caller=Party(extension="101"), dialled="102")

    assert number_to_look_up(call, "GB") is None


@pytest.mark.parametrize(
    "number",
    [None, "", " ", "anonymous", "Anonymous", "unknown", "<unknown>", "Private", "Restricted"],
    ids=repr,
)
@pytest.mark.parametrize("region", ["GB", None])
def test_a_withheld_number_is_nobodys(number: str | None, region: str | None) -> None:
    assert number_to_look_up(a_call(caller=Party(number=number)), region) is None


@pytest.mark.parametrize("number", ["sip:ada@example.org", "Ada", "---"])
def test_what_has_no_digits_is_no_number(number: str) -> None:
    assert number_to_look_up(a_call(caller=Party(number=number)), "GB") is None


def test_an_outbound_call_whose_number_is_not_known_yet_is_not_looked_up() -> None:
    assert number_to_look_up(a_call(direction=Direction.OUTBOUND, dialled=None), "GB") is None


@pytest.mark.parametrize("number", ["07700 900123", "(020) 7946 0000", "+44 7700 900123", "101"])
def test_the_number_is_asked_about_as_the_pbx_shows_it(number: str) -> None:
    """The finder spells it for each CRM."""
    assert number_to_look_up(a_call(caller=Party(number=number)), "GB") == number
