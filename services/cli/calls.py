"""``calls``: the history of calls: listed, shown, counted, exported."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO

import typer
from pydantic import JsonValue, ValidationError
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn
from rich.table import Table

from services.cli.console import err, looking, out, run_async
from services.cli.times import moment
from services.cli.wheres import as_test
from services.gateway.calls import sheet
from services.journal.history import CallHistory
from services.journal.store import CALLS
from shared.contracts.calls import CallRecord
from shared.contracts.columns import Operator
from shared.contracts.history import (
    COLUMNS,
    MAX_ROWS,
    SORTABLE,
    CallFilter,
    CallRows,
    CountCalls,
    SearchCalls,
    WhichCalls,
)
from shared.crm.masking import printable
from shared.errors import BadSetting, ContractError, NotFound
from shared.faults import faults_in
from shared.moments import to_instant, to_text
from shared.runtime.service import Platform
from shared.site.models import Site

_SHOWN = (
    *("started_at", "direction", "disposition", "number", "contact_name"),
    *("answered_by", "talk_s", "entries", "call_id"),
)

Tenant = Annotated[str | None, typer.Option(help="Whose calls; needed where there are several.")]
Where = Annotated[
    list[str] | None,
    typer.Option(help="A test of a field: 'talk_s > 60'. May be given again; all must hold."),
]
Since = Annotated[str | None, typer.Option(help="Started since: 6h ago, or 2026-12-24T18:30.")]
Until = Annotated[str | None, typer.Option(help="Started before.")]
Number = Annotated[str | None, typer.Option(help="With this party outside, in any spelling.")]
Extension = Annotated[str | None, typer.Option(help="That this phone had to do with.")]
FieldNames = Annotated[str | None, typer.Option("--fields", help="Of each call: a,b,c.")]


def register(app: typer.Typer) -> None:
    calls = typer.Typer(help="The history of calls.", no_args_is_help=True)
    calls.command("list")(list_calls)
    calls.command()(show)
    calls.command()(count)
    calls.command()(export)
    calls.command()(refresh)
    app.add_typer(calls, name="calls")


@dataclass(frozen=True, slots=True)
class _Asked:
    """As it stands on the command line."""

    tenant: str | None
    where: Sequence[str]
    since: str | None = None
    until: str | None = None
    number: str | None = None
    extension: str | None = None

    def which(self, platform: Platform, site: Site) -> WhichCalls:
        """Raises: ContractError."""
        tests = [as_test(text) for text in self.where]
        for text, option, operator in (
            (self.since, "--since", Operator.GE),
            (self.until, "--until", Operator.LT),
        ):
            if text is not None:
                at = moment(text, option, now=platform.clock.now(), zone=site.zone)
                tests.append(_test("started_at", operator, to_text(to_instant(at))))
        if self.number is not None:
            tests.append(_test("number", Operator.EQ, self.number))
        try:
            return WhichCalls(
                filter=CallFilter(filters=tuple(tests)) if tests else None,
                extension=self.extension,
            )
        except ValidationError as error:
            raise ContractError(faults_in(error)) from None


@dataclass(frozen=True, slots=True)
class _Desk:
    history: CallHistory
    site: Site
    which: WhichCalls

    async def count(self) -> int:
        asked = CountCalls(which=self.which)
        found = await self.history.count(self.site.tenant, asked, region=self.site.region)
        return found.count

    async def pages(self, asked: SearchCalls) -> AsyncIterator[CallRows]:
        while True:
            page = await self.history.search(self.site.tenant, asked, region=self.site.region)
            yield page
            if page.next_cursor is None:
                return
            asked = asked.model_copy(update={"cursor": page.next_cursor})


@asynccontextmanager
async def _desk(asked: _Asked) -> AsyncIterator[_Desk]:
    async with looking() as platform:
        await platform.site.refresh()
        site = _site(platform, asked.tenant)
        yield _Desk(CallHistory.at(platform.store), site, asked.which(platform, site))


def list_calls(  # noqa: PLR0917  options of a command
    tenant: Tenant = None,
    where: Where = None,
    since: Since = None,
    until: Until = None,
    number: Number = None,
    extension: Extension = None,
    fields: FieldNames = None,
    sort: Annotated[
        str, typer.Option(help=f"By this field: {', '.join(SORTABLE)}.")
    ] = "started_at",
    ascending: Annotated[bool, typer.Option(help="The smallest or oldest first.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 50,
) -> None:
    """List calls, newest first, under way or over."""
    names = _names(fields) or _SHOWN
    asked = _Asked(tenant, where or (), since, until, number, extension)

    async def work() -> list[dict[str, JsonValue]]:
        found: list[dict[str, JsonValue]] = []
        async with _desk(asked) as desk:
            question = SearchCalls(
                which=desk.which,
                fields=names,
                sort=_sort(sort),
                descending=not ascending,
                limit=min(limit, MAX_ROWS),
            )
            async for page in desk.pages(question):
                found += page.rows
                if len(found) >= limit:
                    break
        return found[:limit]

    found = run_async(work())
    if not found:
        out.print("no calls")
        return
    table = Table(*names)
    for row in found:
        table.add_row(*(escape(printable(_shown(row[name]))) for name in names))
    out.print(table)


def show(
    call: Annotated[str, typer.Argument(metavar="CALL", help="Its id, as `list` shows it.")],
) -> None:
    """Show one call: its legs, its contact, its route, its CRM entries."""

    async def work() -> CallRecord:
        async with looking() as platform:
            return (await platform.store.collection(CALLS).get(call)).record

    try:
        record = run_async(work())
    except NotFound:
        raise NotFound(f"there is no call {call}") from None
    out.print_json(record.model_dump_json(exclude_none=True))


def count(  # noqa: PLR0917  options of a command
    tenant: Tenant = None,
    where: Where = None,
    since: Since = None,
    until: Until = None,
    number: Number = None,
    extension: Extension = None,
) -> None:
    """Count calls."""
    asked = _Asked(tenant, where or (), since, until, number, extension)

    async def work() -> int:
        async with _desk(asked) as desk:
            return await desk.count()

    out.print(run_async(work()))


def export(  # noqa: PLR0917  options of a command
    file: Annotated[Path, typer.Argument(help="Where to; - is standard output.")],
    tenant: Tenant = None,
    where: Where = None,
    since: Since = None,
    until: Until = None,
    number: Number = None,
    extension: Extension = None,
    fields: FieldNames = None,
    ascending: Annotated[bool, typer.Option(help="The oldest first.")] = False,
    zone: Annotated[
        str | None, typer.Option(help="Of the times: Europe/London. [the tenant's]")
    ] = None,
) -> None:
    """Write calls as CSV: all that `list` would find. FILE is there when it is whole."""
    names = _names(fields) or tuple(COLUMNS.by_name)
    asked = _Asked(tenant, where or (), since, until, number, extension)

    async def work() -> int:
        async with _desk(asked) as desk:
            with _written(file) as target, _progress() as progress:
                return await _export(desk, target, progress)

    async def _export(desk: _Desk, target: BinaryIO, progress: Progress) -> int:
        times = sheet.zone_named(zone or desk.site.zone)
        bar = progress.add_task("calls", total=await _total(desk) if err.is_terminal else None)
        question = SearchCalls(
            which=desk.which, fields=names, descending=not ascending, limit=MAX_ROWS
        )
        done = 0
        target.write(sheet.head(names))
        async for page in desk.pages(question):
            target.write(sheet.body(page.rows, names, times))
            done += len(page.rows)
            progress.update(bar, completed=done)
        return done

    try:
        done = run_async(work())
    except BrokenPipeError:
        # Who reads has had enough. What Python would flush at its end has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(1) from None
    err.print(f"{done} call(s) written", markup=False)


def refresh(tenant: Tenant = None) -> None:
    """Make searchable what calls of an older version of callmesh say; the same again does no harm."""

    async def work() -> int:
        async with looking() as platform:
            await platform.site.refresh()
            site = _site(platform, tenant)
            return await CallHistory.at(platform.store).refresh(site.tenant)

    out.print(f"{run_async(work())} call(s) changed")


async def _total(desk: _Desk) -> int | None:
    try:
        return await desk.count()
    except ContractError:
        return None  # too many to be counted in time: the bar has no end then


def _progress() -> Progress:
    columns = (BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)


@contextmanager
def _written(file: Path) -> Iterator[BinaryIO]:
    """Under another name until it is whole. Raises: BadSetting."""
    if str(file) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        with part.open("xb") as target:
            yield target
        part.replace(file)
    except OSError as error:
        raise BadSetting(f"{file}: cannot be written: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)


def _site(platform: Platform, tenant: str | None) -> Site:
    """Raises: NotFound."""
    known = platform.site.current
    if tenant is None and len(known) == 1:
        return next(iter(known.values()))
    if tenant is None or tenant not in known:
        names = ", ".join(sorted(known)) or "none"
        wrong = f"there is no tenant {tenant}" if tenant else "say --tenant"
        raise NotFound(f"{wrong}; there are: {names}")
    return known[tenant]


def _names(text: str | None) -> tuple[str, ...]:
    """Raises: ContractError."""
    names = tuple(filter(None, (name.strip() for name in (text or "").split(","))))
    for name in names:
        try:
            COLUMNS.named(name)
        except ValueError as error:
            raise ContractError(f"--fields: {error}") from None
    return tuple(dict.fromkeys(names))


def _sort(name: str) -> str:
    """Raises: ContractError."""
    if name not in SORTABLE:
        raise ContractError(f"--sort {name}: there are {', '.join(SORTABLE)}")
    return name


def _test(field: str, operator: Operator, value: str) -> CallFilter:
    """Raises: ContractError."""
    try:
        return CallFilter(field=field, operator=operator, value=value)
    except ValueError:
        raise ContractError(f"--{field} {value}: no {field}") from None


def _shown(value: JsonValue) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value))
    return "" if value is None else str(value)
