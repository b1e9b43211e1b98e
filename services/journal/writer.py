"""
Entries on their way into CRMs: one per call and CRM, whatever fails or dies in between.

An entry is claimed by compare-and-set, with a lease that is longer than a try may take. A try that
ended without an answer, or whose replica died, *may* have come through: before the next one the
CRM is asked, when its search has had the time to see it. What becomes known of the call after that
changes the entry that is there (:mod:`services.journal.updates`).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

import structlog

from services.journal.contents import Content, Contents
from services.journal.store import EntryDocument
from services.journal.tools import Tools
from services.journal.updates import Updates
from shared.contracts.calls import EntryState
from shared.contracts.journal import CallJournaled, JournalFailed
from shared.crm.port import JournalEntry, JournalsCalls
from shared.errors import (
    Conflict,
    MeshError,
    NeedsReconnect,
    NotFound,
    PermanentError,
    Rejected,
    Throttled,
    TransientError,
    Unavailable,
)
from shared.site.accounts import account_of

__all__ = ["EntryWriter", "Tools"]

log = structlog.get_logger(__name__)

#: How often the store is looked at for what other replicas left.
_LOOK = timedelta(seconds=1)
_SHORTEST = timedelta(milliseconds=2)
#: Due entries that one look goes through to find some whose connection has a place free.
_LOOKED_THROUGH = 500


@dataclass(frozen=True, slots=True)
class _Sent:
    """*found*: it was there already."""

    entry_id: str
    contact_id: str | None
    found: bool = False


class EntryWriter:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        self._contents = Contents(tools)
        self._updates = Updates(tools, self._contents)
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
            case EntryState.SENT:
                await self._go_on_with_sent(entry)
            case EntryState.FAILED:
                await self._tell_failed(entry)
            case EntryState.SENDING:
                # Its replica died, or lost the store, in the middle.
                await self._put_off(entry, Unavailable("the try was broken off"), maybe_sent=True)
            case EntryState.DUE:
                tried = await self._try(entry)
                if tried.state is not EntryState.DUE:
                    await self._go_on_with(tried)

    async def _go_on_with_sent(self, entry: EntryDocument) -> None:
        """
        Tell the mesh, change what is to be changed, then note that all is done: after a crash in
        between it is told, and changed, again.
        """
        await self._tell_sent(entry)
        if entry.update_due:
            entry = await self._updates.make(entry)
            if entry.update_due:
                return
            await self._tell_sent(entry)
        await self._updates.look_again(entry)

    async def _try(self, entry: EntryDocument) -> EntryDocument:
        """The entry as it is afterwards. Raises only for store and bus."""
        try:
            site, crm = self._contents.where(entry)
            connector = self._tools.connections.connector(account_of(site, crm))
            if entry.maybe_sent and entry.content is not None:
                content = Content(entry.content, entry.shown)
            else:
                content = await self._contents.of(entry, site, crm)
        except Conflict:
            raise
        except PermanentError as error:
            return await self._failed(entry, error)
        except TransientError as error:
            return await self._put_off(entry, error, maybe_sent=entry.maybe_sent)
        claimed = await self._claim(entry, content)
        try:
            async with asyncio.timeout(self._tools.longest_try.total_seconds()):
                sent = await self._send(claimed, connector, content.said)
        except PermanentError as error:
            return await self._failed(claimed, error)
        except (Throttled, NeedsReconnect) as error:
            # The CRM said no: nothing was written.
            return await self._put_off(claimed, error, maybe_sent=entry.maybe_sent)
        except (TransientError, TimeoutError) as error:
            lost = error if isinstance(error, TransientError) else Unavailable("no answer in time")
            return await self._put_off(claimed, lost, maybe_sent=True)
        self._tools.count("found" if sent.found else "sent")
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

    async def _claim(self, entry: EntryDocument, content: Content) -> EntryDocument:
        """Ours until after the longest try."""
        return await self._tools.entries.move(
            entry,
            state=EntryState.SENDING,
            attempts=entry.attempts + 1,
            content=content.said,
            shown=content.shown,
            due_at=self._tools.clock.now() + self._tools.lease,
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
        now = self._tools.clock.now()
        if now - entry.wanted_at >= self._tools.settings.give_up_after:
            return await self._failed(entry, error)
        wait = self._tools.wait_after(entry.attempts, error)
        if maybe_sent:
            wait = max(wait, self._settle(entry))
        self._tools.count("retried")
        log.warning("entry_put_off", error=error.message, wait_s=wait.total_seconds())
        return await self._tools.entries.move(
            entry,
            state=EntryState.DUE,
            maybe_sent=maybe_sent,
            reason=error.message,
            due_at=now + wait,
        )

    async def _failed(self, entry: EntryDocument, error: MeshError) -> EntryDocument:
        self._tools.count("failed")
        log.error("entry_failed", error=error.message, attempts=entry.attempts)
        return await self._tools.entries.move(
            entry,
            state=EntryState.FAILED,
            reason=error.message,
            due_at=self._tools.clock.now(),
        )

    async def _tell_sent(self, entry: EntryDocument) -> None:
        """What the mesh does not know yet. The same told twice is one message."""
        if entry.told or entry.entry_id is None:
            return
        updated = entry.updates > 0
        await self._tools.publisher.publish(
            CallJournaled(
                call_id=entry.call_id,
                connection=entry.connection,
                entry_id=entry.entry_id,
                contact_id=entry.contact_id,
                found=entry.found and not updated,
                updated=updated,
            ),
            tenant=entry.tenant,
            key=f"{entry.key}/updated/{entry.updates}" if updated else f"{entry.key}/sent",
        )

    async def _tell_failed(self, entry: EntryDocument) -> None:
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
        await self._tools.entries.move(entry, due_at=None)

    def _settle(self, entry: EntryDocument) -> timedelta:
        try:
            site, crm = self._contents.where(entry)
        except NotFound:
            return timedelta(0)
        return self._tools.connections.connector(account_of(site, crm)).settle
