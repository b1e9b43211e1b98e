"""
HTTP notifications of a UIS account → what happened to a call, or what an employee does. Pure and
without memory.

The administrator writes the body of each notification: ours (docs/how-to/pbx/uis.md) say with
``event`` what happened and name every parameter as the vendor does. Bodies made for others, which
say it with ``notification_mnemonic`` or ``notification_name``, are read too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Any

from pydantic import ValidationError

from shared.contracts.agents import AgentStatusChanged
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallEvent,
    CallRinging,
    CallStarted,
    Direction,
    Disposition,
    LegEnded,
    LegOutcome,
    Party,
    RecordingReady,
)
from shared.errors import ContractError
from shared.ids import call_id
from shared.pbx.port import HookReading, Phones, RawHook, Sighting
from shared.pbx.uis.fields import Fields, fields_of, happened_at, local_time, zone_told
from shared.pbx.uis.parties import (
    CONTACT_LEG,
    Employee,
    anybody,
    employee,
    is_session,
    record_of,
)
from shared.pbx.uis.staff import StaffWords
from shared.pbx.uis.told import Told, told_by

_DIRECTIONS = {"in": Direction.INBOUND, "out": Direction.OUTBOUND}
_IMPLIED = {
    Told.INCOMING: Direction.INBOUND,
    Told.LOST: Direction.INBOUND,
    Told.OUTGOING: Direction.OUTBOUND,
}
_REFERENCE = re.compile(r"[A-Za-z0-9_.:-]{1,128}")
_LINKS = ("file_link", "full_record_file_link", "record_file_link", "record_file_links")
_LINK = re.compile(r"https?://[!-~]{1,2000}")


@dataclass(frozen=True, slots=True)
class UisHooks:
    """*zone* is the account's: that of ``notification_time`` and ``start_time``."""

    tenant: str
    pbx: str
    zone: tzinfo
    staff: StaffWords = field(default_factory=StaffWords)

    def verify(self, hook: RawHook) -> None:
        """UIS signs nothing: the key in the address, and ``senders``, have to do."""

    def read(self, hook: RawHook, phones: Phones) -> HookReading:
        """Raises: ContractError where it does not say what happened, or to which call."""
        fields = fields_of(hook)
        told = told_by(fields)
        if told is Told.STATUS:
            return HookReading(self._status(fields, phones, hook))
        session = fields.text("call_session_id", "call")
        if session is None or not is_session(session):
            raise ContractError(
                "call_session_id is missing: write "
                '"call_session_id": {{call_session_id}} into the body of the notification'
            )
        at = happened_at(fields, self.zone, received_at=hook.received_at)
        return _Notification(self, fields, phones, told=told, session=session, at=at).reading()

    def _status(self, fields: Fields, phones: Phones, hook: RawHook) -> list[Sighting]:
        """Nothing of an employee who is no agent of the site. Raises: ContractError."""
        user = fields.text("employee_id", "id")
        who = employee(phones, user=user, extension=fields.text("extension", "employee_extension"))
        found = self.staff.told(fields)
        extension = who.party.extension if who is not None else None
        if found is None or extension is None or extension not in phones.extensions:
            return []
        status, own = found
        try:
            body = AgentStatusChanged(
                extension=extension, status=status, source_name=self.pbx, own=own
            )
        except ValidationError:
            return []  # an extension that nobody could dial
        at = happened_at(fields, self.zone, received_at=hook.received_at)
        key = f"{self.pbx}/agent/{extension}/{status}/{own or ''}/{at.isoformat()}"
        return [Sighting(body, at, key)]


