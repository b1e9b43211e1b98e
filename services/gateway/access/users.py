"""Users of the API: who they are, and what their keys may do at most."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from services.gateway.access.wanted import Draft
from services.gateway.deps import HttpDeps
from shared.errors import Conflict, ContractError, NotFound
from shared.faults import faults_in
from shared.http.auth import Caller, Scope
from shared.http.callers import in_words
from shared.http.lists import Paged, SearchText
from shared.http.patching import MergePatch, merged
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.http.tags import OnlyIf, Tagged, tag_of
from shared.http.users import MOST_PER_SECOND, ApiUser, Email, Title
from shared.ids import Extension, Name
from shared.moments import Instant

routes: Routes[HttpDeps] = Routes(tag="mesh")

Scopes = Annotated[frozenset[Scope], Field(max_length=len(Scope))]


class UserIn(BaseModel):
    """Who it is, and what all keys of his may do at most."""

    model_config = ConfigDict(extra="forbid")

    title: Title = Field(default="", description="As people call him.")
    email: Email | None = None
    scopes: Scopes = Field(description="No key of his may more. Yours, at most.")
    extension: Extension | None = Field(
        default=None, description="His keys are for this agent's phone alone."
    )
    disabled: bool = Field(default=False, description="None of his keys is good, for now.")
    rate: Annotated[int, Field(ge=1, le=MOST_PER_SECOND)] | None = Field(
        default=None, description="Requests a second of each key; the operator's to set."
    )

    def draft(self) -> Draft:
        return Draft(**dict(self))


class UserShown(Tagged):
    name: Name
    title: str
    email: str | None = None
    scopes: tuple[Scope, ...]
    extension: str | None = None
    disabled: bool
    rate: int | None = None
    created_at: Instant
    changed_at: Instant


class UserList(BaseModel):
    users: tuple[UserShown, ...]
    next_cursor: str | None = None


class ListUsers(Paged):
    caller: FromKey[Caller]
    search: FromQuery[SearchText] = Field(
        default="", description="In a name, title or e-mail address."
    )
    scope: FromQuery[Scope | None] = Field(default=None, description="Who has it.")
    extension: FromQuery[Extension | None] = None
    disabled: FromQuery[bool | None] = None


@routes("GET", "/v1/users", scope=Scope.KEYS_READ, fields=("users",))
async def list_users(deps: HttpDeps, asked: ListUsers) -> UserList:
    """List the users of the API, by name."""
    words = asked.search.casefold()
    found = [
        user
        for user in await deps.access.users(asked.caller.tenant)
        if words in f"{user.name}\n{user.title}\n{user.email or ''}".casefold()
        and (asked.scope is None or asked.scope in user.scopes)
        and asked.extension in {None, user.extension}
        and asked.disabled in {None, user.disabled}
    ]
    users, more = asked.page(found, lambda user: user.name)
    return UserList(users=tuple(map(_shown, users)), next_cursor=more)


class OfUser(BaseModel):
    caller: FromKey[Caller]
    user: FromPath[Name]


@routes("GET", "/v1/users/{user}", scope=Scope.KEYS_READ, errors=(NotFound,), fields=("",))
async def read_user(deps: HttpDeps, asked: OfUser) -> UserShown:
    """Read one user of the API."""
    return _shown(await deps.access.user(asked.caller.tenant, asked.user))


class ChangeUser(OfUser, OnlyIf):
    confirm: FromQuery[Name | None] = Field(
        default=None,
        description="The user's name: also where nobody could make keys any more then.",
    )

    def only_if(self, user: ApiUser | None) -> None:
        self.check(_tag(user) if user is not None else None)

    @property
    def confirmed(self) -> bool:
        return self.confirm == self.user


class PutUser(ChangeUser):
    body: FromBody[UserIn]


@routes("PUT", "/v1/users/{user}", scope=Scope.KEYS_WRITE, errors=(Conflict,))
async def put_user(deps: HttpDeps, asked: PutUser) -> UserShown:
    """Make a user of the API, or change him.

    What he loses, all his keys lose within five seconds. You can give nobody what your own key has
    not, and change nobody who has more.
    """
    return await _put(deps, asked, "put_user", asked.body)


class PatchUser(ChangeUser):
    body: FromBody[MergePatch]


@routes("PATCH", "/v1/users/{user}", scope=Scope.KEYS_WRITE, errors=(NotFound, Conflict))
async def patch_user(deps: HttpDeps, asked: PatchUser) -> UserShown:
    """Change some of what a user is: `{"disabled": true}`; `null` takes away."""
    there = await deps.access.user(asked.caller.tenant, asked.user)
    asked.only_if(there)
    said = merged(_settings(there), asked.body.root)
    try:
        wanted = UserIn.model_validate(said)
    except ValidationError as error:
        raise ContractError(f"body: {faults_in(error)}") from None
    # What was merged is of this user as he was read: else it would undo what came between.
    unchanged = asked.model_copy(update={"if_match": f'"{_tag(there)}"'})
    return await _put(deps, unchanged, "patch_user", wanted)


class DeleteUser(ChangeUser):
    pass


@routes("DELETE", "/v1/users/{user}", scope=Scope.KEYS_WRITE, errors=(NotFound, Conflict))
async def delete_user(deps: HttpDeps, asked: DeleteUser) -> UserShown:
    """Remove a user of the API, and end all his keys."""
    await _note(deps, asked, "delete_user", f"user {asked.user}")
    user = await deps.access.delete_user(
        asked.caller, asked.user, only_if=asked.only_if, confirmed=asked.confirmed
    )
    return _shown(user)


async def _put(deps: HttpDeps, asked: ChangeUser, action: str, wanted: UserIn) -> UserShown:
    words = f"user {asked.user}: {in_words(wanted.scopes) or 'nothing'}"
    await _note(deps, asked, action, f"{words}; disabled" if wanted.disabled else words)
    user = await deps.access.put_user(
        asked.caller,
        asked.user,
        wanted.draft(),
        only_if=asked.only_if,
        confirmed=asked.confirmed,
    )
    return _shown(user)


async def _note(deps: HttpDeps, asked: OfUser, action: str, subject: str) -> None:
    await deps.audit.note(
        tenant=asked.caller.tenant,
        key_name=asked.caller.key_name,
        action=action,
        subject=subject,
    )


def _settings(user: ApiUser) -> dict[str, JsonValue]:
    found: dict[str, Any] = user.model_dump(
        mode="json", include=set(UserIn.model_fields), exclude_none=True
    )
    return found


def _shown(user: ApiUser) -> UserShown:
    return UserShown(**user.model_dump(), tag=_tag(user))


def _tag(user: ApiUser) -> str:
    return tag_of(user.user_id, user.version)
