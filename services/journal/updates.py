"""
Entries that were sent and whose calls are others by now: a recording that came late, an end that is
better known, a contact that a person chose.

A change says the whole entry and the same again changes nothing, so one whose outcome is not known
is simply made again. Whatever becomes of it, the entry is there: it stays SENT, with the reason.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import structlog

from services.journal.contents import Content, Contents
from services.journal.entries import EntryDocument
from services.journal.lanes import Lane
from services.journal.shown import shown_in_entry
from services.journal.tools import Tools
from services.journal.wanting import is_settled
from shared.contracts.calls import EntryState
from shared.crm.port import JournalEntry, JournalsCalls
from shared.errors import (
    Conflict,
    MeshError,
    NotFound,
    OutOfTime,
    PermanentError,
    Rejected,
    TransientError,
)
from shared.site.accounts import account_of

log = structlog.get_logger(__name__)

_CANNOT = "what became known later is not in it: the CRM's template cannot change an entry"


class Updates:
    def __init__(self, tools: Tools, contents: Contents) -> None:
        self._tools = tools
        self._contents = contents

    async def make(self, entry: EntryDocument, lane: Lane) -> EntryDocument:
        """
        The entry as it is afterwards: ``update_due`` where it is to be tried again. The mesh has
        been told what there was to tell before. Raises only for store and bus.
        """
        try:
            site, crm = await self._contents.found(entry)
            connector = self._tools.connections.connector(account_of(site, crm))
            content = await self._contents.of(entry, site, crm)
        except Conflict:
            raise
        except PermanentError as error:
            return await self._refused(entry, error, shown=await self._shown_now(entry))
        except TransientError as error:
            lane.went_wrong(error)
            return await self._put_off(entry, error, lane, tries=entry.update_tries + 1)
        if content.said == entry.content:
            return await self._over(entry, shown=content.shown, reason=None)
        if not connector.can_update:
            return await self._cannot(entry, content)
        claimed = await self._tools.entries.move(
            entry,
            told=True,
            update_tries=entry.update_tries + 1,
            due_at=self._tools.clock.now() + self._tools.lease,
        )
        return await self._try(claimed, connector, content, lane)

    async def look_again(self, entry: EntryDocument) -> EntryDocument:
        """
        Of one whose news the mesh has: done, unless its call changed while it was on its way.
        Raises only for store and bus.
        """
        try:
            _, crm = await self._contents.found(entry)
        except NotFound:
            # The connection is gone: nothing can be changed there.
            return await self._tools.entries.looked_at(entry, shown=None, after=timedelta(0))
        shown = await self._shown_now(entry)
        return await self._tools.entries.looked_at(entry, shown=shown, after=crm.journal.after)

    async def _shown_now(self, entry: EntryDocument) -> str | None:
        """What the call shows in entries; as the entry has it where nothing can be said of the call."""
        try:
            record = await self._tools.calls.get(entry.tenant, entry.call_id)
            site, crm = self._contents.where(entry)
        except NotFound:
            return entry.shown
        if not is_settled(record):
            return entry.shown
        return shown_in_entry(record, entry, crm.journal, site.region)

    async def _try(
        self, entry: EntryDocument, connector: JournalsCalls, content: Content, lane: Lane
    ) -> EntryDocument:
        try:
            async with asyncio.timeout(self._tools.longest_try.total_seconds()):
                sent = await self._send(entry, connector, content.said)
        except NotFound as error:
            # Somebody deleted it, and meant it.
            log.info("entry_gone", entry_id=entry.entry_id)
            return await self._over(entry, shown=content.shown, gone=True, reason=error.message)
        except PermanentError as error:
            return await self._refused(entry, error, shown=content.shown)
        except (TransientError, TimeoutError) as error:
            failure = error if isinstance(error, TransientError) else OutOfTime("no answer in time")
            lane.went_wrong(failure)
            return await self._put_off(entry, failure, lane, tries=entry.update_tries)
        lane.went_well()
        if sent is None:
            return await self._cannot(entry, content)
        self._tools.count("updated")
        log.info("entry_updated", entry_id=entry.entry_id, updates=entry.updates + 1)
        return await self._over(
            entry,
            shown=content.shown,
            state=EntryState.UPDATED,
            content=content.said,
            contact_id=sent.contact.contact_id if sent.contact else entry.contact_id,
            updates=entry.updates + 1,
            told=False,
            reason=None,
        )

    async def _send(
        self, entry: EntryDocument, connector: JournalsCalls, content: JournalEntry
    ) -> JournalEntry | None:
        """What was sent; None where the template has nothing to send."""
        entry_id, within = entry.entry_id or "", self._tools.settings.write_within
        try:
            sent = await connector.update_entry(entry_id, content, within=within)
        except Rejected as error:
            if content.contact is None and content.owner_id is None:
                raise
            log.warning("entry_updated_without_links", error=error.message)
        else:
            return content if sent else None
        bare = replace(content, contact=None, owner_id=None)
        return bare if await connector.update_entry(entry_id, bare, within=within) else None

    async def _cannot(self, entry: EntryDocument, content: Content) -> EntryDocument:
        """The call's record is right all the same."""
        if entry.reason != _CANNOT:
            log.info("entry_cannot_be_changed", entry_id=entry.entry_id)
        return await self._over(entry, shown=content.shown, reason=_CANNOT)

    async def _put_off(
        self, entry: EntryDocument, error: TransientError, lane: Lane, *, tries: int
    ) -> EntryDocument:
        now = self._tools.clock.now()
        wanted_at = lane.tried_since(entry.update_wanted_at if tries > 1 else None)
        if now - wanted_at >= self._tools.settings.give_up_after:
            return await self._refused(entry, error, shown=await self._shown_now(entry))
        wait = self._tools.wait_after(tries, error)
        self._tools.count("retried")
        log.warning("entry_update_put_off", error=error.message, wait_s=wait.total_seconds())
        return await self._tools.entries.move(
            entry,
            told=True,
            update_tries=tries,
            update_wanted_at=wanted_at,
            reason=error.message,
            due_at=now + wait,
        )

    async def _refused(
        self, entry: EntryDocument, error: MeshError, *, shown: str | None
    ) -> EntryDocument:
        """It counts: one whose changes are always refused is not asked for ever."""
        self._tools.count("update_refused")
        log.warning("entry_update_refused", error=error.message, entry_id=entry.entry_id)
        return await self._over(
            entry,
            shown=shown,
            refusals=entry.refusals + 1,
            reason=error.message,
        )

    async def _over(self, entry: EntryDocument, **changes: object) -> EntryDocument:
        """No longer due; who holds it looks again before it is done."""
        now = self._tools.clock.now()
        moved = await self._tools.entries.move(
            entry, **{"told": True, "update_due": False, "due_at": now, **changes}
        )
        if entry.may_change and not moved.may_change and not moved.gone:
            log.warning("entry_changed_often", entry_id=entry.entry_id, reason=moved.reason)
        return moved
