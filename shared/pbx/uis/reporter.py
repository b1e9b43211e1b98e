"""What became of a call, asked of the Data API some seconds after its end."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from shared.errors import Forbidden, Rejected, Throttled, Unavailable
from shared.pbx.port import Phones, Sighting
from shared.pbx.uis.jsonrpc import JsonRpc
from shared.pbx.uis.legs import FIELDS, legs_of
from shared.pbx.uis.report import Report

_WITHIN = timedelta(seconds=10)
#: The report selects by a leg's begin, in the account's zone; a call lasts no longer.
_BEFORE = timedelta(hours=12)
#: For clocks that differ, and the hour that a change of summer time repeats.
_AFTER = timedelta(hours=2)
#: A leg for each phone that a call was offered to.
_MOST_LEGS = 500


@dataclass(frozen=True, slots=True)
class UisReporter:
    tenant: str
    pbx: str
    data: JsonRpc
    zone: ZoneInfo
    recordings: str

    async def report(self, pbx_call_id: str, ended_at: datetime, phones: Phones) -> list[Sighting]:
        """One request. Empty while the report lags behind. Raises: Unavailable, Rejected."""
        if not (pbx_call_id.isascii() and pbx_call_id.isdigit() and len(pbx_call_id) <= 18):  # noqa: PLR2004  fits 64 bits
            raise Rejected(f"{pbx_call_id[:40]!r} is no id of a UIS call session")
        asked = {
            "date_from": self._local(ended_at - _BEFORE),
            "date_till": self._local(ended_at + _AFTER),
            "filter": {
                "field": "call_session_id",
                "operator": "=",
                "value": int(pbx_call_id),
            },
            "fields": list(FIELDS),
            "limit": _MOST_LEGS,
            "offset": 0,
        }
        try:
            result = await self.data.call("get.call_legs_report", asked, within=_WITHIN)
        except Throttled as error:
            raise Unavailable(error.message, retry_after=error.retry_after) from error
        except Forbidden as error:
            raise Rejected(error.message) from error
        legs = legs_of(result.get("data"), pbx_call_id, self.zone)
        report = Report(self.tenant, self.pbx, pbx_call_id, phones, self.recordings)
        return report.sightings(legs)

    def _local(self, at: datetime) -> str:
        return at.astimezone(self.zone).strftime("%Y-%m-%d %H:%M:%S")
