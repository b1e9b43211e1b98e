"""One Asterisk's records → sightings: blocks of AMI as they came, one each. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from shared.contracts.agents import AgentStatus
from shared.errors import ContractError
from shared.pbx.asterisk.agents import REASONS, AgentDesk
from shared.pbx.asterisk.ami_wire import AmiMessage, parse_block
from shared.pbx.asterisk.channels import bounded
from shared.pbx.asterisk.tracker import CallTracker, stamp
from shared.pbx.port import Phones, Sighting
from shared.pbx.statuses import StatusWords

#: What the transport asks for after a connect; its answers are records like the events.
CHANNELS, MEMBERS = "CoreShowChannels", "QueueStatus"
_ITEMS = {"CoreShowChannel": CHANNELS, "QueueMember": MEMBERS}
_ENDS = {"CoreShowChannelsComplete": CHANNELS, "QueueStatusComplete": MEMBERS}
_MOST_ITEMS = 50_000


class AmiReader:
    """A :class:`RecordReader`. A list of channels that comes to its end is what goes on."""

    def __init__(
        self, *, tenant: str, pbx: str, statuses: Mapping[AgentStatus, str] | None = None
    ) -> None:
        """*statuses*: reasons of a pause that the site has for a status."""
        self._tracker = CallTracker(tenant=tenant, pbx=pbx)
        self._desk = AgentDesk(pbx=pbx, words=StatusWords(preset=REASONS, site=statuses or {}))
        self._of_calls, self._of_agents = self._tracker.wanted, self._desk.wanted
        self._lists: dict[str, list[AmiMessage]] = {CHANNELS: [], MEMBERS: []}

    @property
    def wanted(self) -> frozenset[str]:
        """The events that are read; all others need not even be decoded."""
        return self._of_calls | self._of_agents

    @property
    def live_calls(self) -> int:
        return self._tracker.live_calls

    @property
    def live_ids(self) -> tuple[str, ...]:
        """The PBX's own ids of the calls that go on."""
        return self._tracker.live_ids

    @property
    def clock_ahead(self) -> timedelta | None:
        """How far the PBX's clock is ahead of ours; None: its events have no times."""
        return self._tracker.clock_ahead

    def know(self, phones: Phones) -> None:
        self._tracker.know(phones)
        self._desk.know(phones)

    def read(self, record: bytes, *, now: datetime) -> list[Sighting]:
        """Raises: ContractError for what is no block of AMI."""
        message = parse_block(record.strip(b"\r\n"))
        if not message.headers:
            raise ContractError("a record without a name in any line: this is no AMI")
        return self.take(message, now=now)

    def take(self, message: AmiMessage, *, now: datetime) -> list[Sighting]:
        """As :meth:`read`, of a record that is parsed already."""
        event = message.event
        if event in self._of_calls:
            return self._tracker.feed(message, now=now)
        if event in self._of_agents:
            return self._desk.feed(bounded(message), self._tracker.at(message, now))
        if (kind := _ITEMS.get(event)) is not None and len(self._lists[kind]) < _MOST_ITEMS:
            self._lists[kind].append(message)
        elif (kind := _ENDS.get(event)) is not None:
            return self._resync(kind, now)
        elif message.get("Ping") == "Pong" and (at := stamp(message)) is not None:
            self._tracker.set_clock(at - now)
        return []

    def tick(self, now: datetime) -> list[Sighting]:
        return self._tracker.tick(now)

    def _resync(self, kind: str, now: datetime) -> list[Sighting]:
        items, self._lists[kind] = self._lists[kind], []
        if kind == CHANNELS:
            return self._tracker.resync(items, now=now)
        return self._desk.resync(map(bounded, items), self._tracker.pbx_time(now))
