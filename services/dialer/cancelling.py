"""
A dial is ended before its time.

That somebody wants it ended is kept first. So whatever happens meanwhile, the call that was ordered
is ended: by who was asked, by whoever sees something of it afterwards, or by the next look.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from services.dialer.deps import Deps
from services.dialer.store import DialDocument
from services.dialer.telling import advance, tell
from shared.contracts.dialing import CancelDial, DialReason, DialRecord, DialState, DialStep
from shared.errors import Conflict, Forbidden, MeshError, Rejected, Unavailable
from shared.pbx.port import HangUp

log = structlog.get_logger(__name__)

#: Later than this, what is seen of a call is no news of it.
_SEEN_LATE = timedelta(minutes=2)


async def cancel(deps: Deps, tenant: str, asked: CancelDial) -> DialRecord:
    """
    Raises: NotFound; Forbidden for another phone's; Conflict where it is over by itself; Rejected
    with the PBX's words, Unavailable.
    """
    document = await deps.dials.by_dial(tenant, asked.dial_id)
    if asked.extension is not None and asked.extension != document.record.extension:
        raise Forbidden(f"This key is for extension {asked.extension} only.")
    marked = await deps.dials.mark_cancelled(document.key)
    if marked is not None:
        log.info("dial_cancelled", dial_id=asked.dial_id, by=asked.requested_by)
    document = marked or await deps.dials.by_dial(tenant, asked.dial_id)
    if document.cancelled_at is None:
        why = f": {document.record.message}" if document.record.message else "."
        raise Conflict(f"Dial {asked.dial_id} is over, it has {document.record.state}{why}")
    return (await carry_out(deps, document)).record


async def carry_out(deps: Deps, document: DialDocument) -> DialDocument:
    """
    End what somebody wants ended. Where the PBX does not, nobody wants it any more: the call goes on,
    and may be cancelled again. Raises: Rejected, Unavailable.
    """
    # Before it went to the PBX the state is enough: whoever sends it will find it changed.
    never_asked = await advance(deps, document, _if_not_ordered)
    if never_asked is not None:
        return never_asked
    document = await deps.dials.by_dial(document.tenant, document.dial_id)
    if document.record.state.is_final:
        await tell(deps, document, news=False)
        return document
    try:
        await _hang_up(deps, document)
    except (Rejected, Unavailable) as error:
        # Without its own id of the call a PBX may be unable to end it: it is ended when that comes.
        if not (isinstance(error, Rejected) and _is_being_taken(deps, document)):
            await _unmark(deps, document, error)
            raise
    ended = await advance(deps, document, _ended)
    return ended or await deps.dials.by_dial(document.tenant, document.dial_id)


async def end_if_cancelled(deps: Deps, key: str) -> None:
    """
    Something is seen of a call that may have begun behind the order to end it.

    Raises: Unavailable, for as long as it may still be going on.
    """
    document = await deps.dials.by_call(key)
    if document is None or document.cancelled_at is None or document.ordered_at is None:
        return
    if deps.clock.now() - document.cancelled_at > _SEEN_LATE:
        return
    try:
        await _hang_up(deps, document)
    except Rejected as error:
        log.warning("dial_not_ended", dial_id=document.dial_id, error=error.message)


async def _hang_up(deps: Deps, document: DialDocument) -> None:
    record = document.record
    site = deps.site.site(document.tenant)
    agent = site.agent_at(record.extension, record.pbx) if site else None
    call = HangUp(
        reference=record.dial_id,
        extension=record.extension,
        pbx_call_id=document.pbx_call_id,
        user=agent.pbx_user if agent else None,
    )
    await deps.boards.hang_up(document.tenant, record.pbx or "", call, within=deps.order_within)
    log.info("dial_hung_up", dial_id=record.dial_id)


async def _unmark(deps: Deps, document: DialDocument, error: MeshError) -> None:
    def edit(found: DialDocument) -> DialDocument | None:
        if found.record.state.is_final or found.cancelled_at is None:
            return None
        return found.model_copy(update={"cancelled_at": None, "cancel_fault": error.message[:500]})

    await deps.dials.edit(document.key, edit)


def _is_being_taken(deps: Deps, document: DialDocument) -> bool:
    """Whether the PBX may still be answering the order."""
    asked_at = document.ordered_at
    waits = not document.is_taken and document.record.state is DialState.REQUESTED
    return waits and asked_at is not None and deps.clock.now() - asked_at <= deps.order_within


def _if_not_ordered(found: DialDocument) -> DialStep | None:
    if found.record.state.is_final or found.ordered_at is not None:
        return None
    return DialState.FAILED, DialReason.CANCELLED


def _ended(found: DialDocument) -> DialStep | None:
    """A conversation has ended; what was none has failed."""
    if found.record.state.is_final:
        return None
    if found.record.state is DialState.CONNECTED:
        return DialState.ENDED, None
    return DialState.FAILED, DialReason.CANCELLED
