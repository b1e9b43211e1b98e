"""
Pages of other origins that may use the API from a browser (Fetch, 3.2: CORS), and open sockets.

No cookie lets anyone in here, so nothing is gained by a page that a browser lets through; the
check keeps what a ticket or key of its user could do to the pages that the operator names.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

from aiohttp import hdrs, web

from shared.errors import BadSetting, Forbidden

_UNDER = "/v1/"
_METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE"
_TAKEN = (
    "Authorization, X-Api-Key, Content-Type, Idempotency-Key, If-Match, If-None-Match, "
    "Last-Event-ID, traceparent"
)
_SHOWN = "ETag, Retry-After, X-Total-Count, X-Trace-Id, RateLimit-Limit, RateLimit-Remaining, RateLimit-Reset"
_REMEMBERED_S = "600"


class Origins:
    """*allowed*: ``https://crm.example``; none but our own without."""

    def __init__(self, allowed: Iterable[str] = (), *, public_url: str | None = None) -> None:
        self._allowed = frozenset(origin_of(one) for one in allowed)
        self._own = origin_of(public_url) if public_url else None

    @classmethod
    def named(cls, text: str, *, public_url: str | None, setting: str) -> Origins:
        """Those in *text*, with commas between them. Raises: BadSetting."""
        try:
            return cls(filter(None, map(str.strip, text.split(","))), public_url=public_url)
        except ValueError as error:
            raise BadSetting(f"{setting}: {error}") from None

    def preflight(self, request: web.Request) -> web.Response | None:
        """The answer to a browser that asks whether a page may ask; None: it is no such question."""
        asks = (
            request.method == hdrs.METH_OPTIONS
            and hdrs.ORIGIN in request.headers
            and hdrs.ACCESS_CONTROL_REQUEST_METHOD in request.headers
            and request.path.startswith(_UNDER)
        )
        if not asks:
            return None
        answer = web.Response(status=HTTPStatus.NO_CONTENT)
        if self._is_allowed(request.headers[hdrs.ORIGIN]):
            answer.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = _METHODS
            answer.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _TAKEN
            answer.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = _REMEMBERED_S
        return answer

    def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        if not self._allowed or not request.path.startswith(_UNDER):
            return
        # Caches are to keep the answers to two pages apart.
        response.headers.add(hdrs.VARY, hdrs.ORIGIN)
        origin = request.headers.get(hdrs.ORIGIN, "")
        if self._is_allowed(origin):
            response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
            response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _SHOWN

    def check_socket(self, request: web.Request) -> None:
        """
        Browsers open sockets to anywhere and only say from where (RFC 6455, 10.2).

        Raises: Forbidden for a page of an origin that is neither ours nor allowed.
        """
        origin = request.headers.get(hdrs.ORIGIN)
        if origin is None or self._is_allowed(origin) or origin == self._own:
            return
        if origin.partition("://")[2].lower() == request.host.lower():
            return
        raise Forbidden(
            "Pages of this origin may not open sockets here: add it to CALLMESH_HTTP_ORIGINS."
        )

    def _is_allowed(self, origin: str) -> bool:
        return origin in self._allowed


def origin_of(address: str) -> str:
    """
    ``https://crm.example:8443`` of an address, as browsers write it. Raises: ValueError for one
    that has none.
    """
    url = urlsplit(address.strip())
    if url.scheme not in {"http", "https"} or not url.hostname or url.username:
        raise ValueError(f"{address!r} is no origin such as https://crm.example")
    host = f"[{url.hostname}]" if ":" in url.hostname else url.hostname
    default = {"http": 80, "https": 443}[url.scheme]
    port = "" if url.port in {None, default} else f":{url.port}"
    return f"{url.scheme}://{host}{port}"
