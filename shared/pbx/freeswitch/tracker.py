"""
Channel events of one FreeSWITCH → call events. Pure: events and times in, sightings out.

* A leg is a channel (Unique-ID); a call is what its first channel begins, and is called after it.
  A later channel belongs to the call of the channel on whose behalf it was made; bridging two
  calls makes them one. Channel-Call-UUID is not built on: it changes back when a bridge ends.
* Talk is: two channels in a bridge, both answered. Early media bridges them sooner.
* A dialled phone that "answers" first in click-to-call is no answered call.
* Who leaves by BLIND_TRANSFER has sent on the one he spoke with; when two who last spoke with
  the same phone are bridged, that phone has put them together.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import structlog

from shared.contracts.calls import (
    CallHeld,
    CallQueued,
    CallResumed,
    Direction,
    LegOutcome,
    Party,
    RecordingReady,
)
from shared.ids import call_id
from shared.pbx.causes import ANSWERED_ELSEWHERE
from shared.pbx.freeswitch.causes import ASKED, BLIND_TRANSFER, outcome_of, q850
from shared.pbx.freeswitch.channels import (
    CLICK_VARIABLE,
    NUMBER_VARIABLE,
    called,
    caller_name,
    endpoint_of,
    identity,
    is_inbound,
    kind_of,
    parent_of,
    shown,
    text,
    variable,
)
from shared.pbx.freeswitch.esl_wire import Event
from shared.pbx.freeswitch.pairs import Pairs
from shared.pbx.freeswitch.transfers import Transfers
from shared.pbx.live import Kind, LiveCall, LiveLeg
from shared.pbx.port import Phones, Sighting

log = structlog.get_logger(__name__)

#: What follows the last leg of a call follows it by less than this.
_LINGER = timedelta(milliseconds=200)
#: A busy FreeSWITCH has some thousand channels; beyond this, ends are being lost.
MOST_LEGS = 50_000
#: Channels that are gone: a late or repeated event of one begins no call.
_MOST_ENDED = 20_000
_LONGEST_FILE = 2048


class CallTracker:
    """One PBX connection of one tenant."""

    def __init__(self, *, tenant: str, pbx: str) -> None:
        self._tenant = tenant
        self._pbx = pbx
        self._phones = Phones()
        self._calls: dict[str, LiveCall] = {}
        #: Those whose last leg is gone; another may follow for a moment.
        self._closing: dict[str, LiveCall] = {}
        self._legs: dict[str, LiveLeg] = {}
        #: When they came, by our clock.
        self._came: dict[str, datetime] = {}
        #: Orders' calls, and the further devices of their agents that ring as well.
        self._clicks: dict[str, LiveCall] = {}
        self._twins: set[str] = set()
        #: Ended, oldest first.
        self._ended: dict[str, None] = {}
        self._pairs = Pairs()
        self._transfers = Transfers(self._legs, self._pairs)
        self._now = datetime.min.replace(tzinfo=UTC)
        self._full = False
        self.out: list[Sighting] = []

    @property
    def phones(self) -> Phones:
        return self._phones

    def know(self, phones: Phones) -> None:
        """From now on; a leg stays what it was when it came."""
        self._phones = self._transfers.phones = phones

    @property
    def live_calls(self) -> int:
        return len(self._calls)

    @property
    def live_names(self) -> Iterable[str]:
        """The PBX's own ids of the calls that go on."""
        return self._calls.keys()

    def knows(self, leg_id: str) -> bool:
        return leg_id in self._legs

    def has_ended(self, leg_id: str) -> bool:
        return leg_id in self._ended

    # -- events ------------------------------------------------------------------------------

    def created(self, event: Event, at: datetime) -> LiveLeg | None:
        """None for a channel that is known, and for one whose call is not."""
        leg_id, parent_id = identity(event), parent_of(event)
        if not leg_id or leg_id in self._legs or leg_id in self._ended or self._is_full():
            return None
        parent = self._legs.get(parent_id) if parent_id else None
        if parent_id and parent is None:
            return None
        if parent is None and (twin := self._clicks.get(variable(event, CLICK_VARIABLE))):
            return self._ring_too(leg_id, event, twin)
        kind = kind_of(event, self.phones)
        endpoint = endpoint_of(event, kind, self.phones)
        if parent is None:
            call = self._new_call(leg_id, event, at)
            leg = call.first = LiveLeg(leg_id, endpoint, kind, call)
        else:
            call = parent.call
            leg = LiveLeg(leg_id, endpoint, kind, call)
        self._add(leg)
        if parent is None:
            self._begin(leg, event)
        else:
            self._offer(leg, event)
            self._transfers.was_sent(parent, text(event, "Other-Leg-Destination-Number"), at)
        return leg

    def progressed(self, event: Event, at: datetime) -> None:
        leg = self._legs.get(identity(event))
        if leg is None or leg.gone or not self._is_rung(leg):
            return
        number = shown(text(event, "Caller-Caller-ID-Number"))
        leg.call.ring(leg, at, caller=Party(number=number, name=caller_name(event)))

    def answered(self, event: Event, at: datetime) -> None:
        leg = self._legs.get(identity(event))
        if leg is None or leg.gone:
            return
        up_at = self._pairs.up(leg.leg_id, at)
        first = leg.call.first
        if leg.leg_id in self._twins and first is not None and not first.answered:
            # It is this one that the agent took.
            leg.call.leg_over(first, up_at, LegOutcome.ELSEWHERE)
            leg.call.first = leg
        if self._is_rung(leg):
            leg.call.answer(leg, up_at)
        self._talk(leg)

    def bridged(self, event: Event, at: datetime) -> None:
        one, other = (self._legs.get(leg_id) for leg_id in bridge_of(event))
        if one is None or other is None or one is other or one.gone or other.gone:
            return
        if self._pairs.partner(one.leg_id) != other.leg_id:
            first = self._is_first(one, other)
            self._transfers.put_together(*((one, other) if first else (other, one)), at)
        if one.call is not other.call:
            self._join(one, other, at)
        left = self._pairs.bridge(one.leg_id, other.leg_id, at)
        if self._pairs.talk_since(one.leg_id) is None:
            left += [one.leg_id, other.leg_id]  # until both are answered
        for leg_id in left:
            self._part(leg_id, at)
        self._talk(one)
        self._transfers.read(event, one)

    def unbridged(self, event: Event, at: datetime) -> None:
        one, other = bridge_of(event)
        for leg_id in self._pairs.unbridge(one, other):
            self._part(leg_id, at)
        if (leg := self._legs.get(identity(event))) is not None:
            self._transfers.read(event, leg)

    def held(self, event: Event, at: datetime) -> None:
        leg = self._legs.get(identity(event))
        if leg is not None and not leg.gone and not leg.holds:
            leg.holds = True
            leg.call.count_talk(at)
            key = f"held/{leg.leg_id}/{at.isoformat()}"
            leg.call.tell(at, key, CallHeld, leg_id=leg.leg_id)

    def resumed(self, event: Event, at: datetime) -> None:
        leg = self._legs.get(identity(event))
        if leg is not None and leg.holds:
            leg.holds = False
            leg.call.count_talk(at)
            key = f"resumed/{leg.leg_id}/{at.isoformat()}"
            leg.call.tell(at, key, CallResumed, leg_id=leg.leg_id)

    def recording(self, event: Event, at: datetime) -> None:
        leg = self._legs.get(identity(event))
        file = event.get("Record-File-Path", "")
        if leg is None or not 0 < len(file) <= _LONGEST_FILE or file in leg.call.recordings:
            return
        leg.call.recordings.add(file)
        leg.call.tell(at, f"recording/{file}", RecordingReady, recording=file)

    def queued(self, queue: str, member: str, at: datetime) -> None:
        if (leg := self._legs.get(member)) is not None and not leg.gone:
            leg.call.queue = queue
            leg.call.tell(at, f"queued/{queue}/{at.isoformat()}", CallQueued, queue=queue)

    def left_queue(self, member: str, *, unserved: bool) -> None:
        if (leg := self._legs.get(member)) is not None:
            leg.call.queue = None
            leg.call.abandoned = leg.call.abandoned or unserved

    def hung_up(self, event: Event, at: datetime) -> None:
        leg = self._legs.get(identity(event))
        if leg is None or leg.gone:
            return
        self._transfers.read(event, leg)
        cause = text(event, "Hangup-Cause")
        if variable(event, "sip_hangup_disposition") in ASKED and leg.kind is not Kind.LOCAL:
            leg.call.asked_to_hang_up = leg
        if variable(event, "voicemail_message_len"):
            leg.call.voicemail = True
        if cause == BLIND_TRANSFER:
            self._transfers.sends_on(leg, at)
        self._gone(leg, at, cause)

    # -- the beginning -----------------------------------------------------------------------

    def _new_call(self, leg_id: str, event: Event, at: datetime) -> LiveCall:
        ours = call_id(self._tenant, self._pbx, leg_id)
        call = LiveCall(ours, self._pbx, leg_id, at, called(event), self.out)
        self._calls[leg_id] = call
        return call

    def _begin(self, leg: LiveLeg, event: Event) -> None:
        call, inbound, target = leg.call, is_inbound(event), called(event)
        leg.number = shown(text(event, "Caller-Caller-ID-Number"))
        leg.name = caller_name(event)
        call.dial_id = variable(event, CLICK_VARIABLE) or None
        if leg.kind is Kind.TRUNK and inbound:
            call.start(Direction.INBOUND, dialled=target)
        elif leg.kind is Kind.TRUNK:
            # Somebody's dialler calls the customer first.
            leg.offered, leg.number = True, shown(target)
            call.start(Direction.OUTBOUND, dialled=leg.number)
        elif not inbound:
            call.originated = True
            if call.dial_id is not None:
                self._clicks[call.dial_id] = call
            if number := shown(variable(event, NUMBER_VARIABLE)):
                self._start_out(call, number)

    def _ring_too(self, leg_id: str, event: Event, call: LiveCall) -> LiveLeg:
        """An extension may be several devices, and FreeSWITCH makes a channel for each."""
        endpoint = endpoint_of(event, Kind.PHONE, self.phones)
        leg = LiveLeg(leg_id, endpoint, Kind.PHONE, call)
        self._add(leg)
        self._twins.add(leg_id)
        return leg

    def _add(self, leg: LiveLeg) -> None:
        leg.call.legs[leg.leg_id] = self._legs[leg.leg_id] = leg
        leg.call.quiet_since = None
        self._came[leg.leg_id] = self._now

    def _start_out(self, call: LiveCall, number: str) -> None:
        inside = number in self.phones.extensions
        call.start(Direction.INTERNAL if inside else Direction.OUTBOUND, dialled=number)

    def _offer(self, leg: LiveLeg, event: Event) -> None:
        call = leg.call
        if queue := variable(event, "cc_queue"):
            call.queue = queue.partition("@")[0]
        if leg.kind is Kind.LOCAL or is_inbound(event):
            return  # plumbing: what is called on its behalf says what the call is
        leg.offered = True
        fresh = not call.started
        if leg.kind is Kind.TRUNK:
            leg.number = shown(called(event))
            call.start(Direction.OUTBOUND, dialled=leg.number)
        else:
            call.start(Direction.INTERNAL, dialled=leg.endpoint if call.originated else call.exten)
        first = call.first
        if fresh and call.originated and first is not None:
            # Somebody else's click-to-call: until now nobody knew that it was one.
            up_at = self._pairs.up_at(first.leg_id)
            if up_at is not None:
                call.answer(first, up_at)

    @staticmethod
    def _is_rung(leg: LiveLeg) -> bool:
        """It is rung by us; what was made for a reason that we do not know tells nothing yet."""
        return leg.offered or (leg.own_phone and leg.call.started)

    def _is_full(self) -> bool:
        full = len(self._legs) >= MOST_LEGS
        if full and not self._full:
            log.error("pbx_too_many_channels", pbx=self._pbx, channels=len(self._legs))
        self._full = full
        return full

    # -- bridges and transfers ---------------------------------------------------------------

    def _talk(self, leg: LiveLeg) -> None:
        """Both in a bridge are up from the last of three moments on."""
        since = self._pairs.talk_since(leg.leg_id)
        partner = self._legs.get(self._pairs.partner(leg.leg_id) or "")
        if since is None or partner is None:
            return
        leg.together = partner.together = True
        leg.call.count_talk(since)
        if partner.call is not leg.call:
            partner.call.count_talk(since)

    def _part(self, leg_id: str, at: datetime) -> None:
        if (leg := self._legs.get(leg_id)) is not None:
            leg.together = False
            leg.call.count_talk(at)

    @staticmethod
    def _is_first(one: LiveLeg, other: LiveLeg) -> bool:
        """Whether *one* was there first: its call goes on, the other is who it is passed to."""
        if one.call is other.call:
            return one is one.call.first
        return _rank(one.call) < _rank(other.call)

    def _join(self, one: LiveLeg, other: LiveLeg, at: datetime) -> None:
        """The call with somebody outside goes on, else the older one."""
        stays, comes = (one, other) if self._is_first(one, other) else (other, one)
        source, target = comes.call, stays.call
        if target in comes.left:
            return
        source.give(comes, target, at)
        target.quiet_since = None
        if not comes.offered and comes is not target.first and comes.kind is not Kind.LOCAL:
            comes.offered = True  # a pickup, a queue of another kind
            if (up_at := self._pairs.up_at(comes.leg_id)) is not None:
                target.answer(comes, max(up_at, at))
        if source.is_over:
            self._close_soon(source, at)

    # -- after a gap -------------------------------------------------------------------------

    def gone_but(self, alive: set[str], at: datetime, *, before: datetime) -> None:
        """Channels that came *before* then and are not in *alive* have gone, and nobody told."""
        for leg in [leg for leg in self._legs.values() if not leg.gone]:
            if leg.leg_id in alive or self._came[leg.leg_id] >= before:
                continue
            slower = leg.offered and not leg.answered and leg.call.answered
            self._gone(leg, at, "LOSE_RACE" if slower else "")
            if leg.call.is_over:
                leg.call.lost_sight = True
        self.close(self._now + _LINGER)

    def pair_anew(self, at: datetime) -> None:
        """The list of channels does not say who is bridged; two who are up in one call are."""
        for call in self._calls.values():
            up = [
                leg
                for leg in call.legs.values()
                if not leg.gone and leg.kind is not Kind.LOCAL and self._pairs.up_at(leg.leg_id)
            ]
            if len(up) == 2 and not any(self._pairs.partner(leg.leg_id) for leg in up):  # noqa: PLR2004  a pair
                self._pairs.bridge(up[0].leg_id, up[1].leg_id, at)
                self._talk(up[0])

    # -- the end -----------------------------------------------------------------------------

    def _gone(self, leg: LiveLeg, at: datetime, cause: str) -> None:
        call = leg.call
        for other in self._pairs.unbridge(leg.leg_id, ""):
            self._part(other, at)
        if call.originated and not call.started:
            leg.gone = True  # it never became a call of anybody's
        else:
            if not leg.answered and self._is_rung(leg):
                call.leg_over(leg, at, outcome_of(cause))
            number = ANSWERED_ELSEWHERE if cause == "LOSE_RACE" else q850(cause)
            call.leg_gone(leg, at, cause=number)
        if call.is_over:
            self._close_soon(call, at)

    def _close_soon(self, call: LiveCall, at: datetime) -> None:
        call.begin_to_close(at, self._now)
        self._closing[call.pbx_call_id] = call

    def close(self, now: datetime) -> None:
        """Ends the calls that nothing followed. Called with each event, and while it is quiet."""
        self._now = now
        for call in list(self._closing.values()):
            if call.quiet_since is not None and now - call.quiet_since < _LINGER:
                continue
            del self._closing[call.pbx_call_id]
            if call.quiet_since is not None and call.is_over:
                self._close(call)
            else:
                call.quiet_since = None  # a leg came after all

    def _close(self, call: LiveCall) -> None:
        del self._calls[call.pbx_call_id]
        self._clicks.pop(call.dial_id or "", None)
        self._twins.difference_update(call.legs)
        for leg_id in call.legs:
            self._legs.pop(leg_id, None)
            self._came.pop(leg_id, None)
            self._pairs.forget(leg_id)
            self._transfers.forget(leg_id)
            self._ended[leg_id] = None
        while len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        if call.started or not call.originated:
            call.end()


def _rank(call: LiveCall) -> tuple[bool, datetime, str]:
    return not call.leads_outside, call.began_at, call.pbx_call_id


def bridge_of(event: Event) -> tuple[str, str]:
    """Both channels of a bridge; the second is empty where the event does not say it."""
    one = text(event, "Bridge-A-Unique-ID") or identity(event)
    other = text(event, "Bridge-B-Unique-ID") or text(event, "Other-Leg-Unique-ID")
    return one, other
