from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from shared.site.rules.misread import faults_of_rule
from shared.site.rules.rule import RoutingRule

GOLD = {"operator": "=", "value": "gold", "destination": "queue:gold"}
RULE = {
    "name": "tiers",
    "dids": ["100"],
    "crm": "zoho",
    "field": "Tier",
    "rows": [GOLD],
    "default": "queue:support",
}
CUSTOM = {"url": "https://crm.example.com/field"}
WHOLE = [
    {"percent": 50, "destination": "queue:a"},
    {"percent": 50, "destination": "manager:any"},
]


def rule(**words: Any) -> RoutingRule:
    """None: without that key."""
    return RoutingRule.model_validate(
        {key: value for key, value in (RULE | words).items() if value is not None}
    )


def faults(**words: Any) -> list[str]:
    """``place: words``, as people are told."""
    with pytest.raises(ValidationError) as raised:
        rule(**words)
    return [f"{'.'.join(map(str, path))}: {what}" for path, what in faults_of_rule(raised.value)]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        # What a row says.
        (
            {"operator": "=", "value": "a", "when": {"value": "b"}},
            "rows.0: say `when`, or `operato",
        ),
        ({"value": "gold"}, "rows.0: there is a value, but no operator"),
        (
            {"operator": "exists", "value": "1"},
            "rows.0: `exists` takes no value; put it under `non",
        ),
        ({"operator": "="}, "rows.0: `=` takes one value"),
        ({"operator": "<", "value": ["1", "2"]}, "rows.0: `<` takes one value"),
        ({"operator": "in"}, "rows.0: `in` takes a list: [GOLD, SILVER]"),
        ({"operator": "between", "value": "10"}, "rows.0: `between` takes two values: [10, 20]"),
        ({"operator": "between", "value": ["1", "2", "3"]}, "rows.0: `between` takes two values"),
        ({"operator": "matches", "value": "[a"}, "rows.0: '[a' is no pattern: missing ]"),
        ({"operator": "older_than", "value": "30"}, "rows.0: '30' is no age: say 30d, 12h, 15m"),
        ({"operator": "newer_than", "value": "soon"}, "rows.0: 'soon' is no age"),
        ({"operator": "~", "value": "1"}, "rows.0.operator: Input should be '=', '!=', '<'"),
        ({"operator": "=", "value": ""}, "rows.0.value: String should have at least 1 character"),
        (
            {"operator": "=", "value": "x" * 501},
            "rows.0.value: String should have at most 500 char",
        ),
        ({"operator": "=", "value": {"a": 1}}, "rows.0.value: Input should be a valid string"),
        (
            {"operator": "in", "value": ["a", ""]},
            "rows.0.value.1: String should have at least 1 ch",
        ),
        # Conditions.
        (
            {"when": {"of": "fild.X", "value": "1"}},
            "rows.0.when.of: 'fild.X' is nothing to ask abo",
        ),
        (
            {"when": {"of": "field.", "value": "1"}},
            "rows.0.when.of: 'field.' is nothing to ask abo",
        ),
        (
            {"when": {"of": "hours.A b", "value": "1"}},
            "rows.0.when.of: 'hours.A b' is nothing to a",
        ),
        (
            {"when": {"of": 3, "value": "1"}},
            "rows.0.when.of: what is asked about is a text, such a",
        ),
        ({"when": {"all": []}}, "rows.0.when.all: Tuple should have at least 1 item"),
        (
            {"when": {"none": [{"value": "x"}] * 51}},
            "rows.0.when.none: Tuple should have at most 50",
        ),
        ({"when": {"all": [{"value": "x"}], "any": []}}, "rows.0.when.any: unknown key"),
        ({"when": {"any": [{"valu": "x"}]}}, "rows.0.when.any.0.valu: unknown key"),
        ({"when": "gold"}, "rows.0.when: Input should be an object"),
        ({"when": {}}, "rows.0: `=` takes one value"),
        ({"when": {"any": [{"any": [{"value": "x"}] * 50}] * 5}}, "rows.0: more than 200 tests"),
        ({"when": {"all": [{"operator": "in"}]}}, "rows.0: `in` takes a list"),
        # Where it leads.
        ({"destination": None}, "rows.0.destination.0: a destination is a text such as queue:supp"),
        (
            {"destination": 42},
            "rows.0.destination.0: a destination is a text such as queue:support",
        ),
        ({"destination": []}, "rows.0.destination: Value should have at least 1 item"),
        (
            {"destination": ["queue:a"] * 11},
            "rows.0.destination: Value should have at most 10 item",
        ),
        (
            {"destination": "queu:a"},
            "rows.0.destination: 'queu:a': there is no destination of that",
        ),
        ({"destination": "queu:a"}, "'external' or 'hangup', `manager` or `rule`"),
        (
            {"destination": "manager:me"},
            "rows.0.destination: 'manager:me': there is no destination",
        ),
        ({"destination": "queue:"}, "rows.0.destination: 'queue:': String should match pattern"),
        ({"destination": "queue:a b"}, "rows.0.destination: 'queue:a b': String should match patt"),
        (
            {"destination": "rule:A b"},
            "rows.0.destination: 'rule:A b': String should match pattern",
        ),
        ({"destination": "hangup:loud"}, "the tone is one of busy, congestion, unobtainable, none"),
        (
            {"destination": {"split": WHOLE[:1]}},
            "destination.0.split: Tuple should have at least 2",
        ),
        (
            {"destination": {"split": [*WHOLE, {"percent": 1, "destination": "queue:b"}]}},
            "rows.0.destination.0: the percents add up to 101, not to 100",
        ),
        (
            {"destination": {"split": [WHOLE[0], {"percent": 0, "destination": "queue:b"}]}},
            "rows.0.destination.0.split.1.percent: Input should be greater than or equal to 1",
        ),
        (
            {"destination": ["manager", "queue:a", "extension:101"]},
            "rows.0.destination: number 2 of the list, queue:a, can always be had, so those behind it",
        ),
        (
            {"destination": ["rule:b", "queue:a"]},
            "rows.0.destination: number 1 of the list, rule:b, can always be had",
        ),
        # What can never be.
        ({"operator": "=", "value": " "}, "rows.0: `=` takes more than blanks"),
        ({"operator": "in", "value": ["a", "\t"]}, "rows.0: `in` takes more than blanks"),
        (
            {"when": {"of": "time.weekday", "value": "monday"}},
            "rows.0: time.weekday is never 'monday': it is one of mon, tue, wed,",
        ),
        (
            {"when": {"any": [{"of": "hours.office", "operator": "!=", "value": "opened"}]}},
            "rows.0: hours.office is never 'opened': it is one of open, closed, holiday",
        ),
        (
            {"when": {"of": "caller.country", "operator": "in", "value": ["DE", "UK"]}},
            "rows.0: caller.country is never 'UK': it is a country's two letters by ISO 3166: GB",
        ),
        (
            {"when": {"of": "agent.101", "value": "available"}},
            "rows.0: agent.101 is never 'available': it is one of free, busy, break,",
        ),
        ({"when": {"of": "contact.known", "value": "maybe"}}, "contact.known is never 'maybe'"),
        ({"operator": "matches", "value": "[a-z]{1000}" * 6}, "takes too long: shorten what is"),
        # What goes along.
        (
            {"destination": "rule:vip", "priority": 9},
            "rows.0: another rule says its own `priority`, `voicemail` and `variables`: these are never used",
        ),
        (
            {"destination": "rule:vip", "variables": {"CRM_A": "call.did"}},
            "rows.0: another rule says its own",
        ),
        ({"priority": 1001}, "rows.0.priority: Input should be less than or equal to 1000"),
        ({"variables": {"TIER": "field.Tier"}}, "rows.0.variables.TIER: String should match patte"),
        (
            {"variables": {"CRM_NAME": "field.Tier"}},
            "rows.0.variables: CRM_NAME is set by the answ",
        ),
        (
            {"variables": {f"CRM_{number}": "field.Tier" for number in range(21)}},
            "rows.0.variables: Dictionary should have at most 20 items",
        ),
        ({"destinations": "queue:a"}, "rows.0.destinations: unknown key"),
    ],
)
def test_what_a_row_may_not_say(words: dict[str, Any], said: str) -> None:
    told = faults(rows=[{"destination": "queue:gold", **words}])

    assert [what for what in told if said in what], told


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"rows": []}, "rows: Tuple should have at least 1 item"),
        ({"custom": CUSTOM}, ": say `crm` or `custom`, not both"),
        ({"crm": None}, ": field.Tier is asked of a CRM: say which `crm`"),
        ({"field": None}, ": row 1 compares a field, but `field` names none"),
        ({"field": None, "rows": [{"destination": "queue:a"}, GOLD]}, ": row 2 compares a field"),
        (
            {
                "rows": [
                    GOLD,
                    *(
                        {
                            "when": {"of": f"field.A{n}", "operator": "exists"},
                            "destination": "queue:a",
                        }
                        for n in range(100)
                    ),
                ]
            },
            ": asks for 101 fields of the CRM, 100 at most",
        ),
        (
            {
                "rows": [
                    {"operator": "matches", "value": f"^a{n}$", "destination": "queue:a"}
                    for n in range(1000)
                ]
            },
            ": row 926: all `matches` up to here take too long together",
        ),
        ({"field": "Tier 1"}, "field: String should match pattern"),
        ({"greeting": "welcome"}, ": a greeting is for a menu: say which `ivrs`"),
        ({"ivrs": ["menu"], "greeting": "../secret"}, "greeting: String should match pattern"),
        ({"default": "manager"}, ": the default ends with a place that is always there, not a man"),
        ({"default": {"split": WHOLE}}, ": the default ends with a place that is always there"),
        ({"default_voicemail": True}, ": `default_voicemail` needs an extension as the default"),
        ({"within": "0s"}, "within: Input should be more than 0s"),
        ({"within": "11s"}, "within: Input should be at most 10s"),
        ({"within": "soon"}, "within: not a length of time: 250ms, 1.5s, 10m, 2h"),
        ({"zone": "Mars/Olympus"}, "zone: Mars/Olympus is no time zone"),
        ({"dids": ["12a"]}, "dids.0: String should match pattern"),
        ({"feild": "Tier"}, "feild: unknown key"),
        (
            {"crm": None, "field": None, "rows": [{"destination": ["manager", "queue:a"]}]},
            ": manager is asked of a CRM: say which `crm`",
        ),
        (
            {
                "crm": None,
                "field": None,
                "rows": [{"destination": "queue:a"}],
                "caller_name": True,
            },
            ": caller_name is asked of a CRM: say which `crm`",
        ),
    ],
)
def test_what_a_rule_may_not_say(words: dict[str, Any], said: str) -> None:
    told = faults(**words)

    assert [what for what in told if what.startswith(said)], told


