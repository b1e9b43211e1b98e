"""What makes no sense between rules, and at which row."""

from __future__ import annotations

from typing import Any

import pytest

from shared.site.models import Site
from shared.site.rules.checks import (
    MOST_FAULTS,
    Fault,
    Need,
    Thing,
    dangling,
    in_words,
    lonely,
    outline_of,
    rule_faults,
)
from shared.site.rules.places import LONGEST_CHAIN
from shared.site.rules.rule import RoutingRule

SITE = Site.model_validate(
    {
        "tenant": "acme",
        "crm": [{"name": "zoho", "template": "zoho"}],
        "agents": [{"extension": "101"}],
        "hours": [{"name": "shop", "open": {"mon": ["09:00-17:00"]}}],
    }
)


def a_rule(name: str, dids: str = "", ivrs: str = "", **changes: Any) -> RoutingRule:
    known: dict[str, Any] = {
        "name": name,
        "dids": dids.split(),
        "ivrs": ivrs.split(),
        "crm": "zoho",
        "field": "Tier",
        "rows": [a_row("GOLD", "queue:a")],
        "default": "queue:all",
    }
    return RoutingRule.model_validate(known | changes)


def a_row(value: str, to: str, **more: Any) -> dict[str, Any]:
    return {"operator": "=", "value": value, "destination": to, **more}


def when(of: str, to: str = "queue:a") -> dict[str, Any]:
    return {"when": {"any": [{"of": of, "operator": "exists"}]}, "destination": to}


def found(*rules: RoutingRule, others: tuple[RoutingRule, ...] = ()) -> list[Fault]:
    return rule_faults(SITE, rules, [outline_of(other) for other in others])


def test_rules_that_fit_have_no_faults() -> None:
    rules = (
        a_rule("main", "1 2", rows=[a_row("A", "rule:vip"), when("hours.shop"), when("agent.101")]),
        a_rule("vip", rows=[a_row("B", "queue:a")]),
        a_rule("menu", "1 2", "day"),
        a_rule("other-menu", "3", "day"),
        a_rule("any-menu", "", "day night"),
    )
    assert found(*rules) == []


@pytest.mark.parametrize(
    ("one", "other", "path", "what"),
    [
        (("1", ""), ("2 +1", ""), ("dids",), "DID +1 is already in rule one"),
        (("+1", ""), ("1", ""), ("dids",), "DID 1 is already in rule one"),
        (("", "day"), ("", "night day"), ("ivrs",), "menu day is already in rule one"),
        (("1 2", "day"), ("2", "day"), ("ivrs",), "menu day, DID 2 is already in rule one"),
        (("1", "day"), ("2", "day"), None, ""),
        (("1", "day"), ("", "day"), None, ""),
        (("1", "day"), ("1", ""), None, ""),
    ],
)
def test_a_place_is_one_rules_alone(
    one: tuple[str, str], other: tuple[str, str], path: tuple[str] | None, what: str
) -> None:
    first, second = a_rule("one", *one), a_rule("two", *other)
    together = [(("rules", 1, *path), what)] if path else []
    beside = [(("rules", 0, *path), what)] if path else []
    assert found(first, second) == together
    assert found(second, others=(first,)) == beside


def test_a_rule_takes_the_place_of_the_stored_one_of_its_name() -> None:
    assert found(a_rule("one", "1"), others=(a_rule("one", "1"),)) == []


def test_numbers_times_menus_have_a_bound() -> None:
    """Ten megabytes of rule could mean a million million places."""
    dids = " ".join(str(number) for number in range(1001))
    menus = " ".join(f"m{number}" for number in range(10))
    ((path, what),) = found(a_rule("one", dids, menus))
    assert (path, "over 10000" in what) == (("rules", 0, "ivrs"), True)


@pytest.mark.parametrize(
    ("changes", "path", "what"),
    [
        ({"crm": "other"}, ("crm",), "there is no crm other"),
        ({"rows": [a_row("A", "queue:a"), when("hours.x")]}, ("rows", 1), "there are no hours x"),
        ({"rows": [when("agent.102")]}, ("rows", 0), "there is no agent 102"),
        (
            {"rows": [a_row("A", "queue:a", variables={"CRM_A": "agent.7"})]},
            ("rows", 0),
            "there is no agent 7",
        ),
        ({"variables": {"CRM_A": "hours.x"}}, ("variables",), "there are no hours x"),
        ({"rows": [a_row("A", "rule:x")]}, ("rows", 0), "there is no rule x"),
        (
            {
                "rows": [
                    {
                        "destination": {
                            "split": [
                                {"percent": 50, "destination": "queue:a"},
                                {"percent": 50, "destination": "rule:x"},
                            ]
                        }
                    }
                ]
            },
            ("rows", 0),
            "there is no rule x",
        ),
        ({"default": "rule:x"}, ("default",), "there is no rule x"),
    ],
)
def test_what_a_rule_needs_is_there_or_named_with_its_place(
    changes: dict[str, Any], path: tuple[str | int, ...], what: str
) -> None:
    assert found(a_rule("fine", "2"), a_rule("main", "1", **changes)) == [
        (("rules", 1, *path), what)
    ]


def test_what_is_named_in_many_rows_is_named_once_with_the_first() -> None:
    rows = [a_row("A", "queue:a"), when("hours.x"), when("hours.x", "queue:b")]
    outline = outline_of(a_rule("main", "1", rows=rows))
    assert [*outline.needed(Thing.HOURS)] == [Need(thing=Thing.HOURS, name="x", part="rows", row=2)]
    assert (outline.rows, outline.field, outline.crm, outline.custom) == (3, "Tier", "zoho", False)


