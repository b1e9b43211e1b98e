"""What gateway remembers beside API keys: who ordered what."""

from __future__ import annotations

from datetime import timedelta

from shared.clock import Clock
from shared.ids import new_id
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, Index


class AuditEntry(Document):
    """One request that changed something. No secret and no whole number is in here."""

    key_name: str
    action: str
    subject: str
    at: Instant
    expires_at: Instant


AUDIT: CollectionSpec[AuditEntry] = CollectionSpec(
    name="gateway.audit",
    model=AuditEntry,
    indexes=(Index(fields=("tenant", "at")),),
    expires_by="expires_at",
)


class AuditLog:
    def __init__(self, entries: Collection[AuditEntry], clock: Clock, *, keep: timedelta) -> None:
        self._entries = entries
        self._clock = clock
        self._keep = keep

    async def note(self, *, tenant: str, key_name: str, action: str, subject: str) -> None:
        now = self._clock.now()
        await self._entries.add(
            AuditEntry(
                key=str(new_id()),
                tenant=tenant,
                key_name=key_name,
                action=action,
                subject=subject,
                at=now,
                expires_at=now + self._keep,
            )
        )
