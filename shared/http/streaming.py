"""Live events as server-sent events (HTML, 9.2), for as long as the client listens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import structlog
from aiohttp import web

from shared.clock import Clock
from shared.http.following import Still, Work, counted, follow
from shared.http.live import LiveStream, Placed
from shared.http.patience import cut, patiently
from shared.http.routes import ServerEvent
from shared.observe.metrics import Metrics

log = structlog.get_logger(__name__)

#: A client that was cut off is back before the next ring.
_RETRY = b"retry: 1000\n"
_HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # nginx would hold events back
}

Events = AsyncIterator[ServerEvent] | LiveStream[Any]
_Event = ServerEvent | Placed[Any]


class Streaming:
    """*stopping*: set when the server stops; every stream ends then."""

    def __init__(self, clock: Clock, metrics: Metrics, stopping: asyncio.Event) -> None:
        self._clock = clock
        self._metrics = metrics
        self._stopping = stopping

    async def events(
        self, events: Events, request: web.Request, still: Still
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=_HEADERS)

        async def come() -> _Event | None:
            if isinstance(events, LiveStream):
                return await events.next()
            return await anext(events, None)

        def send(event: _Event) -> Work:
            return response.write(_frame(event))

        def beat() -> Work:
            return response.write(_beat(events))

        try:
            await response.prepare(request)
            with counted(self._metrics):
                if isinstance(events, LiveStream):
                    await response.write(_RETRY + f"id: {events.position}\n\n".encode())
                await follow(
                    come,
                    send=send,
                    beat=beat,
                    still=still,
                    clock=self._clock,
                    stopping=self._stopping,
                )
                await patiently(self._clock, response.write_eof())
        except (ConnectionError, TimeoutError):
            cut(request)  # the client went away, or does not read
        except Exception:
            # The status is out, so all that can still be said is that the stream is broken off.
            log.exception("stream_failed", path=request.path)
            cut(request)
        finally:
            await _end(events)
        return response


def _beat(events: Events) -> bytes:
    """A page reads ids of events alone, and has to know the newest where it goes on by itself."""
    if not isinstance(events, LiveStream):
        return b": alive\n\n"
    position = events.position
    data = f'{{"kind":"alive","id":"{position}","position":"{position}"}}'
    return f"id: {position}\nevent: alive\ndata: {data}\n\n".encode()


def _frame(event: _Event) -> bytes:
    if isinstance(event, Placed):
        position = f"id: {event.position}\n" if event.position is not None else ""
        return f"{position}event: {event.event.event_name}\ndata: {event.json}\n\n".encode()
    data = event.model_dump_json(exclude_none=True)
    return f"event: {event.event_name}\ndata: {data}\n\n".encode()


async def _end(events: Events) -> None:
    if isinstance(events, LiveStream):
        events.close()
    elif isinstance(events, AsyncGenerator):
        await events.aclose()
