"""A CRM is told what an agent is doing, as the dialer orders it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from shared.bus.port import Publisher
from shared.bus.router import Router
from shared.clock import Clock
from shared.contracts.agents import STATUS_HOLDS, CrmStatusTold, Side, TellCrmStatus
from shared.contracts.envelope import Message
from shared.crm.connections import CrmConnections
from shared.crm.users import UserBook
from shared.errors import PermanentError, Unavailable
from shared.moments import to_instant
from shared.observe.metrics import Metrics
from shared.site.accounts import account_of, seat_of
from shared.site.book import SiteBook
from shared.storage.newest import NewestOrder, NewestOrders, Turn
from shared.storage.port import CollectionSpec

log = structlog.get_logger(__name__)

#: Which order about an agent a CRM was given last, by connection and extension.
STATUSES: CollectionSpec[NewestOrder] = CollectionSpec(
    name="lookup.statuses", model=NewestOrder, expires_by="expires_at"
)
_WITHIN = timedelta(seconds=10)


@dataclass(frozen=True, slots=True)
class StatusDeps:
    connections: CrmConnections
    users: UserBook
    orders: NewestOrders
    site: SiteBook
    publisher: Publisher
    clock: Clock
    metrics: Metrics


router: Router[StatusDeps] = Router("lookup")


@dataclass(frozen=True, slots=True)
class _Outcome:
    """As the metric has it; *fault*: why the CRM was not told."""

    name: str
    fault: str | None = None
    retry: bool = False


@router.on(TellCrmStatus)
async def tell_crm(deps: StatusDeps, message: Message[TellCrmStatus]) -> None:
    """
    What a CRM refuses is told back and not tried again. Raises: TransientError; once the order is
    older than a status holds, it is given up.
    """
    told, at = message.body, message.occurred_at
    if deps.clock.now() - at > STATUS_HOLDS:
        fault = f"the CRM was away for {STATUS_HOLDS.total_seconds():.0f} s"
        await _tell_back(deps, message.tenant, told, at, _Outcome("too_late", fault, retry=True))
        return
    thing = f"{told.connection}/{told.extension}"
    turn = await deps.orders.claim(message.tenant, thing, at, told.model_dump_json())
    if turn is Turn.OVERTAKEN:
        deps.metrics.count("callmesh_statuses_told_total", Side.CRM, "overtaken")
        return
    if turn is Turn.DONE:
        return
    order: NewestOrder | None = NewestOrder(
        key="", tenant=message.tenant, at=at, body=told.model_dump_json(), expires_at=at
    )
    if turn is Turn.OWED:
        order = await deps.orders.finish(message.tenant, thing, at)
    while order is not None:
        told = TellCrmStatus.model_validate_json(order.body)
        outcome = await _tell(deps, message.tenant, told)
        await _tell_back(deps, message.tenant, told, order.at, outcome)
        order = await deps.orders.finish(
            message.tenant, thing, order.at, again=order.at != to_instant(at)
        )


async def _tell(deps: StatusDeps, tenant: str, told: TellCrmStatus) -> _Outcome:
    """Raises: TransientError."""
    if not deps.site.loaded:
        raise Unavailable("the sites are not loaded yet")
    site = deps.site.site(tenant)
    crm = site.crm_named(told.connection) if site else None
    agent = site.agent_at(told.extension) if site else None
    if site is None or crm is None or agent is None or not crm.status.tell:
        return _Outcome("switched_off", "it is not to be told any more")
    try:
        connector = deps.connections.connector(account_of(site, crm))
        if not connector.tells_status:
            return _Outcome("switched_off", "its template cannot tell a status")
        word = connector.status_word(told.status, crm.status.words)
        if word is None:
            return _Outcome("switched_off", f"it has no word for {told.status}")
        user = await deps.users.owner_of(tenant, crm.name, seat_of(agent, crm))
        if user is None:
            return _Outcome("nobody", "none of its users has this phone: see `callmesh crm users`")
        await connector.tell_status(user, word, extension=agent.extension, within=_WITHIN)
    except PermanentError as error:
        log.warning(
            "crm_refused_status",
            connection=crm.name,
            extension=agent.extension,
            error=error.message,
        )
        return _Outcome("refused", error.message)
    return _Outcome("told")


async def _tell_back(
    deps: StatusDeps, tenant: str, told: TellCrmStatus, at: datetime, outcome: _Outcome
) -> None:
    deps.metrics.count("callmesh_statuses_told_total", Side.CRM, outcome.name)
    log.info(
        "agent_status_told",
        extension=told.extension,
        status=told.status,
        side=f"crm:{told.connection}",
        outcome=outcome.name,
    )
    back = CrmStatusTold(
        connection=told.connection,
        extension=told.extension,
        order_at=at,
        fault=outcome.fault,
        retry=outcome.retry,
    )
    key = f"{told.connection}/{told.extension}/{at.isoformat()}"
    await deps.publisher.publish(back, tenant=tenant, key=key)
