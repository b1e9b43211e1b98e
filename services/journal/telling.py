"""What the mesh is told of an entry. The same told twice is one message."""

from __future__ import annotations

from services.journal.entries import EntryDocument
from services.journal.tools import Tools
from shared.contracts.journal import CallJournaled, JournalFailed


async def tell_sent(tools: Tools, entry: EntryDocument) -> None:
    """What the mesh does not know yet. Raises: Unavailable."""
    if entry.told or entry.entry_id is None:
        return
    updated = entry.updates > 0
    await tools.publisher.publish(
        CallJournaled(
            call_id=entry.call_id,
            connection=entry.connection,
            agent=entry.record().agent,
            entry=entry.key,
            entry_id=entry.entry_id,
            contact_id=entry.contact_id,
            found=entry.found and not updated,
            updated=updated,
        ),
        tenant=entry.tenant,
        # One that somebody deleted may be sent again, under another id.
        key=f"{entry.key}/{entry.entry_id}/{entry.updates}",
    )


async def tell_dead(tools: Tools, entry: EntryDocument) -> EntryDocument:
    """The entry as it is then: nobody looks at it until somebody replays it. Raises: MeshError."""
    await tools.publisher.publish(
        JournalFailed(
            call_id=entry.call_id,
            connection=entry.connection,
            agent=entry.record().agent,
            entry=entry.key,
            reason=entry.reason or "",
            attempts=entry.attempts,
        ),
        tenant=entry.tenant,
        # A try that could not be made counts as none: an entry may die twice of one number of them.
        key=f"{entry.key}/dead/{entry.attempts}/{entry.version}",
    )
    return await tools.entries.move(entry, due_at=None)
