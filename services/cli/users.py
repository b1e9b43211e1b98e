"""``users``: the people and programs that use a tenant's API; not those of its CRM."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from services.cli.console import looking, out, run_async
from services.cli.keys import access_desk, at_keyboard, check_tenant
from services.cli.noting import noted
from services.gateway.access.wanted import Draft
from shared.crm.masking import printable
from shared.errors import ContractError, NotFound
from shared.faults import faults_in
from shared.http.auth import ApiUser, Scope
from shared.http.callers import in_words

_Edit = Callable[[Draft | None], Draft]

Tenant = Annotated[str, typer.Option(help="Whose users.")]
Name = Annotated[str, typer.Argument(help="The user.")]


def register(app: typer.Typer) -> None:
    users = typer.Typer(
        help="Who uses the API: a user's keys may never do more than he.", no_args_is_help=True
    )
    users.command("list")(list_users)
    users.command("put")(put)
    users.command("disable")(disable)
    users.command("enable")(enable)
    users.command("remove")(remove)
    app.add_typer(users, name="users")


def list_users(tenant: Tenant) -> None:
    """List a tenant's users of the API."""

    async def work() -> Table:
        table = Table("name", "title", "e-mail", "scopes", "extension", "rate", "is")
        async with looking() as platform:
            for user in await access_desk(platform).users(tenant):
                table.add_row(
                    user.name,
                    escape(printable(user.title)),
                    escape(printable(user.email or "")),
                    " ".join(user.scopes),
                    user.extension or "",
                    f"{user.rate}/s" if user.rate else "",
                    "disabled" if user.disabled else "enabled",
                )
        return table

    out.print(run_async(work()))


def put(  # noqa: PLR0917  options of a command
    name: Name,
    tenant: Tenant,
    scope: Annotated[
        list[Scope] | None,
        typer.Option(help="What all his keys may do at most; may be given again."),
    ] = None,
    title: Annotated[str | None, typer.Option(help="As people call him.")] = None,
    email: Annotated[str | None, typer.Option(help="Empty: none.")] = None,
    extension: Annotated[
        str | None, typer.Option(help="His keys are for this agent's phone alone; empty: for all.")
    ] = None,
    rate: Annotated[
        int | None, typer.Option(help="Requests a second of each of his keys; 0: as all others.")
    ] = None,
) -> None:
    """Make a user, or change what is said of one.

    What he loses, all his keys lose within five seconds.
    """

    def edit(there: Draft | None) -> Draft:
        if there is None and not scope:
            raise ContractError("say --scope: what all keys of the new user may do at most")
        draft = there or _NOTHING
        said = {
            "title": title,
            "email": email,
            "extension": extension,
            "rate": rate,
            "scopes": frozenset(scope) if scope else None,
        }
        emptied = {"email", "extension", "rate"}
        known = {
            word: (value or None) if word in emptied else value
            for word, value in said.items()
            if value is not None
        }
        return replace(draft, **known)  # type: ignore[arg-type]  # by name

    new = run_async(_edit(tenant, name, edit))
    out.print(f"{tenant}/{name}: {in_words(new.scopes) or 'nothing'}", markup=False)


def disable(name: Name, tenant: Tenant) -> None:
    """None of a user's keys is good any more, until he is enabled again: within five seconds."""
    run_async(_edit(tenant, name, lambda there: replace(_there(there, name), disabled=True)))
    out.print(f"disabled {tenant}/{name}", markup=False)


def enable(name: Name, tenant: Tenant) -> None:
    """A user's keys are good again."""
    run_async(_edit(tenant, name, lambda there: replace(_there(there, name), disabled=False)))
    out.print(f"enabled {tenant}/{name}", markup=False)


def remove(name: Name, tenant: Tenant) -> None:
    """Remove a user, and end all his keys."""

    async def work() -> None:
        async with looking() as platform, noted(platform, tenant, "delete_user", f"user {name}"):
            await access_desk(platform).delete_user(
                at_keyboard(tenant), name, only_if=lambda _: None, confirmed=True
            )

    run_async(work())
    out.print(f"removed {tenant}/{name}", markup=False)


_NOTHING = Draft(
    title="", email=None, scopes=frozenset(), extension=None, disabled=False, rate=None
)


async def _edit(tenant: str, name: str, edit: _Edit) -> ApiUser:
    async with looking() as platform:
        await check_tenant(platform, tenant)
        desk = access_desk(platform)
        try:
            there: ApiUser | None = await desk.user(tenant, name)
        except NotFound:
            there = None
        draft = edit(_draft(there) if there is not None else None)
        words = f"user {name}: {in_words(draft.scopes)}"
        async with noted(platform, tenant, "put_user", words):
            try:
                return await desk.put_user(
                    at_keyboard(tenant), name, draft, only_if=lambda _: None, confirmed=True
                )
            except ValidationError as error:
                raise ContractError(faults_in(error)) from None
            except ContractError as error:
                raise ContractError(error.message.replace("body.", "--")) from None


def _draft(user: ApiUser) -> Draft:
    return Draft(
        title=user.title,
        email=user.email,
        scopes=frozenset(user.scopes),
        extension=user.extension,
        disabled=user.disabled,
        rate=user.rate,
    )


def _there(draft: Draft | None, name: str) -> Draft:
    if draft is None:
        raise NotFound(f"there is no user {name}")
    return draft
