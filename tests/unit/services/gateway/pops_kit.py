"""A board of pops and what it told; events in few words."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from services.gateway.domain import AgentEvent, AgentEventKind, PopBoard
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    CallTransferred,
    Direction,
    LegEnded,
    LegOutcome,
    Party,
    TransferKind,
)
from shared.contracts.contacts import ContactCard, ContactResolved, ContactUnknown
from shared.contracts.envelope import Event
from shared.contracts.screens import PopSeen, Seen
from shared.site.telling import PopupPolicy
from shared.testing.builders import NOON, a_call, a_contact

CALLER = Party(number="447700900123", name="Customer")
RINGING, CONTACT = AgentEventKind.RINGING, AgentEventKind.CONTACT
ANSWERED, CLOSED = AgentEventKind.ANSWERED, AgentEventKind.CLOSED
POP, OUTGOING, SEEN = AgentEventKind.POP, AgentEventKind.OUTGOING, AgentEventKind.SEEN
ADA, BOB = a_contact(), a_contact(contact_id="830", display_name="Bob")
#: The other party, where it answers.
OUTSIDE = Party(number="447700900123")


def ringing(extension: str = "101", leg: str = "l1", call: str = "c1", **more: Any) -> CallRinging:
    known: dict[str, Any] = {"callee": Party(extension=extension), "caller": CALLER}
    return CallRinging(call_id=call, pbx="main", leg_id=leg, **(known | more))


def answered(
    extension: str = "101", leg: str = "l1", call: str = "c1", **more: Any
) -> CallAnswered:
    known: dict[str, Any] = {"callee": Party(extension=extension)}
    return CallAnswered(call_id=call, pbx="main", leg_id=leg, **(known | more))


def leg_ended(
    outcome: LegOutcome, extension: str = "101", leg: str = "l1", call: str = "c1"
) -> LegEnded:
    callee = Party(extension=extension)
    return LegEnded(call_id=call, pbx="main", leg_id=leg, callee=callee, outcome=outcome)


def ended(call: str = "c1") -> CallEnded:
    return CallEnded(call_id=call, pbx="main")


def known_contact(call: str = "c1") -> ContactResolved:
    return ContactResolved(call_id=call, number="447700900123", contact=a_contact())


def unknown_contact(call: str = "c1") -> ContactUnknown:
    return ContactUnknown(call_id=call, number="447700900123")


@dataclass
class Rules:
    """What a site would say: one policy for all CRMs."""

    policy: PopupPolicy
    unknown_policy: PopupPolicy | None = None
    page: str | None = None
    #: For whom the page was asked.
    asked: list[str | None] = field(default_factory=list)

    def known(self, tenant: str, connection: str) -> PopupPolicy:
        return self.policy

    def unknown(self, tenant: str, direction: Direction) -> PopupPolicy | None:
        return self.unknown_policy

    def new_page(
        self, tenant: str, direction: Direction, number: str | None, name: str | None
    ) -> str | None:
        self.asked.append(number)
        return self.page


NO_CARDS = Rules(PopupPolicy(directions=()))


class Watch:
    """A board and what it told, as ``kind extension``."""

    def __init__(self, rules: Rules = NO_CARDS) -> None:
        self.board = PopBoard(rules)
        self.told: list[AgentEvent] = []
        self.now = NOON

    def take(self, *events: Event, tenant: str = "acme", after: timedelta = timedelta(0)) -> Watch:
        self.now = NOON + after
        for event in events:
            told = self.board.take(tenant, event, at=self.now, now=self.now)
            assert {whose for whose, _ in told} <= {tenant}
            self.told += [agent_event for _, agent_event in told]
        return self

    @property
    def words(self) -> list[str]:
        return [f"{event.kind} {event.extension}" for event in self.told]

    def shown(self, extension: str, tenant: str = "acme") -> list[AgentEvent]:
        """All that who connects now is told."""
        return list(self.board.shown(tenant, extension, now=self.now))

    def shows(self, extension: str, tenant: str = "acme") -> list[str | None]:
        """The calls on the screen of who connects now."""
        found = self.shown(extension, tenant)
        return [event.call_id for event in found if event.kind is RINGING]

    @property
    def cards(self) -> list[AgentEvent]:
        return [event for event in self.told if event.kind is POP]


def outgoing(extension: str = "101", call: str = "c1", **more: Any) -> CallStarted:
    known: dict[str, Any] = {
        "call_id": call,
        "direction": Direction.OUTBOUND,
        "caller": Party(extension=extension),
        "dialled": "447700900123",
    }
    return a_call(**(known | more))


def handed_on(kind: TransferKind, by: str, to: str, call: str = "c1") -> CallTransferred:
    return CallTransferred(
        call_id=call, pbx="main", kind=kind, by=Party(extension=by), to=Party(extension=to)
    )


def several(**changes: Any) -> ContactResolved:
    known: dict[str, Any] = {"contact": ADA, "candidates": (ADA, BOB), "ambiguous": True}
    return ContactResolved(call_id="c1", number="447700900123", **(known | changes))


def chosen(card: ContactCard) -> ContactResolved:
    return several(contact=card, ambiguous=False, chosen_by="screen")


def seen(what: Seen, extension: str = "101", call: str = "c1", pop: str | None = None) -> PopSeen:
    return PopSeen(call_id=call, extension=extension, seen=what, pop_id=pop)
