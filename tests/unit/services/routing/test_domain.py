"""What is decided from what is known. How values compare: tests/unit/shared/site/rules/test_values.py."""

from __future__ import annotations

import itertools
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import JsonValue

from services.routing.domain import Around, decide, last_resort
from services.routing.facts import ContactWanted, Evidence, Facts, ManagerFound, ManagerWanted
from services.routing.standing import Standing
from services.routing.trace import Trace
from shared.contracts.contacts import ContactCard
from shared.contracts.routing import DecideRoute, RouteDecision, RouteReason
from shared.errors import ContractError
from shared.phone import parse
from shared.site.rules.hours import Hours
from shared.site.rules.places import LONGEST_CHAIN
from shared.site.rules.rule import RoutingRule
from shared.testing.builders import a_contact

CALLER, DID = "+447700900123", "442079460000"
#: A Tuesday, a quarter past two in London.
NOW = datetime(2026, 11, 24, 14, 15, tzinfo=UTC)
OFFICE = Hours(name="office", open={"mon-fri": ("09:00-17:30",)}, holidays=("12-25",))
NOBODY = Evidence()
FREE = ManagerFound("101", free=True, said="user 7 at 101: free")


def a_rule(*rows: dict[str, Any], **changes: Any) -> RoutingRule:
    said: dict[str, Any] = {
        "name": "by-tier",
        "dids": [DID],
        "crm": "zoho",
        "field": "Tier",
        "rows": rows or [equal("GOLD")],
        "default": "queue:default",
    }
    return RoutingRule.model_validate({k: v for k, v in (said | changes).items() if v is not None})


def equal(value: str, destination: Any = "extension:101", **more: Any) -> dict[str, Any]:
    return {"operator": "=", "value": value, "destination": destination, **more}


def when(condition: dict[str, Any], destination: Any = "extension:101") -> dict[str, Any]:
    return {"when": condition, "destination": destination}


def about(of: str, operator: str = "=", value: Any = None) -> dict[str, Any]:
    return {"of": of, "operator": operator, **({"value": value} if value is not None else {})}


def a_card(value: JsonValue, **changes: Any) -> ContactCard:
    return a_contact(fields={"Tier": value}, **changes)


def seen(*cards: ContactCard, **more: Any) -> Evidence:
    return Evidence(candidates=cards, **more)


def standing(rule: RoutingRule) -> Standing:
    return Standing.of(rule, zone="Europe/London", region="GB", version=3)


def decided(
    rule: RoutingRule,
    evidence: Evidence | None = None,
    *others: RoutingRule,
    now: datetime = NOW,
    manager: ManagerFound | None = None,
    agents: dict[str, str] | None = None,
    trace: Trace | None = None,
    **asked: Any,
) -> RouteDecision:
    question = DecideRoute.model_validate({"did": DID, "caller": CALLER, **asked})
    known = {one.name: standing(one) for one in (rule, *others)}

    def facts(of: Standing) -> Facts:
        return Facts(
            standing=of,
            asked=question,
            number=parse(question.caller, "GB"),
            now=now,
            zone="Europe/London",
            hours={"office": OFFICE},
            agent=(agents or {}).get,
            evidence=evidence,
            manager=manager,
        )

    around = Around(question, known.get, facts, trace or Trace(lambda: 0.0))
    return decide(known[rule.name], around)


def place(decision: RouteDecision) -> str:
    return str(decision.destination)


# -- which row ------------------------------------------------------------------------------


def test_the_first_row_that_matches_wins() -> None:
    rule = a_rule(
        *(
            {"operator": ">", "value": least, "destination": f"extension:{number}"}
            for number, least in enumerate((90, 50, 10), start=1)
        )
    )

    decision = decided(rule, seen(a_card(60)))

    assert (place(decision), decision.row) == ("extension:2", 2)
    assert decision.reason is RouteReason.ROW_MATCHED
    assert (decision.rule, decision.version) == ("by-tier", 3)
    assert (decision.field, decision.value) == ("Tier", 60)
    assert decision.contact is not None
    assert decision.contact.contact_id == "829"


def said(operator: str, value: str, of: str | None) -> dict[str, Any]:
    return {"operator": operator, "value": value, **({"of": of} if of else {})}


