"""A PBX's JSON API over HTTP: one request at a time, its refusals as our errors."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from yarl import URL

from shared.clock import Clock
from shared.errors import ContractError, Forbidden, NotFound, Rejected, Unavailable
from shared.net.client import Answer, HttpClient, WebSocket
from shared.pbx.fetching import Asked
from shared.pbx.lines import one_line
from shared.pbx.port import Finding

WITHIN = timedelta(seconds=5)
_MAX_WORDS = 200
_CLOCK_OFF = timedelta(seconds=5)


class JsonHttp:
    """*name* is the product's; *no_access* says what to change where a permission lacks."""

    def __init__(
        self,
        name: str,
        url: str,
        *,
        http: HttpClient,
        clock: Clock,
        fingerprint: bytes | None,
        no_access: str,
    ) -> None:
        self._name = name
        self._base = URL(url)
        self._http = http
        self._clock = clock
        self._fingerprint = fingerprint
        self._no_access = no_access
        #: By how much the PBX's clock was ahead at the last answer; it tells whole seconds.
        self._ahead: timedelta | None = None

    @property
    def host(self) -> str:
        return self._base.host or str(self._base)

    async def send(
        self,
        method: str,
        path: tuple[str, ...],
        *,
        headers: Mapping[str, str],
        within: timedelta = WITHIN,
        body: bytes | None = None,
    ) -> Answer:
        """Raises: Unavailable with ``sent`` in its details, Rejected."""
        self._refuse(path)
        try:
            answer = await self._http.send(
                method,
                self._base.joinpath(*path),
                within=within,
                headers={"Accept": "application/json", **headers},
                body=body,
                fingerprint=self._fingerprint,
            )
        except Unavailable as error:
            raise Unavailable(error.message, sent=error.details.get("sent", True)) from None
        self._compare_clocks(answer)
        return answer

    def asked(self, path: tuple[str, ...], *, headers: Mapping[str, str]) -> Asked:
        """For a download. Raises: Rejected."""
        self._refuse(path)
        return Asked(self._base.joinpath(*path), headers, self._fingerprint)

    def _refuse(self, path: tuple[str, ...]) -> None:
        """Raises: Rejected."""
        if self._base.scheme != "https" and not self._http.may_be_plain(self.host):
            raise Rejected(f"say https://{self.host}; secrets do not go without TLS")
        if any(part in {"", ".", ".."} or "/" in part for part in path):
            raise Rejected(f"an id that cannot be part of an address of {self._name}")

    def read(self, answer: Answer) -> Any:
        """Its JSON. Raises: Forbidden, NotFound, Rejected, Unavailable, ContractError."""
        status = answer.status
        if status == HTTPStatus.FORBIDDEN:
            raise Forbidden(self._no_access)
        if status == HTTPStatus.NOT_FOUND:
            raise NotFound(f"{self._name} at {self.host} does not know that (404)")
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            raise Unavailable(f"{self._name} at {self.host} asks to slow down (429)", sent=False)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise Unavailable(f"{self._name} at {self.host} failed ({status})", sent=True)
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            raise Rejected(f"{self._name} at {self.host} refuses ({status}){_words(answer)}")
        return self.json(answer) if answer.body else None

    def json(self, answer: Answer) -> Any:
        """Raises: ContractError."""
        try:
            return json.loads(answer.body)
        except (ValueError, RecursionError):
            raise ContractError(f"{self._name} at {self.host} answered what is no JSON") from None

    @asynccontextmanager
    async def websocket(
        self, *path: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> AsyncIterator[WebSocket]:
        """Raises on opening: Forbidden, Rejected, Unavailable."""
        url = self._base.joinpath(*path).with_query(query)
        opening = self._http.websocket(
            url.with_scheme("wss" if url.scheme == "https" else "ws"),
            within=WITHIN,
            headers=headers,
            fingerprint=self._fingerprint,
        )
        async with AsyncExitStack() as stack:
            try:
                socket = await stack.enter_async_context(opening)
            except Forbidden as error:
                raise Forbidden(f"{error.message}. {self._no_access}") from None
            yield socket

    def clock_finding(self) -> Finding:
        ahead = self._ahead
        if ahead is None or abs(ahead) <= _CLOCK_OFF:
            return Finding("clock")
        seconds = round(abs(ahead).total_seconds())
        way = "ahead of" if ahead > timedelta(0) else "behind"
        return Finding(
            "clock", f"the PBX's clock is {seconds} s {way} ours; let both take the time by NTP"
        )

    def _compare_clocks(self, answer: Answer) -> None:
        try:
            told = parsedate_to_datetime(answer.headers.get("date", ""))
        except (ValueError, OverflowError):
            return
        if told.tzinfo is not None:
            self._ahead = told - self._clock.now()


def words_of(told: Any) -> str:
    """A text from outside on one line, short enough for an error."""
    return one_line(str(told), most=_MAX_WORDS)


def _words(answer: Answer) -> str:
    """What the PBX says of its refusal."""
    try:
        told = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    if isinstance(told, dict):
        names = ("message", "reasontext", "reason", "title")
        told = next((told[name] for name in names if isinstance(told.get(name), str)), None)
    return f": {words_of(told)}" if isinstance(told, str) and told.strip() else ""
