"""A call as screens see it, and the words in which they are told of it. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from services.gateway.domain.events import AgentEvent, AgentEventKind, event_id
from shared.contracts.calls import Direction
from shared.contracts.contacts import ContactCard
from shared.contracts.screens import Seen

#: In place of a leg's id: the phone that calls is none that the call was offered to.
OUTGOING_LEG = ""


@dataclass(slots=True, kw_only=True)
class Pop:
    """One screen's part in a call: from the ring at its phone, or from its own call, to the end."""

    leg_id: str
    extension: str
    number: str | None
    name: str | None
    queue: str | None = None
    rang_at: datetime
    #: How often the leg was closed before: not every PBX has a new id for each ring.
    ring: int = 0
    answered: bool = False
    #: Its legs, a phone may be several devices, and their last rings; and the one that has the call.
    legs: dict[str, datetime] = field(default_factory=dict)
    answered_leg: str | None = None
    #: What cards were opened for, and the last of them.
    opened: set[str] = field(default_factory=set)
    card: AgentEvent | None = None
    #: When the part was over, and whether the card was opened after that.
    left_at: datetime | None = None
    stays: bool = False

    @property
    def outgoing(self) -> bool:
        return self.leg_id == OUTGOING_LEG

    def is_told_by(self, leg_id: str, at: datetime) -> bool:
        """Whether an answer of this leg at that moment is of this ring."""
        return not self.outgoing and (leg_id == self.leg_id or at >= self.rang_at)


@dataclass(frozen=True, slots=True)
class SeenAt:
    """*pop_id* None: whichever of the call's pops it was."""

    seen: Seen
    pop_id: str | None
    at: datetime


@dataclass(slots=True)
class Call:
    tenant: str
    call_id: str
    known_at: datetime
    heard_at: datetime
    direction: Direction | None = None
    #: As the PBX shows the caller of an incoming call.
    caller_name: str | None = None
    pops: dict[str, Pop] = field(default_factory=dict)
    #: Whose part is over: the card may open at the end.
    after: dict[str, Pop] = field(default_factory=dict)
    contact: ContactCard | None = None
    contact_known: bool | None = None
    contact_at: datetime | None = None
    #: Whom no CRM knows.
    unknown_number: str | None = None
    #: Where several match.
    candidates: tuple[ContactCard, ...] | None = None
    ambiguous: bool | None = None
    #: A person said who it is.
    chosen: bool = False
    #: When legs ended and why: a ring of theirs that comes late opens nothing. Not every PBX has
    #: ids for legs, so one that is told by its extension may ring again.
    ended_legs: dict[str, tuple[datetime, str]] = field(default_factory=dict)
    #: Legs whose answer came, perhaps before their ring did, and when they answered.
    answered_legs: dict[str, datetime] = field(default_factory=dict)
    #: How often each screen was told that a leg is closed.
    closings: Counter[tuple[str, str]] = field(default_factory=Counter)
    #: Of an outgoing call: whether it has got as far as the other party's phone, and was answered.
    reached: bool = False
    outside_answered: bool = False
    #: What became of pops, by extension.
    seen: dict[str, SeenAt] = field(default_factory=dict)
    over: bool = False

    def leg_ended(self, leg_id: str, at: datetime, reason: str) -> None:
        last = self.ended_legs.get(leg_id)
        if last is None or at > last[0]:
            self.ended_legs[leg_id] = (at, reason)

    def ended_by(self, leg_id: str, at: datetime) -> bool:
        """Whether what the leg did at that moment was over by now."""
        ended = self.ended_legs.get(leg_id)
        return self.over or (ended is not None and at <= ended[0])

    def about(self, pop: Pop, *more: str) -> str:
        return event_id(self.tenant, self.call_id, pop.extension, pop.leg_id, str(pop.ring), *more)

    def known_of_contact(self) -> dict[str, Any]:
        return {
            "contact": self.contact,
            "contact_known": self.contact_known,
            "candidates": self.candidates,
            "ambiguous": self.ambiguous,
        }

    def opening(self, pop: Pop) -> AgentEvent:
        """``ringing`` or ``outgoing``, with all that is known by now."""
        kind = AgentEventKind.OUTGOING if pop.outgoing else AgentEventKind.RINGING
        return AgentEvent(
            kind=kind,
            id=self.about(pop, kind),
            at=pop.rang_at,
            extension=pop.extension,
            call_id=self.call_id,
            direction=self.direction,
            caller_number=pop.number,
            caller_name=pop.name,
            queue=pop.queue,
            **self.known_of_contact(),
        )

    def answering(self, pop: Pop, at: datetime | None) -> AgentEvent:
        return AgentEvent(
            kind=AgentEventKind.ANSWERED,
            id=self.about(pop, AgentEventKind.ANSWERED),
            at=at,
            extension=pop.extension,
            call_id=self.call_id,
        )

    def telling_contact(self, pop: Pop) -> AgentEvent:
        return AgentEvent(
            kind=AgentEventKind.CONTACT,
            # A choice may be taken back: the same contact at another time is another piece of news.
            id=self.about(pop, AgentEventKind.CONTACT, whom(self), str(self.contact_at)),
            at=self.contact_at,
            extension=pop.extension,
            call_id=self.call_id,
            **self.known_of_contact(),
        )

    def closing(self, pop: Pop, reason: str, at: datetime) -> AgentEvent:
        return AgentEvent(
            kind=AgentEventKind.CLOSED,
            id=self.about(pop, AgentEventKind.CLOSED),
            at=at,
            extension=pop.extension,
            call_id=self.call_id,
            reason=reason,
        )

    def as_shown(self, card: AgentEvent) -> AgentEvent:
        """*card*, with what became of it meanwhile."""
        found = self.seen.get(card.extension or "")
        if found is None or found.pop_id not in {None, card.id}:
            return card
        return card.model_copy(update={"seen": found.seen})


def whom(call: Call) -> str:
    """What a card is opened for: a contact, a choice among several, nobody."""
    if call.contact is None or not call.contact_known:
        return "nobody"
    cards = call.candidates if call.ambiguous and call.candidates else (call.contact,)
    return "|".join(f"{card.connection}/{card.module}/{card.contact_id}" for card in cards)
