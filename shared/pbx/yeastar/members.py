"""Who takes part in a call, as events 30011, 30013, 30015 and 30016 list them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from shared.contracts.calls import Party
from shared.errors import ContractError
from shared.pbx.yeastar.fields import text

#: A ring group of a P-Series has fewer; more are not read.
_MOST = 256


class Kind(StrEnum):
    EXTENSION = "extension"
    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Status(StrEnum):
    ALERT = "ALERT"  # it calls, and hears ringback
    RING = "RING"  # it is called, and rings
    ANSWERED = "ANSWERED"  # it called, and was answered
    ANSWER = "ANSWER"  # it was called, and answered
    EARLYMEDIA = "EARLYMEDIA"  # a line outside plays something before it answers (SIP 183)
    HOLD = "HOLD"
    BYE = "BYE"


_CALLS = frozenset({Status.ALERT, Status.ANSWERED})
_EARLY = frozenset({Status.ALERT, Status.RING, Status.EARLYMEDIA})


@dataclass(frozen=True, slots=True)
class Member:
    """*number* is that of an extension; *caller* and *callee* are those of a line outside."""

    kind: Kind
    channel: str
    status: Status | None
    path: str | None = None
    number: str | None = None
    caller: str | None = None
    callee: str | None = None

    @property
    def leg(self) -> str | None:
        """
        The phone or line that is called: by its number, as the record of the call names it too.
        None for a caller from outside.
        """
        return {Kind.EXTENSION: self.number, Kind.OUTBOUND: self.callee}.get(self.kind)

    @property
    def party(self) -> Party:
        if self.kind is Kind.EXTENSION:
            return Party(extension=self.number)
        return Party(number=self.callee if self.kind is Kind.OUTBOUND else self.caller)

    @property
    def calls(self) -> bool:
        return self.status in _CALLS


@dataclass(frozen=True, slots=True)
class CallReport:
    call_id: str
    members: tuple[Member, ...]

    def first(self, kind: Kind) -> Member | None:
        return next((member for member in self.members if member.kind is kind), None)

    @property
    def extensions(self) -> list[Member]:
        return [m for m in self.members if m.kind is Kind.EXTENSION and m.number]

    @property
    def early(self) -> bool:
        """Somebody still rings or waits for an answer."""
        return any(member.status in _EARLY for member in self.members)


def call_report(msg: dict[str, Any]) -> CallReport:
    """Raises: ContractError without a call id or a list of members."""
    call_id = text(msg.get("call_id"))
    if call_id is None:
        raise ContractError("a Yeastar event about a call has no call_id")
    members = msg.get("members")
    if not isinstance(members, list):
        raise ContractError("a Yeastar event about a call has no list of members")
    return CallReport(call_id, tuple(found for entry in members[:_MOST] for found in _read(entry)))


def _read(entry: object) -> Iterator[Member]:
    if not isinstance(entry, dict):
        return
    for kind in Kind:
        if isinstance(said := entry.get(kind), dict):
            yield Member(
                kind=kind,
                channel=text(said.get("channel_id")) or "",
                status=_status(said.get("member_status")),
                path=text(said.get("call_path")),
                number=text(said.get("number")),
                caller=text(said.get("from")),
                callee=text(said.get("to")),
            )


def _status(value: object) -> Status | None:
    found = (text(value) or "").upper()
    return Status(found) if found in Status.__members__ else None