class _Notification:
    """One of them, on its way to sightings; *out* takes them."""

    def __init__(
        self,
        hooks: UisHooks,
        fields: Fields,
        phones: Phones,
        *,
        told: Told,
        session: str,
        at: datetime,
    ) -> None:
        self._pbx, self._session = hooks.pbx, session
        self._fields, self._phones = fields, phones
        self._told, self._at = told, at
        self._zone = zone_told(fields, hooks.zone)
        self._call_id = call_id(hooks.tenant, hooks.pbx, session)
        self._out: list[Sighting] = []
        self._contact = fields.text("contact_phone_number")
        self._agent = employee(
            phones,
            user=fields.text("employee_id"),
            extension=fields.text("extension", "employee_extension"),
            number=fields.text("employee_phone_number"),
            name=fields.text("employee_full_name"),
        )
        self._direction = self._read_direction()
        self._outbound = self._direction is Direction.OUTBOUND
        reference = fields.text("external_id")
        usable = self._outbound and reference and _REFERENCE.fullmatch(reference)
        self._dial_id = reference if usable else None

    def reading(self) -> HookReading:
        self._started()
        asks: dict[Told, Callable[[], bool]] = {
            Told.RINGING: self._ringing,
            Told.ANSWERED: self._answered,
            Told.TALK_ENDED: self._talk_ended,
            Told.ENDED: self._ended,
            Told.LOST: self._ended,
            Told.RECORDING: self._recording,
        }
        step = asks.get(self._told)
        report = step() if step is not None else False
        return HookReading(self._out, (self._session,) if report else ())

    # -- what the account can tell: each says whether its report knows more ---------------------

    def _started(self) -> None:
        """In every notification that knows the direction: the first to come counts."""
        if self._direction is None:
            return
        fields = self._fields
        start = local_time(fields.text("start_time"), self._zone)
        if start is None or start > self._at or (self._at - start).days:
            start = self._at
        self._tell(
            start,
            "started",
            CallStarted,
            pbx_call_id=self._session,
            direction=self._direction,
            caller=self._caller(),
            dialled=self._dialled(),
            dial_id=self._dial_id,
        )

    def _ringing(self) -> bool:
        leg = self._contact_leg() if self._outbound and not self._clicked() else self._agent
        if leg is not None:
            self._tell(
                self._at,
                f"ringing/{leg.leg_id}",
                CallRinging,
                leg_id=leg.leg_id,
                callee=leg.party,
                caller=self._caller(),
                own_phone=self._outbound and leg is self._agent,
            )
        return False

    def _answered(self) -> bool:
        for leg in self._talkers():
            self._tell(
                self._at,
                f"answered/{leg.leg_id}",
                CallAnswered,
                leg_id=leg.leg_id,
                callee=leg.party,
                own_phone=self._outbound and leg is self._agent,
            )
        return False

    def _talk_ended(self) -> bool:
        for leg in self._talkers():
            self._tell(
                self._at,
                f"leg-ended/{leg.leg_id}",
                LegEnded,
                leg_id=leg.leg_id,
                callee=leg.party,
                outcome=LegOutcome.ANSWERED,
                own_phone=self._outbound and leg is self._agent,
            )
        return False

    def _ended(self) -> bool:
        talked = self._fields.seconds("talk_time_duration")
        self._tell(self._at, "ended", CallEnded, disposition=self._disposition(), talk_time=talked)
        return True

    def _recording(self) -> bool:
        links = [link for name in _LINKS for link in self._fields.texts(name)]
        told = False
        for link in links:
            record = record_of(link)
            if _LINK.fullmatch(link) and record is not None:
                # The report names it by its id as well: one recording, whoever tells first.
                self._tell(self._at, f"recording/{record}", RecordingReady, recording=link)
                told = True
        return not told

    # -- of what ---------------------------------------------------------------------------------

    def _read_direction(self) -> Direction | None:
        if self._fields.flag("is_internal"):
            return Direction.INTERNAL
        said = _DIRECTIONS.get((self._fields.text("direction") or "").lower())
        return said or _IMPLIED.get(self._told)

    def _caller(self) -> Party:
        fields = self._fields
        if self._outbound:
            return self._agent.party if self._agent else Party()
        if self._direction is Direction.INTERNAL:
            number = fields.text("calling_phone_number", "contact_phone_number")
            return anybody(self._phones, number)
        number = self._contact or fields.text("calling_phone_number")
        name = fields.text("contact_full_name")
        return Party(number=number, name=None if name == number else name)

    def _dialled(self) -> str | None:
        fields = self._fields
        if self._outbound:
            return self._contact or fields.text("called_phone_number")
        if self._direction is Direction.INTERNAL:
            return fields.text("called_phone_number", "virtual_phone_number")
        return fields.text("virtual_phone_number", "called_phone_number")

    def _clicked(self) -> bool:
        """By click-to-call: the employee's own phone rings first."""
        source = self._fields.text("call_source") or ""
        return self._dial_id is not None or source.startswith("callapi")

    def _contact_leg(self) -> Employee:
        return Employee(CONTACT_LEG, Party(number=self._dialled()))

    def _talkers(self) -> list[Employee]:
        """Who picked up. An employee who dials by hand calls, and is no leg."""
        if not self._outbound:
            return [self._agent or Employee("employee", Party())]
        own = [self._agent] if self._agent is not None and self._clicked() else []
        return [*own, self._contact_leg()]

    def _disposition(self) -> Disposition | None:
        """
        None where the events say it better: of a call to the outside that came to nothing the
        account does not tell whether it was busy.
        """
        lost = True if self._told is Told.LOST else self._fields.flag("is_lost")
        talked = self._fields.seconds("talk_time_duration")
        if talked:
            return Disposition.ANSWERED
        if self._outbound:
            return Disposition.ANSWERED if lost is False and talked is None else None
        if lost is None:
            return None if talked is None else Disposition.MISSED
        return Disposition.MISSED if lost else Disposition.ANSWERED

    def _tell(self, at: datetime, key: str, event: type[CallEvent], /, **more: Any) -> None:
        body = event(call_id=self._call_id, pbx=self._pbx, **more)
        self._out.append(Sighting(body, at, f"{self._pbx}/{self._session}/{key}"))
