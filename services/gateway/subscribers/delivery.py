"""One event for one subscriber: how it stands, and what became of each try."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.subscribers.public import PublicEvent
from services.gateway.subscribers.subscriber import SubscriberDocument
from shared.clock import Clock
from shared.errors import Conflict, NotFound
from shared.ids import Name, derived_id, new_id
from shared.moments import Instant
from shared.storage.port import (
    AllOf,
    Collection,
    CollectionSpec,
    Condition,
    Document,
    Find,
    Index,
    Is,
    Op,
    Page,
)

_MOMENT = timedelta(milliseconds=1)
#: That a delivery is kept behind the moment of its next try, at least.
_SPARE = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Tries that are kept of one delivery: ten, and those of a few replays.
_MOST_ATTEMPTS = 40


class DeliveryState(StrEnum):
    WAITING = "waiting"  # for its first try, or for the next
    SENDING = "sending"  # or whoever sent it died, and its turn comes again
    DONE = "done"
    DEAD = "dead"  # it was tried as often as it is
    ENDED = "ended"  # the subscriber is gone, or was switched off


class Attempt(BaseModel):
    """One try."""

    model_config = ConfigDict(frozen=True)

    at: Instant
    status: int | None = Field(default=None, description="Of the answer; null: there was none.")
    took_ms: int = 0
    error: str | None = Field(default=None, description="Why it did not come through.")
    answer: str | None = Field(default=None, description="The answer's beginning, masked.")


class Delivery(Document):
    """``key`` follows from the message and the subscriber: told twice, it is there once."""

    subscriber: Name
    lane: str
    webhook_id: str
    type: str
    #: The event as JSON: names in it are a CRM's, and no database has to take them for its own.
    event: str
    state: DeliveryState = DeliveryState.WAITING
    #: Since it was made, or replayed.
    tries: int = 0
    attempts: Annotated[tuple[Attempt, ...], Field(max_length=_MOST_ATTEMPTS)] = ()
    created_at: Instant
    #: When it may be tried; None: it is not tried any more.
    due_at: Instant | None
    expires_at: Instant

    def after(self, attempt: Attempt, state: DeliveryState, due_at: datetime | None) -> Delivery:
        kept = (*self.attempts, attempt)[-_MOST_ATTEMPTS:]
        # What is to be tried again is there by then, however late a subscriber wants it.
        expires_at = self.expires_at if due_at is None else max(self.expires_at, due_at + _SPARE)
        return self.model_copy(
            update={"attempts": kept, "state": state, "due_at": due_at, "expires_at": expires_at}
        )


DELIVERIES: CollectionSpec[Delivery] = CollectionSpec(
    name="gateway.deliveries",
    model=Delivery,
    indexes=(
        Index(fields=("due_at",)),
        Index(fields=("lane", "due_at")),
        Index(fields=("tenant", "subscriber", "created_at")),
    ),
    expires_by="expires_at",
)


class DeliveryBook:
    def __init__(self, deliveries: Collection[Delivery], clock: Clock, *, keep: timedelta) -> None:
        self._deliveries = deliveries
        self._clock = clock
        self._keep = keep

    async def open(self, to: SubscriberDocument, event: PublicEvent) -> Delivery | None:
        """None where it was made before. Raises: Unavailable."""
        return await self._made(to, event, key=str(derived_id("delivery", to.uid, event.id)))

    async def open_anew(self, to: SubscriberDocument, event: PublicEvent) -> Delivery:
        """One of its own, as for a trial."""
        made = await self._made(to, event, key=str(new_id()))
        assert made is not None  # noqa: S101  its key is new
        return made

    async def _made(
        self, to: SubscriberDocument, event: PublicEvent, *, key: str
    ) -> Delivery | None:
        now = self._clock.now()
        made = Delivery(
            key=key,
            tenant=to.tenant,
            subscriber=to.name,
            lane=to.uid,
            webhook_id=f"msg_{key}",
            type=event.type,
            event=event.model_dump_json(),
            created_at=now,
            due_at=now,
            expires_at=now + self._keep,
        )
        try:
            await self._deliveries.add(made)
        except Conflict:
            return None
        return made

    async def due(self, *, limit: int) -> Sequence[Delivery]:
        """Of all lanes; who is due longest comes first."""
        return await self._due({}, limit)

    async def due_in(self, lane: str, *, limit: int) -> Sequence[Delivery]:
        """Of that lane: of one that has little, as cheap as where another has a million."""
        return await self._due({"lane": lane}, limit)

    async def _due(self, equals: Mapping[str, str], limit: int) -> Sequence[Delivery]:
        query = Find(
            equals=equals,
            until={"due_at": self._clock.now() + _MOMENT},
            order_by="due_at",
            limit=limit,
        )
        return (await self._deliveries.page(query)).documents

    async def claim(self, one: Delivery, *, lease: timedelta) -> Delivery | None:
        """
        Ours until the lease is over; the try counts from here on, also if we die of it. None: another
        replica has it.
        """
        due_at = self._clock.now() + lease
        wanted = one.model_copy(
            update={"state": DeliveryState.SENDING, "tries": one.tries + 1, "due_at": due_at}
        )
        return await self._replaced(wanted)

    async def settle(self, claimed: Delivery) -> None:
        """Where its lease was over and another replica has it, that one's word counts."""
        await self._replaced(claimed)

    async def end(self, one: Delivery) -> None:
        await self._replaced(one.model_copy(update={"state": DeliveryState.ENDED, "due_at": None}))

    async def _replaced(self, wanted: Delivery) -> Delivery | None:
        try:
            return await self._deliveries.replace(wanted)
        except (Conflict, NotFound):
            return None

    # -- looked at -------------------------------------------------------------------------------

    async def get(self, to: SubscriberDocument, key: str) -> Delivery:
        """Raises: NotFound."""
        try:
            found = await self._deliveries.get(key)
        except NotFound:
            found = None
        if found is None or found.lane != to.uid:
            raise NotFound(f"Subscriber {to.name} has no delivery {key[:100]}.")
        return found

    async def page(
        self,
        to: SubscriberDocument,
        *,
        states: Sequence[DeliveryState] = (),
        pattern: str | None = None,
        keys: Sequence[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int,
        cursor: str | None,
    ) -> Page[Delivery]:
        """
        The newest first; *pattern* of their types: `calls.ended`, `calls.*`.

        Raises: ContractError for a cursor of another list.
        """
        tests: list[Condition] = [Is("lane", Op.EQ, to.uid)]
        if states:
            tests.append(Is("state", Op.IN, [state.value for state in states]))
        if pattern is not None:
            group = pattern.removesuffix("*")
            tests.append(Is("type", Op.EQ if group == pattern else Op.BEGINS, group))
        if keys is not None:
            tests.append(Is("key", Op.IN, list(keys)))
        query = Find(
            equals={"tenant": to.tenant, "subscriber": to.name},
            since={"created_at": since} if since else {},
            until={"created_at": until} if until else {},
            where=AllOf(tests),
            order_by="created_at",
            descending=True,
            limit=limit,
            cursor=cursor,
        )
        return await self._deliveries.page(query)

    async def replay(self, one: Delivery) -> bool:
        """
        From the beginning, under its webhook-id. False: it is being sent, or somebody was faster.
        Raises: Unavailable.
        """
        if one.state is DeliveryState.SENDING:
            return False
        now = self._clock.now()
        again = one.model_copy(
            update={
                "state": DeliveryState.WAITING,
                "tries": 0,
                "due_at": now,
                "expires_at": now + self._keep,
            }
        )
        return await self._replaced(again) is not None

    async def waiting(self) -> int:
        """Of all tenants, those whose time for the next try has not come included."""
        return await self._deliveries.count(Find(since={"due_at": _EPOCH}))
