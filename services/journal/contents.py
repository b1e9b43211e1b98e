"""What an entry says of its call, by what is known of the call, its agent and its contact."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from services.journal.domain import agent_of, shown_in_entries
from services.journal.store import EntryDocument
from services.journal.tools import Tools
from shared.contracts.calls import CallRecord, Direction, Disposition
from shared.contracts.contacts import ContactCard
from shared.crm.candidates import Choose, chosen
from shared.crm.language.text import compile_text
from shared.crm.port import JournalEntry, Priority
from shared.errors import ContractError, NotFound
from shared.ids import reference
from shared.phone import parse
from shared.site.accounts import question_about, seat_of
from shared.site.models import CrmConnection, JournalPolicy, Site

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Content:
    """*shown*: what of the call *said* was made of."""

    said: JournalEntry
    shown: str | None


class Contents:
    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    def where(self, entry: EntryDocument) -> tuple[Site, CrmConnection]:
        """Raises: NotFound for a connection that is not there any more."""
        site = self._tools.site.site(entry.tenant)
        crm = site.crm_named(entry.connection) if site else None
        if site is None or crm is None:
            raise NotFound(f"the CRM connection {entry.connection} is gone")
        return site, crm

    async def of(self, entry: EntryDocument, site: Site, crm: CrmConnection) -> Content:
        """
        What an entry says now. Raises: NotFound where there is nothing to be said of the call; what
        the CRM raises when it has to be asked who the caller is.
        """
        record = await self._tools.calls.get(entry.tenant, entry.call_id)
        extension = agent_of(record)
        agent = site.agent_at(extension, record.pbx) if extension else None
        if record.started_at is None or record.ended_at is None:
            raise NotFound("the call has not ended")
        owner_id = None
        if agent is not None:
            owner_id = await self._tools.users.owner_of(site.tenant, crm.name, seat_of(agent, crm))
        said = JournalEntry(
            reference=reference(record.call_id),
            direction=record.direction or Direction.INBOUND,
            disposition=record.disposition or Disposition.FAILED,
            started_at=record.started_at,
            ended_at=record.ended_at,
            talk_time=record.talk_time,
            wait_time=record.wait_time,
            number=parse(record.outside_number or "", site.region).key,
            dialled=record.dialled,
            extension=extension,
            agent_name=agent.name if agent else None,
            owner_id=owner_id,
            contact=await self._contact(site, crm, record, owner_id),
            recording=_recording(record, crm.journal),
            queue=record.queue,
            agent_email=agent.email if agent else None,
            subject=crm.journal.subject,
            description=crm.journal.description,
        )
        return Content(said, shown_in_entries(record))

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


def _recording(record: CallRecord, policy: JournalPolicy) -> str | None:
    """As the PBX names it, or the address that the policy makes of that."""
    if not record.recordings:
        return None
    name = record.recordings[0]
    if policy.recording is None:
        return name
    variables = {"Recording": name, "CallId": record.call_id}
    try:
        return compile_text(policy.recording).text(variables) or None
    except ContractError as error:
        log.warning("recording_without_address", error=error.message)
        return name
