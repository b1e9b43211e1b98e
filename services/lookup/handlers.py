"""Calls and questions in, contacts out."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import structlog

from services.lookup.cards import CardTeller
from services.lookup.domain import (
    CallFacts,
    becomes_contact,
    facts_of,
    is_outside,
    number_to_look_up,
)
from services.lookup.making import ContactMaker
from services.lookup.modules import ModuleKeeper
from services.lookup.store import CallerBook
from shared.bus.port import Publisher
from shared.bus.router import Router
from shared.clock import Clock
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    CallTransferred,
    LegEnded,
)
from shared.contracts.contacts import (
    ContactAnswer,
    ContactCard,
    ContactChanged,
    ContactCreated,
    ContactResolved,
    ContactUnknown,
    CreateContact,
    CrmUser,
    FetchUsers,
    FindContact,
    SyncUsers,
    UserAnswer,
    UsersSynced,
)
from shared.contracts.dialing import DialStateChanged
from shared.contracts.envelope import Message
from shared.contracts.hooks import CrmHookReceived, ReportedContact
from shared.contracts.modules import FetchModule, ModuleRecord, RegisterModule
from shared.crm.candidates import Choose, in_order, is_ambiguous
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.users import UserBook, matched, unmatched
from shared.errors import MeshError, NotFound, PermanentError, Unavailable
from shared.phone import parse
from shared.site.accounts import account_of, keys_of, question_about, seats_of
from shared.site.book import SiteBook
from shared.site.models import CrmConnection, Site
from shared.site.rulebook import RuleBook

log = structlog.get_logger(__name__)

_USERS_WITHIN = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Deps:
    finder: Finder
    connections: CrmConnections
    users: UserBook
    callers: CallerBook
    maker: ContactMaker
    cards: CardTeller
    modules: ModuleKeeper
    site: SiteBook
    rules: RuleBook
    publisher: Publisher
    clock: Clock
    search_within: timedelta


router: Router[Deps] = Router("lookup")


# -- whose number is it? ---------------------------------------------------------------------


@router.on(CallStarted)
async def resolve_caller(deps: Deps, message: Message[CallStarted]) -> None:
    call = message.body
    site = _site(deps, message.tenant)
    number = number_to_look_up(call, site.region if site else None)
    if site is None or not site.crm or number is None:
        return
    # Together: where the phones rang before this came, a CRM is told of them here, and may hang.
    done = await asyncio.gather(
        deps.cards.heard(site, message),
        _say_who(deps, message, site, number),
        return_exceptions=True,
    )
    for fault in done:
        if fault is not None:
            raise fault


async def _say_who(deps: Deps, message: Message[CallStarted], site: Site, number: str) -> None:
    call = message.body
    found = await _candidates(deps, site, number)
    if found.cards:
        await _tell_who(deps, message, call.call_id, number, found)
        return
    unknown = ContactUnknown(call_id=call.call_id, number=number)
    await deps.publisher.publish(unknown, cause=message)
    if is_outside(number, site, deps.rules.dids(message.tenant)):
        await _learn(deps, message, site, facts_of(call, number))


@router.on(FindContact)
async def find_contact(deps: Deps, message: Message[FindContact]) -> ContactAnswer:
    site = _site(deps, message.tenant)
    if site is None:
        raise NotFound("this tenant has no site")
    found = await _candidates(deps, site, message.body.number)
    return ContactAnswer(candidates=found.cards)


# -- what changed in the CRM -----------------------------------------------------------------


@router.on(ContactChanged)
async def forget_contact(deps: Deps, message: Message[ContactChanged]) -> None:
    """In the store, for all; by one replica."""
    change = message.body
    await deps.finder.forget(
        message.tenant,
        connection=change.connection,
        numbers=keys_of(change.numbers, _site(deps, message.tenant)),
        contact_id=change.contact_id,
    )


@router.on(ContactChanged, live=True)
async def forget_contact_here(deps: Deps, message: Message[ContactChanged]) -> None:
    """In the memory of every replica."""
    change = message.body
    deps.finder.forget_here(
        message.tenant,
        connection=change.connection,
        numbers=keys_of(change.numbers, deps.site.site(message.tenant)),
        contact_id=change.contact_id,
    )


@router.on(CrmHookReceived)
async def spread_changes(deps: Deps, message: Message[CrmHookReceived]) -> None:
    """
    A change per contact that the hook named. One that named nobody still says that somebody
    changed: then nobody is unknown any more.
    """
    hook = message.body
    for number, contact in enumerate(hook.contacts or (ReportedContact(),)):
        changed = ContactChanged(
            connection=hook.connection, contact_id=contact.contact_id, numbers=contact.numbers
        )
        await deps.publisher.publish(changed, cause=message, key=str(number))


# -- unknown callers -------------------------------------------------------------------------


@router.on(CallAnswered)
async def learn_of_answer(deps: Deps, message: Message[CallAnswered]) -> None:
    answer, site = message.body, _site(deps, message.tenant)
    if site is not None:
        await deps.cards.heard(site, message)
    if site is not None and not answer.own_phone:
        news = CallFacts(answered=True, agent=answer.callee.extension)
        await _learn(deps, message, site, news)


@router.on(CallEnded)
async def learn_of_end(deps: Deps, message: Message[CallEnded]) -> None:
    site = _site(deps, message.tenant)
    if site is not None:
        await deps.cards.heard(site, message)
    if site is not None and any(crm.create and not crm.create.answered_only for crm in site.crm):
        await _learn(deps, message, site, CallFacts(ended=True))


@router.on(CreateContact)
async def create_contact(deps: Deps, message: Message[CreateContact]) -> None:
    """Ordered for a call from nobody's number; in the end the call has a contact all the same."""
    wanted, site = message.body, _site(deps, message.tenant)
    crm = site.crm_named(wanted.connection) if site else None
    if site is None or crm is None or crm.create is None:
        log.warning(
            "contact_not_created", connection=wanted.connection, reason="it is switched off"
        )
        return
    if not is_outside(wanted.number, site, deps.rules.dids(message.tenant)):
        log.warning("contact_not_created", connection=crm.name, reason="not an outside number")
        return
    made = await deps.maker.make(site, crm, crm.create, wanted)
    if made is None:
        return
    key = parse(wanted.number, site.region).key
    await deps.finder.forget(message.tenant, connection=crm.name, numbers=[key])
    contact = made.candidates[0]
    # Whoever made it: nobody's memory shall go on to say that nobody has the number.
    changed = ContactChanged(
        connection=crm.name, contact_id=contact.contact_id, numbers=(wanted.number,)
    )
    await deps.publisher.publish(changed, cause=message)
    if made.new:
        created = ContactCreated(call_id=wanted.call_id, number=wanted.number, contact=contact)
        await deps.publisher.publish(created, cause=message)
    found = _Known(made.candidates, crm.choose)
    await _tell_who(deps, message, wanted.call_id, wanted.number, found)


