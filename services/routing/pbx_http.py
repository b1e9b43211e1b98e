"""The question in a PBX's own form: UIS, FreeSWITCH, Yeastar, and PBXware's `Custom CRM`."""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from pydantic import BaseModel, JsonValue

from services.routing.questions import Decides, query_of
from shared.clock import Clock
from shared.crm.finder import Finder
from shared.crm.port import Priority
from shared.errors import MeshError, NotFound
from shared.http.auth import Caller, Scope
from shared.http.routes import FromKey, FromPath, FromRequest, RawAnswer, RawRequest, Routes
from shared.ids import Name
from shared.pbx.pbxware.custom_crm import CustomCrmQuestion, parse_question, render_value
from shared.pbx.port import RouteReply
from shared.phone import parse
from shared.site.accounts import question_about
from shared.site.adapters import Adapters, check_sender, hook_of
from shared.site.book import SiteBook
from shared.site.models import Site
from shared.site.pbx import PbxwarePbx

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class FaceDeps:
    decider: Decides
    finder: Finder
    site: SiteBook
    adapters: Adapters
    clock: Clock


class AskFace(BaseModel):
    caller: FromKey[Caller]
    pbx: FromPath[Name]
    request: FromRequest[RawRequest]


routes: Routes[FaceDeps] = Routes(tag="routing")


@routes(
    "GET",
    "/v1/pbx/{pbx}/route",
    scope=Scope.ROUTE_ASK,
    key_in_query=True,
    errors=(NotFound,),
)
async def ask_route_by_url(deps: FaceDeps, asked: AskFace) -> RawAnswer:
    """Where shall this call go, asked and answered in the PBX's own form?

    UIS: interactive call processing. FreeSWITCH: mod_xml_curl, httapi. Yeastar: HTTP Request.
    Where no rule is set, and on any failure, the answer lets the PBX go on by itself. Digits, the
    menu that asks and a rule's greeting go along as far as the PBX has words for them.
    """
    return await _routed(deps, asked)


@routes(
    "POST",
    "/v1/pbx/{pbx}/route",
    scope=Scope.ROUTE_ASK,
    key_in_query=True,
    errors=(NotFound,),
)
async def ask_route_by_body(deps: FaceDeps, asked: AskFace) -> RawAnswer:
    """The same, for PBXs that send a body."""
    return await _routed(deps, asked)


@routes(
    "GET",
    "/v1/pbx/{pbx}/crm",
    scope=Scope.ROUTE_ASK,
    key_in_query=True,
    errors=(NotFound,),
)
async def ask_field_by_url(deps: FaceDeps, asked: AskFace) -> RawAnswer:
    """The value of a field of the caller's record, for PBXware's `Custom CRM`.

    `field_name` and `dtmf` as PBXware sends them; `from` where the URL can hold the caller's
    number, else the digits that the caller entered are looked for as a number. An empty answer
    means: no value.
    """
    return await _value(deps, asked)


@routes(
    "POST",
    "/v1/pbx/{pbx}/crm",
    scope=Scope.ROUTE_ASK,
    key_in_query=True,
    errors=(NotFound,),
)
async def ask_field_by_body(deps: FaceDeps, asked: AskFace) -> RawAnswer:
    """The same, for PBXware set to POST: the parameters come as JSON."""
    return await _value(deps, asked)


async def _routed(deps: FaceDeps, asked: AskFace) -> RawAnswer:
    tenant = asked.caller.tenant
    site, pbx = deps.site.pbx(tenant, asked.pbx)
    face = deps.adapters.of(site, pbx).route
    if face is None:
        raise NotFound(f"A {pbx.kind} asks at /v1/route, or by FastAGI.")
    check_sender(pbx, asked.request.peer)
    hook = hook_of(asked.request, received_at=deps.clock.now())
    query = query_of(face.question(hook), tenant=tenant, pbx=pbx.name)
    decision = await deps.decider.decide(tenant, query, face=pbx.kind)
    return _answer(face.reply(decision, hook))


async def _value(deps: FaceDeps, asked: AskFace) -> RawAnswer:
    tenant = asked.caller.tenant
    site, pbx = deps.site.pbx(tenant, asked.pbx)
    if not isinstance(pbx, PbxwarePbx):
        raise NotFound(f"{asked.pbx} is a {pbx.kind}, and this is for PBXware's Custom CRM.")
    check_sender(pbx, asked.request.peer)
    question = parse_question(hook_of(asked.request, received_at=deps.clock.now()))
    value = await _look_up(deps, site, pbx, question)
    return _answer(render_value(value, as_json=pbx.as_json))


async def _look_up(
    deps: FaceDeps, site: Site, pbx: PbxwarePbx, asked: CustomCrmQuestion
) -> JsonValue:
    """None: no value, whatever the reason; PBXware then takes its default destination."""
    crm = site.crm_named(pbx.crm)
    number = asked.caller or asked.dtmf
    if crm is None or parse(number, site.region).withheld:
        return None
    question = question_about(
        number,
        site=site,
        crm=crm,
        modules=pbx.modules,
        fields=(asked.field,),
        card=False,
        priority=Priority.ROUTE,
    )
    try:
        found = await deps.finder.find(question, within=pbx.within)
    except MeshError as error:
        log.warning("custom_crm_not_answered", pbx=pbx.name, error=error.message)
        return None
    values = (card.fields.get(asked.field) for card in found.candidates)
    return next((value for value in values if value not in (None, "", [])), None)


def _answer(reply: RouteReply) -> RawAnswer:
    return RawAnswer(content_type=reply.content_type, body=reply.body, status=reply.status)
