"""Calls as rows: searched, counted, exported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, ClassVar

from pydantic import BaseModel, Field, StringConstraints

from services.gateway.calls import sheet
from services.gateway.deps import HttpDeps
from shared.contracts.history import (
    COLUMNS,
    MAX_ROWS,
    CallCount,
    CallRows,
    CountCalls,
    Cursor,
    Fields,
    SearchCalls,
    Sort,
    WhichCalls,
)
from shared.errors import ContractError, Forbidden, Unavailable
from shared.http.auth import Caller, Scope
from shared.http.bytestream import ByteStream
from shared.http.routes import FromBody, FromKey, Routes

routes: Routes[HttpDeps] = Routes(tag="mesh")


class SearchIn(WhichCalls):
    """Which calls, and what of them."""

    fields: Fields = Field(default=(), description="Of each row, in this order; none: all.")
    sort: Sort = "started_at"
    descending: bool = True
    limit: int = Field(default=50, ge=1, le=MAX_ROWS)
    cursor: Cursor | None = Field(default=None, description="`next_cursor` of a page.")


class ExportIn(WhichCalls):
    """Which calls, and what of them."""

    fields: Fields = Field(default=(), description="The columns, in this order; none: all.")
    descending: bool = Field(default=True, description="The newest first.")
    zone: Annotated[str, StringConstraints(max_length=64)] = Field(
        default="UTC", description="Of the times: `Europe/London`."
    )


class SearchRows(BaseModel):
    caller: FromKey[Caller]
    body: FromBody[SearchIn]


class CountRows(BaseModel):
    caller: FromKey[Caller]
    body: FromBody[WhichCalls]


class ExportRows(BaseModel):
    caller: FromKey[Caller]
    body: FromBody[ExportIn]


class CsvFile(ByteStream):
    media: ClassVar[str] = "text/csv; charset=utf-8; header=present"


@routes("POST", "/v1/calls/search", scope=Scope.CALLS_READ, is_change=False)
async def search_calls(deps: HttpDeps, asked: SearchRows) -> CallRows:
    """Search calls by any field of their rows.

    A page may be short where there is more: go on while there is `next_cursor`. A key that is bound
    to an extension sees the calls of that phone.
    """
    body = asked.body
    return await deps.requester.request(
        SearchCalls(
            which=readable(deps, asked.caller, body),
            fields=body.fields,
            sort=body.sort,
            descending=body.descending,
            limit=body.limit,
            cursor=body.cursor,
        ),
        within=deps.ask_within,
        tenant=asked.caller.tenant,
    )


@routes("POST", "/v1/calls/count", scope=Scope.CALLS_READ, is_change=False)
async def count_calls(deps: HttpDeps, asked: CountRows) -> CallCount:
    """Count the calls that a search would find."""
    return await deps.requester.request(
        CountCalls(which=readable(deps, asked.caller, asked.body)),
        within=deps.ask_within,
        tenant=asked.caller.tenant,
    )


@routes("POST", "/v1/calls/export", scope=Scope.CALLS_READ)
async def export_calls(deps: HttpDeps, asked: ExportRows) -> CsvFile:
    """Write all the calls that a search would find as CSV.

    `X-Total-Count` says how many lines are coming, for progress. A connection that breaks off
    means that the file is not whole.
    """
    caller, body = asked.caller, asked.body
    which, zone = readable(deps, caller, body), sheet.zone_named(body.zone)
    names = body.fields or tuple(COLUMNS.by_name)
    try:
        counted = await deps.requester.request(
            CountCalls(which=which), within=deps.ask_within, tenant=caller.tenant
        )
        total = counted.count
    except ContractError:
        total = None  # too many to be counted in time; they can be read all the same
    asking = SearchCalls(which=which, fields=names, descending=body.descending, limit=MAX_ROWS)
    # What is wrong with the question is said before the file begins.
    first = await deps.requester.request(asking, within=deps.ask_within, tenant=caller.tenant)
    await deps.audit.note(
        tenant=caller.tenant,
        key_name=caller.key_name,
        action="export_calls",
        subject="many calls" if total is None else f"{total} calls",
    )

    async def chunks() -> AsyncIterator[bytes]:
        yield sheet.head(names)
        page = first
        while True:
            yield sheet.body(page.rows, names, zone)
            if page.next_cursor is None:
                return
            page = await deps.requester.request(
                asking.model_copy(update={"cursor": page.next_cursor}),
                within=deps.ask_within,
                tenant=caller.tenant,
            )

    return CsvFile(filename="calls.csv", total=total, chunks=chunks())


def readable(deps: HttpDeps, caller: Caller, asked: WhichCalls) -> WhichCalls:
    """What of *asked* the key may see. Raises: Forbidden for another's phone, Unavailable."""
    if asked.extension is not None:
        caller.may_act_for(asked.extension)
    there = pbx_of_phone(deps, caller)
    if there is not None and asked.pbx not in {None, there}:
        raise Forbidden(f"This key is for the phone {caller.extension} at PBX {there} only.")
    return WhichCalls(
        filter=asked.filter,
        call_ids=asked.call_ids,
        extension=asked.extension or caller.extension,
        pbx=there or asked.pbx,
    )


def pbx_of_phone(deps: HttpDeps, caller: Caller) -> str | None:
    """
    Where the phone of a bound key is: at another PBX that number is somebody else. None: the key
    is not bound, or the site does not say where the phone is.

    Raises: Unavailable until the sites are known.
    """
    if caller.extension is None:
        return None
    if not deps.site.loaded:
        raise Unavailable("The sites are not loaded yet.")
    site = deps.site.site(caller.tenant)
    agent = site.agent_at(caller.extension) if site else None
    return agent.pbx if agent else None
