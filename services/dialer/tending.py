"""What nobody else would do: orders that were lost, ends that were wanted, costs that are held."""

from __future__ import annotations

from datetime import timedelta

import structlog

from services.dialer.cancelling import carry_out
from services.dialer.deps import Deps
from services.dialer.ordering import give_up
from services.dialer.telling import fail, settle
from shared.contracts.dialing import DialReason
from shared.errors import MeshError

log = structlog.get_logger(__name__)

#: What a PBX takes to say that it could not even begin to ring, and what ingest takes to tell it.
_LATE = timedelta(seconds=5)
_LOOK = timedelta(seconds=5)
#: How long a dial's cost is held before it is looked for.
_HELD = timedelta(minutes=1)


async def tend(deps: Deps) -> None:
    """For ever."""
    settle_at = deps.clock.now()
    while True:
        try:
            await give_up_unheard(deps)
            await give_up_unordered(deps)
            await end_cancelled(deps)
            if deps.clock.now() >= settle_at:
                await settle_held(deps)
                settle_at = deps.clock.now() + _HELD
        except MeshError as error:
            log.warning("dials_not_tended", error=error.message)
        await deps.clock.sleep(_LOOK)


async def give_up_unheard(deps: Deps) -> None:
    """
    An order can be lost without a word: a phone that is not registered makes no call, and the
    PBX's refusal went to a connection that was gone.
    """
    async for document in deps.dials.unheard(of=deps.order_within + _LATE):
        site = deps.site.site(document.tenant)
        pbx = site.pbx_named(document.record.pbx or "") if site else None
        rings = pbx.ring_agent if pbx else timedelta(0)
        due_at = (document.ordered_at or deps.clock.now()) + deps.order_within + rings
        if deps.clock.now() > due_at + _LATE:
            log.warning("dial_unheard", tenant=document.tenant, dial_id=document.dial_id)
            await give_up(deps, document)


async def give_up_unordered(deps: Deps) -> None:
    """Whoever placed it could not hand it on, or the PBX was asked too late."""
    async for document in deps.dials.unordered():
        log.warning("dial_not_handed_on", tenant=document.tenant, dial_id=document.dial_id)
        await fail(deps, document, DialReason.TOO_LATE, unordered=True)


async def end_cancelled(deps: Deps) -> None:
    """Whoever wanted it ended was killed in between, or only wrote it down (the CLI)."""
    async for document in deps.dials.being_cancelled():
        if document.record.state.is_final:
            continue
        try:
            await carry_out(deps, document)
        except MeshError as error:
            log.warning("dial_not_ended", dial_id=document.dial_id, error=error.message)


async def settle_held(deps: Deps) -> None:
    """Dials whose cost was not known at their end, or that never got as far as a document."""
    async for tenant, dial_id in deps.meters.held(of=_HELD):
        document = await deps.dials.find(tenant, dial_id)
        if document is None:
            await deps.meters.settle(tenant, dial_id, 0)
        else:
            await settle(deps, document)
