"""Hangup causes of ITU-T Q.850, as PBXs report them, and what they say of a phone. Pure."""

from __future__ import annotations

from shared.contracts.calls import LegOutcome

#: Another phone was faster.
ANSWERED_ELSEWHERE = 26
#: No such number, nobody there, a network that is broken or full.
_UNREACHABLE = (1, 3, 18, 20, 27, 28, 34, 38, 41, 42, 44)
_BY_CAUSE = {
    **dict.fromkeys(_UNREACHABLE, LegOutcome.UNREACHABLE),
    17: LegOutcome.BUSY,
    19: LegOutcome.NO_ANSWER,
    21: LegOutcome.BUSY,  # rejected by hand: the phone says "not now" as a busy one does
    ANSWERED_ELSEWHERE: LegOutcome.ELSEWHERE,
    127: LegOutcome.CANCELLED,  # Asterisk: the caller's SIP CANCEL
}


def outcome_by_cause(cause: int | None) -> LegOutcome:
    """What became of a phone that was rung and did not answer."""
    return _BY_CAUSE.get(cause or 0, LegOutcome.NO_ANSWER)
