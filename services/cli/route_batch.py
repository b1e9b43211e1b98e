"""``route batch``: a table of numbers in, a table of destinations out, before a change is live."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, TextIO

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from services.cli.console import run_async
from services.cli.explaining import DraftFile, explaining, scene_of
from services.cli.numbers import Line, Numbers, ResultTable
from services.routing.explain_batch import Outcome, Trying, in_order
from shared.errors import BadSetting, ContractError

#: The table itself may be what is printed.
_err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)
#: Of destinations; the rest is told in one line.
_MOST_SHOWN = 20
_PIECE = 1024 * 1024
_FAULT = "(fault)"
_NO_RULE = "(no rule)"


@dataclass(slots=True)
class Tally:
    """What is said of a table at its end."""

    lines: int = 0
    faults: int = 0
    changed: int = 0
    destinations: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome | None) -> None:
        self.lines += 1
        undecided = outcome is None or outcome.reason is None
        self.faults += undecided or (outcome is not None and outcome.fault is not None)
        self.changed += outcome is not None and bool(outcome.changed)
        where = _FAULT if undecided or outcome is None else outcome.destination or _NO_RULE
        self.destinations[where] += 1


def batch(  # noqa: PLR0917  options of a command
    tenant: Annotated[str, typer.Option(help="Whose rules.")],
    numbers: Annotated[
        Path, typer.Argument(help="CSV with a header: from, did, ivr, dtmf; others go along.")
    ],
    did: Annotated[str, typer.Option(help="The number called, in lines that name none.")] = "",
    rule: Annotated[
        Path | None,
        typer.Option(help="A draft: one rule as in a site file, compared with what is live."),
    ] = None,
    rows: Annotated[Path | None, typer.Option(help="The draft's rows, as for `rule put`.")] = None,
    rule_name: Annotated[
        str | None, typer.Option(help="Ask this rule, whichever number is called.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Write the table there.")] = None,
    only_changed: Annotated[
        bool, typer.Option("--only-changed", help="With --rule: the lines that it changes.")
    ] = False,
) -> None:
    """Say of many numbers where their calls would go; with --rule, what a draft would change.

    A line that cannot be asked is a line of the result with the fault. The CRM is asked eight at a
    time, after everybody else, and for up to ten seconds each.
    """
    if only_changed and rule is None:
        raise ContractError("--only-changed: say with --rule which change")
    draft = DraftFile.of(rule, rows)
    with ExitStack() as stack:
        lines = Numbers(stack.enter_context(_reading(numbers)), did=did)
        progress = stack.enter_context(_progress())
        task = progress.add_task("deciding", total=_lines_in(numbers))
        if out is not None and out.exists() and out.samefile(numbers):
            raise BadSetting(f"--out {out}: is the table of numbers itself; name another")
        tally = Tally()

        async def work() -> None:
            async with explaining() as (platform, explainer):
                scene = await scene_of(platform, explainer, tenant, draft, rule_name)
                live = None
                if draft is not None:
                    live = await explainer.scene(tenant, name=rule_name)
                trying = Trying(explainer, scene, live)
                # Not before: a draft with a fault leaves an older table as it is.
                file = stack.enter_context(_writing(out))
                table = ResultTable(file, lines, compares=live is not None)

                async def outcome(line: Line) -> Outcome | None:
                    return await trying.outcome(line.asked) if line.asked is not None else None

                async with aclosing(in_order(lines, outcome)) as found:
                    async for line, came in found:
                        tally.add(came)
                        # What could not be decided may be changed, too.
                        undecided = came is None or came.reason is None
                        if not only_changed or undecided or (came is not None and came.changed):
                            table.add(line, came)
                        progress.advance(task)

        run_async(work())
    _summary(tally, compares=draft is not None)


def _summary(tally: Tally, *, compares: bool) -> None:
    table = Table("destination", "calls", "")
    for name, count in tally.destinations.most_common(_MOST_SHOWN):
        table.add_row(escape(name), str(count), f"{100 * count / tally.lines:.1f} %")
    _err.print(table)
    if (more := len(tally.destinations) - _MOST_SHOWN) > 0:
        _err.print(f"and {more} destinations more")
    said = [f"{tally.lines} calls"]
    if compares:
        said.append(f"{tally.changed} would be treated otherwise")
    if tally.faults:
        said.append(f"{tally.faults} with a fault: see the column `fault`")
    _err.print(", ".join(said), markup=False)


def _progress() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=_err, transient=True, disable=not _err.is_terminal)


@contextmanager
def _reading(file: Path) -> Iterator[TextIO]:
    # What is no UTF-8 comes out again as it was.
    try:
        found = file.open(encoding="utf-8-sig", errors="surrogateescape", newline="")
    except OSError as error:
        raise BadSetting(f"{file}: cannot be read: {error.strerror}") from None
    with found:
        yield found


@contextmanager
def _writing(file: Path | None) -> Iterator[TextIO]:
    if file is None:
        # Python's own refuses what is no UTF-8.
        found = TextIOWrapper(
            sys.stdout.buffer, encoding="utf-8", errors="surrogateescape", newline=""
        )
        try:
            yield found
        finally:
            found.detach()
        return
    try:
        found = file.open("w", encoding="utf-8", errors="surrogateescape", newline="")
    except OSError as error:
        raise BadSetting(f"--out {file}: cannot be written: {error.strerror}") from None
    with found:
        yield found


def _lines_in(file: Path) -> int | None:
    """But for the header. None: what is no file, as a pipe, can be read once."""
    if not file.is_file():
        return None
    with file.open("rb") as found:
        ends = sum(piece.count(b"\n") for piece in iter(lambda: found.read(_PIECE), b""))
    return max(0, ends - 1)
