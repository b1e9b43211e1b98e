"""
The Call Control API of one 3CX: token, state, orders, events.

3CX is said to honour one token of an API client at a time: a new one ends the one before. So a
token is used until it is refused, and a refusal is answered by a new one and another try: what was
refused was not carried out. *expires_in* is not asked: it is minutes in some builds, seconds in
others.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from http import HTTPStatus
from typing import Any
from urllib.parse import urlencode

from shared.clock import Clock
from shared.errors import ContractError, Forbidden, Unavailable
from shared.net.client import HttpClient, WebSocket
from shared.pbx.jsonhttp import WITHIN, JsonHttp
from shared.pbx.port import Finding, LoginRefused
from shared.pbx.threecx.settings import ThreeCxSettings

#: Another process with the same API client may take the token away between two steps of ours.
_TRIES = 3
_BEFORE_AGAIN = timedelta(milliseconds=400)
_LOGIN = (
    "3CX refuses client_id and client_secret: take Client ID and API key of Integrations > API in "
    "the Admin Console (the key is shown once; make a new client where it is lost), and allow this "
    "machine's address where Console Restrictions are set"
)
_NO_ACCESS = (
    "3CX does not let this API client in: tick 3CX Call Control API Access in Integrations > API "
    "and list the extensions there; the licence must have it (Enterprise, now AI Edition)"
)
_REFUSED = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class ThreeCxApi:
    def __init__(self, settings: ThreeCxSettings, *, http: HttpClient, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._http = JsonHttp(
            "3CX",
            settings.url,
            http=http,
            clock=clock,
            fingerprint=settings.fingerprint,
            no_access=_NO_ACCESS,
        )
        self._token: str | None = None
        self._one_login = asyncio.Lock()

    @property
    def host(self) -> str:
        return self._http.host

    def clock_finding(self) -> Finding:
        return self._http.clock_finding()

    async def login(self) -> None:
        """Gets a token where there is none. Raises: LoginRefused, Unavailable, Rejected."""
        await self._usable_token()

    async def get(self, *path: str) -> Any:
        """
        JSON. Raises: NotFound, Forbidden (no permission), LoginRefused, Rejected, Unavailable,
        ContractError.
        """
        return await self._asked("GET", path, None, WITHIN)

    async def post(self, *path: str, body: Mapping[str, Any], within: timedelta) -> Any:
        """Carried out once at most. Raises as :meth:`get`; Unavailable says ``sent``."""
        return await self._asked("POST", path, json.dumps(body).encode(), within)

    @asynccontextmanager
    async def events(self) -> AsyncIterator[WebSocket]:
        """Raises on opening: LoginRefused, Forbidden, Rejected, Unavailable."""
        token = await self._usable_token()
        opened = False
        try:
            async with self._http.websocket(
                "callcontrol", "ws", query={}, headers={"Authorization": f"Bearer {token}"}
            ) as socket:
                opened = True
                yield socket
        except Forbidden:
            if not opened:
                self._forget(token)
            raise

    async def _asked(
        self, method: str, path: tuple[str, ...], body: bytes | None, within: timedelta
    ) -> Any:
        for attempt in range(_TRIES):
            if attempt:
                await self._clock.sleep(_BEFORE_AGAIN * random.uniform(0.2, 1))
            try:
                token = await self._usable_token()
            except Unavailable as error:
                raise Unavailable(error.message, sent=False) from None
            headers = {"Authorization": f"Bearer {token}"}
            if body is not None:
                headers["Content-Type"] = "application/json"
            answer = await self._http.send(method, path, headers=headers, body=body, within=within)
            if answer.status != HTTPStatus.UNAUTHORIZED:
                return self._http.read(answer)
            self._forget(token)
        raise Unavailable(
            "3CX refuses tokens that it has just given: another program uses this API client; "
            "make one for each in Integrations > API",
            sent=False,
        )

    async def _usable_token(self) -> str:
        async with self._one_login:
            if self._token is None:
                self._token = await self._new_token()
            return self._token

    def _forget(self, token: str) -> None:
        if self._token == token:
            self._token = None

    async def _new_token(self) -> str:
        form = {
            "client_id": self._settings.client_id,
            "client_secret": self._settings.client_secret.get_secret_value(),
            "grant_type": "client_credentials",
        }
        answer = await self._http.send(
            "POST",
            ("connect", "token"),
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )
        if answer.status in _REFUSED:
            raise LoginRefused(f"{_LOGIN} ({answer.status})")
        if answer.status != HTTPStatus.OK:
            raise Unavailable(
                f"3CX at {self.host} gives no token ({answer.status}); url is the address of the "
                "web client, without a path"
            )
        with suppress(ContractError):
            told = self._http.json(answer)
            token = told.get("access_token") if isinstance(told, dict) else None
            if isinstance(token, str) and token.isascii() and token.isprintable() and token:
                return token
        raise Unavailable(
            f"{self.host} answered /connect/token without an access_token; is it a 3CX of v20?"
        )
