"""Calls and questions in, contacts out."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

import structlog

from services.lookup.domain import number_to_look_up
from services.lookup.store import UserBook
from shared.bus.port import Publisher
from shared.bus.router import Router
from shared.clock import Clock
from shared.contracts.calls import CallStarted
from shared.contracts.contacts import (
    ContactAnswer,
    ContactCard,
    ContactChanged,
    ContactResolved,
    ContactUnknown,
    CrmUser,
    FindContact,
    SyncUsers,
    UsersSynced,
)
from shared.contracts.envelope import Message
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.errors import MeshError, NotFound, PermanentError, Unavailable
from shared.phone import parse
from shared.site.accounts import account_of, question_about
from shared.site.book import SiteBook
from shared.site.models import Site

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Deps:
    finder: Finder
    connections: CrmConnections
    users: UserBook
    site: SiteBook
    publisher: Publisher
    clock: Clock
    search_within: timedelta


router: Router[Deps] = Router("lookup")


@router.on(CallStarted)
async def resolve_caller(deps: Deps, message: Message[CallStarted]) -> None:
    call = message.body
    site = _site(deps, message.tenant)
    number = number_to_look_up(call, site.region if site else None)
    if site is None or not site.crm or number is None:
        return
    candidates = await _candidates(deps, site, number)
    if not candidates:
        unknown = ContactUnknown(call_id=call.call_id, number=number)
        await deps.publisher.publish(unknown, cause=message)
        return
    resolved = ContactResolved(
        call_id=call.call_id, number=number, contact=candidates[0], candidates=candidates
    )
    await deps.publisher.publish(resolved, cause=message)


@router.on(FindContact)
async def find_contact(deps: Deps, message: Message[FindContact]) -> ContactAnswer:
    site = _site(deps, message.tenant)
    if site is None:
        raise NotFound("this tenant has no site")
    return ContactAnswer(candidates=await _candidates(deps, site, message.body.number))


@router.on(ContactChanged)
async def forget_contact(deps: Deps, message: Message[ContactChanged]) -> None:
    """In the store, for all; by one replica."""
    change = message.body
    numbers = _keys(_site(deps, message.tenant), change)
    await deps.finder.forget(message.tenant, connection=change.connection, numbers=numbers)


@router.on(ContactChanged, live=True)
async def forget_contact_here(deps: Deps, message: Message[ContactChanged]) -> None:
    """In the memory of every replica."""
    change = message.body
    numbers = _keys(deps.site.site(message.tenant), change)
    deps.finder.forget_here(message.tenant, connection=change.connection, numbers=numbers)


@router.on(SyncUsers)
async def sync_users(deps: Deps, message: Message[SyncUsers]) -> None:
    name = message.body.connection
    users = await read_users(deps, message.tenant, name)
    await deps.publisher.publish(UsersSynced(connection=name, users=users), cause=message)


async def read_users(deps: Deps, tenant: str, name: str) -> tuple[CrmUser, ...]:
    """Read and keep. Raises: NotFound, Unavailable, and what the CRM says."""
    site = _site(deps, tenant)
    crm = site.crm_named(name) if site else None
    if site is None or crm is None:
        raise NotFound(f"there is no CRM connection {name}")
    connector = deps.connections.connector(account_of(site, crm))
    extensions = {
        agent.users[name]: agent.extension for agent in site.agents if name in agent.users
    }
    users = tuple(
        user.model_copy(update={"extension": extensions.get(user.user_id)})
        for user in await connector.list_users(within=timedelta(seconds=30))
    )
    await deps.users.keep(tenant, name, users)
    log.info("users_read", connection=name, users=len(users))
    return users


async def _candidates(deps: Deps, site: Site, number: str) -> tuple[ContactCard, ...]:
    """
    Of the first CRM, in the tenant's order, that knows the number. One that cannot be asked
    does not stop the others; where none knows it and one was not asked, that is an error.
    """
    failure: MeshError | None = None
    for crm in site.crm:
        question = question_about(number, site=site, crm=crm)
        try:
            found = await deps.finder.find(question, within=deps.search_within)
        except PermanentError as error:
            log.error("crm_not_asked", connection=crm.name, error=error.message)  # noqa: TRY400  no traceback
            failure = failure or error
        except MeshError as error:
            failure = error
        else:
            if found.candidates:
                log.info("contact_found", connection=crm.name, source=found.source, number=number)
                return found.candidates
    if failure is not None:
        raise failure
    return ()


def _site(deps: Deps, tenant: str) -> Site | None:
    """
    None for a tenant that has no site. Raises: Unavailable while nobody can know that, because
    the store has been away since the start.
    """
    if not deps.site.loaded:
        raise Unavailable("the site is not loaded yet")
    return deps.site.site(tenant)


def _keys(site: Site | None, change: ContactChanged) -> list[str]:
    return [parse(number, site.region if site else None).key for number in change.numbers]
