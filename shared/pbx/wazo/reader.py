"""
Messages of a Wazo's WebSocket → call events. Pure.

A call is a conversation (Asterisk's Linkedid), a leg a channel (its Uniqueid; Wazo says call_id).
Beside the messages as they come there is one that the transport composes after (re)connecting:
``{"op": "resync", "data": {"items": […]}, "heard": …}``, the answer of ``GET /calld/1.0/calls``;
*heard* is until when the connection before was up. Times are Wazo's where an event has one with a
zone, else ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import structlog

from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.calls import (
    CallHeld,
    CallResumed,
    LegOutcome,
    PbxResynced,
)
from shared.errors import ContractError
from shared.ids import call_id
from shared.pbx.port import Phones, Sighting
from shared.pbx.statuses import own_word
from shared.pbx.told import SETTLE, ToldCall
from shared.pbx.wazo.calls import UP, WazoCall, WazoLeg
from shared.pbx.wazo.fields import (
    Channel,
    Values,
    channel,
    id_in,
    moment_in,
    part_of,
    parts_of,
    text_in,
    users_of,
    values_of,
    whole_in,
)
from shared.pbx.wazo.pauses import paused_for, words_of
from shared.pbx.wazo.reports import report_of

log = structlog.get_logger(__name__)

_LINGER = timedelta(seconds=2)
#: Where the caller's end is not shown, it may wait for a next phone; the call log ends that.
_LINGER_UNANSWERED = timedelta(seconds=30)
#: A call's log comes some seconds after its end.
_REMEMBERED = timedelta(minutes=10)
_MOST_CALLS, _MOST_IN_A_CALL, _MOST_REMEMBERED = 5000, 200, 20_000
_REASONS = {
    "busy": LegOutcome.BUSY,
    "channel-unavailable": LegOutcome.UNREACHABLE,
    "phone-unreachable": LegOutcome.UNREACHABLE,
}

_Read = Callable[[Values, Values, datetime], None]


class WazoReader:
    """One Wazo connection of one tenant. *base* is the address of the Wazo."""

    def __init__(
        self,
        *,
        tenant: str,
        pbx: str,
        base: str,
        tenant_uuid: str | None = None,
        statuses: Mapping[AgentStatus, str] | None = None,
    ) -> None:
        self._words = words_of(statuses)
        self._tenant = tenant
        self._pbx = pbx
        self._base = base.rstrip("/")
        self._only = tenant_uuid
        self._phones = Phones()
        self._calls: dict[str, WazoCall] = {}
        self._legs: dict[str, WazoLeg] = {}
        #: Conversations that ended, and when: their logs are still to come.
        self._ended: dict[str, datetime] = {}
        #: Channels that are gone: an event that comes after the end does not bring them back.
        self._gone: dict[str, datetime] = {}
        self._out: list[Sighting] = []
        self._full = False
        self._readers: dict[str, _Read] = {
            "call_created": self._call,
            "call_updated": self._call,
            "call_answered": self._call,
            "call_ended": self._call_ended,
            "call_held": self._held,
            "call_resumed": self._resumed,
            "user_missed_call": self._missed,
            "transfer_completed": self._transfer,
            "call_log_created": self._call_log,
            "agent_paused": self._agent,
            "agent_unpaused": self._agent,
        }

    @property
    def wanted(self) -> tuple[str, ...]:
        """The events to subscribe to."""
        return tuple(self._readers)

    @property
    def live_calls(self) -> int:
        return len(self._calls)

    def know(self, phones: Phones) -> None:
        self._phones = phones
        for call in self._calls.values():
            call.phones = phones

    def read(self, record: bytes, *, now: datetime) -> list[Sighting]:
        """Raises: ContractError."""
        self._close_quiet(now)
        message = values_of(record)
        op = message.get("op")
        if op == "resync":
            heard = moment_in(message, "heard", now=now) or now
            self._resync(parts_of(part_of(message, "data"), "items"), now, heard)
        elif op == "event":
            self._event(part_of(message, "data"), now)
        return self._taken()

    def tick(self, now: datetime) -> list[Sighting]:
        self._close_quiet(now)
        return self._taken()

    def _event(self, envelope: Values, now: datetime) -> None:
        read = self._readers.get(text_in(envelope, "name"))
        tenant = text_in(envelope, "tenant_uuid")
        if read is None or (self._only is not None and tenant and tenant != self._only):
            return
        read(part_of(envelope, "data"), envelope, now)

    # -- channels ----------------------------------------------------------------------------

    def _call(self, data: Values, _: Values, now: datetime) -> None:
        self._show(channel(data, now=now), now, joining=False)

    def _show(self, seen: Channel, now: datetime, *, joining: bool) -> None:
        leg = self._legs.get(seen.leg)
        if leg is None:
            if seen.leg in self._gone:
                return
            leg = self._enter(seen, now, joining=joining)
            if leg is None:
                return
        elif leg.call.conversation != seen.call and seen.call in self._calls:
            leg = self._move(leg, seen, self._calls[seen.call], now)
        leg.seen = seen
        leg.call.update(leg, now)

    def _enter(self, seen: Channel, now: datetime, *, joining: bool) -> WazoLeg | None:
        call = self._calls.get(seen.call)
        if call is None and len(self._calls) >= _MOST_CALLS:
            self._say_full()
            return None
        if call is not None and len(call.channels) >= _MOST_IN_A_CALL and not call.forget_one():
            self._say_full()
            return None
        if call is None:
            # One that was given up while its caller waited goes on.
            self._ended.pop(seen.call, None)
            call = self._calls[seen.call] = WazoCall(
                tenant=self._tenant,
                pbx=self._pbx,
                began_at=seen.created_at or now,
                out=self._out,
                conversation=seen.call,
                phones=self._phones,
                joined=joining and seen.status == UP,
            )
        leg = self._legs[seen.leg] = call.channels[seen.leg] = WazoLeg(seen, call)
        call.quiet_since, call.lost = None, False
        return leg

    def _move(self, leg: WazoLeg, seen: Channel, call: WazoCall, now: datetime) -> WazoLeg:
        """A channel whose conversation changed has joined an older call: a transfer by the phone."""
        source = leg.call
        source.merged = True
        self._leave(leg, now, now, cause=None)
        moved = self._legs[seen.leg] = call.channels[seen.leg] = WazoLeg(seen, call)
        call.quiet_since = None
        by = source.joins(call)
        if by is not None and not seen.is_caller and call.name is not None:
            call.tell_transfer(f"{source.conversation}/{seen.leg}", now, by, moved, blind=False)
        return moved

    def _call_ended(self, data: Values, _: Values, now: datetime) -> None:
        name = id_in(data, "call_id")
        self._gone[name] = now
        leg = self._legs.pop(name, None)
        if leg is not None:
            at = moment_in(data, "hangup_time", now=now) or now
            self._leave(leg, at, now, cause=whole_in(data, "reason_code"))

    @staticmethod
    def _leave(leg: WazoLeg, at: datetime, now: datetime, *, cause: int | None) -> None:
        call = leg.call
        call.gone(leg, at, cause=cause)
        if call.is_over:
            call.ended_at, call.quiet_since = at, now

    # -- what else is told -------------------------------------------------------------------

    def _held(self, data: Values, envelope: Values, now: datetime) -> None:
        leg = self._legs.get(text_in(data, "call_id"))
        if leg is not None and leg.call.name is not None:
            key = f"held/{leg.seen.leg}/{_stamp(envelope, now)}"
            leg.call.tell(now, key, CallHeld, leg_id=leg.seen.leg)

    def _resumed(self, data: Values, envelope: Values, now: datetime) -> None:
        leg = self._legs.get(text_in(data, "call_id"))
        if leg is not None and leg.call.name is not None:
            key = f"resumed/{leg.seen.leg}/{_stamp(envelope, now)}"
            leg.call.tell(now, key, CallResumed, leg_id=leg.seen.leg)

    def _missed(self, data: Values, _: Values, now: datetime) -> None:
        """A user whose phone was off has no channel: this is all that is seen of the attempt."""
        call = self._calls.get(text_in(data, "conversation_id"))
        user = id_in(data, "user_uuid")
        extension = self._phones.users.get(user)
        if call is None or extension is None or call.name is None:
            return
        if any(leg.seen.user == user for leg in call.channels.values()):
            return
        outcome = _REASONS.get(text_in(data, "reason"), LegOutcome.NO_ANSWER)
        call.refuse(f"missed/{user}", extension, now, outcome)

    def _transfer(self, data: Values, _: Values, now: datetime) -> None:
        """One that Wazo carries out; *transferred_call* goes on with *recipient_call*."""
        legs = (self._legs.get(text_in(data, n)) for n in ("transferred_call", "initiator_call"))
        leg = next((leg for leg in legs if leg is not None), None)
        recipient = self._legs.get(text_in(data, "recipient_call"))
        by = self._phones.users.get(text_in(data, "initiator_uuid"))
        if leg is None or recipient is None or by is None or leg.call.name is None:
            return
        blind = text_in(data, "flow") == "blind"
        leg.call.tell_transfer(text_in(data, "id"), now, by, recipient, blind=blind)

    def _agent(self, data: Values, envelope: Values, now: datetime) -> None:
        number = text_in(data, "agent_number")
        users = (self._phones.users.get(user) for user in users_of(envelope))
        extension = next((known for known in users if known), None)
        if extension is None and number in self._phones.extensions:
            extension = number
        paused = data.get("paused")
        if extension is None or not isinstance(paused, bool):
            return
        status, own = AgentStatus.FREE, None
        if paused:
            reason = text_in(data, "paused_reason")
            status, own = paused_for(reason, self._words), own_word(reason)
        key = f"{self._pbx}/agent/{extension}/{status}/{_stamp(envelope, now)}"
        body = AgentStatusChanged(
            extension=extension, status=status, source_name=self._pbx, own=own
        )
        self._out.append(Sighting(body, now, key))

    def _call_log(self, data: Values, _: Values, now: datetime) -> None:
        report = report_of(data, self._phones, base=self._base, now=now)
        if report is None:
            return
        call = self._calls.get(report.conversation)
        if call is not None:
            report.begin(call)
            report.tell_end(call)
            self._close(call, min(call.ended_at or report.end, report.end), now)
            return
        told = ToldCall(tenant=self._tenant, pbx=self._pbx, began_at=report.start, out=self._out)
        if report.conversation in self._ended:
            told.name = report.conversation
            told.identity = call_id(self._tenant, self._pbx, report.conversation)
        else:
            report.tell_all(told)
        report.tell_end(told)

    # -- after a gap -------------------------------------------------------------------------

    def _resync(self, items: list[Values], now: datetime, heard: datetime) -> None:
        """
        The list has every channel, of other tenants and of Asterisk's own as well: a call that
        began in the gap is taken where one of the site's users is in it.
        """
        present = []
        for item in items:
            try:
                present.append(channel(item, now=now))
            except ContractError:
                continue
        # Who talks first: that tells whether we came in the middle of a call.
        present.sort(key=lambda one: one.status != UP)
        ours = {one.call for one in present if one.is_sip and one.user in self._phones.users}
        for one in present:
            if one.leg in self._legs or (one.is_sip and one.call in {*self._calls, *ours}):
                self._show(one, now, joining=True)
        here = {text_in(item, "call_id") for item in items}
        for name in [name for name in self._legs if name not in here]:
            leg = self._legs.pop(name)
            self._leave(leg, now, now, cause=None)
            leg.call.lost = leg.call.is_over
        for call in [call for call in self._calls.values() if call.lost]:
            self._close(call, now, now)
        live = tuple(sorted({one.call for one in present} | self._calls.keys()))
        body = PbxResynced(pbx=self._pbx, live=live, heard_until=min(heard, now))
        self._out.append(Sighting(body, now, f"{self._pbx}/resynced/{now.isoformat()}"))

    # -- the end -----------------------------------------------------------------------------

    def _close_quiet(self, now: datetime) -> None:
        for call in list(self._calls.values()):
            if call.name is not None:
                call.settle(before=now - SETTLE)
            if call.quiet_since is None or call.ended_at is None:
                continue
            waits = not call.answered and not call.shows_caller
            if now - call.quiet_since >= (_LINGER_UNANSWERED if waits else _LINGER):
                call.silent = waits
                self._close(call, call.ended_at, now)
        _forget_old(self._ended, now)
        _forget_old(self._gone, now)

    def _close(self, call: WazoCall, at: datetime, now: datetime) -> None:
        self._calls.pop(call.conversation, None)
        for name in call.channels:
            self._gone[name] = now
            if (leg := self._legs.get(name)) is not None and leg.call is call:
                del self._legs[name]
        self._ended[call.conversation] = now
        call.close(at)
        self._full = False

    def _say_full(self) -> None:
        if not self._full:
            self._full = True
            log.error("pbx_too_many_calls", pbx=self._pbx, live=len(self._calls))

    def _taken(self) -> list[Sighting]:
        found, self._out[:] = list(self._out), []
        return found


def _forget_old(memory: dict[str, datetime], now: datetime) -> None:
    old: list[str] = []
    for name, since in memory.items():
        if now - since < _REMEMBERED and len(memory) - len(old) <= _MOST_REMEMBERED:
            break
        old.append(name)
    for name in old:
        del memory[name]


def _stamp(envelope: Values, now: datetime) -> str:
    """When it was told, as Wazo writes it: without a zone, but the same for every replica."""
    return text_in(envelope, "timestamp") or now.isoformat()
