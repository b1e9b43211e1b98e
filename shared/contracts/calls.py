"""
Calls, in words that hold for every PBX.

A *call* lasts from the first channel to the last. A *leg* is one phone or line that the call was
offered to. Events say what was seen; :class:`CallRecord` is what they add up to.
"""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from shared.contracts.contacts import ContactCard
from shared.contracts.envelope import Event, Query, contract
from shared.contracts.routing import RouteDecision
from shared.ids import Name
from shared.moments import Instant

#: Numbers, names and ids come from outside; none is longer than this in any PBX we read.
Text = Annotated[str, StringConstraints(max_length=256)]
#: What was said: in short, and an hour of it word by word with room to spare.
Summary = Annotated[str, StringConstraints(max_length=10_000)]
Transcription = Annotated[str, StringConstraints(max_length=100_000)]


class Direction(StrEnum):
    INBOUND = "inbound"
    OUTBOUND = "outbound"
    INTERNAL = "internal"


class Disposition(StrEnum):
    ANSWERED = "answered"
    MISSED = "missed"
    BUSY = "busy"
    FAILED = "failed"
    VOICEMAIL = "voicemail"


class LegOutcome(StrEnum):
    ANSWERED = "answered"
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    ELSEWHERE = "elsewhere"  # another phone was faster
    CANCELLED = "cancelled"  # the caller gave up
    UNREACHABLE = "unreachable"


class Party(BaseModel):
    """Somebody at one end: a phone of ours by its extension, anybody else by number."""

    model_config = ConfigDict(frozen=True)

    extension: Text | None = None
    number: Text | None = None
    name: Text | None = None

    @property
    def label(self) -> str:
        return self.extension or self.number or "unknown"


class CallEvent(Event):
    """Base of what is seen of a call."""

    call_id: str = Field(description="Ours; the same for every replica that sees the call.")
    pbx: Name = Field(description="The tenant's PBX connection that saw it.")

    def subject(self) -> str:
        return self.call_id


@contract("calls.started", version=1)
class CallStarted(CallEvent):
    """The first leg of a call exists; nobody has answered."""

    pbx_call_id: Text = Field(description="The PBX's own identity; Asterisk: Linkedid.")
    direction: Direction
    caller: Party
    dialled: Text | None = Field(
        default=None, description="The DID of an inbound call, else the number dialled."
    )
    dial_id: str | None = Field(default=None, description="The click-to-call order behind it.")


@contract("calls.queued", version=1)
class CallQueued(CallEvent):
    """The caller waits in a queue."""

    queue: Text
    position: int | None = None


@contract("calls.ringing", version=1)
class CallRinging(CallEvent):
    """A phone rings: the moment of the screen pop."""

    leg_id: Text
    callee: Party
    caller: Party = Field(description="As the ringing phone shows it.")
    queue: Text | None = None
    own_phone: bool = Field(
        default=False, description="The agent's own phone, rung first by click-to-call."
    )


@contract("calls.answered", version=1)
class CallAnswered(CallEvent):
    """A leg was picked up."""

    leg_id: Text
    callee: Party
    own_phone: bool = False
    caller: Party | None = Field(
        default=None,
        description="Who is there, where the phone did not ring for this call: one that was asked "
        "in a call of its own, and then joined to this one.",
    )


@contract("calls.held", version=1)
class CallHeld(CallEvent):
    """A party put the other on hold."""

    leg_id: Text


@contract("calls.resumed", version=1)
class CallResumed(CallEvent):
    """The hold is over."""

    leg_id: Text


class TransferKind(StrEnum):
    BLIND = "blind"
    ATTENDED = "attended"


@contract("calls.transferred", version=1)
class CallTransferred(CallEvent):
    """A party passed the call on."""

    kind: TransferKind
    by: Party
    to: Party


@contract("calls.leg_ended", version=1)
class LegEnded(CallEvent):
    """A leg is over, with what became of it."""

    leg_id: Text
    callee: Party
    outcome: LegOutcome
    own_phone: bool = False


HangupBy = Literal["caller", "callee", "pbx"]


class EndKnown(StrEnum):
    """How an end is known, the best first: of several ends of a call the better one holds."""

    SEEN = "seen"  # by who saw the call from its beginning
    REPORT = "report"  # the PBX's own record of the call, asked or sent after it
    JOINED = "joined"  # by who came to it when it was under way
    RESYNC = "resync"  # it was gone when the connection to the PBX was back
    SILENCE = "silence"  # nobody told; nothing was heard of it for too long

    @property
    def rank(self) -> int:
        return list(EndKnown).index(self)


@contract("calls.ended", version=1)
class CallEnded(CallEvent):
    """The last leg of the call is gone."""

    disposition: Disposition | None = Field(
        default=None, description="Where the PBX knows it; else it follows from the legs."
    )
    talk_time: timedelta | None = Field(
        default=None,
        description="Time that the outside party spent in conversation, holds left out, where "
        "the PBX tells it; else it follows from the legs.",
    )
    hangup_by: HangupBy | None = None
    cause: int | None = Field(default=None, description="ITU-T Q.850, where the PBX gives one.")
    known: EndKnown = Field(
        default=EndKnown.SEEN, description="How the end is known: `seen`, or reconciled later."
    )


