"""What an entry says of its call, by what is known of the call, its agent and its contact."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from services.journal.entries import EntryDocument
from services.journal.orders import whose
from services.journal.recordings import address_in_entry
from services.journal.shares import share_of
from services.journal.shown import shown_in_entry
from services.journal.tools import Tools
from services.journal.wanting import is_settled
from shared.contracts.calls import CallRecord, Direction
from shared.contracts.contacts import ContactCard
from shared.crm.candidates import Choose, chosen
from shared.crm.port import JournalEntry, Priority
from shared.errors import NotFound
from shared.phone import parse
from shared.site.accounts import question_about, seat_of
from shared.site.journal import OWNER_OF_CONTACT, JournalPolicy
from shared.site.models import CrmConnection, Site


@dataclass(frozen=True, slots=True)
class Content:
    """*shown*: what of the call *said* was made of."""

    said: JournalEntry
    shown: str | None


class Contents:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def where(self, entry: EntryDocument) -> tuple[Site, CrmConnection]:
        """Raises: NotFound for a connection of which this process does not know."""
        site = self._tools.site.site(entry.tenant)
        crm = site.crm_named(entry.connection) if site else None
        if site is None or crm is None:
            raise NotFound(f"the CRM connection {entry.connection} is gone")
        return site, crm

    async def found(self, entry: EntryDocument) -> tuple[Site, CrmConnection]:
        """
        As :meth:`where`, by the sites as they are: this process may not have read yet what the one
        that ordered the entry has. Raises: NotFound, Unavailable.
        """
        with suppress(NotFound):
            return self.where(entry)
        await self._tools.site.refresh()
        return self.where(entry)

    async def of(self, entry: EntryDocument, site: Site, crm: CrmConnection) -> Content:
        """
        What an entry says now. Raises: NotFound where there is nothing to be said of the call; what
        the CRM raises when it has to be asked who the caller is.
        """
        record = await self._tools.calls.get(entry.tenant, entry.call_id)
        if not is_settled(record):
            raise NotFound("the call has not ended")
        share = share_of(record, whose(record, entry), per=entry.per)
        agent = site.agent_at(share.agent, record.pbx) if share.agent else None
        owner_id = None
        if agent is not None:
            owner_id = await self._tools.users.owner_of(site.tenant, crm.name, seat_of(agent, crm))
        contact = await self._contact(site, crm, record, owner_id)
        own = site.dialing.numbers.in_call(
            record.direction,
            dialled=record.dialled,
            caller_id=record.caller_id,
            extension=share.agent,
        )
        said = JournalEntry(
            reference=entry.reference,
            long_reference=entry.long_reference,
            direction=record.direction or Direction.INBOUND,
            disposition=share.disposition,
            started_at=share.started_at,
            answered_at=share.answered_at,
            ended_at=share.ended_at,
            talk_time=share.talk_time,
            wait_time=share.wait_time,
            number=parse(record.outside_number or "", site.region).key,
            dialled=record.dialled,
            own_number=(parse(own, site.region).key or None) if own else None,
            extension=share.agent,
            agent_name=agent.name if agent else None,
            owner_id=owner_id or _fallback(crm.journal, contact),
            contact=contact,
            recording=address_in_entry(
                record,
                site,
                crm,
                self._tools.recording_links,
                disposition=share.disposition,
            ),
            queue=record.queue,
            agent_email=agent.email if agent else None,
            summary=record.summary,
            transcription=record.transcription,
            sentiment=record.sentiment,
            subject=crm.journal.subject,
            description=crm.journal.description,
        )
        return Content(said, shown_in_entry(record, entry, crm.journal, site.region))

    async def _contact(
        self, site: Site, crm: CrmConnection, record: CallRecord, owner_id: str | None
    ) -> ContactCard | None:
        """
        As this CRM knows the caller, of several the one of the connection's ``choose``; raises
        where it could not be asked, rather than guess.
        """
        known = record.contact
        if known is not None and known.connection != crm.name:
            known = None
        # Whose call it would be was not known when the call began; what a person says stands.
        settled = (
            crm.choose is not Choose.OWNER
            or record.chosen_by is not None
            or (known is not None and known.owner_id == owner_id)
        )
        number = record.outside_number
        if (known and settled) or number is None or parse(number, site.region).withheld:
            return known
        question = question_about(number, site=site, crm=crm, priority=Priority.JOURNAL)
        found = await self._tools.finder.find(question, within=self._tools.settings.write_within)
        if not found.candidates:
            return known
        return chosen(found.candidates, crm.choose, owner_id=owner_id)


def _fallback(policy: JournalPolicy, contact: ContactCard | None) -> str | None:
    if policy.fallback_owner == OWNER_OF_CONTACT:
        return contact.owner_id if contact else None
    return policy.fallback_owner
