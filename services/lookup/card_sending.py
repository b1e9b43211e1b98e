"""One telling of a CRM that shows cards: the request, its repeat, and whom it did not reach."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import structlog

from services.lookup.card_due import DueCard
from services.lookup.card_facts import CardFacts
from services.lookup.module_book import ModuleBook
from shared.clock import Clock
from shared.contracts.calls import Direction
from shared.contracts.cards import CardMoment
from shared.contracts.contacts import ContactCard
from shared.crm.candidates import in_order
from shared.crm.connections import CrmConnections
from shared.crm.engine.connector import TemplateConnector
from shared.crm.finder import Finder
from shared.crm.form.telephony import used_in
from shared.crm.port import CallCard, CrmConnector, ShowsCards
from shared.crm.users import Directory, UserBook
from shared.errors import MeshError, OutOfTime, TransientError, Unavailable
from shared.observe.logging import mask_text
from shared.observe.metrics import Metrics
from shared.phone import parse
from shared.site.accounts import account_of, question_about, seats_of
from shared.site.models import CrmConnection, Site
from shared.site.telling import PopMoment

log = structlog.get_logger(__name__)

#: One request; the contact of a CRM whose cards are of contacts.
_WITHIN, _CONTACT_WITHIN = timedelta(seconds=5), timedelta(seconds=3)
#: Before the repeat, and at most: who rings rings no longer than that.
_AGAIN, _LONGEST_WAIT = timedelta(seconds=1), timedelta(seconds=8)
#: That the CRM does not know a phone is said once in it.
_SAID_EVERY = timedelta(hours=1)
_MOST_SAID = 10_000
_LONGEST_FAULT = 500


@dataclass(frozen=True, slots=True)
class Screen:
    """A connection whose CRM shows cards, and its connector."""

    site: Site
    crm: CrmConnection
    connector: ShowsCards
    #: Whether the cards are of contacts, which have to be known first.
    of_contacts: bool


@dataclass(frozen=True, slots=True)
class Sent:
    """Whom it did not reach; or why the CRM did not take it, and whether it may all the same have."""

    unreached: tuple[str, ...] = ()
    fault: str | None = None
    maybe: bool = False


@dataclass(frozen=True, slots=True)
class CardSender:
    connections: CrmConnections
    finder: Finder
    users: UserBook
    modules: ModuleBook
    clock: Clock
    metrics: Metrics
    #: Until when nothing is said of a phone that a CRM does not know.
    _said: dict[tuple[str, str, str], datetime] = field(default_factory=dict, init=False)

    def screens(self, site: Site) -> list[Screen]:
        """Of the connections that have them."""
        return [found for crm in site.crm if (found := self._screen(site, crm)) is not None]

    def _screen(self, site: Site, crm: CrmConnection) -> Screen | None:
        if not crm.popup.in_crm or crm.popup.moment is PopMoment.ENDED:
            return None
        try:
            connector = self.connections.connector(account_of(site, crm))
        except MeshError:
            # Who looks for the caller there says so.
            return None
        shows = _shows_cards(connector)
        return Screen(site, crm, shows, _of_contacts(connector)) if shows is not None else None

    async def users_at(self, screen: Screen) -> dict[str, str]:
        """Extension → the id of its user in the CRM. Raises: Unavailable."""
        site, crm = screen.site, screen.crm
        known = await self.users.read(site.tenant, crm.name)
        directory = Directory(known.users if known else ())
        found = {seat.extension: directory.match(seat) for seat in seats_of(site, crm)}
        return {one: user for one, user in found.items() if isinstance(user, str)}

    async def send(self, screen: Screen, card: CallCard, *, is_last: bool) -> Sent | None:
        """None: the end of a card was not taken, may be by and by, and this is not the *last* try."""
        if screen.of_contacts:
            card = replace(card, contact=await self._contact(screen, card.number))
        try:
            sent = Sent(await self._asked(screen, card))
        except MeshError as error:
            is_end = card.moment is CardMoment.HANGUP
            if is_end and not is_last and isinstance(error, TransientError):
                return None
            fault = mask_text(error.message)[:_LONGEST_FAULT]
            sent = Sent(fault=fault, maybe=isinstance(error, Unavailable))
            log.warning(
                "card_not_shown", connection=screen.crm.name, moment=card.moment, error=fault
            )
        nobody = len(sent.unreached) >= len(card.extensions)
        outcome = "failed" if sent.fault is not None else "unreached" if nobody else "told"
        self.metrics.count("callmesh_cards_total", card.moment.value, outcome)
        if sent.unreached:
            await self._say_unreached(screen, sent.unreached)
        return sent

    async def _asked(self, screen: Screen, card: CallCard) -> tuple[str, ...]:
        """Raises: MeshError, when it failed twice, or would fail again; at once of an end."""
        try:
            return await screen.connector.show_card(card, within=_WITHIN)
        except OutOfTime:
            # It may be shown.
            raise
        except TransientError as error:
            wait = error.retry_after or _AGAIN
            if wait > _LONGEST_WAIT or card.moment is CardMoment.HANGUP:
                raise
            await self.clock.sleep(wait)
        return await screen.connector.show_card(card, within=_WITHIN)

    async def _contact(self, screen: Screen, number: str) -> ContactCard | None:
        if parse(number, screen.site.region).withheld:
            return None
        question = question_about(number, site=screen.site, crm=screen.crm)
        try:
            found = await self.finder.find(question, within=_CONTACT_WITHIN)
        except MeshError as error:
            log.warning("card_without_contact", connection=screen.crm.name, error=error.message)
            return None
        return next(iter(in_order(found.candidates, screen.crm.choose)), None)

    async def _say_unreached(self, screen: Screen, codes: tuple[str, ...]) -> None:
        """Once an hour for each: in the log, and in what is told of the module."""
        tenant, name, now = screen.site.tenant, screen.crm.name, self.clock.now()
        news = [code for code in codes if self._said.get((tenant, name, code), now) <= now]
        if not news:
            return
        for code in news:
            self._said.pop((tenant, name, code), None)
            self._said[tenant, name, code] = now + _SAID_EVERY
            log.warning("card_unreached", tenant=tenant, connection=name, code=code)
        while len(self._said) > _MOST_SAID:
            del self._said[next(iter(self._said))]
        try:
            await self.modules.unreached(tenant, name, news)
        except MeshError as error:
            log.warning("unreached_not_noted", connection=name, error=error.message)


def _shows_cards(connector: CrmConnector) -> ShowsCards | None:
    return connector if isinstance(connector, ShowsCards) and connector.card_moments else None


def _of_contacts(connector: TemplateConnector) -> bool:
    telephony = connector.manifest.telephony
    return telephony is not None and any(
        "ContactId" in used_in(cards.request) for cards in telephony.cards
    )


def card_of(
    screen: Screen,
    due: DueCard,
    facts: CardFacts,
    *,
    call_id: str,
    extensions: Collection[str],
    users: Mapping[str, str],
) -> CallCard:
    """*due* for *extensions*, as a connector is told it. *users*: extension → the CRM's id."""
    return CallCard(
        moment=due.moment,
        call_id=call_id,
        direction=facts.direction or Direction.INBOUND,
        number=facts.outside_number or "",
        own_number=screen.site.dialing.numbers.in_call(
            facts.direction,
            dialled=facts.dialled,
            caller_id=facts.caller_id,
            extension=facts.caller,
        ),
        extensions=tuple(extensions),
        users={one: users[one] for one in extensions if one in users},
        disposition=due.disposition,
    )
