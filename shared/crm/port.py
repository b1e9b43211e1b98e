"""CRM connectors as the services see them: one Protocol per capability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Protocol, runtime_checkable

from shared.contracts.agents import AgentStatus
from shared.contracts.calls import Direction, Disposition
from shared.contracts.cards import CardMoment
from shared.contracts.contacts import ContactCard, CrmUser
from shared.errors import MeshError
from shared.phone import PhoneNumber


class Priority(IntEnum):
    """Who goes first where a CRM's limits make requests wait; lower is sooner."""

    ROUTE = 0
    POP = 1
    JOURNAL = 2
    SYNC = 3


@dataclass(frozen=True, slots=True)
class ModuleAnswer:
    """What one module said; *refused* is the CRM's text where it would not be asked this."""

    module: str
    contacts: tuple[ContactCard, ...] = ()
    refused: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewContact:
    """A caller whom the CRM does not know, to be added as one of its *module*."""

    module: str
    number: PhoneNumber
    display_name: str | None = None
    owner_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalEntry:
    """A finished call, as an entry says it."""

    reference: str = field(metadata={"meaning": "unique per call; part of the subject"})
    #: For a CRM that knows a repeat by nothing else; None: it is known there by *reference*.
    long_reference: str | None = None
    direction: Direction
    disposition: Disposition
    started_at: datetime
    ended_at: datetime
    talk_time: timedelta
    wait_time: timedelta
    number: str
    dialled: str | None
    #: The tenant's own: that was called, or that the customer sees, where it is known.
    own_number: str | None = None
    extension: str | None
    agent_name: str | None
    owner_id: str | None
    contact: ContactCard | None
    recording: str | None
    queue: str | None = None
    agent_email: str | None = None
    #: Where it is known; else the talk is taken for the last part of the call.
    answered_at: datetime | None = None
    #: What was said, where somebody told it.
    summary: str | None = None
    transcription: str | None = None
    sentiment: str | None = None
    #: The connection's own texts, instead of the template's.
    subject: str | None = None
    description: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeManager:
    """Who is responsible for a number and may be called now; one of the two is there."""

    user_id: str | None = None
    extension: str | None = None


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
        priority: Priority = Priority.POP,
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
        """The active users; empty where the CRM has no list of them. Raises: MeshError."""
        ...


@runtime_checkable
class FindsManagers(CrmConnector, Protocol):
    @property
    def has_manager(self) -> bool:
        """Whether the CRM can be asked."""
        ...

    async def find_manager(
        self, number: PhoneNumber, *, within: timedelta, priority: Priority = Priority.ROUTE
    ) -> FreeManager | None:
        """
        Now, and not from a cache. None: nobody is responsible for *number*, or nobody who is free.

        Raises: Unavailable, Throttled, NeedsReconnect; Rejected, also of a CRM without `has_manager`.
        """
        ...


