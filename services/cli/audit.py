"""``audit``: who changed what, over the API and by commands."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from services.cli.console import looking, out, run_async
from services.cli.noting import audit_log
from services.cli.times import moment
from services.gateway.store import AuditEntry, Outcome
from shared.crm.masking import printable
from shared.storage.port import Find, Is, Op

_PAGE = 500


def register(app: typer.Typer) -> None:
    app.command()(audit)


def audit(  # noqa: PLR0917  options of a command
    tenant: Annotated[
        str | None,
        typer.Option(help="Of this tenant alone; `(none)`: who came with no key we know."),
    ] = None,
    key: Annotated[str | None, typer.Option(help="By this API key; `(cli)`: by commands.")] = None,
    user: Annotated[str | None, typer.Option(help="By keys of this user of the API.")] = None,
    action: Annotated[str | None, typer.Option(help="This was done: dial, put_pbx.")] = None,
    outcome: Annotated[Outcome | None, typer.Option(help="With this outcome.")] = None,
    text: Annotated[str | None, typer.Option(help="With this in its words.")] = None,
    since: Annotated[str, typer.Option(help="Since: 6h ago, or 2026-12-24T18:30.")] = "7d",
    until: Annotated[str, typer.Option(help="Before.")] = "0s",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 50,
) -> None:
    """List who changed what, the latest first."""

    async def work() -> list[AuditEntry]:
        exact = {
            "tenant": tenant,
            "key_name": key,
            "user": user,
            "action": action,
            "outcome": outcome,
        }
        found: list[AuditEntry] = []
        async with looking() as platform:
            now, log = platform.clock.now(), audit_log(platform)
            query = Find(
                equals={name: value for name, value in exact.items() if value is not None},
                since={"at": moment(since, "--since", now=now, zone="UTC")},
                until={"at": moment(until, "--until", now=now, zone="UTC")},
                where=Is("subject", Op.CONTAINS, text) if text else None,
                order_by="at",
                descending=True,
                limit=min(limit, _PAGE),
            )
            async for entry in log.every(query):
                found.append(entry)
                if len(found) == limit:
                    break
        return found

    found = run_async(work())
    if not found:
        out.print("nothing is in the audit log of this")
        return
    table = Table("at (UTC)", "tenant", "by", "what", "about", "outcome", "from")
    for entry in found:
        table.add_row(*(escape(printable(text)) for text in _cells(entry)))
    out.print(table)


def _cells(entry: AuditEntry) -> tuple[str, ...]:
    by = f"{entry.key_name} of {entry.user}" if entry.user else entry.key_name
    if entry.home_tenant is not None:
        by = f"{entry.home_tenant}'s {by}"
    about = entry.subject or " ".join(f"{name} {text}" for name, text in entry.ids.items())
    outcome = f"{entry.outcome} {entry.status}" if entry.status else str(entry.outcome)
    return (
        f"{entry.at:%Y-%m-%d %H:%M:%S}",
        entry.tenant,
        by,
        entry.action,
        about,
        f"{outcome} {entry.code}" if entry.code else outcome,
        entry.peer,
    )
