"""The public HTTP API: all tables together, and the agents' screens."""

from __future__ import annotations

from collections.abc import AsyncIterator

from pydantic import BaseModel

from services.gateway.calls import dialing, entries, history, reading, summaries
from services.gateway.crm import contacts
from services.gateway.deps import HttpDeps
from services.gateway.domain import AgentEvent
from services.gateway.hooks import from_crm, from_pbx
from services.gateway.recordings import operations as recordings
from services.gateway.screens import agents
from services.gateway.setup import consent, pbxs, rules
from shared.http.auth import Caller, Scope
from shared.http.routes import FromKey, FromPath, Routes
from shared.ids import Extension

__all__ = ["HttpDeps", "routes"]

routes: Routes[HttpDeps] = Routes(tag="mesh")
for _part in (
    from_pbx,
    pbxs,
    rules,
    from_crm,
    dialing,
    agents,
    reading,
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
