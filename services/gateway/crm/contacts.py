"""Whose number is this, what of it is forgotten, and who uses the CRM."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.deps import HttpDeps
from shared.contracts.contacts import (
    ContactAnswer,
    ContactChanged,
    FetchUsers,
    FindContact,
    SyncUsers,
    UserAnswer,
)
from shared.errors import ContractError, NotFound
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.ids import Name
from shared.phone import parse

routes: Routes[HttpDeps] = Routes(tag="mesh")


class ReadContacts(BaseModel):
    caller: FromKey[Caller]
    number: FromQuery[str] = Field(description="In any spelling.", max_length=64)


@routes("GET", "/v1/contacts", scope=Scope.CONTACTS_READ, errors=(NotFound,))
async def read_contacts(deps: HttpDeps, asked: ReadContacts) -> ContactAnswer:
    """Whose number is this? From the cache, else from the CRM."""
    site = deps.site.site(asked.caller.tenant)
    if parse(asked.number, site.region if site else None).withheld:
        raise ContractError("query.number: this is no number")
    return await deps.requester.request(
        FindContact(number=asked.number), within=deps.ask_within, tenant=asked.caller.tenant
    )


class ForgetIn(BaseModel):
    """Whose cached answers are no longer true: of a number, of a record, or of both."""

    model_config = ConfigDict(extra="forbid")

    number: str | None = Field(default=None, description="In any spelling.", max_length=64)
    contact_id: str | None = Field(
        default=None, description="The record's id in the CRM.", min_length=1, max_length=200
    )
    connection: Name | None = Field(default=None, description="Without it: every CRM connection.")


class ForgetContact(BaseModel):
    caller: FromKey[Caller]
    body: FromBody[ForgetIn]


class ForgetReceipt(BaseModel):
    """They are asked again at the next call."""

    connections: tuple[Name, ...]


@routes("POST", "/v1/contacts/forget", scope=Scope.CONTACTS_READ, status=202, errors=(NotFound,))
async def forget_contact(deps: HttpDeps, asked: ForgetContact) -> ForgetReceipt:
    """Forget what is cached of a contact or a number.

    For a CRM that cannot tell of changes: what was found, and that nobody was, is asked again.
    """
    wanted, tenant = asked.body, asked.caller.tenant
    site = deps.site.site(tenant)
    if wanted.number is None and wanted.contact_id is None:
        raise ContractError("body: give number, contact_id or both")
    if wanted.number is not None and parse(wanted.number, site.region if site else None).withheld:
        raise ContractError("body.number: this is no number")
    names = deps.connection_names(tenant, wanted.connection)
    about = [f"contact {wanted.contact_id}"] if wanted.contact_id else []
    # No whole number is in the audit log.
    about += [f"number …{wanted.number[-3:]}"] if wanted.number else []
    await deps.audit.note(
        tenant=tenant,
        key_name=asked.caller.key_name,
        action="forget_contact",
        subject=f"{', '.join(about)} at {', '.join(names)}",
    )
    for name in names:
        change = ContactChanged(
            connection=name,
            contact_id=wanted.contact_id,
            numbers=(wanted.number,) if wanted.number else (),
        )
        await deps.publisher.publish(change, tenant=tenant)
    return ForgetReceipt(connections=names)


class OfConnection(BaseModel):
    caller: FromKey[Caller]
    connection: FromPath[Name]


@routes("GET", "/v1/crm/{connection}/users", scope=Scope.CONTACTS_READ, errors=(NotFound,))
async def read_users(deps: HttpDeps, asked: OfConnection) -> UserAnswer:
    """The CRM's users as last read, the phones matched to them, and the agents without a user."""
    return await deps.requester.request(
        FetchUsers(connection=asked.connection),
        within=deps.ask_within,
        tenant=asked.caller.tenant,
    )


class SyncReceipt(BaseModel):
    """The order is durable; the users are read as soon as the CRM can be asked."""

    connection: Name


@routes(
    "POST",
    "/v1/crm/{connection}/users/sync",
    scope=Scope.CONTACTS_READ,
    status=202,
    errors=(NotFound,),
)
async def sync_users(deps: HttpDeps, asked: OfConnection) -> SyncReceipt:
    """Read the CRM's users again and match them to extensions."""
    tenant = asked.caller.tenant
    (name,) = deps.connection_names(tenant, asked.connection)
    await deps.audit.note(
        tenant=tenant,
        key_name=asked.caller.key_name,
        action="sync_users",
        subject=f"users of {name}",
    )
    await deps.publisher.publish(SyncUsers(connection=name), tenant=tenant)
    return SyncReceipt(connection=name)