async def _learn(deps: Deps, message: Message[Any], site: Site, news: CallFacts) -> None:
    """Keep it, and order the contact once all that it hangs on is there, whatever came last."""
    creating = [(crm.name, crm.create) for crm in site.crm if crm.create is not None]
    if not creating:
        return
    call_id = message.body.call_id
    facts = await deps.callers.learn(message.tenant, call_id, news)
    due = [
        name
        for name, create in creating
        if name not in facts.ordered and becomes_contact(facts, create)
    ]
    for name in due:
        order = CreateContact(
            call_id=call_id,
            connection=name,
            number=facts.number or "",
            display_name=facts.name,
            extension=facts.agent,
        )
        # The same order whichever event led to it.
        key = f"{call_id}/{name}"
        await deps.publisher.publish(order, tenant=message.tenant, key=key)
    if due:
        await deps.callers.learn(message.tenant, call_id, CallFacts(ordered=tuple(due)))


# -- cards that a CRM shows by itself, and its telephony module --------------------------------


@router.on_each(CallRinging, LegEnded, CallTransferred)
async def tell_of_phones(deps: Deps, message: Message[Any]) -> None:
    site = _site(deps, message.tenant)
    if site is not None:
        await deps.cards.heard(site, message)


@router.on(DialStateChanged)
async def tell_of_order(deps: Deps, message: Message[DialStateChanged]) -> None:
    """Which of the tenant's numbers the customer sees, its order alone says."""
    told, site = message.body, _site(deps, message.tenant)
    if site is not None and told.says_caller_id:
        await deps.cards.heard(site, message)


