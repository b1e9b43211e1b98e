"""Recordings of calls: by a link that ends, or by an API key; and who listened."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel, Field

from services.gateway.calls.reading import may_speak_of
from services.gateway.deps import HttpDeps
from shared.contracts.calls import CallRecord, FetchCall
from shared.errors import (
    Forbidden,
    Gone,
    MeshError,
    NotFound,
    Rejected,
    Throttled,
    TransientError,
    Unavailable,
)
from shared.http.auth import Caller, Scope
from shared.http.files import FileAnswer
from shared.http.lists import Cursor, Id, Token
from shared.http.routes import FromKey, FromPath, FromQuery, FromRequest, RawRequest, Routes
from shared.moments import Instant
from shared.observe.metrics import Metrics
from shared.recordings.links import PATH, Linked, mark_of

routes: Routes[HttpDeps] = Routes(tag="mesh")

_BY_LINK = f"{PATH}{{token}}"
_BY_KEY = "/v1/calls/{call_id}/recordings/{number}"
_FAULTS = (NotFound, Rejected, Throttled, Unavailable)


class ByLink(BaseModel):
    token: FromPath[Token]
    request: FromRequest[RawRequest]


class ByKey(BaseModel):
    caller: FromKey[Caller]
    call_id: FromPath[Id]
    number: FromPath[int] = Field(
        ge=1, le=10**9, description="1 is the first of the call's `recordings`."
    )
    request: FromRequest[RawRequest]


class ReadAccesses(BaseModel):
    caller: FromKey[Caller]
    call_id: FromPath[Id]
    limit: FromQuery[int] = Field(default=50, ge=1, le=500)
    cursor: FromQuery[Cursor | None] = Field(default=None, description="`next_cursor` of a page.")


class RecordingAccess(BaseModel):
    """Who listened to a recording, within one minute: a player asks for piece after piece."""

    recording: str = Field(description="As the PBX names it.")
    peer: str = Field(description="The address it was asked from; behind a proxy the proxy's.")
    key: str | None = Field(default=None, description="Name of the API key; none: by a link.")
    at: Instant
    last_at: Instant
    requests: int
    bytes: int
    range: str | None = Field(default=None, description="The last part given; none: the whole.")
    status: int = Field(description="Of the last answer.")


class RecordingAccesses(BaseModel):
    accesses: tuple[RecordingAccess, ...]
    next_cursor: str | None = Field(default=None, description="Pass it on to read the next page.")


@routes("GET", _BY_LINK, scope=None, errors=(Gone, *_FAULTS))
async def play_linked_recording(deps: HttpDeps, asked: ByLink) -> FileAnswer:
    """Play a recording by the link that a CRM entry has.

    Range requests are answered. A link that has ended is 410, anything else that is no link of ours
    404, and a recording that the PBX has not yet written 503 with Retry-After. Parameters behind the
    token are ignored.
    """
    return await _by_link(deps, asked)


@routes("HEAD", _BY_LINK, scope=None, errors=(Gone, *_FAULTS))
async def look_at_linked_recording(deps: HttpDeps, asked: ByLink) -> FileAnswer:
    """What playing the recording of a link would answer, without the sound."""
    return await _by_link(deps, asked)


@routes(
    "GET",
    "/v1/calls/{call_id}/recordings/accesses",
    scope=Scope.CALLS_READ,
    errors=(Forbidden,),
)
async def read_recording_accesses(deps: HttpDeps, asked: ReadAccesses) -> RecordingAccesses:
    """Who listened to a call's recordings, the latest first.

    Not for a key that is bound to an extension.
    """
    if asked.caller.extension is not None:
        raise Forbidden("A key that is bound to an extension may not read who listened.")
    page = await deps.accesses.of_call(
        asked.caller.tenant, asked.call_id, limit=asked.limit, cursor=asked.cursor
    )
    return RecordingAccesses(
        accesses=tuple(
            RecordingAccess(
                recording=known.recording,
                peer=known.peer,
                key=known.key_name,
                at=known.at,
                last_at=known.last_at,
                requests=known.requests,
                bytes=known.sent_bytes,
                range=known.range,
                status=known.status,
            )
            for known in page.documents
        ),
        next_cursor=page.next_cursor,
    )


@routes("GET", _BY_KEY, scope=Scope.CALLS_READ, errors=_FAULTS)
async def play_recording(deps: HttpDeps, asked: ByKey) -> FileAnswer:
    """Play a recording of a call.

    A key that is bound to an extension hears calls of that phone.
    """
    return await _by_key(deps, asked)


@routes("HEAD", _BY_KEY, scope=Scope.CALLS_READ, errors=_FAULTS)
async def look_at_recording(deps: HttpDeps, asked: ByKey) -> FileAnswer:
    """What playing a recording would answer, without the sound."""
    return await _by_key(deps, asked)


async def _by_link(deps: HttpDeps, asked: ByLink) -> FileAnswer:
    linked = _read(deps, asked.token)
    with _counted(deps.metrics):
        call = await _call(deps, linked.tenant, linked.call_id)
        named = (name for name in call.recordings if mark_of(name) == linked.mark)
        return await _played(deps, linked.tenant, call, next(named, None), asked.request)


async def _by_key(deps: HttpDeps, asked: ByKey) -> FileAnswer:
    caller = asked.caller
    with _counted(deps.metrics):
        call = await _call(deps, caller.tenant, asked.call_id)
        may_speak_of(deps, caller, call)
        named = call.recordings[asked.number - 1 : asked.number]
        return await _played(
            deps,
            caller.tenant,
            call,
            next(iter(named), None),
            asked.request,
            key_name=caller.key_name,
        )


async def _call(deps: HttpDeps, tenant: str, call_id: str) -> CallRecord:
    return await deps.requester.request(
        FetchCall(call_id=call_id), within=deps.ask_within, tenant=tenant
    )


async def _played(
    deps: HttpDeps,
    tenant: str,
    call: CallRecord,
    recording: str | None,
    request: RawRequest,
    *,
    key_name: str | None = None,
) -> FileAnswer:
    if not deps.site.loaded:
        raise Unavailable("The sites are not loaded yet.")
    site = deps.site.site(tenant)
    if site is None or recording is None:
        raise NotFound("The call has no such recording.")
    return await deps.player.play(site, call, recording, request, key_name=key_name)


def _read(deps: HttpDeps, token: str) -> Linked:
    """Raises: NotFound, Gone."""
    try:
        return deps.links.read(token, now=deps.clock.now())
    except NotFound as error:
        outcome = "ended" if isinstance(error, Gone) else "forged"
        deps.metrics.count("callmesh_recordings_total", outcome)
        raise


@contextmanager
def _counted(metrics: Metrics) -> Iterator[None]:
    """What is not given; what is, the player counts."""
    try:
        yield
    except MeshError as error:
        metrics.count("callmesh_recordings_total", _outcome(error))
        raise


def _outcome(error: MeshError) -> str:
    match error:
        case NotFound():
            return "missing"
        case TransientError():
            return "not_now"
        case _:
            return "refused"
