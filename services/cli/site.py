"""``apply``, ``keys`` and ``new-key``: what an administrator sets up."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

from services.cli.console import looking, out, run_async
from shared.errors import BadSetting, Conflict, ContractError, NotFound
from shared.faults import faults_in
from shared.http.auth import Scope
from shared.moments import to_duration
from shared.secrets import new_key as make_key
from shared.site.apply import carry_out, plan
from shared.site.file import read_site_file
from shared.site.parts import Sealing
from shared.site.templated import Surroundings

#: What nobody may do for one phone alone.
_OF_THE_TENANT = frozenset(
    {Scope.SITE_READ, Scope.SITE_WRITE, Scope.JOURNAL_READ, Scope.JOURNAL_WRITE}
)


def register(app: typer.Typer) -> None:
    app.command()(apply)
    app.command("new-key")(new_key)
    keys = typer.Typer(help="API keys.", no_args_is_help=True)
    keys.command("issue")(issue)
    keys.command("list")(list_keys)
    keys.command("revoke")(revoke)
    app.add_typer(keys, name="keys")


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
            await carry_out(wanted, desk)
            out.print(f"applied to {len(wanted.tenants)} tenant(s)")


def new_key() -> None:
    """Print a new key for CALLMESH_SECRET_KEYS."""
    typer.echo(make_key().get_secret_value())


def issue(
    tenant: Annotated[str, typer.Option(help="Whose key it is.")],
    name: Annotated[str, typer.Option(help="What it is for: pbx-berlin, agent-101.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may do; may be given again.")],
    extension: Annotated[
        str | None, typer.Option(help="Only what concerns this agent's phone.")
    ] = None,
    expires_in: Annotated[str | None, typer.Option(help="90d, 12h; without it, never.")] = None,
) -> None:
    """Make an API key and print it: the only time it is shown."""
    lifetime = to_duration(expires_in) if expires_in else None
    if expires_in and not isinstance(lifetime, timedelta):
        raise ContractError(f"--expires-in {expires_in}: say 90d, 12h or 30m")
    if extension is not None and (whole := _OF_THE_TENANT & set(scope)):
        raise ContractError(
            f"--extension {extension}: {', '.join(sorted(whole))} is about the whole tenant; "
            "issue a key without --extension for it"
        )

    async def work() -> str:
        async with looking() as platform:
            await platform.site.refresh()
            if platform.site.site(tenant) is None:
                raise NotFound(f"there is no tenant {tenant}; `callmesh apply` its site file first")
            try:
                secret = await platform.keys.issue(
                    tenant=tenant,
                    name=name,
                    scopes=tuple(scope),
                    extension=extension,
                    expires_at=platform.clock.now() + lifetime if lifetime else None,
                )
            except ValidationError as error:
                raise ContractError(faults_in(error)) from None
            except Conflict:
                raise Conflict(
                    f"tenant {tenant} has a key {name}; revoke it, or take another name"
                ) from None
        return secret.get_secret_value()

    typer.echo(run_async(work()))


def list_keys(tenant: Annotated[str, typer.Option(help="Whose keys.")]) -> None:
    """List a tenant's API keys; the keys themselves are not kept."""

    async def work() -> Table:
        table = Table("name", "scopes", "extension", "made", "expires")
        async with looking() as platform:
            for key in await platform.keys.list(tenant):
                table.add_row(
                    key.name,
                    " ".join(key.scopes),
                    key.extension or "",
                    f"{key.created_at:%Y-%m-%d %H:%M}",
                    f"{key.expires_at:%Y-%m-%d %H:%M}" if key.expires_at else "never",
                )
        return table

    out.print(run_async(work()))


def revoke(
    tenant: Annotated[str, typer.Option(help="Whose key.")],
    name: Annotated[str, typer.Option(help="Its name.")],
) -> None:
    """End an API key, at once."""

    async def work() -> None:
        async with looking() as platform:
            await platform.keys.revoke(tenant=tenant, name=name)

    run_async(work())
    out.print(f"revoked {name}", markup=False)
