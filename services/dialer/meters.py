"""
How much a tenant and each of its phones have dialled, over all replicas, against the limits that the
site sets.

Dials are counted in steps, of a second for the last minute and of a minute for the last hour: a
document stays small however much is dialled, and a limit may hold for a step longer than it says.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import partial
from weakref import WeakValueDictionary
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from services.dialer.permits import Why
from shared.clock import Clock
from shared.errors import Conflict, TooMany, Unavailable
from shared.moments import Instant, to_ms
from shared.site.dialing import DialLimits
from shared.storage.port import Collection, CollectionSpec, Document, Find, Index, change, every

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
#: Nothing in a document of this age counts any more.
_KEPT = timedelta(days=3)
#: Of two replicas that count at once one tries again; it may lose against all that the other has.
_TRIES = 1000


class Tick(BaseModel):
    """Dials of one step. *at*: its beginning, in seconds since 1970."""

    at: int
    count: int


class Held(BaseModel):
    """A dial whose cost is not known yet. *price*: of a begun minute, in millionths."""

    dial_id: str
    at: Instant
    day: str
    price: int


class Meter(Document):
    """``key`` is the tenant, or ``tenant/extension``. *spent*: of that *day*, in millionths."""

    seconds: tuple[Tick, ...] = ()
    minutes: tuple[Tick, ...] = ()
    day: str = ""
    today: int = 0
    spent: int = 0
    held: tuple[Held, ...] = ()
    #: When the longest held was; None: none is.
    held_since: Instant | None = None
    expires_at: Instant


METERS: CollectionSpec[Meter] = CollectionSpec(
    name="dialer.meters",
    model=Meter,
    indexes=(Index(fields=("held_since",)),),
    expires_by="expires_at",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """Limits of one meter; *cost* in millionths. *whose*: the beginning of their names in a site."""

    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    cost: int | None = None
    whose: str = ""

    @staticmethod
    def of_tenant(limits: DialLimits) -> Caps:
        cost = limits.cost_per_day
        return Caps(
            per_minute=limits.per_minute,
            per_hour=limits.per_hour,
            per_day=limits.per_day,
            cost=None if cost is None else int(cost * 1_000_000),
        )

    @staticmethod
    def of_agent(limits: DialLimits) -> Caps:
        return Caps(
            per_minute=limits.agent_per_minute, per_day=limits.agent_per_day, whose="agent_"
        )


# -- pure ------------------------------------------------------------------------------------------


def taken(
    meter: Meter, dial_id: str, *, price: int, caps: Caps, now: datetime, zone: str
) -> Meter | None:
    """
    With one dial more, and its first minute held; None where it has been counted already.

    Raises: TooMany, with ``why``, until when a limit is reached.
    """
    if any(held.dial_id == dial_id for held in meter.held):
        return None
    meter = _until(meter, now, zone)
    _check(meter, price=price, caps=caps, now=now, zone=zone)
    held = Held(dial_id=dial_id, at=now, day=meter.day, price=price)
    return _holding(
        meter.model_copy(
            update={
                "seconds": _counted(meter.seconds, now, timedelta(seconds=1)),
                "minutes": _counted(meter.minutes, now, _MINUTE),
                "today": meter.today + 1,
                "expires_at": now + _KEPT,
            }
        ),
        (*meter.held, held),
    )


def given_back(meter: Meter, dial_id: str) -> Meter | None:
    """As if the dial had never been; None where it is not held."""
    held = next((held for held in meter.held if held.dial_id == dial_id), None)
    if held is None:
        return None
    return _holding(
        meter.model_copy(
            update={
                "seconds": _counted(meter.seconds, held.at, timedelta(seconds=1), by=-1),
                "minutes": _counted(meter.minutes, held.at, _MINUTE, by=-1),
                "today": meter.today - (1 if held.day == meter.day else 0),
            }
        ),
        tuple(other for other in meter.held if other is not held),
    )


def settled(meter: Meter, dial_id: str, cost: int) -> Meter | None:
    """What it cost takes the place of the minute that was held; None where it is not held."""
    held = next((held for held in meter.held if held.dial_id == dial_id), None)
    if held is None:
        return None
    spent = meter.spent + (cost if held.day == meter.day else 0)
    return _holding(
        meter.model_copy(update={"spent": spent}),
        tuple(other for other in meter.held if other is not held),
    )


def _until(meter: Meter, now: datetime, zone: str) -> Meter:
    """What still counts *now*. A day never goes back: a replica's clock may be a little behind."""
    day = now.astimezone(ZoneInfo(zone)).date().isoformat()
    second, minute = _step(now - _MINUTE, timedelta(seconds=1)), _step(now - _HOUR, _MINUTE)
    fields: dict[str, object] = {
        "seconds": tuple(tick for tick in meter.seconds if tick.at >= second),
        "minutes": tuple(tick for tick in meter.minutes if tick.at >= minute),
    }
    if day > meter.day:
        fields |= {"day": day, "today": 0, "spent": 0}
    return meter.model_copy(update=fields)


