"""``pbx``: the connections to PBXs."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from services.cli.console import looking, named_pbx, out, run_async
from services.cli.doctor import show
from services.ingest.store import LINKS, LinkBook
from shared.crm.masking import printable
from shared.pbx.port import Finding


def register(app: typer.Typer) -> None:
    pbx = typer.Typer(help="Connections to PBXs.", no_args_is_help=True)
    pbx.command("list")(list_pbx)
    pbx.command("check")(check)
    app.add_typer(pbx, name="pbx")


def list_pbx() -> None:
    """List every tenant's PBX connections, and how they are in the running services."""

    async def work() -> Table:
        table = Table("tenant", "pbx", "kind", "connected", "clock", "fault")
        async with looking() as platform:
            await platform.site.refresh()
            book = LinkBook(platform.store.collection(LINKS), platform.clock)
            for tenant, site in platform.site.current.items():
                for pbx in site.pbx:
                    links = await book.links(tenant, pbx.name)
                    up = sum(link.connected for link in links)
                    clocks = [link.clock_ahead_seconds for link in links]
                    ahead = next((clock for clock in clocks if clock is not None), None)
                    fault = next((link.fault for link in links if link.fault), "")
                    table.add_row(
                        tenant,
                        pbx.name,
                        pbx.kind,
                        f"{up} of {len(links)}" if links else "-",
                        f"{ahead:+.1f} s" if ahead is not None else "-",
                        escape(printable(fault)),
                    )
        return table

    out.print(run_async(work()))


def check(
    connection: Annotated[str, typer.Argument(metavar="TENANT/PBX", help="Which connection.")],
) -> None:
    """Try one PBX connection; exit 1 when something is not as it should be."""

    async def work() -> list[Finding]:
        async with looking() as platform:
            await platform.site.refresh()
            _, site, pbx = named_pbx(platform, connection)
            return [found async for found in platform.pbx_adapters().check(site, pbx)]

    found = run_async(work())
    for one in found:
        show(one)
    raise typer.Exit(0 if all(one.fault is None for one in found) else 1)
