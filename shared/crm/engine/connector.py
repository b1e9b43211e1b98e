"""A template with a tenant's parameters and credentials: a connector that can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from shared.contracts.agents import AgentStatus
from shared.contracts.cards import CardMoment
from shared.contracts.contacts import ContactCard, CrmUser
from shared.crm.engine.asking import CrmRequests
from shared.crm.engine.cards import CardMaker, card_variables, names_of
from shared.crm.engine.changes import Change, HookReading, HookRequest, changes_of, read, verify
from shared.crm.engine.journaling import Journaling, id_of_new
from shared.crm.engine.pages import records_of
from shared.crm.engine.responsible import free_manager
from shared.crm.engine.searching import Searcher
from shared.crm.engine.telephony import CrmTelephony
from shared.crm.engine.users import UserLister
from shared.crm.form.changes import Hook
from shared.crm.form.manifest import Event, Manifest
from shared.crm.language.text import compile_text
from shared.crm.port import (
    CallCard,
    ClickAsked,
    FreeManager,
    JournalEntry,
    ModuleAnswer,
    ModuleReport,
    NewContact,
    Priority,
    StatusAsked,
    TelephonyModule,
)
from shared.errors import (
    MeshError,
    NeedsReconnect,
    NotFound,
    OutOfTime,
    Rejected,
    Unavailable,
)
from shared.phone import PhoneNumber

log = structlog.get_logger(__name__)

_CHECK_WITHIN = timedelta(seconds=10)
_MOST_CHANGES = 10_000


class TemplateConnector:
    """Every capability of :mod:`shared.crm.port`, by a manifest."""

    def __init__(
        self,
        manifest: Manifest,
        requests: CrmRequests,
        *,
        connection: str,
        region: str | None,
        phone_formats: Sequence[str] = (),
    ) -> None:
        """*phone_formats* of the connection come before those of the template."""
        self.manifest = manifest
        self.requests = requests
        self._journaling = Journaling(manifest, requests)
        self._cards = CardMaker(manifest, requests, connection=connection)
        self._formats = tuple(phone_formats) or manifest.phone_formats
        self._searcher = Searcher(
            manifest, requests, self._cards, region=region, formats=self._formats
        )
        self._users = UserLister(manifest, requests)
        self._telephony = CrmTelephony(manifest, requests, connection=connection, region=region)

    async def check(self) -> None:
        await self.requests.ask(
            self.manifest.check, {}, within=_CHECK_WITHIN, priority=Priority.SYNC
        )

    # -- contacts ----------------------------------------------------------------------------

    async def search(
        self,
        number: PhoneNumber,
        *,
        modules: Sequence[str],
        fields: Sequence[str],
        card: bool,
        within: timedelta,
        priority: Priority = Priority.POP,
    ) -> list[ModuleAnswer]:
        self._check_modules(modules)
        refusals: list[MeshError] = []

        async def of_module(module: str) -> ModuleAnswer:
            try:
                found = await self._searcher.of_module(
                    number, module, fields=fields, card=card, within=within, priority=priority
                )
            except (Rejected, NeedsReconnect) as error:
                refusals.append(error)
                return ModuleAnswer(module, refused=error.message)
            return ModuleAnswer(module, found)

        wanted = modules or list(self.manifest.contacts)
        try:
            async with asyncio.timeout(within.total_seconds()):
                await self.requests.ready(within=within)
                found = await asyncio.gather(*(of_module(module) for module in wanted))
        except TimeoutError:
            raise _late(within) from None
        if len(refusals) == len(found):
            lost = [error for error in refusals if isinstance(error, NeedsReconnect)]
            raise (
                lost[0] if lost else Rejected("; ".join(f"{a.module}: {a.refused}" for a in found))
            )
        best = next((answer.contacts[0] for answer in found if answer.contacts), None)
        about = self._about(best) if best is not None else {}
        self.requests.follow(Event.SEARCH, {**about, "Number": number.key, "Phone": number.key})
        return found

    def can_create(self, module: str) -> bool:
        contact = self.manifest.contacts.get(module)
        return contact is not None and contact.create is not None

    async def create_contact(self, new: NewContact, *, within: timedelta) -> ContactCard:
        self._check_modules([new.module])
        contact = self.manifest.contacts[new.module]
        if contact.create is None:
            raise Rejected(
                f"template {self.manifest.name} cannot create {new.module}; it can create: "
                f"{', '.join(name for name in self.manifest.contacts if self.can_create(name))}"
            )
        name = (new.display_name or "").strip() or new.number.key
        variables: dict[str, Any] = {
            **contact.variables,
            **names_of(name),
            "Module": new.module,
            "Phone": new.number.key,
            "Number": new.number.key,
            "Owner": new.owner_id,
            "Company": None,
            "Email": None,
        }
        variables = await self.requests.run(
            contact.create.before, variables, within=within, priority=Priority.POP
        )
        reply = await self.requests.ask(
            contact.create.request, variables, within=within, priority=Priority.POP
        )
        if reply is None:
            raise Rejected("the template makes no request for a new contact")
        contact_id = id_of_new(self.requests, reply.value, contact.create.contact_id, variables)
        if contact_id is None:
            raise Unavailable("the CRM took the contact and did not say its id")
        card = ContactCard(
            connection=self._cards.connection,
            module=new.module,
            contact_id=contact_id,
            display_name=name,
            owner_id=new.owner_id,
            phones=(new.number.key,),
        )
        self.requests.follow(Event.CREATE, {**variables, **self._about(card)})
        return card.model_copy(update={"page_url": self._cards.page(card)})

    async def new_contact_page(
        self,
        number: PhoneNumber,
        display_name: str | None,
        modules: Sequence[str],
        *,
        within: timedelta = timedelta(seconds=3),
    ) -> str | None:
        self._check_modules(modules)
        if number.withheld:
            return None
        for module in modules or list(self.manifest.contacts):
            source = self.manifest.contacts[module].new_page_url
            if source is None:
                continue
            if compile_text(source).names & self.manifest.signed_in_variables:
                await self.requests.ready(within=within)
            if (page := self._cards.new_page(module, number, display_name)) is not None:
                return page
        return None

    def _check_modules(self, modules: Sequence[str]) -> None:
        if unknown := sorted(set(modules) - set(self.manifest.contacts)):
            raise Rejected(
                f"template {self.manifest.name} has no contact type {', '.join(unknown)}; it has: "
                f"{', '.join(self.manifest.contacts)}"
            )

    def _about(self, card: ContactCard | None) -> dict[str, Any]:
        contact = self.manifest.contacts.get(card.module) if card is not None else None
        return card_variables(card, contact)

    # -- managers ----------------------------------------------------------------------------

    @property
    def has_manager(self) -> bool:
        return self.manifest.manager is not None

    async def find_manager(
        self, number: PhoneNumber, *, within: timedelta, priority: Priority = Priority.ROUTE
    ) -> FreeManager | None:
        asked = self.manifest.manager
        if asked is None:
            raise Rejected(f"{self.manifest.title} cannot be asked who is free: no `manager`")
        try:
            async with asyncio.timeout(within.total_seconds()):
                return await free_manager(
                    self.requests,
                    asked,
                    number,
                    formats=self._formats,
                    within=within,
                    priority=priority,
                )
        except TimeoutError:
            raise _late(within) from None

    # -- changes -----------------------------------------------------------------------------

    def verify_hook(self, request: HookRequest, *, now: datetime) -> None:
        """Raises: Unauthenticated; NotFound for a template without a hook."""
        verify(self._hook(), request, self.requests.scope, now=now)

    def read_hook(self, body: bytes) -> HookReading:
        """Raises: ContractError for what cannot be read, NotFound as above."""
        return read(self._hook(), body)

    async def poll_changes(self, since: datetime, *, within: timedelta) -> list[Change]:
        """What changed after *since*; empty where the CRM is not asked. Raises: MeshError."""
        poll = self.manifest.changes.poll if self.manifest.changes else None
        if poll is None:
            return []
        found: dict[Change, None] = {}
        variables = {"Since": since}
        async for record in records_of(
            self.requests,
            poll.request,
            poll.pages,
            records=poll.records,
            variables=variables,
            within=within,
            priority=Priority.SYNC,
            blank_is_none=True,
        ):
            found |= dict.fromkeys(
                changes_of(poll.map, record, lambda path: self.requests.path(path, variables))
            )
            if len(found) >= _MOST_CHANGES:
                log.warning("changes_cut_off", template=self.manifest.name, changes=len(found))
                # Some contact, nobody knows which.
                return [*found, Change()]
        return list(found)

    def _hook(self) -> Hook:
        hook = self.manifest.changes.hook if self.manifest.changes else None
        if hook is None:
            raise NotFound(f"{self.manifest.title} sends no hooks: its template has none")
        return hook

    # -- users -------------------------------------------------------------------------------

    async def list_users(self, *, within: timedelta) -> tuple[CrmUser, ...]:
        return await self._users.list_users(within=within)

    # -- journaling --------------------------------------------------------------------------

    @property
    def settle(self) -> timedelta:
        return self._journaling.settle

    @property
    def knows_repeats(self) -> bool:
        journal = self.manifest.journal
        return journal is not None and journal.idempotent

    async def write_entry(self, entry: JournalEntry, *, within: timedelta) -> str:
        return await self._journaling.write(entry, within=within)

    @property
    def batch(self) -> int:
        return self._journaling.batch

    async def write_entries(
        self, entries: Sequence[JournalEntry], *, within: timedelta
    ) -> list[str | MeshError]:
        return await self._journaling.write_together(entries, within=within)

    @property
    def can_update(self) -> bool:
        return self._journaling.can_update

    async def update_entry(self, entry_id: str, entry: JournalEntry, *, within: timedelta) -> bool:
        return await self._journaling.update(entry_id, entry, within=within)

    async def find_entry(self, entry: JournalEntry, *, within: timedelta) -> str | None:
        return await self._journaling.find(entry, within=within)

    # -- the CRM's own telephony -------------------------------------------------------------

    @property
    def has_module(self) -> bool:
        return self._telephony.has_module

    async def register_module(self, module: TelephonyModule, *, within: timedelta) -> ModuleReport:
        return await self._telephony.register(module, within=within)

    async def read_module(self, module: TelephonyModule, *, within: timedelta) -> ModuleReport:
        return await self._telephony.read(module, within=within)

    @property
    def card_moments(self) -> frozenset[CardMoment]:
        return self._telephony.card_moments

    async def show_card(self, card: CallCard, *, within: timedelta) -> tuple[str, ...]:
        return await self._telephony.show_card(card, within=within)

    def read_click(self, query: Mapping[str, str]) -> ClickAsked:
        return self._telephony.read_click(query)

    def read_status(
        self, query: Mapping[str, str], words: Mapping[AgentStatus, str]
    ) -> StatusAsked:
        return self._telephony.read_status(query, words)

    @property
    def tells_status(self) -> bool:
        return self._telephony.tells_status

    def status_word(self, status: AgentStatus, words: Mapping[AgentStatus, str]) -> str | None:
        return self._telephony.status_word(status, words)

    async def tell_status(
        self, user_id: str, word: str, *, extension: str, within: timedelta
    ) -> None:
        await self._telephony.tell_status(user_id, word, extension=extension, within=within)


def _late(within: timedelta) -> OutOfTime:
    return OutOfTime(f"the CRM did not answer within {within.total_seconds():g} s")
