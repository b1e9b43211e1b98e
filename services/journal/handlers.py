"""Events of calls in; the call's record kept; entries ordered when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from services.journal.domain import shown_in_entries, wanted_entries
from services.journal.store import CallLog, EntryBook
from shared.bus.port import Publisher
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
    EndKnown,
    FetchCall,
    LegEnded,
    ListCalls,
    PbxResynced,
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

#: What was told of a call since then may be on its way still, and the call itself go on.
_SURELY = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class Deps:
    calls: CallLog
    entries: EntryBook
    finder: Finder
    site: SiteBook
    publisher: Publisher
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
        elif await deps.entries.call_changed(
            record.call_id,
            crm.name,
            shown=shown_in_entries(record),
            after=crm.journal.after,
        ):
            log.info("entry_update_wanted", call_id=record.call_id, connection=crm.name)
            deps.wake()


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
