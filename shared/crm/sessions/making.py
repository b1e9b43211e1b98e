"""A session made from the beginning: ``discover``, then the token, then ``login``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shared.clock import Clock
from shared.crm.form.access import Auth, Grant, OAuth2
from shared.crm.rendering import Scope
from shared.crm.sessions import login
from shared.crm.sessions.oauth import Granted, fetch, wanted_by
from shared.crm.sessions.replies import AuthRequests
from shared.crm.sessions.session import Session
from shared.errors import NeedsReconnect
from shared.moments import to_instant

#: Renewed so long before the end, so that no request carries a token that ends on its way; of a
#: short life it is a quarter.
_AHEAD = timedelta(minutes=1)
#: Of what ends when the CRM says so, and not before.
_ENDLESS = timedelta(days=3650)

#: Is told of a grant before its access token is used for anything.
Keep = Callable[[Granted], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Code:
    """What a consent brought."""

    code: str = field(repr=False)
    redirect_uri: str
    verifier: str | None = field(repr=False)

    @property
    def wanted(self) -> dict[str, str]:
        wanted = {
            "grant_type": str(Grant.AUTHORIZATION_CODE),
            "code": self.code,
            "redirect_uri": self.redirect_uri,
        }
        return wanted | ({"code_verifier": self.verifier} if self.verifier is not None else {})


class SessionMaker:
    def __init__(
        self, auth: Auth, scope: Scope, requests: AuthRequests, *, again: str, clock: Clock
    ) -> None:
        """*again* says to people how the connection is mended."""
        self._auth = auth
        self._scope = scope
        self._requests = requests
        self._again = again
        self._clock = clock

    async def discover(self, *, redirect_uri: str | None = None) -> tuple[Scope, dict[str, str]]:
        """What the token and consent addresses may use, and what of it is new."""
        own = {"redirect_uri": redirect_uri} if redirect_uri is not None else {}
        scope = replace(self._scope, own={**own, **self._scope.own})
        made = await login.run(self._auth.discover, scope, self._requests, again=self._again)
        return replace(scope, own={**scope.own, **made}), made

    async def make(
        self,
        *,
        keep: Keep,
        refresh_token: str | None = None,
        code: Code | None = None,
        redirect_uri: str | None = None,
        before: Mapping[str, str] | None = None,
        renewals: int = 0,
    ) -> Session:
        """
        By *code*, else by *refresh_token*, else by the credentials. What a token's answer does not
        say again is as in *before*.

        Raises: NeedsReconnect, Throttled, Unavailable, Rejected, ContractError; what *keep* raises.
        """
        auth = self._auth
        scope, made = await self.discover(redirect_uri=redirect_uri)
        ends: list[datetime] = []
        if auth.oauth2 is not None:
            granted = await self._granted(auth.oauth2, scope, refresh_token, code)
            ends += self._end(granted.life, auth.oauth2)
            await keep(granted)
            if granted.fault is not None:
                raise granted.fault
            old = {n: v for n, v in (before or {}).items() if n in auth.oauth2.take}
            made |= {**old, **granted.taken, "AccessToken": granted.access_token}
        if auth.login or auth.oauth2 is None:
            scope = replace(scope, own={**scope.own, **made})
            made |= await login.run(auth.login, scope, self._requests, again=self._again)
            ends.append(self._ahead(auth.life))
        now = to_instant(self._clock.now())
        ends.append(now + _ENDLESS)
        return Session(made, now, to_instant(min(ends)), renewals)

    async def _granted(
        self, oauth2: OAuth2, scope: Scope, refresh_token: str | None, code: Code | None
    ) -> Granted:
        async def ask(wanted: Mapping[str, str]) -> Granted:
            return await fetch(
                oauth2, wanted, scope=scope, requests=self._requests, again=self._again
            )

        if code is not None:
            return await ask(code.wanted)
        if refresh_token is None:
            return await ask(wanted_by(oauth2.grant, scope))
        refresh = {"grant_type": str(Grant.REFRESH_TOKEN), "refresh_token": refresh_token}
        if oauth2.grant is not Grant.PASSWORD:
            return await ask(refresh)
        try:
            return await ask(refresh)
        except NeedsReconnect:
            # The password gives another.
            return await ask(wanted_by(oauth2.grant, scope))

    def _end(self, told: timedelta | None, oauth2: OAuth2) -> list[datetime]:
        """``refresh_every`` is kept, unless the token's own end is nearer."""
        every = oauth2.refresh_every
        if every is None:
            return [self._ahead(told or oauth2.life)]
        if not every:
            return []
        sooner = [self._ahead(told)] if told is not None else []
        return [self._clock.now() + every, *sooner]

    def _ahead(self, life: timedelta) -> datetime:
        return self._clock.now() + life - min(_AHEAD, life / 4)