TESTS = st.builds(
    said,
    st.sampled_from(["=", "!=", "<", ">", "<=", ">=", "contains", "starts_with"]),
    st.sampled_from(["1", "5", "10", "GOLD", "silver", "true"]),
    st.sampled_from([None, "field.Other", "call.dtmf", "contact.name"]),
)
CONDITIONS = st.recursive(
    TESTS,
    lambda inner: st.builds(
        lambda form, parts: {form: parts},
        st.sampled_from(["all", "any", "none"]),
        st.lists(inner, min_size=1, max_size=3),
    ),
    max_leaves=4,
)
VALUES = st.one_of(
    st.none(),
    st.integers(0, 12),
    st.booleans(),
    st.sampled_from(["gold", "Silver", "7", "zinc", ""]),
    st.lists(st.sampled_from(["gold", "3", "10"]), max_size=3),
)
EVIDENCE = st.one_of(
    st.builds(
        lambda one, other: seen(a_contact(fields={"Tier": one, "Other": other})), VALUES, VALUES
    ),
    st.just(NOBODY),
    st.sampled_from(
        [
            Evidence(failure=RouteReason.CRM_FAILED),
            Evidence(failure=RouteReason.NUMBER_WITHHELD),
        ]
    ),
)


@settings(deadline=None, max_examples=300)
@given(conditions=st.lists(CONDITIONS, min_size=1, max_size=12), evidence=EVIDENCE)
def test_a_rule_decides_as_its_first_matching_row_does_alone(
    conditions: list[dict[str, Any]], evidence: Evidence
) -> None:
    rows = [when(c, f"extension:{number}") for number, c in enumerate(conditions, start=1)]
    alone = [decided(a_rule(row), evidence, dtmf="5") for row in rows]
    first = next((d for d in alone if d.reason is RouteReason.ROW_MATCHED), None)

    decision = decided(a_rule(*rows), evidence, dtmf="5")

    assert decision.destination == (first or alone[0]).destination
    assert decision.reason is (first or alone[0]).reason


def test_a_row_without_a_condition_always_matches() -> None:
    rule = a_rule({"destination": "queue:all"}, crm=None, field=None)
    assert place(decided(rule)) == "queue:all"


def test_of_several_contacts_the_first_that_has_a_value_decides() -> None:
    values: list[JsonValue] = [None, "", {"id": "1"}, "gold"]
    cards = [a_card(value, contact_id=str(number)) for number, value in enumerate(values)]

    decision = decided(a_rule(), seen(*cards, a_card("gold", contact_id="9")))

    assert decision.reason is RouteReason.ROW_MATCHED
    assert decision.contact is not None
    assert decision.contact.contact_id == "3"


@pytest.mark.parametrize("value", [0, False])
def test_zero_and_no_are_values(value: JsonValue) -> None:
    decision = decided(a_rule(), seen(a_card(value), a_card("gold")))

    assert decision.reason is RouteReason.NO_ROW_MATCHED
    assert decision.value == value


# -- what conditions can ask about -------------------------------------------------------------


@pytest.mark.parametrize(
    ("test", "asked", "fits"),
    [
        (about("caller.number", "=", "+44 7700 900123"), {}, True),
        (about("caller.number", "=", "07700 900123"), {}, True),
        (about("caller.number", "starts_with", "+4477"), {}, True),
        (about("caller.number", "starts_with", "+49"), {}, False),
        (about("caller.number", "in", ["1", "+447700900123"]), {}, True),
        # As the PBX shows it, too.
        (about("caller.number", "starts_with", "4477"), {"caller": "447700900123"}, True),
        (about("caller.number", "starts_with", "4477"), {}, False),
        (about("caller.number", "matches", r"^\(0"), {"caller": "(07700) 900123"}, True),
        (about("caller.number", "=", "7"), {"caller": "agent7"}, False),
        (about("caller.number", "exists"), {"caller": "anonymous"}, False),
        (about("caller.country", "=", "GB"), {"caller": "+442079460000"}, True),
        (about("caller.country", "=", "DE"), {"caller": "+493012345678"}, True),
        (about("caller.withheld", "=", "true"), {"caller": "anonymous"}, True),
        (about("caller.withheld", "=", "true"), {}, False),
        (about("caller.country", "exists"), {"caller": "anonymous"}, False),
        (about("call.did", "=", "+442079460000"), {}, True),
        (about("call.ivr", "=", "main"), {"ivr": "main"}, True),
        (about("call.dtmf", "=", "42"), {"dtmf": "42"}, True),
        (about("call.dtmf", "exists"), {}, False),
        (about("time.of_day", "between", ["14:00", "14:30"]), {}, True),
        (about("time.of_day", "between", ["22:00", "06:00"]), {}, False),
        (about("time.weekday", "in", ["mon", "tue"]), {}, True),
        (about("time.date", "=", "2026-11-24"), {}, True),
        (about("time.date", "<", "2026-11-24"), {}, False),
        (about("hours.office", "=", "open"), {}, True),
        (about("agent.101", "=", "break"), {}, True),
        (about("agent.102", "exists"), {}, False),
    ],
)
def test_a_row_can_ask_about_call_time_and_agents_without_a_crm(
    test: dict[str, Any], asked: dict[str, Any], *, fits: bool
) -> None:
    rule = a_rule(when(test), crm=None, field=None)

    decision = decided(rule, agents={"101": "break"}, **asked)

    assert decision.reason is (RouteReason.ROW_MATCHED if fits else RouteReason.NO_ROW_MATCHED)


