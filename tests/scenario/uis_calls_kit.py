"""A call session of a UIS account: the notifications of it, and the rows of the report of its legs."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from shared.ids import call_id
from shared.sandbox.site import TENANT

PBX = "uis"
MOSCOW = ZoneInfo("Europe/Moscow")

Row = dict[str, Any]


@dataclass
class _Asked:
    """An employee whom the call was offered to: a leg of the report."""

    employee: int
    rang: datetime
    answered: datetime | None = None
    left: datetime | None = None
    reason: str = ""


@dataclass
class UisCall:
    """
    A call session of the account. Its methods return the bodies of notifications, for what happens
    at that moment, and keep what the report will say.
    """

    session: int
    contact: str
    #: Digits of the account's number in it.
    virtual: str
    began: datetime
    #: Of a click: what the order named it, and who asked for it.
    external_id: str | None = None
    employee: int | None = None
    asked: list[_Asked] = field(default_factory=list)
    #: Of the customer of a click.
    picked_up: datetime | None = None
    ended: datetime | None = None
    #: Why a click came to nothing at the customer's end.
    reason: str = "subscriber_disconnects"
    recorded: bool = True

    @property
    def is_click(self) -> bool:
        return self.external_id is not None

    @property
    def call_id(self) -> str:
        return call_id(TENANT, PBX, str(self.session))

    @property
    def reference(self) -> str:
        """Its ``externalId`` at the CRM."""
        return self.call_id

    @property
    def talked(self) -> int:
        if self.is_click:
            return _seconds(self.ended, self.picked_up)
        return sum(_seconds(leg.left or self.ended, leg.answered) for leg in self.asked)

    def incoming(self, at: datetime) -> Row:
        return self._said("incoming", at)

    def rings(self, employee: int, at: datetime) -> Row:
        self.asked.append(_Asked(employee, at))
        return self._said("ringing", at, employee)

    def answers(self, employee: int, at: datetime) -> Row:
        """Of a click: the customer has picked up, too."""
        leg = self._leg(employee)
        leg.answered = leg.answered or at
        if self.is_click:
            self.picked_up = at
        return self._said("answered", at, employee)

    def picks_up(self, employee: int, at: datetime) -> None:
        """The employee whose click it is; the account does not notify of that."""
        self._leg(employee).answered = at

    def leaves(self, employee: int, at: datetime) -> Row:
        leg = self._leg(employee)
        leg.left, leg.reason = at, "transfer_disconnects"
        talked = _seconds(at, leg.answered)
        return self._said("talk_ended", at, employee, talk_time_duration=talked)

    def ends(self, at: datetime, **more: Any) -> Row:
        self.ended = at
        talked = self.talked
        last = self.asked[-1].employee if self.asked else None
        told: Row = {"is_lost": not talked, "talk_time_duration": talked, **more}
        return self._said("ended", at, last, **told)

    @property
    def record_id(self) -> str:
        return f"{self.session:032x}"

    def report(self) -> list[Row]:
        """Its legs, as the Data API has them."""
        assert self.ended is not None
        rows = [self._employee_row(leg) for leg in self.asked]
        if not self.is_click:
            rows.insert(0, self._row(self.began, self.began, self.ended, direction="in"))
        elif self.asked and self.asked[0].answered is not None:
            reason = "subscriber_disconnects" if self.picked_up else self.reason
            began = self.asked[0].answered
            rows.append(self._row(began, self.picked_up, self.ended, finish_reason=reason))
        for number, row in enumerate(rows):
            row["id"] = self.session * 100 + number
        return rows

    def _employee_row(self, leg: _Asked) -> Row:
        others = any(one.answered for one in self.asked if one is not leg)
        reason = leg.reason or ("another_operator_answer" if others else "no_operator_answer")
        if leg.answered is not None:
            reason = leg.reason or "operator_disconnects"
        end = leg.left or (self.ended if leg.answered or not others else self._first_answer())
        assert end is not None
        is_recorded = leg.answered is not None and self.recorded and self.talked
        return self._row(
            leg.rang,
            leg.answered,
            end,
            is_operator=True,
            employee_id=leg.employee,
            finish_reason=reason,
            call_records=[self.record_id] if is_recorded else [],
        )

    def _first_answer(self) -> datetime | None:
        return next((leg.answered for leg in self.asked if leg.answered), self.ended)

    def _row(self, start: datetime, connected: datetime | None, end: datetime, **more: Any) -> Row:
        row: Row = {
            "call_session_id": self.session,
            "start_time": local(start),
            "connect_time": local(connected) if connected else None,
            "duration": _seconds(end, connected),
            "total_duration": _seconds(end, start),
            "finish_reason": "subscriber_disconnects",
            "direction": "out",
            "virtual_phone_number": self.virtual,
            "calling_phone_number": self.virtual if self.is_click else self.contact,
            "called_phone_number": self.contact if self.is_click else self.virtual,
            "is_operator": False,
            "is_coach": False,
            "is_talked": connected is not None,
            "employee_id": None,
            "employee_full_name": None,
            "employee_phone_number": None,
            "contact_phone_number": self.contact,
            "contact_full_name": None,
            "call_records": [],
        }
        return row | more

    def _leg(self, employee: int) -> _Asked:
        return next(leg for leg in reversed(self.asked) if leg.employee == employee)

    def _said(self, event: str, at: datetime, employee: int | None = None, **more: Any) -> Row:
        return {
            "event": event,
            "call_session_id": self.session,
            "notification_time": local(at),
            "notification_timestamp": at.timestamp(),
            "start_time": local(self.began),
            "direction": "out" if self.is_click else "in",
            "is_internal": False,
            "call_source": "callapi" if self.is_click else "va",
            "external_id": self.external_id,
            "virtual_phone_number": self.virtual,
            "contact_phone_number": self.contact,
            "employee_id": employee,
            **more,
        }


def _seconds(end: datetime | None, start: datetime | None) -> int:
    return int((end - start).total_seconds()) if end is not None and start is not None else 0


def local(at: datetime) -> str:
    return at.astimezone(MOSCOW).strftime("%Y-%m-%d %H:%M:%S")
