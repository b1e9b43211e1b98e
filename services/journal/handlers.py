"""Events of calls in; the call's record kept; entries ordered when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from services.journal.domain import wanted_entries
from services.journal.store import CallLog, EntryBook
from shared.bus.router import Router
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
    CallTransferred,
    FetchCall,
    LegEnded,
    ListCalls,
    RecordingReady,
)
from shared.contracts.contacts import ContactChanged, ContactResolved, ContactUnknown
from shared.contracts.envelope import Message
from shared.contracts.journal import CallJournaled, JournalFailed
from shared.contracts.routing import CallRouted
from shared.crm.finder import Finder
from shared.errors import Unavailable
from shared.site.accounts import keys_of
from shared.site.book import SiteBook

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deps:
    calls: CallLog
    entries: EntryBook
    finder: Finder
    site: SiteBook
    #: Tells the writer that there is work.
    wake: Callable[[], None]


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
    CallRouted,
    ContactResolved,
    ContactUnknown,
    CallJournaled,
    JournalFailed,
)
async def take_event(deps: Deps, message: Message[Any]) -> None:
    if not deps.site.loaded:
        # Whether the call gets an entry cannot be known yet.
        raise Unavailable("the sites are not loaded yet")
    record = await deps.calls.take(message, message.body.call_id)
    site = deps.site.site(message.tenant)
    if site is None:
        return
    for crm in wanted_entries(record, site):
        # Also when a late event comes: the first of all that finds the call ended orders it.
        if await deps.entries.want(
            message.tenant, record.call_id, crm.name, after=crm.journal.after
        ):
            log.info("entry_wanted", call_id=record.call_id, connection=crm.name)
            deps.wake()


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
    known = {entry.connection: entry for entry in record.entries}
    # Events tell only what became of an entry; how far it is, and why no further, its document.
    for entry in await deps.entries.of_call(
        record.call_id, [crm.name for crm in site.crm] if site else ()
    ):
        known[entry.connection] = entry.record()
    return record.model_copy(update={"entries": tuple(known.values())})


@router.on(ListCalls)
async def list_calls(deps: Deps, message: Message[ListCalls]) -> CallPage:
    return await deps.calls.list(message.tenant, message.body)
