"""A dial goes a step further: in the store, to whoever follows it, in what the day has cost."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from services.dialer.deps import Deps
from services.dialer.domain import cost_of, moved
from services.dialer.store import DialDocument
from shared.contracts.dialing import DialReason, DialRecord, DialState, DialStateChanged, DialStep

#: Raises nothing and changes nothing: it may be asked several times.
NextStep = Callable[[DialDocument], DialStep | None]


async def advance(
    deps: Deps, document: DialDocument, next_step: NextStep, *, at: datetime | None = None
) -> DialDocument | None:
    """The document when *next_step* led further, else None. *at*: when it happened, else now."""
    now = deps.clock.now()

    def edit(found: DialDocument) -> DialDocument | None:
        to = next_step(found)
        if to is None:
            return None
        record = moved(found.record, to, at=at or now, now=now)
        return found.model_copy(update={"record": record, "waits_until": _waits(found, record)})

    changed = await deps.dials.edit(document.key, edit)
    if changed is not None:
        await tell(deps, changed)
    return changed


async def fail(
    deps: Deps, document: DialDocument, reason: DialReason, *, unordered: bool = False
) -> DialDocument | None:
    """
    Not where it is over already; of one that somebody has cancelled that is the reason.
    *unordered*: nor where another replica has asked the PBX meanwhile: its call goes on.
    """

    def next_step(found: DialDocument) -> DialStep | None:
        if found.record.state.is_final or (unordered and found.ordered_at is not None):
            return None
        wanted = found.cancelled_at is not None
        return DialState.FAILED, DialReason.CANCELLED if wanted else reason

    return await advance(deps, document, next_step)


async def tell(deps: Deps, document: DialDocument, *, news: bool = True) -> None:
    """The same state told twice is one message. *news*: nobody has counted it yet."""
    record = document.record
    if news and record.state.is_final:
        deps.metrics.count("callmesh_dials_total", record.state)
    await deps.publisher.publish(
        DialStateChanged(
            dial_id=record.dial_id,
            call_id=record.call_id,
            extension=record.extension,
            number=record.number,
            state=record.state,
            reason=record.reason,
            message=record.message,
            caller_id=record.caller_id,
            shop=record.shop,
            campaign=record.campaign,
            requested_by=record.requested_by,
        ),
        tenant=document.tenant,
        key=f"{record.dial_id}/{record.state}/{record.reason}",
        at=record.changed_at,
    )
    await settle(deps, document)


async def settle(deps: Deps, document: DialDocument) -> None:
    """What it cost takes the place of what was held for it, as soon as that is known."""
    cost = cost_of(
        document.record,
        price=document.price,
        talk_time=document.talk_time,
        now=deps.clock.now(),
    )
    if cost is not None:
        await deps.meters.settle(document.tenant, document.dial_id, cost)


def _waits(found: DialDocument, record: DialRecord) -> datetime | None:
    return found.waits_until if record.state is DialState.REQUESTED else None
