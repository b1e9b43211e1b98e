"""Reading channel names and hangup causes. Pure."""

from __future__ import annotations

import re
from enum import Enum

from shared.contracts.calls import LegOutcome
from shared.pbx.asterisk.ami_wire import AmiMessage

#: ``PJSIP/trunk-0000002a``, ``IAX2/trunk-5713``, ``DAHDI/1-1``: technology, endpoint, and what
#: tells its channels apart; ``;1`` marks halves of Local.
_CHANNEL = re.compile(r"^(?P<technology>[^/]+)/(?P<endpoint>.+?)(-[^-/]*)?(;[12])?$")
LOCAL = "Local"
#: Channels that Asterisk makes for its own errands, some of them as calls of their own: SIP
#: messages, voices in a conference, ARI's players and recorders, helpers of a redirect.
_ERRANDS = frozenset(
    {"Message", "CBAnn", "CBRec", "Announcer", "Recorder", "Snoop", "Surrogate", "AsyncGoto"}
)
#: What ends the endpoint in names that say more.
_FURTHER = {LOCAL: "@", "DAHDI": "/"}
#: What events keep of a text from outside.
_LONGEST = 256
#: A recording's path is longer, and of no use when cut.
_VARIABLES = frozenset({"ChanVariable", "DestChanVariable"})
_UNKNOWN = frozenset({"", "<unknown>", "unknown"})

#: ITU-T Q.850 as Asterisk reports them in Hangup.
ANSWERED_ELSEWHERE = 26
#: No such number, nobody there, a network that is broken or full.
_UNREACHABLE = (1, 3, 18, 20, 27, 28, 34, 38, 41, 42, 44)
_BY_CAUSE = {
    **dict.fromkeys(_UNREACHABLE, LegOutcome.UNREACHABLE),
    17: LegOutcome.BUSY,
    19: LegOutcome.NO_ANSWER,
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
    """
    Technology and endpoint of a channel's name. ``Local/102@internal-…`` stands for 102,
    ``DAHDI/i1/07700900123-2`` for the span i1.
    """
    found = _CHANNEL.match(channel)
    if not found:
        return "", channel[:_LONGEST]
    endpoint = found["endpoint"]
    if (separator := _FURTHER.get(found["technology"])) is not None:
        endpoint = endpoint.partition(separator)[0]
    return found["technology"], endpoint[:_LONGEST]


def is_errand(channel: str) -> bool:
    return channel.partition("/")[0] in _ERRANDS


def outcome_by_cause(cause: int | None) -> LegOutcome:
    return _BY_CAUSE.get(cause or 0, LegOutcome.NO_ANSWER)


def shown(text: str) -> str | None:
    """A caller id field, or None for the words that stand for nothing."""
    return None if text.strip().lower() in _UNKNOWN else text.strip()[:_LONGEST]
