"""What a CRM's users see of a call, and what of their status goes to and fro: of one connection."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints, field_validator

from shared.contracts.agents import AgentStatus, OwnWord
from shared.contracts.calls import Direction
from shared.site.parts import Part, Text


class PopMoment(StrEnum):
    """When a caller's card opens."""

    RINGING = "ringing"
    ANSWERED = "answered"
    ENDED = "ended"


class PopOpens(StrEnum):
    AUTOMATIC = "automatic"
    #: A notice is shown, and the card opens when it is clicked.
    ON_CLICK = "on_click"


class UnknownCallers(StrEnum):
    """What is opened for a caller whom no CRM knows."""

    #: The CRM's page for a new contact, with the number in it, where its template has one.
    CREATE = "create"
    NOTHING = "nothing"


class PopupPolicy(Part):
    """When and how a caller's card opens at the agent."""

    moment: PopMoment = PopMoment.RINGING
    opens: PopOpens = PopOpens.AUTOMATIC
    directions: tuple[Direction, ...] = Field(
        default=(Direction.INBOUND,), description="Calls for which it opens."
    )
    unknown: UnknownCallers = UnknownCallers.CREATE
    in_crm: bool = Field(
        default=True,
        description="Have the CRM show its own card, where its template can (retailCRM, Zendesk), at "
        "`moment` ringing or answered, of inbound and outbound calls.",
    )

    @field_validator("directions")
    @classmethod
    def directions_lead_outside(cls, directions: tuple[Direction, ...]) -> tuple[Direction, ...]:
        if Direction.INTERNAL in directions:
            raise ValueError("no CRM has a card of a colleague: inbound, outbound")
        return directions


class StatusPolicy(Part):
    """Whether the status of agents goes between the CRM and the PBX."""

    heed: bool = Field(default=True, description="What the CRM says of its users goes to the PBX.")
    tell: bool = Field(
        default=False,
        description="What the PBX or the API says of an agent goes to the CRM, where its template "
        "can tell it.",
    )
    words: dict[AgentStatus, OwnWord] = Field(
        default_factory=dict,
        description="Our status → the CRM's, where it is another than its template says.",
    )


class TelephonyPolicy(Part):
    """The CRM's own telephony module: calls out of it, its users' status, its cards."""

    registered: bool = Field(
        default=False,
        description="Keep the module registered as the site says: addresses, extensions, shops. "
        "It is read back and compared every hour.",
    )
    code: Annotated[str, StringConstraints(pattern=r"^[a-z0-9_-]{1,64}$")] = Field(
        default="callmesh", description="Under which the CRM knows the module."
    )
    title: Text = "callmesh"
    logo: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]{1,480}$")] | None = Field(
        default=None, description="Address of an SVG."
    )
    editable: bool = Field(
        default=False, description="Whether the CRM's users may change it there."
    )
