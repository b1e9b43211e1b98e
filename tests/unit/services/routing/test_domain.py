from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from services.routing.domain import Evidence, Trace, decide, matches
from shared.contracts.contacts import ContactCard
from shared.contracts.routing import Destination, RouteDecision, RouteReason
from shared.site.models import Operator, RoutingRule, Row
from shared.testing.builders import a_contact

EQUAL, LESS, GREATER = Operator.EQUAL, Operator.LESS, Operator.GREATER
AT_MOST, AT_LEAST = Operator.LESS_OR_EQUAL, Operator.GREATER_OR_EQUAL
DEFAULT = Destination.parse("queue:default")


def a_row(operator: Operator, value: str, destination: str = "extension:101") -> Row:
    return Row.model_validate({"operator": operator, "value": value, "destination": destination})


def a_rule(*rows: Row, field: str = "Tier") -> RoutingRule:
    return RoutingRule(
        name="by-tier",
        dids=("442079460000",),
        crm="zoho",
        field=field,
        rows=rows or (a_row(EQUAL, "GOLD"),),
        default=DEFAULT,
    )


def a_card(value: JsonValue, **changes: Any) -> ContactCard:
    return a_contact(fields={"Tier": value}, **changes)


def a_trace() -> Trace:
    return Trace(lambda: 0.0)


def decided(rule: RoutingRule, *cards: ContactCard, **evidence: Any) -> RouteDecision:
    return decide(rule, Evidence(cards, **evidence), a_trace())


# -- numbers --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "operator", "wanted", "expected"),
    [
        ("10", GREATER, "9", True),  # as text it would be less
        ("10", LESS, "9", False),
        ("9", LESS, "10", True),
        (1.0, EQUAL, "1", True),
        (1, EQUAL, "1.0", True),
        ("1.50", EQUAL, "1.5", True),
        (" 50 ", EQUAL, "50", True),
        ("50", EQUAL, " 50 ", True),
        ("+5", EQUAL, "5", True),
        ("-5", LESS, "0", True),
        ("-0", EQUAL, "0", True),
        (0.1, EQUAL, "0.1", True),
        (0, EQUAL, "0", True),
        (5, AT_LEAST, "5", True),
        (5, AT_MOST, "5", True),
        (5, GREATER, "5", False),
        (5, LESS, "5", False),
        (4.99, AT_LEAST, "5", False),
        (2**53 + 1, GREATER, str(2**53), True),  # a float could not tell them apart
        ("0050", EQUAL, "50", True),
    ],
)
def test_two_numbers_are_compared_as_numbers(
    value: JsonValue, operator: Operator, wanted: str, *, expected: bool
) -> None:
    assert matches(a_row(operator, wanted), value) is expected


@pytest.mark.parametrize("digits", ["٥٠", "५०", "５０"])  # noqa: RUF001  that is what it is about
def test_digits_of_other_scripts_make_a_number_too(digits: str) -> None:
    assert matches(a_row(EQUAL, "50"), digits)
    assert matches(a_row(GREATER, "9"), digits)


@pytest.mark.parametrize(
    "value", ["NaN", "sNaN", "Infinity", "-Infinity", "inf", "0x32", "50%", "9" * 41]
)
def test_what_is_no_finite_number_is_not_ordered_against_one(value: str) -> None:
    for operator in (LESS, GREATER, AT_MOST, AT_LEAST):
        assert not matches(a_row(operator, "1000"), value)


def test_an_underscore_does_not_belong_into_a_number() -> None:
    """``Decimal`` takes 1_000 for 1000, as Python does; in a CRM it is a code."""
    assert not matches(a_row(EQUAL, "1000"), "1_000")


@pytest.mark.parametrize("value", ["nan", "Infinity", "9" * 41])
def test_what_is_no_number_still_equals_itself_as_text(value: str) -> None:
    assert matches(a_row(EQUAL, value), value)


def test_a_number_of_forty_digits_is_one() -> None:
    assert matches(a_row(GREATER, "9"), "1" + "0" * 39)


# -- text -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "operator", "wanted", "expected"),
    [
        ("gold", EQUAL, "GOLD", True),
        (" Gold ", EQUAL, "gold", True),
        ("STRASSE", EQUAL, "straße", True),  # the same word in capitals
        ("gold", EQUAL, "golden", False),
        ("Apple", LESS, "banana", True),
        ("apple", LESS, "Banana", True),
        ("banana", AT_LEAST, "Apple", True),
        ("gold", AT_MOST, "GOLD", True),
        ("gold", GREATER, "GOLD", False),
    ],
)
def test_two_texts_are_compared_without_regard_to_case(
    value: JsonValue, operator: Operator, wanted: str, *, expected: bool
) -> None:
    assert matches(a_row(operator, wanted), value) is expected


