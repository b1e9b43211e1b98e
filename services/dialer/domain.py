"""
How far a dial is, from what is seen of its call. Pure; a state never goes back, but why it failed
may be known better later.
"""

from __future__ import annotations

import math
from datetime import datetime, timedelta

from shared.contracts.calls import CallAnswered, CallEnded, CallEvent, CallRinging, Disposition
from shared.contracts.dialing import DialReason, DialRecord, DialState, DialStep, is_news
from shared.moments import to_instant

_REASONS = {
    Disposition.BUSY: DialReason.CUSTOMER_BUSY,
    Disposition.MISSED: DialReason.CUSTOMER_NO_ANSWER,
}
_MINUTE = timedelta(minutes=1)
#: An order that was given up without knowing may be seen so much later.
_MAY_BE_SEEN = timedelta(minutes=10)
#: Events of one call have no order, but all come within this.
_ALL_TOLD = timedelta(minutes=1)


def step(
    state: DialState, reason: DialReason | None, event: CallEvent, *, cancelled: bool = False
) -> DialStep | None:
    """
    The next state, or None when *event* says nothing new; events come in any order. *cancelled*:
    somebody has it ended, so that an end before the conversation has no other reason.
    """
    wanted = _meaning(state, event)
    if wanted == (DialState.AGENT_ANSWERED, None) and reason is DialReason.AGENT_NO_ANSWER:
        wanted = DialState.FAILED, DialReason.CUSTOMER_UNREACHABLE  # for the agent it did not fail
    if wanted is not None and wanted[0] is DialState.FAILED and cancelled:
        wanted = DialState.FAILED, DialReason.CANCELLED
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
        case CallEnded():
            return _end(state, event)
        case _:
            return None


def _end(state: DialState, event: CallEnded) -> DialStep:
    if event.disposition is Disposition.ANSWERED or state is DialState.CONNECTED:
        return DialState.ENDED, None
    # Of a click the caller is the agent: he gave up before the customer answered.
    if event.disposition is Disposition.MISSED and event.hangup_by == "caller":
        return DialState.FAILED, DialReason.CANCELLED
    # What became of the customer says that the agent had picked up, seen or not.
    if event.disposition in _REASONS:
        return DialState.FAILED, _REASONS[event.disposition]
    if state in {DialState.AGENT_ANSWERED, DialState.CUSTOMER_RINGING}:
        return DialState.FAILED, DialReason.CUSTOMER_UNREACHABLE
    return DialState.FAILED, DialReason.AGENT_NO_ANSWER


def moved(record: DialRecord, to: DialStep, *, at: datetime, now: datetime) -> DialRecord:
    """*record* a step further, which was *at*, by the clock of who saw it."""
    state, reason = to
    ended_at = to_instant(at) if state.is_final else None
    if record.state is DialState.FAILED and record.reason is not DialReason.INTERRUPTED:
        ended_at = record.ended_at  # only why is known better
    return record.model_copy(
        update={
            "state": state,
            "reason": reason,
            "message": reason.words if reason else None,
            "changed_at": to_instant(now),
            "ended_at": ended_at,
        }
    )


def connected(record: DialRecord, event: CallEvent, *, at: datetime) -> DialRecord:
    """With the time of the conversation's beginning, which may be told after its end."""
    begins = isinstance(event, CallAnswered) and not event.own_phone
    if not begins or (record.connected_at is not None and record.connected_at <= at):
        return record
    return record.model_copy(update={"connected_at": to_instant(at)})


def cost_of(
    record: DialRecord, *, price: int, talk_time: timedelta | None, now: datetime
) -> int | None:
    """
    In millionths, by begun minutes of conversation; None while it is not known. Who did not speak
    with anybody pays nothing, who did at least for a minute.
    """
    if not record.state.is_final:
        return None
    since = now - (record.ended_at or record.changed_at)
    if record.reason is DialReason.INTERRUPTED and since < _MAY_BE_SEEN:
        return None
    if record.state is not DialState.ENDED and record.connected_at is None and not talk_time:
        # Who cancelled may have spoken already: what is seen of the call comes behind him.
        may_have = record.reason is DialReason.CANCELLED and since < _ALL_TOLD
        return None if may_have else 0
    if talk_time is None and record.connected_at is not None and record.ended_at is not None:
        talk_time = record.ended_at - record.connected_at
    if talk_time is None and since < _ALL_TOLD:
        return None
    return price * max(math.ceil((talk_time or _MINUTE) / _MINUTE), 1)