@runtime_checkable
class CreatesContacts(CrmConnector, Protocol):
    def can_create(self, module: str) -> bool: ...

    async def create_contact(self, new: NewContact, *, within: timedelta) -> ContactCard:
        """
        Not idempotent: who calls it holds the number's lock and has searched before.

        Raises: Rejected, Throttled, NeedsReconnect (nothing was made), Unavailable.
        """
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

        Raises: Rejected, Throttled, NeedsReconnect (nothing was written), Unavailable. Where a
        request was sent, ``error.details["exchange"]`` shows it: an :class:`Exchange`, which
        :func:`shared.crm.exchanges.exchange_of` reads.
        """
        ...

    @property
    def knows_repeats(self) -> bool:
        """Whether the CRM itself makes one entry of one that is sent twice."""
        ...

    @property
    def batch(self) -> int:
        """How many entries one request may carry; 1: the CRM takes one at a time."""
        ...

    async def write_entries(
        self, entries: Sequence[JournalEntry], *, within: timedelta
    ) -> list[str | MeshError]:
        """
        At most :attr:`batch` of them in one request: for each, in their order, the CRM's id, or
        Rejected where the CRM refused this one, Unavailable where it does not say.

        Raises: Rejected (the CRM takes none of them together; each alone may be taken),
        Throttled, NeedsReconnect (nothing was written), Unavailable (each may be there or not).
        """
        ...

    @property
    def can_update(self) -> bool:
        """Whether an entry that is there can be changed."""
        ...

    async def update_entry(self, entry_id: str, entry: JournalEntry, *, within: timedelta) -> bool:
        """
        Have the entry that is there say *entry*. The same again changes nothing, so after
        Unavailable it is simply repeated. False where there is nothing to be sent.

        Raises: NotFound where the CRM has no such entry any more; Rejected, Throttled,
        NeedsReconnect, Unavailable.
        """
        ...

    async def find_entry(self, entry: JournalEntry, *, within: timedelta) -> str | None:
        """
        The id of the entry with this reference; None where there is none, or where the CRM itself
        makes one of an entry that is sent twice. Raises: MeshError.
        """
        ...


@runtime_checkable
class LinksNewContacts(CrmConnector, Protocol):
    async def new_contact_page(
        self,
        number: PhoneNumber,
        display_name: str | None,
        modules: Sequence[str],
        *,
        within: timedelta = timedelta(seconds=3),
    ) -> str | None:
        """
        The CRM's page for a new contact, with the number in it: of the first of *modules* (none:
        of all contact types) that has one. No request is made, but a sign-in where the address
        needs what that gives. None: there is none, or the number is withheld. Raises: MeshError.
        """
        ...


# -- the CRM's own telephony -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCard:
    """
    A call of which a CRM's users are shown a card. *extensions* are the phones that it is for, and
    *users* their users in the CRM, by extension, where those are known.
    """

    moment: CardMoment
    call_id: str
    direction: Direction
    number: str
    own_number: str | None
    extensions: tuple[str, ...]
    users: Mapping[str, str] = field(default_factory=dict)
    #: With the moment ``hangup``.
    disposition: Disposition | None = None
    contact: ContactCard | None = None


@runtime_checkable
class ShowsCards(CrmConnector, Protocol):
    @property
    def card_moments(self) -> frozenset[CardMoment]:
        """Of which it can be told; empty: it shows no cards by itself."""
        ...

    async def show_card(self, card: CallCard, *, within: timedelta) -> tuple[str, ...]:
        """
        The codes and users whom the CRM does not know, so that nobody saw it. Raises: Rejected,
        Throttled, NeedsReconnect, Unavailable.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TelephonyModule:
    """
    What a CRM is told of us. *codes*: extension → the CRM's user; *shops*: shop → own number. The
    addresses hold a secret, and *client_id* is one.
    """

    code: str
    title: str
    logo: str | None
    client_id: str = field(repr=False)
    dial_url: str = field(repr=False)
    status_url: str = field(repr=False)
    settings_url: str | None
    codes: Mapping[str, str]
    shops: Mapping[str, str]
    editable: bool
    active: bool = True


@dataclass(frozen=True, slots=True)
class ModuleReport:
    """
    How the CRM has it. *differs*: what it says otherwise than it was told, in words without
    secrets; *unknown*: users and shops that it does not have.
    """

    registered: bool
    differs: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


@runtime_checkable
class HasTelephony(CrmConnector, Protocol):
    @property
    def has_module(self) -> bool:
        """Whether it can be registered by a request."""
        ...

    async def register_module(self, module: TelephonyModule, *, within: timedelta) -> ModuleReport:
        """Make or change it; the same again changes nothing. Raises: MeshError."""
        ...

    async def read_module(self, module: TelephonyModule, *, within: timedelta) -> ModuleReport:
        """Compare what the CRM has with *module*. Raises: MeshError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickAsked:
    """A click on a number in the CRM, as its request says it. One of *extension*, *user_id*."""

    client_id: str = field(repr=False)
    number: str
    extension: str | None = None
    user_id: str | None = None
    own_number: str | None = None
    shop: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusAsked:
    """A user's status in the CRM, as its request says it; *own* is the CRM's word."""

    client_id: str = field(repr=False)
    status: AgentStatus
    own: str
    extension: str | None = None
    user_id: str | None = None


@runtime_checkable
class TakesClicks(CrmConnector, Protocol):
    """The requests that the CRM's telephony module sends us. Pure: no request is made."""

    def read_click(self, query: Mapping[str, str]) -> ClickAsked:
        """Raises: NotFound where the template has no such request, ContractError."""
        ...

    def read_status(
        self, query: Mapping[str, str], words: Mapping[AgentStatus, str]
    ) -> StatusAsked:
        """*words*: of the connection, before those of the template. Raises as above."""
        ...


@runtime_checkable
class TellsStatus(CrmConnector, Protocol):
    @property
    def tells_status(self) -> bool: ...

    def status_word(self, status: AgentStatus, words: Mapping[AgentStatus, str]) -> str | None:
        """The CRM's word for it; None: it has none, so it is not told."""
        ...

    async def tell_status(
        self, user_id: str, word: str, *, extension: str, within: timedelta
    ) -> None:
        """Raises: Rejected, Throttled, NeedsReconnect, Unavailable."""
        ...
