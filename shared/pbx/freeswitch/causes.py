"""FreeSWITCH's hangup causes, by the names that it gives them. Pure."""

from __future__ import annotations

from shared.contracts.calls import Disposition, LegOutcome
from shared.contracts.dialing import DialReason
from shared.pbx.causes import outcome_by_cause

#: Causes of ITU-T Q.850. FreeSWITCH's own have numbers too, but not of that list.
_Q850 = {
    "UNALLOCATED_NUMBER": 1,
    "NO_ROUTE_TRANSIT_NET": 2,
    "NO_ROUTE_DESTINATION": 3,
    "CHANNEL_UNACCEPTABLE": 6,
    "NORMAL_CLEARING": 16,
    "USER_BUSY": 17,
    "NO_USER_RESPONSE": 18,
    "NO_ANSWER": 19,
    "SUBSCRIBER_ABSENT": 20,
    "CALL_REJECTED": 21,
    "NUMBER_CHANGED": 22,
    "EXCHANGE_ROUTING_ERROR": 25,
    "DESTINATION_OUT_OF_ORDER": 27,
    "INVALID_NUMBER_FORMAT": 28,
    "FACILITY_REJECTED": 29,
    "NORMAL_UNSPECIFIED": 31,
    "NORMAL_CIRCUIT_CONGESTION": 34,
    "NETWORK_OUT_OF_ORDER": 38,
    "NORMAL_TEMPORARY_FAILURE": 41,
    "SWITCH_CONGESTION": 42,
    "REQUESTED_CHAN_UNAVAIL": 44,
    "OUTGOING_CALL_BARRED": 52,
    "INCOMING_CALL_BARRED": 54,
    "BEARERCAPABILITY_NOTAUTH": 57,
    "BEARERCAPABILITY_NOTAVAIL": 58,
    "SERVICE_UNAVAILABLE": 63,
    "INCOMPATIBLE_DESTINATION": 88,
    "RECOVERY_ON_TIMER_EXPIRE": 102,
    "INTERWORKING": 127,
}
_OWN = {
    "LOSE_RACE": LegOutcome.ELSEWHERE,
    "PICKED_OFF": LegOutcome.ELSEWHERE,  # another phone took the call with a pickup code
    "ORIGINATOR_CANCEL": LegOutcome.CANCELLED,
    "NO_PICKUP": LegOutcome.NO_ANSWER,
    "ALLOTTED_TIMEOUT": LegOutcome.NO_ANSWER,
    "PROGRESS_TIMEOUT": LegOutcome.UNREACHABLE,
    "USER_NOT_REGISTERED": LegOutcome.UNREACHABLE,
    "INVALID_GATEWAY": LegOutcome.UNREACHABLE,
    "GATEWAY_DOWN": LegOutcome.UNREACHABLE,
    "INVALID_URL": LegOutcome.UNREACHABLE,
    "INVALID_PROFILE": LegOutcome.UNREACHABLE,
    "DOES_NOT_EXIST_ANYWHERE": LegOutcome.UNREACHABLE,
    "NOT_ACCEPTABLE": LegOutcome.UNREACHABLE,
    "BUSY_EVERYWHERE": LegOutcome.BUSY,
    "DECLINE": LegOutcome.BUSY,
    # Q.850 says other things by these numbers, or nothing.
    "SERVICE_UNAVAILABLE": LegOutcome.UNREACHABLE,
    "INCOMPATIBLE_DESTINATION": LegOutcome.UNREACHABLE,
    "RECOVERY_ON_TIMER_EXPIRE": LegOutcome.UNREACHABLE,
    "OUTGOING_CALL_BARRED": LegOutcome.UNREACHABLE,
    "INCOMING_CALL_BARRED": LegOutcome.UNREACHABLE,
    "FACILITY_REJECTED": LegOutcome.UNREACHABLE,
    "EXCHANGE_ROUTING_ERROR": LegOutcome.UNREACHABLE,
    "INTERWORKING": LegOutcome.UNREACHABLE,
    "NUMBER_CHANGED": LegOutcome.UNREACHABLE,
    "NO_ROUTE_TRANSIT_NET": LegOutcome.UNREACHABLE,
}
BLIND_TRANSFER = "BLIND_TRANSFER"
ATTENDED_TRANSFER = "ATTENDED_TRANSFER"

#: ``sip_hangup_disposition`` of a leg whose other end asked for the end, by BYE, CANCEL or refusal.
ASKED = frozenset({"recv_bye", "recv_cancel", "recv_refuse"})

_RANG = frozenset(
    {"NO_ANSWER", "NO_USER_RESPONSE", "CALL_REJECTED", "DECLINE"}
    | {"ALLOTTED_TIMEOUT", "NO_PICKUP", "ORIGINATOR_CANCEL"}
)


def q850(name: str) -> int | None:
    """The number of Q.850, or None where the cause is one of FreeSWITCH's own."""
    return _Q850.get(name)


def outcome_of(name: str) -> LegOutcome:
    """What became of a leg that was rung, did not answer and ended so."""
    return _OWN.get(name) or outcome_by_cause(_Q850.get(name))


def disposition_of(name: str) -> Disposition | None:
    """Of a call that nobody answered, by why the last one who was asked did not; None: unknown."""
    if name not in _OWN and name not in _Q850:
        return None
    match outcome_of(name):
        case LegOutcome.BUSY:
            return Disposition.BUSY
        case LegOutcome.UNREACHABLE:
            return Disposition.FAILED
        case _:
            return Disposition.MISSED if name != "NORMAL_CLEARING" else None


def refusal_of(answer: str) -> DialReason:
    """``-ERR NO_ANSWER``: how a background ``originate`` says that the agent's phone did not answer."""
    word = answer.removeprefix("-ERR").strip().partition(" ")[0]
    if word in _RANG:
        return DialReason.AGENT_NO_ANSWER
    if word in _OWN or word in _Q850:
        return DialReason.AGENT_UNREACHABLE
    return DialReason.PBX_REFUSED
