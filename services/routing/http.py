"""The question by HTTP: for dialplans that ask by CURL(), and for PBXs that ask by URL."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, Field

from services.routing.decider import Decider
from shared.contracts.routing import DecideRoute, RouteDecision
from shared.http.auth import Caller, Scope
from shared.http.routes import FromKey, FromQuery, Routes
from shared.ids import Name, call_id


@dataclass(frozen=True, slots=True)
class HttpDeps:
    decider: Decider


class AskRoute(BaseModel):
    caller: FromKey[Caller]
    did: FromQuery[str] = Field(description="The number that was called.", max_length=64)
    from_: FromQuery[str] = Field(
        default="",
        alias="from",
        description="The calling number; empty when withheld.",
        max_length=64,
    )
    dtmf: FromQuery[str] = Field(
        default="",
        description="Digits that the caller entered; kept with the decision, no rule reads them.",
        pattern=r"^[0-9*#A-D]{0,32}$",
    )
    pbx: FromQuery[Name | None] = Field(default=None, description="The PBX connection that asks.")
    call: FromQuery[str | None] = Field(
        default=None,
        description="The PBX's own id of the call (Asterisk: Linkedid); with ``pbx`` the decision "
        "is kept with the call.",
        max_length=128,
    )


class RouteAnswer(RouteDecision):
    """As text: ``kind:target``, or nothing where no rule is set for the DID."""

    def as_text(self) -> str:
        return str(self.destination) if self.destination else ""


routes: Routes[HttpDeps] = Routes(tag="routing")


@routes("GET", "/v1/route", scope=Scope.ROUTE_ASK, key_in_query=True, text=True)
async def ask_route(deps: HttpDeps, asked: AskRoute) -> RouteAnswer:
    """Where shall this call go?

    Answers in the rule's time budget, as plain text unless JSON is accepted. On any failure the
    answer is the rule's default destination.
    """
    tenant = asked.caller.tenant
    known = asked.pbx is not None and asked.call is not None
    question = DecideRoute(
        pbx=asked.pbx,
        call_id=call_id(tenant, asked.pbx or "", asked.call or "") if known else None,
        did=asked.did,
        caller=asked.from_,
        dtmf=asked.dtmf,
    )
    decision = await deps.decider.decide(tenant, question, face="http")
    return RouteAnswer.model_validate(decision.model_dump())
