"""A template with a tenant's parameters and credentials: a connector that can be asked."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import structlog

from shared.contracts.contacts import ContactCard, CrmUser
from shared.crm.engine.asking import CrmRequests
from shared.crm.engine.cards import CardMaker, card_variables
from shared.crm.engine.changes import Change, HookReading, HookRequest, changes_of, read, verify
from shared.crm.engine.journaling import Journaling, id_of_new
from shared.crm.engine.pages import records_of
from shared.crm.engine.responsible import free_manager, is_extension
from shared.crm.engine.searching import Searcher
from shared.crm.form.changes import Hook
from shared.crm.form.contacts import Users
from shared.crm.form.manifest import Event, Manifest
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import of_record
from shared.crm.port import FreeManager, JournalEntry, ModuleAnswer, NewContact, Priority
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
#: Of one list; a CRM with more has other ways to be asked.
_MOST_USERS = 10_000
_MOST_CHANGES = 10_000
_NO = frozenset({"", "false", "0", "no", "n", "inactive"})


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
        first, _, last = name.rpartition(" ")
        variables: dict[str, Any] = {
            **contact.variables,
            "Module": new.module,
            "FirstName": first or None,
            "LastName": last,
            "DisplayName": name,
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
        users = self.manifest.users
        if users is None:
            return ()
        found: dict[str, CrmUser] = {}
        nameless = False
        async for record in records_of(
            self.requests,
            users.request,
            users.pages,
            records=users.records,
            variables={},
            within=within,
            priority=Priority.SYNC,
        ):
            nameless = nameless or self._shown(record, users.user_id) is None
            if (user := self._user(users, record)) is not None:
                found.setdefault(user.user_id, user)
            if len(found) >= _MOST_USERS:
                log.warning("users_cut_off", template=self.manifest.name, users=len(found))
                break
        if nameless and not found:
            raise Unavailable(f"the CRM's users have nothing at {users.user_id}")
        self.requests.follow(Event.USERS, {})
        return tuple(found.values())

    def _user(self, users: Users, record: Any) -> CrmUser | None:
        def shown(path: str | None) -> str | None:
            return self._shown(record, path)

        user_id = shown(users.user_id)
        if user_id is None:
            return None
        if users.active is not None and (shown(users.active) or "").lower() in _NO:
            return None
        full = " ".join(filter(None, (shown(users.first_name), shown(users.last_name))))
        extension = shown(users.extension)
        return CrmUser(
            user_id=user_id,
            display_name=shown(users.display_name) or full or user_id,
            email=shown(users.email),
            extension=extension if extension and is_extension(extension) else None,
        )

    def _shown(self, record: Any, path: str | None) -> str | None:
        if path is None:
            return None
        value = of_record(record, self.requests.path(path, {}))
        if value is False and self.manifest.values.false_is_empty:
            return None
        return plain_text(value).strip()[:200] or None

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


def _late(within: timedelta) -> OutOfTime:
    return OutOfTime(f"the CRM did not answer within {within.total_seconds():g} s")
