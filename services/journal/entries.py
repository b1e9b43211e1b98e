"""An entry on its way into a CRM: how far it is, what was sent, whether it is to be changed."""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, Self

from pydantic import model_validator

from shared.contracts.calls import EntryRecord, EntryState
from shared.contracts.journal import EntryInFull, EntryTry, EntryView, Exchange
from shared.crm.exchanges import exchange_of
from shared.crm.port import JournalEntry
from shared.errors import MeshError
from shared.ids import Name, reference
from shared.moments import Instant
from shared.site.journal import EntryPer
from shared.storage.port import CollectionSpec, Document, Index

#: Changes of one entry, and refusals of such: a PBX that tells a call's end again and again must not
#: have it written for ever.
MAX_UPDATES = 10
#: Tries that did not end well, as they are kept for who looks.
MAX_TRIES = 10
#: States in which an entry is to be sent when its time comes.
TO_BE_SENT = frozenset(
    {EntryState.DUE, EntryState.FAILED, EntryState.MAYBE_SENT, EntryState.RECONNECT}
)


class EntryDocument(Document):
    """
    ``key`` is ``call/connection``, or ``call/connection/agent``: it stays, even where the entry
    becomes another agent's. ``due_at`` says when somebody must look at it next: to try, to find out
    what became of a try whose replica died, to tell the mesh. None: all is done.
    ``content`` is what was sent: a try that may have come through is looked for, and repeated, as
    it was, whatever is known of the call by then.

    One that was sent stays so whatever becomes of its changes: ``update_due`` says that the call is
    another by now, ``shown`` what of the call ``content`` was made of
    (:func:`~services.journal.shown.shown_in_entry`; None of entries of older versions).
    """

    call_id: str
    connection: Name
    #: ``tenant/connection``: entries of one wait in one line.
    lane: str = ""
    agent: str | None = None
    per: EntryPer = EntryPer.CALL
    #: Not of older versions, whose CRMs know them by the ten characters of their references.
    named_in_full: bool = False
    wanted_at: Instant
    content: JournalEntry | None = None
    state: EntryState = EntryState.DUE
    due_at: Instant | None
    attempts: int = 0
    #: Tries in a row that the CRM, or the way to it, let fail: the wait grows with them.
    setbacks: int = 0
    #: Since when it is tried: it failed for the first time, was replayed, or waits for a reconnect.
    tried_since: Instant | None = None
    #: A try may have come through.
    maybe_sent: bool = False
    #: It went wrong together with others: not in one request with them again.
    alone: bool = False
    entry_id: str | None = None
    #: When the CRM took it; None also of entries of older versions.
    sent_at: Instant | None = None
    found: bool = False
    contact_id: str | None = None
    reason: str | None = None
    tries: tuple[EntryTry, ...] = ()
    exchange: Exchange | None = None
    shown: str | None = None
    #: The mesh knows it as it is.
    told: bool = False
    update_due: bool = False
    update_wanted_at: Instant | None = None
    update_tries: int = 0
    updates: int = 0
    refusals: int = 0
    #: Somebody deleted it in the CRM.
    gone: bool = False

    @model_validator(mode="after")
    def waits_in_a_line(self) -> Self:
        self.lane = self.lane or lane_of(self.tenant, self.connection)
        return self

    @classmethod
    def wanting(
        cls,
        tenant: str,
        call_id: str,
        connection: str,
        *,
        agent: str | None,
        per: EntryPer,
        now: datetime,
        due_at: datetime,
        named_in_full: bool = True,
    ) -> Self:
        whose = f"/{agent}" if per is EntryPer.AGENT and agent is not None else ""
        return cls(
            key=f"{call_id}/{connection}{whose}",
            tenant=tenant,
            call_id=call_id,
            connection=connection,
            agent=agent,
            per=per,
            named_in_full=named_in_full,
            wanted_at=now,
            due_at=due_at,
        )

    @property
    def made_for(self) -> str | None:
        """The agent by whom it is named, whoever's it is now; None: nobody's, or the whole call's."""
        return self.key.removeprefix(f"{self.call_id}/{self.connection}").removeprefix("/") or None

    @property
    def reference(self) -> str:
        """By which the CRM's search finds it; the same whoever's it becomes."""
        whose = self.key.removeprefix(f"{self.call_id}/{self.connection}")
        if not whose:
            return reference(self.call_id)
        return hashlib.blake2s(f"{self.call_id}{whose}".encode(), digest_size=5).hexdigest()

    @property
    def long_reference(self) -> str | None:
        """
        By which a CRM knows a repeat: up to 47 characters, which no other entry has. None where it
        is known by its :attr:`reference`.
        """
        if not self.named_in_full:
            return None
        return self.call_id if self.made_for is None else f"{self.call_id}-{self.reference}"

    @property
    def is_to_be_sent(self) -> bool:
        return self.state in TO_BE_SENT

    @property
    def may_change(self) -> bool:
        changed_often = self.updates + self.refusals >= MAX_UPDATES
        return self.state.is_there and not (self.gone or changed_often)

    def wanting_update(self, now: datetime, due_at: datetime) -> Self:
        return self.model_copy(
            update={
                "update_due": True,
                "update_wanted_at": now,
                "update_tries": 0,
                "due_at": due_at,
            }
        )

    def setback(self, error: MeshError, *, state: EntryState, at: datetime) -> dict[str, Any]:
        """What changes in it after a try that did not end well."""
        tried = EntryTry(at=at, state=state, reason=error.message)
        return {
            "state": state,
            "reason": error.message,
            "tries": (*self.tries, tried)[-MAX_TRIES:],
            "exchange": exchange_of(error) or self.exchange,
        }

    def record(self) -> EntryRecord:
        return EntryRecord(
            connection=self.connection,
            agent=self.agent if self.per is EntryPer.AGENT else None,
            state=self.state,
            entry_id=self.entry_id,
            attempts=self.attempts,
            updates=self.updates,
            reason=self.reason,
        )

    def view(self) -> EntryView:
        return EntryView(
            key=self.key,
            maybe_sent=self.maybe_sent,
            call_id=self.call_id,
            wanted_at=self.wanted_at,
            due_at=self.due_at,
            sent_at=self.sent_at,
            **self.record().model_dump(),
        )

    def in_full(self) -> EntryInFull:
        return EntryInFull(**self.view().model_dump(), tries=self.tries, exchange=self.exchange)


def lane_of(tenant: str, connection: str) -> str:
    return f"{tenant}/{connection}"


ENTRIES: CollectionSpec[EntryDocument] = CollectionSpec(
    name="journal.entries",
    model=EntryDocument,
    indexes=(
        Index(fields=("due_at", "lane")),
        Index(fields=("lane", "due_at")),
        Index(fields=("call_id",)),
        Index(fields=("tenant", "state", "wanted_at")),
        Index(fields=("tenant", "connection", "state", "wanted_at")),
        Index(fields=("tenant", "wanted_at")),
    ),
)
