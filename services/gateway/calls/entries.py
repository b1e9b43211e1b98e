"""Calls on their way into the CRMs: how they stand, sent after all, compared with the calls."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from services.gateway.deps import HttpDeps
from shared.contracts.calls import EntryState
from shared.contracts.journal import (
    CallEntries,
    EntryFilter,
    EntryPage,
    EntrySummary,
    FetchEntries,
    ListEntries,
    ReconcileCalls,
    Reconciled,
    Replayed,
    ReplayEntries,
    SummariseEntries,
)
from shared.errors import ContractError, NotFound
from shared.faults import faults_in
from shared.http.auth import Caller, Scope
from shared.http.lists import MOST_IDS, Id, IdList, ids_in
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.ids import Name
from shared.moments import Instant

Cursor = Annotated[str, StringConstraints(max_length=1000)]

routes: Routes[HttpDeps] = Routes(tag="mesh")


class ReadEntries(BaseModel):
    caller: FromKey[Caller]
    connection: FromQuery[Name | None] = None
    state: FromQuery[EntryState | None] = None
    since: FromQuery[Instant | None] = Field(default=None, description="Wanted at or after.")
    until: FromQuery[Instant | None] = Field(default=None, description="Wanted before.")
    ids: FromQuery[IdList | None] = Field(
        default=None, description=f"Keys of up to {MOST_IDS} entries, with commas between them."
    )
    call_ids: FromQuery[IdList | None] = Field(
        default=None, description=f"Those of up to {MOST_IDS} calls, with commas between them."
    )
    limit: FromQuery[int] = Field(default=50, ge=1, le=500)
    cursor: FromQuery[Cursor | None] = Field(default=None, description="`next_cursor` of a page.")


@routes("GET", "/v1/journal/entries", scope=Scope.JOURNAL_READ, fields=("entries",))
async def read_entries(deps: HttpDeps, asked: ReadEntries) -> EntryPage:
    """Calls on their way into the CRMs, oldest first."""
    keys, calls = ids_in(asked.ids), ids_in(asked.call_ids, name="call_ids")
    if (keys is not None and not keys) or (calls is not None and not calls):
        return EntryPage(entries=())
    try:
        which = EntryFilter(
            keys=tuple(sorted(keys or ())),
            call_ids=tuple(sorted(calls or ())),
            connection=asked.connection,
            states=(asked.state,) if asked.state else (),
            since=asked.since,
            until=asked.until,
        )
    except ValidationError as error:
        raise ContractError(faults_in(error).replace("keys", "query.ids")) from None
    return await deps.requester.request(
        ListEntries(which=which, limit=asked.limit, cursor=asked.cursor),
        within=deps.ask_within,
        tenant=asked.caller.tenant,
    )


class OfCall(BaseModel):
    caller: FromKey[Caller]
    call_id: FromPath[Id]


@routes(
    "GET",
    "/v1/calls/{call_id}/entries",
    scope=Scope.JOURNAL_READ,
    errors=(NotFound,),
    fields=("entries",),
)
async def read_call_entries(deps: HttpDeps, asked: OfCall) -> CallEntries:
    """A call's entries: their tries, and the request that failed last with the CRM's answer.

    Secrets in them are masked.
    """
    return await deps.requester.request(
        FetchEntries(call_id=asked.call_id), within=deps.ask_within, tenant=asked.caller.tenant
    )


class OfTenant(BaseModel):
    caller: FromKey[Caller]


@routes("GET", "/v1/journal/summary", scope=Scope.JOURNAL_READ)
async def read_journal_summary(deps: HttpDeps, asked: OfTenant) -> EntrySummary:
    """How many entries stand where, by connection, and what the oldest waits for."""
    return await deps.requester.request(
        SummariseEntries(), within=deps.ask_within, tenant=asked.caller.tenant
    )


# -- changing ------------------------------------------------------------------------------------


class ReplayIn(EntryFilter):
    """Which entries; all that is said must hold."""

    model_config = ConfigDict(extra="forbid")

    all: bool = Field(
        default=False,
        description="Every entry that is dead, failed or waits for a reconnect: to be said where "
        "nothing else is.",
    )
    limit: int = Field(default=200, ge=1, le=500, description="Entries in one step.")
    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the step before.")

    @model_validator(mode="after")
    def says_which(self) -> Self:
        says = bool(self.which.model_fields_set)
        if says == self.all:
            raise ValueError(
                "say which entries (call_ids, keys, connection, states, since, until), or all: true"
            )
        return self

    @property
    def which(self) -> EntryFilter:
        said = self.model_dump(include=set(EntryFilter.model_fields), exclude_defaults=True)
        return EntryFilter(**said)


class ReplayAsked(BaseModel):
    caller: FromKey[Caller]
    body: FromBody[ReplayIn]


@routes("POST", "/v1/journal/replay", scope=Scope.JOURNAL_WRITE, errors=(NotFound, ContractError))
async def replay_entries(deps: HttpDeps, asked: ReplayAsked) -> Replayed:
    """Send entries after all, once what was wrong is mended.

    Those that are there stay as they are. One step: as long as the answer has a `next_cursor`, ask
    again with it. The same again does no harm.
    """
    body = asked.body
    await _note(deps, asked.caller, "replay_entries", _in_words(body.which))
    return await deps.requester.request(
        ReplayEntries(which=body.which, limit=body.limit, cursor=body.cursor),
        within=deps.ask_within,
        tenant=asked.caller.tenant,
    )


class ReconcileIn(BaseModel):
    """A span of calls by when they started."""

    model_config = ConfigDict(extra="forbid")

    since: Instant
    until: Instant
    connection: Name | None = None
    ask_crm: bool = Field(
        default=False, description="Have the CRM look for each entry that was sent."
    )
    repair: bool = Field(default=False, description="Order what is missing, stuck, lost, outdated.")
    limit: int = Field(default=100, ge=1, le=500, description="Calls in one step.")
    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the step before.")


class ReconcileAsked(BaseModel):
    caller: FromKey[Caller]
    body: FromBody[ReconcileIn]


@routes(
    "POST", "/v1/journal/reconcile", scope=Scope.JOURNAL_WRITE, errors=(NotFound, ContractError)
)
async def reconcile_calls(deps: HttpDeps, asked: ReconcileAsked) -> Reconciled:
    """Compare calls with their entries, and repair what is wrong.

    One step: as long as the answer has a `next_cursor`, ask again with it, after its `pause`. The
    same again does no harm: there is never a second entry.
    """
    body = asked.body
    if body.repair:
        span = f"calls from {body.since:%Y-%m-%d %H:%M} to {body.until:%Y-%m-%d %H:%M} UTC"
        of = f" of {body.connection}" if body.connection else ""
        await _note(deps, asked.caller, "reconcile_calls", span + of)
    return await deps.requester.request(
        ReconcileCalls(**body.model_dump()), within=deps.ask_within, tenant=asked.caller.tenant
    )


async def _note(deps: HttpDeps, caller: Caller, action: str, subject: str) -> None:
    await deps.audit.note(
        tenant=caller.tenant, key_name=caller.key_name, action=action, subject=subject
    )


def _in_words(which: EntryFilter) -> str:
    parts = [f"of {which.connection}"] if which.connection else []
    if which.states:
        parts.append(f"that are {' or '.join(which.states)}")
    for word, at in (("since", which.since), ("until", which.until)):
        if at is not None:
            parts.append(f"{word} {at:%Y-%m-%d %H:%M} UTC")
    if named := (*which.keys, *which.call_ids):
        more = f" and {len(named) - 1} more" if len(named) > 1 else ""
        parts.append(f"{named[0][:100]}{more}")
    return " ".join(["entries", *parts]) if parts else "all entries"
