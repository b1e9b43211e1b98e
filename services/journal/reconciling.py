"""
Calls compared with their entries: what is missing, stuck, late, lost in the CRM or behind what is
known, and its repair. There is never a second entry: what is ordered twice is one document, and what
a CRM has lost is looked for once more before it is sent again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from services.journal.book import EntryBook
from services.journal.entries import EntryDocument
from services.journal.in_step import bring_in_step
from services.journal.operating import STEP, side_by_side
from services.journal.orders import due_at, orders
from services.journal.seeking import NotSought, Seeking, Why
from services.journal.shown import shown_in_entry
from services.journal.store import CallDocument, CallLog
from services.journal.wanting import is_settled
from shared.clock import Clock
from shared.contracts.calls import CallRecord, EntryState
from shared.contracts.journal import Finding, FindingKind, NotAsked, ReconcileCalls, Reconciled
from shared.crm.connections import CrmConnections
from shared.crm.port import JournalsCalls
from shared.errors import (
    Conflict,
    ContractError,
    MeshError,
    NotFound,
    Throttled,
)
from shared.site.accounts import account_of
from shared.site.book import SiteBook
from shared.site.models import CrmConnection, Site
from shared.storage.port import cursor_after

#: Calls that are compared side by side, and so requests to one CRM.
_AT_ONCE = 8
#: After its time an entry that is not there is late.
_LATE = timedelta(hours=1)
#: A call's end may be on its way to where its entries are ordered.
_ON_ITS_WAY = timedelta(seconds=10)
#: Before the next step, where a CRM wants a pause and does not say how long.
_PAUSE = timedelta(seconds=2)


@dataclass(slots=True)
class _Found:
    """A finding, and the entry that it is about, where there is one."""

    kind: FindingKind
    agent: str | None
    entry: EntryDocument | None = None
    reason: str | None = None
    repaired: bool = False

    @property
    def is_ordered(self) -> bool:
        """Whether ordering the call's entries again mends it."""
        if self.entry is None:
            return True
        return self.kind is FindingKind.OUTDATED and not self.entry.update_due


@dataclass(slots=True)
class _Compared:
    """One call at one connection."""

    record: CallRecord
    crm: CrmConnection
    known: Sequence[EntryDocument]
    connector: JournalsCalls | None
    found: list[_Found] = field(default_factory=list)
    right: int = 0
    not_asked: list[Why] = field(default_factory=list)
    #: The CRM wants a pause: the call is for the next step.
    throttled: Throttled | None = None


@dataclass(slots=True)
class _Step:
    site: Site
    crms: Sequence[CrmConnection]
    asked: ReconcileCalls
    seeking: Seeking
    not_asked: Counter[Why] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    calls: int = 0
    right: int = 0
    pause: timedelta | None = None