@pytest.mark.parametrize(
    ("zone", "weekday"), [("Europe/London", "tue"), ("Pacific/Auckland", "wed")]
)
def test_times_are_those_of_the_rules_zone(zone: str, weekday: str) -> None:
    rule = a_rule(when(about("time.weekday", "=", weekday)), crm=None, field=None, zone=zone)
    assert decided(rule).reason is RouteReason.ROW_MATCHED


@pytest.mark.parametrize(
    ("now", "state"),
    [
        (datetime(2026, 12, 25, 10, tzinfo=UTC), "holiday"),
        (datetime(2026, 11, 22, 10, tzinfo=UTC), "closed"),
        (datetime(2026, 11, 23, 10, tzinfo=UTC), "open"),
    ],
)
def test_hours_are_open_closed_or_a_holiday(now: datetime, state: str) -> None:
    rows = [
        when(about("hours.office", "=", word), f"queue:{word}")
        for word in ("open", "closed", "holiday")
    ]
    assert place(decided(a_rule(*rows, crm=None, field=None), now=now)) == f"queue:{state}"


@pytest.mark.parametrize(
    ("test", "fits"),
    [
        (about("contact.known"), True),
        (about("contact.module", "=", "Contacts"), True),
        (about("contact.name", "contains", "lovelace"), True),
        (about("contact.company", "=", "Engines Ltd"), True),
        (about("contact.owner", "in", ["7", "8"]), True),
        (about("contact.email", "exists"), False),
    ],
)
def test_a_row_can_ask_about_the_callers_record(test: dict[str, Any], *, fits: bool) -> None:
    test = {"value": "true", **test}
    if test["operator"] == "exists":
        del test["value"]
    evidence = seen(a_card("gold", owner_id="7", company="engines ltd"))

    decision = decided(a_rule(when(test), field=None), evidence)

    assert (decision.reason is RouteReason.ROW_MATCHED) is fits


# -- unknown, and not there -----------------------------------------------------------------


NOT_GOLD = when({"none": [about("field.Tier", "=", "GOLD")]})
NOT_KNOWN = when(about("contact.known", "=", "false"))


@pytest.mark.parametrize(
    ("row", "evidence", "reason"),
    [
        (NOT_GOLD, seen(a_card("zinc")), RouteReason.ROW_MATCHED),
        (NOT_GOLD, seen(a_card("")), RouteReason.ROW_MATCHED),
        (NOT_GOLD, NOBODY, RouteReason.ROW_MATCHED),
        # Nobody knows whether he is gold: he is not treated as if he were not.
        (NOT_GOLD, Evidence(failure=RouteReason.CRM_FAILED), RouteReason.CRM_FAILED),
        (NOT_GOLD, Evidence(failure=RouteReason.OUT_OF_TIME), RouteReason.OUT_OF_TIME),
        (NOT_KNOWN, NOBODY, RouteReason.ROW_MATCHED),
        (NOT_KNOWN, Evidence(failure=RouteReason.NUMBER_WITHHELD), RouteReason.ROW_MATCHED),
        (NOT_KNOWN, Evidence(failure=RouteReason.CRM_FAILED), RouteReason.CRM_FAILED),
        (NOT_KNOWN, seen(a_card("gold")), RouteReason.NO_ROW_MATCHED),
        ({**equal("GOLD"), "operator": "!="}, seen(a_card(None)), RouteReason.NO_VALUE),
    ],
)
def test_what_could_not_be_found_out_matches_nothing_what_is_not_there_can_be_asked_for(
    row: dict[str, Any], evidence: Evidence, reason: RouteReason
) -> None:
    assert decided(a_rule(row), evidence).reason is reason


