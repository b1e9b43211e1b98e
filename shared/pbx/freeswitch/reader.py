"""
Records of a FreeSWITCH → sightings. Pure.

A record is an event as the event socket sends it, in either form, or what the source makes of the
list of channels: ``{"callmesh": "channels", "rows": […], "heard": …, "since": …}``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import orjson
from pydantic import ValidationError

from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.calls import PbxResynced
from shared.errors import ContractError
from shared.pbx.freeswitch.channels import identity, moment, parent_of, text
from shared.pbx.freeswitch.esl_wire import Event, json_object, read_event
from shared.pbx.freeswitch.orders import words_of
from shared.pbx.freeswitch.tracker import CallTracker, bridge_of
from shared.pbx.port import Phones, Sighting
from shared.pbx.statuses import own_word

_QUEUES = "callcenter::info"
#: What is read; the source asks for these and no others.
WANTED = (
    "CHANNEL_CREATE",
    "CHANNEL_PROGRESS",
    "CHANNEL_PROGRESS_MEDIA",
    "CHANNEL_ANSWER",
    "CHANNEL_BRIDGE",
    "CHANNEL_UNBRIDGE",
    "CHANNEL_HOLD",
    "CHANNEL_UNHOLD",
    "CHANNEL_HANGUP_COMPLETE",
    "RECORD_START",
    "RECORD_STOP",
    "CUSTOM",  # subclasses follow it, so it comes last
    _QUEUES,
)
#: An event of a channel whose beginning is on its way waits for so long.
_PATIENCE = timedelta(seconds=1)
_MOST_HELD = 2_000
#: Events that were read, by the PBX's own numbers: none counts twice.
_MOST_SEEN = 20_000
_MOST_ROWS = 20_000

_RINGS, _UP = frozenset({"RINGING", "EARLY"}), frozenset({"ACTIVE", "HELD", "UNHELD"})


def channels_record(listed: str, *, heard: datetime, since: datetime) -> bytes:
    """
    The record of ``show channels as json``. Until *heard* the PBX told everything, and again from
    *since* on: a channel that began after it needs no list, which may be older.

    Raises: ContractError.
    """
    rows = json_object(listed.encode()).get("rows", [])
    return orjson.dumps({"callmesh": "channels", "rows": rows, "heard": heard, "since": since})


class FreeSwitchReader:
    """One PBX connection of one tenant."""

    def __init__(
        self, *, tenant: str, pbx: str, statuses: Mapping[AgentStatus, str] | None = None
    ) -> None:
        """*statuses*: words of mod_callcenter that the site has for a status."""
        self._pbx = pbx
        self._words = words_of(statuses)
        self._tracker = CallTracker(tenant=tenant, pbx=pbx)
        self._held: list[tuple[datetime, datetime, Event]] = []
        self._seen: dict[tuple[str, str], None] = {}
        #: By how much the PBX's clock is ahead of ours.
        self._ahead = timedelta(0)
        track = self._tracker
        self._readers: Mapping[str, Callable[[Event, datetime], object]] = {
            "CHANNEL_CREATE": track.created,
            "CHANNEL_PROGRESS": track.progressed,
            "CHANNEL_PROGRESS_MEDIA": track.progressed,
            "CHANNEL_ANSWER": track.answered,
            "CHANNEL_BRIDGE": track.bridged,
            "CHANNEL_UNBRIDGE": track.unbridged,
            "CHANNEL_HOLD": track.held,
            "CHANNEL_UNHOLD": track.resumed,
            "CHANNEL_HANGUP_COMPLETE": track.hung_up,
            "RECORD_START": track.recording,
            "RECORD_STOP": track.recording,
            "CUSTOM": self._queue_event,
        }

    @property
    def live_calls(self) -> int:
        return self._tracker.live_calls

    def know(self, phones: Phones) -> None:
        self._tracker.know(phones)

    def read(self, record: bytes, *, now: datetime) -> list[Sighting]:
        """Raises: ContractError."""
        self._quiet(now)
        if record.startswith(b'{"callmesh":'):
            self._resync(record, now)
            return self._taken()
        event = read_event(record)
        if event["Event-Name"] in self._readers and not self._is_repeated(event):
            at = moment(event, now)
            self._ahead = at - now
            if self._must_wait(event):
                # In a full house the oldest goes, as if its beginning had never come.
                self._held = [*self._held[-_MOST_HELD + 1 :], (now, at, event)]
            else:
                self._take(event, at)
        return self._taken()

    def tick(self, now: datetime) -> list[Sighting]:
        self._quiet(now)
        return self._taken()

    # -- the order of events -----------------------------------------------------------------

    def _is_repeated(self, event: Event) -> bool:
        number = text(event, "Event-Sequence")
        if not number:
            return False
        key = text(event, "Core-UUID"), number
        if key in self._seen:
            return True
        self._seen[key] = None
        if len(self._seen) > _MOST_SEEN:
            del self._seen[next(iter(self._seen))]
        return False

    def _must_wait(self, event: Event) -> bool:
        """For the beginning of a channel, or behind an event of the same channel that does."""
        return not self._is_ready(event) or identity(event) in self._waiting()

    def _waiting(self) -> set[str]:
        return {identity(event) for _, _, event in self._held} - {""}

    def _is_ready(self, event: Event) -> bool:
        return all(
            self._tracker.knows(leg_id) or self._tracker.has_ended(leg_id)
            for leg_id in _needs(event)
        )

    def _take(self, event: Event, at: datetime) -> None:
        self._readers[event["Event-Name"]](event, at)
        if event["Event-Name"] == "CHANNEL_CREATE" and self._held:
            self._take_held()

    def _take_held(self) -> None:
        """Those that need not wait any more, in their order, as long as there are any."""
        progress = True
        while progress:
            progress, held, self._held = False, self._held, []
            behind: set[str] = set()
            for came, at, event in held:
                if identity(event) in behind or not self._is_ready(event):
                    behind.add(identity(event))
                    self._held.append((came, at, event))
                else:
                    progress = True
                    self._readers[event["Event-Name"]](event, at)
            progress = progress and bool(self._held)

    def _quiet(self, now: datetime) -> None:
        if self._held and now - self._held[0][0] >= _PATIENCE:
            self._held = [held for held in self._held if now - held[0] < _PATIENCE]
            self._take_held()
        self._tracker.close(now)

    # -- queues and agents -------------------------------------------------------------------

    def _queue_event(self, event: Event, at: datetime) -> None:
        if text(event, "Event-Subclass") != _QUEUES:
            return
        queue = text(event, "CC-Queue").partition("@")[0]
        member = text(event, "CC-Member-Session-UUID")
        match text(event, "CC-Action"):
            case "member-queue-start" | "member-queue-resume" if queue:
                self._tracker.queued(queue, member, at)
            case "member-queue-end":
                unserved = text(event, "CC-Cause") == "Cancel"
                self._tracker.left_queue(member, unserved=unserved)
            case "agent-status-change":
                self._agent(text(event, "CC-Agent"), text(event, "CC-Agent-Status"), at)
            case _:
                return  # the agent's channel says it, too

    def _agent(self, agent: str, said: str, at: datetime) -> None:
        phones, name = self._tracker.phones, agent.partition("@")[0]
        extension = phones.users.get(agent) or phones.users.get(name) or name
        status = self._words.status(said)
        if status is None or extension not in phones.extensions:
            return
        try:
            body = AgentStatusChanged(
                extension=extension, status=status, source_name=self._pbx, own=own_word(said)
            )
        except ValidationError:
            return  # an extension that nobody could dial
        key = f"{self._pbx}/agent/{extension}/{status}/{at.isoformat()}"
        self._tracker.out.append(Sighting(body, at, key))

    # -- after a gap -------------------------------------------------------------------------

    def _resync(self, record: bytes, now: datetime) -> None:
        """Who rings, was answered, or has gone by now does so now: when it was, nobody knows."""
        at = now + self._ahead
        said = json_object(record)
        rows, heard, since = said.get("rows"), _said_at(said, "heard"), _said_at(said, "since")
        if not isinstance(rows, list) or len(rows) > _MOST_ROWS:
            raise ContractError("a list of channels without rows, or with too many")
        found = [_of_row(row) for row in rows if isinstance(row, dict)]
        events = {identity(event): event for event in found if identity(event)}
        parents = {parent_of(event) for event in events.values()}
        # Who made a channel comes before it, also where several made one another.
        fresh = {name for name in events if not self._tracker.knows(name)}
        while ready := [name for name in fresh if self._may_begin(events[name], parents)]:
            for name in sorted(ready):
                self._adopt(events[name], moment(events[name], now))
            fresh -= set(ready)
        for event in events.values():
            self._catch_up(event, at)
        self._tracker.gone_but(set(events), at, before=since or now)
        self._tracker.pair_anew(at)
        # A call is called after its first channel; of one that we join, who knows whose that is.
        live = {*self._tracker.live_names, *events, *filter(None, parents)}
        body = PbxResynced(
            pbx=self._pbx, live=tuple(sorted(live)), heard_until=min(heard or now, now)
        )
        key = f"{self._pbx}/resynced/{now.isoformat()}"
        self._tracker.out.append(Sighting(body, now, key))

    def _may_begin(self, event: Event, parents: set[str | None]) -> bool:
        """A channel of ours that nobody made may be an agent's of a queue: it stays unknown."""
        parent = parent_of(event)
        if parent is not None:
            return self._tracker.knows(parent)
        return text(event, "Call-Direction") == "inbound" or identity(event) in parents

    def _adopt(self, event: Event, at: datetime) -> None:
        leg = self._tracker.created(event, at)
        if leg is not None and leg is leg.call.first:
            leg.call.joined = True

    def _catch_up(self, event: Event, at: datetime) -> None:
        state = text(event, "Channel-Call-State")
        if state in _RINGS:
            self._tracker.progressed(event, at)
        elif state in _UP:
            self._tracker.answered(event, at)

    def _taken(self) -> list[Sighting]:
        taken = self._tracker.out.copy()
        self._tracker.out.clear()
        return taken


