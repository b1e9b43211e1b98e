"""What CRMs say about a number."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from shared.contracts.envelope import Command, Event, Query, contract
from shared.ids import Extension, Name
from shared.moments import Instant


class ContactCard(BaseModel):
    """One record of a CRM that has the number."""

    model_config = ConfigDict(frozen=True)

    connection: Name = Field(description="The tenant's CRM connection.")
    module: str = Field(description="The CRM's contact type: Contacts, Leads, Accounts …")
    contact_id: str
    display_name: str
    company: str | None = None
    email: str | None = None
    owner_id: str | None = Field(default=None, description="The CRM user who owns the record.")
    changed_at: Instant | None = Field(
        default=None, description="When the record was changed last, where the CRM tells it."
    )
    page_url: str | None = Field(default=None, description="The record's page in the CRM.")
    phones: tuple[str, ...] = ()
    fields: dict[str, JsonValue] = Field(
        default_factory=dict,
        description="Further fields that were asked for, by API name. Null is empty; what the record "
        "does not have is not here.",
    )


class ContactAnswer(BaseModel):
    """
    Everything found in the first CRM that knows the number, in the order of the connection's
    ``choose``; empty: nobody knows it.
    """

    candidates: tuple[ContactCard, ...] = ()

    @property
    def chosen(self) -> ContactCard | None:
        return self.candidates[0] if self.candidates else None


@contract("contacts.find", version=1, answer=ContactAnswer)
class FindContact(Query[ContactAnswer]):
    """Whose number is this?"""

    number: str


class CallContactEvent(Event):
    """Base of what was found out for a call."""

    call_id: str
    number: str

    def subject(self) -> str:
        return self.call_id


@contract("contacts.resolved", version=1)
class ContactResolved(CallContactEvent):
    """A CRM knows the number."""

    contact: ContactCard
    candidates: tuple[ContactCard, ...] = Field(
        default=(), description="All that matched, likeliest first, the chosen one included."
    )
    ambiguous: bool = Field(
        default=False,
        description="Several matched and the agent has to choose: `contact` is only the first.",
    )
    chosen_by: str | None = Field(
        default=None,
        description="The API key by which a person chose; what nobody chose does not undo it.",
    )


@contract("contacts.unknown", version=1)
class ContactUnknown(CallContactEvent):
    """Every CRM of the tenant was asked and none knows the number."""


@contract("contacts.changed", version=1)
class ContactChanged(Event):
    """A record changed in the CRM: what is cached for its numbers is no longer true."""

    connection: Name
    contact_id: str | None = Field(default=None, description="What shows it is asked for again.")
    numbers: tuple[str, ...] = Field(
        default=(),
        description="Its numbers now and before. Where they are not told it may have any: then "
        "nobody is believed to be unknown any more.",
    )


@contract("contacts.create", version=1)
class CreateContact(Command):
    """Add a caller whom no CRM knows; only where the administrator switched it on."""

    call_id: str
    connection: Name
    number: str
    display_name: str | None = Field(default=None, description="As the PBX shows the caller.")
    extension: str | None = Field(
        default=None, description="The agent's phone in the call: its user gets the record."
    )

    def subject(self) -> str:
        return self.call_id


@contract("contacts.created", version=1)
class ContactCreated(CallContactEvent):
    """A record was made for an unknown caller."""

    contact: ContactCard


class CrmUser(BaseModel):
    model_config = ConfigDict(frozen=True)

    user_id: str
    display_name: str
    email: str | None = None
    extension: Extension | None = Field(
        default=None,
        description="The phone matched to the user; of a user as the CRM has it, its own word.",
    )


@contract("users.sync", version=1)
class SyncUsers(Command):
    """Read the CRM's users again and match them to extensions."""

    connection: Name


@contract("users.synced", version=1)
class UsersSynced(Event):
    """The CRM's users, as they are now."""

    connection: Name
    users: tuple[CrmUser, ...]


class UserAnswer(BaseModel):
    """A CRM's users as last read."""

    users: tuple[CrmUser, ...] = Field(description="With the phones matched to them.")
    synced_at: Instant | None = Field(default=None, description="None: never read.")
    unmatched: dict[Extension, str] = Field(
        default_factory=dict, description="Agents' phones without a user, and why."
    )


@contract("users.fetch", version=1, answer=UserAnswer)
class FetchUsers(Query[UserAnswer]):
    """Who is in the CRM, and whose phone is whose?"""

    connection: Name
