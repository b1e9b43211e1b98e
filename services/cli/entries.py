"""``journal``: entries on their way into the CRMs, and those that did not get there."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from services.cli.console import looking, out, run_async
from services.cli.times import moment
from services.journal.operating import Operating
from services.journal.reconciling import Reconciling
from services.journal.settings import JournalSettings
from services.journal.store import CALLS, ENTRIES, CallLog, EntryBook, EntryDocument
from shared.contracts.calls import EntryState
from shared.contracts.journal import ConnectionEntries, EntryFilter, EntryView, Exchange
from shared.crm.masking import printable
from shared.errors import NotFound
from shared.moments import Instant
from shared.runtime.service import Platform
from shared.site.models import Site

Tenant = Annotated[str | None, typer.Option(help="Of this tenant only.")]
Connection = Annotated[str | None, typer.Option(help="Of this CRM connection only.")]

_WHAT_TO_DO: Mapping[EntryState, str] = {
    EntryState.DUE: "nothing: it is sent when its time comes",
    EntryState.SENDING: "nothing: a try is under way; one that breaks off is gone after",
    EntryState.SENT: "nothing",
    EntryState.UPDATED: "nothing",
    EntryState.MAYBE_SENT: "nothing: the CRM is asked for it before it is sent again",
    EntryState.RECONNECT: "connect the CRM again; then it goes by itself",
    EntryState.FAILED: "nothing, if the CRM comes back: it is tried again by itself",
    EntryState.DEAD: "mend what the reason says, then: callmesh journal replay",
    EntryState.NOT_WANTED: "nothing, if the connection's policy is as you want it",
}


@dataclass(frozen=True, slots=True)
class Desk:
    """What the commands of ``journal`` work with: the same as the service does."""

    platform: Platform
    calls: CallLog
    entries: EntryBook
    operating: Operating
    reconciling: Reconciling

    def sites(self, tenant: str | None) -> list[Site]:
        """All tenants', or that of *tenant*. Raises: NotFound."""
        if tenant is None:
            return [site for _, site in sorted(self.platform.site.current.items())]
        site = self.platform.site.site(tenant)
        if site is None:
            raise NotFound(f"there is no tenant {tenant}")
        return [site]

    def moment(self, text: str | None, option: str, site: Site) -> Instant | None:
        if text is None:
            return None
        return moment(text, option, now=self.platform.clock.now(), zone=site.zone)


@asynccontextmanager
async def at_desk() -> AsyncIterator[Desk]:
    async with looking() as platform:
        await platform.site.refresh()
        store, clock = platform.store, platform.clock
        silent_after = JournalSettings.read().silent_after
        calls = CallLog(store.collection(CALLS), clock, silent_after=silent_after)
        entries = EntryBook(store.collection(ENTRIES), clock)
        connections = platform.crm_connections()
        try:
            yield Desk(
                platform,
                calls,
                entries,
                Operating(entries, platform.site, connections, clock),
                Reconciling(calls, entries, platform.site, connections, clock),
            )
        finally:
            await connections.close()


# -- looking ---------------------------------------------------------------------------------------


