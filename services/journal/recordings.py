"""The address of a call's recording, as an entry has it."""

from __future__ import annotations

import re
from datetime import timedelta

import structlog

from shared.contracts.calls import CallRecord, Disposition
from shared.crm.language.text import compile_text
from shared.errors import ContractError
from shared.recordings.links import RecordingLinks
from shared.site.models import CrmConnection, Site
from shared.site.recordings import can_fetch

log = structlog.get_logger(__name__)

#: Of other calls a PBX may tell a file, which has no sound in it: nobody was there.
_HEARD = frozenset({Disposition.ANSWERED, Disposition.VOICEMAIL})
_OF_THE_WEB = re.compile(r"https?://", re.IGNORECASE)


def address_in_entry(
    record: CallRecord,
    site: Site,
    crm: CrmConnection,
    links: RecordingLinks | None,
    *,
    disposition: Disposition | None,
) -> str | None:
    """
    *disposition*: what became of the call at whom the entry is about. What the connection's own
    text makes of the name, where it has one; else a link of ours that ends, where the recording can
    be fetched; else the PBX's own, where that is an address of the web: the name of a file, which
    nobody can play, is none. None also where nothing is to be heard, or shall be.
    The same call always has the same address.
    """
    policy = crm.journal
    if not policy.play_recordings or not record.recordings or disposition not in _HEARD:
        return None
    name = record.recordings[0]
    if policy.recording is not None:
        variables = {"Recording": name, "CallId": record.call_id}
        try:
            return compile_text(policy.recording).text(variables) or None
        except ContractError as error:
            # No link in its place: the own one may be behind a login, and ours is not.
            log.warning("recording_without_address", error=error.message)
            return None
    return _link(record, site, crm, links) or _as_told(name)


def may_be_told_in(record: CallRecord, site: Site, crm: CrmConnection) -> timedelta:
    """
    How long after the end of a settled call its PBX may still tell the recording that an entry is
    to have; nothing where it is told, or none will be.
    """
    pbx = site.pbx_named(record.pbx or "")
    is_lacking = crm.journal.play_recordings and not record.recordings
    if pbx is None or not is_lacking or record.disposition not in _HEARD:
        return timedelta(0)
    return pbx.tells_late


def _as_told(name: str) -> str | None:
    return name if name.isprintable() and _OF_THE_WEB.match(name) else None


def _link(
    record: CallRecord, site: Site, crm: CrmConnection, links: RecordingLinks | None
) -> str | None:
    name, pbx = record.recordings[0], site.pbx_named(record.pbx or "")
    if links is None or pbx is None or record.ended_at is None or not can_fetch(pbx, name):
        return None
    return links.link(
        tenant=site.tenant,
        call_id=record.call_id,
        recording=name,
        ended_at=record.ended_at,
        lasts=crm.journal.recording_links_last,
    )
