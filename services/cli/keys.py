"""``keys``: API keys, made, listed, rotated, revoked; also those of operators."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.table import Table

from services.cli.console import looking, out, run_async
from services.cli.noting import noted
from services.gateway.access.desk import AccessDesk
from services.gateway.access.wanted import Terms
from shared.errors import Conflict, ContractError, NotFound
from shared.faults import faults_in
from shared.http.apikey import LONGEST_LIFE
from shared.http.auth import (
    ANY_SCOPE,
    API_USERS,
    OF_THE_INSTALLATION,
    OF_THE_TENANT,
    Caller,
    Scope,
)
from shared.http.callers import in_words
from shared.moments import to_duration
from shared.runtime.service import Platform

_LONGEST_OVERLAP = timedelta(days=7)

Tenant = Annotated[str, typer.Option(help="Whose key it is.")]
Name = Annotated[str, typer.Option(help="Its name.")]
ExpiresIn = Annotated[str | None, typer.Option(help="90d, 12h; without it, never.")]


def register(app: typer.Typer) -> None:
    keys = typer.Typer(help="API keys.", no_args_is_help=True)
    keys.command("issue")(issue)
    keys.command("list")(list_keys)
    keys.command("rotate")(rotate)
    keys.command("revoke")(revoke)
    app.add_typer(keys, name="keys")


def access_desk(platform: Platform) -> AccessDesk:
    users = platform.store.collection(API_USERS)
    return AccessDesk(users, platform.keys, platform.key_uses, platform.clock)


def at_keyboard(tenant: str) -> Caller:
    """Whoever may run commands may do all."""
    return Caller(tenant=tenant, key_name="cli", scopes=ANY_SCOPE)


async def check_tenant(platform: Platform, tenant: str) -> None:
    """Raises: NotFound."""
    await platform.site.refresh()
    if platform.site.site(tenant) is None:
        raise NotFound(f"there is no tenant {tenant}; `callmesh apply` its site file first")


def issue(  # noqa: PLR0917  options of a command
    tenant: Tenant,
    name: Annotated[str, typer.Option(help="What it is for: pbx-berlin, agent-101.")],
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What it may do; may be given again. With --user: all that he may."),
    ] = None,
    user: Annotated[
        str | None, typer.Option(help="Of this user of the API: it may never do more than he.")
    ] = None,
    operator: Annotated[
        bool,
        typer.Option(
            "--operator",
            help="It acts in every tenant, and manages them: with tenants:read and tenants:write.",
        ),
    ] = False,
    extension: Annotated[
        str | None, typer.Option(help="Only what concerns this agent's phone.")
    ] = None,
    expires_in: ExpiresIn = None,
) -> None:
    """Make an API key and print it: the only time it is shown."""
    scopes = _scopes(scope, user=user, operator=operator)
    lifetime = _lifetime(expires_in)
    if scopes is not None:
        _check_phone(scopes, extension)

    async def work() -> str:
        async with looking() as platform:
            await check_tenant(platform, tenant)
            ends = platform.clock.now() + lifetime if lifetime else None
            words = f"key {name}{f' of {user}' if user else ''}: "
            words += in_words(scopes) if scopes is not None else "all he may"
            async with noted(platform, tenant, "issue_key", words):
                if user is not None:
                    terms = Terms(scopes=scopes, extension=extension, expires_at=ends)
                    desk = access_desk(platform)
                    made = await desk.issue(at_keyboard(tenant), user, name, terms)
                    return made.token.get_secret_value()
                return await _issued(
                    platform,
                    tenant=tenant,
                    name=name,
                    scopes=scopes or frozenset(),
                    extension=extension,
                    expires_at=ends,
                )

    typer.echo(run_async(work()))


async def _issued(
    platform: Platform,
    *,
    tenant: str,
    name: str,
    scopes: frozenset[Scope],
    extension: str | None,
    expires_at: datetime | None,
) -> str:
    try:
        secret = await platform.keys.issue(
            tenant=tenant,
            name=name,
            scopes=tuple(sorted(scopes)),
            extension=extension,
            expires_at=expires_at,
        )
    except ValidationError as error:
        raise ContractError(faults_in(error)) from None
    except Conflict:
        raise Conflict(
            f"tenant {tenant} has a key {name}; revoke it, or take another name"
        ) from None
    return secret.get_secret_value()


def _scopes(
    said: list[Scope] | None, *, user: str | None, operator: bool
) -> frozenset[Scope] | None:
    """None: all that the user may. Raises: ContractError."""
    scopes = frozenset(said or ())
    if operator:
        return scopes | OF_THE_INSTALLATION
    if whole := scopes & OF_THE_INSTALLATION:
        raise ContractError(
            f"--scope {in_words(whole)}: such a key acts in every tenant; say --operator if it shall"
        )
    if not scopes and user is None:
        raise ContractError("say --scope, what the key may do; or --user, whose it is")
    return scopes or None


def list_keys(tenant: Annotated[str, typer.Option(help="Whose keys.")]) -> None:
    """List a tenant's API keys; the keys themselves are not kept."""

    async def work() -> Table:
        table = Table("name", "user", "scopes", "extension", "made", "expires", "last used")
        async with looking() as platform:
            now = platform.clock.now()
            for held in await access_desk(platform).keys(tenant):
                key = held.key
                table.add_row(
                    key.name,
                    key.user or "",
                    " ".join(key.scopes),
                    key.extension or "",
                    f"{key.rotated_at or key.created_at:%Y-%m-%d %H:%M}",
                    _end(key.expires_at, now),
                    f"{held.use.at:%Y-%m-%d %H:%M} {held.use.peer}" if held.use else "never",
                )
        return table

    out.print(run_async(work()))


