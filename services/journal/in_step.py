"""A call's entries brought into step with what is known of it, whoever else does so meanwhile."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from services.journal.book import EntryBook
from services.journal.recordings import may_be_told_in
from services.journal.store import CallLog
from services.journal.wanting import is_settled
from shared.contracts.calls import CallRecord
from shared.crm.connections import CrmConnections
from shared.errors import MeshError, Unavailable
from shared.site.accounts import account_of
from shared.site.models import CrmConnection, Site

#: Each time somebody else changed something between two looks.
_ROUNDS = 5


async def bring_in_step(
    calls: CallLog,
    entries: EntryBook,
    record: CallRecord,
    site: Site,
    crms: Sequence[CrmConnection],
    *,
    connections: CrmConnections,
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
            wait = _wait(record, site, crm, connections)
            due = await entries.keep_in_step(record, site, crm, known, wait=wait)
            if due is not None:
                due_at, changed = min(due_at or due, due), True
        if not changed:
            return due_at
        record = await calls.get(site.tenant, record.call_id)
    raise Unavailable("the call's entries are changed by others at the same time")


def _wait(
    record: CallRecord, site: Site, crm: CrmConnection, connections: CrmConnections
) -> timedelta:
    """For the recording, where what comes behind the entry will never be in it."""
    late = may_be_told_in(record, site, crm)
    if not late:
        return late
    try:
        can_update = connections.connector(account_of(site, crm)).can_update
    except MeshError:
        return timedelta(0)  # its entries say why
    return timedelta(0) if can_update else late
