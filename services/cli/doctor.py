"""``doctor``: every connection is tried, and what is wrong comes with what to do about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta

import typer

from services.catalog import consumers
from services.cli.console import out, read_environment, run_async
from shared.crm.masking import printable
from shared.errors import MeshError
from shared.pbx.port import Finding
from shared.runtime.platform import open_platform
from shared.runtime.service import Platform
from shared.site.crmcheck import check_crm


def register(app: typer.Typer) -> None:
    app.command()(doctor)


def doctor() -> None:
    """Try every connection; exit 1 when one is not as it should be."""
    raise typer.Exit(run_async(_doctor()))


async def _doctor() -> int:
    choice = read_environment(quiet=True)
    well = True
    async with open_platform(choice, consumers=consumers(), serving=False) as platform:
        async for finding in examine(platform):
            show(finding)
            well = well and finding.fault is None
    return 0 if well else 1


def show(finding: Finding) -> None:
    out.print("[green]✓[/]" if finding.fault is None else "[red]✗[/]", end=" ")
    out.print(printable(finding.what), markup=False)
    if finding.fault is not None:
        # What the other side said is part of it.
        out.print(f"    {printable(finding.fault)}", markup=False)


async def examine(platform: Platform) -> AsyncIterator[Finding]:
    """Store, bus, then what each tenant has set up."""
    yield await _store(platform)
    yield await _bus(platform)
    try:
        await platform.site.refresh()
    except MeshError as error:
        yield Finding("sites", error.message)
        return
    if not platform.site.current:
        yield Finding(
            "sites",
            "there is no tenant yet; write a site file and `callmesh apply` it. If there should be "
            "one: is this the folder (CALLMESH_DATA_DIR), or the database, of the running mesh?",
        )
    connections = platform.crm_connections()
    adapters = platform.pbx_adapters()
    for site in platform.site.current.values():
        for pbx in site.pbx:
            async for found in adapters.check(site, pbx):
                yield Finding(f"{site.tenant}: PBX {pbx.name}: {found.what}", found.fault)
        for crm in site.crm:
            async for found in check_crm(site, crm, connections):
                yield Finding(f"{site.tenant}: {found.what}", found.fault)


async def _store(platform: Platform) -> Finding:
    try:
        ready = await platform.store.ready()
    except MeshError as error:
        return Finding("store", error.message)
    fault = "no answer; is the server up, and CALLMESH_MONGO_URL right?"
    return Finding("store", None if ready else fault)


async def _bus(platform: Platform) -> Finding:
    try:
        await platform.bus.start()
        ready = await platform.bus.ready()
        await platform.bus.stop(drain=timedelta(0))
    except MeshError as error:
        return Finding("bus", error.message)
    fault = "no answer; is the broker up, and CALLMESH_AMQP_URL right?"
    return Finding("bus", None if ready else fault)