@pytest.mark.parametrize(
    ("value", "wanted"), [("GOLD", "50"), (50, "GOLD"), ("50", "GOLD")], ids=repr
)
@pytest.mark.parametrize("operator", list(Operator))
def test_a_number_and_a_text_are_neither_equal_nor_ordered(
    operator: Operator, value: JsonValue, wanted: str
) -> None:
    assert not matches(a_row(operator, wanted), value)


# -- yes and no, lists, nothing --------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "wanted", "expected"),
    [
        (True, "true", True),
        (True, "TRUE", True),
        (False, "false", True),
        (True, "false", False),
        (True, "1", False),
        (False, "0", False),
    ],
)
def test_a_yes_or_no_is_the_word_for_it(value: JsonValue, wanted: str, *, expected: bool) -> None:
    assert matches(a_row(EQUAL, wanted), value) is expected


def test_a_yes_is_not_more_than_zero() -> None:
    assert not matches(a_row(GREATER, "0"), value=True)


@pytest.mark.parametrize(
    ("value", "operator", "wanted", "expected"),
    [
        (["Silver", "Gold"], EQUAL, "gold", True),
        (["Silver", "Gold"], EQUAL, "bronze", False),
        ([1, "20"], GREATER, "9", True),
        ([1, [2, [30]]], GREATER, "9", True),
        ([None, "Gold"], EQUAL, "gold", True),
    ],
)
def test_of_a_list_one_item_that_fits_is_enough(
    value: JsonValue, operator: Operator, wanted: str, *, expected: bool
) -> None:
    assert matches(a_row(operator, wanted), value) is expected


@pytest.mark.parametrize("value", [None, "", "  ", [], [None], [""], [[]]], ids=repr)
@pytest.mark.parametrize("operator", list(Operator))
def test_nothing_never_matches(operator: Operator, value: JsonValue) -> None:
    assert [w for w in ("gold", "0", "None", "null") if matches(a_row(operator, w), value)] == []


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)
WANTED = st.one_of(
    st.sampled_from(["0", "9", "10", "1e400", "NaN", "gold", "1_0", "٣", "true"]),
    st.text(min_size=1, max_size=60),
)


@settings(deadline=None)
@given(value=JSON, operator=st.sampled_from(list(Operator)), wanted=WANTED)
def test_any_value_of_json_can_be_compared(
    value: JsonValue, operator: Operator, wanted: str
) -> None:
    assert matches(a_row(operator, wanted), value) in {True, False}


@settings(deadline=None)
@given(value=st.integers() | st.text(max_size=10), wanted=WANTED)
def test_at_most_means_less_or_equal(value: JsonValue, wanted: str) -> None:
    less, equal = matches(a_row(LESS, wanted), value), matches(a_row(EQUAL, wanted), value)
    at_most = matches(a_row(AT_MOST, wanted), value)
    if less or at_most:
        assert at_most == (less or equal)


# -- which row ------------------------------------------------------------------------------


def test_the_first_row_that_matches_wins() -> None:
    rule = a_rule(
        a_row(GREATER, "90", "extension:1"),
        a_row(GREATER, "50", "extension:2"),
        a_row(GREATER, "10", "extension:3"),
    )

    decision = decided(rule, a_card(60))

    assert str(decision.destination) == "extension:2"
    assert decision.row == 2
    assert decision.reason is RouteReason.ROW_MATCHED
    assert (decision.rule, decision.field, decision.value) == ("by-tier", "Tier", 60)
    assert decision.contact is not None
    assert decision.contact.contact_id == "829"


ROWS = st.lists(
    st.builds(
        a_row,
        st.sampled_from(list(Operator)),
        st.sampled_from(["1", "5", "10", "GOLD", "silver", "true"]),
    ),
    min_size=1,
    max_size=6,
)
VALUES = st.one_of(
    st.integers(0, 12),
    st.booleans(),
    st.sampled_from(["gold", "Silver", "7", "zinc"]),
    st.lists(st.sampled_from(["gold", "3", "10"]), min_size=1, max_size=3),
)


