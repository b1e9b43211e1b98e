"""What screens are told. Pure."""

from __future__ import annotations

from enum import StrEnum

from pydantic import BaseModel, Field

from shared.contracts.agents import AgentStatus
from shared.contracts.calls import Direction
from shared.contracts.contacts import ContactCard
from shared.contracts.dialing import DialReason, DialState
from shared.contracts.screens import Seen
from shared.ids import derived_id
from shared.moments import Instant
from shared.site.telling import PopOpens


class AgentEventKind(StrEnum):
    RINGING = "ringing"
    #: The agent calls somebody.
    OUTGOING = "outgoing"
    CONTACT = "contact"
    ANSWERED = "answered"
    CLOSED = "closed"
    #: Open this card now.
    POP = "pop"
    #: A pop was opened or dismissed on one of the agent's devices.
    SEEN = "seen"
    DIAL = "dial"
    STATUS = "status"
    #: What was shown before is not known any more: forget it. What is there now follows.
    RESET = "reset"
    #: The client did not keep up; the stream ends. Connect again with the last id.
    BEHIND = "behind"


class AgentEvent(BaseModel):
    """What an agent's screen is told. ``call_id`` says which pop it is about."""

    kind: AgentEventKind
    id: str = Field(
        description="The same from every replica and after a restart: drop what you have had."
    )
    position: str | None = Field(
        default=None,
        description="Where to go on from for who has had it, at any gateway: the last id of a "
        "server-sent event. Without it: from where you were before.",
    )
    at: Instant | None = Field(default=None, description="When it happened.")
    extension: str | None = Field(default=None, description="Whose screen.")
    call_id: str | None = None
    direction: Direction | None = None
    caller_number: str | None = Field(
        default=None, description="The other party's: of an outgoing call, whom the agent calls."
    )
    caller_name: str | None = None
    queue: str | None = None
    contact: ContactCard | None = Field(
        default=None, description="The caller's card, as soon as it is known."
    )
    contact_known: bool | None = Field(
        default=None, description="False: the CRM was asked and does not know the number."
    )
    candidates: tuple[ContactCard, ...] | None = Field(
        default=None, description="Where several match: all, likeliest first."
    )
    ambiguous: bool | None = Field(
        default=None,
        description="True: the agent has to choose among `candidates`; `contact` is the first.",
    )
    opens: PopOpens | None = Field(
        default=None,
        description="pop: by itself, or when the agent clicks on a notice of it.",
    )
    page_url: str | None = Field(
        default=None,
        description="pop: what to open. Without it the agent chooses among `candidates`, or nobody "
        "is known.",
    )
    create_url: str | None = Field(
        default=None, description="pop: where nobody is known, the CRM's page for a new contact."
    )
    seen: Seen | None = Field(
        default=None,
        description="What became of the pop on one of the agent's devices. pop: it was before; do "
        "not open it by itself again.",
    )
    reason: str | None = Field(default=None, description="closed: why.")
    dial_id: str | None = None
    dial_state: DialState | None = None
    dial_reason: DialReason | None = None
    status: AgentStatus | None = None
    own_status: str | None = Field(
        default=None, description="status: the PBX's or the CRM's own word."
    )

    @property
    def event_name(self) -> str:
        """The name of the server-sent event."""
        return self.kind.value


def event_id(*about: str) -> str:
    """The same for the same words."""
    return derived_id("screen", *about).hex
