"""What became of a call's entry in a CRM."""

from __future__ import annotations

from pydantic import Field

from shared.contracts.envelope import Event, contract
from shared.ids import Name


class JournalEvent(Event):
    call_id: str
    connection: Name

    def subject(self) -> str:
        return self.call_id


@contract("journal.written", version=1)
class CallJournaled(JournalEvent):
    """The call has its entry in the CRM."""

    entry_id: str = Field(description="The CRM's id of the entry.")
    contact_id: str | None = None
    found: bool = Field(
        default=False,
        description="It was there already: an earlier try had come through unconfirmed.",
    )
    updated: bool = Field(
        default=False,
        description="It was sent before, and says now what became known of the call since then.",
    )


@contract("journal.failed", version=1)
class JournalFailed(JournalEvent):
    """The CRM will not take the entry; somebody has to look."""

    reason: str
    attempts: int
