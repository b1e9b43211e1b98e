"""Who was passed on, by whom and where to, as far as FreeSWITCH's events tell. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from shared.contracts.calls import CallTransferred, Party, TransferKind
from shared.pbx.freeswitch.channels import blind_target
from shared.pbx.freeswitch.esl_wire import Event
from shared.pbx.freeswitch.pairs import Pairs
from shared.pbx.live import Kind, LiveLeg
from shared.pbx.port import Phones

#: ``transfer_source`` tells whole seconds.
_SECONDS = timedelta(seconds=2)
#: A number outside is longer, or so short that nobody is sent there.
_LONGEST_EXTENSION = 5


class Transfers:
    """*legs* and *pairs* are the tracker's."""

    def __init__(self, legs: Mapping[str, LiveLeg], pairs: Pairs) -> None:
        self._legs = legs
        self._pairs = pairs
        self.phones = Phones()
        #: By transferee: where he was sent last; who sent him on, where that is not known yet.
        self._sent: dict[str, tuple[str, datetime]] = {}
        self._sender: dict[str, tuple[LiveLeg, datetime]] = {}

    def forget(self, leg_id: str) -> None:
        self._sent.pop(leg_id, None)
        self._sender.pop(leg_id, None)

    # -- attended ----------------------------------------------------------------------------

    def put_together(self, first: LiveLeg, other: LiveLeg, at: datetime) -> None:
        """Both, whom a bridge joins now, last spoke with the same phone: it passed *first* on."""
        via, again = self._last_with(first), self._last_with(other)
        if via is None or again is None or {via, again} & {first, other}:
            return
        if via.kind is again.kind is Kind.PHONE and via.endpoint == again.endpoint:
            key = f"transferred/{via.leg_id}/{other.party.label}"
            kind, to = TransferKind.ATTENDED, other.party
            first.call.tell(at, key, CallTransferred, kind=kind, by=via.party, to=to)

    def _last_with(self, leg: LiveLeg) -> LiveLeg | None:
        return self._legs.get(self._pairs.met(leg.leg_id) or "")

    # -- blind -------------------------------------------------------------------------------

    def sends_on(self, leg: LiveLeg, at: datetime) -> None:
        """He left by a blind transfer; where to may have been seen already, or not yet."""
        transferee = self._pairs.met(leg.leg_id)
        if transferee is None:
            return
        sent = self._sent.get(transferee)
        if sent is not None and sent[1] >= at - _SECONDS:
            self._tell(leg, at, sent[0])
        else:
            self._sender[transferee] = leg, at

    def read(self, event: Event, leg: LiveLeg) -> None:
        """What an event of *leg* says of where it was sent."""
        if (found := blind_target(event)) is not None:
            self.was_sent(leg, *found)

    def was_sent(self, leg: LiveLeg, target: str, at: datetime) -> None:
        if not target or self._pairs.met(leg.leg_id) is None:
            return  # a dialplan sends callers about before they speak with anybody
        self._sent[leg.leg_id] = target, at
        sender = self._sender.get(leg.leg_id)
        if sender is not None and at >= sender[1] - _SECONDS:
            del self._sender[leg.leg_id]
            self._tell(*sender, target)

    def _tell(self, leg: LiveLeg, at: datetime, target: str) -> None:
        short = len(target) <= _LONGEST_EXTENSION or not target.lstrip("+").isdigit()
        inside = target in self.phones.extensions or short
        to = Party(extension=target) if inside else Party(number=target)
        key, kind = f"transferred/{leg.leg_id}/{target}", TransferKind.BLIND
        leg.call.tell(at, key, CallTransferred, kind=kind, by=leg.party, to=to)
