"""``demo``: the whole mesh in one process, and what became of the calls played to it."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from pydantic import SecretStr

from services.catalog import CATALOG, consumers, settings_classes
from services.cli.console import out, run_async
from services.routing import app as routing
from services.routing.settings import RoutingSettings
from shared.clock import SystemClock
from shared.contracts.calls import CallRecord
from shared.contracts.routing import RouteDecision
from shared.errors import NotFound
from shared.http.auth import KeyBook, Scope
from shared.ids import new_token
from shared.observe.logging import LogFormat, configure
from shared.runtime.host import running, stopping_on_signals
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Build, Platform
from shared.runtime.settings import (
    AmqpSettings,
    HttpSettings,
    MeshSettings,
    MongoSettings,
    NetSettings,
    OpsSettings,
    refuse_unknown,
)
from shared.sandbox.crm import SandboxCrm
from shared.sandbox.demo import close_round, mesh_api, open_round, play_round
from shared.sandbox.pbx import SandboxPbx
from shared.sandbox.site import PBX, TENANT, site_file
from shared.site.apply import carry_out, plan
from shared.site.file import Surroundings, read_site_file
from shared.site.parts import Sealing

KEY_NAME = "demo"
#: ingest reads events, dialer gives orders.
_MANAGERS = 2


def register(app: typer.Typer) -> None:
    app.command()(demo)


def demo(
    serve: Annotated[bool, typer.Option(help="Serve on after the calls, until Ctrl-C.")] = False,
    folder: Annotated[Path, typer.Option(help="Where the demo keeps its files.")] = Path(
        "callmesh-data/demo"
    ),
    speed: Annotated[float, typer.Option(min=0.1, max=100, help="1: as fast as it was.")] = 2,
) -> None:
    """Play recorded calls of a real Asterisk through the whole mesh, against a sandbox CRM."""
    raise typer.Exit(run_async(_demo(serve=serve, folder=folder, speed=speed)))


async def _demo(*, serve: bool, folder: Path, speed: float) -> int:
    refuse_unknown(settings_classes())
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    log = folder / "mesh.log"
    http = HttpSettings.read()
    port = own_port(http.host, http.port)
    url = f"http://127.0.0.1:{port}"
    monitor = (folder / "recordings-of-the-pbx").absolute()
    choice = Choice(
        # Links in CRM entries lead here.
        MeshSettings(data_dir=folder, public_url=MeshSettings.read().public_url or url),
        AmqpSettings(),
        MongoSettings(),
        # The sandbox CRM is on loopback, where no tenant's CRM may be.
        NetSettings(allow="127.0.0.0/8"),
    )
    async with AsyncExitStack() as stack:
        configure(form=LogFormat.JSON, stream=stack.enter_context(log.open("a")))
        crm = SandboxCrm(folder / "sandbox-crm.db")
        crm_port = await crm.start()
        stack.push_async_callback(crm.stop)
        pbx = SandboxPbx(speed=speed, monitor=monitor)
        ami_port = await pbx.start()
        stack.push_async_callback(pbx.stop)
        platform = await stack.enter_async_context(open_platform(choice, consumers=consumers()))
        text = site_file(
            crm_url=f"http://127.0.0.1:{crm_port}",
            ami_port=ami_port,
            # Six services, a CRM and a PBX on one core: it shall show where calls go all the same.
            within_s=10,
            monitor=monitor,
        )
        key = await prepare(platform, text)
        stop = asyncio.Event()
        stack.enter_context(stopping_on_signals(stop))
        state = await stack.enter_async_context(
            running(
                _builders(),
                platform,
                http=http.model_copy(update={"port": port}),
                ops=OpsSettings(port=0),
                drain=choice.mesh.drain,
                stop=stop,
            )
        )
        agi = next(s.ports["fastagi"] for s in state.services if "fastagi" in s.ports)
        pbx.agi = ("127.0.0.1", agi, f"route/{TENANT}/{PBX}")
        _say_where(url, crm_port, log)
        told = await play_and_watch(pbx, url, key, folder, stop)
        if told is None:
            return 1 if state.failed else 0
        show(told)
        if serve:
            say_what_now(url, key, told)
            await stop.wait()
    return 0 if all(went_well(record) for record in told) else 1


async def prepare(platform: Platform, text: str) -> SecretStr:
    """Apply the demo's site and issue its API key."""
    sealing = Sealing(platform.secrets, {}, Path())
    around = Surroundings(platform.templates, platform.http.may_be_plain)
    sites = read_site_file(text, source="demo", sealing=sealing, around=around)
    desk = platform.rule_desk()
    await carry_out(await plan(sites, desk, by="demo", prune=True), desk)
    return await fresh_key(platform.keys)


