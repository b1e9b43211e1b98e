"""The public HTTP API."""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag, TypeAdapter
from pydantic import ValidationError as Invalid

from services.gateway.domain import AgentEvent
from services.gateway.store import AuditLog
from services.gateway.streams import Screens
from shared.bus.port import Publisher, Requester
from shared.clock import Clock
from shared.contracts.calls import CallPage, CallRecord, FetchCall, ListCalls
from shared.contracts.contacts import ContactAnswer, FindContact
from shared.contracts.dialing import (
    DialableNumber,
    DialNumber,
    DialRecord,
    DialState,
    FetchDial,
)
from shared.contracts.hooks import HookBatch, HookEvent, HookKind, HookReceived
from shared.errors import ContractError, NotFound
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromHeader, FromKey, FromPath, FromQuery, Routes
from shared.ids import Extension, Name, derived_id, new_id
from shared.moments import Instant
from shared.observe.metrics import Metrics
from shared.phone import parse
from shared.runtime.outbox import SpoolingPublisher
from shared.site.book import SiteBook
from shared.site.models import GenericPbx

_DIALABLE: TypeAdapter[str] = TypeAdapter(DialableNumber)
_PUNCTUATION = re.compile(r"[\s().\-/]")


@dataclass(frozen=True, slots=True)
class HttpDeps:
    spool: SpoolingPublisher
    publisher: Publisher
    requester: Requester
    screens: Screens
    audit: AuditLog
    site: SiteBook
    clock: Clock
    metrics: Metrics
    ask_within: timedelta
    dial_within: timedelta


routes: Routes[HttpDeps] = Routes(tag="mesh")


# -- PBX hooks -------------------------------------------------------------------------------


def _one_or_many(body: Any) -> str:
    return "batch" if isinstance(body, dict) and "events" in body else "event"


class HookBody(RootModel[Any]):
    """One event, or a batch of up to 500 under ``events``."""

    root: Annotated[
        Annotated[HookBatch, Tag("batch")] | Annotated[HookEvent, Tag("event")],
        Discriminator(_one_or_many),
    ]

    @property
    def events(self) -> tuple[HookEvent, ...]:
        return self.root.events if isinstance(self.root, HookBatch) else (self.root,)


class TakeHook(BaseModel):
    caller: FromKey[Caller]
    pbx: FromPath[Name]
    body: FromBody[HookBody]


class HookReceipt(BaseModel):
    """The events are durable; what follows from them follows."""

    accepted: int


@routes(
    "POST",
    "/v1/hooks/{pbx}",
    scope=Scope.HOOKS_WRITE,
    status=202,
    key_in_query=True,
    errors=(NotFound,),
)
async def take_hook(deps: HttpDeps, asked: TakeHook) -> HookReceipt:
    """Take call events of a generic PBX.

    Answers when they are durable: at the broker, or in the store's spool while the broker is
    away. The same event sent twice counts once, so whoever gets 503 or no answer sends it again.
    """
    tenant = asked.caller.tenant
    site = deps.site.site(tenant)
    if site is None or not isinstance(site.pbx_named(asked.pbx), GenericPbx):
        raise NotFound(f"There is no generic PBX connection {asked.pbx}.")
    events = asked.body.events
    body = HookBatch(events=events).model_dump_json(exclude_none=True)
    hook = HookReceived(pbx=asked.pbx, kind=HookKind.GENERIC, body=body)
    digest = hashlib.sha256(body.encode()).hexdigest()
    message = deps.spool.envelop(hook, tenant=tenant, key=f"{asked.pbx}/{digest}")
    at_broker = await deps.spool.send(message)
    deps.metrics.count("callmesh_hooks_total", "accepted" if at_broker else "spooled")
    return HookReceipt(accepted=len(events))


# -- click-to-call ---------------------------------------------------------------------------


class DialIn(BaseModel):
    """Who shall be rung, and whom to dial then."""

    model_config = ConfigDict(extra="forbid")

    extension: Extension = Field(description="The agent's phone; it rings first.")
    number: str = Field(
        description="The number to dial; spaces and punctuation are taken out.", max_length=64
    )
    pbx: Name | None = Field(default=None, description="Where there are several.")


class DialCall(BaseModel):
    caller: FromKey[Caller]
    idempotency_key: FromHeader[str | None] = Field(
        default=None, description="The same key again is the same order.", max_length=200
    )
    body: FromBody[DialIn]


class DialReceipt(BaseModel):
    """The order is on its way; its states follow on the agent's stream and at ``/v1/dials``."""

    dial_id: str
    state: DialState


