"""CRM connectors as the services see them: one Protocol per capability."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from shared.contracts.calls import Direction, Disposition
from shared.contracts.contacts import ContactCard, CrmUser
from shared.phone import PhoneNumber


@dataclass(frozen=True, slots=True)
class ModuleAnswer:
    """What one module said; *refused* is the CRM's text where it would not be asked this."""

    module: str
    contacts: tuple[ContactCard, ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """A finished call, as an entry says it."""

    reference: str = field(metadata={"meaning": "unique per call; part of the subject"})
    direction: Direction
    disposition: Disposition
    started_at: datetime
    ended_at: datetime
    talk_time: timedelta
    wait_time: timedelta
    number: str
    dialled: str | None
    extension: str | None
    agent_name: str | None
    owner_id: str | None
    contact: ContactCard | None
    recording: str | None


class CrmConnector(Protocol):
    async def check(self) -> None:
        """Prove the credentials with the cheapest request. Raises: MeshError."""
        ...


@runtime_checkable
class SearchesContacts(CrmConnector, Protocol):
    async def search(
        self,
        number: PhoneNumber,
        *,
        modules: Sequence[str],
        fields: Sequence[str],
        card: bool,
        within: timedelta,
    ) -> list[ModuleAnswer]:
        """
        All *modules* at once, answered in their order. Asked for are *fields* by their API names
        and, with *card*, what a card shows; without it a card has no name.

        "Not there" is a value; "could not ask" is an error: Unavailable, Throttled,
        NeedsReconnect, Rejected where every module refused.
        """
        ...


@runtime_checkable
class ListsUsers(CrmConnector, Protocol):
    async def list_users(self, *, within: timedelta) -> tuple[CrmUser, ...]:
        """The active users. Raises: MeshError."""
        ...


@runtime_checkable
class JournalsCalls(CrmConnector, Protocol):
    @property
    def settle(self) -> timedelta:
        """How long after a write :meth:`find_entry` may still miss it."""
        ...

    async def write_entry(self, entry: JournalEntry, *, within: timedelta) -> str:
        """
        The CRM's id of the entry. Not idempotent: after Unavailable it may be there or not.

        Raises: Rejected, Throttled, NeedsReconnect (nothing was written), Unavailable.
        """
        ...

    async def find_entry(self, entry: JournalEntry, *, within: timedelta) -> str | None:
        """The id of the entry with this reference. Raises: MeshError."""
        ...
