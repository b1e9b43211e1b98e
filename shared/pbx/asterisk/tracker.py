"""
Channel events of one Asterisk → call events. Pure: messages and times in, sightings out.

What is built on was measured on Asterisk 16 and 22 (see docs/explanation/asterisk-events.md):

* A call is a Linkedid, a leg is a Uniqueid; the first leg's are equal. Only the order of one
  channel's events holds; facts come twice, and before or after each other.
* The first leg says what the call is: Ring from a trunk is inbound; Ring from a phone is
  outbound or internal, which the first leg that it dials decides; Down on a phone is
  click-to-call, whose first leg is the agent's own phone.
* A dialled phone that "answers" first in click-to-call is no answered call. Talk time is what
  the outside party spends in a bridge with somebody else in it.
* A CANCEL is "answered elsewhere" or "gave up": the cause of the hangup says which.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import Any

from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallHeld,
    CallQueued,
    CallResumed,
    CallRinging,
    CallStarted,
    CallTransferred,
    Direction,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
    TransferKind,
)
from shared.ids import call_id
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.channels import (
    ANSWERED_ELSEWHERE,
    BY_DIAL_STATUS,
    LOCAL,
    Kind,
    bounded,
    endpoint_of,
    outcome_by_cause,
    shown,
)
from shared.pbx.asterisk.live import LiveCall, LiveLeg
from shared.pbx.port import Sighting

#: Set by Originate on the agent's channel and inherited: which order a call belongs to.
CLICK_VARIABLE = "CRM_CLICK_ID"
_RECORDING_VARIABLE = "MIXMONITOR_FILENAME"

#: A clock that is further off is not believed; ours is right, or all of the mesh is wrong.
_FAR_OFF = timedelta(days=1)
#: What follows the last leg of a call follows it by less than this.
_LINGER = timedelta(milliseconds=200)


class CallTracker:
    """One PBX connection of one tenant. *trunks* are endpoints, *extensions* the known phones."""

    def __init__(
        self, *, tenant: str, pbx: str, trunks: Collection[str], extensions: Collection[str] = ()
    ) -> None:
        self._tenant = tenant
        self._pbx = pbx
        self._trunks = frozenset(trunks)
        self._extensions = frozenset(extensions)
        self._calls: dict[str, LiveCall] = {}
        self._legs: dict[str, LiveLeg] = {}
        self._bridges: dict[str, set[str]] = {}
        #: Our clock, by which we wait, and by how much the PBX's is ahead of it.
        self._now = datetime.min.replace(tzinfo=UTC)
        self._ahead = timedelta(0)
        self._out: list[Sighting] = []
        self._readers = {
            "Newchannel": self._new_channel,
            "Newstate": self._new_state,
            "DialBegin": self._dial_begin,
            "DialEnd": self._dial_end,
            "BridgeEnter": self._bridge_enter,
            "BridgeLeave": self._bridge_leave,
            "HangupRequest": self._hangup_request,
            "Hangup": self._hangup,
            "QueueCallerJoin": self._queue_join,
            "QueueCallerAbandon": self._queue_abandon,
            "Hold": self._hold,
            "Unhold": self._unhold,
            "BlindTransfer": self._blind_transfer,
            "AttendedTransfer": self._attended_transfer,
            "MessageWaiting": self._message_waiting,
            "MixMonitorStart": self._recording,
        }

    @property
    def wanted(self) -> frozenset[str]:
        """The events that are read; all others need not even be decoded."""
        return frozenset(self._readers)

    @property
    def live_calls(self) -> int:
        return len(self._calls)

    def feed(self, message: AmiMessage, *, now: datetime) -> list[Sighting]:
        """*now* is by our clock: for waiting, and for a PBX without ``timestampevents``."""
        reader = self._readers.get(message.event)
        if reader is None:
            return []
        message = bounded(message)
        at = _stamp(message, now)
        self._now, self._ahead = now, at - now
        self._close_calls()
        self._follow(message, at)
        reader(message, at)
        return self._taken()

    def tick(self, now: datetime) -> list[Sighting]:
        """Ends what nothing followed; called while the PBX is quiet."""
        self._now = now
        self._close_calls()
        return self._taken()

    def resync(self, live: Collection[str], *, now: datetime) -> list[Sighting]:
        """
        After a gap: of the legs that are not among *live* (Uniqueids of CoreShowChannels) the
        end was missed; they end now.
        """
        self._now, at = now, now + self._ahead
        for leg in [leg for u, leg in self._legs.items() if not leg.gone and u not in live]:
            self._leg_gone(leg, at, cause=None)
        self._now += _LINGER
        self._close_calls()
        return self._taken()

    # -- who is who --------------------------------------------------------------------------

    def _kind(self, channel: str) -> Kind:
        technology, endpoint = endpoint_of(channel)
        if technology == LOCAL:
            return Kind.LOCAL
        return Kind.TRUNK if endpoint in self._trunks else Kind.PHONE

    def _party(self, leg: LiveLeg) -> Party:
        if leg.kind is Kind.TRUNK:
            return Party(number=leg.number)
        return Party(extension=leg.endpoint)

    def _follow(self, message: AmiMessage, at: datetime) -> None:
        """A leg whose Linkedid changed has joined another call."""
        leg = self._legs.get(message.get("Uniqueid"))
        linkedid = message.get("Linkedid")
        if leg is None or not linkedid or leg.call.linkedid == linkedid:
            return
        target = self._calls.get(linkedid)
        if target is None:
            return
        source = leg.call
        source.move(leg, target)
        if leg.answered and leg.kind is Kind.PHONE:
            self._tell_answered(leg, at)  # the other call's answer is not this one's
        if source.is_over:
            source.begin_to_close(at, self._now)

    # -- events ------------------------------------------------------------------------------

    def _new_channel(self, message: AmiMessage, at: datetime) -> None:
        uniqueid, linkedid = message.get("Uniqueid"), message.get("Linkedid")
        if not uniqueid or uniqueid in self._legs:
            return
        channel = message.get("Channel")
        call = self._calls.get(linkedid)
        if call is None:
            if uniqueid != linkedid:
                return  # we came in the middle of this call
            call = LiveCall(linkedid, at, exten=message.get("Exten"))
            self._calls[linkedid] = call
        leg = LiveLeg(uniqueid, endpoint_of(channel)[1], self._kind(channel), call)
        call.legs[uniqueid] = self._legs[uniqueid] = leg
        if call.first is None:
            call.first = leg
            call.originated = message.get("ChannelStateDesc") == "Down"
            leg.number = shown(message.get("CallerIDNum"))
            leg.name = shown(message.get("CallerIDName"))
            if leg.kind is Kind.TRUNK and not call.originated:
                self._start(call, Direction.INBOUND, dialled=call.exten)

    def _new_state(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        if leg is None or leg.kind is Kind.LOCAL or message.get("ChannelStateDesc") != "Ringing":
            return
        call = leg.call
        caller = Party(
            number=shown(message.get("ConnectedLineNum")),
            name=shown(message.get("ConnectedLineName")),
        )
        if leg is call.first:
            call.dial_id = message.variable(CLICK_VARIABLE) or call.dial_id
            inside = caller.number in self._extensions
            direction = Direction.INTERNAL if inside else Direction.OUTBOUND
            if caller.number is not None:
                self._start(call, direction, dialled=caller.number)
        if leg.rang:
            return
        leg.rang = True
        if leg.kind is Kind.TRUNK and leg.number is None:
            leg.number = shown(message.get("CallerIDNum"))  # it rings before it is dialled
        self._emit(
            call,
            at,
            f"ringing/{leg.uniqueid}",
            CallRinging(
                **self._base(call),
                leg_id=leg.uniqueid,
                callee=self._party(leg),
                caller=caller,
                queue=call.queue,
                own_phone=leg is call.first,
            ),
        )

    def _dial_begin(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("DestUniqueid"))
        if leg is None or leg is leg.call.first:
            return
        call = leg.call
        leg.offered = True
        if leg.kind is Kind.TRUNK:
            # ``+447700900777@trunk`` or ``trunk/+447700900777``.
            dialled = message.get("DialString")
            number = dialled.partition("@")[0] if "@" in dialled else dialled.rpartition("/")[2]
            leg.number = shown(number) or call.exten
            call.outside = call.outside or (leg if not self._is_inbound(call) else None)
        direction = Direction.OUTBOUND if leg.kind is Kind.TRUNK else Direction.INTERNAL
        # An order without a caller id: the agent's phone did not show whom it will dial.
        ordered = (leg.number or leg.endpoint) if call.originated else None
        self._start(call, direction, dialled=ordered or call.exten)

    def _dial_end(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("DestUniqueid"))
        if leg is None or leg.kind is Kind.LOCAL:
            return
        status = message.get("DialStatus")
        if status == "ANSWER":
            self._answered(leg, at)
        elif status in BY_DIAL_STATUS and not leg.answered:
            self._leg_over(leg, at, BY_DIAL_STATUS[status])

    def _bridge_enter(self, message: AmiMessage, at: datetime) -> None:
        self._bridge(message, at, enters=True)

    def _bridge_leave(self, message: AmiMessage, at: datetime) -> None:
        self._bridge(message, at, enters=False)

    def _bridge(self, message: AmiMessage, at: datetime, *, enters: bool) -> None:
        bridge, uniqueid = message.get("BridgeUniqueid"), message.get("Uniqueid")
        members = self._bridges.setdefault(bridge, set())
        if enters:
            members.add(uniqueid)
        else:
            members.discard(uniqueid)
        for member in {*members, uniqueid}:
            if (leg := self._legs.get(member)) is not None:
                leg.call.talk(leg, at, together=member in members and len(members) > 1)
        if not members:
            del self._bridges[bridge]

    def _hangup_request(self, message: AmiMessage, _: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        if leg is not None and leg.kind is not Kind.LOCAL:
            leg.call.asked_to_hang_up = leg

    def _hangup(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        if leg is not None and not leg.gone:
            self._leg_gone(leg, at, cause=_whole(message.get("Cause")))

    def _queue_join(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        if leg is None:
            return
        leg.call.queue = message.get("Queue")
        self._emit(
            leg.call,
            at,
            f"queued/{leg.call.queue}/{at.isoformat()}",
            CallQueued(
                **self._base(leg.call),
                queue=leg.call.queue,
                position=_whole(message.get("Position")),
            ),
        )

    def _queue_abandon(self, message: AmiMessage, _: datetime) -> None:
        if (leg := self._legs.get(message.get("Uniqueid"))) is not None:
            leg.call.abandoned = True

    def _hold(self, message: AmiMessage, at: datetime) -> None:
        if (leg := self._legs.get(message.get("Uniqueid"))) is not None:
            leg.holds = True
            leg.call.count_talk(at)
            body = CallHeld(**self._base(leg.call), leg_id=leg.uniqueid)
            self._emit(leg.call, at, f"held/{leg.uniqueid}/{at.isoformat()}", body)

    def _unhold(self, message: AmiMessage, at: datetime) -> None:
        if (leg := self._legs.get(message.get("Uniqueid"))) is not None:
            leg.holds = False
            leg.call.count_talk(at)
            body = CallResumed(**self._base(leg.call), leg_id=leg.uniqueid)
            self._emit(leg.call, at, f"resumed/{leg.uniqueid}/{at.isoformat()}", body)

    def _blind_transfer(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("TransfererUniqueid"))
        target = shown(message.get("Extension"))
        if leg is None or target is None or message.get("Result") not in {"", "Success"}:
            return
        self._transferred(leg, at, TransferKind.BLIND, self._named(target))

    def _attended_transfer(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("OrigTransfererUniqueid"))
        if leg is None:
            return
        # 22 names the target; on 16 it is who is left of the second call.
        target = message.get("TransferTargetChannel")
        to = endpoint_of(target)[1] if target else self._left_in(message, leg)
        if to is not None:
            self._transferred(leg, at, TransferKind.ATTENDED, self._named(to))

    def _left_in(self, message: AmiMessage, transferer: LiveLeg) -> str | None:
        second = self._calls.get(message.get("SecondTransfererLinkedid"))
        legs = second.legs.values() if second else ()
        return next(
            (
                leg.endpoint
                for leg in legs
                if leg.kind is Kind.PHONE and leg.endpoint != transferer.endpoint and not leg.gone
            ),
            None,
        )

    def _transferred(self, leg: LiveLeg, at: datetime, kind: TransferKind, to: Party) -> None:
        body = CallTransferred(**self._base(leg.call), kind=kind, by=self._party(leg), to=to)
        self._emit(leg.call, at, f"transferred/{leg.uniqueid}/{to.label}", body)

    def _message_waiting(self, message: AmiMessage, _: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        if leg is not None and _whole(message.get("New")):
            leg.call.voicemail = True

    def _recording(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        file = message.variable(_RECORDING_VARIABLE)
        if leg is None or not file or file in leg.call.recordings:
            return
        leg.call.recordings.add(file)
        body = RecordingReady(**self._base(leg.call), recording=file)
        self._emit(leg.call, at, f"recording/{file}", body)

    # -- what follows from them --------------------------------------------------------------

    def _start(self, call: LiveCall, direction: Direction, *, dialled: str | None) -> None:
        """Once; dated back to the first channel, where the direction is known only later."""
        first = call.first
        if call.started or first is None:
            return
        call.started = True
        call.direction = direction
        if direction is not Direction.OUTBOUND:
            call.outside = first
        if first.kind is Kind.TRUNK:
            caller = Party(number=first.number, name=first.name)
        else:
            caller = Party(extension=first.endpoint, name=None if call.originated else first.name)
        body = CallStarted(
            **self._base(call),
            pbx_call_id=call.linkedid,
            direction=direction,
            caller=caller,
            dialled=dialled,
            dial_id=call.dial_id,
        )
        self._emit(call, call.began_at, "started", body)

    def _answered(self, leg: LiveLeg, at: datetime) -> None:
        if leg.answered:
            return
        leg.answered = True
        self._tell_answered(leg, at)

    def _tell_answered(self, leg: LiveLeg, at: datetime) -> None:
        own_phone = leg is leg.call.first
        leg.call.answered = leg.call.answered or not own_phone
        body = CallAnswered(
            **self._base(leg.call),
            leg_id=leg.uniqueid,
            callee=self._party(leg),
            own_phone=own_phone,
        )
        self._emit(leg.call, at, f"answered/{leg.uniqueid}", body)

    def _leg_over(self, leg: LiveLeg, at: datetime, outcome: LegOutcome) -> None:
        if leg.outcome is not None:
            return
        leg.outcome = outcome
        body = LegEnded(
            **self._base(leg.call),
            leg_id=leg.uniqueid,
            callee=self._party(leg),
            outcome=outcome,
            own_phone=leg is leg.call.first,
        )
        self._emit(leg.call, at, f"leg-ended/{leg.uniqueid}", body)

    def _leg_gone(self, leg: LiveLeg, at: datetime, *, cause: int | None) -> None:
        call = leg.call
        leg.gone, leg.holds = True, False
        call.talk(leg, at, together=False)
        call.count_talk(at)
        if leg.kind is not Kind.LOCAL and (leg.offered or (leg is call.first and call.originated)):
            gave_up = call.asked_to_hang_up is call.first and not call.answered
            outcome = LegOutcome.ANSWERED if leg.answered else outcome_by_cause(cause)
            if gave_up and outcome is LegOutcome.ELSEWHERE and cause != ANSWERED_ELSEWHERE:
                outcome = LegOutcome.CANCELLED
            if gave_up and outcome is LegOutcome.NO_ANSWER and leg is not call.first:
                outcome = LegOutcome.CANCELLED
            self._leg_over(leg, at, outcome)
        if leg is call.first:
            call.cause = cause
        if call.is_over:
            call.begin_to_close(at, self._now)

    def _close_calls(self) -> None:
        due = [
            call
            for call in self._calls.values()
            if call.quiet_since is not None and self._now - call.quiet_since >= _LINGER
        ]
        for call in due:
            if call.is_over:
                self._close(call)
            else:
                call.quiet_since = None  # a leg came after all

    def _close(self, call: LiveCall) -> None:
        del self._calls[call.linkedid]
        for uniqueid in call.legs:
            self._legs.pop(uniqueid, None)
        if call.merged and not call.started:
            return
        ended_at = call.ended_at or call.began_at
        # A phone that called nobody: a feature code, a wrong number, its own voicemail; or an
        # order without a caller id whose agent did not pick up.
        direction = Direction.OUTBOUND if call.originated else Direction.INTERNAL
        self._start(call, direction, dialled=None if call.originated else call.exten)
        body = CallEnded(
            **self._base(call),
            disposition=call.disposition(),
            talk_time=call.talked,
            hangup_by=call.hangup_by(),
            cause=call.cause,
        )
        self._emit(call, ended_at, "ended", body)

    # -- plumbing ----------------------------------------------------------------------------

    def _is_inbound(self, call: LiveCall) -> bool:
        return call.direction is Direction.INBOUND

    def _named(self, target: str) -> Party:
        inside = target in self._extensions or not target.lstrip("+").isdigit() or len(target) <= 5  # noqa: PLR2004  extensions are short
        return Party(extension=target) if inside else Party(number=target)

    def _base(self, call: LiveCall) -> dict[str, Any]:
        return {
            "call_id": call_id(self._tenant, self._pbx, call.linkedid),
            "pbx": self._pbx,
        }

    def _emit(self, call: LiveCall, at: datetime, key: str, body: CallEvent) -> None:
        self._out.append(Sighting(body, at, f"{self._pbx}/{call.linkedid}/{key}"))

    def _taken(self) -> list[Sighting]:
        taken, self._out = self._out, []
        return taken


def _stamp(message: AmiMessage, now: datetime) -> datetime:
    try:
        at = datetime.fromtimestamp(float(message.get("Timestamp")), UTC)
    except (ValueError, OverflowError, OSError):
        return now
    return at if abs(at - now) < _FAR_OFF else now


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004  32 bits
