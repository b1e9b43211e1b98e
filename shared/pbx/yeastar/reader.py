"""
Yeastar's events → call events, whichever way they came. Pure.

The WebSocket's records are read one after the other by :class:`YeastarReader`, which remembers
the calls in progress; a webhook is read by itself by `hooks.YeastarHooks`, as replicas share
them. Both read by the same rules; the second tells less.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any

from pydantic import TypeAdapter, ValidationError

from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.calls import (
    CallEnded,
    Direction,
    Disposition,
    EndKnown,
    LegEnded,
    LegOutcome,
    Party,
)
from shared.errors import ContractError
from shared.ids import Extension
from shared.pbx.port import Phones, Sighting
from shared.pbx.statuses import own_word
from shared.pbx.yeastar import fields
from shared.pbx.yeastar.follow import Following
from shared.pbx.yeastar.members import CallReport, call_report
from shared.pbx.yeastar.memory import CallMemory, Calls, Teller
from shared.pbx.yeastar.presence import words_of
from shared.pbx.yeastar.records import call_record, tell_record

#: What is subscribed to. Others that are read when they come: 30026 (an agent let it ring). That a
#: phone is on a call (30008) says nothing of what the agent is doing: the calls themselves tell it.
TOPICS = (30009, 30011, 30012, 30013, 30015, 30016)
#: A record of our own between the PBX's: what it said when it was asked after a gap.
RESYNC = "callmesh_resync"

_EXTENSION: TypeAdapter[str] = TypeAdapter(Extension)


@dataclass(frozen=True, slots=True)
class Events:
    """
    The rules. *queues*: numbers of queues, where they are not of the preset range. *statuses*: our
    status → the presence that the site has for it.
    """

    tenant: str
    pbx: str
    zone: tzinfo
    queues: Collection[str] = ()
    statuses: Mapping[AgentStatus, str] = field(default_factory=dict)

    def read(
        self, event: dict[str, Any], *, now: datetime, phones: Phones, calls: Calls | None
    ) -> list[Sighting]:
        """*calls* None: nothing is remembered. Raises: ContractError."""
        kind = fields.text(event.get("type"))
        if kind is None:
            return []  # `Send Test Message` of the PBX, and the answer to a subscription
        msg = event.get("msg")
        if isinstance(msg, str):
            msg = fields.load(msg, f"msg of Yeastar event {kind[:8]}")
        if not isinstance(msg, dict):
            raise ContractError(f"Yeastar event {kind[:8]} has no msg")
        match kind:
            case "30011" | "30013" | "30016":
                return self._members(kind, call_report(msg), now, calls)
            case "30012":
                return self._record(msg, now, phones, calls)
            case "30009":
                return self._agent(msg, now, phones)
            case "30015":
                return self._not_allowed(msg, now, calls)
            case "30026":
                return self._let_ring(msg, now, calls)
            case _:
                return []

    def over(self, calls: Calls, now: datetime) -> list[Sighting]:
        """Calls in which everybody hung up, and of which the PBX sent no record."""
        out: list[Sighting] = []
        for call_id, memory, since in calls.overdue(now):
            known = EndKnown.JOINED if memory.joined else EndKnown.SEEN
            self._teller(call_id, out).tell(
                since,
                "ended" if known is EndKnown.SEEN else f"ended/{known}",
                CallEnded,
                disposition=_disposition(memory) if known is EndKnown.SEEN else None,
                known=known,
            )
        return out

    def resync(self, record: dict[str, Any], calls: Calls, now: datetime) -> list[Sighting]:
        """What the PBX said when it was asked; calls that it no longer has have ended."""
        out: list[Sighting] = []
        gone = {fields.text(call_id) for call_id in _list(record.get("gone"))} - {None}
        heard = _heard(record.get("heard_until"), now)
        for call_id in calls.live:
            if call_id in gone:
                memory = calls.known(call_id)
                at = max(heard, memory.heard_at) if memory else heard
                self._teller(call_id, out).tell(
                    min(at, now), "ended/resync", CallEnded, known=EndKnown.RESYNC
                )
                calls.forget(call_id)
        for event in _list(record.get("events")):
            with suppress(ContractError):
                out += self._members("30011", call_report(_dict(event)), now, calls)
        return out

    def _members(
        self, kind: str, report: CallReport, now: datetime, calls: Calls | None
    ) -> list[Sighting]:
        out: list[Sighting] = []
        tell = self._teller(report.call_id, out)
        if calls is None:
            memory = CallMemory(now, blind=True)
        else:
            known = calls.remembered(report.call_id) is not None
            memory = calls.memory(report.call_id, now)
            memory.joined |= not known and not report.early
        event = Following(report, memory, tell, now)
        if kind == "30013":
            event.transfer()
        if kind == "30016":
            event.announce()
        else:
            event.follow(self.queues)
        if calls is not None:
            if not memory.over:
                calls.goes_on(report.call_id)
            elif memory.end_told:
                calls.forget(report.call_id)
            else:
                calls.closing(report.call_id, now)
        return out

    def _record(
        self, msg: dict[str, Any], now: datetime, phones: Phones, calls: Calls | None
    ) -> list[Sighting]:
        call_id = fields.text(msg.get("call_id")) or ""
        memory = calls.remembered(call_id) if calls is not None else None
        called = {leg for leg, _ in (*memory.rung, *memory.answered)} if memory else set()
        record = call_record(
            msg, now=now, zone=self.zone, phones=phones, queues=self.queues, called=called
        )
        out: list[Sighting] = []
        tell_record(record, memory, self._teller(record.call_id, out))
        if calls is not None:
            calls.memory(record.call_id, now).end_told = True
            calls.forget(record.call_id)
        return out

    def _agent(self, msg: dict[str, Any], now: datetime, phones: Phones) -> list[Sighting]:
        extension = _extension(msg.get("extension"))
        said = (fields.text(msg.get("status")) or "").lower()
        status = words_of(self.statuses).status(said)
        if extension is None or status is None:
            return []
        if phones.extensions and extension not in phones.extensions:
            return []
        body = AgentStatusChanged(
            extension=extension, status=status, source_name=self.pbx, own=own_word(said)
        )
        key = f"{self.pbx}/agent/{extension}/{status}/{now.isoformat(timespec='seconds')}"
        return [Sighting(body, now, key)]

    def _not_allowed(
        self, msg: dict[str, Any], now: datetime, calls: Calls | None
    ) -> list[Sighting]:
        """30015, where it is of the whole call: who calls may not. Others are of one phone."""
        reason, call_id = fields.text(msg.get("reason")), fields.text(msg.get("call_id"))
        if call_id is None or reason is None or not reason.upper().startswith("NO "):
            return []
        out: list[Sighting] = []
        self._teller(call_id, out).tell(
            now,
            "ended/failed",
            CallEnded,
            disposition=Disposition.FAILED,
            known=EndKnown.REPORT,
        )
        return out

    def _let_ring(self, msg: dict[str, Any], now: datetime, calls: Calls | None) -> list[Sighting]:
        """30026: an agent of a queue did not answer in time."""
        call_id, agent = fields.text(msg.get("call_id")), _extension(msg.get("agent_number"))
        if call_id is None or agent is None:
            return []
        memory = calls.remembered(call_id) if calls is not None else None
        if memory is not None and any(leg == agent for leg, _ in memory.ended):
            return []
        out: list[Sighting] = []
        self._teller(call_id, out).tell(
            now,
            f"leg-ended/{agent}/timeout/{now.isoformat(timespec='seconds')}",
            LegEnded,
            leg_id=agent,
            callee=Party(extension=agent),
            outcome=LegOutcome.NO_ANSWER,
        )
        return out

    def _teller(self, call_id: str, out: list[Sighting]) -> Teller:
        return Teller(self.tenant, self.pbx, call_id, out)


class YeastarReader:
    """A :class:`RecordReader` of what the WebSocket brings, and of what was asked after a gap."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._calls = Calls()
        self._phones = Phones()

    @property
    def live_calls(self) -> int:
        return len(self._calls)

    @property
    def live(self) -> list[str]:
        """The PBX's own ids of the calls in progress."""
        return self._calls.live

    def know(self, phones: Phones) -> None:
        self._phones = phones

    def read(self, record: bytes, *, now: datetime) -> list[Sighting]:
        event = fields.load(record, "a record of a Yeastar")
        if isinstance(asked := event.get(RESYNC), dict):
            return self._events.resync(asked, self._calls, now)
        return self._events.read(event, now=now, phones=self._phones, calls=self._calls)

    def tick(self, now: datetime) -> list[Sighting]:
        return self._events.over(self._calls, now)


def _disposition(memory: CallMemory) -> Disposition:
    if memory.was_answered:
        return Disposition.ANSWERED
    rang = any(leg != memory.own for leg, _ in memory.rung)
    inbound = memory.direction is Direction.INBOUND
    return Disposition.MISSED if inbound or rang else Disposition.FAILED


def _extension(value: object) -> str | None:
    try:
        return _EXTENSION.validate_python(fields.text(value))
    except ValidationError:
        return None


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _heard(value: object, now: datetime) -> datetime:
    if isinstance(value, str):
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            return now
        if at.tzinfo is not None:
            return min(at, now)
    return now
