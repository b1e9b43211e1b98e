"""
Event 30012, the PBX's own record of a call that is over, → call events. Pure.

It tells all of a call of which nothing else came. A call that was transferred may have several
records: each is told, and what they add up to is the journal's business.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallStarted,
    Direction,
    Disposition,
    EndKnown,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
)
from shared.errors import ContractError
from shared.pbx.port import Phones
from shared.pbx.yeastar import fields
from shared.pbx.yeastar.follow import queue_of
from shared.pbx.yeastar.memory import CallMemory, Teller

_NOTHING = timedelta(0)
_LEG_OUTCOMES = {
    "ANSWERED": LegOutcome.ANSWERED,
    "NO ANSWER": LegOutcome.NO_ANSWER,
    "BUSY": LegOutcome.BUSY,
    "VOICEMAIL": LegOutcome.NO_ANSWER,
    "ABANDONED": LegOutcome.CANCELLED,
    "FAILED": LegOutcome.UNREACHABLE,
}
#: Of an inbound call that was not answered the legs say what became of it: there may be another
#: record of it, with an answer.
_BY_LEGS = frozenset({"NO ANSWER", "BUSY", "ABANDONED"})
_DISPOSITIONS = {
    "ANSWERED": Disposition.ANSWERED,
    "NO ANSWER": Disposition.MISSED,
    "BUSY": Disposition.BUSY,
    "VOICEMAIL": Disposition.VOICEMAIL,
    "ABANDONED": Disposition.MISSED,
    "FAILED": Disposition.FAILED,
}
#: First digits of what a P-Series presets for IVRs, ring groups, queues, conferences and so on.
_PRESET_FEATURES = tuple(f"6{digit}" for digit in "23456789")
_LONGEST_EXTENSION = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedCall:
    call_id: str
    #: Of several records of a call, which one.
    record: str
    direction: Direction
    caller: Party
    callee: Party
    dialled: str | None
    status: str
    began_at: datetime
    answered_at: datetime
    ended_at: datetime
    talked: timedelta | None
    recording: str | None


def call_record(
    msg: dict[str, Any],
    *,
    now: datetime,
    zone: tzinfo,
    phones: Phones,
    queues: Collection[str],
    called: Collection[str] = (),
) -> ReportedCall:
    """
    *called*: extensions that are known to have rung. A time that is more than a day off is not
    believed: the call then ended *now*.

    Raises: ContractError without a call id.
    """
    call_id = fields.text(msg.get("call_id"))
    if call_id is None:
        raise ContractError("a Yeastar record of a call (30012) has no call_id")
    caller, caller_name = fields.number(msg.get("call_from"))
    callee, callee_name = fields.number(msg.get("call_to"))
    direction = _direction(msg)
    lasted = fields.seconds(msg.get("call_duration")) or _NOTHING
    talked = fields.seconds(msg.get("talk_duration"))
    began = fields.moment(msg.get("time_start"), zone, near=now - lasted) or now - lasted
    outbound = direction is Direction.OUTBOUND
    is_phone = not outbound and _is_phone(callee, phones, queues, called)
    return ReportedCall(
        call_id=call_id,
        record=fields.text(msg.get("uid")) or f"{began.isoformat()}/{callee or ''}",
        direction=direction,
        caller=(
            Party(number=caller, name=caller_name)
            if direction is Direction.INBOUND
            else Party(extension=caller, name=caller_name)
        ),
        callee=(
            Party(extension=callee, name=callee_name)
            if is_phone
            else Party(number=callee if outbound else None, name=callee_name)
        ),
        dialled=fields.text(msg.get("did_number")) or callee,
        status=_status(msg.get("status")),
        began_at=began,
        answered_at=began + max(lasted - (talked or _NOTHING), _NOTHING),
        ended_at=began + lasted,
        talked=talked,
        recording=fields.text(msg.get("recording")),
    )


def tell_record(record: ReportedCall, memory: CallMemory | None, tell: Teller) -> None:
    """*memory* where the call was seen before: what is known better from there is not told."""
    if memory is None or not memory.started:
        tell.tell(
            record.began_at,
            "started",
            CallStarted,
            pbx_call_id=record.call_id,
            direction=record.direction,
            caller=record.caller,
            dialled=record.dialled,
        )
    not_taken = _is_not_taken(record, memory)
    if not not_taken:
        _tell_leg(record, memory, tell)
    if record.recording is not None:
        tell.tell(
            record.ended_at,
            f"recording/{record.recording}",
            RecordingReady,
            recording=record.recording,
        )
    answered = record.status == "ANSWERED"
    by_legs = record.direction is Direction.INBOUND and record.status in _BY_LEGS
    disposition = Disposition.FAILED if not_taken else _DISPOSITIONS.get(record.status)
    tell.tell(
        record.ended_at,
        f"ended/report/{record.record}",
        CallEnded,
        disposition=None if by_legs else disposition,
        talk_time=record.talked if answered else None,
        known=EndKnown.REPORT,
    )


def _is_not_taken(record: ReportedCall, memory: CallMemory | None) -> bool:
    """
    Whether it is of a click whose agent did not pick up: it is written as if the number that the
    agent wanted had been dialled, and had not answered.
    """
    if memory is None or record.status == "ANSWERED":
        return False
    return memory.called_nobody and record.caller.extension == memory.own


def _tell_leg(record: ReportedCall, memory: CallMemory | None, tell: Teller) -> None:
    leg = record.callee.extension or record.callee.number
    outcome = _LEG_OUTCOMES.get(record.status)
    if leg is None or outcome is None or (memory is not None and memory.is_called(leg)):
        return
    if outcome is LegOutcome.ANSWERED:
        tell.tell(
            record.answered_at,
            f"answered/{leg}/report/{record.record}",
            CallAnswered,
            leg_id=leg,
            callee=record.callee,
        )
    tell.tell(
        record.ended_at,
        f"leg-ended/{leg}/report/{record.record}",
        LegEnded,
        leg_id=leg,
        callee=record.callee,
        outcome=outcome,
    )


def _status(value: object) -> str:
    """``NO ANSWER``, also of ``NO ANSWERED`` and ``NO_ANSWER``, as older firmware has it."""
    found = (fields.text(value) or "").upper().replace("_", " ")
    return "NO ANSWER" if found.startswith("NO ANSWER") or found == "NOANSWER" else found


def _direction(msg: dict[str, Any]) -> Direction:
    said = (fields.text(msg.get("type")) or "").lower()
    if said in set(Direction):
        return Direction(said)
    if fields.text(msg.get("src_trunk_name")):
        return Direction.INBOUND
    return Direction.OUTBOUND if fields.text(msg.get("dst_trunk_name")) else Direction.INTERNAL


def _is_phone(
    callee: str | None, phones: Phones, queues: Collection[str], called: Collection[str]
) -> bool:
    """Whether a number inside is that of somebody's phone, not of a queue, IVR or ring group."""
    if callee is None:
        return False
    if callee in phones.extensions or callee in called:
        return True
    if phones.extensions or queue_of(callee, queues) is not None:
        return False
    return (
        callee.isdecimal()
        and len(callee) <= _LONGEST_EXTENSION
        and not (len(callee) == len("6400") and callee.startswith(_PRESET_FEATURES))
    )
