"""What agents are doing."""

from __future__ import annotations

from enum import StrEnum

from shared.contracts.envelope import Command, Event, contract
from shared.ids import Extension, Name


class AgentStatus(StrEnum):
    FREE = "free"
    BUSY = "busy"
    BREAK = "break"
    DINNER = "dinner"
    OFFLINE = "offline"


@contract("agents.status_changed", version=1)
class AgentStatusChanged(Event):
    """An agent became free, busy, away."""

    extension: Extension
    status: AgentStatus
    source_name: Name | None = None

    def subject(self) -> str:
        return f"agent:{self.extension}"


@contract("agents.set_status", version=1)
class SetAgentStatus(Command):
    """Tell the PBX what an agent is doing."""

    extension: Extension
    status: AgentStatus

    def subject(self) -> str:
        return f"agent:{self.extension}"