def test_one_true_is_enough_whatever_the_crm_would_have_said() -> None:
    row = when({"any": [about("field.Tier", "=", "GOLD"), about("caller.country", "=", "GB")]})
    evidence = Evidence(failure=RouteReason.CRM_FAILED)

    assert decided(a_rule(row), evidence, caller="+442079460000").row == 1


# -- asking only when a row wants it ---------------------------------------------------------


def test_a_row_before_those_that_need_the_crm_decides_without_it() -> None:
    closed = when(about("hours.office", "!=", "open"), "voicemail:101")

    night = datetime(2026, 11, 24, 23, tzinfo=UTC)
    assert place(decided(a_rule(closed, equal("GOLD")), now=night)) == "voicemail:101"
    with pytest.raises(ContactWanted):
        decided(a_rule(closed, equal("GOLD")))


@pytest.mark.parametrize(
    "more", [{"caller_name": True}, {"variables": {"CRM_TIER": "field.Tier"}}], ids=["name", "set"]
)
def test_what_goes_to_the_pbx_is_asked_for_too(more: dict[str, Any]) -> None:
    with pytest.raises(ContactWanted):
        decided(a_rule({"destination": "queue:all"}, **more))


# -- the default, and why -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        (NOBODY, RouteReason.NO_CONTACT),
        (seen(a_contact()), RouteReason.NO_FIELD),
        (seen(a_contact(), a_card("")), RouteReason.NO_VALUE),
        (seen(a_card("")), RouteReason.NO_VALUE),
        (seen(a_card([None, ""])), RouteReason.NO_VALUE),
        (seen(a_card("zinc")), RouteReason.NO_ROW_MATCHED),
        (seen(refused=["Leads has no field Tier"]), RouteReason.NO_FIELD),
        (Evidence(failure=RouteReason.OUT_OF_TIME), RouteReason.OUT_OF_TIME),
        (Evidence(failure=RouteReason.CRM_FAILED), RouteReason.CRM_FAILED),
        (Evidence(failure=RouteReason.NUMBER_WITHHELD), RouteReason.NUMBER_WITHHELD),
        (seen(a_card("gold"), failure=RouteReason.OUT_OF_TIME), RouteReason.OUT_OF_TIME),
    ],
)
def test_without_a_match_the_default_is_taken_and_says_why(
    evidence: Evidence, reason: RouteReason
) -> None:
    decision = decided(a_rule(), evidence)

    assert (place(decision), decision.reason) == ("queue:default", reason)
    assert (decision.row, decision.rule) == (None, "by-tier")


def test_a_module_that_could_not_be_asked_does_not_spoil_what_another_knows() -> None:
    decision = decided(a_rule(), seen(a_card("gold"), refused=["Leads has no field Tier"]))

    assert decision.reason is RouteReason.ROW_MATCHED


@pytest.mark.parametrize(
    ("flag", "destination", "after"),
    [
        (True, "voicemail:102", None),
        (False, "extension:102", False),
        (None, "extension:102", None),
    ],
)
def test_the_default_goes_to_its_voicemail_where_the_rule_says_so(
    flag: bool | None, destination: str, after: bool | None
) -> None:
    rule = a_rule(default="extension:102", default_voicemail=flag)

    decision = decided(rule, NOBODY)

    assert (place(decision), decision.voicemail) == (destination, after)


@pytest.mark.parametrize(
    ("free", "destination"), [(True, "extension:105"), (False, "voicemail:102")]
)
def test_a_manager_who_is_free_is_not_passed_over_for_his_voicemail(
    free: bool, destination: str
) -> None:
    rule = a_rule(default=["manager", "extension:102"], default_voicemail=True)
    manager = ManagerFound("105", free=free, said="")

    assert place(decided(rule, seen(a_card("zinc")), manager=manager)) == destination


