"""Click-to-call, and what agents are doing."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from shared.contracts.envelope import Command, Event, Query, contract
from shared.ids import Extension, Name
from shared.moments import Instant

#: Digits with an optional plus; a PBX also takes * and # (feature codes are not for CRMs).
DialableNumber = Annotated[str, StringConstraints(pattern=r"^\+?[0-9]{2,20}$")]


class DialState(StrEnum):
    REQUESTED = "requested"
    AGENT_RINGING = "agent_ringing"
    AGENT_ANSWERED = "agent_answered"
    CUSTOMER_RINGING = "customer_ringing"
    CONNECTED = "connected"
    ENDED = "ended"
    FAILED = "failed"

    @property
    def rank(self) -> int:
        """States only go up; both ends are the highest."""
        return min(list(DialState).index(self), list(DialState).index(DialState.ENDED))


class DialReason(StrEnum):
    """Why a dial failed, in words that a user understands."""

    AGENT_NO_ANSWER = "agent_no_answer"
    AGENT_UNREACHABLE = "agent_unreachable"
    CUSTOMER_BUSY = "customer_busy"
    CUSTOMER_NO_ANSWER = "customer_no_answer"
    CUSTOMER_UNREACHABLE = "customer_unreachable"
    PBX_REFUSED = "pbx_refused"
    PBX_UNAVAILABLE = "pbx_unavailable"
    TOO_LATE = "too_late"
    INTERRUPTED = "interrupted"


#: How far a dial is, and why if it failed.
DialStep = tuple[DialState, DialReason | None]


def is_news(step: DialStep, *, after: DialStep) -> bool:
    """
    Whether *step* leads on from *after*. Events come in any order, states only go up, with one
    exception: an order that was given up without knowing, and whose call is then seen.
    """
    given_up = after == (DialState.FAILED, DialReason.INTERRUPTED)
    return step != after and (given_up or step[0].rank > after[0].rank)


class DialOrder(BaseModel):
    dial_id: str
    extension: Extension = Field(description="The agent's phone; it rings first.")
    number: DialableNumber
    requested_at: Instant


@contract("dials.order", version=1)
class DialNumber(Command, DialOrder):
    """Ring an agent's phone, then the number."""

    pbx: Name | None = Field(default=None, description="Which PBX; without it the agent's.")
    expires_at: Instant = Field(
        description="Not dialled later than this: nobody wants a phone to ring out of the blue."
    )

    def subject(self) -> str:
        return self.dial_id


@contract("dials.state_changed", version=1)
class DialStateChanged(Event):
    """A click-to-call order went a step further."""

    dial_id: str
    call_id: str | None = None
    extension: Extension
    number: str
    state: DialState
    reason: DialReason | None = None

    def subject(self) -> str:
        return self.dial_id


class DialRecord(DialOrder):
    pbx: Name | None = None
    call_id: str | None = None
    state: DialState
    reason: DialReason | None = None
    changed_at: Instant


@contract("dials.fetch", version=1, answer=DialRecord)
class FetchDial(Query[DialRecord]):
    """How far is this order?"""

    dial_id: str

    def subject(self) -> str:
        return self.dial_id
