"""What CRMs say about a number."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from shared.contracts.envelope import Command, Event, Query, contract
from shared.ids import Extension, Name


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
    page_url: str | None = Field(default=None, description="The record's page in the CRM.")
    phones: tuple[str, ...] = ()
    fields: dict[str, JsonValue] = Field(
        default_factory=dict, description="Further fields that were asked for, by API name."
    )


class ContactAnswer(BaseModel):
    """Everything found, in the order of the tenant's CRMs and modules; empty: nobody knows it."""

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
        default=(), description="All that matched, the chosen one included."
    )


@contract("contacts.unknown", version=1)
class ContactUnknown(CallContactEvent):
    """Every CRM of the tenant was asked and none knows the number."""


@contract("contacts.changed", version=1)
class ContactChanged(Event):
    """A record changed in the CRM: what is cached for its numbers is no longer true."""

    connection: Name
    contact_id: str | None = None
    numbers: tuple[str, ...] = Field(default=(), description="Its numbers now and before.")


@contract("contacts.create", version=1)
class CreateContact(Command):
    """Add a caller whom no CRM knows; only where the administrator switched it on."""

    call_id: str
    connection: Name
    number: str
    display_name: str | None = None

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
    extension: Extension | None = Field(default=None, description="The phone matched to the user.")


@contract("users.sync", version=1)
class SyncUsers(Command):
    """Read the CRM's users again and match them to extensions."""

    connection: Name


@contract("users.synced", version=1)
class UsersSynced(Event):
    """The CRM's users, as they are now."""

    connection: Name
    users: tuple[CrmUser, ...]
