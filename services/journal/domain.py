"""
A call = a fold over its events: pure, and whatever their order and however often they came.

Events are told apart by their id and put in the order of their times first, so nothing below
depends on how they arrived.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallHeld,
    CallQueued,
    CallRecord,
    CallResumed,
    CallRinging,
    CallStarted,
    CallSummarised,
    CallTransferred,
    Direction,
    Disposition,
    EntryRecord,
    EntryState,
    LegEnded,
    LegOutcome,
    LegRecord,
    RecordingReady,
    TransferRecord,
)
from shared.contracts.contacts import ContactResolved, ContactUnknown
from shared.contracts.dialing import DialStateChanged
from shared.contracts.envelope import Event
from shared.contracts.journal import CallJournaled, JournalFailed
from shared.contracts.routing import CallRouted, DestinationKind

NOTHING = timedelta(0)
_SUMMARY = {"summary", "transcription", "sentiment"}
#: Places that are one agent's.
_SOMEBODYS = frozenset({DestinationKind.EXTENSION, DestinationKind.VOICEMAIL})


@dataclass(frozen=True, slots=True)
class Seen:
    """An event of the call; *id* is its message's."""

    id: str
    at: datetime
    body: Event


def fold(call_id: str, events: Iterable[Seen]) -> CallRecord:
    """*events* are all of one call."""
    once = {seen.id: seen for seen in events}
    ordered = sorted(once.values(), key=lambda seen: (seen.at, _rank(seen.body), seen.id))
    state = _State(call_id)
    for seen in ordered:
        state.take(seen)
    return state.record()


#: Of events at the same moment, what begins comes before what ends.
_RANKS: dict[type[Event], int] = {
    CallStarted: 0,
    CallQueued: 1,
    CallRinging: 2,
    CallAnswered: 3,
    CallHeld: 4,
    CallResumed: 5,
    LegEnded: 7,
    CallEnded: 8,
}
_BETWEEN = 6


def _rank(body: Event) -> int:
    return _RANKS.get(type(body), _BETWEEN)


