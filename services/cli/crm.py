"""``crm``: connecting a CRM by its user's consent, and who of its users sits at which phone."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

import typer
from rich.markup import escape
from rich.prompt import Prompt
from rich.table import Table
from yarl import URL

from services.cli import telephony
from services.cli.console import looking, out, run_async
from services.cli.noting import noted
from shared.crm.connections import Account, CrmConnections
from shared.crm.masking import printable
from shared.crm.users import Unmatched, matched, unmatched
from shared.errors import NotFound, Rejected
from shared.runtime.service import Platform
from shared.site.accounts import account_of, seats_of
from shared.site.models import CrmConnection, Site

_WITHIN = timedelta(seconds=30)
_REDIRECT = "https://localhost/callmesh"


def register(app: typer.Typer) -> None:
    group = typer.Typer(help="CRM connections.", no_args_is_help=True)
    group.command("connect")(connect)
    group.command("users")(users)
    telephony.register(group)
    app.add_typer(group, name="crm")


def connect(
    tenant: Annotated[str, typer.Argument(help="Whose connection.")],
    name: Annotated[str, typer.Argument(help="The connection's name in the site file.")],
    redirect_uri: Annotated[
        str, typer.Option(help="As it is registered with the CRM; the page need not exist.")
    ] = _REDIRECT,
) -> None:
    """Connect a CRM by the consent of one of its users (OAuth 2).

    Prints an address to open. After the consent the browser is sent on; paste the address that it
    shows then, even where the page cannot be reached.
    """

    async def work() -> None:
        async with looking() as platform:
            connections, account, _, _ = await _connection(platform, tenant, name)
            # It opens no connector: there is nothing to close.
            consents = connections.consents()
            address = await consents.begin(
                connections.connected(account), redirect_uri=redirect_uri
            )
            out.print(
                "open this address, and consent as the user whose rights callmesh shall have:"
            )
            out.print(address, markup=False)
            state, code = _answered(Prompt.ask("the address you were sent to", password=True))
            async with noted(platform, tenant, "finish_consent", f"connection {name}"):
                await consents.finish(
                    state, code, connected=lambda _, __: connections.connected(account)
                )

    run_async(work())
    out.print(f"connected {tenant}/{name}; next: callmesh doctor", markup=False)


def users(
    tenant: Annotated[str, typer.Argument(help="Whose connection.")],
    name: Annotated[str, typer.Argument(help="The connection's name in the site file.")],
) -> None:
    """List the CRM's active users, each with the extension that it is matched to."""

    async def work() -> tuple[Table, tuple[Unmatched, ...]]:
        table = Table("user id", "name", "e-mail", "extension")
        async with looking() as platform:
            connections, account, site, crm = await _connection(platform, tenant, name)
            try:
                found = await connections.connector(account).list_users(within=_WITHIN)
            finally:
                await connections.close()
            for user in matched(found, seats_of(site, crm)):
                row = (user.user_id, user.display_name, user.email or "", user.extension or "")
                table.add_row(*(escape(printable(text)) for text in row))
        return table, unmatched(found, seats_of(site, crm))

    table, without = run_async(work())
    out.print(table)
    for seat in without:
        out.print(f"agent {seat.extension}: {seat.reason}", style="yellow", markup=False)


async def _connection(
    platform: Platform, tenant: str, name: str
) -> tuple[CrmConnections, Account, Site, CrmConnection]:
    """Raises: NotFound."""
    await platform.site.refresh()
    site = platform.site.site(tenant)
    crm = site.crm_named(name) if site else None
    if site is None or crm is None:
        raise NotFound(f"there is no CRM connection {name} of tenant {tenant}")
    return platform.crm_connections(), account_of(site, crm), site, crm


def _answered(address: str) -> tuple[str, str]:
    """State and code of the address. Raises: Rejected."""
    try:
        query = URL(address.strip()).query
    except ValueError:
        raise Rejected(
            "this is no address: paste the whole of it, from the browser's bar"
        ) from None
    if "error" in query:
        raise Rejected(f"the CRM did not consent: {printable(query['error'][:100])}")
    if "state" not in query or "code" not in query:
        raise Rejected("this address has no code: paste the whole of it, from the browser's bar")
    return query["state"], query["code"]
