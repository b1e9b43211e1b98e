"""Events of calls in; the call's record kept; entries ordered when it has ended; operators answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

import structlog

from services.journal.book import EntryBook
from services.journal.history import CallHistory
from services.journal.in_step import bring_in_step
from services.journal.operating import Operating
from services.journal.orders import orders
from services.journal.reconciling import Reconciling
from services.journal.store import ENTRIES, CallLog
from services.journal.wanting import is_settled
from shared.bus.port import Publisher
from shared.bus.router import Router
from shared.clock import Clock
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallPage,
    CallQueued,
    CallRecord,
    CallResumed,
    CallRinging,
    CallStarted,
    CallSummarised,
    CallTransferred,
    EndKnown,
    EntryRecord,
    EntryState,
    FetchCall,
    LegEnded,
    ListCalls,
    PbxResynced,
    RecordingReady,
)
from shared.contracts.contacts import ContactChanged, ContactResolved, ContactUnknown
from shared.contracts.dialing import DialStateChanged
from shared.contracts.envelope import Message
from shared.contracts.history import CallCount, CallRows, CountCalls, FindCalls, SearchCalls
from shared.contracts.journal import (
    CallEntries,
    CallJournaled,
    EntryPage,
    EntrySummary,
    FetchEntries,
    JournalFailed,
    ListEntries,
    ReconcileCalls,
    Reconciled,
    Replayed,
    ReplayEntries,
    SummariseEntries,
)
from shared.contracts.routing import CallRouted
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.errors import Unavailable
from shared.site.accounts import keys_of
from shared.site.book import SiteBook
from shared.storage.port import DocumentStore

log = structlog.get_logger(__name__)

#: What was told of a call since then may be on its way still, and the call itself go on.
_SURELY = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Deps:
    calls: CallLog
    history: CallHistory
    entries: EntryBook
    operating: Operating
    reconciling: Reconciling
    connections: CrmConnections
    finder: Finder
    site: SiteBook
    publisher: Publisher
    #: Tells the writer when there is work.
    wake: Callable[[datetime], None]

    @classmethod
    def over(
        cls,
        store: DocumentStore,
        *,
        calls: CallLog,
        site: SiteBook,
        connections: CrmConnections,
        finder: Finder,
        publisher: Publisher,
        clock: Clock,
        wake: Callable[[datetime], None] = lambda _: None,
    ) -> Self:
        """*wake* left out: there is no writer beside it."""
        entries = EntryBook(store.collection(ENTRIES), clock)
        return cls(
            calls=calls,
            history=CallHistory.at(store),
            entries=entries,
            operating=Operating(entries, site, connections, clock),
            reconciling=Reconciling(calls, entries, site, connections, clock),
            connections=connections,
            finder=finder,
            site=site,
            publisher=publisher,
            wake=wake,
        )


router: Router[Deps] = Router("journal")


@router.on_each(
    CallStarted,
    CallQueued,
    CallRinging,
    CallAnswered,
    CallHeld,
    CallResumed,
    CallTransferred,
    LegEnded,
    CallEnded,
    RecordingReady,
    CallSummarised,
    CallRouted,
    ContactResolved,
    ContactUnknown,
    CallJournaled,
    JournalFailed,
)
async def take_event(deps: Deps, message: Message[Any]) -> None:
    _check_loaded(deps.site)  # before, nobody knows whether the call gets an entry
    record = await deps.calls.take(message, message.body.call_id)
    site = deps.site.site(message.tenant)
    if site is None or not site.crm:
        return
    if isinstance(message.body, CallJournaled | JournalFailed):
        return  # what became of an entry is no news of its call
    # Also when a late event comes: the first of all that finds the call ended orders them.
    due_at = await bring_in_step(
        deps.calls, deps.entries, record, site, site.crm, connections=deps.connections
    )
    if due_at is not None:
        deps.wake(due_at)


@router.on(DialStateChanged)
async def note_caller_id(deps: Deps, message: Message[DialStateChanged]) -> None:
    """Which of the tenant's numbers the customer of a click's call sees."""
    if message.body.says_caller_id:
        await take_event(deps, message)


@router.on(PbxResynced)
async def end_calls_gone(deps: Deps, message: Message[PbxResynced]) -> None:
    """
    Calls that the PBX no longer has ended while nobody read it: at the earliest when it was last
    heard. The same end told twice is one message; a better word on it holds.
    """
    said = message.body
    async for call in deps.calls.open_at(
        message.tenant, said.pbx, before=message.occurred_at - _SURELY
    ):
        if call.record.pbx_call_id is None or call.record.pbx_call_id in said.live:
            continue
        last_heard_at = max(event.at for event in call.events)
        log.info("call_ended_in_gap", call_id=call.key)
        await deps.publisher.publish(
            CallEnded(call_id=call.key, pbx=said.pbx, known=EndKnown.RESYNC),
            tenant=message.tenant,
            key=f"{call.key}/gone",
            at=max(last_heard_at, said.heard_until),
        )


@router.on(ContactChanged, live=True)
async def forget_contact_here(deps: Deps, message: Message[ContactChanged]) -> None:
    """In the memory of every replica; ``lookup`` clears the store."""
    site, change = deps.site.site(message.tenant), message.body
    deps.finder.forget_here(
        message.tenant,
        connection=change.connection,
        numbers=keys_of(change.numbers, site),
        contact_id=change.contact_id,
    )


@router.on(FetchCall)
async def fetch_call(deps: Deps, message: Message[FetchCall]) -> CallRecord:
    record = await deps.calls.get(message.tenant, message.body.call_id)
    site = deps.site.site(message.tenant)
    # Events tell only what became of an entry; how far it is, and why no further, its document.
    known = await deps.entries.of_call(record.call_id)
    entries = [entry.record() for entry in known]
    named = {entry.connection for entry in known}
    entries += [entry for entry in record.entries if entry.connection not in named]
    for crm in site.crm if site and is_settled(record) else ():
        if crm.name in named:
            continue
        if why_not := orders(record, crm, (), region=site.region if site else None).why_not:
            entries.append(
                EntryRecord(connection=crm.name, state=EntryState.NOT_WANTED, reason=why_not)
            )
    return record.model_copy(update={"entries": tuple(entries)})


@router.on(ListCalls)
async def list_calls(deps: Deps, message: Message[ListCalls]) -> CallPage:
    return await deps.calls.list(message.tenant, message.body)


@router.on(FindCalls)
async def find_calls(deps: Deps, message: Message[FindCalls]) -> CallPage:
    region = _region(deps.site, message.tenant)
    return await deps.history.find(message.tenant, message.body, region=region)


@router.on(SearchCalls)
async def search_calls(deps: Deps, message: Message[SearchCalls]) -> CallRows:
    region = _region(deps.site, message.tenant)
    return await deps.history.search(message.tenant, message.body, region=region)


@router.on(CountCalls)
async def count_calls(deps: Deps, message: Message[CountCalls]) -> CallCount:
    region = _region(deps.site, message.tenant)
    return await deps.history.count(message.tenant, message.body, region=region)


# -- operators -----------------------------------------------------------------------------------


@router.on(ListEntries)
async def list_entries(deps: Deps, message: Message[ListEntries]) -> EntryPage:
    asked = message.body
    return await deps.operating.read(
        message.tenant, asked.which, limit=asked.limit, cursor=asked.cursor
    )


@router.on(FetchEntries)
async def fetch_entries(deps: Deps, message: Message[FetchEntries]) -> CallEntries:
    call = await deps.calls.get(message.tenant, message.body.call_id)
    return await deps.operating.of_call(message.tenant, call.call_id)


@router.on(SummariseEntries)
async def summarise_entries(deps: Deps, message: Message[SummariseEntries]) -> EntrySummary:
    _check_loaded(deps.site)
    return await deps.operating.summary(message.tenant)


@router.on(ReplayEntries)
async def replay_entries(deps: Deps, message: Message[ReplayEntries]) -> Replayed:
    _check_loaded(deps.site)
    asked = message.body
    done = await deps.operating.replay(
        message.tenant, asked.which, limit=asked.limit, cursor=asked.cursor
    )
    deps.wake(message.occurred_at)
    return done


@router.on(ReconcileCalls)
async def reconcile_calls(deps: Deps, message: Message[ReconcileCalls]) -> Reconciled:
    _check_loaded(deps.site)
    found = await deps.reconciling.step(message.tenant, message.body)
    if message.body.repair:
        deps.wake(message.occurred_at)
    return found


def _region(book: SiteBook, tenant: str) -> str | None:
    site = book.site(tenant)
    return site.region if site else None


def _check_loaded(site: SiteBook) -> None:
    """Raises: Unavailable."""
    if not site.loaded:
        raise Unavailable("the sites are not loaded yet")
