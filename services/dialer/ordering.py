"""An order goes to its PBX: once. After a crash in the middle it is given up, not repeated."""

from __future__ import annotations

from datetime import datetime

import structlog

from services.dialer.cancelling import carry_out, end_if_cancelled
from services.dialer.deps import Deps
from services.dialer.placing import admit
from services.dialer.store import DialDocument
from services.dialer.telling import advance, fail, tell
from services.dialer.whose import pbx_of, site_of
from shared.contracts.dialing import (
    DialNumber,
    DialReason,
    DialRecord,
    DialState,
    DialStep,
    DialWanted,
)
from shared.contracts.envelope import Message
from shared.errors import (
    Conflict,
    ContractError,
    Forbidden,
    MeshError,
    NotFound,
    Rejected,
    Throttled,
    Unavailable,
)
from shared.ids import call_id
from shared.pbx.port import DialRequest
from shared.site.models import Site
from shared.site.pbx import Pbx

log = structlog.get_logger(__name__)

#: What an order by command comes to that would have been refused to whoever places one.
_REFUSED: tuple[tuple[type[MeshError], DialReason], ...] = (
    (NotFound, DialReason.PBX_UNAVAILABLE),
    (ContractError, DialReason.NUMBER_REFUSED),
    (Forbidden, DialReason.NUMBER_REFUSED),
    (Conflict, DialReason.ALREADY_DIALLING),
    (Throttled, DialReason.LIMIT_REACHED),
)


async def order(deps: Deps, message: Message[DialNumber]) -> None:
    asked = message.body
    site = site_of(deps.site, message.tenant)
    document = await deps.dials.find(message.tenant, asked.dial_id)
    if document is None:
        document = await _unplaced(deps, message, site)
    await tell(deps, document, news=False)
    record = document.record
    pbx = pbx_of(site, record.pbx) if record.pbx else None
    if record.state.is_final:
        return
    if document.ordered_at is not None:
        await _look_after(deps, document, document.ordered_at)
    elif document.cancelled_at is not None:
        await carry_out(deps, document)
    elif pbx is None:
        await fail(deps, document, DialReason.PBX_UNAVAILABLE, unordered=True)
    elif deps.clock.now() > (document.waits_until or asked.expires_at):
        await fail(deps, document, DialReason.TOO_LATE, unordered=True)
    else:
        await _order(deps, site, pbx, document)


async def _unplaced(deps: Deps, message: Message[DialNumber], site: Site | None) -> DialDocument:
    """
    An order that nobody placed: by an older gateway, or by whoever may publish commands. Nobody
    waits for an answer, so what is wrong with it becomes its state.
    """
    asked, tenant = message.body, message.tenant
    wanted = DialWanted(**asked.model_dump(include=set(DialWanted.model_fields)))
    try:
        return await admit(
            deps,
            site,
            wanted,
            tenant=tenant,
            dial_id=asked.dial_id,
            requested_by=asked.requested_by,
            requested_at=asked.requested_at,
            waits_until=asked.expires_at,
        )
    except (NotFound, ContractError, Forbidden, Conflict, Throttled) as error:
        reason = next(reason for cls, reason in _REFUSED if isinstance(error, cls))
        log.warning("dial_not_placed", dial_id=asked.dial_id, error=error.message)
        now = deps.clock.now()
        record = DialRecord(
            **asked.model_dump(include=set(DialNumber.model_fields) - {"expires_at"}),
            call_id=call_id(tenant, asked.pbx or "", asked.dial_id),
            state=DialState.FAILED,
            reason=reason,
            message=reason.words,
            changed_at=now,
            ended_at=now,
        )
        document, _ = await deps.dials.open(tenant, record, key=record.call_id or "")
        return document


async def _order(deps: Deps, site: Site | None, pbx: Pbx, document: DialDocument) -> None:
    record = document.record
    try:
        # It is ours, unless we slept for so long that another took it.
        await deps.turns.take(document.tenant, pbx.name, record.extension, record.dial_id)
    except Conflict:
        await fail(deps, document, DialReason.ALREADY_DIALLING, unordered=True)
        return
    agent = site.agent_at(record.extension, pbx.name) if site else None
    request = DialRequest(
        reference=record.dial_id,
        extension=record.extension,
        number=record.number,
        ring_for=pbx.ring_agent,
        user=agent.pbx_user if agent else None,
        caller_id=record.caller_id,
    )
    try:
        document = await deps.dials.mark_ordered(document)
    except Conflict:
        return  # another replica has it, or somebody cancels it
    try:
        receipt = await deps.boards.dial(
            document.tenant, pbx.name, request, within=deps.order_within
        )
    except Rejected as error:
        log.warning("dial_refused", dial_id=record.dial_id, error=error.message)
        await fail(deps, document, DialReason.PBX_REFUSED)
    except Unavailable as error:
        log.warning("dial_not_ordered", dial_id=record.dial_id, error=error.message)
        sent = error.details.get("sent", True)
        reason = DialReason.INTERRUPTED if sent else DialReason.PBX_UNAVAILABLE
        await fail(deps, document, reason)
    else:
        log.info("dial_ordered", dial_id=record.dial_id, extension=record.extension)
        if receipt.pbx_call_id is not None:
            await know_as(deps, document, pbx.name, receipt.pbx_call_id)
        await deps.dials.edit(document.key, _taken)
    # Cancelled while the PBX was asked: the call began behind the order to end it.
    await end_if_cancelled(deps, document.key)


async def know_as(deps: Deps, document: DialDocument, pbx: str, pbx_call_id: str) -> None:
    """The PBX has an id of its own for the order's call."""
    identity = call_id(document.tenant, pbx, pbx_call_id)

    def edit(found: DialDocument) -> DialDocument | None:
        if identity in {found.key, found.known_as}:
            return None
        record = found.record.model_copy(update={"call_id": identity})
        return found.model_copy(
            update={"known_as": identity, "pbx_call_id": pbx_call_id, "record": record}
        )

    await deps.dials.edit(document.key, edit)


async def _look_after(deps: Deps, document: DialDocument, ordered_at: datetime) -> None:
    """The order came again: its sender repeated it, or we were killed while the PBX was asked."""
    if document.record.state is not DialState.REQUESTED:
        return
    if deps.clock.now() - ordered_at < deps.order_within:
        raise Unavailable(f"dial {document.dial_id} is with the PBX; looking again in a moment")
    await give_up(deps, document)


async def give_up(deps: Deps, document: DialDocument) -> None:
    """Nobody knows what became of it; a call that is seen after all will correct this."""

    def next_step(found: DialDocument) -> DialStep | None:
        unheard = found.record.state is DialState.REQUESTED
        return (DialState.FAILED, DialReason.INTERRUPTED) if unheard else None

    await advance(deps, document, next_step)


async def refused_by_pbx(
    deps: Deps, tenant: str, pbx: str, reference: str, reason: DialReason
) -> None:
    """The PBX took the order and could not carry it out after all."""
    document = await deps.dials.by_call(call_id(tenant, pbx, reference))
    if document is not None:
        await fail(deps, document, reason)


def _taken(found: DialDocument) -> DialDocument | None:
    return None if found.is_taken else found.model_copy(update={"is_taken": True})
