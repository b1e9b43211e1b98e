"""What is under way at once, each kind with its bound: requests, streams, files."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from aiohttp import web

from shared.errors import Throttled, Unavailable
from shared.http.auth import Caller
from shared.http.peers import network_of, peer_of

#: Requests under way at once; more are told to come back.
MAX_AT_ONCE = 256
#: Of those whose bodies are read before anybody is known: from everywhere, and from one network. A
#: body that comes takes milliseconds, one that does not ten seconds.
MAX_STRANGERS, MAX_STRANGERS_OF_ONE = 128, 64
#: Files under way at once, and of one tenant. A player takes the next piece when it has played the
#: last, and one that is paused keeps its place for a while.
MAX_FILES, MAX_FILES_OF_ONE = 256, 96
#: Streams that one key may have open: a CRM that follows every agent's phone by one key. Those that
#: browsers opened by tickets of it count for each phone; and all together, for a process has so
#: many connections.
MAX_STREAMS, MAX_STREAMS_AT_ONCE = 200, 10_000


class UnderWay:
    def __init__(self) -> None:
        self._at_once = 0
        self._strangers: Counter[str] = Counter()
        self._files: Counter[str] = Counter()
        self._streams: Counter[tuple[str, str, str]] = Counter()

    @contextmanager
    def one_more_request(self) -> Iterator[None]:
        """Raises: Unavailable."""
        if self._at_once >= MAX_AT_ONCE:
            raise Unavailable("More requests are under way than we take.")
        self._at_once += 1
        try:
            yield
        finally:
            self._at_once -= 1

    @contextmanager
    def one_more_stranger(self, request: web.Request) -> Iterator[None]:
        """While what somebody without a key says is read. Raises: Unavailable."""
        network = network_of(peer_of(request))
        if (
            self._strangers[network] >= MAX_STRANGERS_OF_ONE
            or self._strangers.total() >= MAX_STRANGERS
        ):
            raise Unavailable("More requests without a key are under way than we take.")
        self._strangers[network] += 1
        try:
            yield
        finally:
            self._strangers[network] -= 1
            if not self._strangers[network]:
                del self._strangers[network]

    @contextmanager
    def one_more_stream(self, caller: Caller | None) -> Iterator[None]:
        """A stream is open for hours; it is not one of the requests under way. Raises: Throttled."""
        key = (caller.tenant, caller.key_name, caller.extension or "") if caller else ("", "", "")
        if self._streams[key] >= MAX_STREAMS:
            raise Throttled(f"This API key has {MAX_STREAMS} streams open; end one first.")
        if self._streams.total() >= MAX_STREAMS_AT_ONCE:
            raise Throttled("As many streams are open as this process takes.")
        self._streams[key] += 1
        self._at_once -= 1
        try:
            yield
        finally:
            self._at_once += 1
            self._streams[key] -= 1
            if not self._streams[key]:
                del self._streams[key]

    @contextmanager
    def one_more_file(self, tenant: str) -> Iterator[None]:
        """As long as the client takes for it, it is no request under way. Raises: Throttled."""
        if self._files[tenant] >= MAX_FILES_OF_ONE or self._files.total() >= MAX_FILES:
            raise Throttled("As many files are under way as we give at once; end one first.")
        self._files[tenant] += 1
        self._at_once -= 1
        try:
            yield
        finally:
            self._at_once += 1
            self._files[tenant] -= 1
            if not self._files[tenant]:
                del self._files[tenant]
