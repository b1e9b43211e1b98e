"""What the operators of a tenant see of its entries, and that those which are dead are sent after all."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import islice
from typing import TypeVar

from services.journal.book import EntryBook
from services.journal.entries import TO_BE_SENT, EntryDocument
from shared.clock import Clock
from shared.contracts.calls import EntryState
from shared.contracts.journal import (
    CallEntries,
    ConnectionEntries,
    EntryFilter,
    EntryPage,
    EntrySummary,
    Replayed,
)
from shared.crm.connections import CrmConnections
from shared.errors import Conflict, ContractError, MeshError, NotFound
from shared.site.accounts import account_of
from shared.site.book import SiteBook
from shared.storage.port import Find, Is, Op, Page, cursor_after, read_cursor

T = TypeVar("T")

#: Somebody asks over the bus, and waits seconds (CALLMESH_GATEWAY_ASK_WITHIN, 5 s).
STEP = timedelta(seconds=2)
#: Documents that are changed side by side.
_AT_ONCE = 20
#: Names that an error tells.
_SOME = 5

#: The CRM does not have these yet, and they are tried.
WAITING = TO_BE_SENT | {EntryState.SENDING}
#: What a replay takes where nothing is said of states: what something is wrong with.
_WRONG = (EntryState.DEAD, EntryState.FAILED, EntryState.MAYBE_SENT, EntryState.RECONNECT)


class Operating:
    def __init__(
        self,
        entries: EntryBook,
        site: SiteBook,
        connections: CrmConnections,
        clock: Clock,
        *,
        step: timedelta = STEP,
    ) -> None:
        """*step*: a replay begins nothing new after it."""
        self._entries = entries
        self._site = site
        self._connections = connections
        self._clock = clock
        self._step = step

    async def read(
        self, tenant: str, which: EntryFilter, *, limit: int, cursor: str | None
    ) -> EntryPage:
        """Oldest first. Raises: ContractError for a cursor that is none."""
        page = await self._page(tenant, which, limit=limit, cursor=cursor)
        return EntryPage(
            entries=tuple(entry.view() for entry in page.documents), next_cursor=page.next_cursor
        )

    async def of_call(self, tenant: str, call_id: str) -> CallEntries:
        known = await self._entries.of_call(call_id)
        return CallEntries(entries=tuple(one.in_full() for one in known if one.tenant == tenant))

    async def get(self, tenant: str, key: str) -> EntryDocument:
        """Raises: NotFound, also for another tenant's."""
        entry = await self._entries.get(key)
        if entry.tenant != tenant:
            raise NotFound(f"there is no entry {key}")
        return entry

    # -- how many stand where --------------------------------------------------------------------

    async def summary(self, tenant: str) -> EntrySummary:
        site = self._site.site(tenant)
        names = [crm.name for crm in site.crm] if site else []
        found = [await self._of_connection(tenant, name) for name in names]
        found += [await self._of_connection(tenant, n) for n in await self._gone(tenant, found)]
        return EntrySummary(connections=tuple(found))

    async def _of_connection(self, tenant: str, name: str) -> ConnectionEntries:
        finds = _finds(tenant, EntryFilter(connection=name))
        numbers = await asyncio.gather(*map(self._entries.count, finds))
        by_state = zip(EntryState, numbers, strict=True)
        counts = {state: number for state, number in by_state if number}
        waiting = EntryFilter(
            connection=name, states=tuple(state for state in counts if state in WAITING)
        )
        oldest: list[EntryDocument] = []
        if waiting.states:
            oldest = (await self._page(tenant, waiting, limit=1, cursor=None)).documents
        return ConnectionEntries(
            connection=name,
            counts=counts,
            oldest_waiting_at=oldest[0].wanted_at if oldest else None,
            reason=oldest[0].reason if oldest else None,
        )

    async def _gone(self, tenant: str, known: Sequence[ConnectionEntries]) -> list[str]:
        """Connections that are not in the site any more, and have entries that are not there."""
        names = [one.connection for one in known]
        gone: list[str] = []
        for state in (EntryState.DEAD, *sorted(WAITING)):
            (all_of_it,) = _finds(tenant, EntryFilter(states=(state,)))
            total = await self._entries.count(all_of_it)
            # To look for them is to read all of that state: not where all are accounted for.
            while total > sum(one.counts.get(state, 0) for one in known):
                unknown = Is("connection", Op.NOT_IN, [*names, *gone])
                page = await self._entries.page(replace(all_of_it, where=unknown, limit=1))
                if not page.documents:
                    break
                gone.append(page.documents[0].connection)
        return gone

    # -- sending after all -----------------------------------------------------------------------

    async def meant(self, tenant: str, which: EntryFilter) -> int:
        """How many entries a replay of *which* looks at. Raises: NotFound as :meth:`replay`."""
        which = await self._to_be_replayed(tenant, which)
        if which.keys or which.call_ids:
            return len(await self._named(tenant, which))
        return sum(await asyncio.gather(*map(self._entries.count, _finds(tenant, which))))

    async def replay(
        self, tenant: str, which: EntryFilter, *, limit: int, cursor: str | None
    ) -> Replayed:
        """
        One step, in the order of time. Who runs a writer has to wake it.

        Raises: NotFound for a key or call that is named and has no entry; ContractError for a
        cursor that is none.
        """
        which = await self._to_be_replayed(tenant, which)
        page = await self._page(tenant, which, limit=limit, cursor=cursor)
        ends_at = self._clock.now() + self._step
        looked_at, replayed = 0, 0
        for some in side_by_side(page.documents, _AT_ONCE):
            replayed += sum(await asyncio.gather(*map(self._send_after_all, some)))
            looked_at += len(some)
            if self._clock.now() >= ends_at:
                break
        next_cursor = page.next_cursor
        if looked_at < len(page.documents):
            next_cursor = _cursor_after(page.documents[looked_at - 1])
        return Replayed(replayed=replayed, left_alone=looked_at - replayed, next_cursor=next_cursor)

    async def _to_be_replayed(self, tenant: str, which: EntryFilter) -> EntryFilter:
        if which.keys or which.call_ids:
            await self._check_named(tenant, which)
            return which
        return which if which.states else which.model_copy(update={"states": _WRONG})

    async def _check_named(self, tenant: str, which: EntryFilter) -> None:
        found = await self._named(
            tenant, EntryFilter(keys=which.keys, call_ids=() if which.keys else which.call_ids)
        )
        there = {entry.key for entry in found} | {entry.call_id for entry in found}
        missing = [name for name in which.keys or which.call_ids if name not in there]
        if missing:
            what = "entry" if which.keys else "entry of call"
            more = " …" if len(missing) > _SOME else ""
            raise NotFound(f"there is no {what} {', '.join(missing[:_SOME])}{more}")

    async def _send_after_all(self, entry: EntryDocument) -> bool:
        if not (entry.is_to_be_sent or entry.state is EntryState.DEAD):
            return False
        try:
            await self._entries.replay(entry, settle=self._settle(entry))
        except Conflict:
            return False  # somebody has it
        return True

    def _settle(self, entry: EntryDocument) -> timedelta:
        site = self._site.site(entry.tenant)
        crm = site.crm_named(entry.connection) if site else None
        if site is None or crm is None:
            return timedelta(0)
        try:
            return self._connections.connector(account_of(site, crm)).settle
        except MeshError:
            return timedelta(0)  # that it cannot be sent is said when it is tried

    async def standing(
        self, tenant: str, which: EntryFilter, *, replayed_at: datetime
    ) -> Counter[EntryState]:
        """Where those of *which* stand that were replayed then or later, and are not there yet."""
        if which.keys or which.call_ids:
            meant = which.model_copy(update={"states": ()})
            return Counter(
                entry.state
                for entry in await self._named(tenant, meant)
                if entry.state in {*WAITING, EntryState.DEAD}
            )
        since_then = Is("tried_since", Op.GE, replayed_at)
        states = (EntryState.DEAD, *sorted(WAITING))
        finds = _finds(tenant, which.model_copy(update={"states": states}))
        numbers = await asyncio.gather(
            *(self._entries.count(replace(find, where=since_then)) for find in finds)
        )
        return Counter(dict(zip(states, numbers, strict=True)))

    # -- which are meant -------------------------------------------------------------------------

    async def _page(
        self, tenant: str, which: EntryFilter, *, limit: int, cursor: str | None
    ) -> Page[EntryDocument]:
        if which.keys or which.call_ids:
            found = await self._named(tenant, which)
            if cursor is not None:
                wanted_at, key = read_cursor(cursor)
                if not isinstance(wanted_at, datetime):
                    raise ContractError("cursor: not one that a page of this list returned")
                found = [entry for entry in found if _place(entry) > (wanted_at, key)]
            return _cut(found, limit)
        pages = await asyncio.gather(
            *(
                self._entries.page(replace(find, limit=limit + 1, cursor=cursor))
                for find in _finds(tenant, which)
            )
        )
        # One that came from one state to the next meanwhile is in both.
        found_by_key = {entry.key: entry for page in pages for entry in page.documents}
        return _cut(sorted(found_by_key.values(), key=_place), limit)

    async def _named(self, tenant: str, which: EntryFilter) -> Sequence[EntryDocument]:
        if which.keys:
            known = await asyncio.gather(*map(self._there, dict.fromkeys(which.keys)))
        else:
            known = await asyncio.gather(*map(self._entries.of_call, dict.fromkeys(which.call_ids)))
        found = [entry for some in known for entry in some if _holds(which, entry, tenant)]
        return sorted(found, key=_place)

    async def _there(self, key: str) -> Sequence[EntryDocument]:
        try:
            return [await self._entries.get(key)]
        except NotFound:
            return []


