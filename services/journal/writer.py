"""
Entries on their way into CRMs: one per call and CRM, whatever fails or dies in between.

An entry is claimed by compare-and-set, with a lease that is longer than a try may take. A try that
ended without an answer, or whose replica died, *may* have come through: before the next one the
CRM is asked, when its search has had the time to see it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from services.journal.domain import agent_of
from services.journal.settings import JournalSettings
from services.journal.store import CallLog, EntryBook, EntryDocument
from shared.bus.port import Publisher
from shared.clock import Clock
from shared.contracts.calls import CallRecord, Direction, Disposition, EntryState
from shared.contracts.contacts import ContactCard
from shared.contracts.journal import CallJournaled, JournalFailed
from shared.crm.candidates import Choose, chosen
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.language.text import compile_text
from shared.crm.port import JournalEntry, JournalsCalls, Priority
from shared.crm.users import UserBook
from shared.errors import (
    Conflict,
    ContractError,
    MeshError,
    NeedsReconnect,
    NotFound,
    PermanentError,
    Rejected,
    Throttled,
    TransientError,
    Unavailable,
)
from shared.ids import reference
from shared.observe.metrics import Metrics
from shared.phone import parse
from shared.site.accounts import account_of, question_about, seat_of
from shared.site.book import SiteBook
from shared.site.models import CrmConnection, JournalPolicy, Site

log = structlog.get_logger(__name__)

#: How often the store is looked at for what other replicas left.
_LOOK = timedelta(seconds=1)
_SHORTEST = timedelta(milliseconds=2)
#: By how much a claim outlasts the longest try: time to write down what became of it.
_SPARE = timedelta(seconds=5)
#: Due entries that one look goes through to find some whose connection has a place free.
_LOOKED_THROUGH = 500


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
    users: UserBook


@dataclass(frozen=True, slots=True)
class _Sent:
    """*found*: it was there already."""

    entry_id: str
    contact_id: str | None
    found: bool = False


class EntryWriter:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._wake = asyncio.Event()
        #: By the entry's key: whose place it takes, and the task.
        self._in_hand: dict[str, tuple[tuple[str, str], asyncio.Task[None]]] = {}

    def wake(self) -> None:
        self._wake.set()

    async def run(self) -> None:
        """For ever; what is under way when it is cancelled is finished."""
        try:
            while True:
                self._wake.clear()
                wait = _LOOK
                try:
                    looked_at = self._tools.clock.now()
                    await self._take_due()
                    wait = await self._until_next_due(looked_at)
                except TransientError as error:
                    log.warning("entries_not_read", error=error.message)
                await self._rest(wait)
        finally:
            if self._in_hand:
                await asyncio.wait(
                    {task for _, task in self._in_hand.values()},
                    timeout=self._tools.settings.write_within.total_seconds(),
                )

    async def _take_due(self) -> None:
        places = self._tools.settings.at_once
        busy = Counter(connection for connection, _ in self._in_hand.values())
        looked_through = 0
        async for entry in self._tools.entries.due():
            connection = (entry.tenant, entry.connection)
            # A CRM that hangs holds up no other.
            if entry.key not in self._in_hand and busy[connection] < places:
                busy[connection] += 1
                task = asyncio.create_task(self._look_at(entry), name=entry.key)
                self._in_hand[entry.key] = connection, task
                task.add_done_callback(self._done)
            looked_through += 1
            if looked_through == _LOOKED_THROUGH:
                return

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._in_hand[task.get_name()]
        self._wake.set()

    async def _until_next_due(self, looked_at: datetime) -> timedelta:
        """Not over the look: another replica may leave something."""
        found = await self._tools.entries.next_due(after=looked_at)
        if found is None:
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
                await self._go_on_with(entry)
            except Conflict:
                pass  # another replica has it
            except MeshError as error:
                # Store or bus are away; the entry is as it was and is looked at again.
                log.warning("entry_put_off", error=error.message)
                await self._tools.clock.sleep(_LOOK)

    async def _go_on_with(self, entry: EntryDocument) -> None:
        match entry.state:
            case EntryState.SENT | EntryState.FAILED:
                await self._tell(entry)
            case EntryState.SENDING:
                # Its replica died, or lost the store, in the middle.
                await self._put_off(entry, Unavailable("the try was broken off"), maybe_sent=True)
            case EntryState.DUE:
                await self._tell(await self._try(entry))

    async def _try(self, entry: EntryDocument) -> EntryDocument:
        """The entry as it is afterwards. Raises only for store and bus."""
        try:
            site, crm = self._where(entry)
            connector = self._tools.connections.connector(account_of(site, crm))
            content = entry.content if entry.maybe_sent else None
            content = content or await self._content(entry, site, crm)
        except Conflict:
            raise
        except PermanentError as error:
            return await self._failed(entry, error)
        except TransientError as error:
            return await self._put_off(entry, error, maybe_sent=entry.maybe_sent)
        claimed = await self._claim(entry, content)
        try:
            async with asyncio.timeout(self._longest_try.total_seconds()):
                sent = await self._send(claimed, connector, content)
        except PermanentError as error:
            return await self._failed(claimed, error)
        except (Throttled, NeedsReconnect) as error:
            # The CRM said no: nothing was written.
            return await self._put_off(claimed, error, maybe_sent=entry.maybe_sent)
        except (TransientError, TimeoutError) as error:
            lost = error if isinstance(error, TransientError) else Unavailable("no answer in time")
            return await self._put_off(claimed, lost, maybe_sent=True)
        outcome = "found" if sent.found else "sent"
        self._tools.metrics.count("callmesh_journal_entries_total", outcome)
        log.info("entry_sent", entry_id=sent.entry_id, found=sent.found, attempts=claimed.attempts)
        return await self._tools.entries.move(
            claimed,
            state=EntryState.SENT,
            entry_id=sent.entry_id,
            found=sent.found,
            contact_id=sent.contact_id,
            reason=None,
            due_at=self._tools.clock.now(),
        )

    @property
    def _longest_try(self) -> timedelta:
        """Looking for the entry, and writing it."""
        return 2 * self._tools.settings.write_within

    async def _claim(self, entry: EntryDocument, content: JournalEntry) -> EntryDocument:
        """Ours until after the longest try."""
        return await self._tools.entries.move(
            entry,
            state=EntryState.SENDING,
            attempts=entry.attempts + 1,
            content=content,
            due_at=self._tools.clock.now() + self._longest_try + _SPARE,
        )

    async def _send(
        self, entry: EntryDocument, connector: JournalsCalls, content: JournalEntry
    ) -> _Sent:
        within = self._tools.settings.write_within
        contact_id = content.contact.contact_id if content.contact else None
        if entry.maybe_sent:
            entry_id = await connector.find_entry(content, within=within)
            if entry_id is not None:
                return _Sent(entry_id, contact_id, found=True)
        try:
            return _Sent(await connector.write_entry(content, within=within), contact_id)
        except Rejected as error:
            if content.contact is None and content.owner_id is None:
                raise
            # A contact that was deleted, an agent who left: the call took place all the same.
            log.warning("entry_sent_without_links", error=error.message)
        bare = replace(content, contact=None, owner_id=None)
        return _Sent(await connector.write_entry(bare, within=within), None)

    async def _put_off(
        self, entry: EntryDocument, error: TransientError, *, maybe_sent: bool
    ) -> EntryDocument:
        settings, now = self._tools.settings, self._tools.clock.now()
        if now - entry.wanted_at >= settings.give_up_after:
            return await self._failed(entry, error)
        doubled = settings.retry_first * (1 << min(max(entry.attempts - 1, 0), 20))
        wait = max(min(doubled, settings.retry_longest), error.retry_after or timedelta(0))
        if maybe_sent:
            wait = max(wait, self._settle(entry))
        self._tools.metrics.count("callmesh_journal_entries_total", "retried")
        log.warning("entry_put_off", error=error.message, wait_s=wait.total_seconds())
        return await self._tools.entries.move(
            entry,
            state=EntryState.DUE,
            maybe_sent=maybe_sent,
            reason=error.message,
            due_at=now + wait,
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
        try:
            site, crm = self._where(entry)
        except NotFound:
            return timedelta(0)
        return self._tools.connections.connector(account_of(site, crm)).settle

    async def _content(self, entry: EntryDocument, site: Site, crm: CrmConnection) -> JournalEntry:
        record = await self._tools.calls.get(entry.tenant, entry.call_id)
        extension = agent_of(record)
        agent = site.agent_at(extension, record.pbx) if extension else None
        if record.started_at is None or record.ended_at is None:
            raise NotFound("the call has not ended")
        owner_id = None
        if agent is not None:
            owner_id = await self._tools.users.owner_of(site.tenant, crm.name, seat_of(agent, crm))
        return JournalEntry(
            reference=reference(record.call_id),
            direction=record.direction or Direction.INBOUND,
            disposition=record.disposition or Disposition.FAILED,
            started_at=record.started_at,
            ended_at=record.ended_at,
            talk_time=record.talk_time,
            wait_time=record.wait_time,
            number=parse(record.outside_number or "", site.region).key,
            dialled=record.dialled,
            extension=extension,
            agent_name=agent.name if agent else None,
            owner_id=owner_id,
            contact=await self._contact(site, crm, record, owner_id),
            recording=_recording(record, crm.journal),
            queue=record.queue,
            agent_email=agent.email if agent else None,
            subject=crm.journal.subject,
            description=crm.journal.description,
        )

    async def _contact(
        self, site: Site, crm: CrmConnection, record: CallRecord, owner_id: str | None
    ) -> ContactCard | None:
        """
        As this CRM knows the caller, of several the one of the connection's ``choose``; raises
        where it could not be asked, rather than guess.
        """
        known = record.contact
        if known is not None and known.connection != crm.name:
            known = None
        # Whose call it would be was not known when the call began; what a person says stands.
        settled = (
            crm.choose is not Choose.OWNER
            or record.chosen_by is not None
            or (known is not None and known.owner_id == owner_id)
        )
        number = record.outside_number
        if (known and settled) or number is None or parse(number, site.region).withheld:
            return known
        question = question_about(number, site=site, crm=crm, priority=Priority.JOURNAL)
        found = await self._tools.finder.find(question, within=self._tools.settings.write_within)
        if not found.candidates:
            return known
        return chosen(found.candidates, crm.choose, owner_id=owner_id)


def _recording(record: CallRecord, policy: JournalPolicy) -> str | None:
    """As the PBX names it, or the address that the policy makes of that."""
    if not record.recordings:
        return None
    name = record.recordings[0]
    if policy.recording is None:
        return name
    variables = {"Recording": name, "CallId": record.call_id}
    try:
        return compile_text(policy.recording).text(variables) or None
    except ContractError as error:
        log.warning("recording_without_address", error=error.message)
        return name
