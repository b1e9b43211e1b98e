"""``dials``: orders to dial: listed, shown, ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.table import Table

from services.cli.console import looking, out, run_async
from services.cli.noting import noted
from services.cli.times import moment
from services.dialer.listed import list_dials
from services.dialer.settings import DialerSettings
from services.dialer.store import DIALS, DialBook, DialDocument
from shared.contracts.dialing import DialRecord, DialState, ListDials
from shared.crm.masking import printable
from shared.errors import Conflict, ContractError, NotFound, Rejected, Unavailable
from shared.faults import faults_in
from shared.moments import Instant
from shared.runtime.service import Platform
from shared.site.models import Site

#: The dialer looks every five seconds for dials that are to be ended, and asks the PBX then.
_ENDED_WITHIN = timedelta(seconds=20)
_LOOK = timedelta(milliseconds=250)

Tenant = Annotated[str | None, typer.Option(help="Whose dials; needed where there are several.")]
Dial = Annotated[str, typer.Argument(metavar="DIAL", help="Its id, as `list` shows it.")]


def register(app: typer.Typer) -> None:
    dials = typer.Typer(help="Orders to dial, by a click.", no_args_is_help=True)
    dials.command("list")(list_)
    dials.command()(show)
    dials.command()(cancel)
    app.add_typer(dials, name="dials")


@dataclass(frozen=True, slots=True)
class _Desk:
    platform: Platform
    dials: DialBook
    site: Site

    def moment(self, text: str | None, option: str) -> Instant | None:
        if text is None:
            return None
        return moment(text, option, now=self.platform.clock.now(), zone=self.site.zone)


@asynccontextmanager
async def _desk(tenant: str | None) -> AsyncIterator[_Desk]:
    async with looking() as platform:
        await platform.site.refresh()
        dials = DialBook(
            platform.store.collection(DIALS), platform.clock, keep=DialerSettings.read().keep
        )
        yield _Desk(platform, dials, _site(platform, tenant))


def list_(  # noqa: PLR0917  options of a command
    tenant: Tenant = None,
    extension: Annotated[str | None, typer.Option(help="From this phone.")] = None,
    state: Annotated[list[DialState] | None, typer.Option(help="May be given again.")] = None,
    under_way: Annotated[
        bool, typer.Option("--under-way", help="Those that are not over.")
    ] = False,
    number: Annotated[str | None, typer.Option(help="To this one, in any spelling.")] = None,
    campaign: Annotated[str | None, typer.Option(help="For this campaign.")] = None,
    since: Annotated[
        str | None, typer.Option(help="Asked for since: 6h ago, or 2026-12-24T18:30.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Asked for before.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="So many at most.")] = 50,
) -> None:
    """List orders to dial, the newest first."""

    async def work() -> tuple[DialRecord, ...]:
        async with _desk(tenant) as desk:
            try:
                asked = ListDials(
                    extension=extension,
                    states=tuple(state or ()),
                    under_way=under_way or None,
                    number=number,
                    campaign=campaign,
                    since=desk.moment(since, "--since"),
                    until=desk.moment(until, "--until"),
                    limit=limit,
                )
            except ValidationError as error:
                raise ContractError(faults_in(error)) from None
            site = desk.site
            return (await list_dials(desk.dials, site.tenant, asked, region=site.region)).dials

    found = run_async(work())
    if not found:
        out.print("no dials")
        return
    table = Table("requested", "from", "number", "state", "talk_s", "by", "dial")
    for record in found:
        row = (
            f"{record.requested_at:%Y-%m-%d %H:%M:%S}",
            record.extension,
            record.number,
            f"{record.state}: {record.reason}" if record.reason else str(record.state),
            _talk(record),
            record.requested_by or "",
            record.dial_id,
        )
        # Who asked is named by whoever made the key or the connection.
        table.add_row(*(escape(printable(text)) for text in row))
    out.print(table)


def show(dial: Dial, tenant: Tenant = None) -> None:
    """Show one order to dial."""

    async def work() -> DialRecord:
        async with _desk(tenant) as desk:
            return (await desk.dials.by_dial(desk.site.tenant, dial)).record

    out.print_json(run_async(work()).model_dump_json(exclude_none=True))


def cancel(dial: Dial, tenant: Tenant = None) -> None:
    """End a dial, whatever it has come to; the call is hung up.

    The running dialer does it, within seconds. The exit code is 1 where the PBX does not end it.
    """

    async def work() -> DialRecord:
        async with _desk(tenant) as desk:
            whose = desk.site.tenant
            async with noted(desk.platform, whose, "cancel_dial", f"dial {dial}"):
                document = await desk.dials.by_dial(whose, dial)
                if document.record.state.is_final:
                    raise Conflict(f"dial {dial} is over: it has {document.record.state}")
                await desk.dials.mark_cancelled(document.key)
                return (await _when_over(desk, dial)).record

    record = run_async(work())
    why = f": {record.message}" if record.message else ""
    out.print(f"{record.dial_id} has {record.state}{why}", markup=False)


async def _when_over(desk: _Desk, dial: str) -> DialDocument:
    """Raises: Rejected with the PBX's words, Unavailable while no dialer runs."""
    clock = desk.platform.clock
    until = clock.now() + _ENDED_WITHIN
    while clock.now() < until:
        document = await desk.dials.by_dial(desk.site.tenant, dial)
        if document.record.state.is_final:
            return document
        if document.cancelled_at is None:
            raise Rejected(f"the call goes on: {document.cancel_fault}")
        await clock.sleep(_LOOK)
    raise Unavailable("written down, and not done yet: is the dialer running?")


def _talk(record: DialRecord) -> str:
    if record.connected_at is None or record.ended_at is None:
        return ""
    return f"{max((record.ended_at - record.connected_at).total_seconds(), 0):.1f}"


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
