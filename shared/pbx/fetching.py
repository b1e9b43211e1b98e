"""
Recordings by HTTP: a GET with the credentials of the connection, redirects as far as they may go,
and a look at what comes before it is taken for a recording.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus

from yarl import URL

from shared.errors import Forbidden, NotFound, Rejected, Unavailable
from shared.net.client import Download, HttpClient

#: For the first byte, and for each silence.
WITHIN = timedelta(seconds=20)
_MOST_HOPS = 3
_REDIRECTS = frozenset(
    {
        HTTPStatus.MOVED_PERMANENTLY,
        HTTPStatus.FOUND,
        HTTPStatus.SEE_OTHER,
        HTTPStatus.TEMPORARY_REDIRECT,
        HTTPStatus.PERMANENT_REDIRECT,
    }
)
_NOT_HERE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_NOT_NOW = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
#: A page that says to log in, or what went wrong, under status 200.
_NO_SOUND = ("text/", "application/json", "application/xml", "application/xhtml")


@dataclass(frozen=True, slots=True)
class Asked:
    """Where a recording is; *headers* are for that origin alone."""

    url: URL
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    fingerprint: bytes | None = None


def at_origin(recording: str, base: str) -> URL | None:
    """*recording* as the address that it is, where it lies on the host of *base*. Pure."""
    try:
        url, home = URL(recording), URL(base)
        there = url.scheme in {"http", "https"} and url.origin() == home.origin()
    except (ValueError, UnicodeError):
        return None
    # A name in front of the host is nobody's business but ours.
    return url if there and url.user is None and url.password is None else None


class WebRecordings:
    """*asked* says where a recording is: None for what is none of these."""

    def __init__(self, http: HttpClient, asked: Callable[[str], Asked | None]) -> None:
        self._http = http
        self._asked = asked

    @asynccontextmanager
    async def fetch(self, recording: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """As :class:`shared.pbx.port.FetchesRecordings`."""
        asked = self._asked(recording)
        if asked is None:
            raise NotFound("The PBX has no recording of this name.")
        async with downloaded(self._http, asked) as pieces:
            yield pieces


@asynccontextmanager
async def downloaded(http: HttpClient, asked: Asked) -> AsyncIterator[AsyncIterator[bytes]]:
    """
    The pieces of what is there. A redirect to another origin goes without the headers, and never
    to http from https.

    Raises: NotFound, Forbidden, Rejected, Unavailable.
    """
    url, headers, fingerprint = asked.url, asked.headers, asked.fingerprint
    for _ in range(_MOST_HOPS + 1):
        async with AsyncExitStack() as stack:
            answer = await stack.enter_async_context(
                http.download(url, within=WITHIN, headers=headers, fingerprint=fingerprint)
            )
            if answer.status not in _REDIRECTS:
                _check(answer, url.host or "")
                yield answer.pieces()
                return
        target = _target(url, answer, http)
        if target.origin() != url.origin():
            headers, fingerprint = {}, None
        url = target
    raise Rejected(f"{asked.url.host} redirects more than {_MOST_HOPS} times")


def _target(url: URL, answer: Download, http: HttpClient) -> URL:
    """Raises: Rejected."""
    try:
        target = url.join(URL(answer.headers.get("location", "")))
    except ValueError:
        target = URL()
    if target == url or target.scheme not in {"http", "https"} or not target.host:
        raise Rejected(f"{url.host} redirects to where nothing can be")
    if target.scheme == "http" and not http.may_be_plain(target.host):
        raise Rejected(f"{url.host} redirects to http, where everybody could listen")
    return target


def _check(answer: Download, host: str) -> None:
    """Raises: NotFound, Forbidden, Rejected, Unavailable."""
    match answer.status:
        case HTTPStatus.OK:
            pass
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            raise Forbidden(f"{host} refuses the recording ({answer.status}): its credentials?")
        case status if status in _NOT_HERE:
            raise NotFound(f"{host} does not have this recording.")
        case status if status in _NOT_NOW or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"{host} does not give the recording now ({status})")
        case status:
            raise Rejected(f"{host} does not give the recording ({status})")
    kind = answer.headers.get("content-type", "").lower()
    if kind.startswith(_NO_SOUND):
        raise Rejected(f"{host} gives {kind.partition(';')[0][:60]} in place of a recording")
