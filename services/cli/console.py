"""What all commands share: output, the event loop, the platform from the environment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import typer
from rich.console import Console

from services.catalog import consumers, settings_classes
from shared.errors import NotFound
from shared.observe import logging, otlp_if_wanted, tracing
from shared.runtime.host import EXIT_ABORTED
from shared.runtime.platform import Choice, open_platform
from shared.runtime.service import Platform
from shared.runtime.settings import LogSettings, OtelSettings, refuse_unknown
from shared.site.models import Site
from shared.site.pbx import Pbx

T = TypeVar("T")

# No emoji: `extension:100:` is none.
out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(stderr=True, highlight=False, soft_wrap=True, emoji=False)


def say_fault(message: str) -> None:
    err.print(message, style="red", markup=False)


def run_async(work: Coroutine[Any, Any, T]) -> T:
    """On uvloop where it is installed: a fifth less CPU per message (measured)."""
    try:
        import uvloop
    except ImportError:
        factory = None
    else:
        factory = uvloop.new_event_loop
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(work)
    except asyncio.CancelledError:
        # A second signal, while the first one's drain ran.
        raise typer.Exit(EXIT_ABORTED) from None


def read_environment(*, quiet: bool = False) -> Choice:
    """
    Set logging and traces up and read what selects the adapters. *quiet* is for commands whose
    output is not the log.

    Raises: BadSetting.
    """
    refuse_unknown(settings_classes())
    settings = LogSettings.read()
    logging.configure(
        form=settings.format,
        level="ERROR" if quiet else settings.level,
        numbers_in_clear=settings.numbers_in_clear,
    )
    tracing.export_to(otlp_if_wanted(OtelSettings.read().endpoint))
    return Choice.read()


@asynccontextmanager
async def looking() -> AsyncIterator[Platform]:
    """The platform for a command that runs no service."""
    choice = read_environment(quiet=True)
    async with open_platform(choice, consumers=consumers(), serving=False) as platform:
        yield platform


def named_pbx(platform: Platform, connection: str) -> tuple[str, Site, Pbx]:
    """``TENANT/PBX`` of a site that was read. Raises: NotFound."""
    tenant, _, name = connection.partition("/")
    if not name:
        raise NotFound(f"{connection}: say TENANT/PBX")
    site, pbx = platform.site.pbx(tenant, name)
    return tenant, site, pbx
