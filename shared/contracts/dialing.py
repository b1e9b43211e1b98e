"""Click-to-call, and what agents are doing."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from shared.contracts.envelope import Command, Event, Query, contract
from shared.ids import Extension, Name
from shared.moments import Instant

#: Words from outside: a shop's code, a campaign's name, who asked. On one line, and no NUL in it.
Word = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]

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

    @property
    def is_final(self) -> bool:
        """Ended or failed."""
        return self in {DialState.ENDED, DialState.FAILED}


class DialReason(StrEnum):
    """Why a dial failed; :attr:`words` says it to the user."""

    AGENT_NO_ANSWER = "agent_no_answer"
    AGENT_UNREACHABLE = "agent_unreachable"
    CUSTOMER_BUSY = "customer_busy"
    CUSTOMER_NO_ANSWER = "customer_no_answer"
    CUSTOMER_UNREACHABLE = "customer_unreachable"
    PBX_REFUSED = "pbx_refused"
    PBX_UNAVAILABLE = "pbx_unavailable"
    TOO_LATE = "too_late"
    INTERRUPTED = "interrupted"
    #: By who ordered it, or by the agent.
    CANCELLED = "cancelled"
    #: One dial at a time per extension.
    ALREADY_DIALLING = "already_dialling"
    #: The tenant's `dialing` does not let this number be dialled.
    NUMBER_REFUSED = "number_refused"
    #: The tenant's `dialing` sets a limit, and it is reached.
    LIMIT_REACHED = "limit_reached"

    @property
    def words(self) -> str:
        """One sentence for the user's screen."""
        return _WORDS[self]


_WORDS = {
    DialReason.AGENT_NO_ANSWER: "Your phone was not picked up.",
    DialReason.AGENT_UNREACHABLE: "Your phone could not be rung: it is not signed in, or in use.",
    DialReason.CUSTOMER_BUSY: "The number is busy.",
    DialReason.CUSTOMER_NO_ANSWER: "Nobody answered at the number.",
    DialReason.CUSTOMER_UNREACHABLE: "The number could not be reached.",
    DialReason.PBX_REFUSED: "The telephone system refused the call.",
    DialReason.PBX_UNAVAILABLE: "The telephone system cannot be reached.",
    DialReason.TOO_LATE: "The order came too late to be dialled.",
    DialReason.INTERRUPTED: "It is not known whether the telephone system took the call.",
    DialReason.CANCELLED: "The call was cancelled.",
    DialReason.ALREADY_DIALLING: "Your phone is dialling already.",
    DialReason.NUMBER_REFUSED: "This number may not be dialled.",
    DialReason.LIMIT_REACHED: "No more calls may be dialled for now.",
}


#: How far a dial is, and why if it failed.
DialStep = tuple[DialState, DialReason | None]

#: How sure a reason is that is read off a call: how far it was seen is a guess, and the more of it
#: is seen the better; what became of the other side is known.
_SURE = {
    DialReason.AGENT_NO_ANSWER: 0,
    DialReason.CUSTOMER_UNREACHABLE: 1,
    DialReason.CUSTOMER_BUSY: 2,
    DialReason.CUSTOMER_NO_ANSWER: 2,
    DialReason.CANCELLED: 2,
}


def is_news(step: DialStep, *, after: DialStep) -> bool:
    """
    Whether *step* leads on from *after*. Events come in any order, states only go up, with two
    exceptions: an order that was given up without knowing, and whose call is then seen; and one
    that failed, and of which somebody tells later why.
    """
    given_up = after == (DialState.FAILED, DialReason.INTERRUPTED)
    return step != after and (given_up or step[0].rank > after[0].rank or _is_surer(step, after))


def _is_surer(step: DialStep, after: DialStep) -> bool:
    (state, reason), (state_before, guess) = step, after
    if not state is state_before is DialState.FAILED or reason is None or guess is None:
        return False
    return guess in _SURE and _SURE.get(reason, -1) > _SURE[guess]


