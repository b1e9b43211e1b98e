"""The one HTTP client: a time budget per request, a cap on what is read, no redirects."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from time import perf_counter
from types import TracebackType
from typing import Self

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random
from yarl import URL

from shared.errors import ContractError, Forbidden, MeshError, OutOfTime, Rejected, Unavailable
from shared.net.guard import AddressGuard, GuardedResolver
from shared.observe import tracing

#: A page of 200 CRM records is some hundred kilobytes.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
#: A PBX's event is some kilobytes.
MAX_WEBSOCKET_BYTES = 1024 * 1024
_HEARTBEAT = 20.0
#: A peer that is told goodbye says so at once, or is gone.
_GOODBYE = 2.0
#: Connections in all, and to one host: a CRM that hangs must leave room for the others.
_POOL, _POOL_PER_HOST = 128, 24
#: Of a download in memory at once.
_PIECE_BYTES = 64 * 1024
#: Methods that change nothing (RFC 9110).
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True, slots=True)
class Answer:
    """Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Exchange:
    """A request and its answer, or why there is none: secrets included, for who masks them."""

    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None
    answer: Answer | None
    error: str | None
    took: timedelta


class WebSocket:
    """An open one: text goes and comes; it pings by itself and notices a dead peer."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, host: str) -> None:
        self._socket = socket
        self._host = host

    async def send(self, text: str) -> None:
        """Raises: Unavailable."""
        try:
            await self._socket.send_str(text)
        except (aiohttp.ClientError, ConnectionError) as error:
            raise Unavailable(f"{self._host} broke off: {type(error).__name__}") from error

    async def receive(self) -> str:
        """The next text. Raises: Unavailable when it is over, ContractError for bytes."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            text: str = message.data
            return text
        if message.type is aiohttp.WSMsgType.BINARY:
            raise ContractError(f"{self._host} sent bytes where text was due")
        raise Unavailable(f"{self._host} closed the connection ({self._socket.close_code})")


@dataclass(slots=True)
class _Told:
    """What is told to those who watch."""

    answer: Answer | None = None


@dataclass(frozen=True, slots=True)
class _Sending:
    method: str
    url: URL
    headers: Mapping[str, str]
    body: bytes | None
    ssl: aiohttp.Fingerprint | bool
    most: int


class Download:
    """The answer to a GET whose body is read piece by piece. Header names are in lower case."""

    def __init__(self, response: aiohttp.ClientResponse, host: str) -> None:
        self._response = response
        self._host = host
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    async def pieces(self) -> AsyncIterator[bytes]:
        """Raises: Unavailable where it breaks off, or nothing comes for too long."""
        try:
            async for piece in self._response.content.iter_chunked(_PIECE_BYTES):
                yield piece
        except TimeoutError:
            raise OutOfTime(f"{self._host} fell silent in the middle") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{self._host} broke off: {type(error).__name__}") from error


