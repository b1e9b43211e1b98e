"""What of a call an entry is about: all of it, or one agent's part in it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from services.journal.wanting import who_answered, whole_call_of
from shared.contracts.calls import CallRecord, Direction, Disposition, LegOutcome, LegRecord
from shared.site.journal import EntryPer

_Span = tuple[datetime, datetime]


@dataclass(frozen=True, slots=True)
class Share:
    agent: str | None
    disposition: Disposition
    started_at: datetime
    answered_at: datetime | None
    ended_at: datetime
    talk_time: timedelta
    wait_time: timedelta


def share_of(record: CallRecord, agent: str | None, *, per: EntryPer) -> Share:
    """
    Of a settled call. An agent's part lasts from the first ring of his phone, or his calling, until
    he has no leg of it any more: who passed the call on talked until then. How long he talked and
    waited is how long his legs did, each moment once, holds not taken out. The whole call is his
    where he did not pass it on and nobody else answered it, or nobody else was rung.
    """
    started_at, ended_at, disposition = record.started_at, record.ended_at, record.disposition
    if started_at is None or ended_at is None or disposition is None:
        raise ValueError("the call has not ended")
    legs = [leg for leg in record.legs if leg.callee.extension == agent and not leg.own_phone]
    if per is EntryPer.CALL or agent is None or _has_all(record, agent, legs):
        return Share(
            agent=agent,
            disposition=disposition,
            started_at=started_at,
            answered_at=record.answered_at,
            ended_at=ended_at,
            talk_time=record.talk_time,
            wait_time=record.wait_time,
        )
    talks = [
        (leg.answered_at, leg.ended_at or _left_at(record, agent, leg.answered_at, ended_at))
        for leg in legs
        if leg.answered_at is not None
    ]
    waits = [(leg.rang_at, _rang_until(leg, record, ended_at)) for leg in legs if leg.rang_at]
    begins = [leg.rang_at or leg.answered_at or started_at for leg in legs]
    ends = [_rang_until(leg, record, ended_at) for leg in legs if leg.answered_at is None]
    if _called(record, agent):
        left_at = _left_at(record, agent, started_at, ended_at)
        begins.append(started_at)
        ends.append(left_at)
        if (answered_at := record.answered_at) is not None:
            began_at = max(started_at, answered_at - record.wait_time)
            waits.append((began_at, min(answered_at, left_at)))
            if answered_at <= left_at:  # else whoever he passed it on to talked
                talks.append((answered_at, left_at))
    return Share(
        agent=agent,
        disposition=Disposition.ANSWERED if talks else _missed_as(legs, record, disposition),
        started_at=min(begins),
        answered_at=min((begin for begin, _ in talks), default=None),
        ended_at=max([*begins, *ends, *(end for _, end in talks)]),
        talk_time=_length(talks),
        wait_time=_length(waits),
    )


def _has_all(record: CallRecord, agent: str, legs: Sequence[LegRecord]) -> bool:
    """Whether the call is his from its beginning to its end."""
    if not legs and not _called(record, agent):
        return True  # nothing is known of his part
    if any(transfer.by.extension == agent for transfer in record.transfers):
        return False
    if not legs:
        return True
    if record.direction is Direction.OUTBOUND:
        return False  # he was handed it by who called
    if answered := who_answered(record):
        return answered == {agent}
    if record.disposition is Disposition.ANSWERED:
        return agent == whole_call_of(record)
    return all(leg.callee.extension in {agent, None} and leg.queue is None for leg in record.legs)


def _called(record: CallRecord, agent: str) -> bool:
    caller = record.caller.extension if record.caller else None
    return record.direction is not Direction.INBOUND and caller == agent


def _left_at(record: CallRecord, agent: str, since: datetime, ended_at: datetime) -> datetime:
    """When he passed the call on that he had *since* then; its end, where he did not."""
    passed_on = (
        transfer.at
        for transfer in record.transfers
        if transfer.by.extension == agent and transfer.at >= since
    )
    return min(passed_on, default=ended_at)


def _rang_until(leg: LegRecord, record: CallRecord, ended_at: datetime) -> datetime:
    """A PBX that does not tell the ends of legs stops ringing when somebody answers."""
    if (until := leg.answered_at or leg.ended_at) is not None:
        return until
    answered_at = record.answered_at
    began = leg.rang_at or ended_at
    return answered_at if answered_at is not None and answered_at >= began else ended_at


def _missed_as(
    legs: Sequence[LegRecord], record: CallRecord, disposition: Disposition
) -> Disposition:
    """What became of the call at somebody who did not answer it."""
    if disposition in {Disposition.VOICEMAIL, Disposition.FAILED}:
        return disposition
    if legs and all(leg.outcome is LegOutcome.BUSY for leg in legs):
        return Disposition.BUSY
    others = (leg for leg in record.legs if leg not in legs)
    if disposition is Disposition.BUSY and not any(o.outcome is LegOutcome.BUSY for o in others):
        return Disposition.BUSY  # the word of the PBX, and nobody else's
    return Disposition.MISSED


def _length(spans: Iterable[_Span]) -> timedelta:
    """Of all of them together: where two are at the same time, it counts once."""
    length = timedelta(0)
    counted: datetime | None = None
    for begin, end in sorted(spans):
        since = begin if counted is None else max(begin, counted)
        if end > since:
            length += end - since
            counted = end
    return length