def rotate(
    tenant: Tenant,
    name: Name,
    overlap: Annotated[
        str, typer.Option(help="How long the old one is good beside the new: 1h, at most 7d.")
    ] = "0s",
    expires_in: Annotated[
        str | None, typer.Option(help="90d, 12h; without it, as long as it was made to.")
    ] = None,
) -> None:
    """Give an API key a new token and print it: the only time it is shown."""
    beside, lifetime = _span(overlap, "--overlap"), _lifetime(expires_in)
    if beside is None or beside > _LONGEST_OVERLAP:
        raise ContractError(f"--overlap {overlap}: at most 7d")

    async def work() -> str:
        async with looking() as platform:
            words = f"key {name}, overlap {beside.total_seconds():g} s"
            async with noted(platform, tenant, "rotate_key", words):
                made = await access_desk(platform).rotate(
                    at_keyboard(tenant),
                    name,
                    user=None,
                    overlap=beside,
                    expires_at=platform.clock.now() + lifetime if lifetime else None,
                )
        return made.token.get_secret_value()

    typer.echo(run_async(work()))


def revoke(
    tenant: Annotated[str, typer.Option(help="Whose key.")],
    name: Name,
) -> None:
    """End an API key, with every token it had: within five seconds."""

    async def work() -> None:
        async with looking() as platform, noted(platform, tenant, "revoke_key", f"key {name}"):
            await access_desk(platform).revoke(at_keyboard(tenant), name, user=None, confirmed=True)

    run_async(work())
    out.print(f"revoked {name}", markup=False)


def _check_phone(scopes: frozenset[Scope], extension: str | None) -> None:
    if extension is not None and (whole := OF_THE_TENANT & scopes):
        raise ContractError(
            f"--extension {extension}: {in_words(whole)} is about the whole tenant; issue a key "
            "without --extension for it"
        )


def _span(text: str | None, option: str) -> timedelta | None:
    try:
        found = to_duration(text) if text else None
    except ValueError as error:
        raise ContractError(f"{option} {text}: {error}") from None
    if text and not isinstance(found, timedelta):
        raise ContractError(f"{option} {text}: say 90d, 12h or 30m")
    if found is not None and found > LONGEST_LIFE:
        raise ContractError(
            f"{option} {text}: at most {LONGEST_LIFE.days}d; for longer, leave it out"
        )
    return found


def _lifetime(expires_in: str | None) -> timedelta | None:
    """None: as the command says without it."""
    found = _span(expires_in, "--expires-in")
    if expires_in is not None and not found:
        raise ContractError(f"--expires-in {expires_in}: that is over at once; say 90d or 12h")
    return found


def _end(expires_at: datetime | None, now: datetime) -> str:
    if expires_at is None:
        return "never"
    return f"{expires_at:%Y-%m-%d %H:%M}{' (over)' if expires_at <= now else ''}"
