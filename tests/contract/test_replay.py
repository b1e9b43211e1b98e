"""What PBXs sent, read again: in its order, by each replica's own reader, with the keys it had."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.ingest.raw import RawTape
from services.ingest.replay import Reading, read_again
from services.ingest.store import RAW, RawBook, RawKind
from shared.clock import ManualClock, SystemClock
from shared.contracts.calls import CallAnswered, CallEnded, CallRinging, CallStarted, EndKnown
from shared.contracts.hooks import HookKind, HookReceived
from shared.errors import ContractError
from shared.net.client import HttpClient
from shared.net.guard import AddressGuard
from shared.observe.metrics import Metrics
from shared.pbx.asterisk import book as asterisk
from shared.pbx.asterisk.adapter import AsteriskSettings
from shared.pbx.asterisk.reader import AmiReader
from shared.pbx.port import PbxAdapter, Phones, Sighting
from shared.sandbox.recording import Cast, recording
from shared.sandbox.site import site_file
from shared.secrets import SecretBox, new_key
from shared.site.adapters import Adapters
from shared.site.models import Site
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from tests.acceptance.commands_kit import callmesh

DAY = timedelta(days=1)
SECOND = timedelta(seconds=1)
PHONES = Phones(trunks=frozenset({"trunk"}), extensions=frozenset({"101", "102", "103"}))


@dataclass
class Archive:
    """The store of two replicas of ingest that read PBX main of acme, and its hooks."""

    db: SqliteFile
    clock: ManualClock
    pbx: PbxAdapter
    began: datetime = field(init=False)
    replicas: list[RawBook] = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock.now()
        raw = SqliteStore(self.db, self.clock).collection(RAW)
        self.replicas = [RawBook(raw, self.clock, keep=DAY) for _ in range(2)]

    async def record(self, name: str, *, serial: int = 1, by: tuple[int, ...] = (0,)) -> None:
        """
        A recorded call, as the replicas *by* would have kept it: each on its tape, a flush a
        second.
        """
        cast = Cast(started_at=self.clock.now(), serial=serial)
        tapes = [RawTape(self.replicas[n], self.clock) for n in by]
        began, flushed = self.clock.now(), self.clock.now()
        for step in recording(name).steps(cast):
            await self.clock.advance(began + step.after - self.clock.now())
            for tape in tapes:
                tape.keep("acme", "main", step.text.encode())
            if self.clock.now() - flushed >= SECOND:
                flushed = self.clock.now()
                for tape in tapes:
                    await tape.flush()
        for tape in tapes:
            await tape.flush()

    async def hook(self, text: str) -> None:
        hook = HookReceived(pbx="main", kind=HookKind.GENERIC, body=text)
        tape = RawTape(self.replicas[0], self.clock)
        tape.keep("acme", "main", hook.model_dump_json().encode(), what=RawKind.HOOKS)
        await tape.flush()

    async def read(self, *, since: datetime | None = None) -> list[Reading]:
        found = read_again(
            self.replicas[0],
            self.pbx,
            PHONES,
            tenant="acme",
            pbx="main",
            since=since or self.began,
            until=self.clock.now() + SECOND,
        )
        return [one async for one in found]

    async def told(self, *, since: datetime | None = None) -> list[Sighting]:
        return [one for reading in await self.read(since=since) for one in reading.sightings]


def adapters(clock: Any) -> Adapters:
    return Adapters(
        secrets=SecretBox([new_key()]),
        http=HttpClient(AddressGuard()),
        clock=clock,
        metrics=Metrics(),
    )


@pytest.fixture
async def archive(clock: ManualClock) -> AsyncIterator[Archive]:
    db = SqliteFile(None)
    await db.open()
    box = SecretBox([new_key()])
    settings = AsteriskSettings(
        host="192.0.2.1", username="u", secret=box.open(box.seal(new_key()))
    )
    yield Archive(db, clock, adapters(clock).make("acme", "main", settings))
    await db.close()


def live(name: str, clock: ManualClock, *, serial: int = 1) -> list[Sighting]:
    """What a reader tells of the call while it happens."""
    reader = AmiReader(tenant="acme", pbx="main")
    reader.know(PHONES)
    now, told = clock.now(), []
    for step in recording(name).steps(Cast(started_at=now, serial=serial)):
        told += reader.tick(now + step.after)
        told += reader.read(step.text.encode(), now=now + step.after)
    return [*told, *reader.tick(now + timedelta(minutes=5))]


def keys(sightings: list[Sighting]) -> list[str]:
    return [one.key for one in sightings]


@pytest.mark.parametrize("name", ["answered", "missed", "busy", "originate_ami", "queue_ringall"])
async def test_a_call_is_read_again_as_it_was_read(archive: Archive, name: str) -> None:
    expected = live(name, archive.clock)
    await archive.record(name)

    told = await archive.told()
    assert keys(told) == keys(expected)
    assert [one.body for one in told] == [one.body for one in expected]
    assert [one.at for one in told] == [one.at for one in expected]


async def test_each_replica_s_records_are_read_by_a_reader_of_its_own(archive: Archive) -> None:
    """Both read all of it: mixed, every event would come twice, and the calls be another's."""
    expected = live("answered", archive.clock)
    await archive.record("answered", by=(0, 1))

    told = await archive.told()
    assert sorted(keys(told)) == sorted(keys(expected) * 2)
    once = {one.key: one.body for one in told}
    assert once == {one.key: one.body for one in expected}


