"""The command as an operator and an orchestrator meet it: start, readiness, signals, exit codes."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from services.catalog import CATALOG
from shared.clock import SystemClock
from shared.moments import to_text
from shared.testing.servers import free_port
from tests.acceptance.commands_kit import callmesh, environment


@contextmanager
def serving(folder: Path, *arguments: str, **settings: str) -> Iterator[subprocess.Popen[str]]:
    """A running mesh whose log says that it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "services", *arguments],
        env=environment(folder, **settings),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["event"] == "ready":
                break
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ask(port: int, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_it_is_live_ready_and_measured(tmp_path: Path) -> None:
    ops = free_port()
    with serving(tmp_path, "up", CALLMESH_OPS_PORT=str(ops)):
        assert ask(ops, "/live") == (200, '{"live": true}')
        status, body = ask(ops, "/ready")
        checks = json.loads(body)["checks"]
        assert (status, checks) == (200, dict.fromkeys(("started", "site", "bus", "store"), True))
        status, metrics = ask(ops, "/metrics")
        assert status == 200
        assert "callmesh_published_total" in metrics


@pytest.mark.parametrize("name", list(CATALOG))
def test_each_service_runs_by_itself_and_stops_by_sigterm_with_exit_0(
    tmp_path: Path, name: str
) -> None:
    with serving(tmp_path, "run", name) as process:
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    events = [json.loads(line)["event"] for line in out.splitlines()]
    assert events[-1] == "stopped"


BUSY = """
import asyncio
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

from shared.bus.port import Consumer, Subscription
from shared.contracts.calls import CallStarted
from shared.runtime.host import run_until_signal
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Service
from shared.runtime.settings import HttpSettings, OpsSettings
from shared.testing.builders import a_call


async def for_ever(message=None):
    print("busy", flush=True)
    try:
        await asyncio.Event().wait()
    finally:
        print("unwound", flush=True)


@asynccontextmanager
async def busy(platform):
    taken = Subscription(consumer=Consumer("busy", CallStarted), handler=for_ever)

    async def order():
        await platform.publisher("busy").publish(a_call(), tenant="acme")
        await asyncio.Event().wait()

    yield Service(name="busy", subscriptions=[taken], tasks=[order], stop_listening=for_ever)


async def main():
    async with open_platform(Choice.read(), consumers=()) as platform:
        await run_until_signal(
            [busy], platform, http=HttpSettings.read(), ops=OpsSettings.read(),
            drain=timedelta(hours=1),
        )


asyncio.run(main())
"""


def test_a_second_signal_ends_it_at_once_whatever_is_waited_for(tmp_path: Path) -> None:
    """A handler, and a service that does not stop listening, would use the whole drain."""
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        env=environment(tmp_path),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        for word, number in (("busy", signal.SIGTERM), ("busy", signal.SIGTERM)):
            while process.stdout.readline().strip() != word:
                assert process.poll() is None
            process.send_signal(number)
        process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"CALLMESH_HTTP_PORT": "70000"}, "CALLMESH_HTTP_PORT: "),
        ({"CALLMESH_BUS": "kafka"}, "CALLMESH_BUS: "),
        ({"CALLMESH_DRAIN": "soon"}, "CALLMESH_DRAIN: not a length of time: 250ms, 1.5s, 10m, 2h"),
        ({"CALLMESH_HTP_PORT": "1"}, "did you mean CALLMESH_HTTP_PORT?"),
        ({"CALLMESH_STORE": "mongo"}, "CALLMESH_SECRET_KEYS: needed with CALLMESH_STORE=mongo"),
        ({"CALLMESH_SECRET_KEYS": "short"}, "CALLMESH_SECRET_KEYS: each key is 32 bytes"),
        ({"CALLMESH_NET_ALLOW": "home"}, "CALLMESH_NET_ALLOW: "),
        ({"CALLMESH_DATA_DIR": "/dev/null/x"}, "CALLMESH_DATA_DIR: cannot use"),
        ({"CALLMESH_OTEL_ENDPOINT": ""}, None),
        (
            {
                "CALLMESH_STORE": "mongo",
                "CALLMESH_SECRET_KEYS": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=",
                "CALLMESH_MONGO_URL": "postgres://x",
            },
            "CALLMESH_MONGO_URL: ",
        ),
    ],
)
def test_a_wrong_setting_is_one_line_that_names_it(
    tmp_path: Path, settings: dict[str, str], words: str | None
) -> None:
    if words is None:
        with serving(tmp_path, "up", **settings):
            return
    found = callmesh(tmp_path, "up", **settings)
    assert found.returncode == 1
    (line,) = found.stderr.strip().splitlines()
    assert words in line
    assert "Traceback" not in found.stdout


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for name in ("CALLMESH_HTTP_PORT", "CALLMESH_OPS_PORT", "CALLMESH_ROUTING_AGI_PORT"):
            found = callmesh(tmp_path, "up", **{name: port})
            assert found.returncode == 1
            assert f"{name}: cannot listen on 127.0.0.1:{port}" in found.stderr