def _said_at(said: Mapping[str, Any], name: str) -> datetime | None:
    """Of a record of ours; None where it does not say."""
    try:
        at = datetime.fromisoformat(str(said.get(name)))
    except ValueError:
        return None
    return at if at.tzinfo is not None else None


def _needs(event: Event) -> list[str]:
    """The channels without which it says nothing."""
    match event["Event-Name"]:
        case "CHANNEL_CREATE":
            needed = [parent_of(event) or ""]
        case "CHANNEL_BRIDGE":
            needed = list(bridge_of(event))
        case "CHANNEL_UNBRIDGE":
            needed = [bridge_of(event)[0]]
        case "CUSTOM":
            begins = text(event, "CC-Action").startswith("member-queue-")
            needed = [text(event, "CC-Member-Session-UUID")] if begins else []
        case _:
            needed = [identity(event)]
    return [leg_id for leg_id in needed if leg_id]


#: Columns of ``show channels`` and the headers that say the same.
_COLUMNS = {
    "uuid": "Unique-ID",
    "direction": "Call-Direction",
    "name": "Channel-Name",
    "callstate": "Channel-Call-State",
    "call_uuid": "Channel-Call-UUID",
    "presence_id": "Channel-Presence-ID",
    "initial_ip_addr": "Caller-Network-Addr",
    "initial_cid_name": "Caller-Caller-ID-Name",
    "initial_cid_num": "Caller-Caller-ID-Number",
    "initial_dest": "Caller-Destination-Number",
}


def _of_row(row: dict[str, Any]) -> Event:
    found = {name: row[column] for column, name in _COLUMNS.items() if row.get(column)}
    event = {name: value for name, value in found.items() if isinstance(value, str)}
    created = str(row.get("created_epoch", ""))
    if created.isascii() and created.isdigit():
        event["Event-Date-Timestamp"] = created + "000000"
    return event
