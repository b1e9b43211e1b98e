"""Streams of one agent's screens and of a tenant's, and how browsers open them."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.gateway.deps import HttpDeps
from services.gateway.domain import AgentEvent, AgentEventKind
from services.gateway.screens.following import (
    CallId,
    Position,
    SaidByScreen,
    SaidByWatcher,
    Wants,
)
from shared.contracts.screens import Seen
from shared.errors import ContractError, Forbidden, NotFound
from shared.http.auth import Caller, Scope
from shared.http.live import LiveStream
from shared.http.routes import FromBody, FromHeader, FromKey, FromPath, FromQuery, Routes
from shared.http.tickets import TICKET_PARAMETER
from shared.ids import Extension
from shared.moments import Instant

routes: Routes[HttpDeps] = Routes(tag="mesh")

_MAX_LISTED = 500
_List = Annotated[str, StringConstraints(max_length=20_000)]
_AFTER = "The last `position` that you had, also that of a beat: what came after it is sent."


class _Live(BaseModel):
    caller: FromKey[Caller]
    #: By its alias apart from the parameter of that name.
    last_event_id: FromHeader[str | None] = Field(
        default=None,
        alias="Last_Event_ID",
        max_length=64,
        description="As browsers send it when they connect again.",
    )
    after: FromQuery[Position | None] = Field(
        default=None, alias="last_event_id", description=_AFTER
    )

    @property
    def last_id(self) -> str | None:
        """A browser that connects again by the same address has had more than that says."""
        return self.last_event_id or self.after


class FollowAgent(_Live):
    extension: FromPath[Extension]


@routes.stream("/v1/agents/{extension}/events", scope=Scope.POPS_READ)
async def follow_agent(deps: HttpDeps, asked: FollowAgent) -> LiveStream[AgentEvent]:
    """One agent's screens, as server-sent events.

    What rings now comes first, then what happens; in silence `alive` every 15 s. Each event has an
    `id`; drop one that you have had. Connect again with the last id, to any replica: what came
    meanwhile is sent, and some of what came shortly before. An id that is too old is answered by
    `reset`, and by what there is now. The stream ends when the server stops, the key is revoked or
    the client does not keep up.
    """
    return await _screen(deps, asked)


@routes.socket("/v1/agents/{extension}/socket", scope=Scope.POPS_READ, hears=SaidByScreen)
async def open_agent_socket(deps: HttpDeps, asked: FollowAgent) -> LiveStream[AgentEvent]:
    """One agent's screens, on a WebSocket.

    The same events as server-sent ones, each as a message; every 15 s `{"kind": "alive"}` with the
    id to go on from. A client may say `{"resume": ID}`, and `{"call_id": ID, "seen": "opened"}` or
    `"dismissed"`, which the agent's other devices are told.
    """
    return await _screen(deps, asked)


async def _screen(deps: HttpDeps, asked: FollowAgent) -> LiveStream[AgentEvent]:
    asked.caller.may_act_for(asked.extension)
    wants = Wants(extension=asked.extension)
    return await deps.screens.follow(asked.caller.tenant, wants, asked.last_id)


class FollowTenant(_Live):
    kinds: FromQuery[_List | None] = Field(
        default=None,
        description="Only these kinds of events, with commas: `pop,status`. `reset` and `behind` "
        "come always.",
    )
    extensions: FromQuery[_List | None] = Field(
        default=None, description=f"Only these agents', with commas; at most {_MAX_LISTED}."
    )

    def wants(self) -> Wants:
        """Raises: ContractError."""
        return Wants(kinds=_kinds(self.kinds), extensions=_listed(self.extensions))


@routes.stream("/v1/events", scope=Scope.EVENTS_READ)
async def follow_tenant(deps: HttpDeps, asked: FollowTenant) -> LiveStream[AgentEvent]:
    """The screens of all agents, their statuses and dials, as server-sent events.

    As for one agent.
    """
    return await _tenant(deps, asked)


@routes.socket("/v1/events/socket", scope=Scope.EVENTS_READ, hears=SaidByWatcher)
async def open_tenant_socket(deps: HttpDeps, asked: FollowTenant) -> LiveStream[AgentEvent]:
    """The screens of all agents, their statuses and dials, on a WebSocket.

    As for one agent; a client may say `{"resume": ID}`.
    """
    return await _tenant(deps, asked)


async def _tenant(deps: HttpDeps, asked: FollowTenant) -> LiveStream[AgentEvent]:
    if asked.caller.extension is not None:
        raise Forbidden(f"This key is for extension {asked.caller.extension} only.")
    return await deps.screens.follow(asked.caller.tenant, asked.wants(), asked.last_id)


def _listed(text: str | None) -> frozenset[str] | None:
    if text is None:
        return None
    found = frozenset(filter(None, map(str.strip, text.split(","))))
    if len(found) > _MAX_LISTED:
        raise ContractError(f"query.extensions: {len(found)} of them; at most {_MAX_LISTED}")
    return found


def _kinds(text: str | None) -> frozenset[AgentEventKind] | None:
    found = _listed(text)
    if found is None:
        return None
    known = {kind.value for kind in AgentEventKind}
    if found - known:
        raise ContractError(f"query.kinds: there are {', '.join(sorted(known))}")
    return frozenset(AgentEventKind(kind) for kind in found)


# -- several devices -------------------------------------------------------------------------


class SeenIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seen: Seen
    pop_id: Position | None = Field(
        default=None, description="The pop's id, where the call had several; else the last."
    )


class MarkPop(BaseModel):
    caller: FromKey[Caller]
    extension: FromPath[Extension]
    call_id: FromPath[CallId]
    body: FromBody[SeenIn]


class SeenReceipt(BaseModel):
    """The agent's other devices are told."""

    call_id: str
    extension: Extension
    seen: Seen


