"""Where a call goes, and why."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    StringConstraints,
    model_validator,
)

from shared.contracts.contacts import ContactCard
from shared.contracts.envelope import Event, Query, contract
from shared.ids import Name


class DestinationKind(StrEnum):
    EXTENSION = "extension"
    QUEUE = "queue"
    GROUP = "group"
    IVR = "ivr"
    ANNOUNCEMENT = "announcement"
    VOICEMAIL = "voicemail"
    EXTERNAL = "external"
    HANGUP = "hangup"


class Tone(StrEnum):
    """What a caller hears who is hung up on: the target of ``hangup``."""

    BUSY = "busy"
    CONGESTION = "congestion"
    #: "This number is not in use."
    UNOBTAINABLE = "unobtainable"
    #: The call ends as any other.
    NONE = "none"

    @property
    def cause(self) -> int:
        """ITU-T Q.850."""
        return {"busy": 17, "congestion": 34, "unobtainable": 1, "none": 16}[self.value]


class Destination(BaseModel):
    """``kind:target``; the PBX's dialplan turns it into a place."""

    model_config = ConfigDict(frozen=True)

    kind: DestinationKind
    #: No comma, quote, blank or control character: it becomes a dialplan variable.
    target: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+*#.-]{1,64}$")]

    @model_validator(mode="after")
    def tone_is_a_tone(self) -> Self:
        if self.kind is DestinationKind.HANGUP and self.target not in set(Tone):
            raise ValueError(f"hangup:{self.target}: the tone is one of {', '.join(Tone)}")
        return self

    def __str__(self) -> str:
        return f"{self.kind}:{self.target}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError (pydantic's) for an unknown kind or a target with other characters."""
        kind, _, target = text.partition(":")
        return cls.model_validate({"kind": kind, "target": target})


class RouteReason(StrEnum):
    """Why the destination is what it is; in all cases but the first two it is the default one."""

    ROW_MATCHED = "row_matched"
    #: No destination yet: the PBX plays `greeting`, takes the caller's digits and asks again.
    DIGITS_WANTED = "digits_wanted"
    NO_ROW_MATCHED = "no_row_matched"
    NO_CONTACT = "no_contact"
    NO_VALUE = "no_value"
    #: The CRM does not know the field, or no record that was found has it: it is another contact
    #: type's, or misspelt. (Some CRMs leave out what is empty.)
    NO_FIELD = "no_field"
    #: A row matched, but whom it leads to is away or busy, and so for every row after it.
    NOBODY_FREE = "nobody_free"
    NUMBER_WITHHELD = "number_withheld"
    OUT_OF_TIME = "out_of_time"
    CRM_FAILED = "crm_failed"
    NO_RULE = "no_rule"


class TraceStep(BaseModel):
    """One thing the decision looked at."""

    model_config = ConfigDict(frozen=True)

    step: str = Field(
        description="What was done: rule, contact, manager, value, row, split, default."
    )
    detail: str
    after_ms: float = Field(description="Milliseconds since the question.")


class RouteDecision(BaseModel):
    model_config = ConfigDict(frozen=True)

    destination: Destination | None = Field(
        default=None, description="None: no rule is set for this DID, the dialplan goes on."
    )
    reason: RouteReason
    rule: Name | None = Field(
        default=None, description="The rule that decided: the last one, where rules lead to rules."
    )
    version: int | None = Field(default=None, description="The version of that rule.")
    row: int | None = Field(default=None, description="The row that matched, from 1.")
    field: str | None = None
    value: JsonValue = None
    contact: ContactCard | None = None
    greeting: str | None = Field(
        default=None, description="The recording to play while the caller enters digits."
    )
    priority: int | None = Field(
        default=None, description="Of the caller in a queue; the higher is served first."
    )
    voicemail: bool | None = Field(
        default=None,
        description="Whether an extension that does not answer has the call go to its voicemail; "
        "None: as the PBX is set.",
    )
    attributes: dict[str, str] = Field(
        default_factory=dict, description="What the rule hands to the PBX: names and texts."
    )
    took_ms: float = 0.0
    trace: tuple[TraceStep, ...] = ()


@contract("routing.decide", version=1, answer=RouteDecision)
class DecideRoute(Query[RouteDecision]):
    """Where should this call go?"""

    pbx: Name | None = None
    call_id: str | None = None
    did: str
    ivr: Name | None = Field(default=None, description="The menu that asks, where it is one.")
    caller: str
    dtmf: Annotated[str, StringConstraints(pattern=r"^[0-9*#A-D]{0,32}$")] = ""
    collected: bool = Field(
        default=False,
        description="The caller was asked for digits: without any, none is waited for any more.",
    )
    within: timedelta | None = Field(
        default=None, description="Time budget; without it the rule's own."
    )


@contract("calls.routed", version=1)
class CallRouted(Event):
    """A route was decided for a call."""

    call_id: str
    pbx: Name
    did: str
    decision: RouteDecision

    def subject(self) -> str:
        return self.call_id