@pytest.mark.parametrize(
    ("row", "rule", "destination", "after"),
    [
        (True, None, "extension:101", True),
        (False, True, "extension:101", False),
        (None, True, "extension:101", True),
        (None, None, "extension:101", None),
        # Only a phone has one.
        (True, True, "queue:support", None),
    ],
)
def test_a_row_says_whether_who_is_not_answered_goes_to_the_voicemail(
    row: bool | None, rule: bool | None, destination: str, after: bool | None
) -> None:
    said = {"voicemail": row} if row is not None else {}
    made = a_rule(equal("GOLD", destination, **said), voicemail=rule, default="extension:102")

    assert decided(made, seen(a_card("gold"))).voicemail is after
    assert decided(made, NOBODY).voicemail is rule


@pytest.mark.parametrize(
    ("default", "flag", "destination", "after"),
    [
        (["manager", "queue:last"], None, "queue:last", None),
        ("extension:102", True, "voicemail:102", None),
        ("extension:102", False, "extension:102", False),
        (
            {
                "split": [
                    {"percent": 50, "destination": "queue:a"},
                    {"percent": 50, "destination": "queue:b"},
                ]
            },
            None,
            "queue:b",
            None,
        ),
    ],
)
def test_when_all_goes_wrong_the_defaults_last_place_is_left(
    default: Any, flag: bool | None, destination: str, after: bool | None
) -> None:
    rule = a_rule(default=default, default_voicemail=flag, priority=7)
    decision = last_resort(standing(rule), Trace(lambda: 0.0), RouteReason.CRM_FAILED)
    assert (place(decision), decision.voicemail) == (destination, after)
    assert (decision.reason, decision.priority) == (RouteReason.CRM_FAILED, 7)


# -- digits of a menu -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"ivr": "main"}, RouteReason.DIGITS_WANTED),
        ({"ivr": "main", "dtmf": "42"}, RouteReason.ROW_MATCHED),
        ({"ivr": "main", "collected": True}, RouteReason.NO_ROW_MATCHED),
    ],
)
def test_a_menu_with_a_greeting_takes_digits_first(
    asked: dict[str, Any], reason: RouteReason
) -> None:
    rule = a_rule(
        when(about("call.dtmf", "=", "42")), ivrs=["main"], greeting="hello", crm=None, field=None
    )

    decision = decided(rule, **asked)

    assert decision.reason is reason
    assert decision.greeting == ("hello" if reason is RouteReason.DIGITS_WANTED else None)


@pytest.mark.parametrize(
    ("asked", "destination", "by"),
    [
        ({"dtmf": "42"}, "queue:order", "sub"),
        ({"dtmf": "7"}, "queue:rest", "sub"),
        ({"collected": True}, "queue:rest", "sub"),
        # The first rule is asked again, and may take the digits for itself.
        ({"dtmf": "1"}, "queue:one", "by-tier"),
    ],
)
def test_digits_that_another_rule_asked_for_find_it_again(
    asked: dict[str, Any], destination: str, by: str
) -> None:
    plain: dict[str, Any] = {"crm": None, "field": None, "ivrs": ["main"]}
    one = when(about("call.dtmf", "=", "1"), "queue:one")
    order = when(about("call.dtmf", "=", "42"), "queue:order")
    first = a_rule(one, default="rule:sub", **plain)
    sub = a_rule(order, name="sub", greeting="order", default="queue:rest", **plain)

    before = decided(first, None, sub, ivr="main")
    decision = decided(first, None, sub, ivr="main", **asked)

    assert (before.reason, before.greeting) == (RouteReason.DIGITS_WANTED, "order")
    assert (place(decision), decision.rule) == (destination, by)


# -- where rows lead ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("way", "manager", "destination", "reason"),
    [
        ("manager", FREE, "extension:101", RouteReason.ROW_MATCHED),
        (["manager", "queue:sales"], FREE, "extension:101", RouteReason.ROW_MATCHED),
        (
            ["manager", "queue:sales"],
            ManagerFound("101", free=False, said="busy"),
            "queue:sales",
            RouteReason.ROW_MATCHED,
        ),
        (
            "manager:any",
            ManagerFound("101", free=False, said="busy"),
            "extension:101",
            RouteReason.ROW_MATCHED,
        ),
        (
            "manager",
            ManagerFound("101", free=False, said="busy"),
            "queue:default",
            RouteReason.NOBODY_FREE,
        ),
        (
            "manager:any",
            ManagerFound(None, free=False, said="no owner"),
            "queue:default",
            RouteReason.NOBODY_FREE,
        ),
    ],
)
def test_a_call_goes_to_the_responsible_manager_only_if_free_else_on(
    way: Any, manager: ManagerFound, destination: str, reason: RouteReason
) -> None:
    rule = a_rule(equal("GOLD", way))

    decision = decided(rule, seen(a_card("gold")), manager=manager)

    assert (place(decision), decision.reason) == (destination, reason)


