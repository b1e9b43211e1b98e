"""``sandbox-crm`` and ``sandbox-pbx``: a CRM and a PBX to try the mesh against."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from services.cli.console import out, run_async
from shared.clock import SystemClock
from shared.errors import BadSetting
from shared.runtime.host import stopping_on_signals
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.demo import SCRIPT
from shared.sandbox.pbx import SandboxPbx
from shared.sandbox.recording import Cast


def register(app: typer.Typer) -> None:
    app.command("sandbox-crm")(sandbox_crm)
    app.command("sandbox-pbx")(sandbox_pbx)


def sandbox_crm(
    port: Annotated[int, typer.Option(min=0, max=65535, help="HTTP port.")] = 9800,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    file: Annotated[
        Path | None, typer.Option(help="Keeps what it holds; without it, nothing is kept.")
    ] = None,
) -> None:
    """Run a small CRM that speaks Zoho's API: contacts, users, call log, tokens, faults."""

    async def work() -> None:
        crm = SandboxCrm(file)
        try:
            bound = await crm.start(host, port)
        except OSError as error:
            raise BadSetting(f"--port: cannot listen on {host}:{port}: {error.strerror}") from None
        out.print(f"sandbox CRM at http://{host}:{bound}; faults: PUT /sandbox/faults")
        await _until_signal()
        await crm.stop()

    run_async(work())


def sandbox_pbx(
    port: Annotated[int, typer.Option(min=0, max=65535, help="AMI port.")] = 5038,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    agi: Annotated[
        str, typer.Option(help="FastAGI that is asked for routes: HOST:PORT/SCRIPT.")
    ] = "127.0.0.1:4573/route",
    speed: Annotated[float, typer.Option(min=0.1, max=100, help="1: as fast as it was.")] = 1,
    every: Annotated[float, typer.Option(help="Seconds between calls.")] = 15,
) -> None:
    """Run a PBX that plays recorded calls, one after the other, to whoever logs in by AMI."""
    address, _, script = agi.partition("/")
    agi_host, _, agi_port = address.partition(":")
    if not agi_port.isdigit():
        raise BadSetting(f"--agi {agi}: say HOST:PORT/SCRIPT")

    async def work() -> None:
        clock = SystemClock()
        pbx = SandboxPbx(agi=(agi_host, int(agi_port), script), speed=speed)
        try:
            bound = await pbx.start(host, port)
        except OSError as error:
            raise BadSetting(f"--port: cannot listen on {host}:{port}: {error.strerror}") from None
        out.print(f"sandbox PBX: AMI at {host}:{bound}")
        playing = asyncio.create_task(_play_on(pbx, every=every, clock=clock))
        await _until_signal()
        playing.cancel()
        await asyncio.gather(playing, return_exceptions=True)
        await pbx.stop()

    run_async(work())


async def _play_on(pbx: SandboxPbx, *, every: float, clock: SystemClock) -> None:
    for number in range(1_000_000):
        name, caller, shown = SCRIPT[number % len(SCRIPT)]
        out.print(f"{caller} rings ({name})")
        cast = Cast(started_at=clock.now(), serial=number % 1000, caller=caller, caller_name=shown)
        await pbx.play(name, cast)
        await clock.sleep(timedelta(seconds=every))


async def _until_signal() -> None:
    stop = asyncio.Event()
    with stopping_on_signals(stop):
        await stop.wait()