class _State:
    def __init__(self, call_id: str) -> None:
        self.found: dict[str, Any] = {"call_id": call_id}
        self.legs: list[dict[str, Any]] = []
        #: The last of each id: a PBX that names legs by their phones rings one again under it.
        self.last_of: dict[str, dict[str, Any]] = {}
        self.transfers: list[TransferRecord] = []
        self.recordings: dict[str, None] = {}
        #: By their keys: one that became another agent's is the same.
        self.entries: dict[str, EntryRecord] = {}
        #: Legs that hold; while there is one the call is on hold, since then.
        self.holders: set[str] = set()
        self.held_since: datetime | None = None
        self.held = NOTHING
        self.waits_since: datetime | None = None
        self.ended: CallEnded | None = None

    def take(self, seen: Seen) -> None:
        body, at = seen.body, seen.at
        self.found["pbx"] = getattr(body, "pbx", None) or self.found.get("pbx")
        match body:
            case CallStarted():
                self._started(body, at)
            case CallQueued():
                self.found.setdefault("queue", body.queue)
                self.waits_since = self.waits_since or at
            case CallRinging():
                self._ringing(body, at)
            case CallAnswered():
                self._answered(body, at)
            case CallHeld():
                self.held_since = self.held_since or at
                self.holders.add(body.leg_id)
            case CallResumed():
                self._holds_no_more(body.leg_id, at)
            case LegEnded():
                self._leg_ended(body, at)
            case CallEnded():
                self._ended(body, at)
            case _:
                self._beside(body, at)

    def record(self) -> CallRecord:
        found = self.found
        legs = tuple(LegRecord(**leg) for leg in self.legs)
        ended_at: datetime | None = found.get("ended_at")
        answered_at: datetime | None = found.get("answered_at")
        for leg_id in list(self.holders):
            self._holds_no_more(leg_id, ended_at)
        disposition = self._disposition(legs)
        return CallRecord(
            **found,
            hangup_by=self.ended.hangup_by if self.ended else None,
            end_known=self.ended.known if self.ended else None,
            disposition=disposition,
            wait_time=self._waited(disposition, legs),
            hold_time=self.held,
            talk_time=self._talked(answered_at, ended_at),
            legs=legs,
            transfers=tuple(self.transfers),
            recordings=tuple(self.recordings),
            entries=tuple(self.entries.values()),
        )

    def _started(self, body: CallStarted, at: datetime) -> None:
        self.found.update(
            pbx_call_id=body.pbx_call_id,
            direction=body.direction,
            caller=body.caller,
            dialled=body.dialled,
            dial_id=body.dial_id,
            started_at=at,
        )

    def _leg(self, body: CallRinging | CallAnswered | LegEnded) -> dict[str, Any]:
        """One that is over neither rings nor is answered again: another begins."""
        leg = self.last_of.get(body.leg_id)
        if leg is None or (self._is_over(leg) and not isinstance(body, LegEnded)):
            leg = {"leg_id": body.leg_id, "own_phone": body.own_phone}
            self.last_of[body.leg_id] = leg
            self.legs.append(leg)
        leg["callee"] = body.callee
        return leg

    def _is_over(self, leg: Mapping[str, Any]) -> bool:
        """
        Who had it passed the call on; or it has ended, and what it ended was seen: else the end was
        told by a clock that is behind.
        """
        answered_at, extension = leg.get("answered_at"), leg["callee"].extension
        if answered_at is not None and extension is not None:
            passed_on = (step.at for step in self.transfers if step.by.extension == extension)
            if any(at >= answered_at for at in passed_on):
                return True
        seen = "answered_at" if leg.get("outcome") is LegOutcome.ANSWERED else "rang_at"
        return "ended_at" in leg and seen in leg

    def _ringing(self, body: CallRinging, at: datetime) -> None:
        leg = self._leg(body)
        leg.setdefault("rang_at", at)
        leg["queue"] = body.queue
        if not body.own_phone:
            self.waits_since = self.waits_since or at

    def _answered(self, body: CallAnswered, at: datetime) -> None:
        self._leg(body).setdefault("answered_at", at)
        if not body.own_phone:
            self.found.setdefault("answered_at", at)

    def _holds_no_more(self, leg_id: str, at: datetime | None) -> None:
        self.holders.discard(leg_id)
        if self.holders or self.held_since is None:
            return
        if at is not None:
            self.held += max(at - self.held_since, NOTHING)
        self.held_since = None

    def _leg_ended(self, body: LegEnded, at: datetime) -> None:
        self._holds_no_more(body.leg_id, at)
        leg = self._leg(body)
        leg["ended_at"] = at
        if leg.get("outcome") is not LegOutcome.ANSWERED:
            leg["outcome"] = body.outcome

    def _ended(self, body: CallEnded, at: datetime) -> None:
        """The better known end holds; what it does not say, the other may."""
        known = self.ended
        if known is None or body.known.rank <= known.known.rank:
            self.ended = _filled(body, known)
            self.found["ended_at"] = at
        else:
            self.ended = _filled(known, body)

    def _beside(self, body: Event, at: datetime) -> None:
        """What other services found out about the call."""
        match body:
            case CallTransferred():
                self.transfers.append(TransferRecord(at=at, kind=body.kind, by=body.by, to=body.to))
            case RecordingReady():
                self.recordings.setdefault(body.recording)
            case CallRouted():
                self.found["route"] = body.decision
            case ContactResolved():
                self._resolved(body)
            case ContactUnknown():
                self.found.setdefault("contact_known", False)
            case CallSummarised():
                said = body.model_dump(include=_SUMMARY, exclude_none=True)
                self.found.update(said)
            case DialStateChanged():
                self.found["caller_id"] = body.caller_id or self.found.get("caller_id")
            case CallJournaled():
                self._journaled(body)
            case JournalFailed():
                # The last word holds: one that the CRM lost may be dead after it was sent.
                self.entries[body.entry_key] = EntryRecord(
                    connection=body.connection,
                    agent=body.agent,
                    state=EntryState.DEAD,
                    attempts=body.attempts,
                    reason=body.reason,
                )
            case _:
                pass

    def _journaled(self, body: CallJournaled) -> None:
        before = self.entries.get(body.entry_key)
        # One that was sent again, under another id, has not been changed.
        is_same = before is not None and before.entry_id == body.entry_id
        updates = (before.updates if before and is_same else 0) + body.updated
        self.entries[body.entry_key] = EntryRecord(
            connection=body.connection,
            agent=body.agent,
            state=EntryState.UPDATED if updates else EntryState.SENT,
            entry_id=body.entry_id,
            updates=updates,
        )

    def _resolved(self, body: ContactResolved) -> None:
        """What a person chose stays, whatever is found out after it."""
        self.found["contact_known"] = True
        if body.candidates:
            self.found["candidates"] = body.candidates
        if body.chosen_by is not None or "chosen_by" not in self.found:
            self.found["contact"] = None if body.ambiguous else body.contact
        if body.chosen_by is not None:
            self.found["chosen_by"] = body.chosen_by

    def _disposition(self, legs: Sequence[LegRecord]) -> Disposition | None:
        """The PBX's own word, where it has one; None while the call lasts."""
        if self.ended is None:
            return None
        if self.ended.disposition is not None:
            return self.ended.disposition
        if "answered_at" in self.found:
            return Disposition.ANSWERED
        if any(leg.outcome is LegOutcome.BUSY for leg in legs):
            return Disposition.BUSY
        inbound = self.found.get("direction") is Direction.INBOUND
        rang = any(leg.rang_at is not None and not leg.own_phone for leg in legs)
        return Disposition.MISSED if rang or inbound else Disposition.FAILED

    def _waited(self, disposition: Disposition | None, legs: Sequence[LegRecord]) -> timedelta:
        until: datetime | None = self.found.get("answered_at") or self.found.get("ended_at")
        if disposition is Disposition.VOICEMAIL:
            # Leaving a message is no wait.
            until = max((leg.ended_at for leg in legs if leg.ended_at), default=until)
        if until is None or self.waits_since is None:
            return NOTHING
        return max(until - self.waits_since, NOTHING)

    def _talked(self, answered_at: datetime | None, ended_at: datetime | None) -> timedelta:
        if self.ended is not None and self.ended.talk_time is not None:
            return self.ended.talk_time
        if answered_at is None or ended_at is None:
            return NOTHING
        return max(ended_at - answered_at - self.held, NOTHING)


def _filled(better: CallEnded, other: CallEnded | None) -> CallEnded:
    said = ("disposition", "talk_time", "hangup_by", "cause")
    missing = [name for name in said if getattr(better, name) is None]
    return better.model_copy(update={name: getattr(other, name, None) for name in missing})


def agent_of(record: CallRecord) -> str | None:
    """
    Whose call it was: who answered last, else the agent that called, else who was rung first, else
    whose phone or voicemail it was sent to, though that did not ring.
    """
    ours = [leg for leg in record.legs if leg.callee.extension]
    answered = [leg for leg in ours if leg.answered_at is not None]
    if record.direction is not Direction.INBOUND and record.caller and record.caller.extension:
        return record.caller.extension
    if answered:
        return max(answered, key=lambda leg: (leg.answered_at, leg.leg_id)).callee.extension
    rung = [leg for leg in ours if leg.rang_at is not None] or ours
    if rung:
        return rung[0].callee.extension
    place = record.route.destination if record.route else None
    return place.target if place is not None and place.kind in _SOMEBODYS else None
