"""Parse, call, exit code. Faults are one line each on standard error."""

from __future__ import annotations

import sys

import typer

from services.cli import (
    agents,
    audit,
    calls,
    contracts,
    crm,
    demo,
    dials,
    doctor,
    journal,
    keys,
    letters,
    pbx,
    replay,
    requests,
    route,
    rules,
    run,
    sandbox,
    site,
    subscribers,
    templates,
    users,
)
from services.cli.console import say_fault
from shared.errors import MeshError
from shared.runtime.version import VERSION

app = typer.Typer(
    name="callmesh",
    help="Connects any PBX to any CRM.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for part in (
    run,
    site,
    users,
    keys,
    audit,
    pbx,
    crm,
    rules,
    calls,
    dials,
    agents,
    journal,
    letters,
    subscribers,
    replay,
    requests,
    route,
    doctor,
    contracts,
    demo,
    sandbox,
    templates,
):
    part.register(app)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(VERSION)
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(
        False, "--version", callback=_version, is_eager=True, help="Show the version."
    ),
) -> None:
    """Connects any PBX to any CRM."""


def main() -> None:
    """Exit 0 when it worked, 1 when it did not, 2 for a command that cannot be read."""
    try:
        app()
    except MeshError as error:
        say_fault(error.message)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
