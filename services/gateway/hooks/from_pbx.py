"""
Call events that PBXs send by HTTP: checked, made durable, answered before anything is done.

What they say is read by ``ingest``; here it is only found out whether it may come in.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Annotated, Any

import structlog
from pydantic import BaseModel, Discriminator, RootModel, Tag

from services.gateway.deps import HttpDeps
from services.gateway.hooks.counting import (
    OUTCOME,
    HookOutcome,
    count_refused,
    count_taken,
)
from services.gateway.hooks.marks import Signed
from shared.contracts.hooks import HookBatch, HookEvent, HookKind, HookReceived
from shared.errors import ContractError, Forbidden, NotFound
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromKey, FromPath, FromRequest, RawRequest, Routes
from shared.ids import Name, new_id
from shared.pbx.generic.reader import SIGNATURE, SIGNED_FOR
from shared.pbx.port import HookReader, PbxAdapter
from shared.site.adapters import check_sender, hook_of
from shared.site.pbx import GenericPbx, Pbx

log = structlog.get_logger(__name__)

routes: Routes[HttpDeps] = Routes(tag="mesh")


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
    request: FromRequest[RawRequest]
    body: FromBody[HookBody]


class TakePbxHook(BaseModel):
    caller: FromKey[Caller]
    pbx: FromPath[Name]
    request: FromRequest[RawRequest]


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
    refused=count_refused,
)
async def take_hook(deps: HttpDeps, asked: TakeHook) -> HookReceipt:
    """Take call events of a generic PBX.

    Answers when they are durable: at the broker, or in the store's spool while the broker is
    away. The same event sent twice counts once, so whoever gets 503 or no answer sends it again.
    The very same signed request within its five minutes is answered as the first time, and nothing
    more is done; after them it is refused.
    """
    tenant = asked.caller.tenant
    pbx, adapter = _connection(deps, tenant, asked.pbx)
    if not isinstance(pbx, GenericPbx):
        raise NotFound(f"There is no generic PBX connection {asked.pbx}.")
    _may_come_in(deps, pbx, adapter, asked.request)
    events = asked.body.events
    signed = _signed(pbx, asked.request)
    if await deps.marks.came(tenant, signed):
        count_taken(deps, HookOutcome.REPLAYED)
        return HookReceipt(accepted=len(events))
    # As it was read: what ingest reads later has been checked already.
    body = HookBatch(events=events).model_dump_json(exclude_none=True)
    hook = HookReceived(
        pbx=asked.pbx, kind=HookKind.GENERIC, body=body, content_type="application/json"
    )
    await _make_durable(deps, tenant, hook)
    # Not before: one that could not be kept may come again.
    await deps.marks.note(tenant, signed)
    return HookReceipt(accepted=len(events))


@routes(
    "POST",
    "/v1/pbx/{pbx}/events",
    scope=Scope.HOOKS_WRITE,
    status=202,
    key_in_query=True,
    errors=(NotFound,),
    refused=count_refused,
)
async def take_pbx_hook(deps: HttpDeps, asked: TakePbxHook) -> HookReceipt:
    """Take what a PBX sends in its own form: UIS, Yeastar, FreeSWITCH.

    Answers when it is durable: at the broker, or in the store's spool while the broker is away.
    What the request says is read after that; one that cannot be read is found among the dead
    letters of `ingest`.
    """
    return await _taken(deps, asked)


@routes(
    "GET",
    "/v1/pbx/{pbx}/events",
    scope=Scope.HOOKS_WRITE,
    status=202,
    key_in_query=True,
    errors=(NotFound,),
    refused=count_refused,
)
async def take_pbx_hook_by_url(deps: HttpDeps, asked: TakePbxHook) -> HookReceipt:
    """Take what a PBX says by the parameters of a URL, where it can send nothing else."""
    return await _taken(deps, asked)


async def _taken(deps: HttpDeps, asked: TakePbxHook) -> HookReceipt:
    tenant, request = asked.caller.tenant, asked.request
    pbx, adapter = _connection(deps, tenant, asked.pbx)
    if adapter.hooks is None:
        raise NotFound(f"{asked.pbx} is a {pbx.kind}: its events do not come by HTTP.")
    _may_come_in(deps, pbx, adapter, request)
    try:
        body = request.body.decode()
    except UnicodeDecodeError:
        raise ContractError("The body is not UTF-8.") from None
    raw = hook_of(request, received_at=deps.clock.now())
    hook = HookReceived(
        pbx=asked.pbx,
        kind=HookKind(pbx.kind),
        body=body,
        method=raw.method,
        content_type=raw.content_type,
        query=dict(raw.query),
    )
    # Some say different things by the same bytes; what they say has keys of its own.
    await _make_durable(deps, tenant, hook, salt=str(new_id()))
    return HookReceipt(accepted=1)


def _connection(deps: HttpDeps, tenant: str, name: str) -> tuple[Pbx, PbxAdapter]:
    """Raises: NotFound."""
    site, pbx = deps.site.pbx(tenant, name)
    return pbx, deps.adapters.of(site, pbx)


def _may_come_in(deps: HttpDeps, pbx: Pbx, adapter: PbxAdapter, request: RawRequest) -> None:
    """Beside the key: from where it comes, and the PBX's signature. Raises: Forbidden."""
    try:
        check_sender(pbx, request.peer)
        if adapter.hooks is not None:
            _check_signature(adapter.hooks, request, now=deps.clock.now())
    except Forbidden as error:
        log.warning("pbx_hook_refused", pbx=pbx.name, peer=request.peer, error=error.message)
        raise


def _check_signature(hooks: HookReader, request: RawRequest, *, now: datetime) -> None:
    """Raises: Forbidden, which says as what it counts."""
    try:
        hooks.verify(hook_of(request, received_at=now))
    except Forbidden as error:
        error.details.setdefault(OUTCOME, HookOutcome.FORGED)
        raise


def _signed(pbx: GenericPbx, request: RawRequest) -> Signed | None:
    """
    None where a signature says nothing of when it was made (Yeastar's): the same bytes may be the
    same thing that happened again, and what they say has ids of its own.
    """
    if pbx.signing_secret is None:
        return None
    signature = request.headers.get(SIGNATURE.lower(), "").strip().lower()
    # A clock may be as far ahead as behind.
    return Signed(f"pbx/{pbx.name}", signature, keep=2 * SIGNED_FOR)


async def _make_durable(deps: HttpDeps, tenant: str, hook: HookReceived, *, salt: str = "") -> None:
    """Without *salt* the same request again is the same message."""
    said = hook.model_dump_json(exclude={"kind"}).encode()
    digest = hashlib.sha256(said + salt.encode()).hexdigest()
    message = deps.spool.envelop(hook, tenant=tenant, key=f"{hook.pbx}/{digest}")
    at_broker = await deps.spool.send(message)
    count_taken(deps, HookOutcome.ACCEPTED if at_broker else HookOutcome.SPOOLED)
