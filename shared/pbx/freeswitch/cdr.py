"""
Records of calls (mod_json_cdr) → sightings: one hook per channel, at its end. Pure, and without
memory: the first channel's record says what the call was, each other's what became of that leg.
Their keys are those of the events, so what both tell is told once.
"""

from __future__ import annotations

from datetime import timedelta

from shared.contracts.calls import (
    CallEnded,
    Direction,
    Disposition,
    EndKnown,
    HangupBy,
    LegOutcome,
    Party,
    RecordingReady,
)
from shared.errors import ContractError
from shared.ids import call_id
from shared.pbx.freeswitch.causes import ASKED, disposition_of, outcome_of, q850
from shared.pbx.freeswitch.cdr_form import LegReport, read_report
from shared.pbx.freeswitch.channels import (
    CLICK_VARIABLE,
    NUMBER_VARIABLE,
    called,
    caller_name,
    endpoint_of,
    identity,
    is_inbound,
    kind_of,
    parent_of,
    shown,
    split_name,
    text,
    variable,
)
from shared.pbx.live import Kind, LiveCall, LiveLeg
from shared.pbx.port import HookReading, Phones, RawHook

_LONGEST_FILE = 2048


class RecordHooks:
    """The HookReader of one connection of one tenant. FreeSWITCH does not sign."""

    def __init__(self, *, tenant: str, pbx: str) -> None:
        self._tenant = tenant
        self._pbx = pbx

    def verify(self, hook: RawHook) -> None:
        """The key in its address is all that it has."""

    def read(self, hook: RawHook, phones: Phones) -> HookReading:
        """Raises: ContractError."""
        report = read_report(hook)
        event = report.event
        if variable(event, "direction") not in {"inbound", "outbound"}:
            raise ContractError("no record of a call: variables.direction is missing")
        parent = _belongs_to(report)
        began = report.times.get("start", report.times["end"])
        # An agent's further devices have channels, but no calls, of their own.
        known_as = parent or variable(event, "origination_uuid") or identity(event)
        call = LiveCall(
            call_id(self._tenant, self._pbx, known_as),
            self._pbx,
            known_as,
            began,
            called(event),
            [],
        )
        kind = kind_of(event, phones)
        leg = LiveLeg(identity(event), endpoint_of(event, kind, phones), kind, call)
        call.legs[leg.leg_id] = leg
        if kind is Kind.LOCAL:
            return HookReading([])
        if parent:
            _tell_leg(leg, report)
        else:
            _tell_call(leg, report, phones)
        return HookReading(call.out)


def _belongs_to(report: LegReport) -> str | None:
    """
    The first channel of its call. ``call_uuid`` is that also where channels made one another,
    unless its bridge was over before it.
    """
    event = report.event
    if is_inbound(event):
        return None
    if variable(event, "cc_side") != "agent":
        own = identity(event)
        for name in ("call_uuid", "originating_leg_uuid", "originator"):
            if (found := variable(event, name)) not in {"", own}:
                return found
    return parent_of(event)


def _tell_leg(leg: LiveLeg, report: LegReport) -> None:
    event = report.event
    leg.offered = True
    if leg.kind is Kind.TRUNK:
        leg.number = shown(called(event))
    leg.call.queue = variable(event, "cc_queue").partition("@")[0] or None
    _tell_course(leg, report)
    _tell_files(leg.call, report)


def _tell_course(leg: LiveLeg, report: LegReport) -> None:
    """It rang, was answered, is over."""
    event, times, call = report.event, report.times, leg.call
    answer = times.get("answer")
    rang = times.get("progress") or times.get("progress_media") or answer
    number = shown(text(event, "Caller-Caller-ID-Number"))
    if rang is not None:
        call.ring(leg, rang, caller=Party(number=number, name=caller_name(event)))
    if answer is not None:
        call.answer(leg, answer)
    outcome = LegOutcome.ANSWERED if answer else outcome_of(variable(event, "hangup_cause"))
    call.leg_over(leg, times["end"], outcome)


