"""The Open API v1.0 of a Yeastar P-Series."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import orjson
from yarl import URL

from shared.clock import Clock
from shared.errors import (
    ContractError,
    Forbidden,
    MeshError,
    OutOfTime,
    Rejected,
    Throttled,
    Unavailable,
)
from shared.net.client import HttpClient, WebSocket
from shared.pbx.fetching import Asked
from shared.pbx.yeastar import fields
from shared.pbx.yeastar.refusals import ApiRejected, refusal
from shared.pbx.yeastar.settings import YeastarSettings
from shared.pbx.yeastar.tokens import Tokens

#: The PBX answers nobody who does not say who he is (errcode 40002).
_HEADERS = {"User-Agent": "OpenAPI", "Content-Type": "application/json"}
#: The budget of the caller is what counts; this is above every one.
_LONGEST = timedelta(minutes=1)
_LEAVING = timedelta(seconds=2)
#: As the PBX names a prepared download: ``/api/download/Recording-….wav``.
_RESOURCE = re.compile(r"(/[A-Za-z0-9_%~-][A-Za-z0-9_.%~-]*){2,8}")


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """*headers* are in lower case."""

    data: dict[str, Any]
    headers: Mapping[str, str]


class YeastarApi:
    """Every request carries the token in its URL, so no URL is ever logged, or in an error."""

    def __init__(self, settings: YeastarSettings, http: HttpClient, clock: Clock) -> None:
        self._base = URL(settings.url) / "openapi" / "v1.0"
        self._http = http
        self._fingerprint = settings.fingerprint
        self._tokens = Tokens(
            self._ask_without_token,
            client_id=settings.client_id,
            client_secret=settings.client_secret.get_secret_value,
            clock=clock,
        )

    @property
    def host(self) -> str:
        return self._base.host or ""

    async def ready(self, *, within: timedelta) -> None:
        """Logged in. Raises: LoginRefused, Unavailable, Throttled, ContractError, Rejected."""
        async with _budget(self.host, within):
            await self._tokens.token()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        within: timedelta,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> ApiAnswer:
        """
        Sent once; a second time only when the PBX says that it did not take the token.

        Raises: ApiRejected with the PBX's words, LoginRefused, Forbidden, Throttled,
        ContractError, Unavailable; both last say in their details whether something was *sent*.
        """
        async with _budget(self.host, within) as progress:
            token = await self._tokens.token()
            for last in (False, True):
                progress.sent = True
                full = {**(query or {}), "access_token": token}
                try:
                    return await self._answer(method, path, _LONGEST, query=full, body=body)
                except ApiRejected as error:
                    if last or not error.token_ended:
                        raise
                progress.sent = False
                token = await self._tokens.token(refused=token)
        raise AssertionError("unreachable: the last try returns or raises")

    async def whereabouts(self, recording: str, *, within: timedelta) -> Asked:
        """
        Where the file of this name can be fetched, for half an hour.

        Raises: as `ask`; ContractError for a place that is not the PBX's.
        """
        told = await self.ask("GET", "recording/download", query={"file": recording}, within=within)
        path = fields.text(told.data.get("download_resource_url")) or ""
        if not _RESOURCE.fullmatch(path):
            raise ContractError(f"{self.host} names no place of a recording")
        url = URL(str(self._base.origin()) + path, encoded=True)
        # The download takes the token as every request does.
        full = url.update_query(access_token=await self._tokens.token())
        return Asked(full, {"User-Agent": _HEADERS["User-Agent"]}, self._fingerprint)

    @asynccontextmanager
    async def subscribed(self, *, within: timedelta) -> AsyncIterator[WebSocket]:
        """
        The WebSocket on which events come once they are subscribed to. A token that it does not
        take is given back, also when who subscribes raises that; the next try has another.

        Raises: as `ask`.
        """
        async with _budget(self.host, within):
            token = await self._tokens.token()
        scheme = "wss" if self._base.scheme == "https" else "ws"
        async with AsyncExitStack() as stack:
            try:
                socket = await stack.enter_async_context(
                    self._http.websocket(
                        (self._base / "subscribe")
                        .with_scheme(scheme)
                        .with_query(access_token=token),
                        within=within,
                        headers={"User-Agent": _HEADERS["User-Agent"]},
                        fingerprint=self._fingerprint,
                    )
                )
            except Forbidden as error:
                # The login was taken: it is the token that is not.
                await self.leave(token)
                raise Unavailable(f"{error.message}: its token had ended") from None
            try:
                yield socket
            except ApiRejected as error:
                if error.token_ended:
                    await self.leave(token)
                raise

    async def leave(self, token: str | None = None) -> None:
        """
        Frees the place of the token, of which there are eight; never fails. *token*: only where it
        is still this one.
        """
        known = await self._tokens.give_back(token)
        if known is not None:
            with suppress(MeshError):
                await self._answer("GET", "del_token", _LEAVING, query={"access_token": known})

    async def _ask_without_token(self, path: str, body: Mapping[str, str]) -> dict[str, Any]:
        return (await self._answer("POST", path, _LONGEST, body=body)).data

    async def _answer(
        self,
        method: str,
        path: str,
        within: timedelta,
        *,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, object] | None = None,
    ) -> ApiAnswer:
        if self._base.scheme == "http" and not self._http.may_be_plain(self.host):
            raise Rejected(
                f"http to {self.host} shows the client secret to everybody on the way: use https"
            )
        answer = await self._http.send(
            method,
            (self._base / path).with_query(query or {}),
            within=within,
            headers=_HEADERS,
            body=None if body is None else orjson.dumps(body),
            fingerprint=self._fingerprint,
        )
        match answer.status:
            case HTTPStatus.OK:
                pass
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                raise Forbidden(f"{self.host} refuses {path} ({answer.status}): IP Restriction?")
            case HTTPStatus.TOO_MANY_REQUESTS:
                raise Throttled(f"{self.host} asks to slow down")
            case status if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise Unavailable(f"{self.host} failed at {path} ({status})")
            case status:
                raise ContractError(
                    f"{self.host} answered {path} with status {status}: is this the PBX's web "
                    "address, and is the API enabled?"
                )
        data = fields.load(answer.body, f"the answer of {self.host} to {path}")
        errcode = data.get("errcode")
        if errcode != 0:
            raise refusal(path, errcode, data.get("errmsg"))
        return ApiAnswer(data, answer.headers)


@dataclass(slots=True)
class _Progress:
    """Whether something went out."""

    sent: bool = False


@asynccontextmanager
async def _budget(host: str, within: timedelta) -> AsyncIterator[_Progress]:
    """For all that one request takes, a login included."""
    progress = _Progress()
    try:
        async with asyncio.timeout(within.total_seconds()):
            yield progress
    except TimeoutError:
        raise OutOfTime(
            f"{host} did not answer within {within.total_seconds():g} s", sent=progress.sent
        ) from None
    except (Unavailable, ContractError) as error:
        error.details.setdefault("sent", progress.sent)
        raise
