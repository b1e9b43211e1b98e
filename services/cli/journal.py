"""``journal``: calls on their way into the CRMs, and whether each arrived."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from services.cli.console import err, out, run_async
from services.cli.entries import Connection, Desk, Tenant, at_desk, list_entries, show, summary
from services.cli.noting import noted
from services.cli.replaying import replay
from shared.contracts.journal import Finding, NotAsked, ReconcileCalls
from shared.crm.masking import printable
from shared.errors import ContractError, NotFound
from shared.site.models import Site

_STEP = 200


def register(app: typer.Typer) -> None:
    journal = typer.Typer(
        help="Calls on their way into the CRMs, and those that did not get there.",
        no_args_is_help=True,
    )
    journal.command("entries")(list_entries)
    journal.command()(show)
    journal.command()(summary)
    journal.command()(replay)
    journal.command()(reconcile)
    app.add_typer(journal, name="journal")


class TenantReport(BaseModel):
    """What is said of one tenant; all steps together."""

    tenant: str
    calls: int = 0
    entries: int = 0
    findings: list[Finding] = []
    not_asked: list[NotAsked] = []

    @property
    def is_well(self) -> bool:
        mended = all(finding.repaired for finding in self.findings)
        return mended and all(one.for_good for one in self.not_asked)

    def add_not_asked(self, more: NotAsked) -> None:
        for place, one in enumerate(self.not_asked):
            if one.model_copy(update={"entries": more.entries}) == more:
                together = {"entries": one.entries + more.entries}
                self.not_asked[place] = one.model_copy(update=together)
                return
        self.not_asked.append(more)


def reconcile(  # noqa: PLR0917  options of a command
    since: Annotated[
        str, typer.Option(help="Calls that started since: 24h ago, or 2026-12-24T18:30.")
    ] = "24h",
    until: Annotated[str, typer.Option(help="Calls that started before.")] = "0s",
    tenant: Tenant = None,
    connection: Connection = None,
    ask_crm: Annotated[
        bool,
        typer.Option(
            "--ask-crm", help="Have the CRM look for each entry: a request each, in its limits."
        ),
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Order what is missing, stuck, lost or outdated.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a tenant an element.")] = False,
) -> None:
    """Compare the calls of a span with their entries, and repair what is wrong.

    There is never a second entry: the same again does no harm. The exit code is 1 when something is
    wrong and was not repaired, or a CRM could not be asked.
    """

    async def work() -> list[TenantReport]:
        async with at_desk() as desk:
            sites = [
                site
                for site in desk.sites(tenant)
                if site.crm and (connection is None or site.crm_named(connection))
            ]
            if not sites:
                raise NotFound(f"there is no CRM connection {connection or 'yet'}")
            asked = [
                (
                    site,
                    ReconcileCalls(
                        since=_said(desk, since, "--since", site),
                        until=_said(desk, until, "--until", site),
                        connection=connection,
                        ask_crm=ask_crm,
                        repair=repair,
                        limit=_STEP,
                    ),
                )
                for site in sites
            ]
            if not repair:
                return await _reports(desk, asked)
            tenants = {site.tenant for site in sites}
            words = f"calls from {since} to {until}"
            async with noted(desk.platform, tenants, "reconcile_calls", words):
                return await _reports(desk, asked)

    reports = run_async(work())
    if as_json:
        said = ",\n".join(report.model_dump_json(indent=2) for report in reports)
        typer.echo(f"[{said}]")
    else:
        _print(reports, repair=repair)
    if not all(report.is_well for report in reports):
        raise typer.Exit(1)


def _said(desk: Desk, text: str, option: str, site: Site) -> datetime:
    found = desk.moment(text, option, site)
    if found is None:
        raise ContractError(f"{option}: say a time")
    return found


async def _reports(desk: Desk, asked: list[tuple[Site, ReconcileCalls]]) -> list[TenantReport]:
    total = sum(
        [await desk.calls.number_in(site.tenant, one.since, one.until) for site, one in asked]
    )
    reports: list[TenantReport] = []
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("comparing", total=total)
        for site, first in asked:
            report = TenantReport(tenant=site.tenant)
            step: ReconcileCalls | None = first
            while step is not None:
                found = await desk.reconciling.step(site.tenant, step)
                report.calls += found.calls
                report.entries += found.entries
                report.findings += found.findings
                for one in found.not_asked:
                    report.add_not_asked(one)
                progress.advance(task, found.calls)
                if found.pause is not None:
                    await desk.platform.clock.sleep(found.pause)
                cursor = found.next_cursor
                step = step.model_copy(update={"cursor": cursor}) if cursor else None
            reports.append(report)
    return reports


def _print(reports: list[TenantReport], *, repair: bool) -> None:
    table = Table("tenant", "call", "began", "connection", "agent", "what", "why", "repaired")
    for report in reports:
        for finding in report.findings:
            table.add_row(
                report.tenant,
                escape(printable(finding.call_id)),
                f"{finding.started_at:%Y-%m-%d %H:%M:%S}",
                finding.connection,
                escape(printable(finding.agent or "")),
                finding.kind,
                escape(printable(finding.reason or "")),
                "yes" if finding.repaired else "no",
            )
    if table.row_count:
        out.print(table)
    for report in reports:
        wrong = len(report.findings)
        mended = sum(finding.repaired for finding in report.findings)
        said = f"{report.tenant}: {report.calls} calls, {report.entries} entries right"
        out.print(f"{said}, {wrong} wrong, {mended} repaired" if wrong else said, markup=False)
        for one in report.not_asked:
            text = f"  {one.connection} was not asked for {one.entries}: {printable(one.reason)}"
            out.print(text, markup=False)
    if not repair and table.row_count:
        out.print("--repair orders what is missing, stuck, lost or outdated")
