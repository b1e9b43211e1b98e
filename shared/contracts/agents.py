"""What agents are doing, told by one side and to the others."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from shared.contracts.envelope import Command, Event, Query, contract
from shared.ids import Extension, Name
from shared.moments import Instant

#: A PBX's or a CRM's own word for a status.
OwnWord = Annotated[str, StringConstraints(min_length=1, max_length=100)]
#: A PBX or CRM that was away for longer is not told what an agent did before.
STATUS_HOLDS = timedelta(minutes=2)


class AgentStatus(StrEnum):
    FREE = "free"
    BUSY = "busy"
    BREAK = "break"
    DINNER = "dinner"
    OFFLINE = "offline"


class Side(StrEnum):
    """Who told it."""

    PBX = "pbx"
    CRM = "crm"
    #: A person or a program, by an API key.
    API = "api"


@contract("agents.status_changed", version=1)
class AgentStatusChanged(Event):
    """
    An agent became free, busy, away, as one side tells it. Whether it is news, or the echo of what
    that side was told, the dialer finds out; it tells the other sides.
    """

    extension: Extension
    status: AgentStatus
    source: Side = Side.PBX
    source_name: Name | None = Field(
        default=None, description="The PBX or CRM connection, or the API key."
    )
    own: OwnWord | None = Field(
        default=None, description="The side's own word, where it has statuses of its own."
    )

    def subject(self) -> str:
        return f"agent:{self.extension}"


@contract("agents.status_settled", version=1)
class AgentStatusSettled(Event):
    """
    What an agent is doing, all that the sides said being weighed. It comes when that changes; and
    the same again, with the same ``since``, when a PBX said something that did not count: the echo
    of a word that it has no word for, or one that came late.
    """

    extension: Extension
    status: AgentStatus
    own: OwnWord | None = Field(default=None, description="The own word of who told it.")
    since: Instant
    source: Side
    source_name: Name | None = Field(
        default=None, description="The PBX or CRM connection, or the API key."
    )
    weighed: Instant = Field(description="What sides said until then is in it.")

    def subject(self) -> str:
        return f"agent:{self.extension}"


@contract("agents.set_status", version=1)
class SetAgentStatus(Command):
    """Tell the PBX what an agent is doing; not done once it is older than ``STATUS_HOLDS``."""

    extension: Extension
    status: AgentStatus
    own: OwnWord | None = Field(
        default=None, description="The PBX's own word for it, where it has one; `status` else."
    )

    def subject(self) -> str:
        return f"agent:{self.extension}"


@contract("agents.tell_crm", version=1)
class TellCrmStatus(Command):
    """Tell a CRM what an agent is doing; not done once it is older than ``STATUS_HOLDS``."""

    connection: Name
    extension: Extension
    status: AgentStatus
    since: Instant

    def subject(self) -> str:
        return f"agent:{self.extension}"


@contract("agents.crm_told", version=1)
class CrmStatusTold(Event):
    """What became of ``TellCrmStatus``."""

    connection: Name
    extension: Extension
    order_at: Instant = Field(description="When it was given: of several it tells them apart.")
    fault: str | None = Field(default=None, description="Why the CRM was not told.")
    retry: bool = Field(
        default=False, description="With a fault: the CRM was away, and may take it later."
    )

    def subject(self) -> str:
        return f"agent:{self.extension}"


class AgentRecord(BaseModel):
    """What is known of an agent."""

    extension: Extension
    status: AgentStatus | None = Field(default=None, description="None: nobody has told.")
    own: OwnWord | None = None
    since: Instant | None = None
    source: Side | None = None
    source_name: Name | None = None
    faults: tuple[str, ...] = Field(
        default=(), description="Sides that did not take what they were told, and their words."
    )


class AgentPage(BaseModel):
    agents: tuple[AgentRecord, ...]


@contract("agents.list", version=1, answer=AgentPage)
class ListAgents(Query[AgentPage]):
    """What the tenant's agents are doing; those of whom nobody told are not in it."""

    extensions: Annotated[tuple[Extension, ...], Field(max_length=500)] | None = None