@pytest.mark.parametrize(
    ("custom", "words", "said"),
    [
        ({"url": "http://crm.example.com"}, {}, "custom.url: the address begins with https://"),
        ({"url": "https://"}, {}, "custom.url: the address begins with https://"),
        ({"url": "https://user:pw@crm.example.com"}, {}, "custom.url: the address begins with"),
        ({"url": "https://crm.example.com/#a"}, {}, "custom.url: the address begins with"),
        ({"url": "https://crm.example.com/a b"}, {}, "custom.url: the address begins with"),
        ({"url": "https://crm.example.com:99999"}, {}, "custom.url: the address begins with"),
        ({"url": "https://[::1"}, {}, "custom.url: the address begins with"),
        ({"send": {"dtmf": "caller"}}, {}, "custom.send: dtmf is sent in any case"),
        ({"send": {"a b": "caller"}}, {}, "custom.send.a b: String should match pattern"),
        ({"send": {"who": "me"}}, {}, "custom.send.who: Input should be 'caller', 'did'"),
        (
            {"header": {"name": "Host", "value": "sealed:AAAA"}},
            {},
            "custom.header.name: Host is said by the request itself",
        ),
        ({}, {"field": None}, ": a custom CRM is asked for a `field`"),
        ({}, {"modules": ["Leads"]}, ": `modules`, `credentials` and `caller_name` are for a"),
        ({}, {"caller_name": True}, ": `modules`, `credentials` and `caller_name` are for a"),
        (
            {},
            {"credentials": {"password": "sealed:AAAA"}},
            ": `modules`, `credentials` and `caller_name` are for a `crm`",
        ),
        ({}, {"default": ["manager", "queue:a"]}, ": a custom CRM knows of no manager"),
        (
            {},
            {"variables": {"CRM_WHO": "contact.name"}},
            ": contact.name: a custom CRM is asked for field.Tier alone",
        ),
        (
            {},
            {"rows": [{"when": {"of": "field.Size", "value": "1"}, "destination": "queue:a"}]},
            ": field.Size: a custom CRM is asked for field.Tier alone",
        ),
    ],
)
def test_what_a_rule_over_a_custom_crm_may_not_say(
    custom: dict[str, Any], words: dict[str, Any], said: str
) -> None:
    told = faults(crm=None, custom=CUSTOM | custom, **words)

    assert [what for what in told if what.startswith(said)], told


def test_a_secret_is_not_told_with_its_fault() -> None:
    told = faults(crm=None, custom=CUSTOM | {"header": {"name": "X-Key", "value": "hunter2"}})

    assert told
    assert "hunter2" not in "".join(told)