def _finds(tenant: str, which: EntryFilter) -> Iterator[Find]:
    """
    What together is *which*: of each an index has the entries in the order of time. A cursor of one
    is a place in all.
    """
    equals = {"tenant": tenant}
    if which.connection:
        equals["connection"] = which.connection
    find = Find(
        equals=equals,
        since=_moments(which.since),
        until=_moments(which.until),
        order_by="wanted_at",
    )
    states: Collection[EntryState] = dict.fromkeys(which.states)
    if not states and which.connection is None:
        yield find
        return
    for state in states or EntryState:
        yield replace(find, equals={**equals, "state": state.value})


def _holds(which: EntryFilter, entry: EntryDocument, tenant: str) -> bool:
    return (
        entry.tenant == tenant
        and which.connection in {None, entry.connection}
        and (not which.call_ids or entry.call_id in which.call_ids)
        and (not which.states or entry.state in which.states)
        and (which.since is None or entry.wanted_at >= which.since)
        and (which.until is None or entry.wanted_at < which.until)
    )


def _moments(at: datetime | None) -> dict[str, datetime]:
    return {"wanted_at": at} if at is not None else {}


def _place(entry: EntryDocument) -> tuple[datetime, str]:
    return entry.wanted_at, entry.key


def _cursor_after(entry: EntryDocument) -> str:
    return cursor_after(*_place(entry))


def _cut(found: Sequence[EntryDocument], limit: int) -> Page[EntryDocument]:
    shown = list(found[:limit])
    return Page(shown, _cursor_after(shown[-1]) if len(found) > limit else None)


def side_by_side(things: Iterable[T], number: int) -> Iterator[list[T]]:
    """*number* of them at a time."""
    waiting = iter(things)
    while some := list(islice(waiting, number)):
        yield some
