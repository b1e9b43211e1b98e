"""
What comes in by HTTP.

The generic hook is the door for every PBX without an adapter of its own: a few flat fields, one
event or a batch. Its shape is public: docs/reference/hooks.md.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from shared.contracts.calls import Direction, Disposition, HangupBy, LegOutcome, Text
from shared.contracts.envelope import Event, contract
from shared.ids import Extension, Name
from shared.moments import Instant


class HookKind(StrEnum):
    GENERIC = "generic"


@contract("hooks.received", version=1)
class HookReceived(Event):
    """A PBX's request, authenticated and kept as it came; ``ingest`` reads it."""

    pbx: Name
    kind: HookKind
    body: str


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
    ENDED = "ended"
    RECORDING = "recording"


class HookEvent(BaseModel):
    """
    One thing that happened to a call. ``event``, ``call`` and ``at`` are always needed;
    what else is needed depends on ``event``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    event: HookEventKind = Field(description="What happened.")
    call: Annotated[str, StringConstraints(min_length=1, max_length=128)] = Field(
        description="The PBX's own id of the call; the same in every event of the call."
    )
    at: Instant = Field(description="When it happened: ISO 8601 with a zone.")
    direction: Direction | None = Field(default=None, description="started: needed.")
    caller: Text | None = Field(default=None, description="started: needed. The calling number.")
    caller_name: Text | None = Field(default=None, description="As the PBX shows it.")
    dialled: Text | None = Field(
        default=None, description="started: the DID, or the number dialled."
    )
    extension: Extension | None = Field(
        default=None,
        description="ringing, answered, leg_ended, held, resumed: the agent's phone; "
        "this or ``number`` is needed.",
    )
    number: Text | None = Field(
        default=None, description="As ``extension``, where the phone is not one of the PBX's."
    )
    queue: Text | None = Field(default=None, description="queued: needed.")
    outcome: LegOutcome | None = Field(default=None, description="leg_ended: needed.")
    disposition: Disposition | None = Field(default=None, description="ended: where known.")
    talk_seconds: Annotated[float, Field(ge=0, le=7 * 86400)] | None = Field(
        default=None, description="ended: where known."
    )
    hangup_by: HangupBy | None = Field(default=None, description="ended: where known.")
    recording: Annotated[str, StringConstraints(max_length=2048)] | None = Field(
        default=None, description="recording: needed. File or URL."
    )

    @model_validator(mode="after")
    def has_what_its_kind_needs(self) -> Self:
        missing = [name for name in NEEDS[self.event] if getattr(self, name) is None]
        if self.event in NEEDS_A_PHONE and self.extension is None and self.number is None:
            missing.append("extension or number")
        if missing:
            raise ValueError(f"event {self.event}: {', '.join(missing)} is missing")
        return self


NEEDS: dict[HookEventKind, tuple[str, ...]] = {
    HookEventKind.STARTED: ("direction", "caller"),
    HookEventKind.QUEUED: ("queue",),
    HookEventKind.RINGING: (),
    HookEventKind.ANSWERED: (),
    HookEventKind.HELD: (),
    HookEventKind.RESUMED: (),
    HookEventKind.LEG_ENDED: ("outcome",),
    HookEventKind.ENDED: (),
    HookEventKind.RECORDING: ("recording",),
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


class HookBatch(BaseModel):
    """The body of the generic hook."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    events: Annotated[tuple[HookEvent, ...], Field(min_length=1, max_length=500)]
