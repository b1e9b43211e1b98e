"""Asking a PBX what became of its calls, while it does not know yet: replicas over one store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from services.ingest.handlers import Deps, door, take_hook
from services.ingest.raw import RawTape
from services.ingest.reporting import ask_for_reports
from services.ingest.store import (
    LINKS,
    RAW,
    REPORT_WAITS,
    REPORTS,
    LinkBook,
    RawBook,
    ReportBook,
    ReportDue,
    records_in,
)
from shared.bus.publisher import ServicePublisher
from shared.clock import ManualClock
from shared.contracts.calls import CallEnded, EndKnown
from shared.contracts.envelope import Command, Event, Message, wrap
from shared.contracts.hooks import HookKind, HookReceived
from shared.errors import (
    ContractError,
    Forbidden,
    MeshError,
    NotFound,
    Rejected,
    Throttled,
    Unavailable,
)
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.pbx.port import Finding, HookReading, PbxAdapter, Phones, RawHook, Sighting
from shared.secrets import SecretBox, new_key
from shared.site.adapters import Adapters
from shared.site.book import SiteBook
from shared.site.documents import SITES, SiteDocument
from shared.site.models import Site
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from shared.testing.waiting import eventually

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
WITHIN = timedelta(minutes=10)


def the_end(call: str, at: datetime) -> Sighting:
    body = CallEnded(call_id=f"id-{call}", pbx="main", known=EndKnown.REPORT)
    return Sighting(body, at, f"main/{call}/ended/report")


class Exchange:
    """A PBX that tells of a call what its test has put there; until then nothing, or a fault."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, datetime]] = []
        self.knows: set[str] = set()
        self.faults: dict[str, Exception] = {}
        self.hangs: asyncio.Event | None = None
        self.adapter = PbxAdapter(check=_nothing, hooks=self, reporter=self)

    async def report(self, pbx_call_id: str, ended_at: datetime, phones: Phones) -> list[Sighting]:
        self.asked.append((pbx_call_id, ended_at))
        assert phones.extensions == {"101"}
        if self.hangs is not None:
            await self.hangs.wait()
        if pbx_call_id in self.faults:
            raise self.faults[pbx_call_id]
        return [the_end(pbx_call_id, ended_at)] if pbx_call_id in self.knows else []

    def verify(self, hook: RawHook) -> None:
        raise AssertionError("the gateway's business")

    def read(self, hook: RawHook, phones: Phones) -> HookReading:
        if hook.body == b"garbage":
            raise ContractError("garbage")
        return HookReading((), reports=hook.body.decode().split())


async def _nothing() -> AsyncIterator[Finding]:
    yield Finding("nothing")


class OnTheWay(ServicePublisher):
    """Keeps what is published, and fails as its test says."""

    def __init__(self, clock: ManualClock) -> None:
        super().__init__(None, service="ingest", clock=clock)  # type: ignore[arg-type]  # no bus here
        self.sent: list[Message[Any]] = []
        self.fault: MeshError | None = None

    async def publish(self, body: Event | Command, **more: Any) -> Message[Any]:
        if self.fault is not None:
            raise self.fault
        self.sent.append(self.envelop(body, **more))
        return self.sent[-1]