@settings(deadline=None)
@given(rows=ROWS, value=VALUES)
def test_a_rule_decides_as_its_first_matching_row_does_alone(
    rows: list[Row], value: JsonValue
) -> None:
    numbered = [
        row.model_copy(update={"destination": Destination.parse(f"extension:{number}")})
        for number, row in enumerate(rows, start=1)
    ]
    alone = [decided(a_rule(row), a_card(value)) for row in numbered]
    first = next((d for d in alone if d.reason is RouteReason.ROW_MATCHED), None)

    decision = decided(a_rule(*numbered), a_card(value))

    assert decision.destination == (first.destination if first else DEFAULT)
    assert decision.reason is (first.reason if first else RouteReason.NO_ROW_MATCHED)


def test_of_several_contacts_the_first_that_has_a_value_decides() -> None:
    decision = decided(
        a_rule(),
        a_card(None, contact_id="1"),
        a_card("", contact_id="2"),
        a_card([], contact_id="3"),
        a_contact(contact_id="4"),
        a_card("gold", contact_id="5"),
        a_card("gold", contact_id="6"),
    )

    assert decision.reason is RouteReason.ROW_MATCHED
    assert decision.contact is not None
    assert decision.contact.contact_id == "5"


@pytest.mark.parametrize("value", [0, False])
def test_zero_and_no_are_values(value: JsonValue) -> None:
    decision = decided(a_rule(), a_card(value), a_card("gold"))

    assert decision.reason is RouteReason.NO_ROW_MATCHED
    assert decision.value == value


# -- the default, and why -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (Evidence(), RouteReason.NO_CONTACT),
        (Evidence([a_contact()]), RouteReason.NO_VALUE),
        (Evidence([a_card("")]), RouteReason.NO_VALUE),
        (Evidence([a_card("zinc")]), RouteReason.NO_ROW_MATCHED),
        (Evidence(refused=["Leads has no field Tier"]), RouteReason.NO_VALUE),
        (Evidence(failure=RouteReason.OUT_OF_TIME), RouteReason.OUT_OF_TIME),
        (Evidence(failure=RouteReason.CRM_FAILED), RouteReason.CRM_FAILED),
        (Evidence(failure=RouteReason.NUMBER_WITHHELD), RouteReason.NUMBER_WITHHELD),
        (Evidence([a_card("gold")], failure=RouteReason.OUT_OF_TIME), RouteReason.OUT_OF_TIME),
    ],
)
def test_without_a_match_the_default_is_taken_and_says_why(
    evidence: Evidence, reason: RouteReason
) -> None:
    decision = decide(a_rule(), evidence, a_trace())

    assert decision.destination == DEFAULT
    assert decision.reason is reason
    assert decision.row is None
    assert decision.rule == "by-tier"


def test_a_module_that_could_not_be_asked_does_not_spoil_what_another_knows() -> None:
    decision = decided(a_rule(), a_card("gold"), refused=["Leads has no field Tier"])

    assert decision.reason is RouteReason.ROW_MATCHED


# -- the trace ------------------------------------------------------------------------------


def test_the_trace_names_each_row_that_was_looked_at_and_no_other() -> None:
    rule = a_rule(
        a_row(EQUAL, "bronze"), a_row(EQUAL, "silver"), a_row(EQUAL, "gold"), a_row(EQUAL, "x")
    )

    rows = [step.detail for step in decided(rule, a_card("Silver")).trace if step.step == "row"]

    assert rows == ["1: = 'bronze' does not match", "2: = 'silver' matches"]


def test_the_trace_of_a_default_ends_with_the_destination_and_the_reason() -> None:
    last = decided(a_rule(), a_card("zinc")).trace[-1]

    assert last.step == "default"
    assert "queue:default" in last.detail
    assert "no_row_matched" in last.detail


def test_the_trace_names_what_could_not_be_asked() -> None:
    decision = decided(a_rule(), refused=["Leads has no field Tier"])

    assert any("Leads has no field Tier" in step.detail for step in decision.trace)


def test_the_trace_counts_the_milliseconds_since_the_question() -> None:
    elapsed = itertools.count(1.0)
    trace = Trace(lambda: next(elapsed))
    trace.note("contact", "1 found")

    decision = decide(a_rule(), Evidence([a_card("gold")]), trace)

    assert [step.after_ms for step in decision.trace] == [1.0, 2.0, 3.0]
    assert decision.took_ms == 3.0
