"""``up`` and ``run``: the services."""

from __future__ import annotations

from typing import Annotated

import typer

from services.catalog import CATALOG, consumers
from services.cli.console import read_environment, run_async
from shared.errors import BadSetting
from shared.runtime.host import run_until_signal
from shared.runtime.platform import open_platform
from shared.runtime.settings import HttpSettings, OpsSettings


def register(app: typer.Typer) -> None:
    app.command()(up)
    app.command()(run)


def up() -> None:
    """Run all services in this process, by default on the embedded bus and store."""
    raise typer.Exit(run_async(_serve(list(CATALOG))))


def run(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="ingest, lookup, …")],
) -> None:
    """Run the services NAME… in this process."""
    unknown = [name for name in names if name not in CATALOG]
    if unknown:
        raise BadSetting(f"there is no service {unknown[0]}; there are: {', '.join(CATALOG)}")
    raise typer.Exit(run_async(_serve(list(dict.fromkeys(names)))))


async def _serve(names: list[str]) -> int:
    choice = read_environment()
    http, ops = HttpSettings.read(), OpsSettings.read()
    async with open_platform(choice, consumers=consumers()) as platform:
        return await run_until_signal(
            [CATALOG[name].build for name in names],
            platform,
            http=http,
            ops=ops,
            drain=choice.mesh.drain,
        )
