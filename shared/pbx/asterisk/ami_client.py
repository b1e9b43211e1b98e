"""
A session with an Asterisk Manager Interface.

Held here, because no library does (what was seen: docs/decisions/0006-own-asterisk-clients.md):
a refused login is final until the configuration changes; a frozen link is noticed by a ping's
deadline; one reader never waits for handlers; actions have deadlines and are never sent twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta

import structlog

from shared.clock import Clock
from shared.errors import ContractError, Rejected, Unavailable
from shared.ids import new_id
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.ami_connect import AmiAddress, connect, read_banner
from shared.pbx.asterisk.ami_wire import AmiMessage, AmiParser, encode_action
from shared.pbx.port import LoginRefused

__all__ = ["AmiAddress", "AmiSession", "ami_session"]

log = structlog.get_logger(__name__)

_PING_EVERY = timedelta(seconds=10)
_PONG_WITHIN = timedelta(seconds=5)
_ACTION_WITHIN = timedelta(seconds=5)
#: Events that wait for their reader. 50 calls a second are 6,000 events a second; a reader that
#: is that far behind is gone, and Asterisk would throw the session out for not reading.
_QUEUE = 20_000
#: Items of one list answer; a PBX of a thousand calls at once has some thousand channels.
_LIST = 50_000
_READ_BYTES = 64 * 1024


class AmiSession:
    """Made by :func:`ami_session`; over when the connection is."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        wanted: Collection[str],
        clock: Clock,
        metrics: Metrics | None = None,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._wanted = frozenset(wanted)
        self._parser = AmiParser(self._wanted)
        self._clock = clock
        self._metrics = metrics
        self._prefix = new_id().hex[:8]
        self._numbers = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[AmiMessage]] = {}
        self._lists: dict[str, list[AmiMessage]] = {}
        self._events: asyncio.Queue[AmiMessage | None] = asyncio.Queue()
        self._over: BaseException | None = None
        #: When the PBX last said anything, by our clock.
        self.heard_at = clock.now()
        self.dropped = 0
        #: When the first of them was dropped; set back by who has caught up.
        self.dropping_since: datetime | None = None

    async def events(self) -> AsyncIterator[AmiMessage]:
        """What happens, in the order it came. Ends by Unavailable when the connection is lost."""
        while (event := await self._events.get()) is not None:
            yield event
        raise Unavailable(f"the AMI connection is over: {self._over}")

    @property
    def waiting_events(self) -> int:
        return self._events.qsize()

    async def action(
        self,
        name: str,
        fields: Mapping[str, str | list[str]] | None = None,
        *,
        within: timedelta = _ACTION_WITHIN,
        action_id: str | None = None,
    ) -> AmiMessage:
        """
        Raises: Rejected with the PBX's words, ContractError for a line break in a value,
        Unavailable with ``sent=False`` in its details when nothing was sent, with ``sent=True``
        when no answer came: then nobody knows whether it was done.
        """
        answer, _ = await self._do(name, fields or {}, within, action_id, is_list=False)
        return answer

    async def list_action(
        self,
        name: str,
        fields: Mapping[str, str | list[str]] | None = None,
        *,
        within: timedelta = _ACTION_WITHIN,
    ) -> list[AmiMessage]:
        """
        The events of a list answer, and the one that ends it. Raises as :meth:`action`, and
        ContractError for a list without an end.
        """
        end, items = await self._do(name, fields or {}, within, None, is_list=True)
        return [*items, end]

    async def login(self, address: AmiAddress) -> None:
        """By MD5 challenge, so that the secret never crosses. Raises: LoginRefused, Unavailable."""
        try:
            challenge = await self.action("Challenge", {"AuthType": "MD5"})
            proof = challenge.get("Challenge") + address.secret.get_secret_value()
            await self.action(
                "Login",
                {
                    "AuthType": "MD5",
                    "Username": address.username,
                    # The protocol's own choice of hash.
                    "Key": hashlib.md5(proof.encode(), usedforsecurity=False).hexdigest(),
                    "Events": "on",
                },
            )
        except Rejected as error:
            raise LoginRefused(
                f"Asterisk refuses user {address.username}: {error.message}; see manager.conf "
                "(secret, permit)"
            ) from None

    async def serve(self) -> None:
        """Read until the connection ends, pinging; called by :func:`ami_session`."""
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
            self._over = self._over or Unavailable("closed")
            for future in self._waiting.values():
                if not future.done():
                    over = f"the AMI connection is over: {self._over}"
                    future.set_exception(Unavailable(over, sent=True))
            self._events.put_nowait(None)

    async def _read(self) -> None:
        while data := await self._reader.read(_READ_BYTES):
            self.heard_at = self._clock.now()
            ignored, garbage = self._parser.passed_over, self._parser.garbage
            for message in self._parser.feed(data):
                self._sort(message)
            self._count("ignored", self._parser.passed_over - ignored)
            self._count("garbage", self._parser.garbage - garbage)

    def _count(self, outcome: str, number: int) -> None:
        if number and self._metrics is not None:
            self._metrics.count("callmesh_pbx_events_total", "asterisk", outcome, by=number)

    def _sort(self, message: AmiMessage) -> None:
        """An answer to its asker, a list's item to its list, anything else to the events."""
        action_id = message.action_id
        if "Response" in message.headers and not message.event:
            if action_id in self._lists and message.get("EventList").lower() == "start":
                return  # its items follow
            self._settle(action_id, message)
        elif action_id in self._lists:
            if message.get("EventList").lower() == "complete":
                self._settle(action_id, message)
            elif len(self._lists[action_id]) < _LIST:
                self._lists[action_id].append(message)
            else:
                self._refuse(action_id, ContractError(f"a list of over {_LIST} items"))
        elif message.event not in self._wanted:
            return  # an answer to another manager's action
        elif self._events.qsize() < _QUEUE:
            self._events.put_nowait(message)
        else:
            self.dropped += 1
            self.dropping_since = self.dropping_since or self._clock.now()
            self._count("dropped", 1)

    def _settle(self, action_id: str, message: AmiMessage) -> None:
        waiting = self._waiting.get(action_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(message)

    def _refuse(self, action_id: str, error: Exception) -> None:
        waiting = self._waiting.get(action_id)
        if waiting is not None and not waiting.done():
            waiting.set_exception(error)

    async def _ping(self) -> None:
        """A PBX that hangs keeps its TCP connection: only an answer proves that it lives."""
        while True:
            await self._clock.sleep(_PING_EVERY)
            await self.action("Ping", within=_PONG_WITHIN)

    async def _do(
        self,
        name: str,
        fields: Mapping[str, str | list[str]],
        within: timedelta,
        action_id: str | None,
        *,
        is_list: bool,
    ) -> tuple[AmiMessage, list[AmiMessage]]:
        if self._over is not None:
            raise Unavailable(f"the AMI connection is over: {self._over}", sent=False)
        number = action_id or f"{self._prefix}-{next(self._numbers)}"
        data = encode_action(name, {"ActionID": number, **fields})
        answer: asyncio.Future[AmiMessage] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        if is_list:
            self._lists[number] = []
        try:
            async with asyncio.timeout(within.total_seconds()):
                self._writer.write(data)
                await self._writer.drain()
                message = await answer
        except (TimeoutError, OSError):
            raise Unavailable(f"the PBX did not answer {name}", sent=True) from None
        finally:
            del self._waiting[number]
            items = self._lists.pop(number, [])
        if message.get("Response") == "Error":
            raise Rejected(f"{name}: {message.get('Message')}")
        return message, items


@asynccontextmanager
async def ami_session(
    address: AmiAddress,
    *,
    wanted: Collection[str],
    clock: Clock,
    metrics: Metrics | None = None,
) -> AsyncIterator[AmiSession]:
    """
    A logged-in session that reads the events named in *wanted*; *metrics* counts all others.

    Raises: Unavailable (no connection, no answer; NotTrusted), LoginRefused, ContractError (this
    is no AMI).
    """
    reader, writer = await connect(address)
    try:
        banner = await read_banner(reader, address)
        session = AmiSession(reader, writer, wanted=wanted, clock=clock, metrics=metrics)
        serving = asyncio.create_task(session.serve())
        try:
            await session.login(address)
            log.info("ami_connected", host=address.host, banner=banner)
            yield session
        finally:
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
