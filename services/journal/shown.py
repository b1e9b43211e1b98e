"""What of a call an entry shows, as one short text that changes when something of it does. Pure."""

from __future__ import annotations

import hashlib
import json

from services.journal.entries import EntryDocument
from services.journal.orders import whose
from services.journal.shares import share_of
from shared.contracts.calls import CallRecord
from shared.phone import parse
from shared.site.journal import JournalPolicy


def shown_in_entry(
    record: CallRecord, entry: EntryDocument, policy: JournalPolicy, region: str | None
) -> str:
    """
    Of a settled call. Changes when something changes that the entry may say of the call, and only
    then; the rest of an entry is the CRM's and the site's.
    """
    share = share_of(record, whose(record, entry), per=entry.per)
    contact = record.contact
    if contact is not None and contact.connection != entry.connection:
        contact = None
    said = (
        record.direction,
        parse(record.outside_number or "", region).key,
        record.dialled,
        record.queue,
        record.pbx,
        record.recordings[:1] if policy.play_recordings else (),
        record.summary,
        record.transcription,
        record.sentiment,
        (contact.module, contact.contact_id) if contact else None,
        record.chosen_by is not None,
        share.agent,
        share.disposition,
        share.started_at,
        share.answered_at,
        share.ended_at,
        share.talk_time,
        share.wait_time,
    )
    text = json.dumps(said, default=str)
    return hashlib.blake2s(text.encode(), digest_size=8).hexdigest()
