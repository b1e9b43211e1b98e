"""
Replicas of the dialer over one store, and the PBX that they order from.

What is published is kept here as a bus keeps it, so that a test says when it is delivered, how often
and to which replica. Whatever is to go wrong goes wrong by a :class:`Fuse`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Generic, TypeVar

import pymongo
import pytest
from pydantic import SecretStr

from services.dialer import cancelling, following, ordering, placing, tending
from services.dialer.deps import Deps
from services.dialer.links import Switchboards
from services.dialer.meters import METERS, Meter, MeterBook
from services.dialer.store import DIALS, DialBook, DialDocument
from services.dialer.turns import TURNS, TurnBook
from shared.clock import Clock, ManualClock
from shared.contracts.agents import AgentStatus
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    Direction,
    Disposition,
    Party,
)
from shared.contracts.dialing import (
    CancelDial,
    DialNumber,
    DialReason,
    DialRecord,
    DialState,
    DialStateChanged,
    PlaceDial,
)
from shared.contracts.envelope import Command, Event, Message, wrap
from shared.errors import MeshError, NotFound, Rejected, Unavailable
from shared.ids import call_id, new_id
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.pbx.port import AgentAt, DialReceipt, DialRequest, HangUp, OnRefusal
from shared.sandbox.site import PBX, TENANT, site_file
from shared.secrets import SecretBox, new_key
from shared.site.adapters import Adapters
from shared.site.book import SiteBook
from shared.site.dialing import DialPolicy
from shared.site.documents import SITES, SiteDocument
from shared.site.file import read_site_file
from shared.site.models import Agent, Site
from shared.site.parts import Sealing
from shared.sqlite import SqliteFile
from shared.storage.mongo import MongoStore
from shared.storage.port import Collection, Condition, Document, DocumentStore, Find, Page
from shared.storage.sqlite import SqliteStore
from shared.testing.builders import HERE

SECOND = timedelta(seconds=1)
CUSTOMER = "+447700900123"
#: To accept an order, to ring the agent, and to look after it.
UNHEARD = timedelta(seconds=5 + 15 + 5 + 10)

D = TypeVar("D", bound=Document)


class Killed(BaseException):
    """The process is gone, in the middle of what it did."""


class Fuse:
    """Kills at the *at*-th step: of what a process does to the store, the bus and the PBX."""

    def __init__(self, at: int | None = None) -> None:
        self.at = at
        self.steps = 0

    def step(self) -> None:
        self.steps += 1
        if self.steps == self.at:
            raise Killed


class Fused(Generic[D]):
    """A collection whose process may be killed before and behind each change."""

    def __init__(self, inner: Collection[D], fuse: Fuse) -> None:
        self._inner = inner
        self._fuse = fuse

    async def get(self, key: str) -> D:
        return await self._inner.get(key)

    async def add(self, document: D) -> None:
        self._fuse.step()
        await self._inner.add(document)
        self._fuse.step()

    async def add_all(self, documents: Sequence[D]) -> None:
        self._fuse.step()
        await self._inner.add_all(documents)
        self._fuse.step()

    async def put(self, document: D) -> None:
        self._fuse.step()
        await self._inner.put(document)
        self._fuse.step()

    async def replace(self, document: D) -> D:
        self._fuse.step()
        found = await self._inner.replace(document)
        self._fuse.step()
        return found

    async def delete(self, key: str) -> bool:
        return await self._inner.delete(key)

    async def page(self, query: Find) -> Page[D]:
        return await self._inner.page(query)

    async def count(self, what: Find | Condition | None = None, /, **equals: Any) -> int:
        return await self._inner.count(what, **equals)


class Wire:
    """The bus: what is published is durable, and waits to be delivered."""

    def __init__(self) -> None:
        self.told: list[DialStateChanged] = []
        self.waiting: list[Message[DialNumber]] = []
        self.is_away = False

    def take(self, message: Message[Any]) -> None:
        if self.is_away:
            raise Unavailable("the broker is away")
        if isinstance(message.body, DialStateChanged):
            self.told.append(message.body)
        else:
            self.waiting.append(message)


class FusedPublisher:
    def __init__(self, wire: Wire, fuse: Fuse, clock: Clock) -> None:
        self._wire = wire
        self._fuse = fuse
        self._clock = clock

    async def publish(
        self,
        body: Event | Command,
        *,
        tenant: str | None = None,
        cause: Message[Any] | None = None,
        key: str | None = None,
        at: datetime | None = None,
    ) -> Message[Any]:
        message: Message[Any] = wrap(
            body,
            source="dialer",
            occurred_at=at or self._clock.now(),
            tenant=tenant,
            cause=cause,
            key=key,
        )
        self._fuse.step()
        self._wire.take(message)
        self._fuse.step()
        return message


@dataclass
class Line:
    """A PBX that takes orders: what it was told, and what goes on there."""

    fuse: Fuse = field(default_factory=Fuse)
    orders: list[DialRequest] = field(default_factory=list)
    ended: list[HangUp] = field(default_factory=list)
    #: What it says to the next orders, or to be asked to end a call.
    refuses: MeshError | None = None
    cannot_end: MeshError | None = None
    #: Its own id of the next call; None: ours.
    own_id: str | None = None
    #: While it is not set, orders wait.
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    fault: str | None = None

    def __post_init__(self) -> None:
        self.answers.set()

    async def run(self, on_refusal: OnRefusal) -> None:
        await asyncio.Event().wait()

    async def dial(self, order: DialRequest, *, within: timedelta) -> DialReceipt:
        self.fuse.step()
        if self.refuses is not None:
            raise self.refuses
        self.orders.append(order)
        await self.answers.wait()
        self.fuse.step()
        return DialReceipt(self.own_id)

    async def hang_up(self, call: HangUp, *, within: timedelta) -> None:
        self.fuse.step()
        if self.cannot_end is not None:
            raise self.cannot_end
        self.ended.append(call)
        self.fuse.step()

    async def set_status(
        self, agent: AgentAt, status: AgentStatus, *, own: str | None = None, within: timedelta
    ) -> None:
        raise Rejected("this PBX knows no statuses")

    def heard_as(self, status: AgentStatus, own: str | None = None) -> AgentStatus:
        return status


@dataclass(frozen=True)
class Replica:
    """One process of the dialer."""

    deps: Deps
    fuse: Fuse

    async def place(self, number: str = CUSTOMER, **changes: Any) -> DialRecord:
        """Raises: as :class:`PlaceDial` says."""
        known: dict[str, Any] = {
            "dial_id": str(new_id()),
            "extension": "101",
            "number": number,
            "requested_by": "key desk",
            "expires_at": self.deps.clock.now() + timedelta(seconds=30),
        }
        return await placing.place(self.deps, TENANT, PlaceDial(**(known | changes)))

    async def cancel(self, dial_id: str, extension: str | None = None) -> DialRecord:
        """Raises: as :class:`CancelDial` says."""
        asked = CancelDial(dial_id=dial_id, requested_by="key desk", extension=extension)
        return await cancelling.cancel(self.deps, TENANT, asked)

    async def deliver(self, message: Message[DialNumber]) -> None:
        await ordering.order(self.deps, message)

    async def hear(self, event: Event, at: datetime | None = None) -> None:
        message: Message[Any] = wrap(
            event, source="ingest", occurred_at=at or self.deps.clock.now(), tenant=TENANT
        )
        if isinstance(event, CallStarted):
            await following.know(self.deps, message)
        else:
            await following.follow(self.deps, message)

    async def look(self) -> None:
        """Once over what nobody else would do."""
        await tending.give_up_unheard(self.deps)
        await tending.give_up_unordered(self.deps)
        await tending.end_cancelled(self.deps)
        await tending.settle_held(self.deps)

    async def document(self, dial_id: str) -> DialDocument:
        return await self.deps.dials.by_dial(TENANT, dial_id)

    async def state(self, dial_id: str) -> tuple[DialState, DialReason | None]:
        record = (await self.document(dial_id)).record
        return record.state, record.reason


class Floor:
    """A tenant's agents, their PBX, and as many replicas as a test wants."""

    def __init__(self, store: DocumentStore, clock: ManualClock) -> None:
        self.store = store
        self.clock = clock
        self.wire = Wire()
        self.line = Line()
        self.box = SecretBox([new_key()])
        self.site = a_site(self.box)

    async def say(
        self,
        policy: DialPolicy | None = None,
        *,
        agents: Iterable[str] | None = None,
        at: str | None = None,
        **changes: Any,
    ) -> None:
        """What the site says, of replicas that are made then. *at*: the agents' PBX."""
        if agents is not None:
            changes["agents"] = tuple(Agent(extension=phone, pbx=at) for phone in agents)
        changes["dialing"] = policy or self.site.dialing
        self.site = self.site.model_copy(update=changes)
        document = SiteDocument(
            key=TENANT,
            tenant=TENANT,
            site=self.site,
            changed_at=self.clock.now(),
            changed_by="test",
        )
        await self.store.collection(SITES).put(document)

    async def replica(self, fuse: Fuse | None = None) -> Replica:
        fuse = fuse or Fuse()
        if not await self.store.collection(SITES).count():
            await self.say()
        site = SiteBook(self.store.collection(SITES), self.clock, poll=SECOND)
        await site.refresh()
        metrics = Metrics()
        adapters = Adapters(
            secrets=self.box, http=HttpClient(AddressGuard()), clock=self.clock, metrics=metrics
        )
        boards = Switchboards(site, adapters, clock=self.clock, on_refusal=_refused)
        boards._boards[TENANT, PBX] = self.line
        dials = DialBook(
            Fused(self.store.collection(DIALS), fuse), self.clock, keep=timedelta(days=30)
        )
        deps = Deps(
            dials=dials,
            turns=TurnBook(Fused(self.store.collection(TURNS), fuse), dials, self.clock),
            meters=MeterBook(Fused(self.store.collection(METERS), fuse), self.clock),
            boards=boards,
            site=site,
            publisher=FusedPublisher(self.wire, fuse, self.clock),
            clock=self.clock,
            metrics=metrics,
            order_within=timedelta(seconds=5),
        )
        return Replica(deps, fuse)

    async def run(self, *replicas: Replica) -> None:
        """Deliver what waits, to one after the other; what is not done with is delivered again."""
        for turn in range(200):
            if not self.wire.waiting:
                return
            message = self.wire.waiting.pop(0)
            try:
                await replicas[turn % len(replicas)].deliver(message)
            except Unavailable:
                self.wire.waiting.append(message)
                await self.clock.advance(SECOND)
        raise AssertionError("some orders are never done with")

    async def meter(self, key: str = TENANT) -> Meter:
        return await self.store.collection(METERS).get(key)

    async def spent(self) -> int:
        """In millionths; what is held for dials under way is not in it."""
        try:
            return (await self.meter()).spent
        except NotFound:
            return 0

    async def dials(self) -> int:
        return await self.store.collection(DIALS).count()


