"""Who am I: what a key is for, and what it may still ask."""

from __future__ import annotations

from pydantic import BaseModel, Field

from services.gateway.deps import HttpDeps
from shared.http.auth import ANY_SCOPE, Caller, Scope
from shared.http.deeds import current_deed
from shared.http.routes import FromKey, Routes
from shared.ids import Name, TenantId
from shared.moments import Instant

routes: Routes[HttpDeps] = Routes(tag="mesh")


class RateLeft(BaseModel):
    """As the headers RateLimit-… say it, of this process."""

    limit: int = Field(description="Requests at once.")
    remaining: int
    reset_seconds: int = Field(description="Until it is all of them again.")


class Me(BaseModel):
    tenant: TenantId = Field(description="Whose things are asked for.")
    home_tenant: TenantId = Field(description="The key's own; another, where an operator's acts.")
    key: Name
    user: Name | None = None
    scopes: tuple[Scope, ...] = Field(description="Of the key, as far as its user has them, too.")
    extension: str | None = None
    expires_at: Instant | None = None
    rate: RateLeft | None = Field(default=None, description="Left out: there is no limit.")


class AskMe(BaseModel):
    caller: FromKey[Caller]


@routes("GET", "/v1/me", scope=ANY_SCOPE)
async def read_me(_: HttpDeps, asked: AskMe) -> Me:
    """Who am I, and what may I?"""
    caller, deed = asked.caller, current_deed()
    left = deed.left if deed is not None else None
    return Me(
        tenant=caller.tenant,
        home_tenant=caller.home_tenant,
        key=caller.key_name,
        user=caller.user,
        scopes=tuple(sorted(caller.scopes)),
        extension=caller.extension,
        expires_at=caller.expires_at,
        rate=RateLeft(limit=left.limit, remaining=left.remaining, reset_seconds=left.reset_seconds)
        if left
        else None,
    )
