"""
Agents' statuses: what sides say is weighed, and the other sides are told.

What is decided is kept with the agent before it is published, so a message that is handled again
after a crash, or is followed by another, publishes what was not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from services.dialer.agents import AgentBook, Outgoing
from services.dialer.links import Switchboards
from services.dialer.showing import Showing
from services.dialer.sides import (
    AgentKnown,
    came_too_late,
    side_key,
    took,
    took_not,
)
from services.dialer.weighing import Heard, Statement, Verdict, hear
from services.dialer.whose import pbx_of_agent, site_of
from shared.bus.port import Publisher
from shared.bus.router import Router
from shared.clock import Clock
from shared.contracts.agents import (
    STATUS_HOLDS,
    AgentPage,
    AgentStatusChanged,
    AgentStatusSettled,
    CrmStatusTold,
    ListAgents,
    SetAgentStatus,
    Side,
    TellCrmStatus,
)
from shared.contracts.envelope import Message
from shared.errors import NotFound, Rejected
from shared.moments import to_instant
from shared.observe.metrics import Metrics
from shared.pbx.port import AgentAt
from shared.site.book import SiteBook
from shared.site.models import Site
from shared.storage.newest import NewestOrder, NewestOrders, Turn

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class StatusDeps:
    agents: AgentBook
    orders: NewestOrders
    boards: Switchboards
    showing: Showing
    site: SiteBook
    publisher: Publisher
    clock: Clock
    metrics: Metrics
    order_within: timedelta


router: Router[StatusDeps] = Router("dialer")


# -- what sides say --------------------------------------------------------------------------


@router.on(AgentStatusChanged)
async def hear_status(deps: StatusDeps, message: Message[AgentStatusChanged]) -> None:
    said, site = message.body, site_of(deps.site, message.tenant)
    why_not = _why_not(site, said)
    if why_not is not None:
        deps.metrics.count("callmesh_statuses_heard_total", said.source, why_not)
        log.info("agent_status_unheeded", extension=said.extension, reason=why_not)
        await _contradict(deps, message)
        return
    statement = Statement(
        id=str(message.id),
        source=said.source,
        name=said.source_name or _only_pbx(site, said),
        status=said.status,
        own=said.own,
        at=message.occurred_at,
    )
    renders = deps.showing.renders(site, said.extension)
    heard: Heard | None = None

    def decide(known: AgentKnown) -> tuple[AgentKnown, Sequence[Outgoing]]:
        nonlocal heard
        heard = hear(known, statement, renders, now=deps.clock.now())
        return heard.agent, _outgoing(heard, said.extension, statement.id)

    outbox = await deps.agents.decide(message.tenant, said.extension, decide)
    if heard is not None:
        _report(deps, said, heard)
    await _publish(deps, message.tenant, said.extension, outbox)


def _why_not(site: Site | None, said: AgentStatusChanged) -> str | None:
    """Why it is not this agent's word; what nobody is told of is kept all the same."""
    agent = site.agent_at(said.extension) if site else None
    if site is None or agent is None or said.source_name is None:
        return None
    if said.source is Side.PBX and site.agent_at(said.extension, said.source_name) is None:
        return "foreign"
    if said.source is Side.CRM:
        crm = site.crm_named(said.source_name)
        return None if crm is not None and crm.status.heed else "unheeded"
    return None


def _only_pbx(site: Site | None, said: AgentStatusChanged) -> str | None:
    """A PBX that does not say its name is the agent's."""
    if said.source is not Side.PBX:
        return None
    pbx = pbx_of_agent(site, site.agent_at(said.extension) if site else None)
    return pbx.name if pbx else None


def _outgoing(heard: Heard, extension: str, cause: str) -> list[Outgoing]:
    """The same whenever it is decided, so that nothing is published twice."""
    agent, found = heard.agent, []
    for side, tell in heard.tells.items():
        kind, _, name = side.partition(":")
        key = f"{cause}/{side}"
        if kind == Side.PBX:
            order = SetAgentStatus(extension=extension, status=tell.status, own=tell.shown.word)
            found.append(Outgoing(key=key, at=tell.at, order=order))
        elif agent.since is not None:
            crm = TellCrmStatus(
                connection=name, extension=extension, status=tell.status, since=agent.since
            )
            found.append(Outgoing(key=key, at=tell.at, crm=crm))
    settled = _settled(agent, extension, heard.weighed) if heard.settled else None
    if settled is not None:
        at = agent.weighed or settled.since
        found.append(Outgoing(key=cause, at=at, settled=settled))
    return found


def _settled(agent: AgentKnown, extension: str, weighed: datetime) -> AgentStatusSettled | None:
    if agent.status is None or agent.since is None or agent.source is None:
        return None
    return AgentStatusSettled(
        extension=extension,
        status=agent.status,
        own=agent.own,
        since=agent.since,
        source=agent.source,
        source_name=agent.source_name,
        weighed=weighed,
    )


