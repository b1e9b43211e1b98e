"""Deliveries by HTTP: looked at, sent again, and one for a trial."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from services.gateway.deps import HttpDeps
from services.gateway.setup.changing import note
from services.gateway.subscribers.delivery import Attempt, Delivery, DeliveryState
from services.gateway.subscribers.operations import OfSubscriber, refuse_bound
from services.gateway.subscribers.public import PublicEvent
from shared.errors import Conflict, ContractError, NotFound
from shared.http.auth import Scope
from shared.http.lists import MOST_IDS, Cursor, IdList, ids_in
from shared.http.routes import FromBody, FromPath, FromQuery, Routes
from shared.ids import new_id
from shared.moments import Instant

routes: Routes[HttpDeps] = Routes(tag="mesh")

DeliveryId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f-]{36}$")]
DeliveryType = Annotated[
    str, StringConstraints(pattern=r"^(\*|ping|[a-z_]{1,40}\.(\*|[a-z_]{1,40}))$")
]


class DeliveryShown(BaseModel):
    """One event on its way to a subscriber."""

    delivery_id: str
    webhook_id: str = Field(description="In the header of each try: the same for all of them.")
    type: str
    state: DeliveryState
    tries: int = Field(description="Of ten; counted anew by a replay.")
    created_at: Instant
    next_try_at: Instant | None = None
    attempts: tuple[Attempt, ...] = Field(description="The oldest first.")


class DeliveryWhole(DeliveryShown):
    event: PublicEvent


class DeliveryList(BaseModel):
    deliveries: tuple[DeliveryShown, ...]
    next_cursor: str | None = None


class ReadDeliveries(OfSubscriber):
    ids: FromQuery[IdList | None] = Field(
        default=None, description=f"Only these, up to {MOST_IDS}, with commas between them."
    )
    state: FromQuery[DeliveryState | None] = None
    type: FromQuery[DeliveryType | None] = Field(
        default=None, description="`calls.ended`, `calls.*`, `ping`."
    )
    since: FromQuery[Instant | None] = Field(default=None, description="Made at or after.")
    until: FromQuery[Instant | None] = Field(default=None, description="Made before.")
    limit: FromQuery[int] = Field(default=50, ge=1, le=200)
    cursor: FromQuery[Cursor | None] = Field(default=None, description="`next_cursor` of a page.")


@routes(
    "GET",
    "/v1/subscribers/{subscriber}/deliveries",
    scope=Scope.SUBSCRIBERS_READ,
    errors=(NotFound,),
    fields=("deliveries",),
)
async def read_deliveries(deps: HttpDeps, asked: ReadDeliveries) -> DeliveryList:
    """What a subscriber was told, or is to be told, and how each try went; the newest first."""
    refuse_bound(asked.caller)
    ids = ids_in(asked.ids)
    to = await deps.subscribers.get(asked.caller.tenant, asked.subscriber)
    page = await deps.deliveries.page(
        to,
        states=(asked.state,) if asked.state else (),
        pattern=asked.type,
        keys=None if ids is None else sorted(ids),
        since=asked.since,
        until=asked.until,
        limit=asked.limit,
        cursor=asked.cursor,
    )
    return DeliveryList(
        deliveries=tuple(DeliveryShown(**_said(one)) for one in page.documents),
        next_cursor=page.next_cursor,
    )


class ReadDelivery(OfSubscriber):
    delivery_id: FromPath[DeliveryId]


@routes(
    "GET",
    "/v1/subscribers/{subscriber}/deliveries/{delivery_id}",
    scope=Scope.SUBSCRIBERS_READ,
    errors=(NotFound,),
    fields=("",),
)
async def read_delivery(deps: HttpDeps, asked: ReadDelivery) -> DeliveryWhole:
    """One delivery, with its event."""
    refuse_bound(asked.caller)
    to = await deps.subscribers.get(asked.caller.tenant, asked.subscriber)
    return _whole(await deps.deliveries.get(to, asked.delivery_id))


@routes(
    "POST",
    "/v1/subscribers/{subscriber}/ping",
    scope=Scope.SUBSCRIBERS_WRITE,
    status=202,
    errors=(NotFound, Conflict),
)
async def ping_subscriber(deps: HttpDeps, asked: OfSubscriber) -> DeliveryWhole:
    """Send a subscriber an event of the type `ping`, whatever its filter says.

    What becomes of it is read as that of any other delivery.
    """
    refuse_bound(asked.caller)
    tenant = asked.caller.tenant
    to = await deps.subscribers.get(tenant, asked.subscriber)
    if not to.is_on:
        raise Conflict(f"Subscriber {to.name} is switched off; put it again to switch it on.")
    await note(deps, asked.caller, action="ping_subscriber", subject=f"subscriber {to.name}")
    event = PublicEvent(
        id=str(new_id()),
        type="ping",
        version=1,
        tenant=tenant,
        occurred_at=deps.clock.now(),
        correlation=str(new_id()),
        data={"subscriber": to.name},
    )
    made = await deps.deliveries.open_anew(to, event)
    deps.sender.wake(to.uid)
    return _whole(made)


class ReplayIn(BaseModel):
    """Which deliveries; all that is said must hold."""

    model_config = ConfigDict(extra="forbid")

    delivery_ids: Annotated[tuple[DeliveryId, ...], Field(max_length=MOST_IDS)] | None = None
    states: tuple[DeliveryState, ...] = (DeliveryState.DEAD, DeliveryState.ENDED)
    since: Instant | None = Field(default=None, description="Made at or after.")
    until: Instant | None = Field(default=None, description="Made before.")
    limit: int = Field(default=200, ge=1, le=MOST_IDS, description="Deliveries in one step.")
    cursor: Cursor | None = Field(default=None, description="`next_cursor` of the step before.")


class ReplayDeliveries(OfSubscriber):
    body: FromBody[ReplayIn]


class ReplayedDeliveries(BaseModel):
    replayed: int
    next_cursor: str | None = Field(default=None, description="There are more: ask again with it.")


@routes(
    "POST",
    "/v1/subscribers/{subscriber}/replay",
    scope=Scope.SUBSCRIBERS_WRITE,
    errors=(NotFound, Conflict, ContractError),
)
async def replay_deliveries(deps: HttpDeps, asked: ReplayDeliveries) -> ReplayedDeliveries:
    """Send deliveries again, ten tries each, under their webhook-id.

    Without `states` those that are dead or ended; with `delivery_ids` and `states` such as `done`
    any. One step: as long as the answer has a `next_cursor`, ask again with it.
    """
    caller, said = asked.caller, asked.body
    refuse_bound(caller)
    to = await deps.subscribers.get(caller.tenant, asked.subscriber)
    if not to.is_on:
        raise Conflict(f"Subscriber {to.name} is switched off; put it again to switch it on.")
    await note(deps, caller, action="replay_deliveries", subject=f"subscriber {to.name}")
    page = await deps.deliveries.page(
        to,
        states=said.states,
        keys=said.delivery_ids,
        since=said.since,
        until=said.until,
        limit=said.limit,
        cursor=said.cursor,
    )
    replayed = [await deps.deliveries.replay(one) for one in page.documents]
    deps.sender.wake(to.uid)
    return ReplayedDeliveries(replayed=sum(replayed), next_cursor=page.next_cursor)


# --------------------------------------------------------------------------------------------------


def _said(one: Delivery) -> Mapping[str, Any]:
    return {
        "delivery_id": one.key,
        "webhook_id": one.webhook_id,
        "type": one.type,
        "state": one.state,
        "tries": one.tries,
        "created_at": one.created_at,
        "next_try_at": one.due_at if one.state is DeliveryState.WAITING else None,
        "attempts": one.attempts,
    }


def _whole(one: Delivery) -> DeliveryWhole:
    return DeliveryWhole(**_said(one), event=PublicEvent.model_validate_json(one.event))
