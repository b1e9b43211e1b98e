"""A template with a tenant's parameters and credentials: a connector that can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

from shared.contracts.contacts import ContactCard, CrmUser
from shared.crm.engine.asking import CrmRequests, json_of
from shared.crm.engine.cards import CardMaker
from shared.crm.engine.manifest import ContactType, Manifest
from shared.crm.language.contexts import SEARCH_ESCAPES
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import at_path
from shared.crm.language.text import compile_text
from shared.crm.port import JournalEntry, ModuleAnswer
from shared.errors import MeshError, NeedsReconnect, OutOfTime, Rejected, Unavailable
from shared.net.client import Answer
from shared.phone import PhoneNumber, same_number, spellings

_CHECK_WITHIN = timedelta(seconds=10)
#: Of a list; a CRM that always says there are more must not keep us for ever.
_MOST_PAGES = 100


class TemplateConnector:
    """SearchesContacts, ListsUsers and JournalsCalls by a manifest."""

    def __init__(
        self,
        manifest: Manifest,
        requests: CrmRequests,
        *,
        connection: str,
        region: str | None,
        parameters: Mapping[str, str],
        phone_formats: Sequence[str] = (),
    ) -> None:
        """*phone_formats* of the connection come before those of the template."""
        self.manifest = manifest
        self._requests = requests
        self._region = region
        self._parameters = dict(parameters)
        self._formats = tuple(phone_formats) or manifest.phone_formats
        self._cards = CardMaker(manifest, connection=connection, parameters=parameters)

    async def check(self) -> None:
        await self._requests.ask(self.manifest.check, {}, within=_CHECK_WITHIN)

    # -- searching ---------------------------------------------------------------------------

    async def search(
        self,
        number: PhoneNumber,
        *,
        modules: Sequence[str],
        fields: Sequence[str],
        card: bool,
        within: timedelta,
    ) -> list[ModuleAnswer]:
        if unknown := sorted(set(modules) - set(self.manifest.contacts)):
            raise Rejected(
                f"template {self.manifest.name} has no contact type {', '.join(unknown)}"
            )
        refusals: list[MeshError] = []

        async def of_module(module: str) -> ModuleAnswer:
            try:
                return await self._search_module(number, module, fields, card, within)
            except (Rejected, NeedsReconnect) as error:
                refusals.append(error)
                return ModuleAnswer(module, refused=error.message)

        wanted = modules or list(self.manifest.contacts)
        try:
            async with asyncio.timeout(within.total_seconds()):
                found = await asyncio.gather(*(of_module(module) for module in wanted))
        except TimeoutError:
            raise OutOfTime(f"the CRM did not answer within {within.total_seconds():g} s") from None
        if len(refusals) == len(found):
            lost = [error for error in refusals if isinstance(error, NeedsReconnect)]
            raise (
                lost[0] if lost else Rejected("; ".join(f"{a.module}: {a.refused}" for a in found))
            )
        return found

    async def _search_module(
        self,
        number: PhoneNumber,
        module: str,
        fields: Sequence[str],
        card: bool,
        within: timedelta,
    ) -> ModuleAnswer:
        """Several requests only where the CRM does not take all tests in one; a hit ends it."""
        contact = self.manifest.contacts[module]
        names = [self.manifest.id_field, *fields, *(contact.card_fields if card else ())]
        asked = ",".join(dict.fromkeys(names))
        for tests in self._tests(number, contact):
            variables = {"Module": module, "Tests": tests, "Fields": asked}
            answer = await self._requests.ask(
                self.manifest.search.request, variables, within=within
            )
            records = self._records(answer, self.manifest.search.records)
            cards = [self._cards.card(record, module, fields) for record in records]
            if kept := tuple(card for card in cards if self._has(card, number)):
                return ModuleAnswer(module, kept)
        return ModuleAnswer(module)

    def _tests(self, number: PhoneNumber, contact: ContactType) -> Iterator[str]:
        """Every field with every spelling, as many as the CRM takes in one request."""
        search = self.manifest.search
        escape = SEARCH_ESCAPES[search.escape]
        test = compile_text(search.test)
        forms = spellings(number, self._formats)
        at_once = max(1, search.max_tests // len(contact.phone_fields))
        for first in range(0, len(forms), at_once):
            yield search.join.join(
                test.text({"Field": field, "Phone": escape(form)})
                for field in contact.phone_fields
                for form in forms[first : first + at_once]
            )

    def _records(self, answer: Answer, path: str) -> list[Mapping[str, Any]]:
        if self._requests.is_empty(answer):
            return []
        found = at_path(json_of(answer), path)
        if not isinstance(found, list):
            raise Unavailable("the CRM's answer has no list of records where the template says")
        return [record for record in found if isinstance(record, Mapping)]

    def _has(self, card: ContactCard, number: PhoneNumber) -> bool:
        """A search by text finds too much; a card that shows numbers must show this one."""
        return not card.phones or any(
            same_number(phone, number.raw, self._region) for phone in card.phones
        )

    # -- users -------------------------------------------------------------------------------

    async def list_users(self, *, within: timedelta) -> tuple[CrmUser, ...]:
        users = self.manifest.users
        if users is None:
            return ()
        found: list[CrmUser] = []
        for page in range(1, _MOST_PAGES + 1):
            answer = await self._requests.ask(users.request, {"Page": page}, within=within)
            found += (
                CrmUser(
                    user_id=plain_text(at_path(record, users.user_id)),
                    display_name=plain_text(at_path(record, users.display_name)),
                    email=plain_text(at_path(record, users.email)) or None if users.email else None,
                )
                for record in self._records(answer, users.records)
            )
            if not users.more or self._requests.is_empty(answer):
                break
            if at_path(json_of(answer), users.more) is not True:
                break
        return tuple(found)

    # -- journaling --------------------------------------------------------------------------

    @property
    def settle(self) -> timedelta:
        journal = self.manifest.journal
        return journal.find.settle if journal else timedelta(0)

    async def write_entry(self, entry: JournalEntry, *, within: timedelta) -> str:
        journal = self.manifest.journal
        if journal is None:
            raise Rejected(f"template {self.manifest.name} has no call journal")
        contact = self.manifest.contacts.get(entry.contact.module) if entry.contact else None
        answer = await self._requests.ask(
            journal.create,
            self._entry_variables(entry),
            within=within,
            merge=(journal.record, contact.journal if contact else {}),
        )
        reply = json_of(answer)
        verdict = plain_text(at_path(reply, journal.accepted))
        if verdict not in journal.accepted_values:
            raise Rejected(f"the CRM did not take the entry: {verdict or 'it does not say why'}")
        entry_id = plain_text(at_path(reply, journal.entry_id))
        if not entry_id:
            raise Unavailable("the CRM took the entry and did not say its id")
        return entry_id

    async def find_entry(self, entry: JournalEntry, *, within: timedelta) -> str | None:
        journal = self.manifest.journal
        if journal is None:
            return None
        escape = SEARCH_ESCAPES[self.manifest.search.escape]
        variables = {
            name: escape(value) if isinstance(value, str) else value
            for name, value in self._entry_variables(entry).items()
        }
        answer = await self._requests.ask(journal.find.request, variables, within=within)
        if self._requests.is_empty(answer):
            return None
        return plain_text(at_path(json_of(answer), journal.find.entry_id)) or None

    def _entry_variables(self, entry: JournalEntry) -> dict[str, Any]:
        variables: dict[str, Any] = {
            "Reference": entry.reference,
            "Kind": f"{entry.direction} {entry.disposition}",
            "StartedAt": entry.started_at,
            "EndedAt": entry.ended_at,
            "TalkTime": entry.talk_time,
            "WaitTime": entry.wait_time,
            "Number": entry.number,
            "Dialled": entry.dialled,
            "Agent": entry.extension,
            "AgentName": entry.agent_name,
            "Owner": entry.owner_id,
            "Recording": entry.recording,
            "ContactId": entry.contact.contact_id if entry.contact else None,
            "Module": entry.contact.module if entry.contact else None,
        }
        if (journal := self.manifest.journal) is not None:
            for name, text in (("Subject", journal.subject), ("Description", journal.description)):
                words = compile_text(text).text(
                    {**self._parameters, **variables}, maps=self.manifest.maps
                )
                variables[name] = " ".join(words.split())
        return variables
