"""Reading channel names and hangup causes. Pure."""

from __future__ import annotations

import re
from enum import Enum

from shared.contracts.calls import LegOutcome
from shared.pbx.asterisk.ami_wire import AmiMessage

#: ``PJSIP/trunk-0000002a``: technology, endpoint, a number in hex; ``;1`` marks halves of Local.
_CHANNEL = re.compile(r"^(?P<technology>[^/]+)/(?P<endpoint>.+?)(-[0-9a-f]{8})?(;[12])?$")
LOCAL = "Local"
#: What events keep of a text from outside.
_LONGEST = 256
#: A recording's path is longer, and of no use when cut.
_VARIABLES = frozenset({"ChanVariable", "DestChanVariable"})
_UNKNOWN = frozenset({"", "<unknown>", "unknown"})

#: ITU-T Q.850 as Asterisk reports them in Hangup.
ANSWERED_ELSEWHERE = 26
_BY_CAUSE = {
    3: LegOutcome.UNREACHABLE,
    17: LegOutcome.BUSY,
    18: LegOutcome.UNREACHABLE,
    19: LegOutcome.NO_ANSWER,
    20: LegOutcome.UNREACHABLE,
    21: LegOutcome.BUSY,  # rejected by hand: the phone says "not now" as a busy one does
    ANSWERED_ELSEWHERE: LegOutcome.ELSEWHERE,
    127: LegOutcome.CANCELLED,  # the caller's SIP CANCEL
}
#: DialStatus in DialEnd; CANCEL is not final, the cause of the hangup says what it was.
BY_DIAL_STATUS = {
    "NOANSWER": LegOutcome.NO_ANSWER,
    "BUSY": LegOutcome.BUSY,
    "CHANUNAVAIL": LegOutcome.UNREACHABLE,
    "CONGESTION": LegOutcome.UNREACHABLE,
}


class Kind(Enum):
    TRUNK = "trunk"
    PHONE = "phone"
    #: ``Local/…``: Asterisk's own plumbing, nobody's phone.
    LOCAL = "local"


def bounded(message: AmiMessage) -> AmiMessage:
    """Ids, names and queues of any length are cut to what an event holds."""
    if all(len(v) <= _LONGEST for vs in message.headers.values() for v in vs):
        return message
    return AmiMessage(
        {
            name: values if name in _VARIABLES else tuple(v[:_LONGEST] for v in values)
            for name, values in message.headers.items()
        }
    )


def endpoint_of(channel: str) -> tuple[str, str]:
    """Technology and endpoint of a channel's name; ``Local/102@internal-…`` stands for 102."""
    found = _CHANNEL.match(channel)
    if not found:
        return "", channel[:_LONGEST]
    endpoint = found["endpoint"]
    if found["technology"] == LOCAL:
        endpoint = endpoint.partition("@")[0]
    return found["technology"], endpoint[:_LONGEST]


def outcome_by_cause(cause: int | None) -> LegOutcome:
    return _BY_CAUSE.get(cause or 0, LegOutcome.NO_ANSWER)


def shown(text: str) -> str | None:
    """A caller id field, or None for the words that stand for nothing."""
    return None if text.strip().lower() in _UNKNOWN else text.strip()[:_LONGEST]