async def _contradict(deps: StatusDeps, message: Message[AgentStatusChanged]) -> None:
    """Whoever goes by the PBXs' words alone hears that this one did not count."""
    said = message.body
    known = await deps.agents.known(message.tenant, said.extension)
    if said.source is not Side.PBX or known is None or known.status is said.status:
        return
    settled = _settled(known, said.extension, message.occurred_at)
    if settled is not None and message.occurred_at > (known.weighed or settled.since):
        await deps.publisher.publish(settled, tenant=message.tenant, key=str(message.id))


async def _publish(
    deps: StatusDeps, tenant: str, extension: str, outbox: Sequence[Outgoing]
) -> None:
    for one in outbox:
        await deps.publisher.publish(one.body, tenant=tenant, key=one.key, at=one.at)
    if outbox:
        await deps.agents.published(tenant, extension, {one.key for one in outbox})


def _report(deps: StatusDeps, said: AgentStatusChanged, heard: Heard) -> None:
    deps.metrics.count("callmesh_statuses_heard_total", said.source, heard.verdict)
    if heard.verdict is Verdict.CHANGED:
        log.info(
            "agent_status_changed",
            extension=said.extension,
            status=said.status,
            source=said.source,
            told=sorted(heard.tells),
        )
    if heard.restless:
        log.warning(
            "agent_status_restless",
            extension=said.extension,
            reason="something sets it back again and again; no side is told until that ends",
        )


# -- what sides are told ---------------------------------------------------------------------


@router.on(SetAgentStatus)
async def set_status(deps: StatusDeps, message: Message[SetAgentStatus]) -> None:
    """What a PBX refuses is kept with the agent. Raises: Unavailable."""
    wanted, at = message.body, message.occurred_at
    site = site_of(deps.site, message.tenant)
    agent = site.agent_at(wanted.extension) if site else None
    pbx = pbx_of_agent(site, agent)
    if agent is None or pbx is None:
        raise NotFound(f"no PBX is known for extension {wanted.extension}")
    side = side_key(Side.PBX, pbx.name)
    if deps.clock.now() - at > STATUS_HOLDS:
        fault = f"the PBX was away for {STATUS_HOLDS.total_seconds():.0f} s"
        await deps.agents.note(
            message.tenant, wanted.extension, lambda known: came_too_late(known, side, at, fault)
        )
        _told(deps, wanted, side, "too_late")
        return
    turn = await deps.orders.claim(
        message.tenant, wanted.extension, at, wanted.model_dump_json(exclude_none=True)
    )
    if turn is Turn.OVERTAKEN:
        _told(deps, wanted, side, "overtaken")
        return
    order: NewestOrder | None = NewestOrder(
        key="", tenant=message.tenant, at=at, body=wanted.model_dump_json(), expires_at=at
    )
    if turn is Turn.OWED:
        order = await deps.orders.finish(message.tenant, wanted.extension, at)
    while turn is not Turn.DONE and order is not None:
        await _order(deps, pbx.name, AgentAt(agent.extension, agent.pbx_user), order)
        # One that ran beside this one came before or after it at the PBX; so it is given again.
        order = await deps.orders.finish(
            message.tenant, wanted.extension, order.at, again=order.at != to_instant(at)
        )


async def _order(deps: StatusDeps, pbx: str, agent: AgentAt, order: NewestOrder) -> None:
    wanted, side = SetAgentStatus.model_validate_json(order.body), side_key(Side.PBX, pbx)
    fault: str | None = None
    try:
        await deps.boards.set_status(
            order.tenant, pbx, agent, wanted.status, own=wanted.own, within=deps.order_within
        )
    except Rejected as error:
        fault = error.message
        log.warning("agent_status_refused", extension=wanted.extension, side=side, error=fault)

    def edit(known: AgentKnown) -> AgentKnown:
        if fault is not None:
            return took_not(known, side, order.at, fault)
        return took(known, side, order.at, now=deps.clock.now())

    await deps.agents.note(order.tenant, wanted.extension, edit)
    _told(deps, wanted, side, "told" if fault is None else "refused")


@router.on(CrmStatusTold)
async def note_crm_told(deps: StatusDeps, message: Message[CrmStatusTold]) -> None:
    told, now = message.body, deps.clock.now()
    side, at, fault = side_key(Side.CRM, told.connection), told.order_at, told.fault

    def edit(known: AgentKnown) -> AgentKnown:
        if fault is None:
            return took(known, side, at, now=now)
        done = came_too_late if told.retry else took_not
        return done(known, side, at, fault)

    await deps.agents.note(message.tenant, told.extension, edit)


def _told(deps: StatusDeps, wanted: SetAgentStatus, side: str, outcome: str) -> None:
    deps.metrics.count("callmesh_statuses_told_total", Side.PBX, outcome)
    log.info(
        "agent_status_told",
        extension=wanted.extension,
        status=wanted.status,
        side=side,
        outcome=outcome,
    )


# -- who asks --------------------------------------------------------------------------------


@router.on(ListAgents)
async def list_agents(deps: StatusDeps, message: Message[ListAgents]) -> AgentPage:
    found = deps.agents.records(message.tenant, message.body.extensions)
    return AgentPage(agents=tuple([record async for record in found]))
