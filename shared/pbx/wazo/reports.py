"""Wazo's own record of a call, sent after it: ``call_log_created`` → what is told of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    Direction,
    Disposition,
    EndKnown,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
)
from shared.pbx.port import Phones
from shared.pbx.told import ToldCall
from shared.pbx.wazo.fields import (
    Values,
    direction_in,
    id_in,
    length_in,
    moment_in,
    parts_of,
    shown_in,
    text_in,
)

_LONGEST_NAME = 2048


@dataclass(frozen=True, slots=True)
class Report:
    """*recordings* are uuid and address, or the file's name where there is no address."""

    conversation: str
    direction: Direction
    start: datetime
    end: datetime
    answered: bool
    talked: timedelta | None
    source: Party
    target: Party
    dialled: str
    recordings: tuple[tuple[str, str], ...]

    def begin(self, call: ToldCall) -> None:
        """Where no event of the call said what it was."""
        call.start(
            self.conversation, self.direction, caller=self.source, dialled=self.dialled or None
        )

    def tell_all(self, call: ToldCall) -> None:
        """Of a call of which nothing else came."""
        call.began_at = self.start
        self.begin(call)
        leg, target = f"{self.conversation}/log", self.target
        if target.extension is None and target.number is None:
            return
        if self.answered:
            since = max(self.end - (self.talked or timedelta(0)), self.start)
            call.tell(since, f"answered/{leg}", CallAnswered, leg_id=leg, callee=target)
        outcome = LegOutcome.ANSWERED if self.answered else LegOutcome.NO_ANSWER
        call.tell(
            self.end, f"leg-ended/{leg}", LegEnded, leg_id=leg, callee=target, outcome=outcome
        )

    def tell_end(self, call: ToldCall) -> None:
        """Beside what was seen, which holds where it was seen from the beginning."""
        missed = Disposition.MISSED if self.direction is Direction.INBOUND else None
        call.tell(
            self.end,
            "ended/report",
            CallEnded,
            disposition=Disposition.ANSWERED if self.answered else missed,
            talk_time=self.talked,
            known=EndKnown.REPORT,
        )
        for uuid, name in self.recordings:
            call.tell(self.end, f"recording/{uuid}", RecordingReady, recording=name)


def report_of(data: Values, phones: Phones, *, base: str, now: datetime) -> Report | None:
    """*base* is the address of the Wazo. None for a record of which the call is not known."""
    conversation = id_in(data, "conversation_id")
    if not conversation:
        return None
    end = moment_in(data, "end", now=now) or now
    start = min(moment_in(data, "start", now=now) or end, end)
    # The type of Wazo's bus spells it wrongly.
    direction = direction_in(data, "call_direction", "call_drection") or Direction.INTERNAL
    answered = data.get("answered") is True
    return Report(
        conversation=conversation,
        direction=direction,
        start=start,
        end=end,
        answered=answered,
        talked=length_in(data, "duration") if answered else timedelta(0),
        source=_party(data, "source", phones, inside=direction is not Direction.INBOUND),
        target=_party(data, "destination", phones, inside=direction is not Direction.OUTBOUND),
        dialled=shown_in(data, "requested_extension") or shown_in(data, "destination_extension"),
        recordings=_recordings(data, base),
    )


def _party(data: Values, side: str, phones: Phones, *, inside: bool) -> Party:
    user = text_in(data, f"{side}_user_uuid")
    number = shown_in(data, f"{side}_extension")
    name = shown_in(data, f"{side}_name") or None
    known = phones.users.get(user)
    if known is not None:
        return Party(extension=known)
    if inside and user:
        extension = shown_in(data, f"{side}_internal_extension") or number
        return Party(extension=extension or None)
    if inside and number in phones.extensions:
        return Party(extension=number)
    return Party(number=number or None, name=name if name != number else None)


def _recordings(data: Values, base: str) -> tuple[tuple[str, str], ...]:
    record = text_in(data, "id")
    found = []
    for part in parts_of(data, "recordings")[:50]:
        uuid, file = text_in(part, "uuid"), text_in(part, "filename")
        if uuid and record and set(uuid) <= set("0123456789abcdefABCDEF-"):
            address = f"{base}/api/call-logd/1.0/cdr/{record}/recordings/{uuid}/media"
            found.append((uuid, address[:_LONGEST_NAME]))
        elif file:
            found.append((file, file))
    return tuple(found)
