"""The audit log: who changed what, when, and what became of it."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, Field, StringConstraints

from services.gateway.deps import HttpDeps
from services.gateway.store import NO_TENANT, AuditEntry, Outcome
from shared.errors import Forbidden
from shared.http.auth import Caller, Scope
from shared.http.lists import Cursor, IdList, SearchText, ids_in
from shared.http.routes import FromKey, FromQuery, Routes
from shared.moments import Instant
from shared.storage.port import AllOf, Condition, Find, Is, Op

routes: Routes[HttpDeps] = Routes(tag="mesh")

#: A key's, a user's, an operation's: also those in brackets, that stand for no key.
Word = Annotated[str, StringConstraints(max_length=64, pattern=r"^[\x20-\x7e]*$")]


class AuditShown(BaseModel):
    id: str
    at: Instant
    done_at: Instant | None = None
    outcome: Outcome
    status: int | None = Field(default=None, description="As the request was answered.")
    code: str | None = Field(default=None, description="Of the problem, where it was one.")
    action: str
    subject: str = Field(description="Its words; empty where it was refused before it began.")
    key: str = Field(description="Its name; `(cli)` and the like where it was none.")
    user: str | None = None
    home_tenant: str | None = Field(default=None, description="The key's: an operator's.")
    operation: str
    method: str
    path: str = Field(description="The pattern; what stood in it is in `ids`.")
    ids: dict[str, str]
    peer: str
    trace_id: str


class AuditPage(BaseModel):
    entries: tuple[AuditShown, ...]
    next_cursor: str | None = None


class ReadAudit(BaseModel):
    caller: FromKey[Caller]
    since: FromQuery[Instant | None] = None
    until: FromQuery[Instant | None] = Field(default=None, description="Before this.")
    key: FromQuery[Word | None] = Field(default=None, description="The name of an API key.")
    user: FromQuery[Word | None] = Field(default=None, description="A user of the API.")
    operation: FromQuery[Word | None] = Field(
        default=None, description="As OpenAPI calls it: `put_pbx`."
    )
    action: FromQuery[Word | None] = None
    outcome: FromQuery[Outcome | None] = None
    text: FromQuery[SearchText] = Field(default="", description="In the subject.")
    ids: FromQuery[IdList | None] = Field(
        default=None, description="Only these entries, with commas between them."
    )
    unattributed: FromQuery[bool] = Field(
        default=False,
        description="Those that came with no key we know; for operators (`tenants:read`).",
    )
    limit: FromQuery[int] = Field(default=100, ge=1, le=500)
    cursor: FromQuery[Cursor | None] = Field(default=None, description="`next_cursor` of a page.")

    def query(self) -> Find:
        exact = {
            "key_name": self.key,
            "user": self.user,
            "operation": self.operation,
            "action": self.action,
            "outcome": self.outcome,
        }
        tests: list[Condition] = []
        if self.text:
            tests.append(Is("subject", Op.CONTAINS, self.text))
        if (ids := ids_in(self.ids)) is not None:
            tests.append(Is("key", Op.IN, sorted(ids)))
        return Find(
            equals={
                "tenant": NO_TENANT if self.unattributed else self.caller.tenant,
                **{name: value for name, value in exact.items() if value is not None},
            },
            since={"at": self.since} if self.since is not None else {},
            until={"at": self.until} if self.until is not None else {},
            where=AllOf(tests) if tests else None,
            order_by="at",
            descending=True,
            limit=self.limit,
            cursor=self.cursor,
        )


@routes("GET", "/v1/audit", scope=Scope.AUDIT_READ, fields=("entries",))
async def read_audit(deps: HttpDeps, asked: ReadAudit) -> AuditPage:
    """Who changed what, the latest first.

    Every request that was to change something is here, also one that was refused; of refusals that
    are alike one a minute. `open` is under way, or its end could not be written.
    """
    if asked.unattributed and not asked.caller.is_operator:
        raise Forbidden(f"query.unattributed: this API key lacks the scope {Scope.TENANTS_READ}.")
    page = await deps.audit.page(asked.query())
    return AuditPage(entries=tuple(map(_shown, page.documents)), next_cursor=page.next_cursor)


def _shown(entry: AuditEntry) -> AuditShown:
    return AuditShown(
        id=entry.key,
        key=entry.key_name,
        trace_id=entry.trace,
        **entry.model_dump(exclude={"key", "tenant", "version", "key_name", "trace", "expires_at"}),
    )
