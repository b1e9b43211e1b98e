"""Reading channel names and what stands in events of them. Pure."""

from __future__ import annotations

import re

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
#: A phone that there is not, by which it is tried whether this user hears what becomes of an order.
CHECK_ENDPOINT = "callmesh-check"
#: What ends the endpoint in names that say more.
_FURTHER = {LOCAL: "@", "DAHDI": "/"}
#: What events keep of a text from outside.
_LONGEST = 256
#: A recording's path is longer, and of no use when cut.
_VARIABLES = frozenset({"ChanVariable", "DestChanVariable"})
_UNKNOWN = frozenset({"", "<unknown>", "unknown"})

#: DialStatus in DialEnd; CANCEL is not final, the cause of the hangup says what it was.
BY_DIAL_STATUS = {
    "NOANSWER": LegOutcome.NO_ANSWER,
    "BUSY": LegOutcome.BUSY,
    "CHANUNAVAIL": LegOutcome.UNREACHABLE,
    "CONGESTION": LegOutcome.UNREACHABLE,
}


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


def is_check(channel: str) -> bool:
    """Of our own trial, whose phone there is not; some technologies make a channel of it."""
    return channel.partition("/")[2].startswith(CHECK_ENDPOINT)


def whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004  32 bits


def shown(text: str) -> str | None:
    """A caller id field, or None for the words that stand for nothing."""
    return None if text.strip().lower() in _UNKNOWN else text.strip()[:_LONGEST]
