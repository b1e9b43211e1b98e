"""
A session with a FreeSWITCH event socket.

A refused login is final until the configuration changes; a frozen link is noticed by a deadline;
one reader never waits for handlers; commands have deadlines, their answers come in the order in
which they were sent, and none is sent twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog
from pydantic import SecretStr

from shared.clock import Clock
from shared.errors import ContractError, Rejected, Unavailable
from shared.net.guard import GuardedResolver
from shared.net.streams import open_stream
from shared.pbx.freeswitch.esl_wire import JSON, PLAIN, EslFrame, EslParser, encode_command
from shared.pbx.jsonhttp import words_of
from shared.pbx.port import LoginRefused

log = structlog.get_logger(__name__)

_CONNECT = timedelta(seconds=5)
_COMMAND_WITHIN = timedelta(seconds=5)
_PING_EVERY = timedelta(seconds=10)
_PONG_WITHIN = timedelta(seconds=5)
#: Does nothing here and needs no right; both of its answers prove that the other side lives.
_PING = "nolog"
#: Events that wait for their reader. A call makes about ten; a reader that is that far behind is
#: gone, and FreeSWITCH would throw the session out for not reading.
_QUEUE = 20_000
#: And how large they may be together; one with all its variables is 5 to 20 kB.
_QUEUE_BYTES = 128 * 1024 * 1024
_READ_BYTES = 64 * 1024
_GREETING, _REJECTION = "auth/request", "text/rude-rejection"
_GOODBYE = "text/disconnect-notice"
_ANSWERS = frozenset({"command/reply", "api/response"})


@dataclass(frozen=True, slots=True, kw_only=True)
class EslAddress:
    """
    *username* ``user@domain`` of the directory; without it the password of the socket itself.
    *names*: who looks *host* up and knows where we may go; None: we may go anywhere.
    """

    host: str
    port: int
    password: SecretStr
    username: str | None = None
    names: GuardedResolver | None = field(default=None, repr=False)


class EslSession:
    """Made by :func:`esl_session`; over when the connection is."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, clock: Clock
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._clock = clock
        self._parser = EslParser()
        #: Those who wait for an answer, in the order of their commands. Who gave up stays in it:
        #: his answer may still come, and it is not his neighbour's.
        self._waiting: deque[asyncio.Future[EslFrame]] = deque()
        self._greeted: asyncio.Future[EslFrame] = asyncio.get_running_loop().create_future()
        self._events: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._waiting_bytes = 0
        self._over: BaseException | None = None
        #: When the other side was last known to live.
        self.heard_at = clock.now()
        self.dropped = 0
        self._dropping_since: datetime | None = None

    async def events(self) -> AsyncIterator[bytes]:
        """Events as they came, in their order. Ends by Unavailable when the connection is lost."""
        while (event := await self._events.get()) is not None:
            self._waiting_bytes -= len(event)
            yield event
        raise Unavailable(f"the event socket is closed: {self._over}")

    @property
    def waiting_events(self) -> int:
        return self._events.qsize()

    def losses(self) -> tuple[int, datetime] | None:
        """How many events were dropped, and since when; told once."""
        count, since = self.dropped, self._dropping_since
        self.dropped, self._dropping_since = 0, None
        return None if since is None else (count, since)

    async def command(
        self,
        line: str,
        headers: Mapping[str, str] | None = None,
        *,
        within: timedelta = _COMMAND_WITHIN,
    ) -> EslFrame:
        """
        Raises: Rejected with the PBX's words, ContractError for a line break, Unavailable when
        no answer came: then nobody knows whether it was done, but for ``sent=False`` in its details.
        """
        frame = await self._ask(line, headers, within)
        if frame.reply.startswith(("-ERR", "-USAGE")):
            raise Rejected(f"{line.partition(' ')[0]}: {words_of(frame.reply)}")
        return frame

    async def api(self, line: str, *, within: timedelta = _COMMAND_WITHIN) -> str:
        """The output of an API command. Raises as :meth:`command`."""
        return (await self.command(f"api {line}", within=within)).reply

    async def subscribe(self, names: Iterable[str]) -> None:
        """Raises: Rejected, Unavailable."""
        await self.command(f"event json {' '.join(names)}")

    async def login(self, address: EslAddress) -> None:
        """Raises: LoginRefused, ContractError (this is no event socket), Unavailable."""
        try:
            async with asyncio.timeout(_CONNECT.total_seconds()):
                greeting = await asyncio.shield(self._greeted)
        except TimeoutError:
            raise ContractError(
                f"{address.host}:{address.port} does not greet as an event socket does"
            ) from None
        if greeting.kind == _REJECTION:
            raise LoginRefused(
                "FreeSWITCH lets no one in from this address: apply-inbound-acl and listen-ip in "
                "event_socket.conf.xml"
            )
        password = address.password.get_secret_value()
        line = f"userauth {address.username}:{password}" if address.username else f"auth {password}"
        answer = await self._ask(line, None, _COMMAND_WITHIN)
        if not answer.reply.startswith("+OK"):
            whom = f"user {address.username}" if address.username else "the password"
            raise LoginRefused(f"FreeSWITCH refuses {whom}; see event_socket.conf.xml")

    async def serve(self) -> None:
        """Read until the connection ends, pinging; called by :func:`esl_session`."""
        reading = asyncio.create_task(self._read())
        pinging = asyncio.create_task(self._ping())
        try:
            done, _ = await asyncio.wait({reading, pinging}, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                self._over = task.exception() or Unavailable("closed by the PBX")
        finally:
            for task in (reading, pinging):
                task.cancel()
            await asyncio.gather(reading, pinging, return_exceptions=True)
            self._end(self._over or Unavailable("closed"))

    def _end(self, why: BaseException) -> None:
        self._over = why
        # Who reads a page of something else shall learn that, not that a connection is over.
        error = why if isinstance(why, ContractError) else Unavailable(f"the event socket: {why}")
        for future in (*self._waiting, self._greeted):
            if not future.done():
                future.set_exception(error)
                future.exception()  # nobody may be waiting for it any more
        self._events.put_nowait(None)

    async def _read(self) -> None:
        while data := await self._reader.read(_READ_BYTES):
            self.heard_at = self._clock.now()
            for frame in self._parser.feed(data):
                if frame.kind == _GOODBYE:
                    raise Unavailable("FreeSWITCH said goodbye")
                self._sort(frame)

    def _sort(self, frame: EslFrame) -> None:
        """An answer to who asked first, anything else to the events."""
        if frame.kind in _ANSWERS:
            if not self._waiting:
                raise ContractError("an answer that nobody asked for")
            waiting = self._waiting.popleft()
            if not waiting.done():
                waiting.set_result(frame)
        elif frame.kind in {_GREETING, _REJECTION}:
            if not self._greeted.done():
                self._greeted.set_result(frame)
        elif frame.kind not in {JSON, PLAIN}:
            return  # a log line, an event as XML: nobody here asks for them
        elif self._events.qsize() < _QUEUE and self._waiting_bytes < _QUEUE_BYTES:
            self._waiting_bytes += len(frame.body)
            self._events.put_nowait(frame.body)
        else:
            self.dropped += 1
            self._dropping_since = self._dropping_since or self.heard_at

    async def _ping(self) -> None:
        """A PBX that hangs keeps its TCP connection: only an answer proves that it lives."""
        while True:
            await self._clock.sleep(_PING_EVERY)
            await self._ask(_PING, None, _PONG_WITHIN)

    async def _ask(
        self, line: str, headers: Mapping[str, str] | None, within: timedelta
    ) -> EslFrame:
        if self._over is not None:
            raise Unavailable(f"the event socket is closed: {self._over}", sent=False)
        data = encode_command(line, headers)
        answer: asyncio.Future[EslFrame] = asyncio.get_running_loop().create_future()
        # Both without a pause in between: the order of those who wait is that of the commands.
        self._waiting.append(answer)
        self._writer.write(data)
        try:
            async with asyncio.timeout(within.total_seconds()):
                await self._writer.drain()
                return await answer
        except (TimeoutError, OSError):
            raise Unavailable(f"the PBX did not answer {line.partition(' ')[0]}") from None


@asynccontextmanager
async def esl_session(address: EslAddress, *, clock: Clock) -> AsyncIterator[EslSession]:
    """
    A logged-in session.

    Raises: Unavailable (no connection, no answer), LoginRefused, ContractError (no event socket).
    """
    reader, writer = await _connect(address)
    try:
        session = EslSession(reader, writer, clock=clock)
        serving = asyncio.create_task(session.serve())
        try:
            await session.login(address)
            log.info("esl_connected", host=address.host)
            yield session
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()


async def _connect(address: EslAddress) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    try:
        async with asyncio.timeout(_CONNECT.total_seconds()):
            return await open_stream(address.host, address.port, names=address.names)
    # A name that no resolver can write is a UnicodeError, which is a ValueError.
    except (OSError, TimeoutError, ValueError) as error:
        raise Unavailable(_no_socket(address, str(error))) from None
    # It may be let another day: the operator's list and what a name means both change.
    except Rejected as error:
        raise Unavailable(_no_socket(address, error.message)) from None


def _no_socket(address: EslAddress, why: str) -> str:
    return f"no event socket at {address.host}:{address.port}: {why or 'no answer'}"
