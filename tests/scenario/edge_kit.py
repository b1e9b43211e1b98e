"""
An office between a UIS account and retailCRM, over the whole mesh: the account's calls are played by
the documents of its notifications and its report, and time is the test's.

    async with an_office(choice, clock) as office:
        call = office.uis.comes_in("79260000001", shop_number)
        await office.play(call.begins(), after=0)
        await office.play(call.rings(25), after=3)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import aiohttp
from pydantic import SecretStr

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from shared.clock import ManualClock
from shared.contracts.calls import CallRecord
from shared.ids import call_id, reference
from shared.runtime.host import running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Platform
from shared.runtime.settings import HttpSettings, OpsSettings
from shared.sandbox.site import TENANT
from shared.testing.servers import free_port
from tests.contract.retailcrm_server import RetailCrm
from tests.contract.uis_kit import Account, Method, error, result

PBX, CRM = "uis", "shop"
MOSCOW = ZoneInfo("Europe/Moscow")
#: How far the clock goes on while something is waited for, for each turn of the loop.
_TICK = timedelta(milliseconds=5)
_STEP = timedelta(seconds=1)

Row = dict[str, Any]


# -- the account's calls ---------------------------------------------------------------------------


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
        return reference(self.call_id)

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
            "start_time": _local(start),
            "connect_time": _local(connected) if connected else None,
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
            "notification_time": _local(at),
            "notification_timestamp": at.timestamp(),
            "start_time": _local(self.began),
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


def _local(at: datetime) -> str:
    return at.astimezone(MOSCOW).strftime("%Y-%m-%d %H:%M:%S")


# -- the account -----------------------------------------------------------------------------------


class Exchange:
    """
    What the account does: takes orders and refuses those for numbers in *refuses*, has calls and
    their report, sets employees' statuses and notifies of them as *notify* says.
    """

    def __init__(self, account: Account, clock: ManualClock, *employees: int) -> None:
        self.account, self._clock = account, clock
        self.calls: dict[int, UisCall] = {}
        #: What was ordered and not yet played, the oldest first.
        self.ordered: list[UisCall] = []
        #: Number → the answer to an order to call it.
        self.refuses: dict[str, Row] = {}
        self.employees = dict.fromkeys(employees, "available")
        self.notify: Callable[[Row], Awaitable[None]] | None = None
        #: Notifications of a status: who and what.
        self.notified: list[tuple[int, str]] = []
        self._notifying: set[asyncio.Task[None]] = set()
        own: dict[str, Method] = {
            "start.employee_call": self._ordered,
            "get.call_legs_report": self._report,
            "update.employees": self._update,
        }
        account.methods.update(own)

    def asked(self, method: str) -> list[Row]:
        return [params for _, name, params in self.account.asked if name == method]

    def recording_of(self, call: UisCall) -> str:
        """Its address, as the account has it."""
        origin = f"http://127.0.0.1:{self.account.port}"
        return f"{origin}/system/media/talk/{call.session}/{call.record_id}/"

    def comes_in(self, contact: str, virtual: str, at: datetime | None = None) -> UisCall:
        return self._add(contact, virtual, at or self._now())

    def does(self, employee: int, word: str) -> None:
        """By hand, or as it was told; a change is notified of, as the account does."""
        if self.employees[employee] == word:
            return
        self.employees[employee] = word
        self.notified.append((employee, word))
        now = self._clock.now()
        body = {
            "event": "status",
            "notification_time": _local(now),
            "notification_timestamp": now.timestamp(),
            "employee_id": employee,
            "employee_status": word,
        }
        assert self.notify is not None
        task = asyncio.ensure_future(self.notify(body))
        self._notifying.add(task)
        task.add_done_callback(self._notifying.discard)

    def _add(self, contact: str, virtual: str, at: datetime, **more: Any) -> UisCall:
        session = 31_451_000 + len(self.calls)
        self.calls[session] = made = UisCall(session, contact, virtual, at, **more)
        return made

    def _ordered(self, asked: Row) -> Row:
        employee = asked["employee"]["id"]
        if employee not in self.employees:
            return error(-32602, "employee_not_found", f"Employee with id {employee} not found.")
        if (refused := self.refuses.get(asked["contact"])) is not None:
            return refused
        virtual = asked["virtual_phone_number"]
        more = {"external_id": asked["external_id"], "employee": employee}
        call = self._add(asked["contact"], virtual, self._now(), **more)
        self.ordered.append(call)
        return result({"call_session_id": call.session})

    def _report(self, asked: Row) -> Row:
        session = asked["filter"]["value"]
        call = self.calls.get(session)
        if call is None or call.ended is None:
            return result([])
        begins = (_local(call.began), _local(call.ended))
        is_within = asked["date_from"] <= min(begins) and max(begins) <= asked["date_till"]
        return result(
            [{name: row[name] for name in asked["fields"]} for row in call.report()]
            if is_within
            else []
        )

    def _update(self, asked: Row) -> Row:
        if asked["id"] not in self.employees:
            return error(-32602, "employee_not_found")
        self.does(asked["id"], asked["status"])
        return result({"success": True})

    def _now(self) -> datetime:
        """Whole seconds: the account has no others."""
        return self._clock.now().replace(microsecond=0)


# -- the mesh between ------------------------------------------------------------------------------


@dataclass
class Office:
    """The mesh with the account and the CRM at its sides."""

    uis: Exchange
    crm: RetailCrm
    platform: Platform
    clock: ManualClock
    url: str
    key: SecretStr
    session: aiohttp.ClientSession

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        headers = {"X-Api-Key": self.key.get_secret_value()}
        async with self.session.request(
            method, self.url + path, json=body, headers=headers
        ) as answer:
            return answer.status, await answer.json()

    async def notify(self, body: Row) -> None:
        """As the account does, which has no header for its key."""
        params = {"key": self.key.get_secret_value()}
        async with self.session.post(
            f"{self.url}/v1/pbx/{PBX}/events", params=params, json=body
        ) as answer:
            assert answer.status == 202, await answer.text()

    async def route(self, caller: str, did: str) -> Row:
        """The answer to a scenario that asks where the call shall go."""
        params = {
            "key": self.key.get_secret_value(),
            "numa": caller,
            "numb": did,
            "cdr_id": "1",
            "input_result": "None",
        }
        asking = asyncio.ensure_future(
            self.session.get(f"{self.url}/v1/pbx/{PBX}/route", params=params)
        )
        await self.until(asking.done, of="a route")
        async with asking.result() as answer:
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())

    async def record(self, call: UisCall) -> CallRecord | None:
        status, found = await self.ask("GET", f"/v1/calls/{call.call_id}")
        return CallRecord.model_validate(found) if status == 200 else None

    async def done(self, work: Awaitable[Any], *, of: str) -> Any:
        """The result of *work*, while time goes on."""
        task = asyncio.ensure_future(work)
        await self.until(task.done, of=of)
        return task.result()

    async def until(
        self,
        holds: Callable[[], bool] | Callable[[], Awaitable[bool]],
        *,
        of: str,
        within: float = 30,
    ) -> None:
        """
        Let time go on, slower than the mesh works, until *holds*. Raises: AssertionError after
        *within* real seconds.
        """
        ticking = asyncio.create_task(_ticking(self.clock))
        try:
            async with asyncio.timeout(within):
                while True:
                    found = holds()
                    if found if isinstance(found, bool) else await found:
                        return
                    await asyncio.sleep(0.005)  # noqa: TID251  requests need real time beside it
        except TimeoutError:
            raise AssertionError(f"{of}: did not come true within {within:g} s") from None
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking

    async def pass_to(self, at: datetime, *, step: timedelta = _STEP) -> None:
        """Nothing may be under way that is of now: a card, a status."""
        while (left := at - self.clock.now()) > timedelta(0):
            await self.clock.advance(min(step, left))
            await asyncio.sleep(0.001)  # noqa: TID251  requests need real time beside it

    async def pass_time(self, seconds: float, *, step: timedelta = _STEP) -> None:
        await self.pass_to(self.clock.now() + timedelta(seconds=seconds), step=step)


async def _ticking(clock: ManualClock) -> None:
    while True:
        await asyncio.sleep(0.001)  # noqa: TID251  a turn of the loop, and what others do in it
        await clock.advance(_TICK)


@asynccontextmanager
async def an_office(
    choice: Choice,
    clock: ManualClock,
    uis: Exchange,
    crm: RetailCrm,
    *,
    site: str,
    port: int | None = None,
) -> AsyncIterator[Office]:
    """*site* is applied each time that the mesh starts; *port*: that of a mesh that starts again."""
    port = port or free_port()
    url = f"http://127.0.0.1:{port}"
    choice = replace(choice, mesh=choice.mesh.model_copy(update={"public_url": url}))
    ticking = asyncio.create_task(_ticking(clock))
    async with (
        open_platform(choice, consumers=consumers(), clock=clock) as platform,
        aiohttp.ClientSession() as session,
    ):
        key = await prepare(platform, site)
        async with running(
            [entry.build for entry in CATALOG.values()],
            platform,
            http=HttpSettings(port=port),
            ops=OpsSettings(port=0),
            drain=choice.mesh.drain,
        ) as state:
            office = Office(uis, crm, platform, clock, url, key, session)
            uis.notify = office.notify
            ticking.cancel()
            yield office
            assert state.failed is None
            # What is left by its own time has that time to end.
            ticking = asyncio.create_task(_ticking(clock))
    ticking.cancel()