class Mesh:
    def __init__(self, db: SqliteFile, clock: ManualClock) -> None:
        self.clock = clock
        self.store = SqliteStore(db, clock)
        self.pbx = Exchange()
        self.published = OnTheWay(clock)
        self.metrics = Metrics()
        self.site = SiteBook(self.store.collection(SITES), clock, poll=SECOND)
        self.deps = self.replica()

    def replica(self) -> Deps:
        adapters = Adapters(
            secrets=SecretBox([new_key()]),
            http=HttpClient(AddressGuard()),
            clock=self.clock,
            metrics=self.metrics,
        )
        adapters.make = lambda *_, **__: self.pbx.adapter  # type: ignore[method-assign]  # ours
        return Deps(
            publisher=self.published,
            adapters=adapters,
            site=self.site,
            tape=RawTape(RawBook(self.store.collection(RAW), self.clock, keep=DAY), self.clock),
            reports=ReportBook(self.store.collection(REPORTS), self.clock),
            links=LinkBook(self.store.collection(LINKS), self.clock),
            metrics=self.metrics,
            report_within=WITHIN,
        )

    async def apply(self, *pbx: str, asterisk: str | None = None) -> None:
        box = SecretBox([new_key()])
        other = {
            "kind": "asterisk",
            "name": asterisk,
            "host": "192.0.2.1",
            "username": "u",
            "secret": box.seal(SecretStr("s")),
            "trunks": ["trunk"],
        }
        site = Site.model_validate(
            {
                "tenant": "acme",
                "pbx": [
                    *({"kind": "generic", "name": name} for name in pbx),
                    *([other] if asterisk else []),
                ],
                "agents": [{"extension": "101"}],
            }
        )
        await self.store.collection(SITES).put(
            SiteDocument(
                key="acme",
                tenant="acme",
                site=site,
                changed_at=self.clock.now() + timedelta(milliseconds=len(site.pbx)),
                changed_by="test",
            )
        )
        await self.site.refresh()

    async def hook(self, text: str, *, pbx: str = "main") -> None:
        body = HookReceived(pbx=pbx, kind=HookKind.GENERIC, body=text)
        now = self.clock.now()
        message = wrap(body, source="gateway", occurred_at=now, tenant="acme", key=text)
        await take_hook(self.deps, message)

    async def due(self) -> Sequence[ReportDue]:
        """All that there are, whenever they are due."""
        everything = ReportBook(self.store.collection(REPORTS), ManualClock(self.clock.now() + DAY))
        return await everything.due()

    async def wait(self, time: timedelta, *, replicas: int = 1) -> None:
        """Second by second, each with all that follows from it."""
        for _ in range(round(time / SECOND)):
            await self.clock.advance(SECOND)
            await eventually(lambda: self.clock.sleepers == replicas)

    @asynccontextmanager
    async def asking(self, *replicas: Deps) -> AsyncIterator[None]:
        found = replicas or (self.deps,)
        tasks = [asyncio.create_task(ask_for_reports(one, self.clock)) for one in found]
        await eventually(lambda: self.clock.sleepers == len(tasks))
        try:
            yield
            assert not any(task.done() for task in tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture
async def mesh(clock: ManualClock) -> AsyncIterator[Mesh]:
    db = SqliteFile(None)
    await db.open()
    found = Mesh(db, clock)
    await found.apply("main")
    yield found
    await db.close()


def seconds(*waits: timedelta) -> list[float]:
    return [wait.total_seconds() for wait in waits]


async def test_a_call_is_asked_for_some_seconds_after_its_end_and_told_once(mesh: Mesh) -> None:
    ended_at = mesh.clock.now()
    mesh.pbx.knows.add("7")
    await mesh.hook("7")
    async with mesh.asking():
        await mesh.wait(REPORT_WAITS[0])
        assert mesh.pbx.asked == []
        await mesh.wait(SECOND)
        await mesh.wait(timedelta(minutes=2))

    assert mesh.pbx.asked == [("7", ended_at)]
    (told,) = mesh.published.sent
    again = wrap(
        told.body, source="ingest", occurred_at=ended_at, tenant="acme", key="main/7/ended/report"
    )
    assert (told.id, told.occurred_at) == (again.id, ended_at)
    assert await mesh.due() == []


async def test_it_is_asked_again_with_growing_waits_and_given_up(mesh: Mesh) -> None:
    began = mesh.clock.now()
    at: list[datetime] = []
    await mesh.hook("7")
    with capture_logs() as logs:
        async with mesh.asking():
            while mesh.clock.now() - began < WITHIN + 10 * SECOND:
                before = len(mesh.pbx.asked)
                await mesh.wait(SECOND)
                at += [mesh.clock.now()] * (len(mesh.pbx.asked) - before)

    waits = [(b - a).total_seconds() for a, b in zip([began, *at], at, strict=False)]
    # A second more each: it is looked once a second for what was due before.
    assert waits == [wait + 1 for wait in seconds(*REPORT_WAITS[:5])]
    assert [line["event"] for line in logs][-1] == "report_given_up"
    assert await mesh.due() == []
    assert mesh.published.sent == []


@pytest.mark.parametrize(
    "fault",
    [Unavailable("away"), Throttled("slower"), Forbidden("no permission"), KeyError("surprise")],
)
async def test_a_fault_at_one_call_is_tried_again_and_holds_up_no_other(
    mesh: Mesh, fault: Exception
) -> None:
    mesh.pbx.faults["7"] = fault
    mesh.pbx.knows |= {"7", "8"}
    await mesh.hook("7 8")
    async with mesh.asking():
        await mesh.wait(REPORT_WAITS[0] + SECOND)
        assert [m.body.call_id for m in mesh.published.sent] == ["id-8"]
        mesh.pbx.faults.clear()
        await mesh.wait(REPORT_WAITS[1] + SECOND)

    assert [m.body.call_id for m in mesh.published.sent] == ["id-8", "id-7"]
    assert await mesh.due() == []


async def test_a_report_that_the_bus_did_not_take_is_asked_for_again(mesh: Mesh) -> None:
    mesh.pbx.knows.add("7")
    mesh.published.fault = Unavailable("the broker is away")
    await mesh.hook("7")
    async with mesh.asking():
        await mesh.wait(REPORT_WAITS[0] + SECOND)
        assert len(await mesh.due()) == 1
        mesh.published.fault = None
        await mesh.wait(REPORT_WAITS[1] + SECOND)

    assert len(mesh.published.sent) == 1
    assert await mesh.due() == []


async def test_of_two_replicas_one_asks(mesh: Mesh) -> None:
    calls = " ".join(str(n) for n in range(20))
    await mesh.hook(calls)
    mesh.pbx.knows |= set(calls.split())
    async with mesh.asking(mesh.deps, mesh.replica()):
        await mesh.wait(REPORT_WAITS[0] + SECOND, replicas=2)

    assert sorted(call for call, _ in mesh.pbx.asked) == sorted(calls.split())
    assert len(mesh.published.sent) == 20


async def test_another_replica_takes_what_one_that_died_had_begun(mesh: Mesh) -> None:
    mesh.pbx.knows.add("7")
    mesh.pbx.hangs = asyncio.Event()
    await mesh.hook("7")
    dying = asyncio.create_task(ask_for_reports(mesh.deps, mesh.clock))
    await eventually(lambda: mesh.clock.sleepers == 1)
    await mesh.clock.advance(REPORT_WAITS[0])
    await eventually(lambda: mesh.clock.sleepers == 1)
    await mesh.clock.advance(SECOND)
    await eventually(lambda: len(mesh.pbx.asked) == 1)
    dying.cancel()
    await asyncio.gather(dying, return_exceptions=True)

    mesh.pbx.hangs = None
    async with mesh.asking(mesh.replica()):
        await mesh.wait(REPORT_WAITS[1] + SECOND)
    assert len(mesh.pbx.asked) == 2
    assert len(mesh.published.sent) == 1


async def test_of_a_connection_that_was_removed_nothing_is_asked(mesh: Mesh) -> None:
    await mesh.hook("7")
    await mesh.apply()
    async with mesh.asking():
        await mesh.wait(REPORT_WAITS[0] + SECOND)
    assert mesh.pbx.asked == []
    assert await mesh.due() == []


async def test_before_the_sites_are_known_nothing_is_given_up(mesh: Mesh) -> None:
    await mesh.hook("7")
    mesh.site.loaded = False
    async with mesh.asking():
        await mesh.wait(REPORT_WAITS[0] + SECOND)
    assert [one.attempts for one in await mesh.due()] == [0]


async def test_a_hook_that_comes_again_asks_once(mesh: Mesh) -> None:
    for _ in range(2):
        await mesh.hook("7")
    assert [(one.key, one.attempts) for one in await mesh.due()] == [("acme/main/7", 0)]


async def test_a_hook_that_cannot_be_read_is_counted_kept_and_refused(mesh: Mesh) -> None:
    with pytest.raises(ContractError):
        await mesh.hook("garbage")
    await mesh.hook("")

    def counted(outcome: str) -> float:
        return mesh.metrics.value("callmesh_pbx_events_total", "generic", outcome)

    assert [counted(outcome) for outcome in ("garbage", "ignored", "used")] == [1, 1, 0]
    now = mesh.clock.now()
    await mesh.deps.tape.flush()
    book = RawBook(mesh.store.collection(RAW), mesh.clock, keep=DAY)
    (kept,) = [
        one async for one in book.between("acme", "main", since=now - SECOND, until=now + SECOND)
    ]
    hooks = [HookReceived.model_validate_json(record) for _, record in records_in(kept)]
    assert [hook.body for hook in hooks] == ["garbage", ""]


# -- PBXs that publish by themselves ----------------------------------------------------------


async def test_what_a_pbx_published_becomes_a_hook_and_twice_the_same_is_one(mesh: Mesh) -> None:
    came_at = mesh.clock.now() - SECOND
    take = door(mesh.deps)
    for _ in range(2):
        await take("acme", "main", b'{"event": "\xc3\xa9"}', "application/json", came_at)
    await take("acme", "main", b"[]", "application/json", came_at)

    first, again, other = mesh.published.sent
    assert first.id == again.id != other.id
    assert (first.tenant, first.occurred_at) == ("acme", came_at)
    assert first.body == HookReceived(
        pbx="main",
        kind=HookKind.GENERIC,
        body='{"event": "\u00e9"}',
        content_type="application/json",
    )


async def test_only_a_generic_pbx_of_the_tenant_publishes(mesh: Mesh) -> None:
    take = door(mesh.deps)
    body, now = b"{}", mesh.clock.now()
    for tenant, pbx in (("acme", "nosuch"), ("globex", "main")):
        with pytest.raises(NotFound):
            await take(tenant, pbx, body, "application/json", now)
    await mesh.apply("main", asterisk="main2")
    with pytest.raises(Rejected, match="only a generic one"):
        await take("acme", "main2", body, "application/json", now)
    mesh.site.loaded = False
    with pytest.raises(Unavailable):
        await take("acme", "main", body, "application/json", now)
    assert mesh.published.sent == []