def a_site(box: SecretBox) -> Site:
    text = site_file(crm_url="http://127.0.0.1:1", ami_port=1)
    (site,) = read_site_file(text, source="test", sealing=Sealing(box, {}, Path()), around=HERE)
    return site.stored


async def _refused(tenant: str, pbx: str, reference: str, reason: DialReason) -> None:
    raise AssertionError((tenant, pbx, reference, reason))


# -- what is seen of a call --------------------------------------------------------------------


@dataclass(frozen=True)
class Seen:
    """What ingest tells of the call of a dial."""

    call: str

    @classmethod
    def of(cls, record: DialRecord) -> Seen:
        return cls(record.call_id or "")

    @classmethod
    def by_own_id(cls, own_id: str) -> Seen:
        return cls(call_id(TENANT, PBX, own_id))

    def started(self, dial_id: str, own_id: str) -> CallStarted:
        return CallStarted(
            call_id=self.call,
            pbx=PBX,
            pbx_call_id=own_id,
            direction=Direction.OUTBOUND,
            caller=Party(extension="101"),
            dial_id=dial_id,
        )

    def rings(self, *, agent: bool) -> CallRinging:
        return CallRinging(
            call_id=self.call,
            pbx=PBX,
            leg_id="own" if agent else "l2",
            callee=Party(extension="101") if agent else Party(number=CUSTOMER),
            caller=Party(number=CUSTOMER),
            own_phone=agent,
        )

    def answers(self, *, agent: bool) -> CallAnswered:
        return CallAnswered(
            call_id=self.call,
            pbx=PBX,
            leg_id="own" if agent else "l2",
            callee=Party(extension="101") if agent else Party(number=CUSTOMER),
            own_phone=agent,
        )

    def ends(self, disposition: Disposition | None = None, **more: Any) -> CallEnded:
        return CallEnded(call_id=self.call, pbx=PBX, disposition=disposition, **more)

    async def come(self, replica: Replica, *, until: DialState) -> None:
        """All that is seen up to *until*."""
        story: list[tuple[DialState, Event]] = [
            (DialState.AGENT_RINGING, self.rings(agent=True)),
            (DialState.AGENT_ANSWERED, self.answers(agent=True)),
            (DialState.CUSTOMER_RINGING, self.rings(agent=False)),
            (DialState.CONNECTED, self.answers(agent=False)),
            (DialState.ENDED, self.ends(Disposition.ANSWERED)),
        ]
        for state, event in story:
            if state.rank <= until.rank:
                await replica.hear(event)


# -- stores ------------------------------------------------------------------------------------

BOTH_STORES = ["sqlite", pytest.param("mongodb", marks=pytest.mark.mongodb)]


@asynccontextmanager
async def a_store(request: pytest.FixtureRequest, clock: Clock) -> AsyncIterator[DocumentStore]:
    """By ``request.param``, one of BOTH_STORES."""
    if request.param == "sqlite":
        db = SqliteFile(None)
        await db.open()
        yield SqliteStore(db, clock)
        await db.close()
        return
    url, prefix = request.getfixturevalue("mongo_url"), f"t{new_id().hex[:10]}."
    store = MongoStore(SecretStr(url), database="callmesh_test", clock=clock, prefix=prefix)
    try:
        yield store
    finally:
        await store.close()
        with pymongo.MongoClient[dict[str, object]](url) as client:
            database = client["callmesh_test"]
            for name in database.list_collection_names(filter={"name": {"$regex": prefix}}):
                database.drop_collection(name)


async def killed_at(fuse: Fuse, work: Any) -> bool:
    """Whether the process was killed while it did *work*; what it raises else is the caller's."""
    with suppress(Killed):
        await work
        return False
    return fuse.at is not None
