"""
What became of a call's entry in a CRM; and what its operators ask: entries as they stand, those that
are dead sent after all, calls compared with their entries.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from shared.contracts.calls import EntryState
from shared.contracts.envelope import Event, Query, contract
from shared.ids import Name
from shared.moments import Instant


class JournalEvent(Event):
    call_id: str
    connection: Name
    agent: str | None = Field(
        default=None, description="Extension, where the connection has an entry per agent."
    )
    entry: str | None = Field(
        default=None,
        description="The entry's key, which stays where it becomes another agent's. None: told by "
        "an older version.",
    )

    def subject(self) -> str:
        return self.call_id

    @property
    def entry_key(self) -> str:
        """Of an older version's, as it was before the entry became another agent's."""
        parts = (self.call_id, self.connection, self.agent)
        return self.entry or "/".join(part for part in parts if part)


@contract("journal.written", version=1)
class CallJournaled(JournalEvent):
    """The call has its entry in the CRM."""

    entry_id: str = Field(description="The CRM's id of the entry.")
    contact_id: str | None = None
    found: bool = Field(
        default=False,
        description="It was there already: an earlier try had come through unconfirmed.",
    )
    updated: bool = Field(
        default=False,
        description="It was sent before, and says now what became known of the call since then.",
    )


@contract("journal.failed", version=1)
class JournalFailed(JournalEvent):
    """The entry is dead: the CRM will not take it, and somebody has to look."""

    reason: str
    attempts: int


# -- operating ---------------------------------------------------------------------------------


class Exchange(BaseModel):
    """A request to a CRM and its answer, as people may see them: secrets are masked, texts cut."""

    method: str
    url: str
    headers: dict[str, str] = Field(default_factory=dict)
    body: str = ""
    status: int | None = Field(default=None, description="None: there was no answer.")
    answer: str = ""


class EntryTry(BaseModel):
    """One attempt at an entry that did not end well."""

    at: Instant
    state: EntryState = Field(description="What the entry was after it.")
    reason: str


class EntryView(BaseModel):
    """An entry as a list of them shows it."""

    key: str = Field(description="`call/connection`, or `call/connection/agent`.")
    call_id: str
    connection: Name
    agent: str | None = None
    state: EntryState
    maybe_sent: bool = Field(
        default=False, description="A try may have come through: the CRM is asked before the next."
    )
    wanted_at: Instant
    due_at: Instant | None = Field(default=None, description="When it is looked at next.")
    sent_at: Instant | None = Field(default=None, description="When the CRM took it.")
    attempts: int = 0
    updates: int = 0
    entry_id: str | None = None
    reason: str | None = None


class EntryInFull(EntryView):
    """An entry with what became of its tries."""

    tries: tuple[EntryTry, ...] = Field(
        default=(), description="The last ones that failed, oldest first."
    )
    exchange: Exchange | None = Field(
        default=None, description="The request that failed last, and what the CRM said to it."
    )


class EntryFilter(BaseModel):
    """Which entries are meant; all that is said must hold."""

    keys: tuple[Annotated[str, StringConstraints(max_length=400)], ...] = Field(
        default=(), max_length=1000, description="Of entries; empty: of all."
    )
    call_ids: tuple[Annotated[str, StringConstraints(max_length=200)], ...] = Field(
        default=(), max_length=1000
    )
    connection: Name | None = None
    states: tuple[EntryState, ...] = ()
    since: Instant | None = Field(default=None, description="Wanted at or after.")
    until: Instant | None = Field(default=None, description="Wanted before.")


class EntryPage(BaseModel):
    entries: tuple[EntryView, ...]
    next_cursor: str | None = Field(default=None, description="Pass it on to read the next page.")


@contract("journal.list_entries", version=1, answer=EntryPage)
class ListEntries(Query[EntryPage]):
    """The tenant's entries, oldest first."""

    which: EntryFilter = EntryFilter()
    limit: int = Field(default=50, ge=1, le=500)
    cursor: str | None = None


class CallEntries(BaseModel):
    entries: tuple[EntryInFull, ...]


@contract("journal.fetch_entries", version=1, answer=CallEntries)
class FetchEntries(Query[CallEntries]):
    """The entries of one call, with what became of their tries."""

    call_id: str

    def subject(self) -> str:
        return self.call_id


class ConnectionEntries(BaseModel):
    connection: Name
    counts: dict[EntryState, int] = Field(description="States without entries are left out.")
    oldest_waiting_at: Instant | None = Field(
        default=None, description="Since when the oldest waits that is not there and not dead."
    )
    reason: str | None = Field(default=None, description="Of that one, why it has not been sent.")


class EntrySummary(BaseModel):
    connections: tuple[ConnectionEntries, ...]


@contract("journal.summarise_entries", version=1, answer=EntrySummary)
class SummariseEntries(Query[EntrySummary]):
    """
    How many of the tenant's entries stand where, by connection; of one that was removed only while
    it has entries that are not there.
    """


class Replayed(BaseModel):
    """What one step of a replay did; with a *next_cursor* there is more to do."""

    replayed: int
    left_alone: int = Field(
        default=0, description="Meant, and there already, not wanted, or on its way at this moment."
    )
    next_cursor: str | None = None


@contract("journal.replay_entries", version=1, answer=Replayed)
class ReplayEntries(Query[Replayed]):
    """
    Send entries after all that are dead, failed or wait for a reconnect: now, and with all the time
    of new ones; those that only wait for their time where they are named or their state is. A step
    does not more than *limit* of them. The same again does no harm.
    """

    which: EntryFilter = EntryFilter()
    limit: int = Field(default=200, ge=1, le=500)
    cursor: str | None = None


class FindingKind(StrEnum):
    MISSING = "missing"  # the call should have an entry and has none
    STUCK = "stuck"  # its entry is dead
    WAITING = "waiting"  # its entry is not there yet, an hour after its time
    LOST = "lost"  # it was sent, and the CRM does not find it
    OUTDATED = "outdated"  # the CRM has it, and it does not say what is known now


class Finding(BaseModel):
    """A call and its entry that do not fit together."""

    kind: FindingKind
    call_id: str
    connection: Name
    agent: str | None = None
    started_at: Instant
    reason: str | None = None
    repaired: bool = Field(
        default=False, description="What mends it was ordered; the entry follows."
    )


class NotAsked(BaseModel):
    """Entries for which a CRM was to look, and did not."""

    connection: Name
    entries: int
    reason: str
    for_good: bool = Field(
        default=False, description="Its template cannot ask; else the CRM was away, or refused."
    )


class Reconciled(BaseModel):
    """What one step of a reconciliation found; with a *next_cursor* there is more to do."""

    calls: int = Field(description="That were looked at.")
    entries: int = Field(description="That are right, or on their way in time.")
    findings: tuple[Finding, ...] = ()
    not_asked: tuple[NotAsked, ...] = ()
    next_cursor: str | None = None
    pause: timedelta | None = Field(
        default=None, description="A CRM asks for so much time before the next step."
    )


@contract("journal.reconcile", version=1, answer=Reconciled)
class ReconcileCalls(Query[Reconciled]):
    """
    Compare the calls that started in a span of time with their entries, oldest first; *repair*
    orders what is missing, lost, stuck or outdated. The same again does no harm.
    """

    since: Instant
    until: Instant
    connection: Name | None = None
    ask_crm: bool = Field(
        default=False, description="Have the CRM look for each entry that was sent."
    )
    repair: bool = False
    limit: int = Field(
        default=100, ge=1, le=500, description="Calls in one step; it ends after seconds anyway."
    )
    cursor: str | None = None
