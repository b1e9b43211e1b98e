"""
What comes in by HTTP.

The generic hook is the door for every PBX without an adapter of its own: a few flat fields, one
event or a batch. Its shape is public: docs/reference/hooks.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.contracts.agents import AgentStatus
from shared.contracts.calls import (
    Direction,
    Disposition,
    HangupBy,
    LegOutcome,
    Summary,
    Text,
    Transcription,
    TransferKind,
)
from shared.contracts.envelope import Event, contract
from shared.ids import Extension, Name
from shared.moments import Instant

#: The same at both doors, HTTP and the broker.
MAX_HOOK_BYTES = 512 * 1024
MOST_EVENTS = 500
#: A call in one event: none is longer.
LONGEST_CALL = timedelta(days=7)
#: PBXs whose records have whole seconds round each time by itself.
_ROUNDING = timedelta(seconds=1)


class HookKind(StrEnum):
    GENERIC = "generic"
    FREESWITCH = "freeswitch"
    YEASTAR = "yeastar"
    THREECX = "threecx"
    WAZO = "wazo"
    UIS = "uis"
    PBXWARE = "pbxware"
    ASTERISK = "asterisk"


@contract("hooks.received", version=1)
class HookReceived(Event):
    """A PBX's request, authenticated and kept as it came; ``ingest`` reads it."""

    pbx: Name
    kind: HookKind
    body: str
    content_type: str = ""
    query: dict[str, str] = Field(
        default_factory=dict, description="Of its URL, without the key that let it in."
    )
    method: str = "POST"


class ReportedContact(BaseModel):
    """A contact that a CRM says was changed, by its id, its numbers, or both."""

    model_config = ConfigDict(frozen=True)

    contact_id: str | None = None
    numbers: tuple[str, ...] = Field(default=(), description="Now and before.")


@contract("crm_hooks.received", version=1)
class CrmHookReceived(Event):
    """
    What a CRM's request said, its signature checked. The request itself is not kept: CRMs put
    tokens into it.
    """

    connection: Name
    contacts: tuple[ReportedContact, ...] = Field(
        default=(),
        max_length=2000,
        description="Who changed; empty: somebody, it does not say who.",
    )


class HookEventKind(StrEnum):
    STARTED = "started"
    QUEUED = "queued"
    RINGING = "ringing"
    ANSWERED = "answered"
    HELD = "held"
    RESUMED = "resumed"
    LEG_ENDED = "leg_ended"
    TRANSFERRED = "transferred"
    ENDED = "ended"
    RECORDING = "recording"
    CDR = "cdr"
    SUMMARY = "summary"
    AGENT_STATUS = "agent_status"


