"""The door for PBXs that publish by themselves, and who may do what there: on a real RabbitMQ."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aiormq.exceptions import (
    ChannelAccessRefused,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from pamqp import body as amqp_body
from pamqp import commands, frame
from pydantic import SecretStr
from yarl import URL

from shared.bus.embedded import EmbeddedBus
from shared.bus.port import DeadLetter, ForeignDoor, RetryPolicy
from shared.bus.rabbit import RabbitBus
from shared.bus.topology import DELIVERY_LIMIT, RETRY_STEPS, Topology
from shared.clock import SystemClock
from shared.contracts.hooks import MAX_HOOK_BYTES
from shared.errors import NotFound, Unavailable
from shared.ids import new_id
from shared.observe.metrics import Metrics
from shared.pbx.generic.reader import GenericHookReader
from shared.pbx.port import Phones, RawHook
from shared.sqlite import SqliteFile
from shared.testing.patience import patient_with_rabbitmq
from shared.testing.servers import LocalRabbit
from shared.testing.waiting import eventually

pytestmark = [pytest.mark.rabbitmq]

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "rabbitmq" / "pbx-user.sh"
EVENT = b'{"event": "ended", "call": "1", "at": "2026-11-21T10:00:00Z"}'
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Published:
    tenant: str
    pbx: str
    body: bytes
    content_type: str
    received_at: datetime


@dataclass(slots=True)
class Taken:
    """A handler that remembers, and fails as it is told."""

    failures: list[Exception] = field(default_factory=list)
    seen: list[Published] = field(default_factory=list)

    async def __call__(
        self, tenant: str, pbx: str, body: bytes, content_type: str, received_at: datetime
    ) -> None:
        self.seen.append(Published(tenant, pbx, body, content_type, received_at))
        if self.failures:
            raise self.failures.pop(0)

    @property
    def addresses(self) -> list[tuple[str, str]]:
        return [(one.tenant, one.pbx) for one in self.seen]


@pytest.fixture(scope="module")
def rabbit() -> Iterator[LocalRabbit]:
    """Our own: users are made in it."""
    with LocalRabbit() as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def patience() -> Iterator[None]:
    with patient_with_rabbitmq():
        yield


@pytest.fixture
def names() -> Topology:
    return Topology(f"test-{new_id().hex[:10]}")


@pytest.fixture(scope="module")
def mesh() -> Topology:
    """For all that a user may or may not: a user is made once, which takes seconds."""
    return Topology(f"mesh-{new_id().hex[:10]}")


@pytest.fixture(scope="module")
def acme_main(rabbit: LocalRabbit, mesh: Topology) -> str:
    """The address of the broker for PBX main of tenant acme."""
    return pbx_url(rabbit, mesh, "acme", "main")


@asynccontextmanager
async def opened(
    rabbit: LocalRabbit, names: Topology, taken: Taken | None, metrics: Metrics | None = None
) -> AsyncIterator[RabbitBus]:
    """Without *taken*, the door is there and stays shut."""
    bus = RabbitBus(
        SecretStr(rabbit.url),
        clock=SystemClock(),
        metrics=metrics or Metrics(),
        topology=names,
    )
    if taken is not None:
        quick = RetryPolicy(attempts=2, base=timedelta(milliseconds=50))
        bus.open_door(ForeignDoor(service="ingest", handler=taken, retry=quick))
    await bus.start()
    await eventually(bus.ready)
    try:
        yield bus
    finally:
        await bus.stop(drain=timedelta(0))


@asynccontextmanager
async def channel_at(url: str) -> AsyncIterator[AbstractChannel]:
    async with await aio_pika.connect(url) as connection:
        yield await connection.channel()


async def publish(url: str, exchange: str, key: str, data: bytes = EVENT, **more: Any) -> None:
    """As a PBX does: persistent, and confirmed."""
    async with channel_at(url) as channel:
        target = channel.default_exchange
        if exchange:
            target = await channel.get_exchange(exchange, ensure=False)
        properties: dict[str, Any] = {"content_type": JSON, "delivery_mode": 2} | more
        await target.publish(aio_pika.Message(data, **properties), key, mandatory=False)


async def the_letter(bus: RabbitBus) -> DeadLetter:
    found: list[DeadLetter] = []

    async def there() -> bool:
        found[:] = await bus.dead_letters.list()
        return bool(found)

    await eventually(there)
    (letter,) = found
    return letter


# -- users -------------------------------------------------------------------------------------------


def run_script(
    rabbit: LocalRabbit, *arguments: str, **more: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), *arguments],
        env=rabbit.shell | more,
        capture_output=True,
        text=True,
        check=False,
    )


def pbx_url(rabbit: LocalRabbit, names: Topology, tenant: str, pbx: str) -> str:
    done = run_script(rabbit, tenant, pbx, PREFIX=names.prefix)
    assert done.returncode == 0, done.stderr
    told = dict(line.split(": ") for line in done.stdout.splitlines())
    return f"amqp://{told['user']}:{told['password']}@127.0.0.1:{rabbit.port}/"


async def test_a_pbx_publishes_its_own_events(
    rabbit: LocalRabbit, mesh: Topology, acme_main: str
) -> None:
    taken, before = Taken(), SystemClock().now()
    async with opened(rabbit, mesh, taken):
        await publish(acme_main, mesh.pbx, "acme.main")
        await eventually(lambda: len(taken.seen) == 1)
    (one,) = taken.seen
    assert (one.tenant, one.pbx, one.body, one.content_type) == ("acme", "main", EVENT, JSON)
    assert before - timedelta(milliseconds=1) <= one.received_at <= SystemClock().now()


@pytest.mark.parametrize(
    "key",
    ["globex.main", "acme.other", "acme.main2", "acme.main.x", "acmexmain", "x.acme.main", "#", ""],
)
async def test_a_pbx_publishes_for_nobody_else(
    rabbit: LocalRabbit, mesh: Topology, acme_main: str, key: str
) -> None:
    taken = Taken()
    async with opened(rabbit, mesh, taken):
        with pytest.raises(ChannelAccessRefused, match=r"topic|refused"):
            await publish(acme_main, mesh.pbx, key)
        # What is allowed comes through behind it: there was nothing before.
        await publish(acme_main, mesh.pbx, "acme.main")
        await eventually(lambda: len(taken.seen) > 0)
    assert taken.addresses == [("acme", "main")]


async def test_a_header_that_copies_to_another_key_reaches_nobody_else(
    rabbit: LocalRabbit, mesh: Topology, acme_main: str
) -> None:
    """RabbitMQ asks for no right to the keys in CC and BCC."""
    taken = Taken()
    async with opened(rabbit, mesh, taken):
        headers = {"CC": ["globex.main"], "BCC": ["globex.other"], "x-key": "globex.main"}
        await publish(acme_main, mesh.pbx, "acme.main", headers=headers | {"x-tenant": "globex"})
        await publish(acme_main, mesh.pbx, "acme.main")
        await eventually(lambda: len(taken.seen) >= 2)
    assert taken.addresses == [("acme", "main")] * 2


async def _queue(channel: AbstractChannel, name: str) -> AbstractQueue:
    return await channel.get_queue(name, ensure=False)


async def _declare_queue(channel: AbstractChannel, _: Topology) -> None:
    await channel.declare_queue("mine")


async def _declare_nameless_queue(channel: AbstractChannel, _: Topology) -> None:
    await channel.declare_queue(exclusive=True)


async def _declare_exchange(channel: AbstractChannel, mesh: Topology) -> None:
    await channel.declare_exchange(f"{mesh.pbx}.mine")


async def _consume(channel: AbstractChannel, mesh: Topology) -> None:
    async def take(_: AbstractIncomingMessage) -> None:
        raise AssertionError("it may not read")

    await (await _queue(channel, mesh.pbx_in)).consume(take)


async def _get(channel: AbstractChannel, mesh: Topology) -> None:
    await (await _queue(channel, mesh.pbx_in)).get(fail=False)


async def _get_letter(channel: AbstractChannel, mesh: Topology) -> None:
    await (await _queue(channel, mesh.dead("ingest"))).get(fail=False)


async def _purge(channel: AbstractChannel, mesh: Topology) -> None:
    await (await _queue(channel, mesh.pbx_in)).purge()


async def _delete_queue(channel: AbstractChannel, mesh: Topology) -> None:
    await channel.queue_delete(mesh.pbx_in)


async def _delete_exchange(channel: AbstractChannel, mesh: Topology) -> None:
    await channel.exchange_delete(mesh.pbx)


async def _bind(channel: AbstractChannel, mesh: Topology) -> None:
    await (await _queue(channel, mesh.pbx_in)).bind(mesh.pbx, "globex.*")


@pytest.mark.parametrize(
    "deed",
    [
        *(_declare_queue, _declare_nameless_queue, _declare_exchange, _consume, _get),
        *(_get_letter, _purge, _delete_queue, _delete_exchange, _bind),
    ],
)
async def test_a_pbx_may_do_nothing_but_publish(
    rabbit: LocalRabbit,
    mesh: Topology,
    acme_main: str,
    deed: Callable[[AbstractChannel, Topology], Awaitable[None]],
) -> None:
    async with opened(rabbit, mesh, Taken()), channel_at(acme_main) as channel:
        with pytest.raises(ChannelAccessRefused):
            await deed(channel, mesh)


@pytest.mark.parametrize("key", ["acme.main", "acme.calls.started.v1"])
async def test_a_pbx_publishes_to_no_exchange_and_no_queue_of_the_mesh(
    rabbit: LocalRabbit, mesh: Topology, acme_main: str, key: str
) -> None:
    async with opened(rabbit, mesh, Taken()):
        for exchange in (mesh.events, mesh.retry(RETRY_STEPS[0]), "amq.topic"):
            with pytest.raises(ChannelAccessRefused):
                await publish(acme_main, exchange, key)
        for queue in (mesh.pbx_in, mesh.dead("ingest")):
            with pytest.raises(ChannelAccessRefused):
                await publish(acme_main, "", queue)


async def test_the_script_again_gives_another_password_and_the_same_rights(
    rabbit: LocalRabbit, mesh: Topology
) -> None:
    taken = Taken()
    async with opened(rabbit, mesh, taken):
        old = pbx_url(rabbit, mesh, "acme", "renewed")
        new = pbx_url(rabbit, mesh, "acme", "renewed")
        with pytest.raises(ProbableAuthenticationError):
            await publish(old, mesh.pbx, "acme.renewed")
        await publish(new, mesh.pbx, "acme.renewed")
        with pytest.raises(ChannelAccessRefused):
            await publish(new, mesh.pbx, "acme.main")
        await eventually(lambda: len(taken.seen) == 1)


async def test_no_two_connections_have_one_user(rabbit: LocalRabbit, mesh: Topology) -> None:
    """Else the second would get the rights of the first."""
    taken = Taken()
    async with opened(rabbit, mesh, taken):
        first = pbx_url(rabbit, mesh, "a-b", "c")
        second = pbx_url(rabbit, mesh, "a", "b-c")
        await publish(first, mesh.pbx, "a-b.c")
        await publish(second, mesh.pbx, "a.b-c")
        await eventually(lambda: len(taken.seen) == 2)
    assert sorted(taken.addresses) == [("a", "b-c"), ("a-b", "c")]


async def test_a_pbx_has_ten_connections(rabbit: LocalRabbit, mesh: Topology) -> None:
    url = await asyncio.to_thread(pbx_url, rabbit, mesh, "acme", "greedy")
    async with AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(await aio_pika.connect(url))
        one_more = aio_pika.Connection(URL(url))
        stack.push_async_callback(one_more.close)
        with pytest.raises(InvalidFrameError, match=r"Connection\.Close"):
            await one_more.connect()


async def test_a_user_who_is_deleted_is_cut_off(rabbit: LocalRabbit, mesh: Topology) -> None:
    closed = asyncio.Event()
    url = pbx_url(rabbit, mesh, "acme", "gone")
    async with await aio_pika.connect(url) as connection:
        connection.close_callbacks.add(lambda *_: closed.set())
        await asyncio.to_thread(rabbit.ctl, "delete_user", "pbx.acme.gone")
        await closed.wait()
    with pytest.raises(ProbableAuthenticationError):
        await publish(url, mesh.pbx, "acme.gone")


NO_NAMES = [
    *([], ["acme"], ["acme", "main", "x"], ["", "main"], ["acme", "a.b"], ["acme", ".*"]),
    *(["ACME", "main"], ["acme", "Main"], ["-a", "main"], ["acme", "a b"], ["acme", "a\nb"]),
    *(["acme", "ä"], ["acme|.*", "main"], ["acme", "$(reboot)"], ["acme", "main\n"]),
]


def test_what_is_no_name_makes_no_user(rabbit: LocalRabbit) -> None:
    before = rabbit.ctl("list_users")

    done = [run_script(rabbit, *arguments) for arguments in NO_NAMES]

    assert {(one.returncode, one.stdout) for one in done} == {(2, "")}
    assert rabbit.ctl("list_users") == before


def test_a_broker_that_is_not_there_makes_no_password(rabbit: LocalRabbit) -> None:
    done = run_script(rabbit, "acme", "main", RABBITMQ_NODENAME="nobody@localhost")

    assert done.returncode != 0
    assert "password" not in done.stdout


# -- what cannot be read -----------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["acme", "acme.main.x", "ACME.main", "acme.", ".main", "", "a b.c"])
async def test_a_key_that_says_not_whose_it_is_is_a_dead_letter(
    rabbit: LocalRabbit, names: Topology, key: str
) -> None:
    taken = Taken()
    async with opened(rabbit, names, taken) as bus:
        await publish(rabbit.url, names.pbx, key)
        letter = await the_letter(bus)
        await bus.dead_letters.replay(letter.letter_id)
        again = await the_letter(bus)
    assert "is not of the form TENANT.PBX" in letter.error
    assert (letter.service, letter.type, letter.tenant) == ("ingest", "pbx.in", None)
    assert (letter.error_code, letter.message) == ("contract_violation", EVENT.decode())
    assert (again.error, again.message) == (letter.error, letter.message)
    assert taken.seen == []


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"CallStarted", "not JSON"),
        (b'{"event":', "not JSON"),
        (b'{"caller": "\xe9"}', "not JSON in UTF-8"),
        (b"\x1f\x8b\x08", "not JSON"),
        (b"[" * 10_000, "not JSON"),
        (b'"' + b"x" * MAX_HOOK_BYTES + b'"', f"{MAX_HOOK_BYTES} are allowed"),
    ],
    ids=["nothing", "text", "half", "latin-1", "compressed", "deep", "too big"],
)
async def test_what_is_no_json_or_too_big_is_a_dead_letter_as_it_came(
    rabbit: LocalRabbit, names: Topology, data: bytes, said: str
) -> None:
    taken, metrics = Taken(), Metrics()
    async with opened(rabbit, names, taken, metrics) as bus:
        await publish(rabbit.url, names.pbx, "acme.main", data, message_id="its-own")
        letter = await the_letter(bus)
    assert said in letter.error
    assert (letter.tenant, letter.message_id, letter.attempts) == ("acme", "its-own", 1)
    assert letter.message == data.decode(errors="replace")
    assert taken.seen == []
    assert metrics.value("callmesh_deliveries_total", "ingest", "pbx.in", "dead") == 1


async def test_the_biggest_that_is_allowed_comes_in(rabbit: LocalRabbit, names: Topology) -> None:
    taken = Taken()
    data = b'"' + b"x" * (MAX_HOOK_BYTES - 2) + b'"'
    async with opened(rabbit, names, taken):
        await publish(rabbit.url, names.pbx, "acme.main", data)
        await eventually(lambda: len(taken.seen) == 1)
    assert taken.seen[0].body == data


# -- fates -------------------------------------------------------------------------------------------


async def test_what_is_away_is_waited_for_and_the_address_stays(
    rabbit: LocalRabbit, names: Topology
) -> None:
    taken, metrics = Taken([Unavailable("not yet"), ValueError("a fault of ours")]), Metrics()
    async with opened(rabbit, names, taken, metrics) as bus:
        await publish(rabbit.url, names.pbx, "acme.main", content_type="application/x-mine")
        await eventually(lambda: len(taken.seen) == 2)
        letter = await the_letter(bus)
    first, second = taken.seen
    assert first == second
    assert first.content_type == "application/x-mine"
    assert (letter.attempts, letter.error) == (2, "ValueError: a fault of ours")
    assert letter.first_failed_at is not None
    assert metrics.value("callmesh_deliveries_total", "ingest", "pbx.in", "retried") == 1


async def test_a_dead_letter_that_is_replayed_comes_as_it_first_came(
    rabbit: LocalRabbit, names: Topology
) -> None:
    taken = Taken([NotFound("there is no PBX main yet")])
    async with opened(rabbit, names, taken) as bus:
        await publish(rabbit.url, names.pbx, "acme.main")
        letter = await the_letter(bus)
        await bus.dead_letters.replay(letter.letter_id)
        await eventually(lambda: len(taken.seen) == 2)
        assert await bus.dead_letters.list() == []
    assert (letter.tenant, letter.error) == ("acme", "there is no PBX main yet")
    assert taken.seen[0] == taken.seen[1]


async def test_what_ends_its_process_each_time_is_a_dead_letter_with_its_address(
    rabbit: LocalRabbit, names: Topology
) -> None:
    taken = Taken()
    async with opened(rabbit, names, taken):
        pass
    await publish(rabbit.url, names.pbx, "acme.main")
    for _ in range(DELIVERY_LIMIT + 1):
        async with channel_at(rabbit.url) as channel:
            queue = await _queue(channel, names.pbx_in)
            await eventually(partial(takes, queue))
    async with opened(rabbit, names, taken) as bus:
        letter = await the_letter(bus)
        await bus.dead_letters.replay(letter.letter_id)
        await eventually(lambda: len(taken.seen) == 1)
    assert (letter.error_code, letter.tenant, letter.type) == ("crashed", "acme", "pbx.in")
    assert taken.addresses == [("acme", "main")]


async def test_what_expired_is_no_loss_either(rabbit: LocalRabbit, names: Topology) -> None:
    taken = Taken()
    async with opened(rabbit, names, taken):
        pass
    await publish(rabbit.url, names.pbx, "acme.main", expiration=0.001)

    async def moved() -> bool:
        async with channel_at(rabbit.url) as channel:
            dead = await channel.declare_queue(names.dead("ingest"), passive=True)
            return dead.declaration_result.message_count == 1

    await eventually(moved)
    async with opened(rabbit, names, taken) as bus:
        letter = await the_letter(bus)
        await bus.dead_letters.replay(letter.letter_id)
        await eventually(lambda: len(taken.seen) == 1)
    assert (letter.error_code, letter.tenant) == ("expired", "acme")
    assert taken.addresses == [("acme", "main")]


async def test_events_wait_for_ingest_and_replicas_share_them(
    rabbit: LocalRabbit, names: Topology
) -> None:
    one, other = Taken(), Taken()
    async with opened(rabbit, names, one):
        pass
    for number in range(20):
        await publish(rabbit.url, names.pbx, "acme.main", b"%d" % number)
    async with opened(rabbit, names, one), opened(rabbit, names, other):
        await eventually(lambda: len(one.seen) + len(other.seen) == 20)
        for number in range(20, 40):
            await publish(rabbit.url, names.pbx, "acme.main", b"%d" % number)
        await eventually(lambda: len(one.seen) + len(other.seen) == 40)
    assert {int(seen.body) for taken in (one, other) for seen in taken.seen} == set(range(40))
    assert len(other.seen) > 0


async def test_a_process_without_the_door_takes_nothing(
    rabbit: LocalRabbit, names: Topology
) -> None:
    taken = Taken()
    async with opened(rabbit, names, taken) as bus, opened(rabbit, names, None):
        with pytest.raises(RuntimeError, match="before start"):
            bus.open_door(ForeignDoor(service="ingest", handler=taken))
        for _ in range(10):
            await publish(rabbit.url, names.pbx, "acme.main")
        await eventually(lambda: len(taken.seen) == 10)


async def test_without_a_broker_the_door_is_nowhere(tmp_path: Path) -> None:
    db = SqliteFile(tmp_path / "mesh.db")
    await db.open()
    bus = EmbeddedBus(db, clock=SystemClock(), metrics=Metrics())
    bus.open_door(ForeignDoor(service="ingest", handler=Taken()))
    await bus.start()
    assert await bus.ready()
    await bus.stop(drain=timedelta(0))
    await db.close()


# -- frames by hand ----------------------------------------------------------------------------------


class HandWritten:
    """A PBX whose properties are what no client of ours would write."""

    def __init__(self, broker: socket.socket) -> None:
        self._broker = broker
        self._came = b""
        self._broker.sendall(b"AMQP\x00\x00\x09\x01")
        self._read()
        login = commands.Connection.StartOk({}, "PLAIN", "\0guest\0guest", "en_US")
        offer = self._ask(0, login)
        tuned = commands.Connection.TuneOk(offer.channel_max, offer.frame_max, 0)
        self._broker.sendall(frame.marshal(tuned, 0))
        self._ask(0, commands.Connection.Open("/"))
        self._ask(1, commands.Channel.Open())
        self._ask(1, commands.Confirm.Select())

    def publish(self, exchange: str, key: str, flags: int, properties: bytes) -> None:
        """Returns when the broker has it."""
        content = commands.Basic.Publish(exchange=exchange, routing_key=key)
        payload = struct.pack(">HHQH", 60, 0, len(EVENT), flags) + properties
        self._broker.sendall(frame.marshal(content, 1))
        self._broker.sendall(struct.pack(">BHI", 2, 1, len(payload)) + payload + b"\xce")
        answer = self._ask(1, amqp_body.ContentBody(EVENT))
        assert isinstance(answer, commands.Basic.Ack), answer

    def _ask(self, channel: int, what: Any) -> Any:
        self._broker.sendall(frame.marshal(what, channel))
        return self._read()

    def _read(self) -> Any:
        while len(self._came) < 7 or len(self._came) < self._size:
            more = self._broker.recv(65536)
            assert more, "the broker closed the connection"
            self._came += more
        size = self._size
        _, _, found = frame.unmarshal(self._came[:size])
        self._came = self._came[size:]
        return found

    @property
    def _size(self) -> int:
        """Of the frame that comes first: head, payload, end mark."""
        return 7 + int.from_bytes(self._came[3:7], "big") + 1


async def publish_by_hand(
    rabbit: LocalRabbit, exchange: str, key: str, unreadable: tuple[int, bytes]
) -> None:
    def work() -> None:
        with socket.create_connection(("127.0.0.1", rabbit.port), 60) as broker:
            HandWritten(broker).publish(exchange, key, *unreadable)

    await asyncio.to_thread(work)


def _short(data: bytes) -> bytes:
    return bytes([len(data)]) + data


def _table(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def _nested(depth: int) -> bytes:
    table = b""
    for _ in range(depth):
        table = b"\x01aF" + _table(table)
    return _table(table)


#: Flags and properties that RabbitMQ takes and Python's driver cannot read.
UNREADABLE = {
    "a message id in latin-1": (1 << 7, _short(b"caf\xe9")),
    "a content type in latin-1": (1 << 15, _short(b"\xff")),
    "a header's name in latin-1": (1 << 13, _table(_short(b"\xff") + b"t\x01")),
    "headers without a bottom": (1 << 13, _nested(3000)),
    "a time that no calendar has": (1 << 6, b"\xff" * 8),
}


@pytest.mark.parametrize("what", list(UNREADABLE))
async def test_properties_that_cannot_be_read_disturb_nobody(
    rabbit: LocalRabbit, names: Topology, what: str
) -> None:
    """Else each delivery would end the connection, with all that is on its way over it."""
    taken = Taken()
    async with opened(rabbit, names, taken) as bus:
        session = bus._session
        await publish_by_hand(rabbit, names.pbx, "acme.main", UNREADABLE[what])
        await eventually(lambda: len(taken.seen) == 1)
        assert bus._session is session
        assert await bus.ready()
    assert (taken.addresses, taken.seen[0].body) == ([("acme", "main")], EVENT)


async def test_a_dead_letter_whose_properties_cannot_be_read_is_shown(
    rabbit: LocalRabbit, names: Topology
) -> None:
    """As the broker moves it there by itself, when it expires before anybody took it."""
    unreadable = UNREADABLE["a message id in latin-1"]
    async with opened(rabbit, names, Taken()) as bus:
        await publish_by_hand(rabbit, "", names.dead("ingest"), unreadable)
        letter = await the_letter(bus)
    assert letter.message == EVENT.decode()


# -- the page ----------------------------------------------------------------------------------------


async def test_the_example_of_the_page_sends_an_event(rabbit: LocalRabbit) -> None:
    """With the names that the page uses, and the rights that it says to give."""
    page = (ROOT / "docs" / "how-to" / "pbx" / "broker.md").read_text()
    (program,) = [part.partition("```")[0] for part in page.split("```python\n")[1:]]
    names, taken = Topology(), Taken()
    async with opened(rabbit, names, taken):
        url = await asyncio.to_thread(pbx_url, rabbit, names, "acme", "branch")
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-c", program],
            env={"PBX_AMQP_URL": url},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        await eventually(lambda: len(taken.seen) == 1)
    assert taken.addresses == [("acme", "branch")]
    assert json.loads(taken.seen[0].body)["event"] == "started"
    reader = GenericHookReader(tenant="acme", pbx="branch")
    hook = RawHook(body=taken.seen[0].body, received_at=taken.seen[0].received_at)
    assert len(reader.read(hook, Phones()).sightings) == 1


async def takes(queue: AbstractQueue) -> bool:
    """Whether a message was there, which then is its taker's; one that comes back needs a moment."""
    return await queue.get(fail=False) is not None
