"""
CRMs that send no hooks are asked what changed: every so often, by one replica.

Until which moment a connection's changes are known is kept in the store, and moves only when all
that changed before was told on. A try is claimed by compare-and-set, for longer than it may take.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from shared.bus.port import Publisher
from shared.clock import Clock
from shared.contracts.contacts import ContactChanged
from shared.crm.connections import CrmConnections
from shared.errors import Conflict, MeshError, TransientError
from shared.moments import Instant
from shared.site.accounts import account_of
from shared.site.book import SiteBook
from shared.site.models import CrmConnection, Site
from shared.storage.port import Collection, CollectionSpec, Document, change

log = structlog.get_logger(__name__)

#: How often is looked whether a connection is due; none is asked more often than every 30 s.
_LOOK = timedelta(seconds=5)
#: A request, and a whole list with all its pages.
_WITHIN, _LONGEST = timedelta(seconds=15), timedelta(minutes=5)
#: By how much a claim outlasts the longest try: time to write down what became of it.
_SPARE = timedelta(seconds=30)
#: The CRM's clock is not ours, and what was written just then is not listed at once.
OVERLAP = timedelta(minutes=2)
#: Of a connection that cannot be opened, until somebody has mended it.
_AGAIN = timedelta(minutes=1)
#: Of a connection that nobody polls any more.
_KEPT = timedelta(days=30)


class PollDocument(Document):
    """
    ``key`` is ``tenant/connection``. Changes before *since* are known; nobody asks before
    *due_at*, while another does or because it is too early.
    """

    since: Instant
    due_at: Instant
    expires_at: Instant


POLLS: CollectionSpec[PollDocument] = CollectionSpec(
    name="lookup.polls", model=PollDocument, expires_by="expires_at"
)


@dataclass(frozen=True, slots=True)
class Poller:
    connections: CrmConnections
    site: SiteBook
    polls: Collection[PollDocument]
    publisher: Publisher
    clock: Clock
    #: By tenant and connection: when to look at it again, None while it is in hand.
    _next: dict[tuple[str, str], datetime | None] = field(default_factory=dict, init=False)

    async def run(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as under_way:
            while True:
                for site, crm in self._due():
                    self._next[site.tenant, crm.name] = None
                    # A CRM that hangs holds up no other.
                    under_way.create_task(self._look_at(site, crm))
                await self.clock.sleep(_LOOK)

    def _due(self) -> list[tuple[Site, CrmConnection]]:
        now = self.clock.now()
        return [
            (site, crm)
            for site in self.site.current.values()
            for crm in site.crm
            if (at := self._next.get((site.tenant, crm.name), now)) is not None and at <= now
        ]

    async def _look_at(self, site: Site, crm: CrmConnection) -> None:
        again = self.clock.now() + _AGAIN
        try:
            again = await self._polled(site, crm) or again
        except MeshError as error:
            log.warning(
                "changes_not_read",
                tenant=site.tenant,
                connection=crm.name,
                error=error.message,
            )
        self._next[site.tenant, crm.name] = again

    async def _polled(self, site: Site, crm: CrmConnection) -> datetime | None:
        """When it is due again; None for a connection that is not polled. Raises: MeshError."""
        connector = self.connections.connector(account_of(site, crm))
        changes = connector.manifest.changes
        if changes is None or changes.poll is None:
            return None
        every, now = changes.poll.every, self.clock.now()
        claimed, mine = await self._claimed(site, crm, now, every)
        if not claimed:
            return mine.due_at
        # What was cached before is forgotten by itself.
        oldest = now - max(crm.fresh, crm.stale, crm.unknown)
        try:
            async with asyncio.timeout(_LONGEST.total_seconds()):
                found = await connector.poll_changes(
                    max(mine.since, oldest) - OVERLAP, within=_WITHIN
                )
            for one in found:
                changed = ContactChanged(
                    connection=crm.name, contact_id=one.contact_id, numbers=one.numbers
                )
                await self.publisher.publish(changed, tenant=site.tenant)
        except (MeshError, TimeoutError) as error:
            wait = error.retry_after if isinstance(error, TransientError) else None
            reason = error.message if isinstance(error, MeshError) else "the list has no end"
            log.warning("changes_not_read", tenant=site.tenant, connection=crm.name, error=reason)
            return await self._moved(mine, due_at=now + max(every, wait or every))
        if found:
            log.info("changes_read", connection=crm.name, contacts=len(found))
        return await self._moved(mine, since=now, due_at=now + every)

    async def _claimed(
        self, site: Site, crm: CrmConnection, now: datetime, every: timedelta
    ) -> tuple[bool, PollDocument]:
        """Whether it is our turn. Raises: Conflict, Unavailable."""
        key, claimed = f"{site.tenant}/{crm.name}", False

        def claim(found: PollDocument | None) -> PollDocument | None:
            nonlocal claimed
            claimed = found is not None and found.due_at <= now
            if found is None:
                # Nothing was cached before: changes count from here.
                return PollDocument(
                    key=key,
                    tenant=site.tenant,
                    since=now,
                    due_at=now + every,
                    expires_at=now + _KEPT,
                )
            if not claimed:
                return None
            return found.model_copy(
                update={"due_at": now + _LONGEST + _SPARE, "expires_at": now + _KEPT}
            )

        document = await change(self.polls, key, claim)
        assert document is not None  # noqa: S101  where there is none one is made
        return claimed, document

    async def _moved(self, mine: PollDocument, **changes: datetime) -> datetime:
        """When it is due again. Raises: Unavailable."""
        moved = mine.model_copy(update=changes)
        try:
            await self.polls.replace(moved)
        except Conflict:
            log.warning("poll_took_too_long", tenant=mine.tenant)
        return moved.due_at
