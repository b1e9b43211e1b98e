"""The entries of all calls, as the journal's handlers, its writer and its operators change them."""

from __future__ import annotations

from collections.abc import Collection as Group
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from services.journal.entries import EntryDocument
from services.journal.orders import Orders, due_at, orders
from services.journal.shown import shown_in_entry
from shared.clock import Clock
from shared.contracts.calls import CallRecord, EntryState
from shared.errors import Conflict, Unavailable
from shared.site.models import CrmConnection, Site
from shared.storage.port import Collection, Find, Is, Op, Page, change, every

log = structlog.get_logger(__name__)

#: Of one look at the store.
_PAGE = 500


class EntryBook:
    def __init__(self, entries: Collection[EntryDocument], clock: Clock) -> None:
        self._entries = entries
        self._clock = clock

    async def of_call(self, call_id: str) -> list[EntryDocument]:
        """In the order of their keys."""
        return [e async for e in every(self._entries, Find(equals={"call_id": call_id}))]

    async def get(self, key: str) -> EntryDocument:
        """Raises: NotFound."""
        return await self._entries.get(key)

    async def keep_in_step(
        self,
        record: CallRecord,
        site: Site,
        crm: CrmConnection,
        known: Sequence[EntryDocument],
        *,
        wait: timedelta = timedelta(0),
    ) -> datetime | None:
        """
        Have the entries of a settled call at *crm* be those that its policy wants: the same again
        changes nothing. *known*: its entries, whatever their connection; *wait*: nothing is sent
        sooner. When the first of those that changed is due; None: nothing changed. Raises:
        Unavailable.
        """
        here = [entry for entry in known if entry.connection == crm.name]
        wanted = orders(record, crm, here, region=site.region)
        now = self._clock.now()
        when = due_at(crm.journal, now, at_least=wait)
        # A call of an older version may be in this CRM, by a connection that had another name.
        in_full = all(entry.named_in_full for entry in known)
        changed = False
        for agent in wanted.new:
            entry = EntryDocument.wanting(
                site.tenant,
                record.call_id,
                crm.name,
                agent=agent,
                per=wanted.per,
                now=now,
                due_at=when,
                named_in_full=in_full,
            )
            changed |= await self._order(entry)
        for entry, agent in wanted.revived:
            changed |= await self._revive(entry.key, agent, now=now, due=when)
        for entry in wanted.withdrawn:
            changed |= await self._withdraw(entry.key, wanted)
        for entry, agent in wanted.moved:
            changed |= await self._pass_on(entry.key, agent, now=now, due=when)
        for entry in wanted.kept:
            shown = shown_in_entry(record, entry, crm.journal, site.region)
            changed |= await self._call_changed(entry, shown, now=now, due=when)
        return when if changed else None

    # -- the line --------------------------------------------------------------------------------

    async def due(
        self,
        *,
        lane: str | None = None,
        but_lanes: Group[str] = (),
        since: datetime | None = None,
    ) -> Page[EntryDocument]:
        """
        What somebody must look at now, longest waiting first: of one *lane*, or of all but
        *but_lanes*; *since*: what became due before is left out.
        """
        return await self._entries.page(
            Find(
                equals={"lane": lane} if lane is not None else {},
                since={"due_at": since} if since is not None else {},
                until={"due_at": self._clock.now() + timedelta(milliseconds=1)},
                where=Is("lane", Op.NOT_IN, sorted(but_lanes)) if but_lanes else None,
                order_by="due_at",
                limit=_PAGE,
            )
        )

    async def move(self, entry: EntryDocument, **changes: Any) -> EntryDocument:
        """Raises: Conflict when another replica was faster."""
        return await self._entries.replace(entry.model_copy(update=changes))

    async def looked_at(
        self, entry: EntryDocument, *, shown: str | None, after: timedelta
    ) -> EntryDocument:
        """
        One whose news the mesh has: done, or wanting a change where its call shows something else
        by now. Raises: Conflict.
        """
        told = entry.model_copy(update={"told": True, "due_at": None})
        if shown is not None and shown != entry.shown and entry.may_change:
            now = self._clock.now()
            told = told.wanting_update(now, now + after)
        return await self._entries.replace(told)

    # -- operators -------------------------------------------------------------------------------

    async def page(self, find: Find) -> Page[EntryDocument]:
        return await self._entries.page(find)

    async def count(self, find: Find) -> int:
        return await self._entries.count(find)

    async def replay(self, entry: EntryDocument, *, settle: timedelta) -> EntryDocument:
        """
        Send it after all, with all the time of a new one; one that may have been sent is looked for
        first, when the CRM's search has had *settle* since the last try. Raises: Conflict.
        """
        now = self._clock.now()
        return await self.move(
            entry,
            state=EntryState.MAYBE_SENT if entry.maybe_sent else EntryState.DUE,
            setbacks=0,
            tried_since=now,
            due_at=_soonest(entry, now, settle),
        )

    async def hasten(self, entry: EntryDocument, *, settle: timedelta) -> bool:
        """
        Have it looked at now; its time runs on. Whether it was to be later: one that is being sent
        is its sender's as long as its claim holds. Raises: Conflict.
        """
        if entry.state is EntryState.SENDING:
            return False
        soonest = _soonest(entry, self._clock.now(), settle)
        if entry.due_at is None or entry.due_at <= soonest:
            return False
        await self.move(entry, due_at=soonest)
        return True

    async def seek_again(self, entry: EntryDocument, *, settle: timedelta) -> EntryDocument:
        """
        One that was sent and that the CRM does not find: it is looked for once more when the search
        has had *settle* from now, and if it is not there sent again. Raises: Conflict.
        """
        now = self._clock.now()
        return await self.move(
            entry,
            state=EntryState.MAYBE_SENT,
            maybe_sent=True,
            reason="the CRM did not find it any more",
            entry_id=None,
            sent_at=None,
            told=False,
            setbacks=0,
            tried_since=now,
            update_due=False,
            updates=0,
            refusals=0,
            due_at=now + settle,
        )

    # -- one entry -------------------------------------------------------------------------------

    async def _order(self, entry: EntryDocument) -> bool:
        try:
            await self._entries.add(entry)
        except Conflict:
            return False
        log.info(
            "entry_wanted",
            call_id=entry.call_id,
            connection=entry.connection,
            agent=entry.agent,
        )
        return True

    async def _withdraw(self, key: str, wanted: Orders) -> bool:
        def withdraw(entry: EntryDocument) -> EntryDocument | None:
            if not entry.is_to_be_sent or entry.maybe_sent:
                return None
            reason = wanted.why_not or "none of the call's agents needs it any more"
            changes = {"state": EntryState.NOT_WANTED, "reason": reason, "due_at": None}
            return entry.model_copy(update=changes)

        return await self._change(key, withdraw)

    async def _revive(self, key: str, agent: str | None, *, now: datetime, due: datetime) -> bool:
        def revive(entry: EntryDocument) -> EntryDocument | None:
            if entry.state is not EntryState.NOT_WANTED:
                return None
            changes = {
                "state": EntryState.DUE,
                "agent": agent,
                "reason": None,
                "tried_since": now,
                "due_at": due,
            }
            return entry.model_copy(update=changes)

        return await self._change(key, revive)

    async def _pass_on(self, key: str, agent: str | None, *, now: datetime, due: datetime) -> bool:
        def pass_on(entry: EntryDocument) -> EntryDocument | None:
            # One that is being sent is its sender's; it is passed on when the mesh hears of it.
            if entry.agent == agent or entry.state is EntryState.SENDING:
                return None
            passed = entry.model_copy(update={"agent": agent})
            if entry.may_change and not entry.update_due:
                return passed.wanting_update(now, due)
            return passed

        return await self._change(key, pass_on)

    async def _call_changed(
        self, known: EntryDocument, shown: str, *, now: datetime, due: datetime
    ) -> bool:
        """
        An entry that was sent says something else than *shown*: it is changed when more has had the
        time to come. One that is on its way is looked at when it has been sent.
        """

        def mark(entry: EntryDocument) -> EntryDocument | None:
            if entry.update_due or entry.shown == shown or not entry.may_change:
                return None
            return entry.wanting_update(now, due)

        return mark(known) is not None and await self._change(known.key, mark)

    async def _change(self, key: str, edit: Any) -> bool:
        """Whether something changed. Raises: Unavailable."""
        changed = False

        def edited(entry: EntryDocument | None) -> EntryDocument | None:
            nonlocal changed
            after = edit(entry) if entry is not None else None
            changed = after is not None
            return after

        try:
            await change(self._entries, key, edited)
        except Conflict as error:
            # The writers were faster each time; the message's turn comes.
            raise Unavailable(error.message) from error
        return changed


def _soonest(entry: EntryDocument, now: datetime, settle: timedelta) -> datetime:
    """When it may be tried: what may have come through has to be found if it did."""
    if not entry.maybe_sent:
        return now
    last_try_at = entry.tries[-1].at if entry.tries else now
    return max(now, last_try_at + settle)
