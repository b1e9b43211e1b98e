"""The public HTTP API: all tables together, and the agents' screens."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic import BaseModel

from services.gateway import (
    agents,
    calls,
    consent,
    contacts,
    crm_hooks,
    dialing,
    entries,
    history,
    pbx_hooks,
    pbxs,
    recordings,
    rules,
    summaries,
)
from services.gateway.deps import HttpDeps
from services.gateway.domain import AgentEvent
from shared.http.auth import Caller, Scope
from shared.http.routes import FromKey, FromPath, Routes
from shared.ids import Extension

__all__ = ["HttpDeps", "routes"]

routes: Routes[HttpDeps] = Routes(tag="mesh")
for _part in (
    pbx_hooks,
    pbxs,
    rules,
    crm_hooks,
    dialing,
    agents,
    calls,
    history,
    entries,
    summaries,
    recordings,
    contacts,
    consent,
):
    routes.operations += _part.routes.operations


class FollowAgent(BaseModel):
    caller: FromKey[Caller]
    extension: FromPath[Extension]


@routes.stream("/v1/agents/{extension}/events", scope=Scope.POPS_READ)
async def follow_agent(deps: HttpDeps, asked: FollowAgent) -> AsyncIterator[AgentEvent]:
    """Screen pops of one agent, as server-sent events.

    What rings now comes first. The stream ends when the server stops or the client does not keep
    up; connect again then.
    """
    asked.caller.may_act_for(asked.extension)
    return deps.screens.events(asked.caller.tenant, asked.extension)