@pytest.mark.parametrize(
    ("leads", "faults"),
    [
        ({"a": "b", "b": ""}, []),
        ({"a": "a"}, [(("rules", 0, "rows", 0), "rules lead in a circle: a → a")]),
        (
            {"a": "b", "b": "c", "c": "a"},
            [(("rules", 0, "rows", 0), "rules lead in a circle: a → b → c → a")],
        ),
        (
            {"x": "a", "a": "b", "b": "a"},
            [(("rules", 1, "rows", 0), "rules lead in a circle: a → b → a")],
        ),
        ({"a": "b c", "b": "d", "c": "d", "d": ""}, []),
        (
            {"a": "b a", "b": "b"},
            [
                (("rules", 1, "rows", 0), "rules lead in a circle: b → b"),
                (("rules", 0, "rows", 1), "rules lead in a circle: a → a"),
            ],
        ),
    ],
)
def test_rules_do_not_lead_in_a_circle(leads: dict[str, str], faults: list[Fault]) -> None:
    rules = [
        a_rule(
            name,
            str(number),
            rows=[
                *(a_row(str(n), f"rule:{to}") for n, to in enumerate(targets.split())),
                a_row("other", "queue:x"),
            ],
        )
        for number, (name, targets) in enumerate(leads.items())
    ]
    assert found(*rules) == faults


def test_a_circle_through_a_stored_rule_is_the_new_ones_fault() -> None:
    stored = a_rule("stored", "1", default="rule:new")
    new = a_rule("new", "2", rows=[a_row("A", "queue:a"), a_row("B", "rule:stored")])
    assert found(new, others=(stored,)) == [
        (("rules", 0, "rows", 1), "rules lead in a circle: new → stored → new")
    ]


def test_a_circle_among_others_is_no_fault_of_this_rule() -> None:
    one, other = a_rule("a", "1", default="rule:b"), a_rule("b", "2", default="rule:a")
    assert found(a_rule("new", "3", default="rule:a"), others=(one, other)) == []


def chained(first: int, last: int, *, dids: str = "") -> list[RoutingRule]:
    """Rules r1 → r2 → …, the last of them a rule that leads nowhere if it is the 25th."""
    return [
        a_rule(f"r{n}", f"{dids}{n}", default=f"rule:r{n + 1}" if n < 25 else "queue:end")
        for n in range(first, last + 1)
    ]


@pytest.mark.parametrize("first", [1, 5, 6, 7])
def test_more_rules_than_a_decision_follows_are_refused(first: int) -> None:
    faults = found(*chained(first, 25))

    what = (
        f"{26 - first} rules lead to one another, at most {LONGEST_CHAIN} are followed: "
        f"r{first} → r{first + 1} → … → r25"
    )
    assert faults == ([(("rules", 0, "default"), what)] if 26 - first > LONGEST_CHAIN else [])


def test_a_rule_that_makes_a_way_of_stored_ones_too_long_is_at_fault() -> None:
    stored = (*chained(1, 9), *chained(11, 25))

    assert found(*chained(10, 10), others=stored)[0][0] == ("rules", 0, "default")
    assert found(a_rule("new", "99"), others=(*stored, *chained(10, 10))) == []


def test_a_row_that_is_never_taken_is_named() -> None:
    rows = [a_row("A", "queue:a"), a_row("B", "queue:b"), a_row("a", "queue:c")]
    ((path, what),) = found(a_rule("main", "1", rows=rows))
    assert path == ("rules", 0, "rows", 2)
    assert what.startswith("this row is never taken: row 1 ")


def test_a_rule_twice_is_told() -> None:
    assert (("rules", 1), "main is there twice") in found(a_rule("main", "1"), a_rule("main", "2"))


def test_faults_have_an_end() -> None:
    rows = [a_row(str(number), f"rule:r{number}") for number in range(MOST_FAULTS + 50)]
    faults = found(a_rule("main", "1", rows=rows))
    assert len(faults) == MOST_FAULTS + 1
    assert faults[-1] == (("rules",), "and more faults")
    rows = rows[:MOST_FAULTS]
    assert len(found(a_rule("main", "1", rows=rows))) == MOST_FAULTS


def test_a_rule_that_nothing_leads_to_is_told() -> None:
    rules = [
        a_rule("main", "1", default="rule:vip"),
        a_rule("vip"),
        a_rule("menu", "", "day"),
        a_rule("alone"),
    ]
    assert list(lonely([outline_of(rule) for rule in rules])) == [
        (("rules", 3), "nothing leads to rule alone: say its `dids` or `ivrs`")
    ]


def test_what_stored_rules_would_lack_is_told_with_their_names() -> None:
    rule = outline_of(a_rule("main", "1", rows=[a_row("A", "rule:vip"), when("agent.101")]))
    bare = SITE.model_copy(update={"agents": (), "crm": ()})
    assert list(dangling(SITE, [rule], {"main", "vip"})) == []
    faults = list(dangling(bare, [rule], {"main"}))
    assert in_words(faults) == (
        "rule main, crm: there is no crm zoho; rule main, row 2: there is no agent 101; "
        "rule main, row 1: there is no rule vip"
    )


def test_faults_of_one_rule_are_said_by_row_and_key() -> None:
    faults: list[Fault] = [
        (("rules", 0, "rows", 2, "value"), "no"),
        (("rules", 0, "dids"), "taken"),
        (("rules", 0), "all wrong"),
        (("rules",), "and more faults"),
    ]
    assert in_words(faults) == "row 3, value: no; dids: taken; all wrong; and more faults"