def test_secrets_may_come_from_files(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "callmesh_secret_keys").write_text("short")
    found = callmesh(tmp_path, "up", CALLMESH_SECRETS_DIR=str(folder))
    assert "CALLMESH_SECRET_KEYS: each key is 32 bytes" in found.stderr


def test_a_site_is_applied_to_a_running_mesh_and_noticed(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text("tenants:\n  - {tenant: acme, pbx: [{name: door, kind: generic}]}\n")
    http = free_port()
    hook = {"event": "ended", "call": "1", "at": to_text(SystemClock().now())}
    with serving(tmp_path, "up", CALLMESH_HTTP_PORT=str(http)):
        first = callmesh(tmp_path, "apply", str(site))
        assert (first.returncode, first.stdout.splitlines()) == (
            0,
            ["+ acme: tenant acme", "+ acme: pbx door", "applied to 1 tenant(s)"],
        )
        again = callmesh(tmp_path, "apply", str(site))
        assert again.stdout.strip() == "nothing to change"
        issued = callmesh(
            tmp_path,
            *("keys", "issue", "--tenant", "acme", "--name", "door", "--scope", "hooks:write"),
        )
        deadline = time.monotonic() + 60
        while (status := _post(http, "/v1/hooks/door", hook, issued.stdout.strip())) != 202:
            assert status == 404
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert (
            callmesh(tmp_path, "keys", "revoke", "--tenant", "acme", "--name", "door").returncode
            == 0
        )
        # The mesh believes for some seconds what it knew.
        deadline = time.monotonic() + 60
        while (status := _post(http, "/v1/hooks/door", hook, issued.stdout.strip())) != 401:
            assert status == 202
            assert time.monotonic() < deadline
            time.sleep(0.1)


def _post(port: int, path: str, body: object, key: str) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}{path}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "X-Api-Key": key},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


def test_a_site_file_with_faults_changes_nothing_and_names_each_line(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    site.write_text(
        "tenants:\n  - tenant: acme\n    pbx:\n      - {name: door, kind: generic, x: 1}\n"
    )
    found = callmesh(tmp_path, "apply", str(site))
    assert found.returncode == 1
    assert found.stderr.strip() == f"{site}:4: tenants.0.pbx.0.x: unknown key"


def test_dead_letters_are_listed_shown_and_replayed(tmp_path: Path) -> None:
    """A hook that was accepted and whose PBX connection is of another kind by then."""
    nothing = callmesh(tmp_path, "dead-letters", "list")
    assert (nothing.returncode, nothing.stdout.strip()) == (0, "no dead letters")
    missing = callmesh(tmp_path, "dead-letters", "show", "0123456789ab")
    assert (missing.returncode, missing.stderr.strip()) == (1, "no dead letter 0123456789ab")
    neither = callmesh(tmp_path, "dead-letters", "replay")
    assert neither.returncode == 1
    assert "--all" in neither.stderr


def test_doctor_says_what_is_wrong_and_what_to_do(tmp_path: Path) -> None:
    port = free_port()
    site = tmp_path / "site.yaml"
    site.write_text(
        "tenants:\n  - tenant: acme\n    pbx:\n"
        f"      - {{name: main, kind: asterisk, host: 127.0.0.1, port: {port}, username: u,\n"
        "         secret: s3cret-of-the-pbx, trunks: [trunk]}\n"
    )
    callmesh(tmp_path, "apply", str(site))
    found = callmesh(tmp_path, "doctor")
    assert found.returncode == 1
    assert "✓ store" in found.stdout
    assert "✓ bus" in found.stdout
    assert f"✗ acme: PBX main: AMI answers at 127.0.0.1:{port}" in found.stdout
    assert f"no AMI at 127.0.0.1:{port}" in found.stdout
    assert "s3cret" not in found.stdout + found.stderr


def test_help_lists_every_command() -> None:
    found = subprocess.run(
        [sys.executable, "-m", "services", "--help"], capture_output=True, text=True, check=True
    )
    for command in (
        *("up", "run", "demo", "sandbox-crm", "sandbox-pbx", "apply", "keys"),
        *("contracts", "dead-letters", "doctor", "new-key"),
    ):
        assert f" {command} " in found.stdout
