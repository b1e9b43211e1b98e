"""Who is let in: by which key, for what, how often, and for which tenant."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from aiohttp import web

from shared.clock import Clock
from shared.errors import ContractError, Forbidden, TooMany, Unauthenticated
from shared.http.apikey import API_KEYS, ApiKey, fingerprint
from shared.http.callers import (
    ANY_SCOPE,
    OF_THE_INSTALLATION,
    OF_THE_TENANT,
    Caller,
    Scope,
    in_words,
)
from shared.http.keys import KeyBook
from shared.http.peers import peer_of
from shared.http.rates import Buckets, Left, Limits, Strangers
from shared.http.users import API_USERS, ApiUser
from shared.http.uses import KEY_USES, KeyUse, KeyUses
from shared.moments import to_text

__all__ = [
    "ANY_SCOPE",
    "API_KEYS",
    "API_USERS",
    "KEY_PARAMETER",
    "KEY_USES",
    "OF_THE_INSTALLATION",
    "OF_THE_TENANT",
    "Admission",
    "ApiKey",
    "ApiUser",
    "Caller",
    "KeyBook",
    "KeyUse",
    "KeyUses",
    "Scope",
    "fingerprint",
    "in_words",
]

#: A query parameter instead of a header, for PBXs that can only be given a URL.
KEY_PARAMETER = "key"
#: The tenant that an operator's key acts in, where it is not its own.
TENANT_HEADER = "X-Callmesh-Tenant"
EXPIRES_HEADER = "Callmesh-Key-Expires"
#: So long before its end, a key's answers say when that is.
_WARNED_BEFORE = timedelta(days=14)
#: What PBXs do all day: it has a rate of its own, and nothing else uses it up.
_TRAFFIC = frozenset({Scope.HOOKS_WRITE, Scope.ROUTE_ASK})

_CALLER: web.RequestKey[Caller] = web.RequestKey("callmesh_caller", Caller)
_LEFT: web.RequestKey[Left] = web.RequestKey("callmesh_left", Left)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What an operation asks of a key; of several scopes, one is enough."""

    scope: Scope | frozenset[Scope]
    key_in_query: bool = False
    #: It may change something.
    changes: bool = False

    @property
    def scopes(self) -> frozenset[Scope]:
        return self.scope if isinstance(self.scope, frozenset) else frozenset({self.scope})


def _no_tenant(_: str) -> bool:
    return False


class Admission:
    """*limits* are of this process. *is_tenant*: whether there is one of a name."""

    def __init__(
        self,
        keys: KeyBook,
        clock: Clock,
        *,
        limits: Limits = Limits(),  # noqa: B008  frozen
        uses: KeyUses | None = None,
        is_tenant: Callable[[str], bool] = _no_tenant,
    ) -> None:
        self._keys = keys
        self._clock = clock
        self._limits = limits
        self._uses = uses
        self._is_tenant = is_tenant
        self._buckets: Buckets[tuple[str, str, bool]] = Buckets()
        self._strangers = Strangers(limits.wrong_keys)

    async def enter(self, request: web.Request, wanted: Wanted) -> Caller:
        """Raises: Unauthenticated, TooMany, Forbidden, ContractError, Unavailable."""
        caller = await self._known(request, wanted)
        request[_CALLER] = caller
        self._count(request, caller, wanted)
        if self._uses is not None:
            self._uses.touch(caller, peer_of(request))
        if not wanted.scopes & caller.scopes:
            one_of = "one of the scopes" if len(wanted.scopes) > 1 else "the scope"
            raise Forbidden(f"This API key lacks {one_of} {in_words(wanted.scopes)}.")
        if TENANT_HEADER in request.headers:
            caller = self._elsewhere(request.headers[TENANT_HEADER], caller, wanted)
            request[_CALLER] = caller
        return caller

    async def _known(self, request: web.Request, wanted: Wanted) -> Caller:
        token = _token_in(request, key_in_query=wanted.key_in_query)
        peer, now = peer_of(request), self._clock.now()
        shut_for = self._strangers.shut_for(peer, now)
        if shut_for is not None and not self._keys.knows(token):
            raise TooMany(
                "Too many API keys that nobody knows came from this address.", retry_after=shut_for
            )
        try:
            return await self._keys.caller(token)
        except Unauthenticated as error:
            if "key_name" not in error.details:
                self._strangers.came_with_wrong_key(peer, now)
            raise

    def _count(self, request: web.Request, caller: Caller, wanted: Wanted) -> None:
        is_traffic = wanted.scopes <= _TRAFFIC
        rate = self._limits.traffic_rate if is_traffic else caller.rate or self._limits.rate
        if not rate:
            return
        bucket = (caller.home_tenant, caller.key_name, is_traffic)
        left = self._buckets.take(bucket, rate, self._clock.now())
        request[_LEFT] = left
        if left.wait is not None:
            raise TooMany(
                f"This API key may ask {rate} times a second, and {left.limit} times at once.",
                retry_after=left.wait,
            )

    def _elsewhere(self, tenant: str, caller: Caller, wanted: Wanted) -> Caller:
        if tenant == caller.tenant:
            return caller
        needed = Scope.TENANTS_WRITE if wanted.changes else Scope.TENANTS_READ
        if needed not in caller.scopes and not (
            needed is Scope.TENANTS_READ and Scope.TENANTS_WRITE in caller.scopes
        ):
            raise Forbidden(f"To act in another tenant, this API key lacks the scope {needed}.")
        if not self._is_tenant(tenant):
            raise ContractError(f"header.{TENANT_HEADER}: there is no such tenant")
        return caller.model_copy(update={"tenant": tenant, "home": caller.tenant})

    def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """What the key's owner should know: what he may still ask, and when the key ends."""
        left, caller = left_of(request), request.get(_CALLER)
        if left is not None:
            response.headers["RateLimit-Limit"] = str(left.limit)
            response.headers["RateLimit-Remaining"] = str(left.remaining)
            response.headers["RateLimit-Reset"] = str(left.reset_seconds)
        ends = caller.expires_at if caller is not None else None
        if ends is not None and ends - self._clock.now() <= _WARNED_BEFORE:
            response.headers[EXPIRES_HEADER] = to_text(ends)


def caller_of(request: web.Request) -> Caller | None:
    """Who was let in, or was known and refused."""
    return request.get(_CALLER)


def left_of(request: web.Request) -> Left | None:
    """What its key may still ask; None where it has no limit."""
    return request.get(_LEFT)


def _token_in(request: web.Request, *, key_in_query: bool) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if token := request.headers.get("X-Api-Key", ""):
        return token
    if key_in_query and (token := request.query.get(KEY_PARAMETER, "")):
        return token
    raise Unauthenticated(
        "Send an API key in the header `X-Api-Key`, or in `Authorization` after `Bearer`."
    )
