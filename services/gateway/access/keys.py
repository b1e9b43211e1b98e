"""API keys of users: made, listed, rotated, revoked. A token is seen once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from services.gateway.access.users import OfUser, Scopes
from services.gateway.access.wanted import KeyHeld, Terms
from services.gateway.deps import HttpDeps
from shared.errors import Conflict, NotFound
from shared.http.apikey import LONGEST_LIFE, ApiKey, Issued
from shared.http.auth import Caller, Scope
from shared.http.callers import in_words
from shared.http.lists import Paged
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.ids import Extension, Name
from shared.moments import Duration, Instant

routes: Routes[HttpDeps] = Routes(tag="mesh")

LONGEST_OVERLAP = timedelta(days=7)

Lifetime = Annotated[Duration, Field(gt=timedelta(0), le=LONGEST_LIFE)]


class Ending(BaseModel):
    """When a key ends, as a moment or from now on; neither: as the operation says."""

    model_config = ConfigDict(extra="forbid")

    expires_at: Instant | None = None
    expires_in: Lifetime | None = Field(default=None, description="From now on: `90d`, `12h`.")

    @model_validator(mode="after")
    def one_end(self) -> Ending:
        if self.expires_at is not None and self.expires_in is not None:
            raise ValueError("say expires_at or expires_in, not both")
        return self

    def end(self, now: datetime) -> datetime | None:
        return now + self.expires_in if self.expires_in is not None else self.expires_at


class KeyIn(Ending):
    """What the key is for. Without an end, it never ends."""

    name: Name = Field(description="What it is for: `laptop`, `crm-sync`.")
    scopes: Scopes | None = Field(default=None, description="Left out: all that the user may.")
    extension: Extension | None = Field(
        default=None, description="Only what concerns this agent's phone."
    )


class Rotation(Ending):
    """Without an end, the new token lives as long as the last was made to."""

    overlap: Annotated[Duration, Field(le=LONGEST_OVERLAP)] = Field(
        default=timedelta(0),
        description="How long the token of before is good beside the new one: `1h`, at most `7d`. "
        "Not at all, unless you say so: who has lost a token wants its end.",
    )


class KeyShown(BaseModel):
    """A key; never its token."""

    name: Name
    user: str | None = None
    scopes: tuple[Scope, ...] = Field(description="What its user has lost since, it cannot do.")
    extension: str | None = None
    created_at: Instant
    rotated_at: Instant | None = None
    expires_at: Instant | None = None
    old_token_until: Instant | None = Field(
        default=None, description="So long a token of before it was rotated is good, too."
    )
    last_used_at: Instant | None = Field(default=None, description="To within a minute.")
    last_peer: str | None = Field(default=None, description="The address that was from.")


class KeyList(BaseModel):
    keys: tuple[KeyShown, ...]
    next_cursor: str | None = None


class KeyMade(BaseModel):
    token: str = Field(repr=False, description="The key itself: this one time.")
    key: KeyShown


class ListKeys(Paged):
    caller: FromKey[Caller]
    user: FromQuery[Name | None] = Field(default=None, description="Whose.")


@routes("GET", "/v1/keys", scope=Scope.KEYS_READ, errors=(NotFound,), fields=("keys",))
async def list_keys(deps: HttpDeps, asked: ListKeys) -> KeyList:
    """List the tenant's API keys, by name; also those that are nobody's in particular."""
    return await _list(deps, asked, asked.user)


class ListKeysOfUser(Paged):
    caller: FromKey[Caller]
    user: FromPath[Name]


@routes("GET", "/v1/users/{user}/keys", scope=Scope.KEYS_READ, errors=(NotFound,), fields=("keys",))
async def list_user_keys(deps: HttpDeps, asked: ListKeysOfUser) -> KeyList:
    """List the API keys of a user, by name."""
    return await _list(deps, asked, asked.user)


async def _list(deps: HttpDeps, asked: ListKeys | ListKeysOfUser, user: str | None) -> KeyList:
    held = await deps.access.keys(asked.caller.tenant, user)
    keys, more = asked.page(held, lambda one: one.key.called)
    return KeyList(keys=tuple(map(_shown, keys)), next_cursor=more)


class MakeKey(OfUser):
    body: FromBody[KeyIn]


@routes(
    "POST",
    "/v1/users/{user}/keys",
    scope=Scope.KEYS_WRITE,
    status=201,
    errors=(NotFound, Conflict),
)
async def make_key(deps: HttpDeps, asked: MakeKey) -> KeyMade:
    """Make an API key for a user; its token is in the answer, and nowhere else.

    403 names the scopes that the user lacks, or your own key.
    """
    body = asked.body
    scopes = "all he may" if body.scopes is None else in_words(body.scopes)
    await _note(deps, asked.caller, "make_key", f"key {body.name} of {asked.user}: {scopes}")
    issued = await deps.access.issue(
        asked.caller,
        asked.user,
        body.name,
        Terms(
            scopes=body.scopes,
            extension=body.extension,
            expires_at=body.end(deps.clock.now()),
        ),
    )
    return _made(issued, None)


class OfKey(OfUser):
    name: FromPath[Name]


class RotateKey(OfKey):
    body: FromBody[Rotation]


@routes(
    "POST",
    "/v1/users/{user}/keys/{name}/rotate",
    scope=Scope.KEYS_WRITE,
    errors=(NotFound, Conflict),
)
async def rotate_key(deps: HttpDeps, asked: RotateKey) -> KeyMade:
    """Give a key a new token, at once; the old one is good for `overlap` beside it."""
    now, overlap = deps.clock.now(), asked.body.overlap
    await _note(
        deps,
        asked.caller,
        "rotate_key",
        f"key {asked.name} of {asked.user}, overlap {overlap.total_seconds():g} s",
    )
    issued = await deps.access.rotate(
        asked.caller,
        asked.name,
        user=asked.user,
        overlap=overlap,
        expires_at=asked.body.end(now),
    )
    return _made(issued, now + overlap if overlap else None)


class RevokeKey(OfKey):
    confirm: FromQuery[Name | None] = Field(
        default=None, description="The key's name: also where it is the last that can make keys."
    )


@routes(
    "DELETE", "/v1/users/{user}/keys/{name}", scope=Scope.KEYS_WRITE, errors=(NotFound, Conflict)
)
async def revoke_user_key(deps: HttpDeps, asked: RevokeKey) -> KeyShown:
    """End an API key of a user, with every token it had; within five seconds everywhere."""
    return await _revoke(deps, asked.caller, asked.name, asked.user, asked.confirm)


class RevokeAnyKey(BaseModel):
    caller: FromKey[Caller]
    name: FromPath[Name]
    confirm: FromQuery[Name | None] = Field(
        default=None, description="The key's name: also where it is the last that can make keys."
    )


@routes("DELETE", "/v1/keys/{name}", scope=Scope.KEYS_WRITE, errors=(NotFound, Conflict))
async def revoke_key(deps: HttpDeps, asked: RevokeAnyKey) -> KeyShown:
    """End an API key, whoever's it is."""
    return await _revoke(deps, asked.caller, asked.name, None, asked.confirm)


async def _revoke(
    deps: HttpDeps, caller: Caller, name: str, user: str | None, confirm: str | None
) -> KeyShown:
    await _note(deps, caller, "revoke_key", f"key {name}{f' of {user}' if user else ''}")
    key = await deps.access.revoke(caller, name, user=user, confirmed=confirm == name)
    return _shown(KeyHeld(key, None, None))


async def _note(deps: HttpDeps, caller: Caller, action: str, subject: str) -> None:
    await deps.audit.note(
        tenant=caller.tenant, key_name=caller.key_name, action=action, subject=subject
    )


def _made(issued: Issued, old_until: datetime | None) -> KeyMade:
    shown = _shown(KeyHeld(issued.key, None, old_until))
    return KeyMade(token=issued.token.get_secret_value(), key=shown)


def _shown(held: KeyHeld) -> KeyShown:
    key: ApiKey = held.key
    return KeyShown(
        name=key.called,
        user=key.user,
        scopes=key.scopes,
        extension=key.extension,
        created_at=key.created_at,
        rotated_at=key.rotated_at,
        expires_at=key.expires_at,
        old_token_until=held.old_until,
        last_used_at=held.use.at if held.use else None,
        last_peer=held.use.peer if held.use else None,
    )
