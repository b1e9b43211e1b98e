"""The demo as its user runs it, killed in the middle, and run again."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
import wave
from pathlib import Path

import pytest

from shared.sandbox.demo import CALLS

#: More than the demo itself gives its calls; it guards against what hangs and measures nothing.
HANGS_S = 400


def demo(folder: Path, *options: str, **settings: str) -> subprocess.Popen[str]:
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith("CALLMESH_")},  # noqa: TID251  a child's
        "CALLMESH_HTTP_PORT": "0",
        "CALLMESH_ROUTING_AGI_PORT": "0",
        **settings,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "services", "demo", "--folder", str(folder), *options],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        # A group of its own: whatever it might start ends with it.
        start_new_session=True,
    )


def entries(folder: Path) -> list[str]:
    """Subjects of the entries in the sandbox CRM; each holds its call's reference."""
    with sqlite3.connect(f"file:{folder / 'sandbox-crm.db'}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT body FROM records WHERE module = 'Calls'").fetchall()
    return sorted(json.loads(body)["Subject"] for (body,) in rows)


def test_it_plays_the_calls_says_what_became_of_them_and_exits_0(tmp_path: Path) -> None:
    process = demo(tmp_path, "--speed", "8")
    out, _ = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, out
    for words in (
        "Jane Doe, ACME Ltd (Contacts)",
        "queue:support, row 1: Tier is GOLD",
        "the default: no contact",
        "at 101 and 102",
        "answered, talked 3.0 s",
        "missed, talked 0.0 s",
        "not in the CRM",
        "CRM entry",
    ):
        assert words in out
    assert len(entries(tmp_path)) == CALLS


@pytest.mark.parametrize("after", [1.0, 1.6, 2.4, 3.4, 4.6, 5.4, 6.2])
def test_kill_9_in_the_middle_costs_no_call_and_doubles_no_entry(
    tmp_path: Path, after: float
) -> None:
    killed = demo(tmp_path, "--speed", "4")
    time.sleep(after)
    killed.kill()
    killed.communicate(timeout=HANGS_S)
    again = demo(tmp_path, "--speed", "8")
    out, _ = again.communicate(timeout=HANGS_S)
    assert again.returncode == 0, out
    found = entries(tmp_path)
    assert len(found) == CALLS, out
    assert len(set(found)) == CALLS


def test_serving_on_ends_by_ctrl_c_with_exit_0(tmp_path: Path) -> None:
    process = demo(tmp_path, "--serve", "--speed", "8")
    assert process.stdout is not None
    for line in process.stdout:
        if "Ctrl-C stops" in line:
            break
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, out
    assert "Traceback" not in out


def test_what_it_shows_to_try_plays_the_recording_of_a_call(tmp_path: Path) -> None:
    process = demo(tmp_path, "--serve", "--speed", "8")
    assert process.stdout is not None
    key = address = ""
    for line in process.stdout:
        key = line.strip().removeprefix("export KEY=") if "export KEY=" in line else key
        if "/recordings/" in line:
            address = line.split()[-1]
            break
    try:
        asked = urllib.request.Request(address, headers={"X-Api-Key": key})
        with urllib.request.urlopen(asked, timeout=60) as answer, wave.open(answer) as sound:
            assert answer.headers["Content-Type"] == "audio/wav"
            assert sound.getnframes() == 2 * sound.getframerate()
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=HANGS_S)


def test_ports_that_are_taken_do_not_stop_it(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as http,
        socket.create_server(("127.0.0.1", 0)) as agi,
    ):
        taken = {
            "CALLMESH_HTTP_PORT": str(http.getsockname()[1]),
            "CALLMESH_ROUTING_AGI_PORT": str(agi.getsockname()[1]),
        }
        process = demo(tmp_path, "--speed", "16", **taken)
        out, _ = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, out


def test_two_cannot_share_a_folder(tmp_path: Path) -> None:
    first = demo(tmp_path, "--serve", "--speed", "8")
    assert first.stdout is not None
    for line in first.stdout:
        if "playing calls" in line:
            break
    second = demo(tmp_path)
    out, _ = second.communicate(timeout=HANGS_S)
    first.kill()
    first.communicate()
    assert second.returncode == 1
    assert out.strip().startswith("CALLMESH_DATA_DIR:")
    assert f"in use by process {first.pid}" in out
