"""The rows of the Data API's report of legs, as they are read. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

from shared.contracts.calls import LegOutcome
from shared.pbx.uis.fields import Fields, local_time
from shared.pbx.uis.parties import is_record

#: What is asked for, and no more: an unknown name is refused.
FIELDS = (
    "id",
    "call_session_id",
    "start_time",
    "connect_time",
    "duration",
    "total_duration",
    "finish_reason",
    "direction",
    "virtual_phone_number",
    "calling_phone_number",
    "called_phone_number",
    "is_operator",
    "is_coach",
    "is_talked",
    "employee_id",
    "employee_full_name",
    "employee_phone_number",
    "contact_phone_number",
    "contact_full_name",
    "call_records",
)
NOTHING = timedelta(0)
#: ``finish_reason`` of a leg on which nobody talked; the rest is "did not answer".
_OUTCOMES: Mapping[str, LegOutcome] = {
    **dict.fromkeys(("another_operator_answer",), LegOutcome.ELSEWHERE),
    **dict.fromkeys(
        (
            "operator_busy",
            "operator_channels_busy",
            "subscriber_busy",
            "employee_busy",
            "employee_busy_after_call",
            "max_in_call_reached",
        ),
        LegOutcome.BUSY,
    ),
    **dict.fromkeys(
        (
            "sip_offline",
            "operator_number_problems",
            "subscriber_number_problems",
            "locked_phone",
            "net_lock",
            "sip_trunk_is_locked",
            "no_resources",
            "no_money",
            "communication_unavailable",
        ),
        LegOutcome.UNREACHABLE,
    ),
}
#: Who hung up, and whether that is the employee.
_HANGS_UP: Mapping[str, bool] = {"operator_disconnects": True, "subscriber_disconnects": False}
#: A phone of which that became has rung.
RANG = frozenset(
    {LegOutcome.ANSWERED, LegOutcome.NO_ANSWER, LegOutcome.ELSEWHERE, LegOutcome.CANCELLED}
)


@dataclass(frozen=True, slots=True)
class Leg:
    start: datetime
    end: datetime
    talked: timedelta
    connected_at: datetime | None
    operator: bool
    outgoing: bool
    reason: str
    fields: Fields
    records: tuple[str, ...]

    @property
    def outcome(self) -> LegOutcome:
        if self.connected_at is not None:
            return LegOutcome.ANSWERED
        if (by_employee := _HANGS_UP.get(self.reason)) is not None:
            # Rejected by hand by who was called; else who called gave up.
            return LegOutcome.BUSY if by_employee is self.operator else LegOutcome.CANCELLED
        return _OUTCOMES.get(self.reason, LegOutcome.NO_ANSWER)


def legs_of(rows: Any, session: str, zone: tzinfo) -> list[Leg]:
    """Those of the call, in the order in which they began; what cannot be read is left out."""
    found = []
    for row in rows if isinstance(rows, list) else []:
        fields = Fields(row) if isinstance(row, dict) else Fields({})
        # Whoever listens in is no part of the call; a leg of another call is none of this one.
        if fields.text("call_session_id") == session and not fields.flag("is_coach"):
            leg = _leg(fields, zone)
            if leg is not None:
                found.append(leg)
    return sorted(found, key=lambda leg: (leg.start, leg.fields.text("id") or ""))


def _leg(fields: Fields, zone: tzinfo) -> Leg | None:
    start = local_time(fields.text("start_time"), zone)
    if start is None:
        return None
    talked = fields.seconds("duration") or NOTHING
    try:
        end = start + max(fields.seconds("total_duration") or NOTHING, talked)
    except OverflowError:
        return None
    connected_at = None
    if fields.flag("is_talked"):
        connected_at = local_time(fields.text("connect_time"), zone)
        if connected_at is None or not start <= connected_at <= end:
            connected_at = end - talked
    return Leg(
        start=start,
        end=end,
        talked=talked if connected_at is not None else NOTHING,
        connected_at=connected_at,
        operator=bool(fields.flag("is_operator")),
        outgoing=fields.text("direction") == "out",
        reason=fields.text("finish_reason") or "",
        fields=fields,
        records=tuple(one for one in fields.texts("call_records") if is_record(one)),
    )
