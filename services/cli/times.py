"""Moments on the command line."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from shared.errors import ContractError
from shared.moments import to_duration

#: Nothing that is kept lies further back.
_LONGEST = timedelta(days=36600)


def moment(text: str, option: str, *, now: datetime, zone: str) -> datetime:
    """
    So long ago (``90m``, ``6h``, ``7d``), or a time: in *zone*, where it says none. Raises:
    ContractError, which names *option*.
    """
    wrong = ContractError(f"{option} {text}: say 90m, 6h, 7d, or a time: 2026-12-24T18:30")
    if text[-1:].isalpha() and text[-1] != "Z":
        try:
            span = to_duration(text)
        except ValueError:
            raise wrong from None
        if not isinstance(span, timedelta) or span > _LONGEST:
            raise wrong
        return now - span
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise wrong from None
    return found if found.tzinfo is not None else found.replace(tzinfo=ZoneInfo(zone))
