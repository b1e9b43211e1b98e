"""``crm telephony``: the module of ours that a CRM has, as it stands, and registering it now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from services.cli.console import looking, out, run_async
from services.cli.noting import noted
from services.lookup.app import module_keeper
from shared.contracts.modules import ModuleRecord
from shared.crm.masking import printable
from shared.errors import NotFound
from shared.runtime.service import Platform
from shared.site.models import CrmConnection, Site

_Tenant = Annotated[str, typer.Argument(help="Whose connection.")]
_Name = Annotated[str, typer.Argument(help="The connection's name in the site file.")]


def register(crm: typer.Typer) -> None:
    group = typer.Typer(
        help="The CRM's own telephony module: calls out of it, its users' status, its cards.",
        no_args_is_help=True,
    )
    group.command("show")(show)
    group.command("register")(register_now)
    crm.add_typer(group, name="telephony")


def show(tenant: _Tenant, name: _Name) -> None:
    """Show how the module stands: what the CRM was told, and what it has otherwise."""

    async def work() -> ModuleRecord:
        async with looking() as platform:
            site, crm = await _connection(platform, tenant, name)
            connections = platform.crm_connections()
            try:
                return await module_keeper(platform, connections).state(site, crm)
            finally:
                await connections.close()

    _print(run_async(work()))


def register_now(tenant: _Tenant, name: _Name) -> None:
    """Register the module now, and read it back.

    The mesh does it by itself: when the site changes, and where it differs every hour.
    """

    async def work() -> ModuleRecord:
        async with looking() as platform:
            site, crm = await _connection(platform, tenant, name)
            connections = platform.crm_connections()
            try:
                async with noted(platform, tenant, "register_telephony", f"connection {name}"):
                    return await module_keeper(platform, connections).register(site, crm)
            finally:
                await connections.close()

    _print(run_async(work()))


async def _connection(platform: Platform, tenant: str, name: str) -> tuple[Site, CrmConnection]:
    """Raises: NotFound."""
    await platform.site.refresh()
    site = platform.site.site(tenant)
    crm = site.crm_named(name) if site else None
    if site is None or crm is None:
        raise NotFound(f"there is no CRM connection {name} of tenant {tenant}")
    return site, crm


def _print(record: ModuleRecord) -> None:
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, text in _lines(record):
        table.add_row(name, escape(printable(text)))
    out.print(table)


def _lines(record: ModuleRecord) -> Iterator[tuple[str, str]]:
    yield "wanted", "yes" if record.wanted else "no: `telephony: {registered: true}` is not set"
    if not record.possible:
        yield "possible", "no: the template registers none, or cannot be used as it is set up"
    yield "registered", f"as {record.code}, {_at(record.registered_at)}" if record.active else "no"
    if record.active:
        yield "extensions", ", ".join(record.extensions) or "none: no user of the CRM is known"
        shops = (f"{shop} {number}" for shop, number in record.shops.items())
        yield "shops", ", ".join(shops) or "none"
        yield "compared", _at(record.checked_at)
    if record.mended:
        yield "put right", f"{_at(record.mended_at)}: {'; '.join(record.mended)}"
    if record.differs:
        yield "differs", "; ".join(record.differs)
    if record.unknown:
        yield "unknown there", ", ".join(record.unknown)
    if record.unreached:
        yield "saw no card", ", ".join(one.code for one in record.unreached)
    if record.fault:
        yield "fault", record.fault


def _at(moment: datetime | None) -> str:
    return "never" if moment is None else moment.isoformat(timespec="seconds")
