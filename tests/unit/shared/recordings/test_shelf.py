"""Copies of recordings: fetched once, whole or not at all, and within bounds."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from shared.clock import ManualClock
from shared.errors import NotFound, Rejected, Throttled, Unavailable
from shared.recordings.shelf import Bounds, Fetch, Shelf
from shared.testing.waiting import eventually

SOON = timedelta(seconds=10)
NEVER = timedelta(0)
HOUR = timedelta(hours=1)
WEEK = timedelta(days=7)


class Source:
    """Gives *pieces*; waits at ``gate`` before the last one, fails after it with *fault*."""

    def __init__(self, *pieces: bytes, fault: Exception | None = None) -> None:
        self.given = pieces
        self.fault = fault
        self.gate = asyncio.Event()
        self.gate.set()
        self.asked = 0

    @asynccontextmanager
    async def __call__(self) -> AsyncIterator[AsyncIterator[bytes]]:
        self.asked += 1
        yield self._pieces()

    async def _pieces(self) -> AsyncIterator[bytes]:
        for piece in self.given[:-1]:
            yield piece
        await self.gate.wait()
        for piece in self.given[-1:]:
            yield piece
        if self.fault is not None:
            raise self.fault


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kept"


@pytest.fixture
def shelf(folder: Path, clock: ManualClock) -> Shelf:
    return Shelf(folder, clock, Bounds(most_bytes=100, largest=60, keep=WEEK))


async def heard(shelf: Shelf, name: str, fetch: Fetch, *, pbx: str = "acme/main") -> bytes:
    with await shelf.open(pbx, name, fetch, within=SOON) as file:
        return file.read()


def files(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.iterdir()) if folder.exists() else []


def mode(folder: Path) -> int:
    return folder.stat().st_mode


def left_behind(folder: Path) -> None:
    """By a process that was killed long ago."""
    folder.mkdir()
    (folder / "x.part").write_bytes(b"a piece")


async def test_what_was_fetched_is_not_fetched_again(shelf: Shelf, folder: Path) -> None:
    source = Source(b"so", b"und")
    assert await heard(shelf, "a", source) == await heard(shelf, "a", source) == b"sound"
    assert source.asked == 1
    assert mode(folder) & 0o077 == 0


async def test_many_who_ask_at_once_are_one_fetch(shelf: Shelf) -> None:
    source = Source(b"so", b"und")
    source.gate.clear()
    asking = [asyncio.create_task(heard(shelf, "a", source)) for _ in range(20)]
    await eventually(lambda: source.asked > 0)
    source.gate.set()
    assert set(await asyncio.gather(*asking)) == {b"sound"}
    assert source.asked == 1


async def test_a_pbx_that_hangs_holds_back_no_other(shelf: Shelf) -> None:
    hung = Source(b"so", b"und")
    hung.gate.clear()
    for number in range(16):
        with pytest.raises(Unavailable):
            await shelf.open("acme/hung", str(number), hung, within=NEVER)
    with pytest.raises(Throttled) as caught:
        await shelf.open("acme/hung", "one more", hung, within=NEVER)
    assert caught.value.retry_after
    await eventually(lambda: hung.asked == 4)  # the others wait for these

    assert await heard(shelf, "0", Source(b"sound"), pbx="acme/main") == b"sound"
    assert await heard(shelf, "0", Source(b"other"), pbx="globex/hung") == b"other"
    hung.gate.set()
    assert await heard(shelf, "15", hung, pbx="acme/hung") == b"sound"
    await shelf.close()


async def test_one_who_does_not_wait_finds_it_later(shelf: Shelf) -> None:
    source = Source(b"so", b"und")
    source.gate.clear()
    with pytest.raises(Unavailable) as caught:
        await shelf.open("acme/main", "a", source, within=NEVER)
    assert caught.value.retry_after
    source.gate.set()
    assert await heard(shelf, "a", source) == b"sound"
    assert source.asked == 1


async def test_what_breaks_off_is_nowhere_and_is_fetched_anew(shelf: Shelf, folder: Path) -> None:
    with pytest.raises(Unavailable, match="broke"):
        await heard(shelf, "a", Source(b"so", b"un", fault=Unavailable("it broke off")))
    assert files(folder) == []
    assert await heard(shelf, "a", Source(b"sound")) == b"sound"


async def test_what_is_not_there_is_asked_for_each_time(shelf: Shelf) -> None:
    source = Source(fault=NotFound("none yet"))
    for _ in range(2):
        with pytest.raises(NotFound):
            await heard(shelf, "a", source)
    assert source.asked == 2


async def test_a_recording_over_the_bound_is_not_read_to_its_end(
    shelf: Shelf, folder: Path
) -> None:
    source = Source(*[b"0123456789"] * 1000)
    source.gate.clear()  # the last piece would never come
    with pytest.raises(Rejected, match="CALLMESH_GATEWAY_RECORDING_BYTES"):
        await heard(shelf, "a", source)
    assert files(folder) == []


async def test_what_is_being_fetched_at_once_is_bounded_too(shelf: Shelf, folder: Path) -> None:
    first = Source(b"a" * 50, b"")
    first.gate.clear()
    with pytest.raises(Unavailable):
        await shelf.open("acme/main", "a", first, within=NEVER)
    await eventually(lambda: files(folder) != [])
    with pytest.raises(Unavailable, match="at once"):
        await heard(shelf, "b", Source(b"b" * 60))
    first.gate.set()
    assert await heard(shelf, "a", first) == b"a" * 50
    assert await heard(shelf, "b", Source(b"b" * 60)) == b"b" * 60


async def test_what_was_not_used_for_longest_goes_first(
    shelf: Shelf, folder: Path, clock: ManualClock
) -> None:
    for name in ("a", "b"):
        await heard(shelf, name, Source(name.encode() * 40))
        await clock.advance(HOUR)
    await heard(shelf, "a", Source(b"another"))  # used
    await clock.advance(HOUR)
    await heard(shelf, "c", Source(b"c" * 40))
    assert files(folder) == [b"a" * 40, b"c" * 40]


async def test_a_file_that_is_being_read_is_read_to_its_end_when_it_goes(
    shelf: Shelf, clock: ManualClock
) -> None:
    with await shelf.open("acme/main", "a", Source(b"a" * 60), within=SOON) as file:
        await clock.advance(HOUR)
        await heard(shelf, "b", Source(b"b" * 60))
        assert file.read() == b"a" * 60


async def test_an_old_copy_goes_by_itself(shelf: Shelf, folder: Path, clock: ManualClock) -> None:
    await heard(shelf, "a", Source(b"sound"))
    tending = asyncio.create_task(shelf.tend())
    await eventually(lambda: clock.sleepers > 0)  # it has looked once
    assert files(folder) == [b"sound"]
    await clock.advance(WEEK + HOUR)
    await eventually(lambda: not files(folder))
    tending.cancel()


async def test_a_copy_from_before_is_fetched_anew(shelf: Shelf, clock: ManualClock) -> None:
    await heard(shelf, "a", Source(b"half"))
    await clock.advance(HOUR)
    now = clock.now()
    with await shelf.open("acme/main", "a", Source(b"whole"), within=SOON, newer_than=now) as file:
        assert file.read() == b"whole"
    source = Source(b"not asked")
    with await shelf.open("acme/main", "a", source, within=SOON, newer_than=now) as file:
        assert file.read() == b"whole"
    assert source.asked == 0


async def test_what_a_killed_process_left_goes(shelf: Shelf, folder: Path) -> None:
    left_behind(folder)
    await heard(shelf, "a", Source(b"sound"))
    assert files(folder) == [b"sound"]


async def test_a_folder_that_cannot_be_written_is_no_fault_of_the_listener(
    tmp_path: Path, clock: ManualClock
) -> None:
    (tmp_path / "file").write_bytes(b"")
    shelf = Shelf(tmp_path / "file" / "kept", clock, Bounds(100, 60, WEEK))
    with pytest.raises(Unavailable, match="cannot be kept here"):
        await heard(shelf, "a", Source(b"sound"))


async def test_closing_ends_what_is_under_way(shelf: Shelf, folder: Path) -> None:
    source = Source(b"so", b"und")
    source.gate.clear()
    with pytest.raises(Unavailable):
        await shelf.open("acme/main", "a", source, within=NEVER)
    await shelf.close()
    assert files(folder) == []
