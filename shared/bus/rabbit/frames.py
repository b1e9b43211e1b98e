"""
Properties that the driver cannot read are taken off before it sees them.

Whoever may publish sets them as he likes, and the broker passes them on unread. A ``message_id`` in
Latin-1 would end our connection each time it is delivered, with all that is on its way over it, and
end each look at the dead letters once it is there. Without them the message is still read: nothing
of what a PBX says lies in its properties.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import structlog
from aiormq import TransportFactory
from aiormq.connection import TCPTransportFactory, TLSTransportFactory
from pamqp.header import ContentHeader
from yarl import URL

log = structlog.get_logger(__name__)

_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
#: Type, channel, length; then the payload and an end mark.
_FRAME_HEAD = 7
#: Behind class, weight and the body's length: which properties there are.
_FLAGS = slice(12, 14)
_DELIVERY_MODES = frozenset({None, 1, 2})


class ForgivingTransport(TransportFactory):
    """As aiormq's own, with or without TLS."""

    async def create(
        self, url: URL, **kwargs: Any
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        plain = TLSTransportFactory() if url.scheme == "amqps" else TCPTransportFactory()
        reader, writer = await plain.create(url, **kwargs)
        return cast("asyncio.StreamReader", _Frames(reader)), writer


class _Frames:
    """What aiormq needs of a stream: it comes frame by frame, the headers readable."""

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self._stream = stream
        self._ready = b""

    def at_eof(self) -> bool:
        return not self._ready and self._stream.at_eof()

    async def read(self, n: int = -1) -> bytes:
        ready, self._ready = self._ready, b""
        return ready or await self._stream.read(n)

    async def readexactly(self, n: int) -> bytes:
        """Raises: IncompleteReadError."""
        while len(self._ready) < n:
            self._ready += await self._frame()
        found, self._ready = self._ready[:n], self._ready[n:]
        return found

    async def _frame(self) -> bytes:
        head = await self._stream.readexactly(_FRAME_HEAD)
        if head[0] not in {_METHOD, _HEADER, _BODY, _HEARTBEAT}:
            return head  # a broker of another protocol names its own; aiormq says so
        rest = await self._stream.readexactly(int.from_bytes(head[3:7], "big") + 1)
        return head + (rest if head[0] != _HEADER else _readable(rest))


def _readable(rest: bytes) -> bytes:
    """*rest* is the payload of a header frame with its end mark; its length stays as announced."""
    try:
        header = ContentHeader()
        header.unmarshal(rest[:-1])
        if header.properties.delivery_mode in _DELIVERY_MODES:
            return rest
        fault = "delivery_mode"
    except Exception as error:  # noqa: BLE001  whatever it is, it would end the connection
        fault = type(error).__name__
    log.warning("properties_unreadable", error=fault)
    bare = bytearray(rest)
    # None: what follows is then no property, and is not looked at.
    bare[_FLAGS] = b"\0\0"
    return bytes(bare)