def test_a_row_whose_manager_is_busy_leaves_the_call_to_the_next_that_matches() -> None:
    rule = a_rule(equal("GOLD", "manager"), equal("x"), equal("gold", "queue:gold"))

    decision = decided(
        rule, seen(a_card("gold")), manager=ManagerFound("101", free=False, said="on a call")
    )

    assert (place(decision), decision.row) == ("queue:gold", 3)


def test_the_manager_is_looked_for_when_a_row_leads_there_and_not_before() -> None:
    rule = a_rule(equal("GOLD", "manager"))

    assert place(decided(rule, seen(a_card("zinc")))) == "queue:default"
    with pytest.raises(ManagerWanted):
        decided(rule, seen(a_card("gold")))


SPLIT = {
    "split": [
        {"percent": 70, "destination": "queue:a"},
        {"percent": 30, "destination": "queue:b"},
    ]
}


def test_a_split_gives_each_its_share_and_a_call_the_same_each_time() -> None:
    rule = a_rule({"destination": SPLIT}, crm=None, field=None)

    asked = [f"call-{number}" for number in range(1000)]
    drawn = [place(decided(rule, call_id=call)) for call in asked]

    assert drawn == [place(decided(rule, call_id=call)) for call in asked]
    assert 650 < Counter(drawn)["queue:a"] < 750


def test_two_splits_of_a_rule_are_drawn_apart() -> None:
    rules = [
        a_rule(equal("GOLD", SPLIT), {"destination": SPLIT}),
        a_rule(equal("zinc", SPLIT), {"destination": SPLIT}),
    ]
    drawn = {
        tuple(
            place(decided(rule, seen(a_card("gold")), call_id=f"call-{number}")) for rule in rules
        )
        for number in range(100)
    }
    assert len(drawn) == 4


def test_a_rule_may_lead_to_a_rule_whose_word_then_counts() -> None:
    first = a_rule(equal("GOLD", "rule:vip"))
    vip = a_rule(when(about("caller.country", "=", "GB"), "queue:vip"), name="vip", dids=[DID])

    decision = decided(first, seen(a_card("gold")), vip, caller="+442079460000")

    assert (place(decision), decision.rule, decision.row) == ("queue:vip", "vip", 1)
    assert [s.detail for s in decision.trace if s.step == "rule"] == ["vip (version 3)"]


def test_a_default_may_lead_to_a_rule() -> None:
    first = a_rule(default="rule:after")
    after = a_rule(equal("GOLD"), name="after", default="hangup:busy")

    decision = decided(first, NOBODY, after)

    assert (place(decision), decision.rule) == ("hangup:busy", "after")
    assert decision.reason is RouteReason.NO_CONTACT


@pytest.mark.parametrize("to", ["by-tier", "gone"])
def test_rules_that_lead_nowhere_end(to: str) -> None:
    """They are refused when they are written; a store may be older than that."""
    trace = Trace(lambda: 0.0)
    with pytest.raises(ContractError):
        decided(a_rule(default=f"rule:{to}"), NOBODY, trace=trace)
    assert len(trace.steps) < 10 * LONGEST_CHAIN


# -- what goes along ------------------------------------------------------------------------


def test_a_rows_words_for_the_pbx_hold_over_the_rules() -> None:
    rule = a_rule(
        equal("GOLD", priority=9, variables={"CRM_A": "contact.company"}),
        priority=1,
        variables={"CRM_A": "field.Tier", "CRM_B": "field.Tier"},
    )

    gold = decided(rule, seen(a_card("gold", company="Engines")))
    zinc = decided(rule, seen(a_card("zinc")))

    assert (gold.priority, gold.attributes) == (9, {"CRM_A": "Engines", "CRM_B": "gold"})
    assert (zinc.priority, zinc.attributes) == (1, {"CRM_A": "zinc", "CRM_B": "zinc"})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (7, "7"),
        (True, "yes"),
        (["a", 1], "a, 1"),
        ({"name": "Acme", "id": "1"}, "Acme"),
        ({"name": None, "title": "Dr"}, "Dr"),
        ([["a", None], {"label": "b"}], "a, b"),
        ("x" * 500, "x" * 200),
    ],
)
def test_a_variable_is_text_empty_where_nothing_is_known(value: JsonValue, text: str) -> None:
    rule = a_rule({"destination": "queue:a"}, variables={"CRM_X": "field.Tier"})
    assert decided(rule, seen(a_card(value))).attributes == {"CRM_X": text}
    assert decided(rule, Evidence(failure=RouteReason.CRM_FAILED)).attributes == {"CRM_X": ""}


