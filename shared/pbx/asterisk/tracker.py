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

from collections import Counter
from collections.abc import Collection, Iterable
from datetime import UTC, datetime, timedelta

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
from shared.ids import call_id
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.channels import (
    ANSWERED_ELSEWHERE,
    BY_DIAL_STATUS,
    LOCAL,
    Kind,
    bounded,
    endpoint_of,
    is_errand,
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
#: A parking lot is one bridge of all who wait in it; nobody there hears another.
_WAITING = "holding_bridge"


class CallTracker:
    """One PBX connection of one tenant. *trunks* are endpoints, *extensions* the known phones."""

    def __init__(
        self, *, tenant: str, pbx: str, trunks: Collection[str], extensions: Collection[str] = ()
    ) -> None:
        self._tenant = tenant
        self._pbx = pbx
        self.know(trunks=trunks, extensions=extensions)
        #: By Linkedid; a call that was joined to another leads there.
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

    @property
    def wanted(self) -> frozenset[str]:
        """The events that are read; all others need not even be decoded."""
        return frozenset(self._readers)

    @property
    def live_calls(self) -> int:
        return len(set(self._calls.values()))

    def know(self, *, trunks: Collection[str], extensions: Collection[str]) -> None:
        """From now on; a leg stays what it was when it came."""
        self._trunks = frozenset(trunks)
        self._extensions = frozenset(extensions)

    def feed(self, message: AmiMessage, *, now: datetime) -> list[Sighting]:
        """*now* is by our clock: for waiting, and for a PBX without ``timestampevents``."""
        reader = self._readers.get(message.event)
        if reader is None or is_errand(message.get("Channel")):
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

    def resync(self, channels: Iterable[AmiMessage], *, now: datetime) -> list[Sighting]:
        """
        After a gap: *channels* are the items of CoreShowChannels. Who rings, was answered or is
        gone by now, and nobody told, does so now: when it was, nobody knows. Calls that began in
        the gap stay unknown.
        """
        self._now, at = now, now + self._ahead
        items = {item.get("Uniqueid"): bounded(item) for item in channels}
        for item in items.values():
            self._follow(item, at)
            self._catch_up(item, at)
        self._bridge_anew(items.values(), at)
        for leg in [leg for u, leg in self._legs.items() if not leg.gone and u not in items]:
            slower = leg.offered and not leg.answered and leg.call.answered
            self._leg_gone(leg, at, cause=ANSWERED_ELSEWHERE if slower else None)
        self._now += _LINGER
        self._close_calls()
        return self._taken()

    # -- who is who --------------------------------------------------------------------------

    def _kind(self, channel: str) -> Kind:
        technology, endpoint = endpoint_of(channel)
        if technology == LOCAL:
            return Kind.LOCAL
        return Kind.TRUNK if endpoint in self._trunks else Kind.PHONE

    def _named(self, target: str) -> Party:
        inside = target in self._extensions or not target.lstrip("+").isdigit() or len(target) <= 5  # noqa: PLR2004  extensions are short
        return Party(extension=target) if inside else Party(number=target)

    # -- calls that become one ---------------------------------------------------------------

    def _follow(self, message: AmiMessage, at: datetime) -> None:
        """A leg whose Linkedid changed has joined another call."""
        leg, linkedid = self._legs.get(message.get("Uniqueid")), message.get("Linkedid")
        if leg is None or not linkedid or leg.call.linkedid == linkedid:
            return
        if (call := self._calls.get(linkedid)) is not None:
            self._join(leg, call, at)
        else:
            leg.call.merged = True  # with one whose beginning we did not see

    def _join(self, leg: LiveLeg, call: LiveCall, at: datetime) -> None:
        source = leg.call
        if call is source or call in leg.left:
            return
        if source.leads_outside and leg is source.outside and call.direction is Direction.INTERNAL:
            self._absorb(call, source, at)
            return
        source.give(leg, call, at)
        if source.is_over:
            source.begin_to_close(at, self._now)

    def _absorb(self, inner: LiveCall, outer: LiveCall, at: datetime) -> None:
        """
        Somebody from outside was joined to an older call between two of our phones. Asterisk goes
        on under the older Linkedid; for us the call that goes on is the one with the outside.
        """
        for leg in [leg for leg in inner.legs.values() if not leg.gone]:
            inner.give(leg, outer, at)
        inner.ended_at, inner.cause = at, None  # nobody hung it up
        self._close(inner)
        self._calls[inner.linkedid] = outer

    def _take_over(self, taker: str, other: str, at: datetime) -> None:
        """A phone that was not dialled takes a call: the Uniqueids of it and of a leg there."""
        leg, known = self._legs.get(taker), self._legs.get(other)
        if leg is None or known is None:
            return
        self._join(leg, known.call, at)
        if leg is not leg.call.first:
            leg.offered = True
            leg.call.answer(leg, at)

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
            identity = call_id(self._tenant, self._pbx, linkedid)
            exten = message.get("Exten")
            call = LiveCall(identity, self._pbx, linkedid, at, exten, self._out)
            self._calls[linkedid] = call
        leg = LiveLeg(uniqueid, endpoint_of(channel)[1], self._kind(channel), call)
        call.legs[uniqueid] = self._legs[uniqueid] = leg
        if call.first is None:
            call.first = leg
            call.originated = message.get("ChannelStateDesc") == "Down"
            leg.number = shown(message.get("CallerIDNum"))
            leg.name = shown(message.get("CallerIDName"))
            if leg.kind is Kind.TRUNK and not call.originated:
                call.start(Direction.INBOUND, dialled=call.exten)

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
                call.start(direction, dialled=caller.number)
        call.ring(leg, at, caller=caller)

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
            dialled = leg.endpoint if call.originated else call.exten
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
            self._take_over(leg.uniqueid, message.get("Uniqueid"), at)
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
        members = self._bridges.setdefault(bridge, set())
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
        queue = leg.call.queue = message.get("Queue")
        position = _whole(message.get("Position"))
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
            key = f"held/{leg.uniqueid}/{at.isoformat()}"
            leg.call.tell(at, key, CallHeld, leg_id=leg.uniqueid)

    def _unhold(self, message: AmiMessage, at: datetime) -> None:
        leg = self._legs.get(message.get("Uniqueid"))
        if leg is not None and leg.holds:  # a transfer says it of all phones
            leg.holds = False
            leg.call.count_talk(at)
            key = f"resumed/{leg.uniqueid}/{at.isoformat()}"
            leg.call.tell(at, key, CallResumed, leg_id=leg.uniqueid)

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
        key = f"transferred/{leg.uniqueid}/{to.label}"
        leg.call.tell(at, key, CallTransferred, kind=kind, by=leg.party, to=to)

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
        leg.call.tell(at, f"recording/{file}", RecordingReady, recording=file)

    # -- after a gap -------------------------------------------------------------------------

    def _catch_up(self, item: AmiMessage, at: datetime) -> None:
        """What the events of the gap would have said of this channel."""
        if item.get("Linkedid") in self._calls:
            self._new_channel(item, at)
        leg = self._legs.get(item.get("Uniqueid"))
        if leg is None or leg.kind is Kind.LOCAL:
            return
        if not leg.offered:
            self._offer(leg, number=shown(item.get("CallerIDNum")))
        self._new_state(item, at)
        if item.get("ChannelStateDesc") == "Up" and (leg.offered or leg.own_phone):
            leg.call.answer(leg, at)

    def _bridge_anew(self, items: Collection[AmiMessage], at: datetime) -> None:
        """Who is bridged shares a Linkedid, but for those who wait in a parking lot."""
        self._bridges = {}
        pairs = Counter((item.get("BridgeId"), item.get("Linkedid")) for item in items)
        for item in items:
            bridge, uniqueid = item.get("BridgeId"), item.get("Uniqueid")
            if bridge:
                self._bridges.setdefault(bridge, set()).add(uniqueid)
            if (leg := self._legs.get(uniqueid)) is not None:
                leg.together = bool(bridge) and pairs[bridge, item.get("Linkedid")] > 1
        for call in set(self._calls.values()):
            call.count_talk(at)

    # -- the end -----------------------------------------------------------------------------

    def _leg_gone(self, leg: LiveLeg, at: datetime, *, cause: int | None) -> None:
        leg.call.leg_gone(leg, at, cause=cause)
        if leg.call.is_over:
            leg.call.begin_to_close(at, self._now)

    def _close_calls(self) -> None:
        due = [
            call
            for call in dict.fromkeys(self._calls.values())
            if call.quiet_since is not None and self._now - call.quiet_since >= _LINGER
        ]
        for call in due:
            if call.is_over:
                self._close(call)
            else:
                call.quiet_since = None  # a leg came after all

    def _close(self, call: LiveCall) -> None:
        for linkedid in [known for known, one in self._calls.items() if one is call]:
            del self._calls[linkedid]
        for uniqueid in call.legs:
            self._legs.pop(uniqueid, None)
        call.end()

    def _taken(self) -> list[Sighting]:
        taken = self._out.copy()
        self._out.clear()
        return taken


def _stamp(message: AmiMessage, now: datetime) -> datetime:
    try:
        at = datetime.fromtimestamp(float(message.get("Timestamp")), UTC)
    except (ValueError, OverflowError, OSError):
        return now
    return at if abs(at - now) < _FAR_OFF else now


def _whole(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None  # noqa: PLR2004  32 bits