class HookEvent(BaseModel):
    """
    One thing that happened to a call, a whole call (``cdr``), or what an agent is doing now.
    ``event`` and ``at`` are always needed, ``call`` of all that is about a call; what else is
    needed depends on ``event``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: HookEventKind = Field(description="What happened.")
    call: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None,
        description="The PBX's own id of the call; the same in every event of the call. "
        "agent_status: left out.",
    )
    at: Instant = Field(
        description="When it happened: ISO 8601 with a zone. cdr: when the call ended."
    )
    direction: Direction | None = Field(default=None, description="started, cdr: needed.")
    caller: Text | None = Field(
        default=None,
        description="started, cdr: needed. The calling number; empty where it is withheld.",
    )
    caller_name: Text | None = Field(default=None, description="As the PBX shows it.")
    dialled: Text | None = Field(
        default=None, description="started, cdr: the DID, or the number dialled."
    )
    dial_id: Annotated[str, StringConstraints(max_length=128)] | None = Field(
        default=None, description="started, cdr: the click-to-call order behind the call."
    )
    extension: Extension | None = Field(
        default=None,
        description="ringing, answered, leg_ended, held, resumed: the agent's phone; "
        "this or ``number`` is needed. started, cdr: the agent's phone that called; cdr of an "
        "inbound call: that answered, or rang. agent_status: needed.",
    )
    number: Text | None = Field(
        default=None,
        description="As ``extension``, where the phone is not one of the PBX's. cdr of another "
        "than an inbound call: who was called, where that is not ``dialled``.",
    )
    own_phone: bool = Field(
        default=False,
        description="ringing, answered, leg_ended: it is the agent's own phone, which "
        "click-to-call rings first.",
    )
    queue: Text | None = Field(
        default=None, description="queued: needed. ringing, cdr: the queue it came through."
    )
    kind: TransferKind | None = Field(default=None, description="transferred: needed.")
    by: Annotated[Text, StringConstraints(min_length=1)] | None = Field(
        default=None, description="transferred: needed. Extension or number that passed it on."
    )
    to: Annotated[Text, StringConstraints(min_length=1)] | None = Field(
        default=None, description="transferred: needed. Extension or number it was passed on to."
    )
    outcome: LegOutcome | None = Field(default=None, description="leg_ended: needed.")
    disposition: Disposition | None = Field(
        default=None, description="ended, cdr: where known; else it follows from the rest."
    )
    talk_seconds: Annotated[float, Field(ge=0, le=LONGEST_CALL.total_seconds())] | None = Field(
        default=None, description="ended, cdr: where known."
    )
    hangup_by: HangupBy | None = Field(default=None, description="ended, cdr: where known.")
    recording: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        default=None, description="recording: needed. cdr: where there is one. File or URL."
    )
    started_at: Instant | None = Field(default=None, description="cdr: needed.")
    rang_at: Instant | None = Field(
        default=None, description="cdr: when the phones began to ring, where not at the start."
    )
    answered_at: Instant | None = Field(
        default=None,
        description="cdr: without it ``talk_seconds`` before the end, where it was answered.",
    )
    rang: Annotated[
        tuple[Annotated[Text, StringConstraints(min_length=1)], ...], Field(max_length=100)
    ] = Field(default=(), description="cdr: extensions or numbers that rang.")
    answered_by: Annotated[Text, StringConstraints(min_length=1)] | None = Field(
        default=None,
        description="cdr: extension or number that answered, where that is not the one of "
        "``extension`` or ``number``.",
    )
    summary: Annotated[Summary, StringConstraints(min_length=1)] | None = Field(
        default=None,
        description="summary: what was said in short; this, ``transcription`` or ``sentiment`` is "
        "needed, and what is left out stays as it was told before.",
    )
    transcription: Annotated[Transcription, StringConstraints(min_length=1)] | None = Field(
        default=None, description="summary: what was said word by word."
    )
    sentiment: Annotated[Text, StringConstraints(min_length=1)] | None = Field(
        default=None, description="summary: how it was said: `positive`, `0.8`."
    )
    status: AgentStatus | None = Field(default=None, description="agent_status: needed.")

    @model_validator(mode="after")
    def has_what_its_kind_needs(self) -> Self:
        needed = NEEDS[self.event]
        if self.event not in NEEDS_NO_CALL:
            needed = ("call", *needed)
        missing = [name for name in needed if getattr(self, name) is None]
        if self.event in NEEDS_A_PHONE and self.extension is None and self.number is None:
            missing.append("extension or number")
        if self.event is HookEventKind.SUMMARY and not (
            self.summary or self.transcription or self.sentiment
        ):
            missing.append("summary, transcription or sentiment")
        if missing:
            raise ValueError(f"event {self.event}: {', '.join(missing)} is missing")
        if self.event is HookEventKind.CDR and (fault := next(self._faults_of_a_cdr(), None)):
            raise ValueError(f"event cdr: {fault}")
        return self

    @property
    def was_answered(self) -> bool:
        """Of a ``cdr``: whether somebody picked up; a voicemail is nobody."""
        if self.disposition is not None:
            return self.disposition is Disposition.ANSWERED
        return self.answered_at is not None or self.answered_by is not None

    def _faults_of_a_cdr(self) -> Iterator[str]:
        began = self.started_at or self.at
        if began - self.at > _ROUNDING:
            yield "started_at is after at; are both in the right zone?"
        if self.at - began > LONGEST_CALL:
            yield f"started_at is more than {LONGEST_CALL.days} days before at"
        for name in ("rang_at", "answered_at"):
            moment = getattr(self, name) or began
            if began - moment > _ROUNDING or moment - self.at > _ROUNDING:
                yield f"{name} is not between started_at and at; are all in the right zone?"
        if self.was_answered and self.answered_at is None and self.talk_seconds is None:
            yield "answered_at or talk_seconds is missing, as the call was answered"


NEEDS: dict[HookEventKind, tuple[str, ...]] = {
    HookEventKind.STARTED: ("direction", "caller"),
    HookEventKind.QUEUED: ("queue",),
    HookEventKind.RINGING: (),
    HookEventKind.ANSWERED: (),
    HookEventKind.HELD: (),
    HookEventKind.RESUMED: (),
    HookEventKind.LEG_ENDED: ("outcome",),
    HookEventKind.TRANSFERRED: ("kind", "by", "to"),
    HookEventKind.ENDED: (),
    HookEventKind.RECORDING: ("recording",),
    HookEventKind.CDR: ("started_at", "direction", "caller"),
    HookEventKind.SUMMARY: (),
    HookEventKind.AGENT_STATUS: ("extension", "status"),
}
NEEDS_A_PHONE = frozenset(
    {
        HookEventKind.RINGING,
        HookEventKind.ANSWERED,
        HookEventKind.HELD,
        HookEventKind.RESUMED,
        HookEventKind.LEG_ENDED,
    }
)
#: All others are about a call.
NEEDS_NO_CALL = frozenset({HookEventKind.AGENT_STATUS})


class HookBatch(BaseModel):
    """The body of the generic hook."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events: Annotated[tuple[HookEvent, ...], Field(min_length=1, max_length=MOST_EVENTS)]
