from __future__ import annotations

import itertools

import pytest

from services.lookup.domain import (
    CallFacts,
    becomes_contact,
    facts_of,
    is_outside,
    number_to_look_up,
    together,
)
from shared.contracts.calls import Direction, Party
from shared.site.models import ContactCreation, Site
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


# -- who becomes a contact -------------------------------------------------------------------

ADD = ContactCreation(module="Contacts")
ADD_ALL = ContactCreation(module="Contacts", answered_only=False)
CALLED = CallFacts(number="+447700900123", direction=Direction.INBOUND)
SITE = Site.model_validate(
    {
        "tenant": "acme",
        "region": "GB",
        "crm": [{"name": "zoho", "template": "zoho"}],
        "agents": [{"extension": "101"}, {"extension": "447700900555"}],
    }
)
DIDS = ("442079460000", "2079460001")


@pytest.mark.parametrize(
    ("facts", "create", "expected"),
    [
        (CALLED, ADD, False),
        (CALLED.model_copy(update={"answered": True}), ADD, True),
        (CALLED.model_copy(update={"ended": True}), ADD, False),
        (CALLED.model_copy(update={"ended": True}), ADD_ALL, True),
        (CALLED, ADD_ALL, False),
        (CallFacts(answered=True, ended=True), ADD_ALL, False),
        (CALLED.model_copy(update={"answered": True, "direction": Direction.OUTBOUND}), ADD, False),
    ],
)
def test_a_caller_becomes_a_contact(
    facts: CallFacts, create: ContactCreation, expected: bool
) -> None:
    assert becomes_contact(facts, create) is expected


def test_what_is_known_of_a_call_does_not_depend_on_the_order_of_its_events() -> None:
    news = [
        facts_of(a_call(caller=Party(number="07700900123", name="Ada")), "07700900123"),
        CallFacts(answered=True, agent="101"),
        CallFacts(ended=True),
        CallFacts(ordered=("zoho",)),
    ]
    for order in itertools.permutations(news):
        known = CallFacts()
        for one in (*order, *order):
            known = together(known, one)
        assert known == CallFacts(
            number="07700900123",
            name="Ada",
            direction=Direction.INBOUND,
            answered=True,
            ended=True,
            agent="101",
            ordered=("zoho",),
        )


@pytest.mark.parametrize("name", [None, "", "447700900123", "+44 7700 900123", " - "])
def test_a_number_is_no_name(name: str | None) -> None:
    assert facts_of(a_call(caller=Party(number="1", name=name)), "1").name is None


def test_of_an_outbound_call_the_agent_is_who_called() -> None:
    call = a_call(
        direction=Direction.OUTBOUND,
        caller=Party(extension="101", name="Ann"),
        dialled="+447700900777",
    )

    assert facts_of(call, "+447700900777") == CallFacts(
        number="+447700900777", direction=Direction.OUTBOUND, agent="101"
    )


@pytest.mark.parametrize(
    "number", ["+447700900123", "07700 900123", "447700900123", "+49301234567"]
)
def test_somebody_outside_has_a_whole_number(number: str) -> None:
    assert is_outside(number, SITE, DIDS)


@pytest.mark.parametrize(
    "number",
    [
        "101",
        "2045",
        "*97",
        "anonymous",
        "",
        "sip:ann@acme.example",
        "447700900555",
        "+44 7700 900555",
        "+442079460000",
        "020 7946 0000",
        "02079460001",
    ],
)
def test_our_own_numbers_and_what_is_none_are_not_outside(number: str) -> None:
    assert not is_outside(number, SITE, DIDS)
