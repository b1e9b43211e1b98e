"""What all faces of routing read and say alike."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.contacts import ContactCard
from shared.contracts.routing import Destination, RouteDecision, RouteReason, Tone
from shared.errors import ContractError
from shared.pbx.asking import digits_of, menu_of, variables_of, way_of
from shared.site.rules.rule import TAKEN

NO_RULE = RouteDecision(reason=RouteReason.NO_RULE)
JANE = ContactCard(
    connection="zoho",
    module="Contacts",
    contact_id="829",
    display_name="Jane Doe",
    page_url="https://crm.example/829",
)


def to(way: str, **more: object) -> RouteDecision:
    return RouteDecision.model_validate(
        {"destination": Destination.parse(way), "reason": RouteReason.ROW_MATCHED, **more}
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [("", ("", False)), ("12#*A", ("12#*A", False)), ("-", ("", True))],
)
def test_digits_are_read(text: str, found: tuple[str, bool]) -> None:
    assert digits_of(text) == found


@pytest.mark.parametrize("text", ["--", "1-2", "a", "1 2", "1" * 33, "1\n", "-\n", "\uff11"])
def test_what_is_no_digits_is_said(text: str) -> None:
    with pytest.raises(ContractError, match="send up to 32 of 0-9"):
        digits_of(text)


@pytest.mark.parametrize("text", ["account", "104", "a-b_c", "a" * 64])
def test_a_menu_is_read(text: str) -> None:
    assert menu_of(text) == text


@pytest.mark.parametrize("text", ["Account", "-a", "a b", "a" * 65, "a\n", "ä"])
def test_what_is_no_menu_is_said(text: str) -> None:
    with pytest.raises(ContractError, match="small letters, digits"):
        menu_of(text)


def test_no_menu_asks() -> None:
    assert menu_of("") is None


@pytest.mark.parametrize(
    ("decision", "word"),
    [
        (to("queue:support"), "queue:support"),
        (to("hangup:busy"), "hangup:busy"),
        (RouteDecision(reason=RouteReason.DIGITS_WANTED, greeting="a/b"), "greeting:a/b"),
        (NO_RULE, ""),
    ],
)
def test_the_way_is_one_word(decision: RouteDecision, word: str) -> None:
    assert way_of(decision) == word


def test_all_of_an_answer_goes_to_the_channel() -> None:
    decision = to(
        "extension:101",
        rule="main",
        contact=JANE,
        priority=0,
        voicemail=True,
        attributes={"CRM_TIER": "GOLD", "CRM_OWNER": ""},
    )

    assert variables_of(decision) == {
        "CRM_DEST": "extension:101",
        "CRM_REASON": "row_matched",
        "CRM_RULE": "main",
        "CRM_URL": "https://crm.example/829",
        "CRM_NAME": "Jane Doe",
        "CRM_GREETING": "",
        "CRM_PRIORITY": "0",
        "CRM_VOICEMAIL": "yes",
        "CRM_CAUSE": "",
        "CRM_TIER": "GOLD",
        "CRM_OWNER": "",
    }


def test_nothing_of_an_earlier_answer_shows_through() -> None:
    told = variables_of(NO_RULE)

    assert set(told) == set(variables_of(to("queue:support", contact=JANE)))
    assert {name for name, value in told.items() if value} == {"CRM_REASON"}


def test_a_contact_without_a_name_is_not_shown_by_its_id() -> None:
    nameless = JANE.model_copy(update={"display_name": JANE.contact_id})

    assert variables_of(to("queue:support", contact=nameless))["CRM_NAME"] == ""


@pytest.mark.parametrize("tone", list(Tone))
def test_a_hangup_has_its_cause(tone: Tone) -> None:
    assert variables_of(to(f"hangup:{tone}"))["CRM_CAUSE"] == str(tone.cause)


def test_no_rule_can_set_a_name_of_ours() -> None:
    assert set(variables_of(NO_RULE)) <= TAKEN


@given(st.dictionaries(st.text(max_size=12) | st.just("CRM_DEST"), st.text(max_size=5)))
def test_an_attribute_is_a_variable_of_its_own_or_none(attributes: dict[str, str]) -> None:
    told = variables_of(to("queue:support", attributes=attributes))

    assert told["CRM_DEST"] == "queue:support"
    assert all(name.isascii() and name.startswith("CRM_") and name.isupper() for name in told)
