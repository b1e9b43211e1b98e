"""Recordings as their listeners get them: by a link that ends or by a key, from a folder."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from services.gateway.recordings.accesses import ACCESSES
from services.gateway.recordings.playing import LATE
from shared.http.auth import Scope
from shared.recordings.links import PURPOSE, RecordingLinks
from shared.secrets import SecretBox, new_key
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore
from tests.contract.recordings_kit import CALL, DAY, MINUTE, PUBLIC, Listener, a_listener, tone

BY_KEY = f"/v1/calls/{CALL}/recordings/1"


@pytest.fixture
def monitor(tmp_path: Path) -> Path:
    folder = tmp_path / "monitor"
    folder.mkdir()
    (folder / "a.wav").write_bytes(tone(tmp_path))
    return folder


@asynccontextmanager
async def a_folder(monitor: Path, *recordings: str) -> AsyncIterator[Listener]:
    """A PBX whose folder is mounted here, and a call with these recordings."""
    fetched = {"kind": "files", "folder": str(monitor)}
    async with a_listener(monitor.parent, fetch_recordings=fetched) as listener:
        await listener.a_call(*(recordings or ("a.wav",)))
        yield listener


async def test_a_link_plays(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        heard = await listener.get(listener.link("a.wav"))

    assert heard.status == 200
    assert heard.seconds == pytest.approx(2.0)
    said = heard.headers
    assert said["Content-Type"] == "audio/wav"
    assert said["Accept-Ranges"] == "bytes"
    assert said["Content-Disposition"] == 'inline; filename="a.wav"'
    assert said["X-Content-Type-Options"] == "nosniff"
    assert said["Referrer-Policy"] == "no-referrer"
    assert said["Cache-Control"] == "private"
    assert "sandbox" in said["Content-Security-Policy"]
    assert int(said["Content-Length"]) == len(heard.body)


async def test_threads_that_others_hold_are_not_needed_for_it(monitor: Path) -> None:
    """Nor are theirs needed by others: a folder may be on a server that is gone."""
    held = threading.Event()
    loop = asyncio.get_running_loop()
    async with a_folder(monitor) as listener:
        loop.set_default_executor(ThreadPoolExecutor(1))
        holding = loop.run_in_executor(None, held.wait)
        try:
            heard = await listener.get(listener.link("a.wav"), Range="bytes=0-3")
        finally:
            held.set()
            await holding
    assert (heard.status, heard.body) == (206, b"RIFF")


async def test_what_a_crm_adds_to_a_link_is_ignored(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        heard = await listener.get(listener.link("a.wav") + "?clientId=7&download=1")
    assert heard.status == 200


async def test_a_player_goes_about_in_it_by_ranges(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        path = listener.link("a.wav")
        whole = (await listener.get(path)).body
        size = len(whole)
        for range_, body in (
            ("bytes=0-3", whole[:4]),
            (f"bytes={size - 10}-", whole[-10:]),
            ("bytes=-10", whole[-10:]),
            ("bytes=0-", whole),
        ):
            heard = await listener.get(path, Range=range_)
            assert (heard.status, heard.body) == (206, body)
            assert heard.headers["Content-Range"].endswith(f"/{size}")
        beyond = await listener.get(path, Range=f"bytes={size}-")
        several = await listener.get(path, Range="bytes=0-1,4-5")

    assert beyond.status == 416
    assert beyond.headers["Content-Range"] == f"bytes */{size}"
    assert beyond.headers["Content-Type"].startswith("application/problem+json")
    assert (several.status, several.body) == (200, whole)


async def test_a_part_is_of_the_version_that_the_player_has(monitor: Path, tmp_path: Path) -> None:
    async with a_folder(monitor) as listener:
        path = listener.link("a.wav")
        etag = (await listener.get(path)).headers["ETag"]
        same = await listener.get(path, Range="bytes=0-3", If_Range=etag)
        (monitor / "a.wav").write_bytes(tone(tmp_path) + b"more of it")
        other = await listener.get(path, Range="bytes=0-3", If_Range=etag)

    assert same.status == 206
    assert other.status == 200
    assert other.headers["ETag"] != etag


async def test_head_tells_what_get_would_and_sends_nothing(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        path = listener.link("a.wav")
        size = len((await listener.get(path)).body)
        heard = await listener.get(path, method="HEAD")
        by_key = await listener.get(BY_KEY, method="HEAD", key=listener.api.key)

    for one in (heard, by_key):
        assert (one.status, one.body) == (200, b"")
        assert int(one.headers["Content-Length"]) == size


async def test_a_link_ends(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        path = listener.link("a.wav")
        await listener.clock.advance(DAY - MINUTE)
        assert (await listener.get(path)).status == 200
        await listener.clock.advance(2 * timedelta(hours=1))
        heard = await listener.get(path)
        metrics = listener.api.metrics

        assert heard.status == 410
        assert b'"code":"gone"' in heard.body
        assert metrics.value("callmesh_recordings_total", "ended") == 1
        assert metrics.value("callmesh_recordings_total", "given") == 1


async def test_what_is_no_link_of_ours_is_refused_in_the_same_words(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        good = listener.link("a.wav")
        stranger = RecordingLinks(SecretBox([new_key()]).signing_keys(PURPOSE), public_url=PUBLIC)
        forged = stranger.link(
            tenant="acme",
            call_id=CALL,
            recording="a.wav",
            ended_at=listener.ended_at,
            lasts=DAY,
        )
        assert forged is not None
        bad = [
            forged.removeprefix(PUBLIC),
            good[:-1],
            good.replace("acme", "globex"),
            good.replace(CALL[:8], "00000000"),
            "/recordings/x",
            f"/recordings/{'a' * 4000}",
        ]
        heard = [await listener.get(path) for path in bad]
        metrics = listener.api.metrics

        assert {one.status for one in heard} == {404}
        assert len({one.body for one in heard}) == 1
        assert metrics.value("callmesh_recordings_total", "forged") == len(bad)


async def test_a_good_link_to_a_call_of_another_tenant_or_none_finds_nothing(
    monitor: Path,
) -> None:
    async with a_folder(monitor) as listener:
        for path in (
            listener.link("a.wav", tenant="globex"),
            listener.link("a.wav", call=CALL.replace("6f", "70")),
            listener.link("another.wav"),
        ):
            assert (await listener.get(path)).status == 404


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "../tone.wav",
        "/etc/passwd",
        "a.wav\x00",
        "pipe.wav",
        "out.wav",
        ".",
        "https://127.0.0.1/a.wav",
    ],
)
async def test_a_name_that_leads_elsewhere_is_not_there(monitor: Path, name: str) -> None:
    os.mkfifo(monitor / "pipe.wav")
    (monitor / "out.wav").symlink_to(monitor.parent / "tone.wav")
    async with a_folder(monitor, name) as listener:
        await listener.clock.advance(LATE)
        heard = await listener.get(BY_KEY, key=listener.api.key)
    assert heard.status == 404
    assert b"passwd" not in heard.body


async def test_what_is_no_sound_is_a_download_and_no_page(monitor: Path) -> None:
    (monitor / "page.wav").write_bytes(b"<html><script>alert(1)</script>")
    async with a_folder(monitor, "page.wav") as listener:
        heard = await listener.get(listener.link("page.wav"))
    assert heard.status == 200
    assert heard.headers["Content-Type"] == "application/octet-stream"
    assert heard.headers["Content-Disposition"] == 'attachment; filename="page.bin"'


@pytest.mark.parametrize("header_alone", [False, True])
async def test_a_recording_may_be_late_but_not_for_ever(
    monitor: Path, tmp_path: Path, *, header_alone: bool
) -> None:
    if header_alone:
        (monitor / "late.wav").write_bytes(tone(tmp_path)[:44])
    async with a_folder(monitor, "late.wav") as listener:
        path = listener.link("late.wav")
        early = await listener.get(path)
        (monitor / "late.wav").write_bytes(tone(tmp_path))
        there = await listener.get(path)
        (monitor / "late.wav").unlink()
        await listener.clock.advance(LATE)
        gone = await listener.get(path)

    assert early.status == 503
    assert int(early.headers["Retry-After"]) > 0
    assert there.seconds == pytest.approx(2.0)
    assert gone.status == 404


async def test_a_key_hears_the_calls_of_its_tenant_and_of_its_phone(monitor: Path) -> None:
    async with a_folder(monitor, "a.wav", "b.wav") as listener:
        api = listener.api
        (monitor / "b.wav").write_bytes(b"ID3 the second")
        mine = await api.a_key(Scope.CALLS_READ, extension="101")
        other = await api.a_key(Scope.CALLS_READ, extension="102")
        blind = await api.a_key(Scope.POPS_READ)
        second = f"/v1/calls/{CALL}/recordings/2"

        assert (await listener.get(BY_KEY, key=mine)).seconds == pytest.approx(2.0)
        assert (await listener.get(second, key=mine)).headers["Content-Type"] == "audio/mpeg"
        assert (await listener.get(BY_KEY, key=other)).status == 403
        assert (await listener.get(BY_KEY, key=blind)).status == 403
        assert (await listener.get(BY_KEY)).status == 401
        for number in ("3", "999999999"):
            path = f"/v1/calls/{CALL}/recordings/{number}"
            assert (await listener.get(path, key=mine)).status == 404
        for number in ("0", "-1", "one", "99999999999999999999"):
            path = f"/v1/calls/{CALL}/recordings/{number}"
            assert (await listener.get(path, key=mine)).status == 422


async def test_who_listens_is_noted_once_a_minute(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        path, key = listener.link("a.wav"), listener.api.key
        await listener.get(path)
        await listener.get(path, Range="bytes=0-9")
        await listener.get(path, Range="bytes=10-19")
        await listener.get(BY_KEY, key=key)
        await listener.clock.advance(MINUTE)
        await listener.get(path, method="HEAD")
        size = len((await listener.get(BY_KEY, key=key)).body)
        noted = await listener.accesses()

    shown = [
        (one.get("key"), one["requests"], one["bytes"], one.get("range"), one["status"])
        for one in noted
    ]
    assert sorted(shown[:2], key=str) == sorted(
        [(None, 1, 0, None, 200), ("k0", 1, size, None, 200)], key=str
    )
    assert sorted(shown[2:], key=str) == sorted(
        [(None, 3, size + 20, f"bytes 10-19/{size}", 206), ("k0", 1, size, None, 200)], key=str
    )
    assert {one["peer"] for one in noted} == {"127.0.0.1"}
    assert {one["recording"] for one in noted} == {"a.wav"}


async def test_who_listens_at_once_is_counted_right(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        path = listener.link("a.wav")
        await asyncio.gather(*(listener.get(path, Range="bytes=0-0") for _ in range(20)))
        (noted,) = await listener.accesses()
    assert (noted["requests"], noted["bytes"]) == (20, 20)


async def test_nothing_goes_out_that_cannot_be_noted(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        path = listener.link("a.wav")
        away = SqliteFile(None)
        await away.open()
        await away.close()
        store = SqliteStore(away, listener.clock)
        listener.api.access_log._accesses = store.collection(ACCESSES)
        heard = await listener.get(path)
    assert heard.status == 503
    assert b"RIFF" not in heard.body


async def test_the_list_of_listeners_is_kept_as_long_as_the_audit_log(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        await listener.get(listener.link("a.wav"))
        assert len(await listener.accesses()) == 1
        await listener.clock.advance(DAY + MINUTE)
        assert await listener.accesses() == []


async def test_a_key_of_one_phone_does_not_see_who_listened(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        bound = await listener.api.a_key(Scope.CALLS_READ, extension="101")
        path = f"/v1/calls/{CALL}/recordings/accesses"
        assert (await listener.get(path, key=bound)).status == 403


async def test_a_pbx_that_is_not_set_up_for_it_gives_none(tmp_path: Path) -> None:
    async with a_listener(tmp_path) as listener:
        await listener.a_call("a.wav")
        await listener.clock.advance(LATE)
        assert (await listener.get(BY_KEY, key=listener.api.key)).status == 404
        assert (await listener.get(listener.link("a.wav"))).status == 404


async def test_a_folder_is_for_the_operator_to_say(monitor: Path) -> None:
    async with a_folder(monitor) as listener:
        own = {"kind": "files", "folder": "/etc"}
        status, problem = await listener.api.send(
            "PUT", "/v1/pbx/main", json={"kind": "generic", "fetch_recordings": own}
        )
        assert (status, problem["code"]) == (422, "contract_violation")
        assert "site file" in problem["detail"]
        same = {"kind": "files", "folder": str(monitor)}
        status, shown = await listener.api.send(
            "PUT", "/v1/pbx/main", json={"kind": "generic", "fetch_recordings": same}
        )
        assert status == 200
        assert shown["settings"]["fetch_recordings"] == same
