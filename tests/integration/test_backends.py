"""The servers that tests start for themselves."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from shared.testing.backends import AMQP, MONGO
from shared.testing.waiting import eventually

pytestmark = [pytest.mark.rabbitmq, pytest.mark.mongodb]


async def test_whoever_ends_the_starter_ends_its_servers_too(tmp_path: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in {AMQP, MONGO}}  # noqa: TID251  handed on
    environment["TMPDIR"] = str(tmp_path)
    up = tmp_path / "up"
    starter = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "shared.testing.backends"),
        *("sh", "-c", f"touch {up}; exec sleep 600"),
        env=environment,
    )
    try:
        await eventually(up.exists, within=300)
        servers = living(tmp_path)
        starter.terminate()
        async with asyncio.timeout(120):
            assert await starter.wait() == 128 + signal.SIGTERM
    finally:
        with suppress(ProcessLookupError):
            starter.kill()
    assert any("mongod" in command for command in servers)
    assert any("beam" in command for command in servers)
    await eventually(lambda: not living(tmp_path))


def living(folder: Path) -> list[str]:
    """Commands of the processes that work in *folder*."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "cwd").resolve().is_relative_to(folder):
                found.append((process / "cmdline").read_text())
        except OSError:
            continue
    return found
