"""
How telling each subscriber goes. Each process knows what it saw itself, and notes it in the
subscriber's document once a minute at most: a write for each event would be one more for each.
"""

from __future__ import annotations

from collections.abc import Collection as Collected
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from services.gateway.subscribers.subscriber import SubscriberDocument
from shared.clock import Clock
from shared.errors import Conflict
from shared.moments import to_instant
from shared.storage.port import Collection, change

log = structlog.get_logger(__name__)

_STEP = timedelta(minutes=1)


@dataclass(slots=True)
class _Standing:
    """*changed_at*: of the settings; what is told by others says nothing of these."""

    changed_at: datetime
    failing_since: datetime | None
    last_done_at: datetime | None
    noted_at: datetime | None = None
    #: As it was noted last.
    noted: tuple[datetime | None, datetime | None] | None = None


class Standings:
    def __init__(self, documents: Collection[SubscriberDocument], clock: Clock) -> None:
        self._documents = documents
        self._clock = clock
        self._known: dict[str, _Standing] = {}

    def keep(self, uids: Collected[str]) -> None:
        """Of those alone."""
        self._known = {uid: one for uid, one in self._known.items() if uid in uids}

    async def went_well(self, one: SubscriberDocument) -> None:
        """Raises: Unavailable."""
        known = self._of(one)
        known.failing_since, known.last_done_at = None, to_instant(self._clock.now())
        await self._note(one, known)

    async def went_wrong(self, one: SubscriberDocument) -> timedelta:
        """For how long nothing came through, as this process knows. Raises: Unavailable."""
        known, now = self._of(one), to_instant(self._clock.now())
        known.failing_since = known.failing_since or now
        await self._note(one, known)
        return now - known.failing_since

    def forget(self, uid: str) -> None:
        """What this process saw: others know better."""
        self._known.pop(uid, None)

    def _of(self, one: SubscriberDocument) -> _Standing:
        known = self._known.get(one.uid)
        if known is None or known.changed_at < one.changed_at:
            known = _Standing(one.changed_at, one.failing_since, one.last_done_at)
            self._known[one.uid] = known
        return known

    async def _note(self, one: SubscriberDocument, known: _Standing) -> None:
        now = self._clock.now()
        said = (known.failing_since, known.last_done_at)
        # The clock may have been put back.
        early = known.noted_at is not None and abs(now - known.noted_at) < _STEP
        if early or said == known.noted:
            return

        def edit(found: SubscriberDocument | None) -> SubscriberDocument | None:
            if found is None or found.uid != one.uid:
                return None
            since, done = together(found, known, now=to_instant(now))
            return found.model_copy(update={"failing_since": since, "last_done_at": done})

        known.noted_at, known.noted = now, said
        try:
            await change(self._documents, one.key, edit)
        except Conflict:
            log.info("subscriber_not_noted", tenant=one.tenant, subscriber=one.name)


def together(
    noted: SubscriberDocument, seen: _Standing, *, now: datetime
) -> tuple[datetime | None, datetime | None]:
    """Since when it fails, and when something came through last, by the words of all processes."""
    done = max(filter(None, (noted.last_done_at, seen.last_done_at)), default=None)
    fails = [
        since
        for since in (noted.failing_since, seen.failing_since)
        if since is not None and (done is None or since > done)
    ]
    if fails:
        return min(fails), done
    # It fails here, though something came through to another process since that began.
    return (now if seen.failing_since is not None else None), done
