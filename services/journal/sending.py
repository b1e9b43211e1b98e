"""
One request with an entry, or with several: claimed first, then sent, then what became of it.

An entry is claimed by compare-and-set, with a lease that is longer than a try may take. A try that
ended without an answer, or whose replica died, *may* have come through: before the next one the
CRM is asked, when its search has had the time to see it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import structlog

from services.journal.contents import Content, Contents
from services.journal.entries import EntryDocument
from services.journal.lanes import RECONNECT_LOOK, Lane
from services.journal.tools import Tools
from shared.contracts.calls import EntryState
from shared.crm.port import JournalEntry, JournalsCalls
from shared.errors import (
    Conflict,
    MeshError,
    NeedsReconnect,
    OutOfTime,
    PermanentError,
    Rejected,
    Throttled,
    TransientError,
    Unavailable,
)
from shared.site.accounts import account_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Ready:
    """
    An entry that can be sent; *entry* is as the store has it. *claimed_at* is by the loop's clock,
    which nobody puts forward or back.
    """

    entry: EntryDocument
    content: Content
    connector: JournalsCalls
    claimed_at: float = 0


@dataclass(frozen=True, slots=True)
class _Sent:
    """*found*: it was there already."""

    entry_id: str
    contact_id: str | None
    found: bool = False


class Sending:
    def __init__(self, tools: Tools, contents: Contents) -> None:
        self._tools = tools
        self._contents = contents

    def batch(self, entry: EntryDocument) -> int:
        """How many entries a request may carry that has this one; 1: it goes alone."""
        if entry.alone or not entry.is_to_be_sent:
            return 1
        try:
            site, crm = self._contents.where(entry)
            connector = self._tools.connections.connector(account_of(site, crm))
        except MeshError:
            return 1  # that it cannot be sent is said when it is tried
        if entry.maybe_sent and not connector.knows_repeats:
            return 1  # it is looked for first
        most = connector.batch
        upload = crm.journal.upload
        return min(most, upload.at_most) if upload and upload.at_most else most

    async def one(self, entry: EntryDocument, lane: Lane) -> EntryDocument:
        """The entry as it is afterwards. Raises only for store and bus."""
        wrong: list[MeshError] = []
        ready = await self._made_ready(entry, lane, wrong)
        lane.went_wrong(*wrong)
        if isinstance(ready, EntryDocument):
            return ready
        return await self._try(await self._claimed(ready), lane)

    async def together(self, entries: Sequence[EntryDocument], lane: Lane) -> list[EntryDocument]:
        """In one request. The entries that are ours, as they are afterwards; raises as :meth:`one`."""
        wrong: list[MeshError] = []
        made = await asyncio.gather(*(self._made_ready(one, lane, wrong) for one in entries))
        lane.went_wrong(*wrong)
        done = [one for one in made if isinstance(one, EntryDocument)]
        claims = await asyncio.gather(
            *(self._claimed(one) for one in made if isinstance(one, _Ready)),
            return_exceptions=True,
        )
        ours: list[_Ready] = []
        for claim in claims:
            if isinstance(claim, _Ready):
                ours.append(claim)
            elif not isinstance(claim, Conflict):  # another replica has it
                raise claim
        if len(ours) > 1:
            return [*done, *await self._try_together(ours, lane)]
        return [*done, *[await self._try(one, lane) for one in ours]]

    async def _made_ready(
        self, entry: EntryDocument, lane: Lane, wrong: list[MeshError]
    ) -> _Ready | EntryDocument:
        """Ready to be sent, or as it is after that could not be; *wrong* gets what its CRM did."""
        try:
            site, crm = await self._contents.found(entry)
            connector = self._tools.connections.connector(account_of(site, crm))
            if entry.maybe_sent and entry.content is not None:
                content = Content(entry.content, entry.shown)
            else:
                content = await self._contents.of(entry, site, crm)
        except Conflict:
            raise
        except PermanentError as error:
            return await self._dead(entry, error)
        except TransientError as error:
            wrong.append(error)
            return await self._put_off(entry, error, lane, maybe_sent=entry.maybe_sent)
        return _Ready(entry, content, connector)

    async def _claimed(self, ready: _Ready) -> _Ready:
        """Ours until after the longest try. Raises: Conflict."""
        claimed_at = asyncio.get_running_loop().time()
        entry = await self._tools.entries.move(
            ready.entry,
            state=EntryState.SENDING,
            attempts=ready.entry.attempts + 1,
            content=ready.content.said,
            shown=ready.content.shown,
            due_at=self._tools.clock.now() + self._tools.lease,
        )
        return replace(ready, entry=entry, claimed_at=claimed_at)

    def _left(self, ready: _Ready) -> float:
        """
        Seconds for the try: what came between it and the claim took of its time. Raises: Conflict
        when there are none: another replica may have it for broken off by now.
        """
        spent = asyncio.get_running_loop().time() - ready.claimed_at
        left = self._tools.longest_try.total_seconds() - spent
        if left <= 0:
            raise Conflict("the claim is over before the try began", key=ready.entry.key)
        return left

    async def _try(self, ready: _Ready, lane: Lane) -> EntryDocument:
        entry = ready.entry
        left = self._left(ready)
        try:
            async with asyncio.timeout(left):
                sent = await self._send(ready)
        except PermanentError as error:
            lane.went_well()
            return await self._dead(entry, error)
        except (TransientError, TimeoutError) as error:
            return await self._failed(entry, _said(error), lane)
        lane.went_well()
        return await self._sent(entry, sent)

    async def _send(self, ready: _Ready) -> _Sent:
        content, within = ready.content.said, self._tools.settings.write_within
        contact_id = content.contact.contact_id if content.contact else None
        if ready.entry.maybe_sent:
            entry_id = await ready.connector.find_entry(content, within=within)
            if entry_id is not None:
                return _Sent(entry_id, contact_id, found=True)
        try:
            return _Sent(await ready.connector.write_entry(content, within=within), contact_id)
        except Rejected as error:
            if content.contact is None and content.owner_id is None:
                raise
            # A contact that was deleted, an agent who left: the call took place all the same.
            log.warning("entry_sent_without_links", error=error.message)
        bare = replace(content, contact=None, owner_id=None)
        return _Sent(await ready.connector.write_entry(bare, within=within), None)

    async def _try_together(self, ours: Sequence[_Ready], lane: Lane) -> list[EntryDocument]:
        within = self._tools.settings.write_within
        said: list[JournalEntry] = [ready.content.said for ready in ours]
        left = min(map(self._left, ours))
        try:
            async with asyncio.timeout(left):
                answers = await ours[0].connector.write_entries(said, within=within)
        except PermanentError as error:
            lane.went_well()
            log.warning("entries_refused_together", entries=len(ours), error=error.message)
            return await _all(self._alone(ready.entry) for ready in ours)
        except TransientError as error:
            return await self._failed_together(ours, error, lane)
        except TimeoutError as error:
            # What each needs before and after the request: alone there is time for it.
            return await self._failed_together(ours, _said(error), lane, alone=True)
        lane.went_well()
        log.info("entries_sent_together", entries=len(ours))
        return await _all(
            self._answered(ready, answer, lane) for ready, answer in zip(ours, answers, strict=True)
        )

    async def _answered(self, ready: _Ready, answer: str | MeshError, lane: Lane) -> EntryDocument:
        """One of those that went together."""
        if isinstance(answer, str):
            contact = ready.content.said.contact
            return await self._sent(
                ready.entry, _Sent(answer, contact.contact_id if contact else None)
            )
        if isinstance(answer, TransientError):
            return await self._put_off(ready.entry, answer, lane, maybe_sent=True)
        # By itself, what is wrong with it can be told, and a link that is refused be left out.
        return await self._alone(ready.entry)

    async def _alone(self, entry: EntryDocument) -> EntryDocument:
        now = self._tools.clock.now()
        return await self._tools.entries.move(entry, state=EntryState.DUE, alone=True, due_at=now)

    async def _sent(self, entry: EntryDocument, sent: _Sent) -> EntryDocument:
        self._tools.count("found" if sent.found else "sent")
        log.info("entry_sent", entry_id=sent.entry_id, found=sent.found, attempts=entry.attempts)
        return await self._tools.entries.move(
            entry,
            state=EntryState.SENT,
            entry_id=sent.entry_id,
            sent_at=self._tools.clock.now(),
            found=sent.found,
            maybe_sent=False,
            contact_id=sent.contact_id,
            reason=None,
            exchange=None,
            setbacks=0,
            due_at=self._tools.clock.now(),
        )

    # -- what did not end well -------------------------------------------------------------------

    async def _failed(
        self, entry: EntryDocument, error: TransientError, lane: Lane
    ) -> EntryDocument:
        lane.went_wrong(error)
        return await self._put_off(entry, error, lane, maybe_sent=_maybe_sent(entry, error))

    async def _failed_together(
        self, ours: Sequence[_Ready], error: TransientError, lane: Lane, *, alone: bool = False
    ) -> list[EntryDocument]:
        lane.went_wrong(error)
        return await _all(
            self._put_off(
                ready.entry, error, lane, maybe_sent=_maybe_sent(ready.entry, error), alone=alone
            )
            for ready in ours
        )

    async def _put_off(
        self,
        entry: EntryDocument,
        error: TransientError,
        lane: Lane,
        *,
        maybe_sent: bool,
        alone: bool = False,
    ) -> EntryDocument:
        now = self._tools.clock.now()
        if isinstance(error, NeedsReconnect):
            state, wait, since = EntryState.RECONNECT, RECONNECT_LOOK, now
        else:
            # Not since it was wanted: it may have waited behind others for all that time.
            since = lane.tried_since(entry.tried_since)
            if now - since >= self._tools.settings.give_up_after:
                return await self._dead(entry, error, maybe_sent=maybe_sent)
            wait = self._tools.wait_after(entry.setbacks + 1, error)
            state = EntryState.MAYBE_SENT if maybe_sent else EntryState.FAILED
        if maybe_sent:
            wait = max(wait, await self._settle(entry))
        self._tools.count("retried")
        log.warning("entry_put_off", error=error.message, wait_s=wait.total_seconds())
        return await self._tools.entries.move(
            entry,
            **entry.setback(error, state=state, at=now),
            maybe_sent=maybe_sent,
            alone=entry.alone or alone,
            setbacks=entry.setbacks + 1,
            tried_since=since,
            due_at=now + wait,
        )

    async def broken_off(self, entry: EntryDocument, lane: Lane) -> EntryDocument:
        """Its replica died, or lost the store, in the middle of a try: of that of another, maybe."""
        error = Unavailable("the try was broken off")
        return await self._put_off(entry, error, lane, maybe_sent=True, alone=True)

    async def faulty(self, entries: Sequence[EntryDocument], lane: Lane) -> None:
        """
        One of them could not be handled, and it is no fault of the CRM: each goes alone from now on.
        Of those that were claimed it is found out when their leases are over.
        """
        error = Unavailable("a fault of the journal itself: its log has it under entry_fault")
        for entry in entries:
            with suppress(MeshError):
                if entry.is_to_be_sent:
                    maybe_sent = entry.maybe_sent
                    await self._put_off(entry, error, lane, maybe_sent=maybe_sent, alone=True)
                else:
                    # It was sent, or is dead, or its try broken off, and stays so.
                    later = self._tools.clock.now() + self._tools.settings.retry_longest
                    await self._tools.entries.move(entry, reason=error.message, due_at=later)

    async def _dead(
        self, entry: EntryDocument, error: MeshError, *, maybe_sent: bool | None = None
    ) -> EntryDocument:
        """*maybe_sent* None: as it was."""
        self._tools.count("dead")
        log.error("entry_dead", error=error.message, attempts=entry.attempts)
        now = self._tools.clock.now()
        return await self._tools.entries.move(
            entry,
            **entry.setback(error, state=EntryState.DEAD, at=now),
            maybe_sent=entry.maybe_sent if maybe_sent is None else maybe_sent,
            due_at=now,
        )

    async def _settle(self, entry: EntryDocument) -> timedelta:
        try:
            site, crm = await self._contents.found(entry)
            return self._tools.connections.connector(account_of(site, crm)).settle
        except (PermanentError, NeedsReconnect):
            return timedelta(0)  # that it cannot be sent is said when it is tried


def _said(error: TransientError | TimeoutError) -> TransientError:
    return error if isinstance(error, TransientError) else OutOfTime("no answer in time")


def _maybe_sent(entry: EntryDocument, error: TransientError) -> bool:
    """Where the CRM said no, nothing was written by this try."""
    return entry.maybe_sent or not isinstance(error, Throttled | NeedsReconnect)


async def _all(moves: Iterable[Coroutine[Any, Any, EntryDocument]]) -> list[EntryDocument]:
    """Those that are still ours; another replica may have taken one over meanwhile."""
    done: list[EntryDocument] = []
    for found in await asyncio.gather(*moves, return_exceptions=True):
        if isinstance(found, EntryDocument):
            done.append(found)
        elif not isinstance(found, Conflict):
            raise found
    return done