class _NotSent(Unavailable):
    """The connection was never made, so nothing can have happened at the other end."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class _TooLong(Exception):
    """The answer is over the cap."""


class HttpClient:
    """Use as an async context manager; connections are kept and shared."""

    def __init__(self, guard: AddressGuard, *, trust: ssl.SSLContext | None = None) -> None:
        """*trust*: who may vouch for servers; None: the authorities that Python trusts."""
        self._guard = guard
        #: For connections that are no HTTP; what it finds may be called.
        self.names = GuardedResolver(guard)
        self._trust = trust
        self._session: aiohttp.ClientSession | None = None
        #: WebSockets stay open for days: they take no places of requests.
        self._sockets: aiohttp.ClientSession | None = None
        self._watchers: tuple[Callable[[Exchange], None], ...] = ()

    async def __aenter__(self) -> Self:
        self._session = self._opened(limit=_POOL, per_host=_POOL_PER_HOST)
        self._sockets = self._opened(limit=0, per_host=0, middlewares=(_no_redirect,))
        return self

    def _opened(
        self, *, limit: int, per_host: int, middlewares: Sequence[aiohttp.ClientMiddlewareType] = ()
    ) -> aiohttp.ClientSession:
        """*limit* 0: none."""
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=limit,
                limit_per_host=per_host,
                resolver=GuardedResolver(self._guard),
                ttl_dns_cache=60,
                ssl=self._trust or True,
            ),
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "callmesh"},
            middlewares=middlewares,
            trust_env=False,
        )

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for session in (self._session, self._sockets):
            if session is not None:
                await session.close()

    def watched(self, watcher: Callable[[Exchange], None]) -> HttpClient:
        """
        The same client and its connections, telling *watcher* too of every exchange; of a WebSocket
        and a download, of their beginning.
        """
        twin = copy(self)
        twin._watchers = (*self._watchers, watcher)  # noqa: SLF001  its own kind
        return twin

    def may_be_plain(self, host: str) -> bool:
        """Whether plain http may go to *host*: an address of the operator's own list."""
        return self._guard.allows(host)

    def check_host(self, host: str) -> None:
        """Raises: Rejected for one that is an address by itself, and may not be called."""
        self._guard.check_host(host)

    async def send(
        self,
        method: str,
        url: URL,
        *,
        within: timedelta,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        fingerprint: bytes | None = None,
        most: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """
        *url* goes out as it is, nothing is quoted again. A request whose connection could not be
        made is tried once more, as is one that was cut off and whose method makes that harmless.
        *fingerprint*, the SHA-256 of the server's certificate, stands in place of an authority.
        *most* is the cap on the answer's bytes.

        Raises: Unavailable (no answer in time, no connection; an answer over the cap, where the
        method may have changed something), Rejected (an address that is forbidden or none, headers
        that cannot be sent, an answer over the cap).
        """
        with self._telling(method, url, headers, body) as told:
            sending = _Sending(method, url, headers or {}, body, _pinned(fingerprint), most)
            told.answer = await self._sent(sending, within)
            return told.answer

    @contextmanager
    def _telling(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str] | None,
        body: bytes | None = None,
    ) -> Iterator[_Told]:
        """Whoever watches is told of what is done within, when that is over."""
        began, told, fault = perf_counter(), _Told(), None
        try:
            yield told
        except MeshError as error:
            fault = error.message
            raise
        except asyncio.CancelledError:
            fault = "given up while it was under way"
            raise
        finally:
            if self._watchers:
                took = timedelta(seconds=perf_counter() - began)
                seen = Exchange(method, url, headers or {}, body, told.answer, fault, took)
                for watcher in self._watchers:
                    watcher(seen)

    async def _sent(self, sending: _Sending, within: timedelta) -> Answer:
        _check_name(sending.url)
        # What was cut off aiohttp repeats by itself, once, where the method is idempotent.
        again = retry_if_exception_type(_NotSent)
        try:
            async with asyncio.timeout(within.total_seconds()):
                async for attempt in AsyncRetrying(
                    stop=stop_after_attempt(2), wait=wait_random(0, 0.2), retry=again, reraise=True
                ):
                    with attempt:
                        return await self._once(sending)
        except TimeoutError:
            raise OutOfTime(
                f"{sending.url.host} did not answer within {within.total_seconds():g} s"
            ) from None
        raise AssertionError("unreachable: tenacity raises what the last attempt raised")

    @asynccontextmanager
    async def websocket(
        self,
        url: URL,
        *,
        within: timedelta,
        headers: Mapping[str, str] | None = None,
        fingerprint: bytes | None = None,
    ) -> AsyncIterator[WebSocket]:
        """
        *within* is for the opening. Its ping's deadline is 10 s, a message's bound 1 MiB.

        Raises: Unavailable, Rejected (a forbidden address), Forbidden (401 or 403).
        """
        with self._telling("GET", url, headers) as told:
            socket = await self._opened_socket(url, within, headers, fingerprint, told)
        try:
            yield WebSocket(socket, url.host or "")
        finally:
            await socket.close()

    async def _opened_socket(
        self,
        url: URL,
        within: timedelta,
        headers: Mapping[str, str] | None,
        fingerprint: bytes | None,
        told: _Told,
    ) -> aiohttp.ClientWebSocketResponse:
        _check_name(url)
        if self._sockets is None:
            raise RuntimeError("enter the client first")
        host = url.host or ""
        self._guard.check_host(host)
        try:
            async with asyncio.timeout(within.total_seconds()):
                socket = await self._sockets.ws_connect(
                    url,
                    headers=headers,
                    heartbeat=_HEARTBEAT,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_GOODBYE),
                    max_msg_size=MAX_WEBSOCKET_BYTES,
                    ssl=_pinned(fingerprint),
                )
        except TimeoutError:
            raise OutOfTime(f"{host} did not answer within {within.total_seconds():g} s") from None
        except aiohttp.WSServerHandshakeError as error:
            told.answer = Answer(error.status, {}, b"")
            if error.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
                raise Forbidden(f"{host} refuses the login ({error.status})") from None
            raise Unavailable(f"{host} opens no WebSocket here ({error.status})") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Unavailable(f"no connection to {host}: {_words(error)}") from None
        told.answer = Answer(HTTPStatus.SWITCHING_PROTOCOLS, {}, b"")
        return socket

    @asynccontextmanager
    async def download(
        self,
        url: URL,
        *,
        within: timedelta,
        headers: Mapping[str, str] | None = None,
        fingerprint: bytes | None = None,
    ) -> AsyncIterator[Download]:
        """
        A GET, tried once, without redirects. *within* is for its head, and for each silence after
        that; all in all it may take as long as the caller likes.

        Raises: Unavailable, Rejected (an address that is forbidden or none).
        """
        with self._telling("GET", url, headers) as told:
            response = await self._begun(url, within, headers, fingerprint)
            told.answer = Answer(response.status, {}, b"")
        try:
            yield Download(response, url.host or "")
        finally:
            # What was not read is not waited for.
            response.close()

    async def _begun(
        self,
        url: URL,
        within: timedelta,
        headers: Mapping[str, str] | None,
        fingerprint: bytes | None,
    ) -> aiohttp.ClientResponse:
        """A download's head."""
        _check_name(url)
        if self._sockets is None:
            raise RuntimeError("enter the client first")
        host = url.host or ""
        self._guard.check_host(host)
        silence = within.total_seconds()
        try:
            async with asyncio.timeout(silence):
                # Beside the requests: a long one takes the place of none.
                return await self._sockets.get(
                    url,
                    headers=headers,
                    allow_redirects=False,
                    timeout=aiohttp.ClientTimeout(total=None, sock_read=silence),
                    middlewares=(),
                    ssl=_pinned(fingerprint),
                )
        except TimeoutError:
            raise OutOfTime(f"{host} did not answer within {silence:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"no connection to {host}: {_words(error)}") from None
        except ValueError:
            # What it says may be the secret itself.
            raise Rejected(
                f"{host} cannot be asked: its address or a header of the request is malformed"
            ) from None

    async def _once(self, sending: _Sending) -> Answer:
        method, url = sending.method, sending.url
        if self._session is None:
            raise RuntimeError("enter the client first")
        self._guard.check_host(url.host or "")
        trace = tracing.traceparent()
        sent = {**sending.headers, **({"traceparent": trace} if trace else {})}
        try:
            async with self._session.request(
                method,
                url,
                headers=sent,
                data=sending.body,
                allow_redirects=False,
                ssl=sending.ssl,
            ) as response:
                return Answer(
                    response.status,
                    {name.lower(): value for name, value in response.headers.items()},
                    await _capped(response, sending.most),
                )
        except _TooLong as error:
            # What it did is done, and whoever sent it must not take it for refused.
            kind = Rejected if method in _SAFE else Unavailable
            raise kind(f"{url.host} answered more than {sending.most} bytes") from error
        except aiohttp.ServerFingerprintMismatch as error:
            raise _NotSent(f"no connection to {url.host}: {_words(error)}") from None
        except aiohttp.ClientConnectorError as error:
            raise _NotSent(f"no connection to {url.host}: {error.os_error}") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Unavailable(f"{url.host} broke off: {type(error).__name__}") from error
        except ValueError:
            # A name that is none (UnicodeError), a password in the address beside a header, a line
            # break in a header. What it says may be the secret itself.
            raise Rejected(
                f"{url.host} cannot be asked: its address or a header of the request is malformed"
            ) from None


async def _no_redirect(
    request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """What is opened as a WebSocket would be followed, secrets and all, to wherever it points."""
    answer = await handler(request)
    if HTTPStatus.MULTIPLE_CHOICES <= answer.status < HTTPStatus.BAD_REQUEST:
        answer.close()
        raise Unavailable(f"{request.url.host} opens no WebSocket here ({answer.status})")
    return answer


def _pinned(fingerprint: bytes | None) -> aiohttp.Fingerprint | bool:
    return True if fingerprint is None else aiohttp.Fingerprint(fingerprint)


def _words(error: Exception) -> str:
    if isinstance(error, aiohttp.ServerFingerprintMismatch):
        return f"its certificate is another, with SHA-256 {error.got.hex()}"
    if isinstance(error, aiohttp.ClientConnectorError):
        return str(error.os_error)
    return type(error).__name__


def _check_name(url: URL) -> None:
    """Raises: Rejected for a host whose name cannot be read."""
    try:
        _ = url.host
    except UnicodeError:
        raise Rejected("the name of the host in the address is malformed") from None


async def _capped(response: aiohttp.ClientResponse, most: int) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > most:
            raise _TooLong
        parts.append(part)
    return b"".join(parts)
