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

from shared.contracts.calls import Direction
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.book import LINGER
from shared.pbx.asterisk.channels import bounded, is_check, is_errand, shown
from shared.pbx.asterisk.events import CLICK_VARIABLE, EventReading
from shared.pbx.asterisk.snapshot import UnderWay, began_at, is_calling, is_dialled, under_way
from shared.pbx.causes import ANSWERED_ELSEWHERE
from shared.pbx.live import Kind
from shared.pbx.port import Sighting

__all__ = ["CLICK_VARIABLE", "CallTracker"]

#: A clock that is further off is not believed; ours is right, or all of the mesh is wrong.
_FAR_OFF = timedelta(days=1)


class CallTracker(EventReading):
    """One PBX connection of one tenant. *trunks* are endpoints, *extensions* the known phones."""

    def __init__(
        self,
        *,
        tenant: str,
        pbx: str,
        trunks: Collection[str] = (),
        extensions: Collection[str] = (),
    ) -> None:
        super().__init__(tenant=tenant, pbx=pbx, trunks=trunks, extensions=extensions)
        #: By how much the PBX's clock is ahead of ours, as far as it is believed.
        self._ahead = timedelta(0)
        self._told_ahead: timedelta | None = None
        self._readers = self._event_readers()

    @property
    def wanted(self) -> frozenset[str]:
        """The events that are read; all others need not even be decoded."""
        return frozenset(self._readers)

    @property
    def clock_ahead(self) -> timedelta | None:
        """
        How far the PBX's clock was ahead of ours at the last event, the way of the event taken
        off; None: nothing has said it, as without ``timestampevents``.
        """
        return self._told_ahead

    def feed(self, message: AmiMessage, *, now: datetime) -> list[Sighting]:
        """*now* is by our clock: for waiting, and for a PBX without ``timestampevents``."""
        reader = self._readers.get(message.event)
        if reader is None or is_errand(message.get("Channel")):
            return []
        message = bounded(message)
        at = self.at(message, now)
        self._now = now
        self._close_calls()
        self._follow(message, at)
        reader(message, at)
        return self._taken()

    def tick(self, now: datetime) -> list[Sighting]:
        """Ends what nothing followed; called while the PBX is quiet."""
        self._now = now
        self._close_calls()
        return self._taken()

    def set_clock(self, ahead: timedelta) -> None:
        """What a Pong says of the PBX's clock, until an event tells."""
        if self._told_ahead is None and abs(ahead) < _FAR_OFF:
            self._ahead = ahead

    def resync(self, channels: Iterable[AmiMessage], *, now: datetime) -> list[Sighting]:
        """
        After a gap, or at the beginning: *channels* are the items of CoreShowChannels. Who rings,
        was answered or is gone by now, and nobody told, does so now: when it was, nobody knows.
        Calls that nobody has told of are taken over, dated back to where they began.
        """
        self._now, at = now, self.pbx_time(now)
        items = {
            item.get("Uniqueid"): bounded(item)
            for item in channels
            if item.get("Uniqueid") and item.get("Linkedid")
            if not is_errand(item.get("Channel")) and not is_check(item.get("Channel"))
        }
        by_call: dict[str, list[AmiMessage]] = {}
        for item in items.values():
            by_call.setdefault(item.get("Linkedid"), []).append(item)
        for linkedid, of_call in by_call.items():
            if linkedid not in self._calls:
                self._take_in(of_call, at)
        # Trunks first: who was dialled outside decides what the call is.
        for of_call in by_call.values():
            for item in under_way(of_call, trunks=self._trunks).items:
                self._follow(item, at)
                self._catch_up(item, at)
        self._bridge_anew(items.values(), at)
        self._lose_sight(items, at)
        self._now += LINGER
        self._close_calls()
        return self._taken()

    # -- after a gap -------------------------------------------------------------------------

    def _take_in(self, items: Collection[AmiMessage], at: datetime) -> None:
        """*items* are of one Linkedid, of which nothing was heard."""
        ours = [leg.call for i in items if (leg := self._legs.get(i.get("Uniqueid"))) is not None]
        if ours:
            # They went over to a call that had begun in the gap; it goes on as the one of them
            # that leads outside.
            linkedid = next(iter(items)).get("Linkedid")
            self._know_as(linkedid, next((call for call in ours if call.leads_outside), ours[0]))
            return
        found = under_way(items, trunks=self._trunks)
        known = self._calls.get(found.pbx_call_id)
        if known is not None:
            self._know_as(found.linkedid, known)
        elif not found.is_ending and self._has_room():
            self._adopt(found, at)

    def _adopt(self, found: UnderWay, at: datetime) -> None:
        began = began_at(found, now=self._now, ahead=self._ahead)
        call = self._open_call(found.pbx_call_id, began, found.exten)
        call.joined = True
        self._know_as(found.linkedid, call)
        call.queue = found.queue
        call.dial_id = found.variable(CLICK_VARIABLE) or None
        self._new_channel(found.lead, at)
        lead = call.first
        if lead is None:
            return
        if not found.is_led_by_its_first:
            call.originated = False
            lead.offered = is_dialled(found.lead)
            if lead.offered and lead.kind is Kind.TRUNK:
                call.start(Direction.OUTBOUND, dialled=lead.number)
        elif call.originated:
            self._start_order(call, found.lead)

    def _catch_up(self, item: AmiMessage, at: datetime) -> None:
        """What the events of the gap would have said of this channel."""
        if item.get("Linkedid") in self._calls:
            self._new_channel(item, at)
        leg = self._legs.get(item.get("Uniqueid"))
        if leg is None:
            return
        if leg is leg.call.first or item.get("Linkedid") == leg.call.pbx_call_id:
            self._recording(item, at)
        if leg.kind is Kind.LOCAL:
            return
        if not leg.offered and not is_calling(item):
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

    def _lose_sight(self, living: Collection[str], at: datetime) -> None:
        """Of a call all of whose legs are gone nobody knows how it ended."""
        gone = [leg for u, leg in self._legs.items() if not leg.gone and u not in living]
        for call in {leg.call for leg in gone}:
            call.lost_sight = all(leg.gone or leg in gone for leg in call.legs.values())
        for leg in gone:
            slower = leg.offered and not leg.answered and leg.call.answered
            self._leg_gone(leg, at, cause=ANSWERED_ELSEWHERE if slower else None)

    # -- time --------------------------------------------------------------------------------

    def pbx_time(self, now: datetime) -> datetime:
        """*now* by the PBX's clock, as far as that is believed."""
        return now + self._ahead

    def at(self, message: AmiMessage, now: datetime) -> datetime:
        """When it happened, by the PBX's clock as far as that is believed; else *now*."""
        at = stamp(message)
        self._told_ahead = None if at is None else at - now
        if at is None or self._told_ahead is None or abs(self._told_ahead) >= _FAR_OFF:
            at = now
        self._ahead = at - now
        return at


def stamp(message: AmiMessage) -> datetime | None:
    """The PBX's time in a message; None without ``timestampevents``, and for what is no time."""
    try:
        return datetime.fromtimestamp(float(message.get("Timestamp")), UTC)
    except (ValueError, OverflowError, OSError):
        return None
