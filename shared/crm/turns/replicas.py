"""How many live replicas use a connection, so that each keeps to its part of the CRM's limits."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from shared.clock import Clock
from shared.crm.glance import Glance
from shared.errors import MeshError
from shared.ids import new_id
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, DocumentStore, Index

log = structlog.get_logger(__name__)

#: How often a replica says that it uses a connection, and counts who else does.
BEAT = timedelta(seconds=5)
#: Two beats may be lost before a replica counts as dead.
DEAD_AFTER = timedelta(seconds=15)


class ReplicaDocument(Document):
    """``key`` is tenant/connection/replica."""

    connection: str
    expires_at: Instant


REPLICAS: CollectionSpec[ReplicaDocument] = CollectionSpec(
    name="crm.replicas",
    model=ReplicaDocument,
    indexes=(Index(fields=("tenant", "connection")),),
    expires_by="expires_at",
)


@dataclass(slots=True)
class _Known:
    count: int = 1
    beat_at: datetime | None = None
    beating: asyncio.Task[None] | None = None


class Replicas:
    """One beside each set of gates: two in one process count as two, as their gates do."""

    def __init__(self, store: DocumentStore, *, glance: Glance, clock: Clock) -> None:
        self._documents: Collection[ReplicaDocument] = store.collection(REPLICAS)
        self._glance = glance
        self._clock = clock
        self._name = new_id().hex
        self._known: dict[tuple[str, str], _Known] = {}
        self._closed = False

    def share(self, tenant: str, connection: str) -> int:
        """
        How many use it, this one with them: at least 1. The number of the last beat, at most 5 s
        old while the connection is in use and the store is there; the beat goes on behind it.
        """
        known = self._known.setdefault((tenant, connection), _Known())
        now = self._clock.now()
        is_due = known.beat_at is None or abs(now - known.beat_at) >= BEAT
        if is_due and known.beating is None and not self._closed:
            known.beat_at = now
            known.beating = asyncio.create_task(
                self._beat(tenant, connection, known), name="crm replica"
            )
        return known.count

    async def close(self) -> None:
        """The others need not wait for this one to be dead."""
        self._closed = True
        beats = [known.beating for known in self._known.values() if known.beating is not None]
        await asyncio.gather(*beats, return_exceptions=True)
        now = self._clock.now()
        for (tenant, connection), known in self._known.items():
            if known.beat_at is not None and now - known.beat_at < DEAD_AFTER:
                await self._glance.at(self._documents.delete(self._key(tenant, connection)))

    async def _beat(self, tenant: str, connection: str, known: _Known) -> None:
        try:
            count = await self._glance.at(self._counted(tenant, connection))
        except MeshError as error:
            log.warning("replicas_not_counted", connection=connection, error=error.message)
            return
        finally:
            known.beating = None
        if count is None:
            return
        if count != known.count:
            log.info("replicas_counted", tenant=tenant, connection=connection, count=count)
        known.count = max(1, count)

    async def _counted(self, tenant: str, connection: str) -> int:
        document = ReplicaDocument(
            key=self._key(tenant, connection),
            tenant=tenant,
            connection=connection,
            expires_at=self._clock.now() + DEAD_AFTER,
        )
        await self._documents.put(document)
        return await self._documents.count(tenant=tenant, connection=connection)

    def _key(self, tenant: str, connection: str) -> str:
        return f"{tenant}/{connection}/{self._name}"
