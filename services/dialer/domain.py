"""How far an order is, from what is seen of its call. Pure; a state never goes back."""

from __future__ import annotations

from shared.contracts.calls import CallAnswered, CallEnded, CallEvent, CallRinging, Disposition
from shared.contracts.dialing import DialReason, DialState, DialStep, is_news

_REASONS = {
    Disposition.BUSY: DialReason.CUSTOMER_BUSY,
    Disposition.MISSED: DialReason.CUSTOMER_NO_ANSWER,
}


def step(state: DialState, reason: DialReason | None, event: CallEvent) -> DialStep | None:
    """The next state, or None when *event* says nothing new; events come in any order."""
    wanted = _meaning(state, event)
    if wanted is not None and is_news(wanted, after=(state, reason)):
        return wanted
    return None


def _meaning(state: DialState, event: CallEvent) -> DialStep | None:
    match event:
        case CallRinging(own_phone=True):
            return DialState.AGENT_RINGING, None
        case CallRinging():
            return DialState.CUSTOMER_RINGING, None
        case CallAnswered(own_phone=True):
            return DialState.AGENT_ANSWERED, None
        case CallAnswered():
            return DialState.CONNECTED, None
        case CallEnded(disposition=Disposition.ANSWERED):
            return DialState.ENDED, None
        case CallEnded() if state is DialState.CONNECTED:
            return DialState.ENDED, None
        # What became of the customer says that the agent had picked up, seen or not.
        case CallEnded() if event.disposition in _REASONS:
            return DialState.FAILED, _REASONS[event.disposition]
        case CallEnded() if state in {DialState.REQUESTED, DialState.AGENT_RINGING}:
            return DialState.FAILED, DialReason.AGENT_NO_ANSWER
        case CallEnded():
            return DialState.FAILED, DialReason.CUSTOMER_UNREACHABLE
        case _:
            return None
