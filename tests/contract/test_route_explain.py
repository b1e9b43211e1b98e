"""Where would a call go? Over a real CRM server, by the rules that are live and by drafts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from services.routing.app import deciding_of
from services.routing.staff import StatusWord
from services.routing.store import DECISIONS
from services.routing.supposed import Supposed
from shared.contracts.agents import AgentStatus
from shared.crm.port import Priority
from shared.http.auth import Scope
from shared.testing.builders import NOON
from tests.contract.explain_kit import (
    DID,
    GRACE,
    JANE,
    NOBODY,
    SECOND,
    ExplainDesk,
    opened,
    rule,
    to,
)
from tests.contract.lookup_kit import Desk

EXPLAIN, BATCH = "/v1/routes/explain", "/v1/routes/explain/batch"
ANNA = "829914000000121001"


@pytest.fixture
async def desk() -> AsyncIterator[ExplainDesk]:
    async with opened() as found:
        yield found


# -- by what the CRM says, and by what is supposed ---------------------------------------------


@pytest.mark.parametrize(
    ("caller", "where", "row"),
    [
        (GRACE, "queue:support: row_matched", 1),
        (JANE, "extension:101: row_matched", 2),
        (NOBODY, "extension:102: no_contact", None),
        ("", "extension:102: number_withheld", None),
    ],
)
async def test_the_crm_is_asked_as_for_a_call(
    desk: ExplainDesk, caller: str, where: str, row: int | None
) -> None:
    decision = await desk.explained(from_=caller)

    assert to(decision) == where
    assert (decision["rule"], decision["version"], decision.get("row")) == ("by-tier", 1, row)
    assert [step["step"] for step in decision["trace"]][:2] == ["rule", "contact"]


async def test_nothing_is_kept(desk: ExplainDesk) -> None:
    await desk.explained(from_=GRACE)
    await desk.post(BATCH, {"did": DID, "questions": [{"from": JANE}]})

    assert await desk.platform.store.collection(DECISIONS).count() == 0


@pytest.mark.parametrize(
    ("contact", "where"),
    [
        ({"fields": {"Tier": "gold"}}, "queue:support: row_matched"),
        ({"module": "Leads", "fields": {"Tier": None}}, "extension:102: no_value"),
        ({"module": "Leads", "fields": {"Level": "GOLD"}}, "extension:102: no_field"),
        ({"fields": {"Tier": "TIN"}}, "extension:102: no_row_matched"),
        (None, "extension:102: no_contact"),
    ],
)
async def test_a_given_contact_takes_the_place_of_the_crm(
    desk: ExplainDesk, contact: Any, where: str
) -> None:
    assert to(await desk.explained(from_=JANE, contact=contact)) == where
    assert not desk.crm.asked


async def test_what_is_given_is_also_what_a_custom_crm_says(desk: ExplainDesk) -> None:
    custom = rule(crm=None, modules=[], custom={"url": "https://crm.example.com/a"})
    await desk.put(**custom)

    found = await desk.explained(from_=JANE, contact={"fields": {"Tier": "GOLD"}})

    assert to(found) == "queue:support: row_matched"
    assert "contact" not in found, "a custom CRM has none"


async def test_nobody_knows_a_caller_who_withholds_his_number(desk: ExplainDesk) -> None:
    decision = await desk.explained(contact=None)

    assert to(decision) == "extension:102: number_withheld"


async def test_it_is_the_time_that_is_said(desk: ExplainDesk) -> None:
    night = {"of": "time.of_day", "operator": ">=", "value": "18:00"}
    await desk.put(**rule(rows=[{"when": night, "destination": "voicemail:100"}]))

    assert to(await desk.explained(from_=JANE, at="2026-01-05T19:00:00Z")).startswith("voicemail")
    assert to(await desk.explained(from_=JANE, at="2026-01-05T12:00:00Z")).startswith("extension")


async def test_agents_do_what_is_said(desk: ExplainDesk) -> None:
    busy = {"of": "agent.101", "operator": "=", "value": "busy"}
    await desk.put(**rule(rows=[{"when": busy, "destination": "queue:support"}]))
    desk.staff.told("demo", "101", StatusWord(AgentStatus.BUSY, NOON))

    assert to(await desk.explained(from_=JANE)).startswith("queue")
    assert to(await desk.explained(from_=JANE, agents={"101": "free"})).startswith("extension")
    assert desk.staff.status("demo", "101") is AgentStatus.BUSY


async def test_the_manager_is_free_or_not_as_is_said(desk: ExplainDesk) -> None:
    await desk.put(**rule(rows=[{"operator": "exists", "destination": "manager"}]))
    given = {"owner_id": ANNA, "fields": {"Tier": "GOLD"}}

    free = await desk.explained(from_=JANE, contact=given)
    away = await desk.explained(from_=JANE, contact=given, agents={"101": "dinner"})

    assert to(free) == "extension:101: row_matched"
    assert to(away) == "extension:102: nobody_free"


async def test_digits_menus_and_a_rule_by_its_name(desk: ExplainDesk) -> None:
    of_menu = {"of": "call.dtmf", "operator": "starts_with", "value": "4"}
    await desk.put(
        name="menu",
        ivrs=["account"],
        greeting="enter-account",
        rows=[{"when": of_menu, "destination": "queue:accounts"}],
        default="queue:main",
    )

    assert to(await desk.explained(ivr="account")) == "digits_wanted"
    assert to(await desk.explained(ivr="account", dtmf="42")) == "queue:accounts: row_matched"
    assert to(await desk.explained(ivr="account", dtmf="-")) == "queue:main: no_row_matched"
    assert to(await desk.explained(did="", rule_name="menu", dtmf="42")).startswith("queue:acc")


async def test_what_leads_to_no_rule_says_so(desk: ExplainDesk) -> None:
    decision = await desk.explained(did="4930123", from_=JANE)

    assert to(decision) == "no_rule"
    assert decision["trace"][0]["detail"] == "no rule for DID 4930123"
    assert (await desk.post(EXPLAIN, {"did": DID, "rule_name": "nosuch"}))[0] == 404
    status, answer = await desk.post(EXPLAIN, {"from": JANE})
    assert (status, "say which number is called" in str(answer)) == (422, True)


@pytest.mark.parametrize(
    "odd",
    [
        {"did": DID, "frm": JANE},
        {"did": DID, "dtmf": "none"},
        {"did": "4" * 65},
        {"did": DID, "agents": {"101": "asleep"}},
        {"did": DID, "at": "2026-01-01T12:00:00"},
        {"did": DID, "at": "0001-01-01T00:00:00Z"},
        {"did": DID, "at": "9999-12-31T23:59:59Z"},
        {"did": DID, "contact": {"fields": {"No such!": 1}}},
        {"did": DID, "contact": {"fields": {"Tier": ["half a character: \ud800"]}}},
        {"did": DID, "contact": None, "rule": rule(field="\ud800")},
        {"did": DID, "contact": None, "rule": rule(name="\ud800")},
        {"did": DID, "contact": None, "rule": rule(credentials={"\ud800": "x"})},
        {"did": DID, "contact": None, "rule": rule(default="\ud800")},
        {"did": DID, "contact": None, "rule": {**rule(), "\ud800": "\ud800"}},
        {"did": DID, "rule": "by-tier"},
    ],
)
async def test_what_cannot_be_asked_is_refused(desk: ExplainDesk, odd: dict[str, Any]) -> None:
    status, answer = await desk.post(EXPLAIN, odd)

    assert status == 422, answer


async def test_it_takes_the_scope(desk: ExplainDesk) -> None:
    key = await desk.a_key(Scope.ROUTE_ASK, Scope.CALLS_READ)

    assert (await desk.post(EXPLAIN, {"did": DID}, key))[0] == 403
    assert (await desk.post(BATCH, {"questions": [{"did": DID}]}, key))[0] == 403


@pytest.mark.parametrize("draft", [None, rule(field="Email", default="extension:103")])
async def test_what_the_crm_knows_of_a_caller_takes_the_scope_for_that_too(
    desk: ExplainDesk, draft: dict[str, Any] | None
) -> None:
    reads_site = await desk.a_key(Scope.SITE_READ)
    reads_both = await desk.a_key(Scope.SITE_READ, Scope.CONTACTS_READ)
    live = {"did": DID, "from": JANE, "rule": draft}
    given = {**live, "contact": {"fields": {"Tier": "GOLD"}}}

    status, answer = await desk.post(EXPLAIN, live, reads_site)

    assert (status, "contacts:read" in answer["detail"]) == (403, True)
    assert (await desk.post(EXPLAIN, live, reads_both))[0] == 200
    assert (await desk.post(EXPLAIN, given, reads_site))[0] == 200
    del live["rule"], given["rule"]
    for questions, status in (([given], 200), ([given, live], 403)):
        batch = {"questions": questions, "rule": draft}
        assert (await desk.post(BATCH, batch, reads_site))[0] == status


async def test_the_crm_is_asked_after_everybody_else(desk: ExplainDesk) -> None:
    paper = Desk(desk.platform.store, desk.clock)
    connections = paper.connections()
    deciding, _ = deciding_of(desk.platform, connections, paper.finder(connections))
    explainer = replace(desk.explainer, deciding=deciding)
    scene = await explainer.scene("demo")

    await explainer.decided(scene, Supposed(did=DID, from_=JANE))
    await explainer.decided(scene, Supposed(did=DID, from_=GRACE), patience=SECOND)

    assert paper.crm.searches == [(JANE, Priority.SYNC), ("+447700900145", Priority.SYNC)]
    await paper.close()


# -- drafts ------------------------------------------------------------------------------------


async def test_a_draft_is_tried_in_place_of_the_stored_rule(desk: ExplainDesk) -> None:
    draft = rule(rows=[{"operator": "=", "value": "SILVER", "destination": "queue:vip"}])

    tried = await desk.explained(from_=JANE, rule=draft)

    assert (to(tried), tried.get("version")) == ("queue:vip: row_matched", None)
    assert to(await desk.explained(from_=JANE)) == "extension:101: row_matched"


async def test_a_new_draft_is_tried_beside_the_others(desk: ExplainDesk) -> None:
    draft = rule(name="second", dids=["442079460001"], default="rule:by-tier", rows=[
        {"operator": "=", "value": "TIN", "destination": "queue:tin"}
    ])  # fmt: skip

    found = await desk.explained(did="+442079460001", from_=JANE, rule=draft)

    assert (to(found), found["rule"]) == ("extension:101: row_matched", "by-tier")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "second"}, f"DID {DID} is already in rule by-tier"),
        ({"crm": "nosuch"}, "there is no crm nosuch"),
        ({"modules": ["Kontakte"]}, "no contact type Kontakte"),
        ({"rows": [{"operator": "=", "value": "x", "destination": "sofa:1"}]}, "row 1"),
        (
            {"rows": [{"operator": "=", "value": "x", "destination": "queue:1"}] * 2},
            "row 2: this row is never taken",
        ),
        ({"default": "rule:by-tier"}, "by-tier → by-tier"),
        ({"colour": "blue"}, "colour: unknown key"),
    ],
)
async def test_a_draft_that_could_not_be_stored_is_refused(
    desk: ExplainDesk, changes: dict[str, Any], words: str
) -> None:
    status, answer = await desk.post(EXPLAIN, {"did": DID, "rule": rule(**changes)})

    assert status == 422, answer
    assert words in answer["detail"]


async def test_asterisks_are_the_stored_secret_where_it_goes_the_same_way(
    desk: ExplainDesk,
) -> None:
    own = {"client_id": "somebody", "client_secret": "else"}
    await desk.put(**rule(credentials=own))
    kept = {"client_id": "********", "client_secret": "********"}

    refused = await desk.explained(from_=GRACE, rule=rule(credentials=kept))
    status, nothing = await desk.post(
        EXPLAIN, {"did": DID, "rule": rule(name="x", dids=["1"], credentials=kept)}
    )

    # The stored ones are wrong on purpose: they were sent, and the CRM did not take them.
    assert to(refused) == "extension:102: crm_failed"
    assert (status, "none is stored" in str(nothing)) == (422, True)


async def test_a_stored_secret_is_not_sent_to_another_address(desk: ExplainDesk) -> None:
    custom = {"url": "https://crm.example.com/a", "header": {"name": "X-Key", "value": "hidden"}}
    await desk.put(**rule(crm=None, modules=[], custom=custom))
    header = {"name": "X-Key", "value": "********"}
    here = rule(crm=None, modules=[], custom={**custom, "header": header})
    there = rule(
        crm=None, modules=[], custom={"url": "https://evil.example.com/a", "header": header}
    )

    same = await desk.explained(from_=JANE, contact=None, rule=here)
    status, answer = await desk.post(EXPLAIN, {"did": DID, "contact": None, "rule": there})

    assert to(same) == "extension:102: no_value"
    assert (status, "say custom.header.value again" in answer["detail"]) == (422, True)


async def test_a_new_address_is_tried_by_those_who_may_store_it(desk: ExplainDesk) -> None:
    custom = {"url": "https://crm.example.com/a"}
    asked = {
        "did": DID,
        "contact": None,
        "rule": rule(crm=None, modules=[], custom=custom),
    }

    status, answer = await desk.post(EXPLAIN, asked, await desk.a_key(Scope.SITE_READ))

    assert (status, "site:write" in answer["detail"]) == (403, True)
    assert (await desk.post(EXPLAIN, asked))[0] == 200


async def test_passwords_are_tried_by_those_who_may_store_them(desk: ExplainDesk) -> None:
    await desk.put(**rule(credentials={"refresh_token": "its own"}))
    key = await desk.a_key(Scope.SITE_READ, Scope.CONTACTS_READ)

    def asked(password: str) -> dict[str, Any]:
        return {"did": DID, "contact": None, "rule": rule(credentials={"refresh_token": password})}

    status, answer = await desk.post(EXPLAIN, asked("a guess"), key)

    assert (status, "site:write" in answer["detail"]) == (403, True)
    assert (await desk.post(EXPLAIN, asked("********"), key))[0] == 200
    assert (await desk.post(EXPLAIN, asked("a guess")))[0] == 200


# -- many at once ------------------------------------------------------------------------------


async def test_a_batch_answers_each_question_in_its_order(desk: ExplainDesk) -> None:
    asked = [{"from": caller} for caller in (GRACE, NOBODY, JANE, "")] * 5
    asked.append({"from": JANE, "did": "4930123"})

    status, answer = await desk.post(BATCH, {"did": DID, "questions": asked})

    assert status == 200, answer
    told = [(row["from"], row["destination"], row["reason"]) for row in answer["rows"]]
    assert told[:4] == [
        (GRACE, "queue:support", "row_matched"),
        (NOBODY, "extension:102", "no_contact"),
        (JANE, "extension:101", "row_matched"),
        ("", "extension:102", "number_withheld"),
    ]
    assert told[:-1] == told[:4] * 5
    assert told[-1] == (JANE, "", "no_rule")
    assert "changed" not in answer


async def test_a_batch_says_what_a_draft_would_change(desk: ExplainDesk) -> None:
    first = {"operator": "=", "value": "GOLD", "destination": "queue:support", "priority": 9}
    second = {"operator": "=", "value": "SILVER", "destination": "queue:vip"}
    questions = [{"from": caller} for caller in (GRACE, JANE, NOBODY)]
    body = {"did": DID, "questions": questions, "rule": rule(rows=[first, second])}

    _, answer = await desk.post(BATCH, body)
    _, alone = await desk.post(BATCH, {**body, "compare": False})

    told = [(r["now"], r["destination"], r["changed"], r["differs"]) for r in answer["rows"]]
    assert told == [
        ("queue:support", "queue:support", True, ["priority"]),
        ("extension:101", "queue:vip", True, ["destination"]),
        ("extension:102", "extension:102", False, []),
    ]
    assert answer["changed"] == 2
    assert [row["destination"] for row in alone["rows"]] == [row[1] for row in told]
    assert "now" not in alone["rows"][0]


async def test_a_batch_has_patience_with_a_slow_crm(desk: ExplainDesk) -> None:
    await desk.put(**rule(within="1s"))
    desk.crm.faults.latency_ms = 1500

    alone = await desk.explained(from_=GRACE)
    _, answer = await desk.post(BATCH, {"did": DID, "questions": [{"from": "+447700900146"}]})

    assert to(alone) == "extension:102: out_of_time"
    (row,) = answer["rows"]
    assert (row["destination"], row["value"]) == ("queue:support", "GOLD")
    assert row["took_ms"] >= 1500, "a call would have waited for it"


async def test_a_batch_says_where_the_crm_did_not_answer(desk: ExplainDesk) -> None:
    british = {"of": "caller.number", "operator": "starts_with", "value": "+44"}
    anybody = {"when": british, "destination": "queue:british"}
    first = {"operator": "=", "value": "GOLD", "destination": "queue:support"}
    await desk.put(**rule(rows=[first, anybody]))
    desk.crm.faults.fail_next = 50

    _, answer = await desk.post(BATCH, {"did": DID, "questions": [{"from": GRACE}]})

    (row,) = answer["rows"]
    assert (row["destination"], row["reason"]) == ("queue:british", "row_matched")
    assert row["fault"], "without the CRM this may be another row"


async def test_a_bad_question_of_a_batch_is_a_row_with_the_fault(desk: ExplainDesk) -> None:
    _, answer = await desk.post(BATCH, {"questions": [{"from": JANE}, {"from": JANE, "did": DID}]})

    assert "say which number is called" in answer["rows"][0]["fault"]
    assert "reason" not in answer["rows"][0]
    assert answer["rows"][1]["destination"] == "extension:101"


async def test_a_batch_is_bounded(desk: ExplainDesk) -> None:
    assert (await desk.post(BATCH, {"questions": []}))[0] == 422
    assert (await desk.post(BATCH, {"questions": [{"did": DID}] * 1001}))[0] == 422


async def test_a_batch_that_takes_too_long_says_which_rows_are_left() -> None:
    async with opened(batch_within=NOON - NOON) as desk:
        status, answer = await desk.post(BATCH, {"did": DID, "questions": [{"from": JANE}] * 3})

    assert status == 200
    assert ["send the rest again" in row["fault"] for row in answer["rows"]] == [True] * 3
