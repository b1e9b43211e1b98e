"""
A whole call in one event, as PBXs send it that only post a record at its end. Pure.

It is taken apart into the single events that it stands for, so that it has their keys: live events
and the record of one call are one call.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.contracts.calls import Direction, Disposition, EndKnown, LegOutcome
from shared.contracts.hooks import HookEvent, HookEventKind
from shared.pbx.generic.parse import NOBODY, is_extension, sighting
from shared.pbx.port import Phones, Sighting

_BY_DISPOSITION = {Disposition.BUSY: LegOutcome.BUSY, Disposition.FAILED: LegOutcome.UNREACHABLE}


def sightings(
    event: HookEvent, *, tenant: str, pbx: str, phones: Phones = NOBODY
) -> list[Sighting]:
    """Of any event. The same event sent twice has the same sightings."""
    if event.event is not HookEventKind.CDR:
        return [sighting(event, tenant=tenant, pbx=pbx, phones=phones)]
    return [
        sighting(single, tenant=tenant, pbx=pbx, phones=phones, known=EndKnown.REPORT)
        for single in single_events(event, phones)
    ]


def single_events(cdr: HookEvent, phones: Phones) -> Iterator[HookEvent]:
    """
    The end comes first: a screen that knows that the call is over opens no card when it hears
    afterwards that a phone rang.
    """
    call = _WholeCall(cdr, phones)
    yield call.ended()
    yield from call.legs_ended()
    yield call.started()
    if cdr.queue:
        yield call.event(HookEventKind.QUEUED, call.started_at, queue=cdr.queue)
    yield from call.ringing()
    if call.answerer and call.answered_at:
        where = call.phone(call.answerer)
        yield call.event(HookEventKind.ANSWERED, call.answered_at, **where)
    if cdr.recording:
        yield call.event(HookEventKind.RECORDING, cdr.at, recording=cdr.recording)


@dataclass(frozen=True, slots=True)
class _WholeCall:
    cdr: HookEvent
    phones: Phones

    @property
    def started_at(self) -> datetime:
        return self.cdr.started_at or self.cdr.at

    @property
    def answered_at(self) -> datetime | None:
        """Also by a voicemail. Not before the start, where a length was rounded up."""
        cdr = self.cdr
        if cdr.answered_at is not None or not cdr.was_answered:
            return cdr.answered_at
        waited = cdr.at - self.started_at - timedelta(seconds=cdr.talk_seconds or 0)
        return self.started_at + max(waited, timedelta(0))

    @property
    def _named(self) -> str | None:
        """The other end, where the record names it beside ``rang`` and ``answered_by``."""
        cdr = self.cdr
        if cdr.direction is Direction.INBOUND:
            return cdr.extension or cdr.number
        if cdr.number or cdr.rang or cdr.answered_by:
            return cdr.number
        return cdr.dialled

    @property
    def answerer(self) -> str | None:
        """None: nobody, or somebody of whom the record says nothing."""
        return (self.cdr.answered_by or self._named) if self.cdr.was_answered else None

    @property
    def legs(self) -> list[str]:
        found = [*self.cdr.rang, self._named, self.answerer]
        return list(dict.fromkeys(text for text in found if text))

    def event(self, kind: HookEventKind, at: datetime, **more: Any) -> HookEvent:
        return HookEvent(event=kind, call=self.cdr.call, at=at, **more)

    def phone(self, text: str) -> dict[str, Any]:
        """Who is called by an outbound call is outside, however short the number."""
        outside = self.cdr.direction is Direction.OUTBOUND and text not in self.phones.extensions
        inside = not outside and is_extension(text, self.phones)
        return {"extension": text} if inside else {"number": text}

    def started(self) -> HookEvent:
        cdr = self.cdr
        return self.event(
            HookEventKind.STARTED,
            self.started_at,
            direction=cdr.direction,
            caller=cdr.caller,
            caller_name=cdr.caller_name,
            dialled=cdr.dialled,
            dial_id=cdr.dial_id,
            extension=cdr.extension,
        )

    def ringing(self) -> Iterator[HookEvent]:
        cdr = self.cdr
        for text in self.legs:
            # A line that was busy or not to be reached has not rung, unless the record says so.
            rang = text in cdr.rang or cdr.disposition not in _BY_DISPOSITION
            if rang:
                yield self.event(
                    HookEventKind.RINGING,
                    cdr.rang_at or self.started_at,
                    caller=cdr.caller,
                    caller_name=cdr.caller_name,
                    queue=cdr.queue,
                    **self.phone(text),
                )

    def legs_ended(self) -> Iterator[HookEvent]:
        for text in self.legs:
            at, outcome = self._end_of(text)
            yield self.event(HookEventKind.LEG_ENDED, at, outcome=outcome, **self.phone(text))

    def _end_of(self, text: str) -> tuple[datetime, LegOutcome]:
        cdr, answered_at = self.cdr, self.answered_at or self.cdr.at
        if text == self.answerer:
            return cdr.at, LegOutcome.ANSWERED
        if self.answerer:
            return answered_at, LegOutcome.ELSEWHERE
        if cdr.disposition is Disposition.VOICEMAIL:
            return answered_at, LegOutcome.NO_ANSWER
        gave_up = cdr.hangup_by == "caller" and not cdr.was_answered
        otherwise = LegOutcome.CANCELLED if gave_up else LegOutcome.NO_ANSWER
        return cdr.at, _BY_DISPOSITION.get(cdr.disposition or Disposition.MISSED, otherwise)

    def ended(self) -> HookEvent:
        cdr, talked = self.cdr, self.cdr.talk_seconds
        if talked is None and cdr.was_answered and self.answered_at and not self.answerer:
            # From the legs it cannot be found out, as nobody knows whose it was.
            talked = max((cdr.at - self.answered_at).total_seconds(), 0)
        return self.event(
            HookEventKind.ENDED,
            cdr.at,
            disposition=cdr.disposition or (Disposition.ANSWERED if cdr.was_answered else None),
            talk_seconds=talked,
            hangup_by=cdr.hangup_by,
        )
