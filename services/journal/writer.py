"""
Entries on their way into CRMs: one per call and CRM, or per agent, whatever fails or dies in between.

What is due is read from the store into lanes, one per connection, so that no CRM waits for another;
:mod:`services.journal.sending` has what is done with one. What becomes known of a call after its
entry was sent changes that entry (:mod:`services.journal.updates`).
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog

from services.journal.contents import Contents
from services.journal.entries import EntryDocument
from services.journal.lanes import Lane, Lanes
from services.journal.sending import Sending
from services.journal.telling import tell_dead, tell_sent
from services.journal.tools import Tools
from services.journal.updates import Updates
from shared.contracts.calls import EntryState
from shared.errors import Conflict, MeshError, TransientError
from shared.storage.port import Page

__all__ = ["EntryWriter", "Tools"]

log = structlog.get_logger(__name__)

#: How often the store is looked at for what other replicas left.
_LOOK = timedelta(seconds=1)
#: Every so often for all that is due. Between, what came due lately is enough: the line of a CRM that
#: is away may be a million long, and is passed over each time. Of the clocks of other replicas, too.
_LOOK_AT_ALL = timedelta(minutes=1)
_SHORTEST = timedelta(milliseconds=2)


class EntryWriter:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools
        contents = Contents(tools)
        self._sending = Sending(tools, contents)
        self._updates = Updates(tools, contents)
        self._lanes = Lanes(
            places=tools.settings.at_once,
            first_hold=tools.settings.retry_first,
            clock=tools.clock,
        )
        self._wake = asyncio.Event()
        self._look_at = tools.clock.now()
        self._look_at_all_at = tools.clock.now()
        #: All that was due then was seen, but in lanes that are behind.
        self._seen_until: datetime | None = None
        self._in_hand: dict[str, asyncio.Task[None]] = {}
        #: Entries that were in hand when the last look began, or later, and are so no more: what a
        #: look read of them may be older.
        self._let_go: set[str] = set()

    def wake(self, due_at: datetime) -> None:
        """There is an entry that is due then."""
        self._look_at = min(self._look_at, due_at)
        self._wake.set()

    async def run(self) -> None:
        """For ever; what is under way when it is cancelled is finished."""
        try:
            while True:
                self._wake.clear()
                try:
                    await self._look()
                except TransientError as error:
                    log.warning("entries_not_read", error=error.message)
                    self._look_at = self._tools.clock.now() + _LOOK
                self._send_out()
                await self._rest()
        finally:
            if self._in_hand:
                await asyncio.wait(
                    set(self._in_hand.values()),
                    timeout=self._tools.settings.write_within.total_seconds(),
                )

    async def _look(self) -> None:
        """Fill the lanes that have room, where it is time or they are behind."""
        now = self._tools.clock.now()
        # A clock may be put back: never wait for longer than from one look to the next.
        if not now < self._look_at <= now + _LOOK:
            await self._look_at_what_came(now)
        for lane in self._lanes:
            if lane.is_behind and lane.takes_more:
                page = await self._tools.entries.due(lane=lane.key)
                lane.is_behind = page.next_cursor is not None
                self._line_up(page)

    async def _look_at_what_came(self, now: datetime) -> None:
        self._look_at = now + _LOOK
        self._lanes.forget_idle()
        since = None
        if now < self._look_at_all_at <= now + _LOOK_AT_ALL and self._seen_until is not None:
            since = self._seen_until - _LOOK_AT_ALL
        passed_over = self._lanes.that_take_no_more
        page = await self._tools.entries.due(
            but_lanes=[lane.key for lane in passed_over], since=since
        )
        for lane in passed_over:
            lane.is_behind = True
        self._line_up(page)
        if page.next_cursor is not None:
            # The lanes of this page are full now; of others there may be more.
            self._look_at = now + _SHORTEST
            return
        self._seen_until = now
        if since is None:
            self._look_at_all_at = now + _LOOK_AT_ALL

    def _line_up(self, page: Page[EntryDocument]) -> None:
        for entry in page.documents:
            if entry.key not in self._in_hand:
                self._lanes.of(entry).waiting.append(entry)

    def _send_out(self) -> None:
        for lane in self._lanes:
            for _ in range(lane.places):
                if not (entries := self._next(lane)):
                    break
                lane.in_hand += 1
                task = asyncio.create_task(self._work(lane, entries), name=entries[0].key)
                self._in_hand |= dict.fromkeys((entry.key for entry in entries), task)

    def _next(self, lane: Lane) -> list[EntryDocument]:
        """What goes in the lane's next request."""
        found: list[EntryDocument] = []
        most = 1
        while lane.waiting and len(found) < most:
            size = self._sending.batch(lane.waiting[0]) if lane.is_trusted else 1
            if found and size == 1:
                break
            most = size
            found.append(lane.waiting.popleft())
        return found

    async def _rest(self) -> None:
        opens = [lane.opens_at for lane in self._lanes if lane.opens_at is not None]
        wait = min([self._look_at, *opens]) - self._tools.clock.now()
        wait = min(max(wait, _SHORTEST), _LOOK)
        nap = asyncio.create_task(self._tools.clock.sleep(wait))
        news = asyncio.create_task(self._wake.wait())
        try:
            await asyncio.wait({nap, news}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            nap.cancel()
            news.cancel()

    # -- one request -----------------------------------------------------------------------------

    async def _work(self, lane: Lane, entries: list[EntryDocument]) -> None:
        about = {"call_id": entries[0].call_id} if len(entries) == 1 else {"entries": len(entries)}
        with structlog.contextvars.bound_contextvars(
            service="journal",
            tenant=entries[0].tenant,
            connection=entries[0].connection,
            **about,
        ):
            try:
                await self._go_on_with(entries, lane)
            except Conflict:
                lane.is_behind = True  # another replica has it, or some of them
            except MeshError as error:
                # Store or bus are away; the entry is as it was and is looked at again.
                log.warning("entry_put_off", error=error.message)
                await self._tools.clock.sleep(_LOOK)
                lane.is_behind = True
            except Exception:
                # One entry that no code of ours can make must not end the service, nor be tried
                # each second: it waits as after any failure, and is dead after the same time.
                log.exception("entry_fault")
                await self._sending.faulty(entries, lane)
            finally:
                lane.in_hand -= 1
                for entry in entries:
                    del self._in_hand[entry.key]
                    self._let_go.add(entry.key)
                self._wake.set()

    async def _go_on_with(self, entries: list[EntryDocument], lane: Lane) -> None:
        if len(entries) > 1:
            after = await self._sending.together(entries, lane)
        else:
            after = [await self._step(entries[0], lane)]
        for entry in await asyncio.gather(*(self._told(entry, lane) for entry in after)):
            if entry.due_at is not None:
                self.wake(entry.due_at)

    async def _step(self, entry: EntryDocument, lane: Lane) -> EntryDocument:
        if entry.state is EntryState.SENDING:
            return await self._sending.broken_off(entry, lane)
        return await self._sending.one(entry, lane) if entry.is_to_be_sent else entry

    async def _told(self, entry: EntryDocument, lane: Lane) -> EntryDocument:
        """
        Tell the mesh, change what is to be changed, then note that all is done: after a crash in
        between it is told, and changed, again.
        """
        if entry.state is EntryState.DEAD:
            return await tell_dead(self._tools, entry)
        if not entry.state.is_there:
            return entry
        await tell_sent(self._tools, entry)
        if entry.update_due:
            entry = await self._updates.make(entry, lane)
            if entry.update_due:
                return entry
            await tell_sent(self._tools, entry)
        return await self._updates.look_again(entry)
