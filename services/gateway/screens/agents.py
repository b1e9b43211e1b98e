"""What agents are doing: told and asked."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.deps import HttpDeps
from shared.contracts.agents import (
    AgentRecord,
    AgentStatus,
    AgentStatusChanged,
    ListAgents,
    OwnWord,
    Side,
)
from shared.errors import NotFound
from shared.http.auth import Caller, Scope
from shared.http.lists import MOST_IDS, Paged
from shared.http.routes import FromBody, FromKey, FromPath, FromQuery, Routes
from shared.ids import Extension, new_id
from shared.site.models import Agent
from shared.site.parts import Text

routes: Routes[HttpDeps] = Routes(tag="mesh")


class AgentShown(AgentRecord):
    """An agent of the site, and what is known of what he does."""

    name: Text | None = None


class AgentList(BaseModel):
    agents: tuple[AgentShown, ...]
    next_cursor: str | None = None


class ListStatuses(Paged):
    """`ids`: extensions."""

    caller: FromKey[Caller]
    status: FromQuery[AgentStatus | None] = Field(default=None, description="Only who does this.")


@routes("GET", "/v1/agents", scope=Scope.AGENTS_READ, fields=("agents",))
async def list_statuses(deps: HttpDeps, asked: ListStatuses) -> AgentList:
    """List the agents and what they are doing.

    A key that is bound to an extension sees its own agent. Whether somebody is on a call is said by
    the list of calls.
    """
    caller = asked.caller
    mine = [
        agent
        for agent in _agents(deps, caller)
        if caller.extension is None or agent.extension == caller.extension
    ]
    if asked.status is None:
        page, more = asked.page(mine, lambda agent: agent.extension)
        return AgentList(agents=await _shown(deps, caller, page), next_cursor=more)
    doing = [one for one in await _shown(deps, caller, mine) if one.status is asked.status]
    found, more = asked.page(doing, lambda one: one.extension)
    return AgentList(agents=found, next_cursor=more)


class ReadStatus(BaseModel):
    caller: FromKey[Caller]
    extension: FromPath[Extension]


@routes(
    "GET",
    "/v1/agents/{extension}/status",
    scope=Scope.AGENTS_READ,
    errors=(NotFound,),
    fields=("",),
)
async def read_status(deps: HttpDeps, asked: ReadStatus) -> AgentShown:
    """Read what an agent is doing.

    `faults` has the PBX and CRMs that did not take what they were told last, in their words.
    """
    asked.caller.may_act_for(asked.extension)
    agent = _agent(deps, asked.caller, asked.extension)
    (shown,) = await _shown(deps, asked.caller, [agent])
    return shown


class StatusIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    status: AgentStatus
    own: OwnWord | None = Field(
        default=None,
        description="The PBX's own word, where it has several for the status: a presence of "
        "Yeastar, a pause's reason.",
    )


class PutStatus(BaseModel):
    caller: FromKey[Caller]
    extension: FromPath[Extension]
    body: FromBody[StatusIn]


class StatusOrder(BaseModel):
    """On its way; what the PBX and the CRMs make of it is found under ``GET``, in ``faults``."""

    extension: Extension
    status: AgentStatus
    own: OwnWord | None = None


@routes(
    "PUT",
    "/v1/agents/{extension}/status",
    scope=Scope.AGENTS_WRITE,
    status=202,
    errors=(NotFound,),
)
async def put_status(deps: HttpDeps, asked: PutStatus) -> StatusOrder:
    """Say what an agent is doing: the agent's PBX is told, and the CRMs that want to know.

    Asterisk and Wazo: paused in every queue, or not; FreeSWITCH: the status in `mod_callcenter`;
    Yeastar: the presence; UIS: the employee's status. 3CX takes none. A PBX or CRM that is away for
    two minutes is not told any more.
    """
    caller, extension, status = asked.caller, asked.extension, asked.body.status
    caller.may_act_for(extension)
    _agent(deps, caller, extension)
    await deps.audit.note(
        tenant=caller.tenant,
        key_name=caller.key_name,
        action="set_status",
        subject=f"{extension} is {status}",
    )
    said = AgentStatusChanged(
        extension=extension,
        status=status,
        own=asked.body.own,
        source=Side.API,
        source_name=caller.key_name,
    )
    await deps.publisher.publish(said, tenant=caller.tenant, key=str(new_id()))
    return StatusOrder(extension=extension, status=status, own=asked.body.own)


def _agents(deps: HttpDeps, caller: Caller) -> tuple[Agent, ...]:
    site = deps.site.site(caller.tenant)
    return site.agents if site else ()


def _agent(deps: HttpDeps, caller: Caller, extension: str) -> Agent:
    """Raises: NotFound."""
    for agent in _agents(deps, caller):
        if agent.extension == extension:
            return agent
    raise NotFound(f"Extension {extension} is not one of this tenant's agents.")


async def _shown(deps: HttpDeps, caller: Caller, agents: Iterable[Agent]) -> tuple[AgentShown, ...]:
    """Raises: Unavailable."""
    wanted = list(agents)
    known: dict[str, AgentRecord] = {}
    for place in range(0, len(wanted), MOST_IDS):
        asked = tuple(agent.extension for agent in wanted[place : place + MOST_IDS])
        page = await deps.requester.request(
            ListAgents(extensions=asked), within=deps.ask_within, tenant=caller.tenant
        )
        known |= {record.extension: record for record in page.agents}
    return tuple(
        AgentShown(
            **dict(known.get(one.extension, AgentRecord(extension=one.extension))), name=one.name
        )
        for one in wanted
    )
