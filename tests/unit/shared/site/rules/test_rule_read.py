from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.routing import Destination, DestinationKind
from shared.site.rules.conditions import (
    DEEPEST,
    AllOf,
    AnyOf,
    Condition,
    NoneOf,
    Operator,
    Test,
    depth_of,
    subject_of,
)
from shared.site.rules.conditions import (
    tests_in as every_test_in,  # pytest takes test… for a test
)
from shared.site.rules.misread import faults_of_rule
from shared.site.rules.places import Manager, Share, Split, ToRule, is_sure, plain_in
from shared.site.rules.rule import CustomCrm, HttpHeader, RoutingRule, Row
from shared.site.rules.subjects import Ask, Subject

GOLD = {"operator": "=", "value": "gold", "destination": "queue:gold"}
RULE = {
    "name": "tiers",
    "dids": ["100"],
    "crm": "zoho",
    "field": "Tier",
    "rows": [GOLD],
    "default": "queue:support",
}
WHOLE = [
    {"percent": 50, "destination": "queue:a"},
    {"percent": 50, "destination": "manager:any"},
]


def rule(**words: Any) -> RoutingRule:
    """None: without that key."""
    return RoutingRule.model_validate(
        {key: value for key, value in (RULE | words).items() if value is not None}
    )


def row(**words: Any) -> Row:
    return Row.model_validate({"destination": "queue:gold", **words})


def faults(**words: Any) -> list[str]:
    """``place: words``, as people are told."""
    with pytest.raises(ValidationError) as raised:
        rule(**words)
    return [f"{'.'.join(map(str, path))}: {what}" for path, what in faults_of_rule(raised.value)]


# Attacks.


def nested(form: str, deep: int) -> dict[str, Any]:
    """*deep* with the test."""
    condition: dict[str, Any] = {"of": "call.did", "value": "1"}
    for _ in range(deep - 1):
        condition = {form: [condition]}
    return condition


@pytest.mark.parametrize("form", ["all", "any", "none"])
@pytest.mark.parametrize("deep", [DEEPEST + 1, 300, 10_000])
def test_conditions_that_go_too_deep_are_refused(form: str, deep: int) -> None:
    told = faults(rows=[{"when": nested(form, deep), "destination": "queue:a"}])

    assert told == ["rows.0.when: conditions in conditions, more than 8 deep"]


@pytest.mark.parametrize("form", ["all", "any", "none"])
def test_conditions_may_be_as_deep_as_people_write_them(form: str) -> None:
    condition = row(when=nested(form, DEEPEST)).condition

    assert condition is not None
    assert depth_of(condition) == DEEPEST


def test_conditions_that_are_made_too_deep_are_refused() -> None:
    condition: Condition = Test(of=Subject(Ask.DID), value="1")
    for _ in range(DEEPEST - 1):
        condition = AllOf(all=(condition,))

    with pytest.raises(ValidationError, match="more than 8 deep"):
        Row(when=AllOf(all=(condition,)), destination=(Destination.parse("queue:a"),))


def test_a_condition_that_holds_itself_is_refused() -> None:
    condition: dict[str, Any] = {"all": []}
    condition["all"].append(condition)

    assert faults(rows=[{"when": condition, "destination": "queue:a"}]) == [
        "rows.0.when: conditions in conditions, more than 8 deep"
    ]


def test_a_condition_that_unfolds_to_thousands_of_millions_is_refused() -> None:
    condition: dict[str, Any] = {"of": "call.did", "value": "1"}
    for _ in range(DEEPEST - 1):
        condition = {"any": [condition] * 50}

    assert faults(rows=[{"when": condition, "destination": "queue:a"}]) == [
        "rows.0.when: more than 1000 tests and groups in one condition"
    ]


def test_destinations_that_go_too_deep_are_refused() -> None:
    place: Any = "queue:a"
    for _ in range(10_000):
        place = {"split": [{"percent": 50, "destination": place}]}

    assert faults(default=place)
    deep: Any = []
    for _ in range(10_000):
        deep = [deep]
    assert faults(default=deep)


