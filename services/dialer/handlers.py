"""Orders in, their states out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog

from services.dialer.domain import step
from services.dialer.links import Switchboards
from services.dialer.store import DialBook, DialDocument, StatusBook
from shared.bus.port import Publisher
from shared.bus.router import Router
from shared.clock import Clock
from shared.contracts.agents import SetAgentStatus
from shared.contracts.calls import CallAnswered, CallEnded, CallRinging, CallStarted
from shared.contracts.dialing import (
    DialNumber,
    DialReason,
    DialRecord,
    DialState,
    DialStateChanged,
    DialStep,
    FetchDial,
)
from shared.contracts.envelope import Message
from shared.errors import Conflict, NotFound, Rejected, TransientError, Unavailable
from shared.ids import call_id
from shared.observe.metrics import Metrics
from shared.pbx.port import AgentAt, DialRequest
from shared.site.book import SiteBook
from shared.site.models import Site
from shared.site.pbx import Pbx

log = structlog.get_logger(__name__)

#: What a PBX takes to say that it could not even begin to ring, and what ingest takes to tell it.
_LATE = timedelta(seconds=5)
_LOOK = timedelta(seconds=5)
#: A PBX that was away for longer is not told what an agent did before.
STATUS_HOLDS = timedelta(minutes=2)
_FINAL = frozenset({DialState.ENDED, DialState.FAILED})


@dataclass(frozen=True, slots=True)
class Deps:
    dials: DialBook
    statuses: StatusBook
    boards: Switchboards
    site: SiteBook
    publisher: Publisher
    clock: Clock
    metrics: Metrics
    order_within: timedelta


router: Router[Deps] = Router("dialer")


@router.on(DialNumber)
async def dial_number(deps: Deps, message: Message[DialNumber]) -> None:
    """An order goes to the PBX once: after a crash in the middle it is given up, not repeated."""
    order = message.body
    site = _site(deps, message.tenant)
    pbx = _pbx_for(site, order)
    identity = call_id(message.tenant, pbx.name if pbx else "", order.dial_id)
    document = await deps.dials.open(
        message.tenant, order, call_id=identity, pbx=pbx.name if pbx else None
    )
    await _tell(deps, document)
    if pbx is None:
        await _fail(deps, document, DialReason.PBX_UNAVAILABLE)
    elif document.ordered_at is not None:
        await _look_after(deps, document, document.ordered_at)
    elif deps.clock.now() > order.expires_at:
        await _fail(deps, document, DialReason.TOO_LATE)
    else:
        await _order(deps, message.tenant, pbx, document)


@router.on_each(CallRinging, CallAnswered, CallEnded)
async def follow_call(deps: Deps, message: Message[Any]) -> None:
    event = message.body
    known = await deps.dials.by_call(event.call_id)
    if known is None:
        return  # not one of ours

    def next_step(record: DialRecord) -> DialStep | None:
        return step(record.state, record.reason, event)

    # Also where the event is no news: it may have been taken before, and the bus was away or we
    # were killed when its state was to be told. The same state told twice is one message.
    document = await deps.dials.advance(known.key, next_step)
    await _tell(deps, document or known, news=document is not None)


@router.on(CallStarted)
async def know_call(deps: Deps, message: Message[CallStarted]) -> None:
    """A PBX that has its own id for the call says with it whose order it was."""
    event = message.body
    if event.dial_id is None or await deps.dials.by_call(event.call_id) is not None:
        return
    try:
        document = await deps.dials.by_dial(message.tenant, event.dial_id)
    except NotFound:
        return  # somebody else's, over the same PBX
    await deps.dials.know_as(document.key, event.call_id)


@router.on(SetAgentStatus)
async def set_agent_status(deps: Deps, message: Message[SetAgentStatus]) -> None:
    """Raises: NotFound for a phone that is none of the site's, Rejected with the PBX's words."""
    wanted = message.body
    if deps.clock.now() - message.occurred_at > STATUS_HOLDS:
        log.warning("agent_status_too_late", extension=wanted.extension, status=wanted.status)
        return
    site = _site(deps, message.tenant)
    agent = site.agent_at(wanted.extension) if site else None
    pbx = _pbx_of(site, agent.pbx) if agent else None
    if agent is None or pbx is None:
        raise NotFound(f"no PBX is known for extension {wanted.extension}")
    if not await deps.statuses.is_last(message.tenant, wanted.extension, message.occurred_at):
        log.info("agent_status_overtaken", extension=wanted.extension, status=wanted.status)
        return
    await deps.boards.set_status(
        message.tenant,
        pbx.name,
        AgentAt(agent.extension, agent.pbx_user),
        wanted.status,
        within=deps.order_within,
    )
    log.info("agent_status_set", extension=wanted.extension, status=wanted.status)


@router.on(FetchDial)
async def fetch_dial(deps: Deps, message: Message[FetchDial]) -> DialRecord:
    return (await deps.dials.by_dial(message.tenant, message.body.dial_id)).record


async def refused_by_pbx(
    deps: Deps, tenant: str, pbx: str, reference: str, reason: DialReason
) -> None:
    """The PBX took an order and could not carry it out."""
    document = await deps.dials.by_call(call_id(tenant, pbx, reference))
    if document is not None:
        await _fail(deps, document, reason)


async def give_up_unheard(deps: Deps) -> None:
    """
    For ever. An order can be lost without a word: a phone that is not registered makes no call,
    and the PBX's refusal went to a connection that was gone.
    """
    while True:
        try:
            async for document in deps.dials.unheard(of=deps.order_within + _LATE):
                site = deps.site.site(document.tenant)
                pbx = site.pbx_named(document.record.pbx or "") if site else None
                rings = pbx.ring_agent if pbx else timedelta(0)
                due_at = (document.ordered_at or deps.clock.now()) + deps.order_within + rings
                if deps.clock.now() > due_at + _LATE:
                    log.warning("dial_unheard", tenant=document.tenant, dial_id=document.dial_id)
                    await _give_up(deps, document)
        except TransientError as error:
            log.warning("unheard_dials_not_given_up", error=error.message)
        await deps.clock.sleep(_LOOK)


async def _order(deps: Deps, tenant: str, pbx: Pbx, document: DialDocument) -> None:
    record = document.record
    site = deps.site.site(tenant)
    agent = site.agent_at(record.extension, pbx.name) if site else None
    request = DialRequest(
        reference=record.dial_id,
        extension=record.extension,
        number=record.number,
        ring_for=pbx.ring_agent,
        user=agent.pbx_user if agent else None,
    )
    try:
        await deps.dials.mark_ordered(document)
    except Conflict:
        return  # another replica has it
    try:
        receipt = await deps.boards.dial(tenant, pbx.name, request, within=deps.order_within)
    except Rejected as error:
        log.warning("dial_refused", dial_id=record.dial_id, error=error.message)
        await _fail(deps, document, DialReason.PBX_REFUSED)
    except Unavailable as error:
        log.warning("dial_not_ordered", dial_id=record.dial_id, error=error.message)
        sent = error.details.get("sent", True)
        reason = DialReason.INTERRUPTED if sent else DialReason.PBX_UNAVAILABLE
        await _fail(deps, document, reason)
    else:
        log.info("dial_ordered", dial_id=record.dial_id, extension=record.extension)
        if receipt.pbx_call_id is not None:
            identity = call_id(tenant, pbx.name, receipt.pbx_call_id)
            await deps.dials.know_as(document.key, identity)


async def _look_after(deps: Deps, document: DialDocument, ordered_at: datetime) -> None:
    """The order came again: its sender repeated it, or we were killed while the PBX was asked."""
    if document.record.state is not DialState.REQUESTED:
        return
    if deps.clock.now() - ordered_at < deps.order_within:
        raise Unavailable(f"dial {document.dial_id} is with the PBX; looking again in a moment")
    await _give_up(deps, document)


async def _give_up(deps: Deps, document: DialDocument) -> None:
    """Nobody knows what became of it; a call that is seen after all will correct this."""

    def next_step(record: DialRecord) -> DialStep | None:
        unheard = record.state is DialState.REQUESTED
        return (DialState.FAILED, DialReason.INTERRUPTED) if unheard else None

    await _advance(deps, document, next_step)


async def _fail(deps: Deps, document: DialDocument, reason: DialReason) -> None:
    def next_step(record: DialRecord) -> DialStep | None:
        return None if record.state in _FINAL else (DialState.FAILED, reason)

    await _advance(deps, document, next_step)


async def _advance(
    deps: Deps, document: DialDocument, next_step: Callable[[DialRecord], DialStep | None]
) -> None:
    changed = await deps.dials.advance(document.key, next_step)
    if changed is not None:
        await _tell(deps, changed)


async def _tell(deps: Deps, document: DialDocument, *, news: bool = True) -> None:
    record = document.record
    if news and record.state in _FINAL:
        deps.metrics.count("callmesh_dials_total", record.state)
    await deps.publisher.publish(
        DialStateChanged(
            dial_id=record.dial_id,
            call_id=record.call_id,
            extension=record.extension,
            number=record.number,
            state=record.state,
            reason=record.reason,
        ),
        tenant=document.tenant,
        key=f"{record.dial_id}/{record.state}/{record.reason}",
        at=record.changed_at,
    )


def _site(deps: Deps, tenant: str) -> Site | None:
    """Raises: Unavailable before it is known which there are."""
    if not deps.site.loaded:
        raise Unavailable("the sites are not loaded yet")
    return deps.site.site(tenant)


def _pbx_for(site: Site | None, order: DialNumber) -> Pbx | None:
    """The order's PBX, else the agent's, else the only one there is."""
    agent = site.agent_at(order.extension) if site else None
    return _pbx_of(site, order.pbx or (agent.pbx if agent else None))


def _pbx_of(site: Site | None, wanted: str | None) -> Pbx | None:
    """The one of that name, else the only one that takes orders."""
    taking = [pbx for pbx in site.pbx if pbx.takes_orders] if site else []
    if wanted is not None:
        return next((pbx for pbx in taking if pbx.name == wanted), None)
    return taking[0] if len(taking) == 1 else None