async def test_calls_of_one_hour_are_forgotten_in_the_next(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A day has more calls than a PBX has at once."""
    monkeypatch.setattr(asterisk, "MOST_CALLS", 2)
    for number in range(5):
        await archive.record("answered", serial=number + 1)
        await archive.clock.advance(timedelta(hours=1))

    ends = [one for one in await archive.told() if isinstance(one.body, CallEnded)]
    assert len({one.body.call_id for one in ends if isinstance(one.body, CallEnded)}) == 5
    assert [e.body.known for e in ends if isinstance(e.body, CallEnded)] == [EndKnown.SEEN] * 5
    # When each ended, not when it was read.
    assert ends[0].at - archive.began < timedelta(minutes=1)


async def test_of_a_call_that_began_before_nothing_is_made_up(archive: Archive) -> None:
    await archive.record("answered")
    whole = [one.body for one in await archive.told()]
    assert any(isinstance(body, CallStarted) for body in whole)
    inputs = archive.replicas[0].between(
        "acme", "main", since=archive.began, until=archive.clock.now() + SECOND
    )
    came = [one.came_at async for one in inputs]
    assert len(came) > 2, "the call is in several documents"

    rest = [one.body for one in await archive.told(since=came[-1])]
    assert not any(isinstance(body, CallStarted | CallAnswered | CallRinging) for body in rest)


async def test_what_cannot_be_read_is_told_and_the_rest_is_read(archive: Archive) -> None:
    tape = RawTape(archive.replicas[0], archive.clock)
    tape.keep("acme", "main", b"\xff\x00 no AMI at all")
    await tape.flush()
    await archive.record("answered")

    readings = await archive.read()
    assert [fault for one in readings for fault in one.faults] == [
        "a record without a name in any line: this is no AMI"
    ]
    assert CallEnded in [type(one.body) for r in readings for one in r.sightings]


async def test_a_mended_reader_tells_what_the_old_one_could_not(archive: Archive) -> None:
    """The old one choked on answers; what it did tell keeps its keys."""

    class Old(AmiReader):
        def read(self, record: bytes, *, now: datetime) -> list[Sighting]:
            if b"Event: DialEnd" in record or b"Event: BridgeEnter" in record:
                raise ContractError("not known yet")
            return super().read(record, now=now)

    await archive.record("answered")
    mended = archive.pbx
    archive.pbx = replace(mended, reader=lambda: Old(tenant="acme", pbx="main"))
    before = await archive.read()
    assert sum(len(one.faults) for one in before) >= 2
    archive.pbx = mended
    after = await archive.read()

    assert not any(one.faults for one in after)
    then = {one.key for r in before for one in r.sightings}
    now = {one.key for r in after for one in r.sightings}
    assert then < now
    assert any("/answered/" in key for key in now - then)


EVENT: Mapping[str, str] = {
    "started": '{"event": "started", "call": "7", "at": "2100-01-01T00:00:00Z", '
    '"direction": "inbound", "caller": "447700900123"}',
    "ended": '{"event": "ended", "call": "7", "at": "2100-01-01T00:00:09Z"}',
}


async def test_hooks_are_read_again_in_their_order(archive: Archive) -> None:
    site = Site.model_validate({"tenant": "acme", "pbx": [{"kind": "generic", "name": "main"}]})
    archive.pbx = adapters(archive.clock).of(site, site.pbx[0])
    await archive.hook(EVENT["started"])
    await archive.clock.advance(SECOND)
    await archive.hook("{no JSON")
    await archive.clock.advance(SECOND)
    await archive.hook(EVENT["ended"])

    readings = await archive.read()
    told = [type(one.body) for reading in readings for one in reading.sightings]
    assert told == [CallStarted, CallEnded]
    assert [bool(reading.faults) for reading in readings] == [False, True, False, False]
    assert [reading.records for reading in readings] == [1, 1, 1, 0]


async def test_hooks_of_a_pbx_that_sends_none_any_more_are_named(archive: Archive) -> None:
    await archive.hook(EVENT["started"])
    (reading, _) = await archive.read()
    assert "otherwise than by hooks" in reading.faults[0]


# -- the command ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the demo's site, an answered and a missed call, and an agent's pause."""
    found = tmp_path_factory.mktemp("mesh")
    site = found / "site.yaml"
    site.write_text(site_file(crm_url="http://127.0.0.1:1", ami_port=1))
    done = callmesh(found, "apply", str(site), CALLMESH_NET_ALLOW="127.0.0.0/8")
    assert done.returncode == 0, done.stderr
    asyncio.run(_keep_two_calls(found / "mesh.db"))
    return found


async def _keep_two_calls(path: Path) -> None:
    clock = SystemClock()
    began = clock.now() - timedelta(hours=2)
    db = SqliteFile(path)
    await db.open()
    try:
        book = RawBook(SqliteStore(db, clock).collection(RAW), clock, keep=DAY)
        for serial, name in enumerate(("answered", "missed"), 1):
            cast = Cast(
                started_at=began + serial * timedelta(minutes=10),
                serial=serial,
                caller="[/b]\x1b[31m",
            )
            records = [
                (cast.started_at + step.after, step.text.encode())
                for step in recording(name).steps(cast)
            ]
            await book.add_records(tenant="demo", pbx="sandbox", records=records)
        pause = (
            "Event: QueueMemberPause\r\nQueue: support\r\nMemberName: 101\r\n"
            "Interface: PJSIP/101\r\nStateInterface: PJSIP/101\r\nPaused: 1\r\n"
        )
        at = began + timedelta(hours=1)
        await book.add_records(tenant="demo", pbx="sandbox", records=[(at, pause.encode())])
    finally:
        await db.close()


def _waiting(folder: Path, column: str = "type") -> list[str]:
    """What waits on the bus for its services, in the order in which it was published."""
    with closing(sqlite3.connect(f"file:{folder / 'mesh.db'}?mode=ro", uri=True)) as db:
        if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'bus_deliveries'").fetchall():
            return []  # nobody ever published
        rows = db.execute(f"SELECT {column} FROM bus_deliveries ORDER BY seq")  # noqa: S608  ours
        return [value for (value,) in rows.fetchall()]


def test_a_dry_run_shows_the_calls_and_publishes_nothing(folder: Path) -> None:
    before = _waiting(folder)
    done = callmesh(folder, "replay", "demo/sandbox", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "2 CallStarted" in done.stdout
    assert "1 AgentStatusChanged" in done.stdout
    (answered,) = [line for line in done.stdout.splitlines() if "answered" in line]
    (missed,) = [line for line in done.stdout.splitlines() if "missed" in line]
    assert "inbound" in answered
    assert "[/b]\ufffd[31m" in answered, "a caller's number is whatever the caller likes"
    assert " 3 s" in answered
    assert " 0 s" in missed
    assert "published" not in done.stdout
    assert _waiting(folder) == before


def test_a_replay_gives_the_events_of_calls_to_the_bus_their_ends_first(folder: Path) -> None:
    """A ring after its call's end opens no screen; an agent's pause of before is no news."""
    done = callmesh(folder, "replay", "demo/sandbox")
    assert done.returncode == 0, done.stderr
    sent, messages = _waiting(folder), set(_waiting(folder, "message_id"))
    ends = [n for n, name in enumerate(sent) if name == "calls.ended.v1"]
    assert max(ends) < sent.index("calls.ringing.v1")
    # Every event of a call has somebody who takes it.
    assert f"published {len(messages)} events of calls" in done.stdout
    _, _, kinds = done.stdout.splitlines()[0].partition(": ")
    told = sum(int(one.split()[0]) for one in kinds.split(", "))
    assert told == len(messages) + 1, "but for the pause"

    again = callmesh(folder, "replay", "demo/sandbox")
    assert again.returncode == 0, again.stderr
    assert len(_waiting(folder)) > len(sent)
    assert set(_waiting(folder, "message_id")) == messages, "no fact is told under another name"


def test_only_the_wanted_time_is_read(folder: Path) -> None:
    done = callmesh(folder, "replay", "demo/sandbox", "--since", "105m", "--dry-run")
    assert "1 CallStarted" in done.stdout
    done = callmesh(folder, "replay", "demo/sandbox", "--until", "105m", "--dry-run")
    assert "1 CallStarted" in done.stdout
    done = callmesh(folder, "replay", "demo/sandbox", "--since", "5m", "--dry-run")
    assert "0 records: nothing of a call" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("demo",), "say TENANT/PBX"),
        (("demo/nosuch",), "There is no PBX connection nosuch"),
        (("nosuch/sandbox",), "There is no PBX connection sandbox"),
        (("demo/sandbox", "--since", "yesterday"), "--since yesterday: say 90m"),
        (("demo/sandbox", "--until", "999999999d"), "--until 999999999d: say 90m"),
    ],
)
def test_what_cannot_be_replayed_says_why(
    folder: Path, arguments: tuple[str, ...], says: str
) -> None:
    done = callmesh(folder, "replay", *arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
