"""Where a call goes, and why."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints

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


class Destination(BaseModel):
    """``kind:target``; the PBX's dialplan turns it into a place."""

    model_config = ConfigDict(frozen=True)

    kind: DestinationKind
    #: No comma, quote, blank or control character: it becomes a dialplan variable.
    target: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_+*#.-]{1,64}$")]

    def __str__(self) -> str:
        return f"{self.kind}:{self.target}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError (pydantic's) for an unknown kind or a target with other characters."""
        kind, _, target = text.partition(":")
        return cls.model_validate({"kind": kind, "target": target})


class RouteReason(StrEnum):
    """Why the destination is what it is; all but the first mean the default destination."""

    ROW_MATCHED = "row_matched"
    NO_ROW_MATCHED = "no_row_matched"
    NO_CONTACT = "no_contact"
    NO_VALUE = "no_value"
    NUMBER_WITHHELD = "number_withheld"
    OUT_OF_TIME = "out_of_time"
    CRM_FAILED = "crm_failed"
    NO_RULE = "no_rule"


class TraceStep(BaseModel):
    """One thing the decision looked at."""

    model_config = ConfigDict(frozen=True)

    step: str = Field(description="What was done: contact, value, row, default.")
    detail: str
    after_ms: float = Field(description="Milliseconds since the question.")


class RouteDecision(BaseModel):
    model_config = ConfigDict(frozen=True)

    destination: Destination | None = Field(
        default=None, description="None: no rule is set for this DID, the dialplan goes on."
    )
    reason: RouteReason
    rule: Name | None = None
    row: int | None = Field(default=None, description="The row that matched, from 1.")
    field: str | None = None
    value: JsonValue = None
    contact: ContactCard | None = None
    took_ms: float = 0.0
    trace: tuple[TraceStep, ...] = ()


@contract("routing.decide", version=1, answer=RouteDecision)
class DecideRoute(Query[RouteDecision]):
    """Where should this call go?"""

    pbx: Name | None = None
    call_id: str | None = None
    did: str
    caller: str
    dtmf: Annotated[str, StringConstraints(pattern=r"^[0-9*#A-D]{0,32}$")] = ""
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
