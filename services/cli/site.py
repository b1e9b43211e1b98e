"""``apply`` and ``new-key``: what an administrator sets up."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from services.cli.console import looking, out, run_async
from services.cli.noting import noted
from shared.errors import BadSetting
from shared.secrets import new_key as make_key
from shared.site.apply import carry_out, plan
from shared.site.file import read_site_file
from shared.site.parts import Sealing
from shared.site.templated import Surroundings


def register(app: typer.Typer) -> None:
    app.command()(apply)
    app.command("new-key")(new_key)


def apply(
    file: Annotated[Path, typer.Argument(help="A site file.", metavar="SITE.YAML")],
    dry_run: Annotated[bool, typer.Option(help="Show what would change, change nothing.")] = False,
    prune: Annotated[
        bool, typer.Option(help="Also remove what the store has and the file has not.")
    ] = False,
) -> None:
    """Make the mesh say what SITE.YAML says: tenants, connections, agents, hours, rules.

    Running services notice within a second. Applying the same file again changes nothing.
    """
    try:
        text = file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{file}: cannot be read: {error}") from None
    run_async(_apply(file, text, dry_run=dry_run, prune=prune))


async def _apply(file: Path, text: str, *, dry_run: bool, prune: bool) -> None:
    async with looking() as platform:
        sealing = Sealing(platform.secrets, os.environ, file.parent)  # noqa: TID251  {env: NAME} in the file
        around = Surroundings(platform.templates, platform.http.may_be_plain)
        sites = read_site_file(text, source=str(file), sealing=sealing, around=around)
        desk = platform.rule_desk()
        wanted = await plan(sites, desk, by=f"apply {file.name}", prune=prune)
        for change in wanted.changes:
            out.print(str(change), markup=False)
        if any(change.sign == "=" for change in wanted.changes):
            out.print("(= is not in the file and stays; --prune removes it)", markup=False)
        if not wanted.tenants:
            out.print("nothing to change")
        elif dry_run:
            out.print("dry run: nothing was changed")
        else:
            words = f"{file.name}: {len(wanted.changes)} change(s)"
            async with noted(platform, wanted.tenants, "apply", words):
                await carry_out(wanted, desk)
            out.print(f"applied to {len(wanted.tenants)} tenant(s)")


def new_key() -> None:
    """Print a new key for CALLMESH_SECRET_KEYS."""
    typer.echo(make_key().get_secret_value())
