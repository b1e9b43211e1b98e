"""
Channel events of one Asterisk, read one by one: the rules by which they say what a call is and what
becomes of it. Pure. What they are built on is told in :mod:`tracker`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from shared.contracts.calls import (
    CallHeld,
    CallQueued,
    CallResumed,
    CallTransferred,
    Direction,
    Party,
    RecordingReady,
    TransferKind,
)
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.book import MOST_LEGS, CallBook
from shared.pbx.asterisk.channels import BY_DIAL_STATUS, endpoint_of, is_check, shown, whole
from shared.pbx.asterisk.snapshot import is_dialled
from shared.pbx.live import Kind, LiveCall, LiveLeg

#: Set by Originate on the agent's channel and inherited: which order a call belongs to.
CLICK_VARIABLE = "CRM_CLICK_ID"
_RECORDING_VARIABLE = "MIXMONITOR_FILENAME"
#: A parking lot is one bridge of all who wait in it; nobody there hears another.
_WAITING = "holding_bridge"

#: States in which Asterisk rings a phone that has called nobody.
_RUNG = frozenset({"Down", "Ringing"})

#: Causes with which Busy() and Congestion() refuse a caller; one who gives up has 127.
_REFUSING = frozenset({17, 34})

ReadEvent = Callable[[AmiMessage, datetime], None]


class EventReading(CallBook):
    """The event's time is by the PBX's clock."""

    def _event_readers(self) -> dict[str, ReadEvent]:
        return {
            "Newchannel": self._new_channel,
            "Newstate": self._new_state,
            "DialBegin": self._dial_begin,
            "DialState": self._dial_state,
            "DialEnd": self._dial_end,
            "BridgeEnter": self._bridge_enter,
            "BridgeLeave": self._bridge_leave,
            "Pickup": self._pickup,
            "UnParkedCall": self._retrieval,
            "HangupRequest": self._hangup_request,
            "Hangup": self._hangup,
            "QueueCallerJoin": self._queue_join,
            "QueueCallerLeave": self._queue_leave,
            "QueueCallerAbandon": self._queue_abandon,
            "Hold": self._hold,
            "Unhold": self._unhold,
            "BlindTransfer": self._blind_transfer,
            "AttendedTransfer": self._attended_transfer,
            "MessageWaiting": self._message_waiting,
            "MixMonitorStart": self._recording,
        }

    def _new_channel(self, message: AmiMessage, at: datetime) -> None:
        uniqueid, linkedid = message.get("Uniqueid"), message.get("Linkedid")
        channel = message.get("Channel")
        if (known := self._legs.get(uniqueid)) is not None:
            if known is known.call.first and message.event == "Newchannel":
                known.call.joined = False  # listed before we came to read of its beginning
            return
        if not uniqueid or is_check(channel) or not self._has_room():
            return
        call = self._calls.get(linkedid)
        if call is None:
            if uniqueid != linkedid:
                return  # we came in the middle of this call
            call = self._open_call(linkedid, at, message.get("Exten"))
        leg = self._open_leg(call, uniqueid, channel)
        if call.first is None:
            call.first = leg
            call.originated = is_originated(message)
            leg.number = shown(message.get("CallerIDNum"))
            leg.name = shown(message.get("CallerIDName"))
            if leg.kind is Kind.TRUNK and not call.originated and not is_dialled(message):
                call.start(Direction.INBOUND, dialled=call.exten or None)

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
            self._start_order(call, message)
        call.ring(leg, at, caller=caller)

    def _start_order(self, call: LiveCall, message: AmiMessage) -> None:
        """Click-to-call: its own phone shows whom it is going to call, if the order says it."""
        call.dial_id = message.variable(CLICK_VARIABLE) or call.dial_id
        number = shown(message.get("ConnectedLineNum"))
        if number is not None:
            inside = number in self._extensions
            call.start(Direction.INTERNAL if inside else Direction.OUTBOUND, dialled=number)

    def _dial_begin(self, message: AmiMessage, _: datetime) -> None:
        leg = self._legs.get(message.get("DestUniqueid"))
        if leg is not None:
            # ``+447700900777@trunk``, ``trunk/+447700900777``, ``trunk/sip:+447700900777@host``.
            dialled = message.get("DialString").partition("@")[0].rpartition("/")[2]
            self._offer(leg, number=shown(dialled.removeprefix("sip:")))

    def _offer(self, leg: LiveLeg, *, number: str | None) -> None:
        """The leg is dialled; *number* is the one that the line outside is asked for."""
        call = leg.call
        if leg is call.first or leg.kind is Kind.LOCAL:
            return  # a Local channel is plumbing: what it dials in turn says what the call is
        leg.offered = True
        if leg.kind is Kind.TRUNK:
            # Without the prefix that gets an outside line.
            leg.number = number or call.exten
            call.start(Direction.OUTBOUND, dialled=leg.number)
            if leg.rang_early is not None:
                call.ring(leg, leg.rang_early[0], caller=leg.rang_early[1])
        else:
            # An order without a caller id: the agent's phone did not show whom it will dial.
            dialled = leg.endpoint if call.originated else call.exten or leg.endpoint
            call.start(Direction.INTERNAL, dialled=dialled)

    def _dial_state(self, message: AmiMessage, at: datetime) -> None:
        """Where a carrier plays the tone itself (183), this is all that is seen of the ringing."""
        leg = self._legs.get(message.get("DestUniqueid"))
        if leg is None or leg.kind is not Kind.TRUNK or message.get("DialStatus") != "PROGRESS":
            return
        caller = Party(
            number=shown(message.get("DestConnectedLineNum")),
            name=shown(message.get("DestConnectedLineName")),
        )
        leg.call.ring(leg, at, caller=caller)

    def _dial_end(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("DestUniqueid"))
        if leg is None or leg.kind is Kind.LOCAL:
            return
        status = message.get("DialStatus")
        if status == "ANSWER":
            # After a pickup it names the phone that took the call, perhaps before Pickup does.
            self._take_over(leg.leg_id, message.get("Uniqueid"), at)
            if leg is not leg.call.first or leg.own_phone:  # else that call is not known
                leg.call.answer(leg, at)
        elif status in BY_DIAL_STATUS and not leg.answered:
            leg.call.leg_over(leg, at, BY_DIAL_STATUS[status])

    def _pickup(self, message: AmiMessage, at: datetime) -> None:
        self._take_over(message.get("Uniqueid"), message.get("TargetUniqueid"), at)

    def _retrieval(self, message: AmiMessage, at: datetime) -> None:
        self._take_over(message.get("RetrieverUniqueid"), message.get("ParkeeUniqueid"), at)

    def _bridge_enter(self, message: AmiMessage, at: datetime) -> None:
        self._bridge(message, at, enters=True)

    def _bridge_leave(self, message: AmiMessage, at: datetime) -> None:
        self._bridge(message, at, enters=False)

    def _bridge(self, message: AmiMessage, at: datetime, *, enters: bool) -> None:
        bridge, uniqueid = message.get("BridgeUniqueid"), message.get("Uniqueid")
        members = self._bridges.get(bridge, set())
        if not (bridge and uniqueid) or max(len(members), len(self._bridges)) > MOST_LEGS:
            return
        self._bridges[bridge] = members
        if enters:
            members.add(uniqueid)
        else:
            members.discard(uniqueid)
        talk = len(members) > 1 and message.get("BridgeTechnology") != _WAITING
        for member in {*members, uniqueid}:
            if (leg := self._legs.get(member)) is not None:
                leg.together = talk and member in members
                leg.call.count_talk(at)
        if not members:
            del self._bridges[bridge]

    def _hangup_request(self, message: AmiMessage, _: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        if leg is not None and leg.kind is not Kind.LOCAL and not _is_refused(message):
            leg.call.asked_to_hang_up = leg

    def _hangup(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        if leg is not None and not leg.gone:
            self._leg_gone(leg, at, cause=whole(message.get("Cause")))

    def _queue_join(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        if leg is None:
            return
        queue = leg.call.queue = message.get("Queue")
        position = whole(message.get("Position"))
        key = f"queued/{queue}/{at.isoformat()}"
        leg.call.tell(at, key, CallQueued, queue=queue, position=position)

    def _queue_leave(self, message: AmiMessage, _: datetime) -> None:
        if (leg := self._legs.get(message.get("Uniqueid"))) is not None:
            leg.call.queue = None

    def _queue_abandon(self, message: AmiMessage, _: datetime) -> None:
        if (leg := self._legs.get(message.get("Uniqueid"))) is not None:
            leg.call.abandoned = True

    def _hold(self, message: AmiMessage, at: datetime) -> None:
        if (leg := self._legs.get(message.get("Uniqueid"))) is not None:
            leg.holds = True
            leg.call.count_talk(at)
            key = f"held/{leg.leg_id}/{at.isoformat()}"
            leg.call.tell(at, key, CallHeld, leg_id=leg.leg_id)

    def _unhold(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        if leg is not None and leg.holds:  # a transfer says it of all phones
            leg.holds = False
            leg.call.count_talk(at)
            key = f"resumed/{leg.leg_id}/{at.isoformat()}"
            leg.call.tell(at, key, CallResumed, leg_id=leg.leg_id)

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
        key = f"transferred/{leg.leg_id}/{to.label}"
        leg.call.tell(at, key, CallTransferred, kind=kind, by=leg.party, to=to)

    def _message_waiting(self, message: AmiMessage, _: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        if leg is not None and whole(message.get("New")):
            leg.call.voicemail = True

    def _recording(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        file = message.variable(_RECORDING_VARIABLE)
        if leg is None or not file or file in leg.call.recordings:
            return
        leg.call.recordings.add(file)
        leg.call.tell(at, f"recording/{file}", RecordingReady, recording=file)


def is_originated(message: AmiMessage) -> bool:
    """Of a call's first channel: somebody ordered the call, and its phone rings first."""
    state = message.get("ChannelStateDesc")
    return state in _RUNG or bool(message.variable(CLICK_VARIABLE))


def _is_refused(request: AmiMessage) -> bool:
    """
    The dialplan refused that caller, and nobody hung up. The 486 is on its way before the channel
    says "Busy": a phone that is fast finds it in "Ring" still.
    """
    state = request.get("ChannelStateDesc")
    return state == "Busy" or (state == "Ring" and whole(request.get("Cause")) in _REFUSING)