def list_entries(  # noqa: PLR0917  options of a command
    state: Annotated[
        list[EntryState] | None, typer.Option(help="In this state; may be given again. [dead]")
    ] = None,
    tenant: Tenant = None,
    connection: Connection = None,
    since: Annotated[
        str | None, typer.Option(help="Wanted since: 6h ago, or 2026-12-24T18:30.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Wanted before.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="So many at most.")] = 100,
) -> None:
    """List entries, oldest first, with the reason: those that are dead, or in other states."""
    states = tuple(state or [EntryState.DEAD])

    async def work() -> list[tuple[str, EntryView]]:
        found: list[tuple[str, EntryView]] = []
        async with at_desk() as desk:
            for site in desk.sites(tenant):
                which = EntryFilter(
                    connection=connection,
                    states=states,
                    since=desk.moment(since, "--since", site),
                    until=desk.moment(until, "--until", site),
                )
                cursor = None
                while len(found) < limit:
                    most = min(limit - len(found), 500)
                    page = await desk.operating.read(site.tenant, which, limit=most, cursor=cursor)
                    found += [(site.tenant, entry) for entry in page.entries]
                    cursor = page.next_cursor
                    if cursor is None:
                        break
        return found

    found = run_async(work())
    if not found:
        out.print(f"no entries are {' or '.join(states)}")
        return
    table = Table("tenant", "entry", "state", "since", "tries", "why")
    for owner, entry in found:
        table.add_row(
            owner,
            escape(printable(entry.key)),
            entry.state,
            f"{entry.wanted_at:%Y-%m-%d %H:%M:%S}",
            str(entry.attempts),
            escape(printable(entry.reason or "")),
        )
    out.print(table)
    if len(found) == limit:
        out.print(f"these are the first {limit}; --limit shows more")


def show(
    entry: Annotated[
        str, typer.Argument(metavar="ENTRY|CALL", help="As `entries` shows it, or a call's id.")
    ],
) -> None:
    """Show an entry, or all of a call: tries, what was asked and answered, what to do."""

    async def work() -> list[EntryDocument]:
        async with at_desk() as desk:
            if "/" in entry:
                return [await desk.entries.get(entry)]
            return await desk.entries.of_call(entry)

    found = run_async(work())
    if not found:
        raise NotFound(f"call {entry} has no entry; a call's record says why")
    for number, one in enumerate(found):
        if number:
            out.print()
        _show(one)


def summary(tenant: Tenant = None) -> None:
    """Count the entries of each connection by their state."""

    async def work() -> list[tuple[str, ConnectionEntries]]:
        async with at_desk() as desk:
            return [
                (site.tenant, one)
                for site in desk.sites(tenant)
                for one in (await desk.operating.summary(site.tenant)).connections
            ]

    found = run_async(work())
    states = [state for state in EntryState if any(state in one.counts for _, one in found)]
    headings = [state.replace("_", " ") for state in states]
    table = Table("tenant", "connection", *headings, "the oldest waits")
    for owner, one in found:
        at = one.oldest_waiting_at
        waits = f"since {at:%Y-%m-%d %H:%M:%S}" if at else ""
        reason = f": {one.reason}" if one.reason else ""
        counts = (str(one.counts.get(state, "")) for state in states)
        table.add_row(owner, one.connection, *counts, escape(printable(waits + reason)))
    out.print(table)


def _show(one: EntryDocument) -> None:
    said = one.in_full()
    lines = {
        "entry": one.key,
        "tenant": one.tenant,
        "state": said.state,
        "CRM's id": said.entry_id,
        "wanted": f"{said.wanted_at:%Y-%m-%d %H:%M:%S} UTC",
        "next look": f"{said.due_at:%Y-%m-%d %H:%M:%S} UTC" if said.due_at else None,
        "tries": str(said.attempts),
        "changes": str(said.updates) if said.updates else None,
        "reason": said.reason,
        "what to do": _WHAT_TO_DO[said.state],
    }
    for name, text in lines.items():
        if text is not None:
            out.print(f"{name}: {printable(text)}", markup=False)
    if said.tries:
        out.print("tries that failed:")
        for tried in said.tries:
            text = f"  {tried.at:%Y-%m-%d %H:%M:%S} UTC {tried.state}: {printable(tried.reason)}"
            out.print(text, markup=False)
    if said.exchange is not None:
        _show_exchange(said.exchange)


def _show_exchange(exchange: Exchange) -> None:
    """Secrets are masked where it was written down."""
    headers = [f"{name}: {value}" for name, value in exchange.headers.items()]
    answer = "no answer" if exchange.status is None else f"answer {exchange.status}"
    parts = [f"{exchange.method} {exchange.url}", *headers, exchange.body, answer, exchange.answer]
    out.print("the request that failed last:")
    for part in parts:
        for line in part.splitlines():
            out.print(f"  {printable(line)}", markup=False)
