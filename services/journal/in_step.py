"""A call's entries brought into step with what is known of it, whoever else does so meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.journal.book import EntryBook
from services.journal.store import CallLog
from services.journal.wanting import is_settled
from shared.contracts.calls import CallRecord
from shared.errors import Unavailable
from shared.site.models import CrmConnection, Site

#: Each time somebody else changed something between two looks.
_ROUNDS = 5


async def bring_in_step(
    calls: CallLog,
    entries: EntryBook,
    record: CallRecord,
    site: Site,
    crms: Sequence[CrmConnection],
) -> datetime | None:
    """
    When the first entry that changed is due; None: nothing changed.

    Who changes something looks again, at the newest of call and entries: somebody who was faster
    may have known more of the call, or gone by a newer policy. Of two at the same time the last
    sees what both did. Raises: Unavailable.
    """
    due_at: datetime | None = None
    for _ in range(_ROUNDS):
        if not is_settled(record):
            return due_at
        known = await entries.of_call(record.call_id)
        changed = False
        for crm in crms:
            here = [entry for entry in known if entry.connection == crm.name]
            if (due := await entries.keep_in_step(record, site, crm, here)) is not None:
                due_at, changed = min(due_at or due, due), True
        if not changed:
            return due_at
        record = await calls.get(site.tenant, record.call_id)
    raise Unavailable("the call's entries are changed by others at the same time")
