"""
An office between a UIS account and retailCRM, over the whole mesh: the account's calls are played by
the documents of its notifications and its report, and time is the test's.

    async with an_office(choice, clock, uis, crm, site=text) as office:
        call = office.uis.comes_in("79260000001", "74999999999")
        await office.notify(call.rings(25, clock.now()))
        await office.until(lambda: bool(crm.shown_to(24)), of="the card")
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import aiohttp
from pydantic import SecretStr

from services.catalog import CATALOG, consumers
from services.cli.demo import prepare
from services.gateway.hooks import ordered
from services.ingest.store import REPORT_WAITS, REPORTS
from services.journal.store import ENTRIES
from shared.clock import ManualClock
from shared.contracts.calls import CallRecord, EntryState
from shared.contracts.envelope import Query
from shared.observe.metrics import METRICS, MetricName, Metrics
from shared.runtime.host import running
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Platform
from shared.runtime.settings import HttpSettings, OpsSettings
from shared.storage.port import Is, Op
from shared.testing.patience import patient_with_services
from shared.testing.waiting import eventually
from tests.contract.retailcrm_server import RetailCrm
from tests.contract.uis_kit import Account, Method, error, result
from tests.scenario.conftest import has_begun
from tests.scenario.uis_calls_kit import PBX, Row, UisCall, local

PUBLIC_URL = "https://mesh.example"
#: How far the clock goes on while something is waited for, for each turn of the loop: some four
#: times as far as the clock on the wall; and a tenth as far, where time is short.
_TICK, _SLOWLY = timedelta(milliseconds=5), timedelta(microseconds=100)
_STEP = timedelta(seconds=1)
#: When a call's report is asked for, after its end: all else that is of now is through by then.
BEFORE_REPORT = REPORT_WAITS[0]
#: When a click is answered, whether or not the account has taken it.
_CLICK_WAITS = ordered._WITHIN
#: How many handlers a service has for a contract.
_HANDLERS = Counter(
    (entry.name, route.contract.wire_name())
    for entry in CATALOG.values()
    for route in entry.router.routes
    if not issubclass(route.contract, Query)
)

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
        self.notifying: set[asyncio.Task[None]] = set()
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
            "notification_time": local(now),
            "notification_timestamp": now.timestamp(),
            "employee_id": employee,
            "employee_status": word,
        }
        assert self.notify is not None
        task = asyncio.ensure_future(self.notify(body))
        self.notifying.add(task)
        task.add_done_callback(self.notifying.discard)

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
        begins = (local(call.began), local(call.ended))
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
        """The result of *work*, a click or a change, while time goes on."""
        task = asyncio.ensure_future(work)
        await self.until(task.done, of=of, due=_CLICK_WAITS)
        return task.result()

    async def is_quiet(self) -> bool:
        """
        Whether all that was told so far is done, with what follows from it at once: cards, statuses
        and reports are, entries are not.
        """
        if self.uis.notifying or not _all_is_handled(self.platform.metrics):
            return False
        late = Is("ended_at", Op.LE, self.clock.now() - BEFORE_REPORT - 2 * _STEP)
        return not await self.platform.store.collection(REPORTS).count(late)

    async def quiet(self) -> None:
        await self.until(self.is_quiet, of="the end of what is under way", due=BEFORE_REPORT)

    async def sent(self) -> None:
        """Until no entry is on its way to the CRM: who has one has it for seconds only."""

        async def is_sent() -> bool:
            entries = self.platform.store.collection(ENTRIES)
            return not await entries.count(state=EntryState.SENDING)

        await self.until(is_sent, of="the end of what is being sent", due=BEFORE_REPORT)

    async def until(
        self,
        holds: Callable[[], bool] | Callable[[], Awaitable[bool]],
        *,
        of: str,
        due: timedelta | None = None,
        within: float = 120,
    ) -> None:
        """
        Let time go on, slower than the mesh works, until *holds*; what is too late *due* from now
        has as much real time as it needs. Raises: AssertionError after *within* real seconds.
        """
        ticking = asyncio.create_task(_ticking(self.clock, due))
        try:
            await eventually(holds, within=within)
        except AssertionError as error:
            raise AssertionError(f"{of}: {error}") from None
        finally:
            ticking.cancel()
            with suppress(asyncio.CancelledError):
                await ticking

    async def pass_to(self, at: datetime, *, step: timedelta = _STEP) -> None:
        """
        Nothing may be under way that is of now: a card, a status, an entry. See :meth:`quiet`,
        :meth:`sent`.
        """
        while (left := at - self.clock.now()) > timedelta(0):
            await self.clock.advance(min(step, left))
            await asyncio.sleep(0.001)  # noqa: TID251  requests need real time beside it

    async def pass_time(self, seconds: float, *, step: timedelta = _STEP) -> None:
        await self.pass_to(self.clock.now() + timedelta(seconds=seconds), step=step)


async def _ticking(clock: ManualClock, due: timedelta | None = None) -> None:
    """Slowly from half of *due* on."""
    slow_from = None if due is None else clock.now() + due / 2
    while True:
        await asyncio.sleep(0.001)  # noqa: TID251  a turn of the loop, and what others do in it
        is_slow = slow_from is not None and clock.now() >= slow_from
        await clock.advance(_SLOWLY if is_slow else _TICK)


def _all_is_handled(metrics: Metrics) -> bool:
    """Whether each message came to each of its handlers; what a handler sends is sent before that."""
    sent = _counted(metrics, "callmesh_published_total")
    handled: Counter[tuple[str, str]] = Counter()
    delivered = _counted(metrics, "callmesh_deliveries_total")
    for (service, contract, outcome), count in delivered.items():
        if outcome != "retried":
            handled[service, contract] += count
    return all(
        handled[service, contract] >= handlers * sent[contract, "accepted"]
        for (service, contract), handlers in _HANDLERS.items()
    )


def _counted(metrics: Metrics, name: MetricName) -> Counter[tuple[str, ...]]:
    """By labels."""
    return Counter(
        {
            tuple(sample.labels[label] for label in METRICS[name].labels): round(sample.value)
            for family in metrics.registry.restricted_registry([name]).collect()
            for sample in family.samples
        }
    )


@asynccontextmanager
async def an_office(
    choice: Choice,
    clock: ManualClock,
    uis: Exchange,
    crm: RetailCrm,
    *,
    site: str,
) -> AsyncIterator[Office]:
    """*site* is applied each time that the mesh starts."""
    choice = replace(choice, mesh=choice.mesh.model_copy(update={"public_url": PUBLIC_URL}))
    ticking = asyncio.create_task(_ticking(clock))
    with patient_with_services():
        async with (
            open_platform(choice, consumers=consumers(), clock=clock) as platform,
            aiohttp.ClientSession() as session,
        ):
            key = await prepare(platform, site)
            async with running(
                [entry.build for entry in CATALOG.values()],
                platform,
                http=HttpSettings(port=0),
                ops=OpsSettings(port=0),
                drain=choice.mesh.drain,
            ) as state:
                url = f"http://127.0.0.1:{state.http_port}"
                crm.led = {PUBLIC_URL: url}
                office = Office(uis, crm, platform, clock, url, key, session)
                uis.notify = office.notify
                await has_begun(platform)
                ticking.cancel()
                yield office
                assert state.failed is None
                # What is left by its own time has that time to end.
                ticking = asyncio.create_task(_ticking(clock))
    ticking.cancel()
