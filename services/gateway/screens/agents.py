"""What agents are doing, told to their PBX."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from services.gateway.deps import HttpDeps
from shared.contracts.agents import AgentStatus, SetAgentStatus
from shared.errors import NotFound
from shared.http.auth import Caller, Scope
from shared.http.routes import FromBody, FromKey, FromPath, Routes
from shared.ids import Extension, new_id

routes: Routes[HttpDeps] = Routes(tag="mesh")


class StatusIn(BaseModel):
    model_config = ConfigDict(extra="forbid")

    status: AgentStatus


class PutStatus(BaseModel):
    caller: FromKey[Caller]
    extension: FromPath[Extension]
    body: FromBody[StatusIn]


class StatusOrder(BaseModel):
    """On its way to the PBX; what that refuses is found among the dead letters of `dialer`."""

    extension: Extension
    status: AgentStatus


@routes(
    "PUT",
    "/v1/agents/{extension}/status",
    scope=Scope.AGENTS_WRITE,
    status=202,
    errors=(NotFound,),
)
async def put_status(deps: HttpDeps, asked: PutStatus) -> StatusOrder:
    """Tell an agent's PBX what the agent is doing.

    Asterisk and Wazo: paused in every queue, or not; FreeSWITCH: the status in `mod_callcenter`;
    Yeastar: the presence; UIS: the employee's status. 3CX takes none. An order that waited for two minutes for the PBX is dropped.
    """
    caller, extension, status = asked.caller, asked.extension, asked.body.status
    caller.may_act_for(extension)
    site = deps.site.site(caller.tenant)
    if site is None or site.agent_at(extension) is None:
        raise NotFound(f"Extension {extension} is not one of this tenant's agents.")
    await deps.audit.note(
        tenant=caller.tenant,
        key_name=caller.key_name,
        action="set_status",
        subject=f"{extension} is {status}",
    )
    order = SetAgentStatus(extension=extension, status=status)
    await deps.publisher.publish(order, tenant=caller.tenant, key=str(new_id()))
    return StatusOrder(extension=extension, status=status)
