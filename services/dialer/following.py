"""What is seen of the calls that were ordered."""

from __future__ import annotations

from typing import Any

from services.dialer.cancelling import end_if_cancelled
from services.dialer.deps import Deps
from services.dialer.domain import connected, moved, step
from services.dialer.ordering import know_as
from services.dialer.store import DialDocument
from services.dialer.telling import tell
from shared.contracts.calls import CallEnded, CallStarted
from shared.contracts.envelope import Message


async def follow(deps: Deps, message: Message[Any]) -> None:
    event, at = message.body, message.occurred_at
    known = await deps.dials.by_call(event.call_id)
    if known is None:
        return  # not one of ours

    def edit(found: DialDocument) -> DialDocument | None:
        record, talk_time = connected(found.record, event, at=at), found.talk_time
        cancelled = found.cancelled_at is not None
        to = step(record.state, record.reason, event, cancelled=cancelled)
        if to is not None:
            record = moved(record, to, at=at, now=deps.clock.now())
        if isinstance(event, CallEnded) and event.talk_time is not None:
            talk_time = event.talk_time
        if (record, talk_time) == (found.record, found.talk_time):
            return None
        return found.model_copy(update={"record": record, "talk_time": talk_time})

    # Also where the event is no news: it may have been taken before, and the bus was away or we
    # were killed when its state was to be told. The same state told twice is one message.
    changed = await deps.dials.edit(known.key, edit)
    is_news = changed is not None and changed.record.state is not known.record.state
    await tell(deps, changed or known, news=is_news)
    if not isinstance(event, CallEnded) and (changed or known).cancelled_at is not None:
        await end_if_cancelled(deps, known.key)


async def know(deps: Deps, message: Message[CallStarted]) -> None:
    """A PBX that has its own id for the call says with it whose order it was."""
    event = message.body
    if event.dial_id is None:
        return
    document = await deps.dials.by_call(event.call_id)
    if document is None:
        document = await deps.dials.find(message.tenant, event.dial_id)
        if document is None:
            return  # somebody else's, over the same PBX
        await know_as(deps, document, event.pbx, event.pbx_call_id)
    if document.cancelled_at is not None:
        await end_if_cancelled(deps, document.key)
