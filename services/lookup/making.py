"""
Unknown callers become contacts: one per number, whatever fails or dies in between.

Who holds the number's right asks the CRM afresh and makes the contact where still nobody has the
number. A try that ended without an answer *may* have come through: the right is not given again
before the CRM's search has had the time to see it, and whoever gets it asks first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from services.lookup.store import MakingBook, MakingDocument
from shared.clock import Clock
from shared.contracts.contacts import ContactCard, CreateContact
from shared.crm.candidates import in_order
from shared.crm.connections import CrmConnections
from shared.crm.finder import Finder
from shared.crm.port import CreatesContacts, NewContact, Priority
from shared.crm.users import UserBook
from shared.errors import BadSetting, MeshError, Unavailable
from shared.phone import PhoneNumber, parse
from shared.site.accounts import account_of, question_about, seat_of
from shared.site.models import ContactCreation, CrmConnection, Site

log = structlog.get_logger(__name__)

#: A right outlasts the longest try: a search and a request of this length each, and some more.
_WITHIN = timedelta(seconds=15)
_LEASE = timedelta(seconds=60)
#: The CRM's search may lag behind a write of which we know nothing: no try before.
_SETTLES = timedelta(seconds=60)
#: For so long the contact that we made is believed to be there, whatever a search says.
_FOUND_AFTER = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class Made:
    """*candidates* have the number; *new*: this call's caller is one of them since we made it."""

    candidates: tuple[ContactCard, ...]
    new: bool


@dataclass(frozen=True, slots=True)
class ContactMaker:
    finder: Finder
    connections: CrmConnections
    users: UserBook
    makings: MakingBook
    clock: Clock
    within: timedelta = _WITHIN

    async def make(
        self, site: Site, crm: CrmConnection, create: ContactCreation, wanted: CreateContact
    ) -> Made | None:
        """
        None where it cannot be known that nobody has the number. The same order again has the
        same answer.

        Raises: Unavailable (also while another makes it), Throttled, NeedsReconnect, Rejected,
        BadSetting.
        """
        number = parse(wanted.number, site.region)
        mine = await self.makings.take(site.tenant, crm.name, number.key, lease=_LEASE)
        if mine.contact is not None and self._is_believed(mine, wanted):
            await self.makings.give_back(mine)
            return Made((mine.contact,), new=mine.call_id == wanted.call_id)
        try:
            connector = self.connections.connector(account_of(site, crm))
            made = await self._known(site, crm, create, number)
            owner_id = await self._owner(site, crm, wanted)
            if not connector.can_create(create.module):
                raise BadSetting(
                    f"crm {crm.name}: its template cannot create {create.module}; name another "
                    "contact type under `create`, or leave `create` out"
                )
        except MeshError:
            await self._give_back(mine)
            raise
        if made is None or made.candidates:
            await self._give_back(mine)
            # One that was begun for this call and of which nothing more is known came through.
            return made and replace(made, new=mine.call_id == wanted.call_id)
        new = NewContact(
            module=create.module,
            number=number,
            display_name=wanted.display_name,
            owner_id=owner_id,
        )
        mine = await self.makings.begun(mine, call_id=wanted.call_id)
        contact = await self._created(connector, new, mine)
        await self.makings.made(mine, contact)
        log.info("contact_created", connection=crm.name, contact_id=contact.contact_id)
        return Made((contact,), new=True)

    def _is_believed(self, mine: MakingDocument, wanted: CreateContact) -> bool:
        if mine.made_at is None:
            return False
        recent = self.clock.now() - mine.made_at < _FOUND_AFTER
        return recent or mine.call_id == wanted.call_id

    async def _known(
        self, site: Site, crm: CrmConnection, create: ContactCreation, number: PhoneNumber
    ) -> Made | None:
        """Whoever has the number by now, in any spelling and of any type that is searched."""
        modules = crm.modules and tuple(dict.fromkeys((*crm.modules, create.module)))
        question = question_about(
            number.raw, site=site, crm=crm, modules=modules, priority=Priority.JOURNAL
        )
        found = await self.finder.find_anew(question, within=self.within)
        if found.refused and not found.candidates:
            log.warning("contact_not_created", connection=crm.name, reason="; ".join(found.refused))
            return None
        return Made(in_order(found.candidates, crm.choose), new=False)

    async def _created(
        self, connector: CreatesContacts, new: NewContact, mine: MakingDocument
    ) -> ContactCard:
        try:
            async with asyncio.timeout(self.within.total_seconds()):
                return await connector.create_contact(new, within=self.within)
        except (Unavailable, TimeoutError) as error:
            await self._give_back(mine, after=_SETTLES)
            reason = error.message if isinstance(error, Unavailable) else "no answer in time"
            raise Unavailable(
                f"whether the contact was created is not known: {reason}", retry_after=_SETTLES
            ) from error
        except MeshError:
            # The CRM said no.
            await self._give_back(mine, undone=True)
            raise

    async def _owner(self, site: Site, crm: CrmConnection, wanted: CreateContact) -> str | None:
        agent = site.agent_at(wanted.extension) if wanted.extension else None
        if agent is None:
            return None
        return await self.users.owner_of(site.tenant, crm.name, seat_of(agent, crm))

    async def _give_back(
        self, mine: MakingDocument, *, after: timedelta = timedelta(0), undone: bool = False
    ) -> None:
        """After a failure, which is told whatever becomes of this: the right ends by itself."""
        try:
            await self.makings.give_back(mine, at=self.clock.now() + after, undone=undone)
        except MeshError as error:
            log.warning("right_not_given_back", error=error.message)
