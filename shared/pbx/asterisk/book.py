"""The calls of one Asterisk that are under way: whose leg is whose, which calls become one. Pure."""

from __future__ import annotations

from collections.abc import Collection
from datetime import UTC, datetime, timedelta

import structlog

from shared.contracts.calls import Direction, Party
from shared.ids import call_id
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.asterisk.channels import LOCAL, endpoint_of
from shared.pbx.live import Kind, LiveCall, LiveLeg
from shared.pbx.port import Phones, Sighting

log = structlog.get_logger(__name__)

#: What follows the last leg of a call follows it by less than this.
LINGER = timedelta(milliseconds=200)
#: More are none of a PBX's: Asterisk itself holds some thousand channels on a large machine.
MOST_CALLS = 10_000
MOST_LEGS = 4 * MOST_CALLS


class CallBook:
    """One PBX connection of one tenant. *trunks* are endpoints, *extensions* the known phones."""

    def __init__(
        self,
        *,
        tenant: str,
        pbx: str,
        trunks: Collection[str] = (),
        extensions: Collection[str] = (),
    ) -> None:
        self._tenant = tenant
        self._pbx = pbx
        self.know(Phones(trunks=frozenset(trunks), extensions=frozenset(extensions)))
        #: By Linkedid; a call that was joined to another leads there.
        self._calls: dict[str, LiveCall] = {}
        self._legs: dict[str, LiveLeg] = {}
        #: Uniqueids by bridge.
        self._bridges: dict[str, set[str]] = {}
        #: Those without a leg, in the order in which they lost the last one.
        self._closing: dict[LiveCall, None] = {}
        #: Our clock, by which we wait.
        self._now = datetime.min.replace(tzinfo=UTC)
        self._out: list[Sighting] = []
        self._full = False

    @property
    def live_calls(self) -> int:
        return len(set(self._calls.values()))

    @property
    def live_ids(self) -> tuple[str, ...]:
        """The PBX's own ids of the calls that go on."""
        calls = dict.fromkeys(self._calls.values())
        return tuple(call.pbx_call_id for call in calls if not call.is_over)

    def know(self, phones: Phones) -> None:
        """From now on; a leg stays what it was when it came."""
        self._trunks = phones.trunks
        self._extensions = phones.extensions

    # -- who is who --------------------------------------------------------------------------

    def _kind(self, channel: str) -> Kind:
        technology, endpoint = endpoint_of(channel)
        if technology == LOCAL:
            return Kind.LOCAL
        return Kind.TRUNK if endpoint in self._trunks else Kind.PHONE

    def _named(self, target: str) -> Party:
        inside = target in self._extensions or not target.lstrip("+").isdigit() or len(target) <= 5  # noqa: PLR2004  extensions are short
        return Party(extension=target) if inside else Party(number=target)

    # -- calls and legs that are new ---------------------------------------------------------

    def _has_room(self) -> bool:
        full = len(self._calls) >= MOST_CALLS or len(self._legs) >= MOST_LEGS
        if full and not self._full:
            log.error("pbx_calls_full", pbx=self._pbx, calls=len(self._calls), legs=len(self._legs))
        self._full = full
        return not full

    def _open_call(self, linkedid: str, began_at: datetime, exten: str) -> LiveCall:
        identity = call_id(self._tenant, self._pbx, linkedid)
        call = LiveCall(identity, self._pbx, linkedid, began_at, exten, self._out)
        self._know_as(linkedid, call)
        return call

    def _know_as(self, linkedid: str, call: LiveCall) -> None:
        self._calls[linkedid] = call
        call.known_as.add(linkedid)

    def _open_leg(self, call: LiveCall, uniqueid: str, channel: str) -> LiveLeg:
        leg = LiveLeg(uniqueid, endpoint_of(channel)[1], self._kind(channel), call)
        call.legs[uniqueid] = self._legs[uniqueid] = leg
        return leg

    # -- calls that become one ---------------------------------------------------------------

    def _follow(self, message: AmiMessage, at: datetime) -> None:
        """A leg whose Linkedid changed has joined another call."""
        leg, linkedid = self._legs.get(message.get("Uniqueid")), message.get("Linkedid")
        if leg is None or not linkedid or leg.call.pbx_call_id == linkedid:
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
            self._begin_to_close(source, at)

    def _absorb(self, inner: LiveCall, outer: LiveCall, at: datetime) -> None:
        """
        Somebody from outside was joined to an older call between two of our phones. Asterisk goes
        on under the older Linkedid; for us the call that goes on is the one with the outside.
        """
        for leg in [leg for leg in inner.legs.values() if not leg.gone]:
            inner.give(leg, outer, at)
        inner.ended_at, inner.cause = at, None  # nobody hung it up
        self._close(inner)
        self._know_as(inner.pbx_call_id, outer)

    def _take_over(self, taker: str, other: str, at: datetime) -> None:
        """A phone that was not dialled takes a call: the Uniqueids of it and of a leg there."""
        leg, known = self._legs.get(taker), self._legs.get(other)
        if leg is None or not other:
            return
        if known is None:
            # A call of which we know nothing: the phone's own is part of it, and none of its own.
            leg.call.merged = leg.call.merged or leg is leg.call.first
            return
        self._join(leg, known.call, at)
        if leg is not leg.call.first:
            leg.offered = True
            leg.call.answer(leg, at)

    # -- the end -----------------------------------------------------------------------------

    def _leg_gone(self, leg: LiveLeg, at: datetime, *, cause: int | None) -> None:
        leg.call.leg_gone(leg, at, cause=cause)
        if leg.call.is_over:
            self._begin_to_close(leg.call, at)

    def _begin_to_close(self, call: LiveCall, at: datetime) -> None:
        call.begin_to_close(at, self._now)
        self._closing.pop(call, None)
        self._closing[call] = None

    def _close_calls(self) -> None:
        """Those that nothing followed for long enough."""
        while self._closing:
            call = next(iter(self._closing))
            # Our clock may have been set back meanwhile.
            if call.quiet_since is not None and abs(self._now - call.quiet_since) < LINGER:
                return
            del self._closing[call]
            if call.is_over:
                self._close(call)
            else:
                call.quiet_since = None  # a leg came after all

    def _close(self, call: LiveCall) -> None:
        self._closing.pop(call, None)
        known = [linkedid for linkedid in call.known_as if self._calls.get(linkedid) is call]
        for linkedid in known:
            del self._calls[linkedid]
        for uniqueid in call.legs:
            self._legs.pop(uniqueid, None)
        call.end()

    def _taken(self) -> list[Sighting]:
        taken = self._out.copy()
        self._out.clear()
        return taken