class Reconciling:
    def __init__(
        self,
        calls: CallLog,
        entries: EntryBook,
        site: SiteBook,
        connections: CrmConnections,
        clock: Clock,
        *,
        step: timedelta = STEP,
    ) -> None:
        """*step*: nothing new is begun after it."""
        self._calls = calls
        self._entries = entries
        self._site = site
        self._connections = connections
        self._clock = clock
        self._step = step

    async def step(self, tenant: str, asked: ReconcileCalls) -> Reconciled:
        """
        Who runs a writer has to wake it after a repair.

        Raises: NotFound for a connection that is none of the tenant's; ContractError for a span
        that ends before it begins, or a cursor that is none; Unavailable.
        """
        step = self._begun(tenant, asked)
        page = await self._calls.began_in(
            tenant, asked.since, asked.until, limit=asked.limit, cursor=asked.cursor
        )
        ends_at = self._clock.now() + self._step
        for some in side_by_side(page.documents, _AT_ONCE):
            await self._go_through(some, step)
            if step.pause is not None or self._clock.now() >= ends_at:
                break
        next_cursor = page.next_cursor
        if step.calls < len(page.documents):
            next_cursor = _after(page.documents[: step.calls], asked)
        return Reconciled(
            calls=step.calls,
            entries=step.right,
            findings=tuple(step.findings),
            not_asked=tuple(
                NotAsked(
                    connection=why.connection,
                    entries=number,
                    reason=why.reason,
                    for_good=why.for_good,
                )
                for why, number in step.not_asked.items()
            ),
            next_cursor=next_cursor,
            pause=step.pause,
        )

    def _begun(self, tenant: str, asked: ReconcileCalls) -> _Step:
        site = self._site.site(tenant)
        crms = [crm for crm in site.crm if asked.connection in {None, crm.name}] if site else []
        if site is None or (asked.connection is not None and not crms):
            raise NotFound(f"there is no CRM connection {asked.connection or 'of this tenant'}")
        if asked.since >= asked.until:
            raise ContractError("until: say a time after since")
        return _Step(site, crms, asked, Seeking(self._clock))

    async def _go_through(self, calls: Sequence[CallDocument], step: _Step) -> None:
        """Up to the first call for which a CRM wants a pause."""
        for together in await asyncio.gather(*(self._compared(call, step) for call in calls)):
            throttled = next((one.throttled for one in together if one.throttled), None)
            if throttled is not None:
                step.pause = throttled.retry_after or _PAUSE
                return
            step.calls += 1
            for one in together:
                if step.asked.repair:
                    await self._repair(one, step.site)
                step.right += one.right
                step.not_asked.update(one.not_asked)
                step.findings += [_told(one, found) for found in one.found]

    # -- comparing -------------------------------------------------------------------------------

    async def _compared(self, call: CallDocument, step: _Step) -> list[_Compared]:
        """At each connection; nothing of a call that goes on, or whose entries are being ordered."""
        record, now = call.record, self._clock.now()
        ended_at = record.ended_at
        if ended_at is None or not is_settled(record):
            return []
        known = await self._entries.of_call(record.call_id)
        compared = [
            _Compared(
                record,
                crm,
                known=[entry for entry in known if entry.connection == crm.name],
                connector=self._connector(step.site, crm),
            )
            for crm in step.crms
            if now >= ended_at + crm.journal.after + _ON_ITS_WAY
        ]
        await asyncio.gather(*(self._compare(one, step) for one in compared))
        return compared

    async def _compare(self, one: _Compared, step: _Step) -> None:
        wanted = orders(one.record, one.crm, one.known, region=step.site.region)
        lacking = (*wanted.new, *(agent for _, agent in wanted.revived))
        one.found += [_Found(FindingKind.MISSING, agent) for agent in lacking]
        theirs = [*((kept, kept.agent) for kept in wanted.kept), *wanted.moved]
        looks = (self._wrong_with(entry, agent, one, step) for entry, agent in theirs)
        for found in await asyncio.gather(*looks):
            if found is None:
                one.right += 1
            else:
                one.found.append(found)

    async def _wrong_with(
        self, entry: EntryDocument, agent: str | None, one: _Compared, step: _Step
    ) -> _Found | None:
        """*agent*: whose it is to be."""
        now, policy = self._clock.now(), one.crm.journal
        if entry.state is EntryState.DEAD:
            return _Found(FindingKind.STUCK, agent, entry, entry.reason)
        if not entry.state.is_there:
            is_late = now >= due_at(policy, entry.wanted_at) + _LATE
            return _Found(FindingKind.WAITING, agent, entry, entry.reason) if is_late else None
        if entry.update_due:
            wanted_at = entry.update_wanted_at or entry.wanted_at
            is_late = now >= due_at(policy, wanted_at) + _LATE
            return _Found(FindingKind.OUTDATED, agent, entry, entry.reason) if is_late else None
        if entry.due_at is not None or entry.gone:
            return None  # it is being looked at; who deleted it in the CRM meant it
        if step.asked.ask_crm and await self._is_lost(entry, one, step):
            return _Found(FindingKind.LOST, agent, entry, f"the CRM does not find {entry.entry_id}")
        if one.connector is None or not one.connector.can_update or not entry.may_change:
            return None
        shown = shown_in_entry(one.record, entry, policy, step.site.region)
        if entry.shown == shown and entry.agent == agent:
            return None
        return _Found(FindingKind.OUTDATED, agent, entry, "more is known of the call by now")

    async def _is_lost(self, entry: EntryDocument, one: _Compared, step: _Step) -> bool:
        """Whether the CRM says that it has no such entry."""
        try:
            return await step.seeking.is_lost(entry, one.crm.name, one.connector)
        except NotSought as error:
            one.not_asked.append(error.why)
        except Throttled as error:
            one.throttled = error
        return False

    def _connector(self, site: Site, crm: CrmConnection) -> JournalsCalls | None:
        try:
            return self._connections.connector(account_of(site, crm))
        except MeshError:
            return None  # its entries say why

    # -- repairing -------------------------------------------------------------------------------

    async def _repair(self, one: _Compared, site: Site) -> None:
        settle = one.connector.settle if one.connector is not None else timedelta(0)
        if any(found.is_ordered for found in one.found):
            # While the CRM was asked, more may have been heard of the call.
            record = await self._calls.get(site.tenant, one.record.call_id)
            await bring_in_step(
                self._calls, self._entries, record, site, [one.crm], connections=self._connections
            )
        for found in one.found:
            try:
                found.repaired = found.is_ordered or await self._mended(found, settle)
            except Conflict:
                continue  # somebody has it at this moment

    async def _mended(self, found: _Found, settle: timedelta) -> bool:
        entry = found.entry
        if entry is None or entry.state is EntryState.RECONNECT:
            return False  # only a person can connect a CRM again
        if found.kind is FindingKind.STUCK:
            await self._entries.replay(entry, settle=settle)
        elif found.kind is FindingKind.LOST:
            await self._entries.seek_again(entry, settle=settle)
        else:
            return await self._entries.hasten(entry, settle=settle)
        return True


def _told(one: _Compared, found: _Found) -> Finding:
    record = one.record
    assert record.started_at is not None  # noqa: S101  a settled call's
    return Finding(
        kind=found.kind,
        call_id=record.call_id,
        connection=one.crm.name,
        agent=found.agent,
        started_at=record.started_at,
        reason=found.reason,
        repaired=found.repaired,
    )


def _after(done: Sequence[CallDocument], asked: ReconcileCalls) -> str:
    """The place behind those; behind none of them where the step began."""
    if done:
        return cursor_after(done[-1].started_at, done[-1].key)
    return asked.cursor or cursor_after(asked.since, "")
