"""The REST and WebSocket APIs of one Wazo. A token lives for two hours; several may live at once."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

from shared.clock import Clock
from shared.errors import ContractError, Forbidden, MeshError, Unavailable
from shared.net.client import HttpClient, WebSocket
from shared.pbx.fetching import Asked
from shared.pbx.jsonhttp import WITHIN, JsonHttp
from shared.pbx.port import Finding, LoginRefused
from shared.pbx.wazo.settings import WazoSettings

#: Asked for; the default of wazo-auth.
TOKEN_LIFE = timedelta(hours=2)
#: A new one is got in good time.
RENEW_AFTER = TOKEN_LIFE * 0.8
_LOGIN = (
    "Wazo refuses username and password: take those of a user with purpose external_api (POST "
    "/api/auth/0.1/users), not of an agent"
)
_NO_ACCESS = (
    "Wazo's user lacks a permission: give it a policy with the ACL that the how-to page lists "
    "(PUT /api/auth/0.1/users/UUID/policies/UUID)"
)


@dataclass(frozen=True, slots=True)
class Token:
    """*told* is what wazo-auth says of its owner."""

    text: str = field(repr=False)
    got_at: datetime
    told: Mapping[str, Any] = field(repr=False)


class WazoApi:
    def __init__(self, settings: WazoSettings, *, http: HttpClient, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._http = JsonHttp(
            "Wazo",
            settings.url,
            http=http,
            clock=clock,
            fingerprint=settings.fingerprint,
            no_access=_NO_ACCESS,
        )
        self._token: Token | None = None
        self._one_login = asyncio.Lock()

    @property
    def host(self) -> str:
        return self._http.host

    def clock_finding(self) -> Finding:
        return self._http.clock_finding()

    async def token(self) -> Token:
        """One that holds for some time. Raises: LoginRefused, Unavailable, Rejected."""
        async with self._one_login:
            known = self._token
            if known is None or self._clock.now() - known.got_at >= RENEW_AFTER:
                known = self._token = await self._new_token()
            return known

    async def get(self, *path: str) -> Any:
        """Raises: NotFound, Forbidden, LoginRefused, Rejected, Unavailable, ContractError."""
        return await self._asked("GET", path, None, WITHIN)

    async def post(
        self, *path: str, body: Mapping[str, Any] | None = None, within: timedelta = WITHIN
    ) -> Any:
        """Carried out once at most. Raises as :meth:`get`; Unavailable says ``sent``."""
        return await self._asked("POST", path, json.dumps(body or {}).encode(), within)

    async def delete(self, *path: str, within: timedelta = WITHIN) -> Any:
        """Raises as :meth:`get`; Unavailable says ``sent``."""
        return await self._asked("DELETE", path, None, within)

    async def scopes(self, *wanted: str) -> dict[str, bool]:
        """Which of the permissions the user has. Raises as :meth:`get`."""
        token = await self.token()
        path = ("api", "auth", "0.1", "token", token.text, "scopes", "check")
        told = await self.post(*path, body={"scopes": list(wanted)})
        found = told.get("scopes") if isinstance(told, dict) else None
        parts = found if isinstance(found, list) else [found]
        has = {k: v is True for part in parts if isinstance(part, dict) for k, v in part.items()}
        if not has.keys() >= set(wanted):
            raise ContractError("Wazo does not say which permissions the user has")
        return has

    async def asked(self, *path: str, anew: bool = False) -> Asked:
        """
        For a download; *anew*: with another token, as this one was refused. Raises: LoginRefused,
        Unavailable, Rejected.
        """
        if anew:
            self._token = None
        return self._http.asked(path, headers=self._headers(await self.token()))

    @asynccontextmanager
    async def events(self) -> AsyncIterator[WebSocket]:
        """Raises on opening: LoginRefused, Forbidden, Rejected, Unavailable."""
        token = await self.token()
        try:
            async with self._http.websocket(
                "api",
                "websocketd",
                "",
                query={"version": "2"},
                headers={"X-Auth-Token": token.text},
            ) as socket:
                yield socket
        except MeshError:
            # Wazo opens it whatever the token is, and closes it then: the next has a new one.
            self._token = None
            raise

    async def _asked(
        self, method: str, path: tuple[str, ...], body: bytes | None, within: timedelta
    ) -> Any:
        """What is refused for its token was not carried out, and is asked again with a new one."""
        for last in (False, True):
            try:
                token = await self.token()
            except Unavailable as error:
                raise Unavailable(error.message, sent=False) from None
            headers = self._headers(token)
            if body is not None:
                headers["Content-Type"] = "application/json"
            answer = await self._http.send(method, path, headers=headers, body=body, within=within)
            if answer.status != HTTPStatus.UNAUTHORIZED:
                return self._http.read(answer)
            self._forget(token)
            if last:
                # Wazo says 401 for a permission that lacks as well.
                raise Forbidden(_NO_ACCESS)
        raise AssertionError("unreachable: the last try returns or raises")

    def _headers(self, token: Token) -> dict[str, str]:
        headers = {"X-Auth-Token": token.text}
        if self._settings.tenant_uuid:
            headers["Wazo-Tenant"] = self._settings.tenant_uuid
        return headers

    def _forget(self, token: Token) -> None:
        if self._token is token:
            self._token = None

    async def _new_token(self) -> Token:
        secret = self._settings.password.get_secret_value()
        login = base64.b64encode(f"{self._settings.username}:{secret}".encode()).decode()
        answer = await self._http.send(
            "POST",
            ("api", "auth", "0.1", "token"),
            headers={"Authorization": f"Basic {login}", "Content-Type": "application/json"},
            body=json.dumps({"expiration": round(TOKEN_LIFE.total_seconds())}).encode(),
        )
        if answer.status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            raise LoginRefused(f"{_LOGIN} ({answer.status})")
        if answer.status != HTTPStatus.OK:
            raise Unavailable(
                f"Wazo at {self.host} gives no token ({answer.status}); url is its address without "
                "a path, and /api/auth must be reachable there"
            )
        with suppress(ContractError):
            told = self._http.json(answer)
            data = told.get("data") if isinstance(told, dict) else None
            text = data.get("token") if isinstance(data, dict) else None
            if isinstance(text, str) and text.isascii() and text.isprintable() and text:
                return Token(text, self._clock.now(), data or {})
        raise Unavailable(
            f"{self.host} answered /api/auth/0.1/token without a token; is it a Wazo?"
        )
