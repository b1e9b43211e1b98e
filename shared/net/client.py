"""The one HTTP client: a time budget per request, a cap on what is read, no redirects."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import timedelta
from time import perf_counter
from types import TracebackType
from typing import Self

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random
from yarl import URL

from shared.errors import MeshError, OutOfTime, Rejected, Unavailable
from shared.net.guard import AddressGuard, GuardedResolver
from shared.observe import tracing

#: A page of 200 CRM records is some hundred kilobytes.
MAX_ANSWER_BYTES = 8 * 1024 * 1024
#: Connections in all, and to one host: a CRM that hangs must leave room for the others.
_POOL, _POOL_PER_HOST = 128, 24
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


class _NotSent(Unavailable):
    """The connection was never made, so nothing can have happened at the other end."""


class _TooLong(Exception):
    """The answer is over the cap."""


class HttpClient:
    """Use as an async context manager; connections are kept and shared."""

    def __init__(self, guard: AddressGuard) -> None:
        self._guard = guard
        self._session: aiohttp.ClientSession | None = None
        self._watcher: Callable[[Exchange], None] | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_POOL,
                limit_per_host=_POOL_PER_HOST,
                resolver=GuardedResolver(self._guard),
                ttl_dns_cache=60,
            ),
            auto_decompress=True,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "callmesh"},
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._session is not None:
            await self._session.close()

    def watched(self, watcher: Callable[[Exchange], None]) -> HttpClient:
        """The same client and its connections, telling *watcher* of every exchange."""
        twin = copy(self)
        twin._watcher = watcher  # noqa: SLF001  its own kind
        return twin

    def may_be_plain(self, host: str) -> bool:
        """Whether plain http may go to *host*: an address of the operator's own list."""
        return self._guard.allows(host)

    async def send(
        self,
        method: str,
        url: URL,
        *,
        within: timedelta,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> Answer:
        """
        *url* goes out as it is, nothing is quoted again. A request whose connection could not be
        made is tried once more, as is one that was cut off and whose method makes that harmless.

        Raises: Unavailable (no answer in time, no connection; an answer over the cap, where the
        method may have changed something), Rejected (an address that is forbidden or none, headers
        that cannot be sent, an answer over the cap).
        """
        began = perf_counter()
        answer, fault = None, None
        try:
            answer = await self._sent(method, url, within, headers or {}, body)
            return answer
        except MeshError as error:
            fault = error.message
            raise
        finally:
            if self._watcher is not None:
                took = timedelta(seconds=perf_counter() - began)
                self._watcher(Exchange(method, url, headers or {}, body, answer, fault, took))

    async def _sent(
        self,
        method: str,
        url: URL,
        within: timedelta,
        headers: Mapping[str, str],
        body: bytes | None,
    ) -> Answer:
        _check_name(url)
        # What was cut off aiohttp repeats by itself, once, where the method is idempotent.
        again = retry_if_exception_type(_NotSent)
        try:
            async with asyncio.timeout(within.total_seconds()):
                async for attempt in AsyncRetrying(
                    stop=stop_after_attempt(2), wait=wait_random(0, 0.2), retry=again, reraise=True
                ):
                    with attempt:
                        return await self._once(method, url, headers, body)
        except TimeoutError:
            raise OutOfTime(
                f"{url.host} did not answer within {within.total_seconds():g} s"
            ) from None
        raise AssertionError("unreachable: tenacity raises what the last attempt raised")

    async def _once(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None
    ) -> Answer:
        if self._session is None:
            raise RuntimeError("enter the client first")
        self._guard.check_host(url.host or "")
        trace = tracing.traceparent()
        sent = {**headers, **({"traceparent": trace} if trace else {})}
        try:
            async with self._session.request(
                method, url, headers=sent, data=body, allow_redirects=False
            ) as response:
                return Answer(
                    response.status,
                    {name.lower(): value for name, value in response.headers.items()},
                    await _capped(response),
                )
        except _TooLong as error:
            # What it did is done, and whoever sent it must not take it for refused.
            kind = Rejected if method in _SAFE else Unavailable
            raise kind(f"{url.host} answered more than {MAX_ANSWER_BYTES} bytes") from error
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


def _check_name(url: URL) -> None:
    """Raises: Rejected for a host whose name cannot be read."""
    try:
        _ = url.host
    except UnicodeError:
        raise Rejected("the name of the host in the address is malformed") from None


async def _capped(response: aiohttp.ClientResponse) -> bytes:
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > MAX_ANSWER_BYTES:
            raise _TooLong
        parts.append(part)
    return b"".join(parts)
