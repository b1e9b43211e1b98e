"""Dead letters: what no handler could take, looked at and given to its service again."""

from __future__ import annotations

import base64
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.gateway.deps import HttpDeps
from services.gateway.setup.changing import note
from shared.bus.port import OF_NO_TENANT, DeadLetter, WhichLetters
from shared.errors import ContractError, Forbidden, NotFound, Unavailable
from shared.http.auth import Caller, Scope
from shared.http.routes import FromKey, FromPath, FromQuery, Routes
from shared.ids import Name
from shared.moments import Instant
from shared.observe.logging import mask_text

routes: Routes[HttpDeps] = Routes(tag="mesh")

#: With their messages, some of half a megabyte, they are all in memory for a moment.
MOST_LETTERS = 100

LetterId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{1,40}$")]
#: It has the ids of those that died in one millisecond.
Cursor = Annotated[str, StringConstraints(max_length=20_000)]
WireName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_.-]{1,100}$")]


class LetterSummary(BaseModel):
    letter_id: str
    service: str = Field(description="Who could not take it.")
    type: str = Field(description="Wire name of the message: `calls.started.v1`.")
    tenant: str | None = None
    message_id: str | None = None
    error_code: str
    error: str
    attempts: int
    first_failed_at: Instant | None = None
    died_at: Instant


class LetterShown(LetterSummary):
    message: str = Field(description="As it came: mostly JSON. Phone numbers are in it.")


class LetterList(BaseModel):
    """The oldest first."""

    letters: tuple[LetterSummary, ...]
    next_cursor: str | None = None


_NO_TENANT = Field(
    default=False,
    description="For operators, those whose message says no tenant, in place of the tenant's.",
)


class ListLetters(BaseModel):
    caller: FromKey[Caller]
    service: FromQuery[Name | None] = None
    type: FromQuery[WireName | None] = Field(default=None, description="`calls.started.v1`.")
    since: FromQuery[Instant | None] = Field(default=None, description="Died at or after.")
    without_tenant: FromQuery[bool] = _NO_TENANT
    limit: FromQuery[int] = Field(default=50, ge=1, le=MOST_LETTERS)
    cursor: FromQuery[Cursor | None] = Field(default=None, description="`next_cursor` of a page.")


class OfLetter(BaseModel):
    caller: FromKey[Caller]
    letter_id: FromPath[LetterId]


class _Place(BaseModel):
    """Where a page ended: letters may have died in one millisecond."""

    model_config = ConfigDict(extra="forbid")

    at: Instant
    shown: Annotated[tuple[str, ...], Field(max_length=10 * MOST_LETTERS)]


@routes(
    "GET",
    "/v1/dead-letters",
    scope=Scope.LETTERS_READ,
    errors=(Forbidden, Unavailable),
    fields=("letters",),
)
async def list_dead_letters(deps: HttpDeps, asked: ListLetters) -> LetterList:
    """List the tenant's dead letters: messages that a service could not handle.

    None is ever dropped. A broker with many of them takes a while to look through.
    """
    if asked.without_tenant and not asked.caller.is_operator:
        raise Forbidden("Letters of no tenant are the operator's.")
    place = _read(asked.cursor) if asked.cursor is not None else None
    seen = frozenset(place.shown if place else ())
    which = WhichLetters(
        service=asked.service,
        tenant=OF_NO_TENANT if asked.without_tenant else asked.caller.tenant,
        contract=asked.type,
        since=_later(asked.since, place.at if place else None),
    )
    found = await deps.letters.list(which, limit=asked.limit + len(seen) + 1)
    left = [letter for letter in found if letter.letter_id not in seen]
    shown = left[: asked.limit]
    more = None
    if len(left) > len(shown):
        last = shown[-1].died_at
        # Those of the page before count where all of them died in one moment.
        before = seen if place is not None and place.at == last else frozenset[str]()
        ids = [letter.letter_id for letter in shown if letter.died_at == last]
        more = _written(_Place(at=last, shown=(*sorted(before), *ids)))
    return LetterList(
        letters=tuple(LetterSummary(**_said(letter)) for letter in shown), next_cursor=more
    )


@routes(
    "GET",
    "/v1/dead-letters/{letter_id}",
    scope=Scope.LETTERS_READ,
    errors=(NotFound, Unavailable),
    fields=("",),
)
async def read_dead_letter(deps: HttpDeps, asked: OfLetter) -> LetterShown:
    """Read one dead letter, with its message."""
    return _whole(await _letter(deps, asked))


@routes(
    "POST",
    "/v1/dead-letters/{letter_id}/replay",
    scope=Scope.LETTERS_WRITE,
    status=202,
    errors=(NotFound, Unavailable),
)
async def replay_dead_letter(deps: HttpDeps, asked: OfLetter) -> LetterShown:
    """Give a dead letter to its service again, as a first attempt.

    Other services do not see it. If it fails again it is back in the list.
    """
    letter = await _letter(deps, asked)
    subject = f"letter {letter.letter_id}: {letter.type} to {letter.service}"
    await note(deps, asked.caller, action="replay_dead_letter", subject=subject)
    return _whole(await deps.letters.replay(letter.letter_id))


async def _letter(deps: HttpDeps, asked: OfLetter) -> DeadLetter:
    """Raises: NotFound, in the same words for another tenant's."""
    nobodys = NotFound(f"There is no dead letter {asked.letter_id}.")
    try:
        letter = await deps.letters.get(asked.letter_id)
    except NotFound:
        raise nobodys from None
    is_theirs = letter.tenant == asked.caller.tenant
    if not is_theirs and (letter.tenant or not asked.caller.is_operator):
        raise nobodys
    return letter


def _said(letter: DeadLetter) -> dict[str, Any]:
    said = letter.model_dump(exclude={"message"})
    return {**said, "error": mask_text(letter.error), "tenant": letter.tenant or None}


def _whole(letter: DeadLetter) -> LetterShown:
    return LetterShown(**_said(letter), message=mask_text(letter.message))


def _later(one: datetime | None, other: datetime | None) -> datetime | None:
    return max((moment for moment in (one, other) if moment is not None), default=None)


def _written(place: _Place) -> str:
    return base64.urlsafe_b64encode(place.model_dump_json().encode()).decode()


def _read(cursor: str) -> _Place:
    try:
        return _Place.model_validate_json(base64.b64decode(cursor, altchars=b"-_", validate=True))
    except ValueError:
        raise ContractError("query.cursor: not one that a page of this list returned") from None
