"""What was decided, read again by those who are asked why."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from services.routing.store import DECISIONS, DecisionLog
from shared.clock import ManualClock
from shared.contracts.routing import DecideRoute, Destination, RouteDecision, RouteReason, TraceStep
from shared.errors import ContractError, NotFound
from shared.http.auth import Scope
from tests.contract.explain_kit import DID, GRACE, JANE, ExplainDesk, opened
from tests.contract.lookup_kit import desk_on

DECISIONS_AT = "/v1/routes/decisions"
SECOND = timedelta(seconds=1)


def asked(caller: str = JANE, **more: str) -> DecideRoute:
    return DecideRoute.model_validate({"did": DID, "caller": caller, **more})


def decided(rule: str = "by-tier", reason: RouteReason = RouteReason.ROW_MATCHED) -> RouteDecision:
    return RouteDecision(
        destination=Destination.parse("queue:support"),
        reason=reason,
        rule=rule,
        version=3,
        row=1,
        field="Tier",
        value="GOLD",
        took_ms=12.5,
        trace=(TraceStep(step="rule", detail=f"{rule} (version 3)", after_ms=0.1),),
    )


# -- the log, in either store ------------------------------------------------------------------


@pytest.fixture(
    params=["sqlite", pytest.param("mongo", marks=pytest.mark.mongodb)],
)
async def log(request: pytest.FixtureRequest, clock: ManualClock) -> AsyncIterator[DecisionLog]:
    """Five decisions of acme, a second apart, and one of another tenant."""
    kind = request.param
    url = request.getfixturevalue("mongo_url") if kind == "mongo" else None
    async with desk_on(kind, clock, url) as desk:
        found = DecisionLog(desk.store.collection(DECISIONS), clock, keep=timedelta(days=1))
        for number, (question, decision) in enumerate(
            [
                (asked(), decided()),
                (asked("07700 900123", call_id="c1", did=f"+{DID}"), decided("vip")),
                (asked(GRACE, call_id="c2"), decided(reason=RouteReason.OUT_OF_TIME)),
                (asked("", call_id="c3"), decided(reason=RouteReason.NUMBER_WITHHELD)),
                (asked(did="4930123"), RouteDecision(reason=RouteReason.NO_RULE)),
            ]
        ):
            await found.note(tenant="acme", asked=question, decision=decision, region="GB")
            if number < 4:
                await clock.advance(SECOND)
        await found.note(tenant="globex", asked=asked(), decision=decided(), region="GB")
        yield found


@pytest.mark.parametrize(
    ("wanted", "callers"),
    [
        ({}, [JANE, "", GRACE, "07700 900123", JANE]),
        ({"call_id": "c2"}, [GRACE]),
        ({"caller": "+44 7700 900123"}, [JANE, "07700 900123", JANE]),
        ({"caller": "07700900145"}, [GRACE]),
        ({"caller": ""}, [""]),
        ({"did": DID}, ["", GRACE, "07700 900123", JANE]),
        ({"did": "+4930123"}, [JANE]),
        ({"rule": "vip"}, ["07700 900123"]),
        ({"reason": RouteReason.OUT_OF_TIME}, [GRACE]),
        ({"rule": "by-tier", "caller": JANE}, [JANE]),
        ({"rule": "nosuch"}, []),
    ],
)
async def test_decisions_are_found_by_call_numbers_rule_and_reason(
    log: DecisionLog, wanted: dict[str, Any], callers: list[str]
) -> None:
    page = await log.page("acme", region="GB", **wanted)

    assert [document.caller for document in page.documents] == callers


async def test_decisions_are_paged_and_begin_where_one_says(
    log: DecisionLog, clock: ManualClock
) -> None:
    first = await log.page("acme", limit=2)
    second = await log.page("acme", limit=2, cursor=first.next_cursor)
    third = await log.page("acme", limit=2, cursor=second.next_cursor)
    since = await log.page("acme", after=clock.now() - SECOND)

    every = [d.key for page in (first, second, third) for d in page.documents]
    assert (len(every), len(set(every)), third.next_cursor) == (5, 5, None)
    assert [document.key for document in since.documents] == every[:2]
    with pytest.raises(ContractError, match="cursor"):
        await log.page("acme", cursor="rubbish")


async def test_a_decision_is_its_tenants(log: DecisionLog) -> None:
    (document,) = (await log.page("globex")).documents

    assert await log.get("globex", document.key) == document
    with pytest.raises(NotFound):
        await log.get("acme", document.key)


# -- by HTTP -----------------------------------------------------------------------------------


@pytest.fixture
async def desk() -> AsyncIterator[ExplainDesk]:
    async with opened() as found:
        for question, decision in (
            (asked(call_id="c1", ivr="account", dtmf="42", pbx="sandbox"), decided()),
            (asked(GRACE), decided("vip", RouteReason.NOBODY_FREE)),
        ):
            await found.decisions.note(
                tenant="demo", asked=question, decision=decision, region="GB"
            )
        yield found


async def test_a_decision_is_read_with_its_trace(desk: ExplainDesk) -> None:
    _, page = await desk.get(DECISIONS_AT, call="c1")
    (line,) = page["decisions"]
    status, whole = await desk.get(f"{DECISIONS_AT}/{line['id']}")

    assert line | {"id": "", "decided_at": ""} == {
        "id": "",
        "decided_at": "",
        "call_id": "c1",
        "pbx": "sandbox",
        "did": DID,
        "ivr": "account",
        "caller": JANE,
        "dtmf": "42",
        "destination": "queue:support",
        "reason": "row_matched",
        "rule": "by-tier",
        "version": 3,
        "row": 1,
        "value": "GOLD",
        "took_ms": 12.5,
    }
    assert status == 200
    assert whole["decision"]["trace"] == [
        {"step": "rule", "detail": "by-tier (version 3)", "after_ms": 0.1}
    ]
    assert {name: whole[name] for name in line} == line


async def test_decisions_are_asked_for_by_url(desk: ExplainDesk) -> None:
    async def callers(**query: Any) -> list[str]:
        status, page = await desk.get(DECISIONS_AT, **query)
        assert status == 200, page
        return [line["caller"] for line in page["decisions"]]

    assert await callers(**{"from": "+447700900145"}) == [GRACE]
    assert await callers(did=f"+{DID}", rule="by-tier") == [JANE]
    assert await callers(reason="nobody_free") == [GRACE]
    assert await callers(after="2999-01-01T00:00:00Z") == []
    _, page = await desk.get(DECISIONS_AT, limit=1)
    (first,) = page["decisions"]
    (second,) = await callers(limit=1, cursor=page["next_cursor"])
    assert {first["caller"], second} == {JANE, GRACE}


@pytest.mark.parametrize(
    "query",
    [{"limit": 0}, {"limit": 501}, {"reason": "luck"}, {"rule": "No Name"}, {"cursor": "x"}],
)
async def test_a_list_that_is_none_is_refused(desk: ExplainDesk, query: dict[str, Any]) -> None:
    assert (await desk.get(DECISIONS_AT, **query))[0] == 422


async def test_decisions_take_their_scope_and_stay_in_their_tenant(desk: ExplainDesk) -> None:
    _, page = await desk.get(DECISIONS_AT, call="c1")
    path = f"{DECISIONS_AT}/{page['decisions'][0]['id']}"

    assert (await desk.get(path, await desk.a_key(Scope.SITE_READ)))[0] == 403
    other = await desk.a_key(Scope.CALLS_READ, tenant="globex")
    assert (await desk.get(path, other))[0] == 404
    assert (await desk.get(DECISIONS_AT, other))[1] == {"decisions": []}
    assert (await desk.get(f"{DECISIONS_AT}/nosuch"))[0] == 404
