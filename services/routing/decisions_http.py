"""What was decided, and why: for those who are asked why a call went where it went."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, Field, JsonValue

from services.routing.store import DecisionDocument, DecisionLog
from shared.contracts.routing import RouteDecision, RouteReason
from shared.errors import NotFound
from shared.http.auth import Caller, Scope
from shared.http.lists import Cursor, Id
from shared.http.routes import FromKey, FromPath, FromQuery, Routes
from shared.ids import Name
from shared.moments import Instant
from shared.pbx.asking import LONGEST_NUMBER, way_of
from shared.site.book import SiteBook


@dataclass(frozen=True, slots=True)
class DecisionDeps:
    decisions: DecisionLog
    site: SiteBook


class DecisionLine(BaseModel):
    """A decision in short."""

    id: str
    decided_at: Instant
    call_id: str | None = Field(default=None, description="None: the PBX named no call.")
    pbx: Name | None = None
    did: str
    ivr: Name | None = None
    caller: str
    dtmf: str = ""
    destination: str = Field(
        description="`kind:target`, `greeting:RECORDING`, or empty where no rule was set."
    )
    reason: RouteReason
    rule: Name | None = None
    version: int | None = None
    row: int | None = None
    value: JsonValue = None
    took_ms: float

    @classmethod
    def of(cls, document: DecisionDocument) -> DecisionLine:
        return cls.model_validate(_line(document))


class DecisionRecord(DecisionLine):
    """A decision with its trace."""

    decision: RouteDecision

    @classmethod
    def of(cls, document: DecisionDocument) -> DecisionRecord:
        return cls.model_validate({**_line(document), "decision": document.decision})


class DecisionPage(BaseModel):
    decisions: tuple[DecisionLine, ...]
    next_cursor: str | None = None


class ReadDecisions(BaseModel):
    caller: FromKey[Caller]
    call: FromQuery[str | None] = Field(
        default=None, description="`call_id` of a call.", max_length=128
    )
    did: FromQuery[str | None] = Field(
        default=None, description="With or without its plus sign.", max_length=LONGEST_NUMBER
    )
    from_: FromQuery[str | None] = Field(
        default=None,
        alias="from",
        description="The calling number, in any spelling.",
        max_length=LONGEST_NUMBER,
    )
    rule: FromQuery[Name | None] = Field(default=None, description="The rule that decided.")
    reason: FromQuery[RouteReason | None] = None
    after: FromQuery[Instant | None] = Field(default=None, description="Decided at or after.")
    limit: FromQuery[int] = Field(default=50, ge=1, le=500)
    cursor: FromQuery[Cursor | None] = Field(default=None, description="`next_cursor` of a page.")


class ReadDecision(BaseModel):
    caller: FromKey[Caller]
    id: FromPath[Id]


routes: Routes[DecisionDeps] = Routes(tag="routing")


@routes("GET", "/v1/routes/decisions", scope=Scope.CALLS_READ, fields=("decisions",))
async def read_decisions(deps: DecisionDeps, asked: ReadDecisions) -> DecisionPage:
    """Decisions, newest first."""
    tenant = asked.caller.tenant
    site = deps.site.site(tenant)
    page = await deps.decisions.page(
        tenant,
        call_id=asked.call,
        did=asked.did,
        caller=asked.from_,
        region=site.region if site is not None else None,
        rule=asked.rule,
        reason=asked.reason,
        after=asked.after,
        limit=asked.limit,
        cursor=asked.cursor,
    )
    return DecisionPage(
        decisions=tuple(map(DecisionLine.of, page.documents)), next_cursor=page.next_cursor
    )


@routes("GET", "/v1/routes/decisions/{id}", scope=Scope.CALLS_READ, errors=(NotFound,))
async def read_decision(deps: DecisionDeps, asked: ReadDecision) -> DecisionRecord:
    """One decision: what was looked at, step by step."""
    return DecisionRecord.of(await deps.decisions.get(asked.caller.tenant, asked.id))


def _line(document: DecisionDocument) -> dict[str, object]:
    decision = document.decision
    return {
        "id": document.key,
        "destination": way_of(decision),
        **document.model_dump(
            include={"decided_at", "call_id", "pbx", "did", "ivr", "caller", "dtmf"}
        ),
        **decision.model_dump(include={"reason", "rule", "version", "row", "value", "took_ms"}),
    }