@routes(
    "POST",
    "/v1/agents/{extension}/pops/{call_id}",
    scope=Scope.POPS_READ,
    status=202,
    errors=(NotFound,),
    is_change=False,
)
async def mark_pop(deps: HttpDeps, asked: MarkPop) -> SeenReceipt:
    """Say that a pop was opened or dismissed on one of the agent's devices.

    Every open stream of the extension is told `seen`; who connects later gets the pop with it.
    """
    asked.caller.may_act_for(asked.extension)
    seen, pop_id = asked.body.seen, asked.body.pop_id
    await deps.screens.seen.mark(asked.caller.tenant, asked.extension, asked.call_id, seen, pop_id)
    return SeenReceipt(call_id=asked.call_id, extension=asked.extension, seen=seen)


# -- browsers --------------------------------------------------------------------------------


class TicketIn(BaseModel):
    """For one agent's screens; without ``extension`` the key's own, else the whole tenant's."""

    model_config = ConfigDict(extra="forbid")

    extension: Extension | None = None


class AskTicket(BaseModel):
    caller: FromKey[Caller]
    body: FromBody[TicketIn]


class TicketOut(BaseModel):
    ticket: str = Field(description="For the query parameter `ticket`, until it expires.")
    expires_at: Instant = Field(
        description="Connect before; what is open then stays, as long as the key is good."
    )
    events_url: str = Field(description="For `EventSource`, with the ticket in it.")
    socket_url: str = Field(description="For `WebSocket`, with the ticket in it.")


@routes(
    "POST",
    "/v1/streams/tickets",
    scope=frozenset({Scope.POPS_READ, Scope.EVENTS_READ}),
    status=201,
    is_change=False,
)
async def issue_ticket(deps: HttpDeps, asked: AskTicket) -> TicketOut:
    """A ticket by which a browser opens a stream, which can send no header.

    The program that has the API key asks for it and gives it to the page; the key itself never
    stands in an address.
    """
    caller = asked.caller
    extension = asked.body.extension or caller.extension
    scope = Scope.EVENTS_READ if extension is None else Scope.POPS_READ
    if scope not in caller.scopes:
        raise Forbidden(f"This API key lacks the scope {scope}.")
    if extension is not None:
        caller.may_act_for(extension)
    ticket = deps.screens.tickets.issue(caller, scope=scope, extension=extension)
    events, socket = "/v1/events", "/v1/events/socket"
    if extension is not None:
        base = f"/v1/agents/{quote(extension, safe='*')}"
        events, socket = f"{base}/events", f"{base}/socket"
    query = f"?{TICKET_PARAMETER}={ticket.text}"
    return TicketOut(
        ticket=ticket.text,
        expires_at=ticket.ends_at,
        events_url=_absolute(deps.public_url, events, "http") + query,
        socket_url=_absolute(deps.public_url, socket, "ws") + query,
    )


def _absolute(public_url: str | None, path: str, scheme: str) -> str:
    """*path* alone, where nobody has said how this mesh is reached."""
    if public_url is None:
        return path
    secure = "s" if urlsplit(public_url).scheme == "https" else ""
    return f"{scheme}{secure}://{public_url.partition('://')[2]}{path}"