class DialOrder(BaseModel):
    dial_id: str
    extension: Extension = Field(description="The agent's phone; it rings first.")
    number: DialableNumber
    requested_at: Instant
    caller_id: DialableNumber | None = Field(
        default=None,
        description="The number that the customer sees; None: as the PBX does by itself.",
    )
    shop: Word | None = Field(default=None, description="For which shop of the CRM.")
    campaign: Word | None = Field(default=None, description="For which campaign.")
    requested_by: Word | None = Field(
        default=None, description="`key NAME`, or `crm NAME` for a click in the CRM."
    )


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
    message: str | None = Field(
        default=None, description="failed: why, in a sentence for the user."
    )
    caller_id: str | None = None
    shop: str | None = None
    campaign: str | None = None
    requested_by: str | None = None

    def subject(self) -> str:
        return self.dial_id

    @property
    def says_caller_id(self) -> bool:
        """Whether it says which number the customer sees of a call that a PBX has told of."""
        goes_on = self.state is not DialState.REQUESTED and not self.state.is_final
        return goes_on and None not in {self.call_id, self.caller_id}


class DialRecord(DialOrder):
    pbx: Name | None = None
    call_id: str | None = None
    state: DialState
    reason: DialReason | None = None
    message: str | None = Field(
        default=None, description="failed: why, in a sentence for the user."
    )
    changed_at: Instant
    connected_at: Instant | None = Field(default=None, description="When both were there.")
    ended_at: Instant | None = Field(default=None, description="When it had ended or failed.")


class DialWanted(BaseModel):
    """What somebody wants dialled, before anything is checked."""

    extension: Extension = Field(description="The agent's phone; it rings first.")
    number: Annotated[str, StringConstraints(min_length=1, max_length=64)] = Field(
        description="In any spelling; national ones are of the tenant's region."
    )
    pbx: Name | None = Field(default=None, description="Which PBX; without it the agent's.")
    caller_id: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="One of the tenant's own numbers, for the customer to see."
    )
    shop: Word | None = Field(
        default=None,
        description="The CRM's shop: its number is shown. By its name in the site, or by the "
        "number that the CRM has of it; one that nobody knows changes nothing.",
    )
    campaign: Word | None = Field(default=None, description="The campaign: its number is shown.")


@contract("dials.place", version=1, answer=DialRecord)
class PlaceDial(Query[DialRecord], DialWanted):
    """
    Check a number, take the extension's turn, and have it dialled. The same ``dial_id`` again is
    the same dial. Raises at who asks: NotFound (no such agent), ContractError (no such number),
    Forbidden (the tenant's `dialing` refuses it), Conflict (the extension is dialling),
    Throttled (a limit is reached), Unavailable.
    """

    dial_id: str
    requested_by: Word
    expires_at: Instant = Field(
        description="Not dialled later than this: nobody wants a phone to ring out of the blue."
    )

    def subject(self) -> str:
        return self.dial_id


@contract("dials.cancel", version=1, answer=DialRecord)
class CancelDial(Query[DialRecord]):
    """End a dial, whatever it has come to. Conflict where it is over, NotFound."""

    dial_id: str
    requested_by: Word
    extension: Extension | None = Field(
        default=None, description="Who may cancel for this phone alone."
    )

    def subject(self) -> str:
        return self.dial_id


class DialPage(BaseModel):
    dials: tuple[DialRecord, ...]
    next_cursor: str | None = None


@contract("dials.list", version=1, answer=DialPage)
class ListDials(Query[DialPage]):
    """Dials of the tenant, the newest first; all that is said must hold."""

    extension: Extension | None = None
    states: tuple[DialState, ...] = ()
    under_way: bool | None = None
    number: str | None = Field(default=None, description="In any spelling.")
    requested_by: Word | None = None
    campaign: Word | None = None
    shop: Word | None = None
    since: Instant | None = None
    until: Instant | None = None
    dial_ids: Annotated[tuple[str, ...], Field(max_length=500)] | None = None
    limit: Annotated[int, Field(ge=1, le=500)] = 50
    cursor: Annotated[str, StringConstraints(max_length=1000)] | None = None


@contract("dials.fetch", version=1, answer=DialRecord)
class FetchDial(Query[DialRecord]):
    """How far is this order?"""

    dial_id: str

    def subject(self) -> str:
        return self.dial_id
