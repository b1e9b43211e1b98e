"""``entries``: calls on their way into the CRMs, and those that did not get there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from services.cli.console import looking, out, run_async
from services.journal.store import ENTRIES, EntryBook, EntryDocument
from shared.contracts.calls import EntryState
from shared.errors import ContractError, NotFound


def register(app: typer.Typer) -> None:
    entries = typer.Typer(help="Calls on their way into the CRMs.", no_args_is_help=True)
    entries.command("list")(list_entries)
    entries.command("retry")(retry)
    app.add_typer(entries, name="entries")


@asynccontextmanager
async def _entries() -> AsyncIterator[EntryBook]:
    async with looking() as platform:
        yield EntryBook(platform.store.collection(ENTRIES), platform.clock)


def list_entries(
    state: Annotated[
        EntryState, typer.Option(help="due: waits to be sent, or to be tried again.")
    ] = EntryState.FAILED,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 100,
) -> None:
    """List entries in one state, oldest first, with the reason."""

    async def work() -> list[EntryDocument]:
        found: list[EntryDocument] = []
        async with _entries() as entries:
            async for entry in entries.in_state(state):
                found.append(entry)
                if len(found) == limit:
                    break
        return found

    found = run_async(work())
    if not found:
        out.print(f"no entries are {state}")
        return
    table = Table("tenant", "call", "crm", "since", "tries", "why")
    for entry in found:
        since = f"{entry.wanted_at:%Y-%m-%d %H:%M:%S}"
        why = escape(entry.reason or "")
        table.add_row(
            entry.tenant, entry.call_id, entry.connection, since, str(entry.attempts), why
        )
    out.print(table)


def retry(
    calls: Annotated[
        list[str] | None,
        typer.Argument(help="Calls, as `list` shows them.", metavar="[CALL]..."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every entry that has failed.")] = False,
) -> None:
    """Send failed entries after all, once what was wrong is mended."""
    if bool(calls) == every:
        raise ContractError("name calls, or say --all")

    async def work() -> int:
        async with _entries() as entries:
            failed = [entry async for entry in entries.in_state(EntryState.FAILED)]
            wanted = [e for e in failed if every or e.call_id in (calls or ())]
            if missing := set(calls or ()) - {entry.call_id for entry in wanted}:
                raise NotFound(f"no failed entry of call {', '.join(sorted(missing))}")
            for entry in wanted:
                await entries.retry(entry)
            return len(wanted)

    out.print(f"{run_async(work())} will be tried again")