@routes("POST", "/v1/calls", scope=Scope.CALLS_DIAL, status=202, errors=(NotFound,))
async def dial_call(deps: HttpDeps, asked: DialCall) -> DialReceipt:
    """Dial a number from an agent's phone.

    The agent's phone rings first, then the number. An order that cannot be handed on at once is
    refused with 503 and forgotten: nobody wants a phone to ring out of the blue.
    """
    caller, wanted = asked.caller, asked.body
    caller.may_act_for(wanted.extension)
    site = deps.site.site(caller.tenant)
    if site is None or site.agent_at(wanted.extension) is None:
        raise NotFound(f"Extension {wanted.extension} is not one of this tenant's agents.")
    now = deps.clock.now()
    if asked.idempotency_key:
        dial_id = str(derived_id("dial", caller.tenant, caller.key_name, asked.idempotency_key))
    else:
        dial_id = str(new_id())
    order = DialNumber(
        dial_id=dial_id,
        extension=wanted.extension,
        number=_dialable(wanted.number),
        requested_at=now,
        pbx=wanted.pbx,
        expires_at=now + deps.dial_within,
    )
    # First: an order that is refused for want of its note must not have been given.
    await deps.audit.note(
        tenant=caller.tenant,
        key_name=caller.key_name,
        action="dial",
        subject=f"dial {dial_id} from extension {wanted.extension}",
    )
    await deps.publisher.publish(order, tenant=caller.tenant, key=dial_id)
    return DialReceipt(dial_id=dial_id, state=DialState.REQUESTED)


class ReadDial(BaseModel):
    caller: FromKey[Caller]
    dial_id: FromPath[str]


@routes("GET", "/v1/dials/{dial_id}", scope=Scope.CALLS_DIAL, errors=(NotFound,))
async def read_dial(deps: HttpDeps, asked: ReadDial) -> DialRecord:
    """How far an order to dial has come."""
    dial = await deps.requester.request(
        FetchDial(dial_id=asked.dial_id), within=deps.ask_within, tenant=asked.caller.tenant
    )
    asked.caller.may_act_for(dial.extension)
    return dial


# -- reading ---------------------------------------------------------------------------------


class ReadCalls(BaseModel):
    caller: FromKey[Caller]
    since: FromQuery[Instant | None] = Field(default=None, description="Started at or after.")
    until: FromQuery[Instant | None] = Field(default=None, description="Started before.")
    limit: FromQuery[int] = Field(default=50, ge=1, le=500)
    cursor: FromQuery[str | None] = Field(default=None, description="`next_cursor` of a page.")


@routes("GET", "/v1/calls", scope=Scope.CALLS_READ)
async def read_calls(deps: HttpDeps, asked: ReadCalls) -> CallPage:
    """The tenant's calls, newest first."""
    return await deps.requester.request(
        ListCalls(since=asked.since, until=asked.until, limit=asked.limit, cursor=asked.cursor),
        within=deps.ask_within,
        tenant=asked.caller.tenant,
    )


class ReadCall(BaseModel):
    caller: FromKey[Caller]
    call_id: FromPath[str]


@routes("GET", "/v1/calls/{call_id}", scope=Scope.CALLS_READ, errors=(NotFound,))
async def read_call(deps: HttpDeps, asked: ReadCall) -> CallRecord:
    """One call: its legs, its contact, why it was routed as it was, its CRM entries."""
    return await deps.requester.request(
        FetchCall(call_id=asked.call_id), within=deps.ask_within, tenant=asked.caller.tenant
    )


class ReadContacts(BaseModel):
    caller: FromKey[Caller]
    number: FromQuery[str] = Field(description="In any spelling.", max_length=64)


@routes("GET", "/v1/contacts", scope=Scope.CONTACTS_READ, errors=(NotFound,))
async def read_contacts(deps: HttpDeps, asked: ReadContacts) -> ContactAnswer:
    """Whose number is this? From the cache, else from the CRM."""
    site = deps.site.site(asked.caller.tenant)
    if parse(asked.number, site.region if site else None).withheld:
        raise ContractError("query.number: this is no number")
    return await deps.requester.request(
        FindContact(number=asked.number), within=deps.ask_within, tenant=asked.caller.tenant
    )


# -- screens ---------------------------------------------------------------------------------


class FollowAgent(BaseModel):
    caller: FromKey[Caller]
    extension: FromPath[Extension]


@routes.stream("/v1/agents/{extension}/events", scope=Scope.POPS_READ)
async def follow_agent(deps: HttpDeps, asked: FollowAgent) -> AsyncIterator[AgentEvent]:
    """Screen pops of one agent, as server-sent events.

    What rings now comes first. The stream ends when the server stops or the client does not keep
    up; connect again then.
    """
    asked.caller.may_act_for(asked.extension)
    return deps.screens.events(asked.caller.tenant, asked.extension)


def _dialable(number: str) -> str:
    """Raises: ContractError."""
    try:
        return _DIALABLE.validate_python(_PUNCTUATION.sub("", number))
    except Invalid:
        raise ContractError(
            "body.number: a number to dial is 2 to 20 digits, with a plus sign in front if need be"
        ) from None
