"""What was asked of CRMs and PBXs, and what they answered."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from services.gateway.deps import HttpDeps
from shared.http.auth import Caller, Scope
from shared.http.lists import Cursor, IdList, SearchText, ids_in
from shared.http.routes import FromKey, FromQuery, Routes
from shared.ids import Name
from shared.moments import Instant
from shared.net.requests import AskedSide
from shared.runtime.requests import RequestLine, RequestQuery

routes: Routes[HttpDeps] = Routes(tag="mesh")

Operations = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[\x20-\x7e]*$")]


class ReadRequests(BaseModel):
    caller: FromKey[Caller]
    since: FromQuery[Instant | None] = None
    until: FromQuery[Instant | None] = Field(default=None, description="Before this.")
    side: FromQuery[AskedSide | None] = Field(default=None, description="`crm` or `pbx`.")
    connection: FromQuery[Name | None] = Field(default=None, description="By its name.")
    operation: FromQuery[Operations] = Field(
        default="", description="What it was for: `search,journal`; one of these."
    )
    status_class: FromQuery[int | None] = Field(
        default=None, ge=1, le=5, description="4: answered with 400 to 499."
    )
    failed: FromQuery[bool | None] = None
    text: FromQuery[SearchText] = Field(default="", description="In the address.")
    ids: FromQuery[IdList | None] = Field(
        default=None, description="Only these, with commas between them."
    )
    limit: FromQuery[int] = Field(default=50, ge=1, le=500)
    cursor: FromQuery[Cursor | None] = Field(default=None, description="`next_cursor` of a page.")

    def query(self) -> RequestQuery:
        ids = ids_in(self.ids)
        return RequestQuery(
            since=self.since,
            until=self.until,
            side=self.side,
            connection=self.connection,
            operations=tuple(filter(None, map(str.strip, self.operation.split(",")))),
            status_class=self.status_class,
            failed=self.failed,
            text=self.text or None,
            request_ids=tuple(sorted(ids)) if ids is not None else None,
            limit=self.limit,
            cursor=self.cursor,
        )


class RequestList(BaseModel):
    requests: tuple[RequestLine, ...]
    next_cursor: str | None = None


@routes("GET", "/v1/audit/requests", scope=Scope.AUDIT_READ, fields=("requests",))
async def read_requests(deps: HttpDeps, asked: ReadRequests) -> RequestList:
    """What was asked of CRMs and PBXs, the latest first; secrets are masked.

    Written behind: a request is here some seconds later. How much of each is kept, and how long, is
    the operator's to set.
    """
    page = await deps.requests.page(asked.caller.tenant, asked.query())
    return RequestList(requests=page.requests, next_cursor=page.next_cursor)