async def fresh_key(keys: KeyBook) -> SecretStr:
    """The demo's API key, anew each time: it is shown on the screen."""
    with suppress(NotFound):
        await keys.revoke(tenant=TENANT, name=KEY_NAME)
    return await keys.issue(
        tenant=TENANT, name=KEY_NAME, scopes=tuple(Scope), token=SecretStr(new_token("cm_demo"))
    )


async def play_and_watch(
    pbx: SandboxPbx, url: str, key: SecretStr, folder: Path, stop: asyncio.Event
) -> list[CallRecord] | None:
    """None when it was stopped before the end."""
    clock = SystemClock()
    while pbx.listeners < _MANAGERS and not stop.is_set():
        await clock.sleep(timedelta(milliseconds=20))
    file = folder / "round.json"
    what = await asyncio.to_thread(open_round, file, clock.now())
    async with mesh_api(url, key.get_secret_value()) as api:
        playing = asyncio.create_task(
            play_round(pbx, api, what, say=lambda words: out.print(f"  {words}", markup=False))
        )
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({playing, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not playing.done():
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
            return None
        told = list(playing.result())
    await asyncio.to_thread(close_round, file, what)
    return told


def show(told: list[CallRecord]) -> None:
    """The way that each call took."""
    out.print("\nwhat became of them:")
    for record in told:
        contact = record.contact
        talked = record.talk_time.total_seconds()
        company = f", {contact.company}" if contact and contact.company else ""
        lines = {
            "contact": f"{contact.display_name}{company} ({contact.module})"
            if contact
            else "not in the CRM",
            **_way(record),
            "CRM entry": " ".join(e.entry_id or f"{e.state}: {e.reason}" for e in record.entries),
        }
        out.print(f"  {record.outside_number}  {record.disposition}, talked {talked:.1f} s")
        for name, words in lines.items():
            out.print(f"    {name:<10} {words}", markup=False)


def _way(record: CallRecord) -> dict[str, str]:
    own = [leg.callee.label for leg in record.legs if leg.own_phone]
    if own:
        return {"clicked": f"at {own[0]}, whose phone rang first"}
    popped = [leg.callee.label for leg in record.legs if leg.rang_at]
    return {
        "route": _why(record.route) if record.route else "not asked",
        "popped": f"at {' and '.join(popped)}" if popped else "nowhere: no phone rang",
    }


def _why(route: RouteDecision) -> str:
    if route.row is not None:
        return f"{route.destination}, row {route.row}: {route.field} is {route.value}"
    return f"{route.destination}, the default: {route.reason.replace('_', ' ')}"


def went_well(record: CallRecord) -> bool:
    return bool(record.entries) and all(e.state.is_there for e in record.entries)


def _builders() -> list[Build]:
    """All services; a demo shall not fail because something else has the usual FastAGI port."""
    found = RoutingSettings.read()
    port = free_if_taken(found.agi_host, found.agi_port)
    settings = found.model_copy(update={"agi_port": port})
    return [
        partial(routing.build, settings=settings) if name == routing.NAME else entry.build
        for name, entry in CATALOG.items()
    ]


def free_if_taken(host: str, port: int) -> int:
    """*port*, or 0 (any free one) where something listens on it already."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return 0
    return port


def own_port(host: str, port: int) -> int:
    """*port*, or a free one where something listens on it already; known before it is bound."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, free_if_taken(host, port)))
        bound: int = probe.getsockname()[1]
        return bound


def _say_where(url: str, crm_port: int, log: Path) -> None:
    out.print(f"callmesh, all six services in this process: {url}")
    out.print(f"sandbox CRM: http://127.0.0.1:{crm_port}   log: {log}")
    out.print("playing calls recorded from a real Asterisk:")


def say_what_now(url: str, key: SecretStr, told: Sequence[CallRecord] = ()) -> None:
    secret = key.get_secret_value()
    order = json.dumps({"extension": "101", "number": "+447700900123"})
    out.print("serving on; Ctrl-C stops. Try:")
    out.print(f"  export KEY={secret}", markup=False)
    out.print(f'  curl -H "Authorization: Bearer $KEY" {url}/v1/calls', markup=False)
    for record in told[:1]:
        out.print(
            f'  curl -H "Authorization: Bearer $KEY" --output call.wav '
            f"{url}/v1/calls/{record.call_id}/recordings/1",
            markup=False,
        )
    out.print(f'  curl -N -H "Authorization: Bearer $KEY" {url}/v1/agents/101/events', markup=False)
    out.print(
        f'  curl -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" '
        f"-d '{order}' {url}/v1/calls",
        markup=False,
    )
