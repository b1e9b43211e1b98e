"""
CRMs that show cards by themselves are told of calls: who rings at whom, whom an agent calls, and the
end of it.

One document for a call and connection says what is known and who was told, and who has the turn to
tell: over all replicas one at a time, by compare-and-set. Who has it waits a moment, so that phones
that ring together are told of together, and gives it back when nothing is left to tell. A message
that is delivered again, to another process, takes the turn that it had: a crash between the CRM's
answer and its note shows a card twice, nothing else does.

A card is of now. What the CRM does not take is tried once more, and given up; the end of one that
may be there, a few times more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from collections.abc import Collection as Collected
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.lookup.card_due import FRESH, DueCard, due_cards, still_shown, with_told
from services.lookup.card_facts import CardFacts, with_event
from services.lookup.card_sending import CardSender, Screen, card_of
from shared.bus.port import Publisher
from shared.clock import Clock
from shared.contracts.calls import CallRinging, CallStarted
from shared.contracts.cards import CardMoment, CardTold
from shared.contracts.envelope import Message
from shared.crm.port import CallCard
from shared.errors import Conflict, Unavailable
from shared.ids import derived_id, new_id
from shared.moments import Instant
from shared.observe.metrics import Metrics
from shared.site.models import Site
from shared.storage.port import Collection, CollectionSpec, Document, change

#: Phones of a queue ring within it.
_GATHER = timedelta(milliseconds=100)
#: The end of a card: so often, and so long between, for which who rings then has to wait.
_TRIES, _AGAIN = 5, timedelta(seconds=5)
#: A turn outlasts the longest telling.
_TURN = timedelta(seconds=60)
#: Messages wait as long for a service that is away; nobody's call is longer.
_KEPT = timedelta(days=2)


class CardDocument(Document):
    """
    ``key`` is of tenant, connection and call. *turn_of*: the message whose handler tells, *turn_run*
    this handling of it.
    """

    facts: CardFacts = CardFacts()
    turn_of: str | None = None
    turn_run: str | None = None
    turn_until: Instant | None = None
    expires_at: Instant


CARDS: CollectionSpec[CardDocument] = CollectionSpec(
    name="lookup.cards", model=CardDocument, expires_by="expires_at"
)


_Edit = Callable[[CardDocument | None], CardDocument | None]


@dataclass(frozen=True, slots=True)
class _Turn:
    """To tell a CRM of one call; *of*: the message, *run*: this handling of it."""

    screen: Screen
    call_id: str
    of: str
    run: str

    @property
    def key(self) -> str:
        return f"{self.screen.site.tenant}/{self.screen.crm.name}/{self.call_id}"


@dataclass(frozen=True, slots=True)
class CardTeller:
    sender: CardSender
    cards: Collection[CardDocument]
    publisher: Publisher
    clock: Clock
    metrics: Metrics
    #: Handlings that have a turn, in this process: a message that comes to it twice at once waits
    #: for nobody and takes nothing from itself.
    _running: set[str] = field(default_factory=set, init=False)

    async def heard(self, site: Site, message: Message[Any]) -> None:
        """
        Of an event of a call; returns when the CRMs were told of what it leads to. Raises:
        Unavailable.
        """
        screens = self.sender.screens(site)
        if not screens:
            return
        # One that hangs holds up no other.
        done = await asyncio.gather(
            *(self._heard_by(screen, message) for screen in screens), return_exceptions=True
        )
        for fault in done:
            if fault is not None:
                raise fault

    async def _heard_by(self, screen: Screen, message: Message[Any]) -> None:
        event, at = message.body, message.occurred_at
        turn = _Turn(screen, event.call_id, of=str(message.id), run=str(new_id()))
        is_old = self.clock.now() - at > FRESH
        is_ours = False

        def is_agent(extension: str) -> bool:
            return screen.site.agent_at(extension, event.pbx) is not None

        def edit(found: CardDocument | None) -> CardDocument | None:
            nonlocal is_ours
            is_ours = False
            if found is None and is_old and not isinstance(event, CallStarted):
                return None  # of a call of which nothing was told
            now = self.clock.now()
            known = found or CardDocument(
                key=turn.key, tenant=message.tenant, expires_at=now + _KEPT
            )
            facts = with_event(known.facts, event, at, is_agent)
            is_ours = self._may_take(known, turn, now) and bool(self._due(screen, facts))
            if facts == known.facts and not is_ours:
                return None
            return known.model_copy(
                update={"facts": facts, **(self._taken(turn) if is_ours else {})}
            )

        await self._changed(turn, edit)
        if is_ours:
            self._running.add(turn.run)
            try:
                await self._tell(turn)
            finally:
                self._running.discard(turn.run)
        elif is_old and isinstance(event, CallRinging) and not event.own_phone:
            self.metrics.count("callmesh_cards_total", "in", "late")

    # -- who has the turn --------------------------------------------------------------------------

    async def _tell(self, turn: _Turn) -> None:
        """Until nothing is due; the turn is ours."""
        await self.clock.sleep(_GATHER)
        tries = 0
        while (left := await self._left(turn)) is not None:
            facts, due = left
            users = await self.sender.users_at(turn.screen)
            there = self._there(turn, due, facts, users)
            await self._noted(turn, due, set(due.phones) - set(there), failed=True)
            if not there:
                continue
            card = card_of(
                turn.screen, due, facts, call_id=turn.call_id, extensions=there, users=users
            )
            tries += 1
            if await self._told(turn, due, card, is_last=tries >= _TRIES):
                tries = 0
            else:
                await self.clock.sleep(_AGAIN)

    def _there(
        self, turn: _Turn, due: DueCard, facts: CardFacts, users: Mapping[str, str]
    ) -> list[str]:
        """Of the phones of *due* those for which the CRM is told."""
        there = list(due.phones)
        if turn.screen.crm.telephony.registered:
            # The module was registered without the others: nobody there has their codes.
            there = [one for one in there if one in users]
        if due.moment is CardMoment.HANGUP:
            # A card is its user's: who has another phone in the call goes on to see it.
            busy = {users[one] for one in still_shown(facts) if one in users}
            there = [one for one in there if users.get(one) not in busy]
        return there

    async def _left(self, turn: _Turn) -> tuple[CardFacts, DueCard] | None:
        """
        What is known, and what is due first, while something is; else the turn is given back, and
        None.
        """
        left: tuple[CardFacts, DueCard] | None = None

        def edit(found: CardDocument | None) -> CardDocument | None:
            nonlocal left
            left = None
            if found is None or found.turn_run != turn.run:
                return None  # another has it by now
            if due := self._due(turn.screen, found.facts):
                left = found.facts, due[0]
                return found.model_copy(update=self._taken(turn))
            return found.model_copy(update=dict.fromkeys(("turn_of", "turn_run", "turn_until")))

        await self._changed(turn, edit)
        return left

    async def _noted(
        self, turn: _Turn, due: DueCard, extensions: Collected[str], *, failed: bool
    ) -> None:
        def edit(found: CardDocument | None) -> CardDocument | None:
            if found is None:
                return None
            facts = with_told(found.facts, due, extensions, failed=failed)
            is_ours = found.turn_run == turn.run
            return found.model_copy(
                update={"facts": facts, **(self._taken(turn) if is_ours else {})}
            )

        if extensions:
            await self._changed(turn, edit)

    def _taken(self, turn: _Turn) -> dict[str, Any]:
        until = self.clock.now() + _TURN
        return {"turn_of": turn.of, "turn_run": turn.run, "turn_until": until}

    def _may_take(self, document: CardDocument, turn: _Turn, now: datetime) -> bool:
        if document.turn_until is None or document.turn_until <= now:
            return True
        return document.turn_of == turn.of and document.turn_run not in self._running

    def _due(self, screen: Screen, facts: CardFacts) -> list[DueCard]:
        moments = screen.connector.card_moments
        return due_cards(facts, screen.crm.popup, moments, self.clock.now())

    async def _changed(self, turn: _Turn, edit: _Edit) -> None:
        try:
            await change(self.cards, turn.key, edit)
        except Conflict as error:
            raise Unavailable(error.message) from error

    # -- one telling -------------------------------------------------------------------------------

    async def _told(self, turn: _Turn, due: DueCard, card: CallCard, *, is_last: bool) -> bool:
        """
        A request to the CRM, and what became of it; False: it is to be told again. Raises:
        Unavailable of store or bus.
        """
        sent = await self.sender.send(turn.screen, card, is_last=is_last)
        if sent is None:
            return False
        failed = sent.fault is not None and not sent.maybe
        await self._noted(turn, due, card.extensions, failed=failed)
        # Behind the note: what is lost here is only the word of it.
        mark = [f"{one}@{due.phones[one].isoformat()}" for one in sorted(card.extensions)]
        await self.publisher.publish(
            CardTold(
                call_id=card.call_id,
                connection=turn.screen.crm.name,
                moment=card.moment,
                extensions=card.extensions,
                unreached=tuple(text[:200] for text in sent.unreached),
                fault=sent.fault,
            ),
            tenant=turn.screen.site.tenant,
            key=str(derived_id(turn.key, card.moment.value, *mark)),
        )
        return True
