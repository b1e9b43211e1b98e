"""
Deliveries on their way. Each subscriber has a lane of its own, in which a few requests are made at
once; one that fails is left alone for a while and then tried with one request. What waits, waits in
the store: here is only what is being sent.

What is due is read over all lanes, the oldest first. Where that is more than a page, it may be all of
one lane, with a million behind it: then lanes are asked one by one, those first of which something
was heard here.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from time import perf_counter

import structlog
from pydantic import SecretStr

from services.gateway.subscribers.answers import retry_after_of, shown_of
from services.gateway.subscribers.book import SubscriberBook
from services.gateway.subscribers.delivery import Attempt, Delivery, DeliveryBook, DeliveryState
from services.gateway.subscribers.lanes import AT_ONCE_TO_ONE, Lane, Lanes
from services.gateway.subscribers.request import Webhook, webhook_of
from services.gateway.subscribers.retrying import TRIES, wait_after
from services.gateway.subscribers.subscriber import SubscriberDocument, SwitchedOff
from shared.clock import Clock
from shared.errors import BadSetting, ContractError, MeshError
from shared.net.client import Answer, HttpClient
from shared.observe.logging import mask_text
from shared.observe.metrics import Metrics
from shared.secrets import SecretBox

log = structlog.get_logger(__name__)

#: How often the store is asked for what others have left, or whose time has come.
_LOOK = timedelta(seconds=1)
_PAGE = 50
#: Lanes that are asked in one look, and lanes that are remembered in each second while more is due
#: than a page.
_ASKED, _SWEPT = 32, 50
#: Longer than a try may take.
_SPARE = timedelta(seconds=30)
_MOST_ANSWER_BYTES = 1024 * 1024
_SHOWN = 500
_COUNTED_EVERY = timedelta(seconds=15)
#: To count a million is work: for so much of the time it is not done.
_COUNTED_REST = 100


@dataclass(frozen=True, slots=True)
class _Outcome:
    attempt: Attempt
    done: bool = False
    #: Trying again cannot help.
    hopeless: bool = False
    gone: bool = False
    retry_after: timedelta | None = None


class Sender:
    def __init__(
        self,
        book: SubscriberBook,
        deliveries: DeliveryBook,
        *,
        http: HttpClient,
        secrets: SecretBox,
        clock: Clock,
        metrics: Metrics,
    ) -> None:
        self._book = book
        self._deliveries = deliveries
        self._http = http
        self._secrets = secrets
        self._clock = clock
        self._metrics = metrics
        self._lanes = Lanes()
        self._in_hand: set[str] = set()
        self._woken = asyncio.Event()
        #: The store failed, or we did.
        self._has_faults = False
        #: More is due than a page; and until when a page would show only what cannot go now.
        self._is_behind = False
        self._blind_until: datetime | None = None
        self._swept_at: datetime | None = None
        self._swept_to = 0

    def wake(self, uid: str) -> None:
        """Something new is due to that subscriber."""
        self._lanes.stir((uid,))
        self._woken.set()

    async def run(self) -> None:
        """For ever."""
        away = False
        async with asyncio.TaskGroup() as group:
            while True:
                self._woken.clear()
                started = 0
                try:
                    started = await self._start_due(group)
                    away = False
                except MeshError as error:
                    self._has_faults = True
                    if not away:
                        log.warning("deliveries_not_read", error=error.message)
                    away = True
                if self._has_faults:
                    # Not at once again: what could not be claimed is due still.
                    self._has_faults = False
                    await self._clock.sleep(_LOOK)
                elif not started:
                    await self._pause()

    async def count(self) -> None:
        """For ever: how many wait, for the metrics."""
        while True:
            began = perf_counter()
            try:
                self._metrics.set("callmesh_webhooks_waiting", to=await self._deliveries.waiting())
            except MeshError as error:
                log.info("deliveries_not_counted", error=error.message)
            took = timedelta(seconds=perf_counter() - began)
            await self._clock.sleep(max(_COUNTED_EVERY, _COUNTED_REST * took))

    async def _pause(self) -> None:
        """Until somebody wakes us, or it is time to look."""
        looking = asyncio.create_task(self._clock.sleep(_LOOK))
        waking = asyncio.create_task(self._woken.wait())
        try:
            await asyncio.wait({looking, waking}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            looking.cancel()
            waking.cancel()

    # -- what is due -----------------------------------------------------------------------------

    async def _start_due(self, group: asyncio.TaskGroup) -> int:
        now = self._clock.now()
        if not self._book.is_loaded or self._lanes.room <= 0:
            return 0
        self._sweep(now)
        due = {one.key: one for one in await self._due(now)}
        waiting = [one for one in due.values() if one.key not in self._in_hand]
        started = 0
        for one in self._lanes.in_turn(waiting, now):
            give_back = self._lanes.take(one.lane)
            self._in_hand.add(one.key)
            group.create_task(self._handle(one, give_back))
            started += 1
        self._lanes.stir(one.lane for one in due.values() if one.key not in self._in_hand)
        return started

    async def _due(self, now: datetime) -> Iterable[Delivery]:
        asked = self._lanes.stirred(now)
        for uid in asked:
            self._lanes.calm(uid)
        due: list[Delivery] = []
        # Not later than that: then the clock was put back.
        if self._blind_until is None or not now < self._blind_until <= now + _LOOK:
            due = [*await self._deliveries.due(limit=_PAGE)]
            self._is_behind = len(due) >= _PAGE
            if not self._is_behind:
                return due
            lanes = {one.lane for one in due}
            can_go = any(self._lanes.has_places(uid, now) for uid in lanes)
            self._blind_until = None if can_go else now + _LOOK
            self._lanes.stir(lanes)
        self._lanes.stir(asked[_ASKED:])
        for uid, found in await self._due_in(asked[:_ASKED]):
            due += found
            if len(found) >= AT_ONCE_TO_ONE:
                self._lanes.stir((uid,))
        return due

    async def _due_in(self, uids: list[str]) -> list[tuple[str, list[Delivery]]]:
        asked = (self._deliveries.due_in(uid, limit=AT_ONCE_TO_ONE) for uid in uids)
        found = await asyncio.gather(*asked, return_exceptions=True)
        failed = next((one for one in found if isinstance(one, BaseException)), None)
        if failed is not None:
            self._lanes.stir(uids)
            raise failed
        return [
            (u, [*f]) for u, f in zip(uids, found, strict=True) if not isinstance(f, BaseException)
        ]

    def _sweep(self, now: datetime) -> None:
        """Some may have something due of which nobody told this process."""
        if self._swept_at is not None and abs(now - self._swept_at) < _LOOK:
            return
        self._swept_at = now
        uids = self._book.uids
        self._lanes.keep(frozenset(uids))
        if self._is_behind:
            begin = self._swept_to if self._swept_to < len(uids) else 0
            self._swept_to = begin + _SWEPT
            self._lanes.stir(uids[begin : self._swept_to])

    # -- one of them -----------------------------------------------------------------------------

    async def _handle(self, one: Delivery, give_back: Callable[[], Lane]) -> None:
        try:
            await self._send(one)
        except MeshError as error:
            # The store is away; it is due again when its lease is over.
            self._has_faults = True
            log.warning("delivery_not_settled", delivery=one.key, error=error.message)
        except Exception:
            # One event that cannot be told must not end the telling of all others.
            self._has_faults = True
            log.exception("delivery_failed", delivery=one.key)
        finally:
            give_back()
            self._in_hand.discard(one.key)
            self._woken.set()

    async def _send(self, one: Delivery) -> None:
        to = self._book.by_uid(one.lane)
        if to is None or not to.is_on:
            # What is known here may be a second old, and what is ended is told to nobody.
            to = await self._book.read(one.tenant, one.subscriber, uid=one.lane)
        if to is None or not to.is_on:
            await self._deliveries.end(one)
            return
        if one.tries >= TRIES:
            await self._given_up(one, to)
            return
        claimed = await self._deliveries.claim(one, lease=to.settings.timeout + _SPARE)
        if claimed is None:
            return
        outcome = await self._tried(claimed, to)
        await self._settle(claimed, to, outcome)

    async def _given_up(self, one: Delivery, to: SubscriberDocument) -> None:
        """Its last try was broken off: what became of that nobody knows."""
        at = self._clock.now()
        lost = Attempt(at=at, error="broken off in the last try: the gateway or its store failed")
        await self._deliveries.settle(one.after(lost, DeliveryState.DEAD, None))
        self._ended_badly(one, to)

    async def _settle(self, one: Delivery, to: SubscriberDocument, outcome: _Outcome) -> None:
        now, lane = self._clock.now(), self._lanes.lane(one.lane)
        # Off first: if we die in between, it ends when its lease is over.
        is_off = outcome.gone and await self._book.switch_off(to, SwitchedOff.GONE)
        state, due_at = DeliveryState.WAITING, None
        if outcome.done:
            state = DeliveryState.DONE
        elif is_off:
            state = DeliveryState.ENDED
        elif outcome.hopeless:
            state = DeliveryState.DEAD
        else:
            wait = wait_after(one.tries, retry_after=outcome.retry_after, chance=random.random())
            state = DeliveryState.DEAD if wait is None else DeliveryState.WAITING
            due_at = now + wait if wait is not None else None
        await self._deliveries.settle(one.after(outcome.attempt, state, due_at))
        if not outcome.hopeless:
            lane.answered(timedelta(milliseconds=outcome.attempt.took_ms))
        if state is DeliveryState.DEAD:
            self._ended_badly(one, to)
        else:
            self._metrics.count("callmesh_webhooks_total", _word(state))
        if outcome.done:
            lane.went_well()
            await self._book.went_well(to)
        elif not (is_off or outcome.hopeless):
            lane.went_wrong(now)
            await self._book.went_wrong(to)

    def _ended_badly(self, one: Delivery, to: SubscriberDocument) -> None:
        self._metrics.count("callmesh_webhooks_total", _word(DeliveryState.DEAD))
        log.warning("delivery_dead", tenant=to.tenant, subscriber=to.name, delivery=one.key)

    async def _tried(self, one: Delivery, to: SubscriberDocument) -> _Outcome:
        at, began = self._clock.now(), perf_counter()
        try:
            hook = self._webhook(one, to)
        except (ContractError, BadSetting) as error:
            return _Outcome(Attempt(at=at, error=error.message[:_SHOWN]), hopeless=True)
        try:
            answer = await self._http.send(
                hook.method,
                hook.url,
                within=to.settings.timeout,
                headers=hook.headers,
                body=hook.body,
                most=_MOST_ANSWER_BYTES,
            )
        except MeshError as error:
            words = mask_text(error.message)[:_SHOWN]
            return _Outcome(Attempt(at=at, took_ms=_ms_since(began), error=words))
        return _outcome(answer, at=at, took_ms=_ms_since(began), to=hook)

    def _webhook(self, one: Delivery, to: SubscriberDocument) -> Webhook:
        """Raises: ContractError; BadSetting where the key that sealed its secrets is gone."""
        now = self._clock.now()
        sealed = [to.secret]
        if to.old_secret is not None and to.old_secret_until is not None:
            sealed += [to.old_secret] if now < to.old_secret_until else []
        opened: tuple[SecretStr, ...] = tuple(map(self._secrets.open, sealed))
        headers = {
            name: self._secrets.open(value).get_secret_value() for name, value in to.headers.items()
        }
        return webhook_of(one, to.settings, headers=headers, secrets=opened, at=now)


def _outcome(answer: Answer, *, at: datetime, took_ms: int, to: Webhook) -> _Outcome:
    status = answer.status
    done = HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES
    error = None if done else f"the answer was {status}"
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        error = f"the answer was {status}: it leads elsewhere, which is not followed"
    shown = shown_of(answer.body, secrets=to.secrets, longest=_SHOWN)
    return _Outcome(
        Attempt(at=at, status=status, took_ms=took_ms, error=error, answer=shown or None),
        done=done,
        gone=status == HTTPStatus.GONE,
        retry_after=retry_after_of(answer.headers),
    )


def _ms_since(began: float) -> int:
    return round((perf_counter() - began) * 1000)


def _word(state: DeliveryState) -> str:
    return {DeliveryState.DONE: "delivered", DeliveryState.WAITING: "failed"}.get(
        state, state.value
    )
