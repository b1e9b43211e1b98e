"""Where would a call go? Asked without a call, by those who write rules."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from services.routing.explain import Explainer
from services.routing.explain_batch import Outcome, Trying, in_order
from services.routing.supposed import ExplainQuestion, Supposed
from shared.contracts.routing import RouteDecision
from shared.errors import Forbidden, NotFound
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromKey, Routes
from shared.ids import Name
from shared.pbx.asking import LONGEST_NUMBER

MOST_QUESTIONS = 1000
#: A proxy gives up after a minute; the last questions may take ten seconds and their rule's budget.
_WITHIN = timedelta(seconds=40)


@dataclass(frozen=True, slots=True)
class ExplainDeps:
    explainer: Explainer
    #: After this no question of a batch is begun.
    batch_within: timedelta = _WITHIN


class AskExplain(BaseModel):
    caller: FromKey[Caller]
    body: FromBody[ExplainQuestion]


class ExplainBatch(BaseModel):
    model_config = ConfigDict(extra="forbid")

    questions: tuple[Supposed, ...] = Field(min_length=1, max_length=MOST_QUESTIONS)
    did: str = Field(
        default="", max_length=LONGEST_NUMBER, description="Of questions that name none."
    )
    rule: dict[str, JsonValue] | None = Field(
        default=None, description="A draft, as in one question."
    )
    rule_name: Name | None = Field(default=None, description="As in one question.")
    compare: bool = Field(
        default=True, description="With a draft: say beside it what the live rules decide."
    )


class AskBatch(BaseModel):
    caller: FromKey[Caller]
    body: FromBody[ExplainBatch]


class Outcomes(BaseModel):
    rows: tuple[Outcome, ...] = Field(description="One for each question, in their order.")
    changed: int | None = Field(
        default=None, description="With a draft: how many calls would be treated otherwise."
    )


routes: Routes[ExplainDeps] = Routes(tag="routing")


@routes("POST", "/v1/routes/explain", scope=Scope.SITE_READ, errors=(NotFound,), is_change=False)
async def explain_route(deps: ExplainDeps, asked: AskExplain) -> RouteDecision:
    """Where would this call go, and why?

    Decided as for a call, by the rules that are live or by a draft; nothing is kept. The CRM is
    asked after everybody else, where no contact is given, and that needs the scope `contacts:read`
    too. A draft needs `site:write` where the address of its custom CRM, or its credentials, are not
    the stored ones.
    """
    caller = asked.caller
    _check_reads(caller, (asked.body,))
    return await deps.explainer.explain(
        caller.tenant, asked.body, elsewhere=_may_lead_elsewhere(caller)
    )


@routes(
    "POST",
    "/v1/routes/explain/batch",
    scope=Scope.SITE_READ,
    errors=(NotFound,),
    is_change=False,
)
async def explain_routes(deps: ExplainDeps, asked: AskBatch) -> Outcomes:
    """Where would these calls go?

    Eight at a time, each with up to ten seconds for the CRM. After forty seconds none is begun any
    more: those rows say so in `fault`, to be sent again. Scopes are as for one question.
    """
    body, tenant = asked.body, asked.caller.tenant
    _check_reads(asked.caller, body.questions)
    explainer, until = deps.explainer, monotonic() + deps.batch_within.total_seconds()
    draft = await explainer.draft(tenant, body.rule, elsewhere=_may_lead_elsewhere(asked.caller))
    scene = await explainer.scene(tenant, draft, name=body.rule_name)
    compares = draft is not None and body.compare
    live = await explainer.scene(tenant, name=body.rule_name) if compares else None
    trying = Trying(explainer, scene, live)

    async def outcome(question: Supposed) -> Outcome:
        if monotonic() >= until:
            told = {"from": question.from_, "did": question.did, "fault": _TOO_LATE}
            return Outcome.model_validate(told)
        return await trying.outcome(question)

    questions = (_with_did(question, body.did) for question in body.questions)
    async with aclosing(in_order(questions, outcome)) as found:
        rows = tuple([row async for _, row in found])
    return Outcomes(rows=rows, changed=sum(bool(row.changed) for row in rows) if compares else None)


_TOO_LATE = "not asked any more: the batch took too long; send the rest again"


def _with_did(question: Supposed, did: str) -> Supposed:
    return question if question.did or not did else question.model_copy(update={"did": did})


def _check_reads(caller: Caller, questions: Iterable[Supposed]) -> None:
    """A draft says which fields, and a question whose. Raises: Forbidden."""
    if Scope.CONTACTS_READ not in caller.scopes and any(one.asks_crm for one in questions):
        raise Forbidden(
            "contact: is left out, so the CRM is asked for what it knows of the caller; say it, or "
            "take a key that has the scope contacts:read too"
        )


def _may_lead_elsewhere(caller: Caller) -> bool:
    return Scope.SITE_WRITE in caller.scopes