GARBAGE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["all", "any", "none", "of", "operator", "value", "split", "percent", "destination"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(GARBAGE, GARBAGE, GARBAGE)
def test_rubbish_is_refused_or_read(when: Any, value: Any, destination: Any) -> None:
    for words in ({"when": when}, {"operator": "=", "value": value}, {"destination": destination}):
        try:
            found = row(**words)
        except ValidationError as error:
            assert faults_of_rule(error)  # noqa: PT017  either way is right
        else:
            assert Row.model_validate(found.model_dump(mode="json", exclude_defaults=True)) == found


# What is read, and comes back as it was.


def test_bare_values_are_the_text_that_was_meant() -> None:
    assert row(operator="=", value=50).value == "50"
    assert row(operator="=", value=1.5).value == "1.5"
    assert row(operator="=", value=True).value == "true"
    assert row(operator="in", value=[1, "a", False]).value == ("1", "a", "false")


def test_places_are_read_from_text() -> None:
    assert row(destination=["manager", "manager:any", "rule:vip"]).destination == (
        Manager(),
        Manager(only_free=False),
        ToRule(rule="vip"),
    )
    assert row(destination="hangup:busy").destination == (
        Destination(kind=DestinationKind.HANGUP, target="busy"),
    )
    assert row(destination="manager:free").destination == (Manager(),)
    assert row(destination={"kind": "queue", "target": "a"}).destination == (
        Destination(kind=DestinationKind.QUEUE, target="a"),
    )


def test_a_split_is_shown_in_words() -> None:
    (split,) = row(destination={"split": WHOLE}).destination

    assert str(split) == "50 % queue:a, 50 % manager:any"
    assert list(plain_in((split, Manager()))) == [
        Destination(kind=DestinationKind.QUEUE, target="a"),
        Manager(only_free=False),
        Manager(),
    ]


@pytest.mark.parametrize(
    ("places", "sure"),
    [
        ("queue:a", True),
        ("rule:vip", True),
        ("manager", False),
        (["manager", "queue:a"], True),
        ({"split": WHOLE}, False),
        ([{"split": WHOLE}, "queue:a"], True),
    ],
)
def test_a_place_is_sure_unless_it_is_a_person(places: Any, sure: bool) -> None:
    assert is_sure(row(destination=places).destination) is sure


def test_the_short_form_is_a_test_over_the_field_of_the_rule() -> None:
    condition = row(operator="<", value="50").condition

    assert condition is not None
    (test,) = every_test_in(condition)
    assert test == Test(operator=Operator.LESS, value="50")
    assert subject_of(test, "Tier") == Subject(Ask.FIELD, "Tier")
    assert subject_of(test, None) is None
    assert row().condition is None


def test_a_rule_says_what_it_asks_about_and_where_it_leads() -> None:
    found = rule(
        rows=[
            {
                "when": {"none": [{"of": "hours.office", "value": "open"}]},
                "destination": "rule:night",
            },
            {"destination": ["manager", "rule:b"], "variables": {"CRM_OWNER": "contact.owner"}},
        ],
        variables={"CRM_COUNTRY": "caller.country"},
        default={"split": [*WHOLE[:1], {"percent": 50, "destination": "rule:c"}]},
    )

    assert [str(subject) for subject in found.subjects] == [
        "field.Tier",
        "hours.office",
        "contact.owner",
        "caller.country",
    ]
    assert list(found.leads_to) == [(1, "night"), (2, "b"), (None, "c")]
    assert found.wants_manager


SUBJECTS = st.sampled_from(
    ["field.Tier", "caller.number", "call.dtmf", "time.weekday", "hours.office", "agent.101"]
)
#: Those that may be anything.
FREE = st.sampled_from(["field.Tier", "caller.number", "call.dtmf", "contact.owner"])
TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20).filter(str.strip)
TESTS = st.one_of(
    st.builds(lambda of, value: {"of": of, "value": value}, FREE, TEXTS),
    st.builds(
        lambda of, value: {"of": of, "operator": "in", "value": value},
        FREE,
        st.lists(TEXTS, min_size=1, max_size=3),
    ),
    st.builds(lambda of: {"of": of, "operator": "exists"}, SUBJECTS),
    st.builds(lambda value: {"operator": "<=", "value": value}, st.integers() | st.booleans()),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.builds(
        lambda form, parts: {form: parts},
        st.sampled_from(["all", "any", "none"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=6,
)
PLACES = st.sampled_from(
    ["queue:a", "manager", ["manager:any", "rule:b"], {"split": WHOLE}, [{"split": WHOLE}, "ivr:2"]]
)
ROWS = st.one_of(
    st.builds(lambda when, to: {"when": when, "destination": to}, CONDITIONS, PLACES),
    st.builds(lambda to, first: {"destination": to, "priority": first}, PLACES, st.integers(0, 9)),
    st.builds(
        lambda value, to: {"operator": "!=", "value": value, "destination": to}, TEXTS, PLACES
    ),
)


@given(st.lists(ROWS, min_size=1, max_size=4))
def test_a_rule_comes_back_as_it_was(rows: list[dict[str, Any]]) -> None:
    found = rule(rows=rows)

    shown = found.model_dump(mode="json", exclude_defaults=True)

    assert RoutingRule.model_validate(shown) == found
    assert RoutingRule.model_validate_json(json.dumps(shown)) == found
    assert RoutingRule.model_validate(shown).model_dump(mode="json", exclude_defaults=True) == shown


def test_a_rule_with_everything_comes_back_as_it_was() -> None:
    found = RoutingRule(
        name="all",
        dids=("100",),
        ivrs=("menu",),
        greeting="en/enter-your-number",
        custom=CustomCrm(
            url="https://crm.example.com/field",
            post=True,
            header=HttpHeader(name="X-Key", value="sealed:AAAA"),
        ),
        field="Tier",
        rows=(
            Row(
                when=NoneOf(none=(AnyOf(any=(Test(value="gold"),)),)),
                destination=(
                    Split(
                        split=(
                            Share(percent=1, destination=ToRule(rule="b")),
                            Share(percent=99, destination=Destination.parse("queue:a")),
                        )
                    ),
                ),
            ),
        ),
        default=(Destination.parse("extension:101"),),
        default_voicemail=False,
        priority=0,
        variables={"CRM_TIER": Subject(Ask.FIELD, "Tier")},
        zone="Europe/Berlin",
    )

    shown = found.model_dump(mode="json", exclude_defaults=True)

    assert shown["default_voicemail"] is False
    assert shown["priority"] == 0
    assert shown["variables"] == {"CRM_TIER": "field.Tier"}
    assert shown["default"] == "extension:101"
    assert RoutingRule.model_validate(shown) == found
