"""
The token that every request to the Open API carries: got, renewed, and got again.

A token lives 30 minutes and its refresh token 24 hours. Firmware differs in how many may live at
once: up to eight an application, or but one, so that a new login ends the token of whoever
logged in before. So a login is rare: a token is renewed by its refresh token, at a moment that
differs from replica to replica, and a new one is got only when the PBX no longer takes ours. Two
replicas that end each other's tokens pay one more request each time, and no order is lost.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from shared.clock import Clock
from shared.errors import ContractError, Throttled
from shared.pbx.port import LoginRefused
from shared.pbx.yeastar import fields
from shared.pbx.yeastar.refusals import ApiRejected

log = structlog.get_logger(__name__)

#: When the PBX does not say for how long: its documented 30 minutes, and 24 hours.
_ACCESS, _REFRESH = timedelta(minutes=30), timedelta(hours=24)
#: A login that was refused for its number, not for its secret: there are eight places, and one
#: is free again when a token ends.
_FULL = ("LIMIT", "MAX", "EXCEED", "TOO MANY", "FREQUEN")
_FULL_FOR = timedelta(minutes=1)

#: Path and body of a request without a token → the answer; raises ApiRejected for an errcode.
Ask = Callable[[str, Mapping[str, str]], Awaitable[dict[str, Any]]]


@dataclass(frozen=True, slots=True)
class Token:
    access: str = field(repr=False)
    refresh: str | None = field(repr=False)
    got_at: datetime
    #: Renewed from here on, while it is still taken.
    renew_at: datetime
    refresh_until: datetime


class Tokens:
    def __init__(
        self, ask: Ask, *, client_id: str, client_secret: Callable[[], str], clock: Clock
    ) -> None:
        self._ask = ask
        self._client_id = client_id
        self._client_secret = client_secret
        self._clock = clock
        self._token: Token | None = None
        #: Why, for ever.
        self._refused: str | None = None
        self._one_login = asyncio.Lock()

    async def token(self, *, refused: str | None = None) -> str:
        """
        One that should be taken. *refused*: this one was not, so another is needed.

        Raises: LoginRefused, for ever after the first time, as five wrong logins make the PBX
        block our address; Throttled, Unavailable, ContractError.
        """
        async with self._one_login:
            if self._refused is not None:
                raise LoginRefused(self._refused)
            known, now = self._token, self._clock.now()
            if known is not None and known.access == refused:
                log.warning(
                    "yeastar_token_ended", after_seconds=round((now - known.got_at).seconds)
                )
                self._token = known = None
            if known is not None and now < known.renew_at:
                return known.access
            if known is not None and known.refresh and now < known.refresh_until:
                # Where nobody answers, it is kept and tried again.
                self._token = await self._renewed(known.refresh)
            else:
                self._token = None
            if self._token is None:
                self._token = await self._logged_in()
            return self._token.access

    async def give_back(self, token: str | None = None) -> str | None:
        """The token, which is not used any more; None when there is none, or it is not *token*."""
        async with self._one_login:
            known = self._token
            if known is None or token not in {None, known.access}:
                return None
            self._token = None
            return known.access

    async def _renewed(self, refresh: str) -> Token | None:
        """None where the PBX does not take it: somebody logged in meanwhile, or it restarted."""
        try:
            return self._read(await self._ask("refresh_token", {"refresh_token": refresh}))
        except (ApiRejected, ContractError) as error:
            log.info("yeastar_token_not_renewed", error=error.message)
            return None

    async def _logged_in(self) -> Token:
        login = {"username": self._client_id, "password": self._client_secret()}
        try:
            return self._read(await self._ask("get_token", login))
        except ApiRejected as error:
            words = error.message.upper()
            if any(word in words for word in _FULL):
                raise Throttled(
                    f"{error.message}: eight programs at most use one API client at a time",
                    retry_after=_FULL_FOR,
                ) from None
            self._refused = (
                f"{error.message}: compare Client ID and Client Secret in Integrations > API, and "
                "look for our address in Security > Security Rules > Blocked IPs"
            )
            raise LoginRefused(self._refused) from None

    def _read(self, answer: Mapping[str, Any]) -> Token:
        access = fields.text(answer.get("access_token"))
        if access is None:
            raise ContractError("the PBX's answer to a login has no access_token")
        lives = fields.seconds(answer.get("access_token_expire_time")) or _ACCESS
        renews = fields.seconds(answer.get("refresh_token_expire_time")) or _REFRESH
        now = self._clock.now()
        return Token(
            access,
            fields.text(answer.get("refresh_token")),
            now,
            # Not in step with other replicas.
            now + lives * random.uniform(0.7, 0.9),
            now + renews,
        )
