"""Agents' screens among each other: one agent may have several."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from shared.contracts.calls import Text
from shared.contracts.envelope import Event, contract
from shared.ids import Extension


class Seen(StrEnum):
    OPENED = "opened"
    DISMISSED = "dismissed"


@contract("screens.pop_seen", version=1)
class PopSeen(Event):
    """A pop was opened or dismissed on one of an agent's devices: the others need not show it."""

    call_id: Text
    extension: Extension
    seen: Seen
    pop_id: Text | None = Field(
        default=None,
        description="Which of the call's pops there, by the id that screens were told; None: "
        "whichever it was.",
    )

    def subject(self) -> str:
        return self.call_id
