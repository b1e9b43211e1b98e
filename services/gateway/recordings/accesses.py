"""Who listened to which recording: noted before the first byte goes out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from weakref import WeakValueDictionary

from pydantic import Field

from shared.clock import Clock
from shared.errors import Conflict, Unavailable
from shared.ids import derived_id
from shared.moments import Instant, to_ms
from shared.storage.port import (
    Collection,
    CollectionSpec,
    Document,
    Find,
    Index,
    Page,
    change,
)

#: A player asks for piece after piece: what one hears within a minute of the clock is one access.
_MINUTE_MS = 60_000


class RecordingAccess(Document):
    """One who listened, within one minute."""

    call_id: str
    recording: str
    peer: str
    key_name: str | None = Field(description="None: by a link.")
    at: Instant
    last_at: Instant
    requests: int
    #: Sent, or on their way when it was written.
    sent_bytes: int
    range: str | None
    status: int
    expires_at: Instant


ACCESSES: CollectionSpec[RecordingAccess] = CollectionSpec(
    name="gateway.recording_accesses",
    model=RecordingAccess,
    indexes=(Index(fields=("tenant", "call_id", "at")),),
    expires_by="expires_at",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """*range*: as the answer says it, None for the whole. *peer*: behind a proxy the proxy's."""

    tenant: str
    call_id: str
    recording: str
    peer: str
    key_name: str | None
    range: str | None
    status: int
    sent_bytes: int


class AccessLog:
    def __init__(
        self, accesses: Collection[RecordingAccess], clock: Clock, *, keep: timedelta
    ) -> None:
        self._accesses = accesses
        self._clock = clock
        self._keep = keep
        #: One writer of a document per process: behind a proxy all listeners are one peer.
        self._writing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def note(self, access: Access) -> None:
        """Durable when it returns. Raises: Unavailable."""
        now = self._clock.now()
        minute = to_ms(now) // _MINUTE_MS
        who = f"key {access.key_name}" if access.key_name else "link"
        key = str(
            derived_id(
                "recording access",
                access.tenant,
                access.call_id,
                access.recording,
                access.peer,
                who,
                str(minute),
            )
        )

        def one_more(known: RecordingAccess | None) -> RecordingAccess:
            if known is None:
                return RecordingAccess(
                    key=key,
                    tenant=access.tenant,
                    call_id=access.call_id,
                    recording=access.recording,
                    peer=access.peer,
                    key_name=access.key_name,
                    at=now,
                    last_at=now,
                    requests=1,
                    sent_bytes=access.sent_bytes,
                    range=access.range,
                    status=access.status,
                    expires_at=now + self._keep,
                )
            return known.model_copy(
                update={
                    "last_at": max(now, known.last_at),
                    "requests": known.requests + 1,
                    "sent_bytes": known.sent_bytes + access.sent_bytes,
                    "range": access.range,
                    "status": access.status,
                }
            )

        async with self._writing.setdefault(key, asyncio.Lock()):
            try:
                await change(self._accesses, key, one_more)
            except Conflict:
                raise Unavailable("Too many listen at once.") from None

    async def of_call(
        self, tenant: str, call_id: str, *, limit: int, cursor: str | None
    ) -> Page[RecordingAccess]:
        """The latest first. Raises: ContractError for a cursor of another list."""
        return await self._accesses.page(
            Find(
                equals={"tenant": tenant, "call_id": call_id},
                order_by="at",
                descending=True,
                limit=limit,
                cursor=cursor,
            )
        )
