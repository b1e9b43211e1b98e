"""
Entries on their way into CRMs: one per call and CRM, whatever fails or dies in between.

An entry is claimed by compare-and-set, with a lease. A try that ended without an answer, or whose
replica died, *may* have come through: before the next one the CRM is asked, when its search has
had the time to see it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta

import structlog

from services.journal.domain import agent_of
from services.journal.settings import JournalSettings
from services.journal.store import CallLog, EntryBook, EntryDocument
from shared.bus.port import Publisher
from shared.clock import Clock
from shared.contracts.calls import CallRecord, Direction, Disposition, EntryState
from shared.contracts.contacts import ContactCard
from shared.contracts.journal import CallJournaled, JournalFailed
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.port import JournalEntry, JournalsCalls
from shared.errors import (
    Conflict,
    MeshError,
    NeedsReconnect,
    NotFound,
    PermanentError,
    Throttled,
    TransientError,
)
from shared.ids import reference
from shared.observe.metrics import Metrics
from shared.phone import parse
from shared.site.accounts import account_of, question_about
from shared.site.book import SiteBook
from shared.site.models import CrmConnection, Site

log = structlog.get_logger(__name__)

#: How often the store is looked at for what other replicas left.
_LOOK = timedelta(seconds=1)
_SHORTEST = timedelta(milliseconds=2)
_PAGE = 50


@dataclass(frozen=True, slots=True)
class Tools:
    calls: CallLog
    entries: EntryBook
    site: SiteBook
    connections: CrmConnections
    finder: Finder
    publisher: Publisher
    clock: Clock
    metrics: Metrics
    settings: JournalSettings


class EntryWriter:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._wake = asyncio.Event()
        self._in_hand: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """For ever; what is under way when it is cancelled is finished."""
        try:
            while True:
                self._wake.clear()
                wait = _LOOK
                try:
                    await self._take_due()
                    wait = await self._until_next_due()
                except TransientError as error:
                    log.warning("entries_not_read", error=error.message)
                await self._rest(wait)
        finally:
            if self._in_hand:
                await asyncio.wait(
                    set(self._in_hand.values()),
                    timeout=self._tools.settings.write_within.total_seconds(),
                )

    async def _take_due(self) -> None:
        for entry in await self._tools.entries.due(limit=_PAGE):
            if len(self._in_hand) >= self._tools.settings.at_once:
                return
            if entry.key not in self._in_hand:
                task = asyncio.create_task(self._look_at(entry), name=entry.key)
                self._in_hand[entry.key] = task
                task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._in_hand.pop(task.get_name(), None)
        self._wake.set()

    async def _until_next_due(self) -> timedelta:
        """Not over the look: another replica may leave something."""
        found = await self._tools.entries.next_due(besides=self._in_hand)
        if found is None or len(self._in_hand) >= self._tools.settings.at_once:
            return _LOOK
        return min(_LOOK, max(found - self._tools.clock.now(), _SHORTEST))

    async def _rest(self, wait: timedelta) -> None:
        nap = asyncio.create_task(self._tools.clock.sleep(wait))
        news = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({nap, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            news.cancel()

    async def _look_at(self, entry: EntryDocument) -> None:
        with structlog.contextvars.bound_contextvars(
            service="journal",
            tenant=entry.tenant,
            call_id=entry.call_id,
            connection=entry.connection,
        ):
            try:
                if entry.state in {EntryState.SENT, EntryState.FAILED}:
                    await self._tell(entry)
                else:
                    await self._tell(await self._try(await self._claim(entry)))
            except Conflict:
                pass  # another replica has it
            except MeshError as error:
                # Store or bus are away; the entry is as it was and is looked at again.
                log.warning("entry_put_off", error=error.message)

    async def _claim(self, entry: EntryDocument) -> EntryDocument:
        """Ours for the lease. One that is found claimed lost its replica in the middle."""
        return await self._tools.entries.move(
            entry,
            state=EntryState.SENDING,
            attempts=entry.attempts + 1,
            maybe_sent=entry.maybe_sent or entry.state is EntryState.SENDING,
            due_at=self._tools.clock.now() + self._tools.settings.lease,
        )

    async def _try(self, entry: EntryDocument) -> EntryDocument:
        """The entry as it is afterwards. Raises only for store and bus."""
        try:
            site, crm = self._where(entry)
            record = await self._tools.calls.get(entry.tenant, entry.call_id)
            connector = self._tools.connections.connector(account_of(site, crm))
            wanted = await self._entry(site, crm, record)
            return await self._send(entry, connector, wanted)
        except Conflict:
            raise
        except PermanentError as error:
            return await self._failed(entry, error)
        except (Throttled, NeedsReconnect) as error:
            # The CRM said no: nothing was written.
            return await self._put_off(entry, error, maybe_sent=entry.maybe_sent)
        except TransientError as error:
            return await self._put_off(entry, error, maybe_sent=True)

    async def _send(
        self, entry: EntryDocument, connector: JournalsCalls, wanted: JournalEntry
    ) -> EntryDocument:
        within = self._tools.settings.write_within
        entry_id, found = None, False
        if entry.maybe_sent:
            entry_id = await connector.find_entry(wanted, within=within)
            found = entry_id is not None
        if entry_id is None:
            entry_id = await connector.write_entry(wanted, within=within)
        self._tools.metrics.count("callmesh_journal_entries_total", "found" if found else "sent")
        log.info("entry_sent", entry_id=entry_id, found=found, attempts=entry.attempts)
        return await self._tools.entries.move(
            entry,
            state=EntryState.SENT,
            entry_id=entry_id,
            found=found,
            contact_id=wanted.contact.contact_id if wanted.contact else None,
            reason=None,
            due_at=self._tools.clock.now(),
        )

    async def _put_off(
        self, entry: EntryDocument, error: TransientError, *, maybe_sent: bool
    ) -> EntryDocument:
        settings = self._tools.settings
        reconnect = isinstance(error, NeedsReconnect)
        if entry.attempts >= settings.attempts and not reconnect:
            return await self._failed(entry, error)
        doubled = settings.retry_first * (1 << min(entry.attempts - 1, 20))
        wait = max(min(doubled, settings.retry_longest), error.retry_after or timedelta(0))
        if maybe_sent:
            wait = max(wait, self._settle(entry))
        self._tools.metrics.count("callmesh_journal_entries_total", "retried")
        log.warning("entry_put_off", error=error.message, wait_s=wait.total_seconds())
        return await self._tools.entries.move(
            entry,
            state=EntryState.DUE,
            maybe_sent=maybe_sent,
            # A lost grant waits for a person, who is not one of the tries.
            attempts=entry.attempts - 1 if reconnect else entry.attempts,
            reason=error.message,
            due_at=self._tools.clock.now() + wait,
        )

    async def _failed(self, entry: EntryDocument, error: MeshError) -> EntryDocument:
        self._tools.metrics.count("callmesh_journal_entries_total", "failed")
        log.error("entry_failed", error=error.message, attempts=entry.attempts)
        return await self._tools.entries.move(
            entry,
            state=EntryState.FAILED,
            reason=error.message,
            due_at=self._tools.clock.now(),
        )

    async def _tell(self, entry: EntryDocument) -> None:
        """Tell the mesh, then note that it knows: after a crash in between it is told again."""
        if entry.state is EntryState.SENT and entry.entry_id is not None:
            await self._tools.publisher.publish(
                CallJournaled(
                    call_id=entry.call_id,
                    connection=entry.connection,
                    entry_id=entry.entry_id,
                    contact_id=entry.contact_id,
                    found=entry.found,
                ),
                tenant=entry.tenant,
                key=f"{entry.key}/sent",
            )
        elif entry.state is EntryState.FAILED:
            await self._tools.publisher.publish(
                JournalFailed(
                    call_id=entry.call_id,
                    connection=entry.connection,
                    reason=entry.reason or "",
                    attempts=entry.attempts,
                ),
                tenant=entry.tenant,
                key=f"{entry.key}/failed/{entry.attempts}",
            )
        else:
            return
        await self._tools.entries.move(entry, due_at=None)

    def _where(self, entry: EntryDocument) -> tuple[Site, CrmConnection]:
        site = self._tools.site.site(entry.tenant)
        crm = site.crm_named(entry.connection) if site else None
        if site is None or crm is None:
            raise NotFound(f"the CRM connection {entry.connection} is gone")
        return site, crm

    def _settle(self, entry: EntryDocument) -> timedelta:
        site, crm = self._where(entry)
        return self._tools.connections.connector(account_of(site, crm)).settle

    async def _entry(self, site: Site, crm: CrmConnection, record: CallRecord) -> JournalEntry:
        extension = agent_of(record)
        agent = site.agent_at(extension) if extension else None
        if record.started_at is None or record.ended_at is None:
            raise NotFound("the call has not ended")
        return JournalEntry(
            reference=reference(record.call_id),
            direction=record.direction or Direction.INBOUND,
            disposition=record.disposition or Disposition.FAILED,
            started_at=record.started_at,
            ended_at=record.ended_at,
            talk_time=record.talk_time,
            wait_time=record.wait_time,
            number=record.outside_number or "",
            dialled=record.dialled,
            extension=extension,
            agent_name=agent.name if agent else None,
            owner_id=agent.users.get(crm.name) if agent else None,
            contact=await self._contact(site, crm, record),
            recording=record.recordings[0] if record.recordings else None,
        )

    async def _contact(
        self, site: Site, crm: CrmConnection, record: CallRecord
    ) -> ContactCard | None:
        """As this CRM knows the caller; raises where it could not be asked, rather than guess."""
        if record.contact is not None and record.contact.connection == crm.name:
            return record.contact
        number = record.outside_number
        if number is None or parse(number, site.region).withheld:
            return None
        question = question_about(number, site=site, crm=crm)
        found = await self._tools.finder.find(question, within=self._tools.settings.write_within)
        return found.candidates[0] if found.candidates else None