def _tell_call(leg: LiveLeg, report: LegReport, phones: Phones) -> None:
    event, call = report.event, leg.call
    call.first = leg
    leg.number, leg.name = shown(text(event, "Caller-Caller-ID-Number")), caller_name(event)
    call.dial_id = variable(event, CLICK_VARIABLE) or None
    call.originated = leg.kind is Kind.PHONE and not is_inbound(event)
    wanted = shown(variable(event, NUMBER_VARIABLE))
    if call.originated and wanted is None and not _was_bridged(report):
        return  # a queue of another kind rang this phone, or nobody answered somebody's dialler
    if call.originated and variable(event, "hangup_cause") == "LOSE_RACE":
        return  # the agent took another of his devices, whose record says what it came to
    direction, dialled = _direction(leg, report, phones, wanted)
    call.start(direction, dialled=dialled)
    if call.originated:
        _tell_course(leg, report)
    elif leg.kind is Kind.TRUNK and not is_inbound(event):
        leg.offered, leg.number = True, dialled
        _tell_course(leg, report)
    _tell_files(call, report)
    cause = variable(event, "hangup_cause")
    asked = variable(event, "sip_hangup_disposition") in ASKED
    hangup_by: HangupBy | None = "caller" if asked else None
    call.tell(
        report.times["end"],
        f"ended/{EndKnown.REPORT}",
        CallEnded,
        disposition=_disposition(leg, report, gave_up=asked),
        talk_time=_talked(report),
        hangup_by=hangup_by,
        cause=q850(cause),
        known=EndKnown.REPORT,
    )


def _direction(
    leg: LiveLeg, report: LegReport, phones: Phones, wanted: str | None
) -> tuple[Direction, str | None]:
    """With the number that was dialled, as the line outside was asked for it."""
    event = report.event
    target = wanted or shown(called(event))
    if leg.kind is Kind.TRUNK:
        return (Direction.INBOUND if is_inbound(event) else Direction.OUTBOUND), target
    if wanted is not None:
        inside = wanted in phones.extensions
        return (Direction.INTERNAL if inside else Direction.OUTBOUND), target
    for name, number in (*report.called, (variable(event, "bridge_channel"), "")):
        technology, profile, _ = split_name(name)
        if number not in phones.extensions and {technology, profile} & phones.trunks:
            return Direction.OUTBOUND, shown(number) or target
    return Direction.INTERNAL, target


def _was_bridged(report: LegReport) -> bool:
    return "bridge" in report.times and "answer" in report.times


def _disposition(leg: LiveLeg, report: LegReport, *, gave_up: bool) -> Disposition | None:
    """None: it follows from the legs."""
    event = report.event
    if _was_bridged(report):
        return Disposition.ANSWERED
    if leg.call.originated and "answer" not in report.times:
        return Disposition.FAILED  # the agent did not pick up, and nobody was called
    if variable(event, "voicemail_message_len"):
        return Disposition.VOICEMAIL
    unserved = variable(event, "cc_cause").lower() == "cancel"
    if unserved or (gave_up and leg.call.direction is Direction.INBOUND):
        return Disposition.MISSED
    return disposition_of(variable(event, "originate_disposition"))


def _talked(report: LegReport) -> timedelta:
    """Early media is bridged before anybody answers."""
    if not _was_bridged(report):
        return timedelta(0)
    began = max(report.times["bridge"], report.times["answer"])
    return max(report.times["end"] - began - report.held, timedelta(0))


def _tell_files(call: LiveCall, report: LegReport) -> None:
    for file in report.files:
        if len(file) <= _LONGEST_FILE and file not in call.recordings:
            call.recordings.add(file)
            call.tell(report.times["end"], f"recording/{file}", RecordingReady, recording=file)