def _check(meter: Meter, *, price: int, caps: Caps, now: datetime, zone: str) -> None:
    """Raises: TooMany."""
    for ticks, cap, why, span, step in (
        (meter.seconds, caps.per_minute, Why.PER_MINUTE, _MINUTE, timedelta(seconds=1)),
        (meter.minutes, caps.per_hour, Why.PER_HOUR, _HOUR, _MINUTE),
    ):
        if cap is not None and sum(tick.count for tick in ticks) >= cap:
            after = _room_after(ticks, cap, now, span + step)
            raise _reached(caps, why, cap, after)
    midnight = _midnight_after(now, zone) - now
    if caps.per_day is not None and meter.today >= caps.per_day:
        raise _reached(caps, Why.PER_DAY, caps.per_day, midnight)
    if caps.cost is not None and price:
        held = sum(held.price for held in meter.held if held.day == meter.day)
        if meter.spent + held + price > caps.cost:
            raise TooMany(
                "What the dials of a day may cost is spent: `dialing.limits.cost_per_day`.",
                retry_after=midnight,
                why=Why.COST,
            )


def _reached(caps: Caps, why: Why, cap: int, after: timedelta) -> TooMany:
    who = "This extension" if caps.whose else "The tenant"
    return TooMany(
        f"{who} has dialled {cap} times already: `dialing.limits.{caps.whose}{why}`.",
        retry_after=after,
        why=why,
    )


def _room_after(ticks: Sequence[Tick], cap: int, now: datetime, span: timedelta) -> timedelta:
    """How long until so many have gone that there is room for one."""
    left = sum(tick.count for tick in ticks)
    for tick in sorted(ticks, key=lambda tick: tick.at):
        left -= tick.count
        if left < cap:
            return max(timedelta(milliseconds=tick.at * 1000 - to_ms(now)) + span, timedelta(0))
    return span


def _midnight_after(now: datetime, zone: str) -> datetime:
    here = now.astimezone(ZoneInfo(zone))
    return datetime.combine(here.date() + timedelta(days=1), time(), tzinfo=here.tzinfo)


def _step(at: datetime, step: timedelta) -> int:
    seconds = to_ms(at) // 1000
    return seconds - seconds % int(step.total_seconds())


def _counted(
    ticks: Sequence[Tick], at: datetime, step: timedelta, *, by: int = 1
) -> tuple[Tick, ...]:
    begins = _step(at, step)
    counts = {tick.at: tick.count for tick in ticks}
    if by > 0 or begins in counts:
        counts[begins] = counts.get(begins, 0) + by
    return tuple(Tick(at=at, count=count) for at, count in sorted(counts.items()) if count > 0)


def _holding(meter: Meter, held: tuple[Held, ...]) -> Meter:
    since = min((one.at for one in held), default=None)
    return meter.model_copy(update={"held": held, "held_since": since})


# -- kept ------------------------------------------------------------------------------------------


_Edit = Callable[[Meter], Meter | None]


class MeterBook:
    def __init__(self, meters: Collection[Meter], clock: Clock) -> None:
        self._meters = meters
        self._clock = clock
        # A tenant's dials of one process wait for each other here rather than in the store, where
        # all but one of them would have to try again.
        self._writing: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def take(
        self,
        tenant: str,
        extension: str,
        dial_id: str,
        *,
        price: int,
        limits: DialLimits,
        zone: str,
    ) -> None:
        """Count a dial; the same again counts once. Raises: TooMany, with ``why``; Unavailable."""
        now, phone = self._clock.now(), _phone(tenant, extension)
        count = partial(taken, dial_id=dial_id, now=now, zone=zone)
        await self._change(
            phone, tenant, lambda found: _alone(count(found, price=0, caps=Caps.of_agent(limits)))
        )
        try:
            await self._change(
                tenant, tenant, partial(count, price=price, caps=Caps.of_tenant(limits))
            )
        except TooMany:
            await self.give_back(tenant, extension, dial_id)
            raise

    async def give_back(self, tenant: str, extension: str, dial_id: str) -> None:
        """It is dialled from another phone than this. Raises: Unavailable."""
        phone = _phone(tenant, extension)
        await self._change(phone, tenant, partial(given_back, dial_id=dial_id))

    async def settle(self, tenant: str, dial_id: str, cost: int) -> None:
        """What it cost, in millionths; only the first word counts. Raises: Unavailable."""
        await self._change(tenant, tenant, partial(settled, dial_id=dial_id, cost=cost))

    async def held(self, *, of: timedelta) -> AsyncIterator[tuple[str, str]]:
        """Tenant and id of the dials that are held for longer than *of*. Raises: Unavailable."""
        before = self._clock.now() - of
        query = Find(until={"held_since": before}, order_by="held_since")
        async for meter in every(self._meters, query):
            for held in meter.held:
                if held.at < before:
                    yield meter.tenant, held.dial_id

    async def _change(self, key: str, tenant: str, edit: _Edit) -> None:
        def on(found: Meter | None) -> Meter | None:
            expires_at = self._clock.now() + _KEPT
            return edit(found or Meter(key=key, tenant=tenant, expires_at=expires_at))

        try:
            async with self._writing.setdefault(key, asyncio.Lock()):
                await change(self._meters, key, on, tries=_TRIES)
        except Conflict as error:
            raise Unavailable(f"too many dials at once; {error.message}") from error


def _phone(tenant: str, extension: str) -> str:
    return f"{tenant}/{extension}"


def _alone(meter: Meter | None) -> Meter | None:
    """A phone dials one at a time: what it held before is over, and nobody settles it."""
    if meter is None:
        return None
    return meter.model_copy(update={"held": meter.held[-1:], "held_since": None})