@router.on(FetchModule)
async def fetch_module(deps: Deps, message: Message[FetchModule]) -> ModuleRecord:
    site, crm = _connection(deps, message.tenant, message.body.connection)
    return await deps.modules.state(site, crm)


@router.on(RegisterModule)
async def register_module(deps: Deps, message: Message[RegisterModule]) -> ModuleRecord:
    site, crm = _connection(deps, message.tenant, message.body.connection)
    return await deps.modules.register(site, crm)


# -- users -----------------------------------------------------------------------------------


@router.on(SyncUsers)
async def sync_users(deps: Deps, message: Message[SyncUsers]) -> None:
    name = message.body.connection
    users = await read_users(deps, message.tenant, name)
    await deps.publisher.publish(UsersSynced(connection=name, users=users), cause=message)


@router.on(FetchUsers)
async def fetch_users(deps: Deps, message: Message[FetchUsers]) -> UserAnswer:
    site, crm = _connection(deps, message.tenant, message.body.connection)
    known = await deps.users.read(site.tenant, crm.name)
    if known is None:
        return UserAnswer(users=())
    seats = seats_of(site, crm)
    return UserAnswer(
        users=matched(known.users, seats),
        synced_at=known.synced_at,
        unmatched={one.extension: one.reason for one in unmatched(known.users, seats)},
    )


async def read_users(deps: Deps, tenant: str, name: str) -> tuple[CrmUser, ...]:
    """
    Read and keep; the answer has the phones matched to them. Raises: NotFound, Unavailable, and
    what the CRM says.
    """
    site, crm = _connection(deps, tenant, name)
    connector = deps.connections.connector(account_of(site, crm))
    users = await connector.list_users(within=_USERS_WITHIN)
    await deps.users.keep(tenant, name, users)
    deps.modules.look_again(tenant, name)
    seats = seats_of(site, crm)
    without = unmatched(users, seats)
    log.info("users_read", connection=name, users=len(users), agents_without=len(without))
    for one in without:
        log.info("agent_without_user", connection=name, extension=one.extension, reason=one.reason)
    return matched(users, seats)


# --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Known:
    """Likeliest first; *choose* is the word of the connection that they are of."""

    cards: tuple[ContactCard, ...] = ()
    choose: Choose = Choose.FIRST


async def _candidates(deps: Deps, site: Site, number: str) -> _Known:
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
                return _Known(in_order(found.candidates, crm.choose), crm.choose)
    if failure is not None:
        raise failure
    return _Known()


async def _tell_who(
    deps: Deps,
    cause: Message[CallStarted] | Message[CreateContact],
    call_id: str,
    number: str,
    found: _Known,
) -> None:
    resolved = ContactResolved(
        call_id=call_id,
        number=number,
        contact=found.cards[0],
        candidates=found.cards,
        ambiguous=is_ambiguous(found.cards, found.choose),
    )
    await deps.publisher.publish(resolved, cause=cause)


def _site(deps: Deps, tenant: str) -> Site | None:
    """
    None for a tenant that has no site. Raises: Unavailable while nobody can know that, because
    the store has been away since the start.
    """
    if not deps.site.loaded or not deps.rules.loaded:
        raise Unavailable("the site is not loaded yet")
    return deps.site.site(tenant)


def _connection(deps: Deps, tenant: str, name: str) -> tuple[Site, CrmConnection]:
    """Raises: NotFound, Unavailable."""
    site = _site(deps, tenant)
    crm = site.crm_named(name) if site else None
    if site is None or crm is None:
        raise NotFound(f"there is no CRM connection {name}")
    return site, crm
