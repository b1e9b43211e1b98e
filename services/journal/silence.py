"""
Calls whose end nobody told: the PBX was restarted in the middle, a hook was never sent, nobody
read the PBX's events. They end when their last event was, and get their entry like all others.
"""

from __future__ import annotations

from datetime import timedelta

import structlog

from services.journal.store import CallLog
from shared.bus.port import Publisher
from shared.clock import Clock
from shared.contracts.calls import CallEnded, EndKnown
from shared.errors import TransientError

log = structlog.get_logger(__name__)

#: Much shorter than the shortest silence that a setting may say.
_LOOK = timedelta(seconds=20)


async def end_silent_calls(calls: CallLog, publisher: Publisher, clock: Clock) -> None:
    """For ever. The same end told twice, here or by another replica, is one message."""
    while True:
        try:
            async for call in calls.silent():
                last_heard_at = max(event.at for event in call.events)
                # Without a PBX there was nothing but what other services found out.
                if call.record.pbx is not None:
                    log.warning("call_ended_unseen", tenant=call.tenant, call_id=call.key)
                    await publisher.publish(
                        CallEnded(call_id=call.key, pbx=call.record.pbx, known=EndKnown.SILENCE),
                        tenant=call.tenant,
                        key=f"{call.key}/unseen",
                        at=last_heard_at,
                    )
        except TransientError as error:
            log.warning("silent_calls_not_ended", error=error.message)
        await clock.sleep(_LOOK)
