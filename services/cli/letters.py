"""``dead-letters``: what no handler could take."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import track
from rich.table import Table

from services.catalog import CATALOG
from services.cli.console import looking, out, run_async
from services.cli.noting import noted
from shared.bus.port import DeadLetter, DeadLetters, WhichLetters
from shared.errors import ContractError, NotFound


def register(app: typer.Typer) -> None:
    letters = typer.Typer(help="Messages that no handler could take.", no_args_is_help=True)
    letters.command("list")(list_letters)
    letters.command("show")(show)
    letters.command("replay")(replay)
    app.add_typer(letters, name="dead-letters")


@asynccontextmanager
async def _letters(*, replaying: str = "") -> AsyncIterator[DeadLetters]:
    """*replaying*: which, for the audit log."""
    async with looking() as platform:
        await platform.bus.start()
        try:
            if not replaying:
                yield platform.bus.dead_letters
                return
            async with noted(platform, (), "replay_letters", replaying):
                yield platform.bus.dead_letters
        finally:
            await platform.bus.stop(drain=timedelta(0))


def list_letters(
    service: Annotated[str | None, typer.Option(help="Of one service only.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 100,
) -> None:
    """List dead letters, oldest first."""

    async def work() -> list[DeadLetter]:
        async with _letters() as letters:
            if service is not None and service not in CATALOG:
                raise NotFound(f"there is no service {service}; there are: {', '.join(CATALOG)}")
            return list(await letters.list(WhichLetters(service=service), limit=limit))

    found = run_async(work())
    if not found:
        out.print("no dead letters")
        return
    table = Table("letter", "died", "service", "message", "tenant", "tries", "why")
    for letter in found:
        table.add_row(
            letter.letter_id,
            f"{letter.died_at:%Y-%m-%d %H:%M:%S}",
            letter.service,
            letter.type,
            letter.tenant or "?",
            str(letter.attempts),
            escape(letter.error),
        )
    out.print(table)


def show(letter: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """Show one dead letter with its message."""

    async def work() -> DeadLetter:
        async with _letters() as letters:
            return await letters.get(letter)

    found = run_async(work())
    for name, value in found.model_dump(mode="json", exclude={"message"}).items():
        out.print(f"{name}: {value}", markup=False)
    try:
        out.print_json(found.message)
    except json.JSONDecodeError:
        out.print(found.message, markup=False)


def replay(
    letters: Annotated[
        list[str] | None, typer.Argument(help="As `list` shows them.", metavar="[LETTER]...")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every letter there is.")] = False,
    service: Annotated[str | None, typer.Option(help="With --all: of one service.")] = None,
) -> None:
    """Give dead letters to their services again, as first attempts."""
    if bool(letters) == every:
        raise ContractError("name letters, or say --all")

    async def work() -> int:
        said = ", ".join(letters or ()) or f"all letters{f' of {service}' if service else ''}"
        async with _letters(replaying=said) as box:
            wanted = list(letters or ())
            if every:
                found = await box.list(WhichLetters(service=service), limit=10_000)
                wanted = [letter.letter_id for letter in found]
            for letter in track(wanted, "replaying", console=out, disable=not out.is_terminal):
                await box.replay(letter)
            return len(wanted)

    out.print(f"replayed {run_async(work())}")
