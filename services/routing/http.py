"""The question by HTTP: for dialplans that ask by CURL(), and for PBXs that ask by URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.routing.answers import RouteAnswer
from services.routing.questions import Decides, query_of
from shared.http.auth import Caller, Scope
from shared.http.routes import Form, FromBody, FromKey, FromQuery, Routes
from shared.ids import Name
from shared.pbx.asking import LONGEST_NUMBER, digits_of
from shared.pbx.port import RouteQuestion


@dataclass(frozen=True, slots=True)
class HttpDeps:
    decider: Decides


def _plus(text: Any) -> Any:
    """A plus sign that somebody did not encode has become a blank."""
    unencoded = isinstance(text, str) and text[:1] == " " and text[1:].isdigit()
    return f"+{text[1:]}" if unencoded else text


def _given(text: Any) -> Any:
    """A dialplan sends every parameter, those that it has nothing for empty."""
    return None if text == "" else text


Number = Annotated[str, BeforeValidator(_plus), Field(max_length=LONGEST_NUMBER)]
Given = BeforeValidator(_given)


class RouteAsked(BaseModel):
    """A call that asks where to go."""

    model_config = ConfigDict(extra="forbid")

    did: Number = Field(description="The number that was called.")
    from_: Number = Field(
        default="", alias="from", description="The calling number; empty when withheld."
    )
    dtmf: str = Field(
        default="",
        description="Digits that the caller entered; `-`: he was asked for some and entered none.",
        pattern=r"^([0-9*#A-D]{0,32}|-)$",
    )
    ivr: Annotated[Name | None, Given] = Field(
        default=None, description="The menu that asks, by the name that a rule's `ivrs` has."
    )
    pbx: Annotated[Name | None, Given] = Field(
        default=None, description="The PBX connection that asks."
    )
    call: Annotated[str | None, Given] = Field(
        default=None,
        description="The PBX's own id of the call (Asterisk: Linkedid); with ``pbx`` the decision "
        "is kept with the call.",
        max_length=128,
    )
    as_: Annotated[Form | None, Given] = Field(
        default=None,
        alias="as",
        description="The form of the answer, where the PBX cannot set the header Accept.",
    )


class AskRoute(RouteAsked):
    caller: FromKey[Caller]


class PostRoute(BaseModel):
    caller: FromKey[Caller]
    as_: FromQuery[Annotated[Form | None, Given]] = Field(
        default=None, alias="as", description="The form of the answer, as in the body."
    )
    body: FromBody[RouteAsked]


routes: Routes[HttpDeps] = Routes(tag="routing")


@routes("GET", "/v1/route", scope=Scope.ROUTE_ASK, key_in_query=True, text=True)
async def ask_route(deps: HttpDeps, asked: AskRoute) -> RouteAnswer:
    """Where shall this call go?

    Answers in the rule's time budget, as plain text unless JSON or XML is asked for by the
    header Accept or by `as`. On any failure the answer is the rule's default destination.
    """
    return await _answer(deps, asked, asked.caller, asked.as_)


@routes("POST", "/v1/route", scope=Scope.ROUTE_ASK, key_in_query=True, text=True, form_body=True)
async def ask_route_by_post(deps: HttpDeps, asked: PostRoute) -> RouteAnswer:
    """The same, asked by a body: JSON or a form (`application/x-www-form-urlencoded`)."""
    return await _answer(deps, asked.body, asked.caller, asked.body.as_ or asked.as_)


async def _answer(
    deps: HttpDeps, asked: RouteAsked, caller: Caller, form: Form | None
) -> RouteAnswer:
    dtmf, collected = digits_of(asked.dtmf)
    question = RouteQuestion(
        did=asked.did,
        caller=asked.from_,
        dtmf=dtmf,
        call=asked.call,
        ivr=asked.ivr,
        collected=collected,
    )
    query = query_of(question, tenant=caller.tenant, pbx=asked.pbx)
    decision = await deps.decider.decide(caller.tenant, query, face="http")
    return RouteAnswer(**dict(decision), form=form)
