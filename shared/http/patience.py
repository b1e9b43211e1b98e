"""Waiting for a client no longer than it deserves."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from aiohttp import web

from shared.clock import Clock

T = TypeVar("T")

#: A client has so long for its body, and for taking a piece of a stream.
PATIENCE = timedelta(seconds=10)


async def patiently(
    clock: Clock,
    work: Coroutine[Any, Any, T],
    *unless: asyncio.Task[Any],
    within: timedelta = PATIENCE,
) -> T:
    """Raises TimeoutError when it is not done in time, or by when one of *unless* is."""
    working = asyncio.create_task(work)
    patience = asyncio.create_task(clock.sleep(within))
    try:
        await asyncio.wait({working, patience, *unless}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise TimeoutError
        return await working
    finally:
        patience.cancel()
        working.cancel()


def cut(request: web.Request) -> None:
    """What was begun is broken off: it must not look like its end."""
    if request.transport is not None:
        request.transport.abort()
