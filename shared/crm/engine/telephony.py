"""The CRM's own telephony by a template: its module, the cards that it shows, its users' status."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import structlog

from shared.contracts.agents import AgentStatus
from shared.contracts.cards import CardMoment
from shared.crm.engine import clicks, modules
from shared.crm.engine.asking import CrmRequests
from shared.crm.engine.cards import card_variables
from shared.crm.form.manifest import Manifest
from shared.crm.form.telephony import Addressed, Cards, Module, RowsOf, Statuses, Telephony
from shared.crm.port import (
    CallCard,
    ClickAsked,
    ModuleReport,
    Priority,
    StatusAsked,
    TelephonyModule,
)
from shared.errors import MeshError, NotFound, Rejected
from shared.phone import parse

log = structlog.get_logger(__name__)

_EMPTY = Telephony.model_construct()
_By = TypeVar("_By", Module, Cards)


class CrmTelephony:
    """Of one connection; what each method promises is in :mod:`shared.crm.port`."""

    def __init__(
        self, manifest: Manifest, requests: CrmRequests, *, connection: str, region: str | None
    ) -> None:
        self._manifest = manifest
        self._requests = requests
        self._connection = connection
        self._region = region
        self._form = manifest.telephony or _EMPTY

    # -- the module ----------------------------------------------------------------------------

    @property
    def has_module(self) -> bool:
        return self._by(self._form.modules) is not None

    async def register(self, told: TelephonyModule, *, within: timedelta) -> ModuleReport:
        return await modules.register(self._requests, self._module(), told, within=within)

    async def read(self, told: TelephonyModule, *, within: timedelta) -> ModuleReport:
        return await modules.read(
            self._manifest, self._requests, self._module(), told, within=within
        )

    # -- cards ---------------------------------------------------------------------------------

    @property
    def card_moments(self) -> frozenset[CardMoment]:
        cards = self._by(self._form.cards)
        return frozenset(cards.moments) if cards is not None else frozenset()

    async def show_card(self, card: CallCard, *, within: timedelta) -> tuple[str, ...]:
        cards = self._by(self._form.cards)
        if cards is None or card.moment not in cards.moments:
            raise Rejected(f"{self._manifest.title} shows no card of the moment {card.moment}")
        users = {one: card.users[one] for one in card.extensions if card.users.get(one)}
        nobody: tuple[str, ...] = ()
        phones = card.extensions
        if cards.to is Addressed.USERS:
            nobody = tuple(one for one in card.extensions if one not in users)
            # A user with several phones is told once.
            phones = tuple({user: one for one, user in users.items()}.values())
        if not phones:
            return nobody
        variables = self._of_card(cards, card, phones, users)
        if not cards.each:
            return (*nobody, *await self._shown(cards, variables, within))
        return (*nobody, *await self._shown_each(cards, variables, phones, users, within))

    async def _shown(
        self, cards: Cards, variables: Mapping[str, Any], within: timedelta
    ) -> tuple[str, ...]:
        reply = await self._requests.ask(
            cards.request, variables, within=within, priority=Priority.POP
        )
        if reply is None:
            return ()
        return modules.texts_at(self._requests, reply, cards.unknown, variables)

    async def _shown_each(
        self,
        cards: Cards,
        variables: Mapping[str, Any],
        phones: Sequence[str],
        users: Mapping[str, str],
        within: timedelta,
    ) -> tuple[str, ...]:
        """One phone's failure is not the others'. Raises, where it is that of all."""

        async def of(extension: str) -> tuple[str, ...] | MeshError:
            known = {**variables, "Extension": extension, "User": users.get(extension)}
            try:
                return await self._shown(cards, known, within)
            except Rejected as error:
                if error.details.get("status") in cards.absent:
                    return (users.get(extension) or extension,)
                return error
            except MeshError as error:
                return error

        found = await asyncio.gather(*(of(extension) for extension in phones))
        errors = [one for one in found if isinstance(one, MeshError)]
        if len(errors) == len(found):
            raise errors[0]
        for error in errors:
            log.warning("card_not_shown", error=error.message)
        return tuple(text for one in found if isinstance(one, tuple) for text in one)

    def _of_card(
        self, cards: Cards, card: CallCard, phones: Sequence[str], users: Mapping[str, str]
    ) -> dict[str, Any]:
        contact = card.contact
        if contact is not None and contact.connection != self._connection:
            # An id of another CRM is somebody else's here.
            contact = None
        kind = self._manifest.contacts.get(contact.module) if contact is not None else None
        own = card.own_number
        each = [{"Extension": one, "User": users.get(one)} for one in phones]
        of_users = {one["User"]: one for one in each if one["User"]}
        of = {RowsOf.PHONES: each, RowsOf.USERS: list(of_users.values())}
        return {
            **card_variables(contact, kind),
            "Moment": str(card.moment),
            "Direction": str(card.direction),
            "Disposition": str(card.disposition) if card.disposition is not None else None,
            "Number": parse(card.number, self._region).key,
            "OwnNumber": parse(own, self._region).key or None if own else None,
            "CallId": card.call_id,
            "Extensions": list(phones),
            "Users": list(dict.fromkeys(users.values())),
            **{
                name: modules.rows_of(rows, of[rows.of], self._requests.scope)
                for name, rows in cards.rows.items()
            },
        }

    # -- clicks and status ---------------------------------------------------------------------

    def read_click(self, query: Mapping[str, str]) -> ClickAsked:
        if self._form.click is None:
            raise NotFound(f"{self._manifest.title} asks for no calls: no `telephony.click`")
        return clicks.read_click(self._form.click, query)

    def read_status(
        self, query: Mapping[str, str], words: Mapping[AgentStatus, str]
    ) -> StatusAsked:
        statuses = self._form.status
        if statuses is None or statuses.query is None:
            raise NotFound(f"{self._manifest.title} tells no status: no `telephony.status.query`")
        return clicks.read_status(statuses, query, words)

    @property
    def tells_status(self) -> bool:
        return self._form.status is not None and self._form.status.tell is not None

    def status_word(self, status: AgentStatus, words: Mapping[AgentStatus, str]) -> str | None:
        if self._form.status is None:
            return None
        return clicks.status_word(self._form.status, status, words)

    async def tell_status(
        self, user_id: str, word: str, *, extension: str, within: timedelta
    ) -> None:
        statuses: Statuses | None = self._form.status
        if statuses is None or statuses.tell is None:
            raise Rejected(f"{self._manifest.title} cannot be told: no `telephony.status.tell`")
        told = {"User": user_id, "Status": word, "Extension": extension}
        reply = await self._requests.ask(
            statuses.tell, told, within=within, priority=Priority.JOURNAL
        )
        if reply is None:
            raise Rejected("the template makes no request that tells a status")

    # -- which of several ----------------------------------------------------------------------

    def _module(self) -> Module:
        module = self._by(self._form.modules)
        if module is None:
            raise Rejected(
                f"{self._manifest.title} has no telephony module: no `telephony.modules`"
            )
        return module

    def _by(self, several: Sequence[_By]) -> _By | None:
        """The first whose ``when`` holds for the parameters of this connection."""
        for one in several:
            holds = one.when is None or self._requests.scope.text(one.when).strip()
            if holds not in {"", "false", "0"}:
                return one
        return None