def test_a_variable_has_the_callers_number_in_one_spelling() -> None:
    rule = a_rule(
        {"destination": "queue:a"}, variables={"CRM_X": "caller.number"}, crm=None, field=None
    )

    for caller in ("07700 900123", "00447700900123"):
        assert decided(rule, caller=caller).attributes == {"CRM_X": CALLER}
    assert decided(rule, caller="anonymous").attributes == {"CRM_X": ""}


@pytest.mark.parametrize(
    "value",
    ["x" * 1_000_000, ["x" * 9_000] * 200, {"name": "x", "a": [["x" * 9_000]]}, [[1]] * 1_000_000],
)
def test_what_the_crm_holds_does_not_make_a_decision_large(value: JsonValue) -> None:
    """It is kept, told over the bus, and sent to the PBX."""
    decision = decided(a_rule(equal("never", "queue:a")), seen(a_card(value), a_card(value)))

    assert decision.reason is not RouteReason.ROW_MATCHED
    assert len(decision.model_dump_json()) < 8_000
    assert isinstance(decision.value, str)
    assert decision.value.endswith("…")


@pytest.mark.parametrize("value", ["x" * 1000, ["a", {"b": 1}], {"name": "Acme"}, 7, None, True])
def test_other_values_are_shown_as_they_are(value: JsonValue) -> None:
    card = a_card(value)
    decision = decided(a_rule(equal("never", "queue:a")), seen(card))

    assert (decision.value, decision.contact) == (value, card)


# -- the trace ------------------------------------------------------------------------------


def rows_noted(decision: RouteDecision) -> list[str]:
    return [step.detail for step in decision.trace if step.step == "row"]


def test_the_trace_names_each_row_that_was_looked_at_and_no_other() -> None:
    rule = a_rule(*(equal(word) for word in ("bronze", "silver", "gold", "x")))

    assert rows_noted(decided(rule, seen(a_card("Silver")))) == [
        "1: = 'bronze' does not match",
        "2: = 'silver' matches",
    ]


def test_of_very_many_rows_the_trace_names_the_last() -> None:
    rule = a_rule(*(equal(f"v{number}") for number in range(1, 501)))

    noted = rows_noted(decided(rule, seen(a_card("v400"))))

    assert noted[0] == "1 to 379: none matches"
    assert noted[-1] == "400: = 'v400' matches"
    assert len(noted) == 22


def test_the_trace_of_a_default_ends_with_the_destination_and_the_reason() -> None:
    last = decided(a_rule(), seen(a_card("zinc"))).trace[-1]

    assert (last.step, last.detail) == ("default", "queue:default: no_row_matched")


def test_the_trace_counts_the_milliseconds_since_the_question() -> None:
    elapsed = itertools.count(1.0)
    trace = Trace(lambda: next(elapsed))

    decision = decided(a_rule(), seen(a_card("gold")), trace=trace)

    assert [step.after_ms for step in decision.trace] == [1.0, 2.0]
    assert decision.took_ms == 3.0


def test_a_trace_has_an_end() -> None:
    """Each row leads to the manager, who is busy."""
    rule = a_rule(*(equal("gold", "manager") for _ in range(5_000)))
    busy = ManagerFound("101", free=False, said="on a call")

    decision = decided(rule, seen(a_card("gold")), manager=busy)

    steps = [step.step for step in decision.trace]
    assert len(steps) == 301
    assert steps[200] == "trace"
    assert "9702 steps are left out" in decision.trace[200].detail
    assert steps[-1] == "default"


@pytest.mark.parametrize("count", [0, 5, 199, 200, 201, 299, 300])
def test_a_trace_goes_back_to_what_it_was(count: int) -> None:
    trace = Trace(lambda: 0.0)
    for number in range(count):
        trace.note("row", str(number))
    before = trace.steps

    for number in range(300 - count):
        trace.note("row", f"more {number}")
    trace.back_to(count)

    assert trace.steps == before
