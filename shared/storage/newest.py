"""Messages have no order: which of several orders about one thing was given last."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from enum import StrEnum

from shared.clock import Clock
from shared.errors import Conflict, Unavailable
from shared.moments import Instant, to_instant
from shared.storage.port import Collection, Document, change


class Turn(StrEnum):
    """What is to be done with an order."""

    DUE = "due"
    DONE = "done"
    OVERTAKEN = "overtaken"
    #: Overtaken, but it was carried out beside the newest, which is to be again: see ``finish``.
    OWED = "owed"


class NewestOrder(Document):
    """
    ``key`` is the thing; *body* the order as JSON. *owed*: it is to be carried out once more, as an
    older one came beside it.
    """

    at: Instant
    body: str = ""
    done: bool = False
    owed: bool = False
    expires_at: Instant


class NewestOrders:
    """*keep*: until the newest that could overtake an older one is too old itself."""

    def __init__(self, orders: Collection[NewestOrder], clock: Clock, *, keep: timedelta) -> None:
        self._orders = orders
        self._clock = clock
        self._keep = keep

    async def claim(self, tenant: str, thing: str, at: datetime, body: str) -> Turn:
        """
        The order *body* about *thing*, given *at*: whether it is the newest, and not yet done. It
        is due to each who claims it until then: an order that may be carried out twice.
        Raises: Unavailable.
        """
        key, ordered_at = f"{tenant}/{thing}", to_instant(at)

        def edit(found: NewestOrder | None) -> NewestOrder | None:
            if found is not None and found.at >= ordered_at:
                return None
            return NewestOrder(
                key=key,
                tenant=tenant,
                version=found.version if found else 0,
                at=ordered_at,
                body=body,
                expires_at=self._clock.now() + self._keep,
            )

        last = await self._change(key, edit)
        if last is None or last.at < ordered_at:
            return Turn.DUE
        if last.at > ordered_at:
            return Turn.OWED if last.owed else Turn.OVERTAKEN
        return Turn.DONE if last.done else Turn.DUE

    async def finish(
        self, tenant: str, thing: str, at: datetime, *, again: bool = False
    ) -> NewestOrder | None:
        """
        The order given *at* is done; *again*: as this said. The answer is a newer one, where there
        is: it ran beside this one, and which of the two came last on the other side nobody knows. So
        it is to be carried out again; it is owed until then, also to who claims this one again.
        Raises: Unavailable.
        """
        ordered_at = to_instant(at)

        def edit(found: NewestOrder | None) -> NewestOrder | None:
            if found is None or found.at < ordered_at:
                return None
            is_newer = found.at > ordered_at
            news = {
                "done": found.done or not is_newer,
                "owed": is_newer or (found.owed and not again),
            }
            edited = found.model_copy(update=news)
            return None if edited == found else edited

        last = await self._change(f"{tenant}/{thing}", edit)
        return last if last is not None and last.at > ordered_at else None

    async def _change(
        self, key: str, edit: Callable[[NewestOrder | None], NewestOrder | None]
    ) -> NewestOrder | None:
        try:
            return await change(self._orders, key, edit)
        except Conflict as error:
            raise Unavailable(error.message) from error
