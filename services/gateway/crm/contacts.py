"""Whose number is this, what of it is forgotten, and who uses the CRM."""

from __future__ import annotations

import asyncio
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.gateway.deps import HttpDeps
from shared.contracts.contacts import (
    ContactAnswer,
    ContactCard,
    ContactChanged,
    CrmUser,
    FetchUsers,
    FindContact,
    SyncUsers,
)
from shared.errors import ContractError, MeshError, NotFound
from shared.http.auth import Caller, Scope
from shared.http.lists import Paged, SearchText
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.ids import Extension, Name
from shared.moments import Instant
from shared.observe.logging import mask_text
from shared.phone import parse

#: In one request; so many of them are asked for at once.
MOST_NUMBERS = 50
_AT_ONCE = 8

routes: Routes[HttpDeps] = Routes(tag="mesh")

Number = Annotated[str, StringConstraints(max_length=64)]


class ReadContacts(BaseModel):
    caller: FromKey[Caller]
    number: FromQuery[Number | None] = Field(default=None, description="In any spelling.")
    numbers: FromQuery[Annotated[str, StringConstraints(max_length=4000)] | None] = Field(
        default=None,
        description=f"In place of it up to {MOST_NUMBERS}, with commas between them.",
    )


class ContactsOfNumber(BaseModel):
    number: str = Field(description="As it was asked for.")
    candidates: tuple[ContactCard, ...] = ()
    fault: str | None = Field(default=None, description="Why nobody can tell whose it is.")


class ContactsFound(BaseModel):
    """
    Everything found in the first CRM that knows the number, in the order of the connection's
    ``choose``; empty: nobody knows it.
    """

    candidates: tuple[ContactCard, ...] | None = Field(default=None, description="Of `number`.")
    answers: tuple[ContactsOfNumber, ...] | None = Field(
        default=None, description="Of `numbers`, in their order."
    )


@routes(
    "GET",
    "/v1/contacts",
    scope=Scope.CONTACTS_READ,
    errors=(NotFound,),
    fields=("candidates", "answers.candidates"),
)
async def read_contacts(deps: HttpDeps, asked: ReadContacts) -> ContactsFound:
    """Whose number is this, or are these? From the cache, else from the CRM."""
    if (asked.number is None) == (asked.numbers is None):
        raise ContractError("query: say number, or numbers")
    if asked.number is not None:
        found = await _found(deps, asked.caller.tenant, asked.number, where="query.number")
        return ContactsFound(candidates=found.candidates)
    numbers = list(filter(None, map(str.strip, (asked.numbers or "").split(","))))
    if not 0 < len(numbers) <= MOST_NUMBERS:
        raise ContractError(f"query.numbers: one to {MOST_NUMBERS}, with commas between them")
    turns = asyncio.Semaphore(_AT_ONCE)

    async def answer(number: str) -> ContactsOfNumber:
        try:
            async with turns:
                found = await _found(deps, asked.caller.tenant, number, where="number")
        except MeshError as error:
            return ContactsOfNumber(number=number, fault=mask_text(error.message))
        return ContactsOfNumber(number=number, candidates=found.candidates)

    return ContactsFound(answers=tuple(await asyncio.gather(*map(answer, numbers))))


async def _found(deps: HttpDeps, tenant: str, number: str, *, where: str) -> ContactAnswer:
    site = deps.site.site(tenant)
    if parse(number, site.region if site else None).withheld:
        raise ContractError(f"{where}: this is no number")
    return await deps.requester.request(
        FindContact(number=number), within=deps.ask_within, tenant=tenant
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


class ReadUsers(OfConnection, Paged):
    search: FromQuery[SearchText] = Field(
        default="", description="Part of a name, e-mail or id; case does not matter."
    )
    extension: FromQuery[Extension | None] = Field(
        default=None, description="Who is matched to this phone."
    )
    matched: FromQuery[bool | None] = Field(
        default=None, description="`true`: those with a phone; `false`: those without."
    )


class UserPage(BaseModel):
    """A CRM's users as last read, in the order of their ids."""

    users: tuple[CrmUser, ...] = Field(description="With the phones matched to them.")
    next_cursor: str | None = None
    synced_at: Instant | None = Field(default=None, description="None: never read.")
    unmatched: dict[Extension, str] = Field(
        default_factory=dict, description="Agents' phones without a user, and why."
    )


@routes(
    "GET",
    "/v1/crm/{connection}/users",
    scope=Scope.CONTACTS_READ,
    errors=(NotFound,),
    fields=("users",),
)
async def read_users(deps: HttpDeps, asked: ReadUsers) -> UserPage:
    """The CRM's users as last read, the phones matched to them, and the agents without a user."""
    known = await deps.requester.request(
        FetchUsers(connection=asked.connection),
        within=deps.ask_within,
        tenant=asked.caller.tenant,
    )
    said = asked.search.casefold()
    wanted = (
        user
        for user in known.users
        if asked.extension in {None, user.extension}
        and asked.matched in {None, user.extension is not None}
        and any(said in (t or "").casefold() for t in (user.display_name, user.email, user.user_id))
    )
    users, more = asked.page(wanted, lambda user: user.user_id)
    return UserPage(
        users=users, next_cursor=more, synced_at=known.synced_at, unmatched=known.unmatched
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
