"""Live events on a WebSocket (RFC 6455), on which the client may answer."""

from __future__ import annotations

import asyncio
from collections import deque
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

import structlog
from aiohttp import WSCloseCode, WSMsgType, hdrs, web
from pydantic import BaseModel, ValidationError

from shared.clock import Clock
from shared.errors import MeshError
from shared.faults import faults_in
from shared.http import problems
from shared.http.following import KEEP_ALIVE, Ending, Still, Work, counted, follow
from shared.http.live import LiveStream, Placed
from shared.http.patience import cut, patiently
from shared.observe.logging import mask_text
from shared.observe.metrics import Metrics

log = structlog.get_logger(__name__)

#: A client says that it has seen a pop, or from where it wants to go on.
_MAX_MESSAGE_BYTES = 4096
#: So much at once, and on the long run ten in ten seconds.
_BURST, _PER = 10, timedelta(seconds=10)
#: Of the range that is ours to use (RFC 6455, 7.4.2): as HTTP's 401.
UNAUTHENTICATED = 4401

_CLOSING: dict[Ending, tuple[int, str]] = {
    Ending.OVER: (WSCloseCode.OK, "no more comes"),
    Ending.STOPPING: (WSCloseCode.SERVICE_RESTART, "connect again with the last id"),
    Ending.LEFT: (WSCloseCode.OK, ""),
    Ending.REFUSED: (UNAUTHENTICATED, "the key is not good any more"),
}
_BEHIND = (WSCloseCode.TRY_AGAIN_LATER, "too slow: connect again with the last id")


class _Unheard(Exception):
    """What the client says cannot be listened to; the socket is closed for it."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(words)
        self.code = code
        self.words = words


class Sockets:
    """*stopping*: set when the server stops; every socket is closed then."""

    def __init__(self, clock: Clock, metrics: Metrics, stopping: asyncio.Event) -> None:
        self._clock = clock
        self._metrics = metrics
        self._stopping = stopping

    async def serve(
        self,
        events: LiveStream[Any],
        hears: type[BaseModel],
        request: web.Request,
        still: Still,
    ) -> web.StreamResponse:
        """What the client says is of the model *hears*."""
        # aiohttp pings at each beat, and cuts off who does not answer.
        socket = web.WebSocketResponse(
            heartbeat=KEEP_ALIVE.total_seconds(), max_msg_size=_MAX_MESSAGE_BYTES, compress=False
        )

        def send(event: Placed[Any]) -> Work:
            return socket.send_str(event.json)

        def beat() -> Work:
            now = events.position
            return socket.send_json({"kind": "alive", "id": now, "position": now})

        listening: asyncio.Task[None] | None = None
        try:
            await socket.prepare(request)
            listening = asyncio.create_task(self._listen(socket, events, hears))
            with counted(self._metrics):
                await patiently(self._clock, beat())
                ending = await follow(
                    events.next,
                    send=send,
                    beat=beat,
                    still=still,
                    clock=self._clock,
                    stopping=self._stopping,
                    left=listening,
                )
                await self._close(socket, *(_BEHIND if events.is_cut else _CLOSING[ending]))
        except _Unheard as unheard:
            await self._close(socket, unheard.code, unheard.words)
        except (ConnectionError, TimeoutError):
            cut(request)  # the client went away, or does not read
        except Exception:
            log.exception("stream_failed", path=request.path)
            cut(request)
        finally:
            if listening is not None:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
            events.close()
        return socket

    async def _listen(
        self, socket: web.WebSocketResponse, events: LiveStream[Any], hears: type[BaseModel]
    ) -> None:
        """Returns when the client has closed. Raises: _Unheard."""
        heard: deque[datetime] = deque()
        async for message in socket:
            if message.type is not WSMsgType.TEXT:
                raise _Unheard(WSCloseCode.UNSUPPORTED_DATA, "messages are JSON, as text")
            now = self._clock.now()
            while heard and now - heard[0] >= _PER:
                heard.popleft()
            heard.append(now)
            if len(heard) > _BURST:
                raise _Unheard(WSCloseCode.POLICY_VIOLATION, "too many messages")
            try:
                said = hears.model_validate_json(message.data)
            except ValidationError as error:
                await self._complain(socket, "invalid_request", faults_in(error))
                continue
            try:
                await events.hear(said)
            except MeshError as error:
                await self._complain(socket, error.code, mask_text(error.message))

    async def _complain(self, socket: web.WebSocketResponse, code: str, detail: str) -> None:
        said = {"kind": "error", "code": code, "detail": detail}
        await patiently(self._clock, socket.send_json(said))

    async def _close(self, socket: web.WebSocketResponse, code: int, words: str) -> None:
        if not socket.closed:
            await patiently(self._clock, socket.close(code=code, message=words.encode()))


def refusal(request: web.Request) -> web.Response | None:
    """The answer to what is no request for a socket."""
    if request.headers.get(hdrs.UPGRADE, "").lower() == "websocket":
        return None
    return problems.problem(
        HTTPStatus.UPGRADE_REQUIRED,
        "upgrade_required",
        "Open a WebSocket at this address; server-sent events are to be had at `events`.",
        headers={hdrs.UPGRADE: "websocket", hdrs.CONNECTION: "Upgrade"},
    )
