"""A call's record as one flat row, by which calls are filtered, listed and exported. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime, timedelta

from shared.contracts.calls import CallRecord
from shared.contracts.history import CallRow
from shared.phone import parse, spellings

#: What is nothing but a number with the punctuation that people put into one.
_NUMBER = re.compile(r"[ \t]*(\+?)[0-9() \t./-]*[0-9][0-9() \t./-]*")
#: As PBXs write a number; the punctuated ones lose their punctuation in a row.
_SPELLINGS = ("digits", "e164", "e164_digits", "zeros", "national_digits", "nsn")


def row_of(record: CallRecord, *, started_at: datetime) -> CallRow:
    """*started_at* stands in where its beginning was not heard of."""
    caller, contact, route = record.caller, record.contact, record.route
    lasted = timedelta(0)
    if record.started_at is not None and record.ended_at is not None:
        lasted = max(record.ended_at - record.started_at, lasted)
    agents = [leg.callee.extension for leg in record.legs]
    answered = [leg.callee for leg in record.legs if leg.answered_at and not leg.own_phone]
    row = CallRow(
        call_id=record.call_id,
        pbx=record.pbx,
        pbx_call_id=record.pbx_call_id,
        dial_id=record.dial_id,
        direction=record.direction,
        disposition=record.disposition,
        number=compact(record.outside_number),
        caller=compact(caller.number) if caller else None,
        caller_extension=caller.extension if caller else None,
        caller_name=caller.name if caller else None,
        dialled=compact(record.dialled),
        queue=record.queue,
        started_at=record.started_at or started_at,
        answered_at=record.answered_at,
        ended_at=record.ended_at,
        wait_s=record.wait_time.total_seconds(),
        talk_s=record.talk_time.total_seconds(),
        hold_s=record.hold_time.total_seconds(),
        duration_s=lasted.total_seconds(),
        extensions=_each_once([caller.extension if caller else None, *agents]),
        agents=_each_once(agents),
        answered_by=_each_once(who.extension or compact(who.number) for who in answered),
        transfers=len(record.transfers),
        recordings=len(record.recordings),
        contact_connection=contact.connection if contact else None,
        contact_module=contact.module if contact else None,
        contact_id=contact.contact_id if contact else None,
        contact_name=contact.display_name if contact else None,
        contact_known=record.contact_known,
        candidates=len(record.candidates),
        chosen_by=record.chosen_by,
        rule=route.rule if route else None,
        destination=str(route.destination) if route and route.destination else None,
        route_reason=route.reason if route else None,
        hangup_by=record.hangup_by,
        end_known=record.end_known,
        summary=record.summary,
        sentiment=record.sentiment,
        entries=_each_once(f"{entry.connection}:{entry.state}" for entry in record.entries),
    )
    # A store may see no more of a text than what stands before a NUL.
    odd = {name: _visible(text) for name, text in row if isinstance(text, str) and "\0" in text}
    return row.model_copy(update=odd) if odd else row


def compact(text: str | None) -> str | None:
    """A number without its punctuation; what is none stays as it is: ``anonymous``."""
    if text is None:
        return None
    found = _NUMBER.fullmatch(text)
    return found[1] + "".join(filter(str.isdigit, text)) if found else text.strip() or None


def written_as(number: str, region: str | None) -> tuple[str, ...]:
    """
    How rows may have a number that is asked for, as *region* reads it: ``+44 7700 900123`` is
    ``07700900123`` and ``447700900123`` too.
    """
    found = spellings(parse(number, region), _SPELLINGS)
    return tuple(dict.fromkeys([compact(number) or number, *found]))


def _each_once(texts: Iterable[str | None]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(_visible(text) for text in texts if text))


def _visible(text: str) -> str:
    return text.replace("\0", "\ufffd")
