"""``replay``: what a PBX sent in the last day, read again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn
from rich.table import Table

from services.cli.console import looking, named_pbx, out, run_async
from services.cli.noting import noted
from services.ingest.domain import ends_first
from services.ingest.replay import Reading, read_again
from services.ingest.store import RAW, RawBook
from services.journal.domain import Seen, fold
from shared.contracts.calls import CallEvent, CallRecord
from shared.crm.masking import printable
from shared.errors import ContractError
from shared.moments import to_duration
from shared.pbx.port import Sighting
from shared.runtime.service import Platform
from shared.site.adapters import phones_of

_MOST_FAULTS = 20
#: Nothing that is kept for a day or two lies further back.
_LONGEST = timedelta(days=3660)


def register(app: typer.Typer) -> None:
    app.command()(replay)


def replay(
    connection: Annotated[str, typer.Argument(metavar="TENANT/PBX", help="Which PBX connection.")],
    since: Annotated[str, typer.Option(help="From so long ago: 90m, 6h.")] = "24h",
    until: Annotated[str, typer.Option(help="Until so long ago.")] = "0s",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the calls that it gives, publish nothing.")
    ] = False,
) -> None:
    """Read again what a PBX sent, and publish what it tells.

    What is known already stays as it is: the same fact has the same id. So this mends calls of
    which an event was lost or could not be read, and changes nothing else.
    """
    run_async(_replay(connection, _ago(since, "--since"), _ago(until, "--until"), dry=dry_run))


def _ago(text: str, option: str) -> timedelta:
    try:
        span = to_duration(text)
    except ValueError:
        span = None
    if not isinstance(span, timedelta) or span > _LONGEST:
        raise ContractError(f"{option} {text}: say 90m, 6h or 1d")
    return span


async def _replay(connection: str, since: timedelta, until: timedelta, *, dry: bool) -> None:
    async with looking() as platform:
        await platform.site.refresh()
        tenant, site, pbx = named_pbx(platform, connection)
        now = platform.clock.now()
        book = RawBook(platform.store.collection(RAW), platform.clock, keep=timedelta(days=1))
        adapter = platform.pbx_adapters().of(site, pbx)
        readings: list[Reading] = []
        columns = (SpinnerColumn(), TextColumn("{task.description}"))
        with Progress(
            *columns, console=out, transient=True, disable=not out.is_terminal
        ) as progress:
            task = progress.add_task("reading")
            async for reading in read_again(
                book,
                adapter,
                phones_of(site, pbx),
                tenant=tenant,
                pbx=pbx.name,
                since=now - since,
                until=now - until,
            ):
                readings.append(reading)
                said = f"read up to {reading.came_at:%Y-%m-%d %H:%M:%S} UTC"
                progress.update(task, description=said)
        found = {one.key: one for reading in readings for one in reading.sightings}
        _say(readings, found.values())
        if dry:
            _show_calls(found.values())
        elif found:
            words = f"{len(found)} sightings of pbx {pbx.name}"
            async with noted(platform, tenant, "replay_pbx", words):
                await _publish(platform, tenant, list(found.values()))


async def _publish(platform: Platform, tenant: str, found: list[Sighting]) -> None:
    # What an agent did hours ago is no news, and would be taken for what he does now.
    of_calls = ends_first(one for one in found if isinstance(one.body, CallEvent))
    publisher = platform.publisher("ingest")
    await platform.bus.start()
    try:
        with Progress(console=out, transient=True, disable=not out.is_terminal) as progress:
            task = progress.add_task("publishing", total=len(of_calls))
            for one in of_calls:
                await publisher.publish(one.body, tenant=tenant, key=one.key, at=one.at)
                progress.advance(task)
    finally:
        await platform.bus.stop(drain=timedelta(seconds=2))
    out.print(f"published {len(of_calls)} events of calls; what was known already stays as it is")


def _say(readings: list[Reading], found: Iterable[Sighting]) -> None:
    records = sum(reading.records for reading in readings)
    faults = [(r.came_at, fault) for r in readings for fault in r.faults]
    kinds = Counter(type(one.body).__name__ for one in found)
    said = ", ".join(f"{count} {name}" for name, count in kinds.most_common())
    out.print(f"{records} records: {said or 'nothing of a call'}")
    for at, fault in faults[:_MOST_FAULTS]:
        out.print(f"  could not be read, {at:%H:%M:%S} UTC: {printable(fault)}", markup=False)
    if len(faults) > _MOST_FAULTS:
        out.print(f"  and {len(faults) - _MOST_FAULTS} more")


def _show_calls(found: Iterable[Sighting]) -> None:
    calls: dict[str, list[Seen]] = {}
    for one in found:
        if isinstance(one.body, CallEvent):
            seen = Seen(one.key, one.at, one.body)
            calls.setdefault(one.body.call_id, []).append(seen)
    table = Table(
        "began", "direction", "caller", "dialled", "what became of it", "phones", "talked"
    )
    for record in sorted(
        (fold(call_id, events) for call_id, events in calls.items()), key=_began_at
    ):
        row = (
            f"{record.started_at:%H:%M:%S}" if record.started_at else "?",
            record.direction or "?",
            record.caller.label if record.caller else "?",
            record.dialled or "-",
            record.disposition or "goes on",
            ", ".join(leg.callee.label for leg in record.legs) or "-",
            f"{record.talk_time.total_seconds():.0f} s",
        )
        # A caller's number is whatever the caller likes.
        table.add_row(*(escape(printable(text)) for text in row))
    out.print(table)


def _began_at(record: CallRecord) -> datetime:
    return record.started_at or record.ended_at or datetime.max.replace(tzinfo=UTC)