@contract("pbx.resynced", version=1)
class PbxResynced(Event):
    """
    A connection to a PBX was opened, and this is what goes on there: whatever else was thought to
    be going on has ended meanwhile.
    """

    pbx: Name
    live: tuple[Text, ...] = Field(description="The PBX's own ids of the calls that go on.")
    heard_until: Instant = Field(
        description="When the connection was last known to be up: what ended did so after it."
    )

    def subject(self) -> str:
        return f"pbx:{self.pbx}"


@contract("calls.recording_ready", version=1)
class RecordingReady(CallEvent):
    """The PBX has, or is writing, a recording of the call."""

    recording: Annotated[str, StringConstraints(max_length=2048)] = Field(
        description="File or URL, as the PBX names it."
    )


@contract("calls.summarised", version=1)
class CallSummarised(CallEvent):
    """What was said in the call, as the PBX or a service of speech tells it; the last word holds."""

    summary: Summary | None = None
    transcription: Transcription | None = None
    sentiment: Text | None = Field(
        default=None, description="As who tells it calls it: `positive`, `0.8`."
    )


class LegRecord(BaseModel):
    leg_id: str
    callee: Party
    queue: str | None = None
    own_phone: bool = False
    rang_at: Instant | None = None
    answered_at: Instant | None = None
    ended_at: Instant | None = None
    outcome: LegOutcome | None = None


class TransferRecord(BaseModel):
    at: Instant
    kind: TransferKind
    by: Party
    to: Party


class EntryState(StrEnum):
    """Where a CRM entry stands."""

    DUE = "due"  # waits for its time, or for its turn
    SENDING = "sending"
    SENT = "sent"
    UPDATED = "updated"  # sent, and changed since then
    MAYBE_SENT = "maybe_sent"  # nobody knows what became of a try: the CRM is asked first
    RECONNECT = "waiting_for_reconnect"  # until a person connects the CRM again
    FAILED = "failed"  # the CRM did not take it; it is tried again
    DEAD = "dead"  # it is not tried again by itself: somebody has to look
    NOT_WANTED = "not_wanted"  # there is none: the policy of the connection says no

    @property
    def is_there(self) -> bool:
        """Whether the CRM has it."""
        return self in {EntryState.SENT, EntryState.UPDATED}


class EntryRecord(BaseModel):
    """A call's entry in one CRM, or that of one of its agents."""

    connection: Name
    agent: str | None = Field(
        default=None, description="Extension, where the connection has an entry per agent."
    )
    state: EntryState
    entry_id: str | None = None
    attempts: int = 0
    updates: int = Field(default=0, description="How often it was changed since it was sent.")
    reason: str | None = Field(
        default=None,
        description="Why it has not been sent yet, or never will be; of one that was sent, why "
        "what became known later is not in it.",
    )


class CallRecord(BaseModel):
    """What the events of one call add up to, however often and in whatever order they came."""

    call_id: str
    pbx: Name | None = None
    pbx_call_id: str | None = None
    dial_id: str | None = None
    direction: Direction | None = None
    caller: Party | None = None
    dialled: str | None = None
    caller_id: str | None = Field(
        default=None,
        description="The number that the customer of a click-to-call sees, where its order says.",
    )
    queue: str | None = None
    started_at: Instant | None = None
    answered_at: Instant | None = None
    ended_at: Instant | None = None
    disposition: Disposition | None = None
    hangup_by: HangupBy | None = None
    end_known: EndKnown | None = Field(
        default=None, description="How the end is known; other than `seen`: reconciled."
    )
    wait_time: timedelta = Field(default=timedelta(0), description="First ring or queue to answer.")
    hold_time: timedelta = timedelta(0)
    talk_time: timedelta = timedelta(0)
    legs: tuple[LegRecord, ...] = ()
    transfers: tuple[TransferRecord, ...] = ()
    recordings: tuple[str, ...] = ()
    summary: str | None = None
    transcription: str | None = None
    sentiment: str | None = None
    route: RouteDecision | None = None
    contact: ContactCard | None = Field(
        default=None, description="None also where several match and nobody has chosen."
    )
    candidates: tuple[ContactCard, ...] = Field(
        default=(), description="All that match, likeliest first."
    )
    chosen_by: str | None = Field(
        default=None, description="The API key by which a person chose the contact."
    )
    contact_known: bool | None = Field(
        default=None, description="None: nobody has asked the CRM yet, or it could not be asked."
    )
    entries: tuple[EntryRecord, ...] = ()

    @property
    def outside_number(self) -> str | None:
        """The number that a CRM would know: the caller's, or on an outbound call the dialled one."""
        if self.direction is Direction.OUTBOUND:
            return self.dialled
        return self.caller.number if self.caller else None


class CallPage(BaseModel):
    calls: tuple[CallRecord, ...]
    next_cursor: str | None = Field(default=None, description="Pass it on to read the next page.")


@contract("calls.fetch", version=1, answer=CallRecord)
class FetchCall(Query[CallRecord]):
    """What is known of one call?"""

    call_id: str

    def subject(self) -> str:
        return self.call_id


@contract("calls.list", version=1, answer=CallPage)
class ListCalls(Query[CallPage]):
    """The tenant's calls, newest first."""

    since: Instant | None = None
    until: Instant | None = None
    limit: int = Field(default=50, ge=1, le=500)
    cursor: str | None = None
