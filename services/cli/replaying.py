"""``journal replay``: entries are sent after all, and watched on their way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated

import typer
from rich.progress import Progress

from services.cli.console import err, out, run_async
from services.cli.entries import Connection, Desk, Tenant, at_desk
from services.cli.noting import noted
from shared.contracts.calls import EntryState
from shared.contracts.journal import EntryFilter
from shared.errors import ContractError, NotFound

#: More than these are not sent without a question.
_ASKED_OVER = 20
_STEP = 200
#: How often it is looked where they stand.
_LOOK = timedelta(seconds=1)
#: As many names as a filter takes.
_TOGETHER = 1000

#: What is meant: of each tenant.
_Meant = Sequence[tuple[str, EntryFilter]]


def replay(  # noqa: PLR0917  options of a command
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="Entries as `entries` shows them, or calls' ids.", metavar="[ENTRY|CALL]..."
        ),
    ] = None,
    every: Annotated[
        bool, typer.Option("--all", help="Every entry that is dead, failed, waits for a reconnect.")
    ] = False,
    state: Annotated[
        list[EntryState] | None, typer.Option(help="Those in this state; may be given again.")
    ] = None,
    tenant: Tenant = None,
    connection: Connection = None,
    since: Annotated[
        str | None, typer.Option(help="Those wanted since: 6h ago, or 2026-12-24T18:30.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Those wanted before.")] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Go on until none waits; needs a running mesh.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Send entries after all, once what was wrong is mended.

    What is in the CRM stays as it is; what may be there is looked for first. With --wait the exit
    code is 1 when some are dead again, or wait for a reconnect.
    """
    if bool(names) == bool(every or state or tenant or connection or since or until):
        raise ContractError(
            "name entries or calls; or say which: --all, --state, --tenant, --connection, --since"
        )

    async def work() -> bool:
        async with at_desk() as desk:
            if names:
                meant = await _named(desk, names)
            else:
                meant = [
                    (
                        site.tenant,
                        EntryFilter(
                            connection=connection,
                            states=tuple(state or ()),
                            since=desk.moment(since, "--since", site),
                            until=desk.moment(until, "--until", site),
                        ),
                    )
                    for site in desk.sites(tenant)
                ]
            total = sum([await desk.operating.meant(*one) for one in meant])
            if total > _ASKED_OVER and not yes:
                typer.confirm(f"Send {total} entries after all?", abort=True, err=True)
            began_at = desk.platform.clock.now()
            tenants = {owner for owner, _ in meant}
            async with noted(desk.platform, tenants, "replay_entries", f"{total} entries"):
                replayed = await _order(desk, meant, total)
            return not (wait and replayed) or await _watch(desk, meant, replayed, began_at)

    if not run_async(work()):
        raise typer.Exit(1)


async def _named(desk: Desk, names: Sequence[str]) -> _Meant:
    """Raises: NotFound."""
    keys: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        if "/" in name:
            found = [await desk.entries.get(name)]
        else:
            found = await desk.entries.of_call(name)
        if not found:
            raise NotFound(f"there is no entry of call {name}")
        for one in found:
            keys.setdefault(one.tenant, []).append(one.key)
    return [
        (tenant, EntryFilter(keys=tuple(theirs[first : first + _TOGETHER])))
        for tenant, theirs in keys.items()
        for first in range(0, len(theirs), _TOGETHER)
    ]


async def _order(desk: Desk, meant: _Meant, total: int) -> int:
    """How many will be tried again."""
    replayed = left_alone = 0
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("ordering", total=total)
        for tenant, which in meant:
            cursor, more = None, True
            while more:
                done = await desk.operating.replay(tenant, which, limit=_STEP, cursor=cursor)
                replayed += done.replayed
                left_alone += done.left_alone
                progress.advance(task, done.replayed + done.left_alone)
                cursor, more = done.next_cursor, done.next_cursor is not None
    out.print(f"{replayed} will be tried again")
    if left_alone:
        out.print(f"{left_alone} left alone: in the CRM already, not wanted, or under way")
    return replayed


async def _watch(desk: Desk, meant: _Meant, replayed: int, began_at: datetime) -> bool:
    """Until none waits, or only for a person; whether all are in the CRM."""
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task("sending", total=replayed)
        while True:
            left: Counter[EntryState] = Counter()
            for tenant, which in meant:
                left += await desk.operating.standing(tenant, which, replayed_at=began_at)
            dead, held = left[EntryState.DEAD], left[EntryState.RECONNECT]
            sent = max(replayed - left.total(), 0)
            said = f"sent {sent}, dead {dead}, waiting {left.total() - dead}"
            progress.update(task, completed=sent + dead, description=said)
            if left.total() == dead + held:
                break
            await desk.platform.clock.sleep(_LOOK)
    out.print(said)
    if held:
        out.print(f"{held} wait until a person connects the CRM again")
    return not dead and not held
