"""The course of one live stream: what comes is sent, between that a beat, until one of two ends it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from datetime import timedelta
from enum import Enum
from typing import Any

import structlog

from shared.clock import Clock
from shared.errors import MeshError
from shared.http.patience import patiently
from shared.observe.metrics import Metrics

log = structlog.get_logger(__name__)

#: A proxy closes a silent connection after 30 to 60 s.
KEEP_ALIVE = timedelta(seconds=15)
#: How often it is asked whether the key is still good: it ends its streams within a minute.
_CHECK_EVERY = timedelta(seconds=30)

Work = Coroutine[Any, Any, None]
#: Whether the client's key is good as it was.
Still = Callable[[], Awaitable[bool]]


class Ending(Enum):
    #: There is no more.
    OVER = "over"
    STOPPING = "stopping"
    #: The key is not good any more.
    REFUSED = "refused"
    #: The client has ended it.
    LEFT = "left"


async def follow(
    come: Callable[[], Coroutine[Any, Any, Any]],
    *,
    send: Callable[[Any], Work],
    beat: Callable[[], Work],
    still: Still,
    clock: Clock,
    stopping: asyncio.Event,
    left: asyncio.Task[None] | None = None,
) -> Ending:
    """
    *come* gives the next event, None after the last. *left* is done when the client has left.

    Raises: TimeoutError when the client does not take something in time; ConnectionError; what
    *come* and *left* raise.
    """
    stop = asyncio.create_task(stopping.wait())
    refused = asyncio.create_task(_refused(still, clock))
    ends: set[asyncio.Task[Any]] = {stop, refused} | ({left} if left is not None else set())
    coming = asyncio.create_task(come())
    beating = asyncio.create_task(clock.sleep(KEEP_ALIVE))
    try:
        while True:
            done, _ = await asyncio.wait(
                {coming, beating, *ends}, return_when=asyncio.FIRST_COMPLETED
            )
            if coming in done:
                event = coming.result()
                if event is None:
                    return Ending.OVER
                await patiently(clock, send(event), *ends)
                coming = asyncio.create_task(come())
            elif beating in done:
                # What it says of the client's position holds: nothing is on its way.
                await patiently(clock, beat(), *ends)
            if beating in done:
                beating = asyncio.create_task(clock.sleep(KEEP_ALIVE))
            if stop in done:
                return Ending.STOPPING
            if refused in done:
                return Ending.REFUSED
            if left is not None and left in done:
                left.result()
                return Ending.LEFT
    finally:
        tasks: list[asyncio.Task[Any]] = [coming, beating, stop, refused]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _refused(still: Still, clock: Clock) -> None:
    while True:
        await clock.sleep(_CHECK_EVERY)
        try:
            if not await still():
                return
        except MeshError as error:
            # Nobody says no: what is open stays while the store is away.
            log.info("stream_not_checked", error=error.message)


@contextmanager
def counted(metrics: Metrics) -> Iterator[None]:
    metrics.count("callmesh_live_streams", by=1)
    try:
        yield
    finally:
        metrics.count("callmesh_live_streams", by=-1)
