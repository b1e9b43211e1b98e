"""Many questions without calls: a row of a table for each, in their order, a few at a time."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from services.routing.explain import PATIENCE, Explainer, Scene
from services.routing.supposed import Supposed
from shared.contracts.routing import RouteDecision, RouteReason
from shared.errors import MeshError
from shared.pbx.asking import way_of

T = TypeVar("T")
R = TypeVar("R")

#: Questions under way: enough to have a CRM busy, few enough that calls do not notice.
AT_ONCE = 8
#: What a PBX is told of a decision.
_TOLD = ("destination", "greeting", "priority", "voicemail", "attributes")


class Outcome(BaseModel):
    """What was decided; with a draft, beside what the rules say that are live."""

    model_config = ConfigDict(serialize_by_alias=True)

    from_: str = Field(alias="from")
    did: str
    destination: str = Field(
        default="",
        description="`kind:target`, `greeting:RECORDING`, or empty where no rule is set.",
    )
    reason: RouteReason | None = Field(default=None, description="None: see `fault`.")
    rule: str | None = None
    row: int | None = None
    value: JsonValue = None
    took_ms: float | None = Field(
        default=None, description="With the CRM's time, in which a call would have waited."
    )
    fault: str | None = Field(
        default=None,
        description="Why nothing was decided, or why the caller's record could not be had.",
    )
    now: str | None = Field(
        default=None, description="With a draft: the destination by the rules that are live."
    )
    changed: bool | None = Field(
        default=None, description="With a draft: whether a PBX would be told anything else."
    )
    differs: tuple[str, ...] = Field(
        default=(),
        description="In what: `destination`, `greeting`, `priority`, `voicemail`, `attributes`.",
    )


@dataclass(frozen=True, slots=True)
class Trying:
    """*live*: the rules as they are, where *scene* has a draft that is compared with them."""

    explainer: Explainer
    scene: Scene
    live: Scene | None = None
    patience: timedelta = PATIENCE

    async def outcome(self, asked: Supposed) -> Outcome:
        """Never raises a MeshError: that is the row's fault."""
        known = {"from": asked.from_, "did": asked.did}
        try:
            found = await self.explainer.decided(self.scene, asked, patience=self.patience)
            now = None
            if self.live is not None:
                now = await self.explainer.decided(self.live, asked, patience=self.patience)
        except MeshError as error:
            return Outcome.model_validate({**known, "fault": error.message})
        decision = found.decision
        said: dict[str, object] = {
            **known,
            "destination": way_of(decision),
            "reason": decision.reason,
            "rule": decision.rule,
            "row": decision.row,
            "value": decision.value,
            "took_ms": decision.took_ms,
            "fault": found.fault or (now.fault if now is not None else None),
        }
        if now is not None:
            differs = _differs(decision, now.decision)
            said |= {"now": way_of(now.decision), "differs": differs, "changed": bool(differs)}
        return Outcome.model_validate(said)


def _differs(one: RouteDecision, other: RouteDecision) -> tuple[str, ...]:
    return tuple(part for part in _TOLD if getattr(one, part) != getattr(other, part))


async def in_order(
    items: Iterable[T], work: Callable[[T], Awaitable[R]], *, at_once: int = AT_ONCE
) -> AsyncGenerator[tuple[T, R]]:
    """
    Each with what *work* made of it, in their order; not more than *at_once* are taken from
    *items* before they are done. Who does not read to the end closes it.
    """
    waiting: deque[tuple[T, asyncio.Task[R]]] = deque()
    try:
        for item in items:
            if len(waiting) == at_once:
                yield await _done(waiting)
            waiting.append((item, asyncio.create_task(_run(work, item))))
        while waiting:
            yield await _done(waiting)
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)


async def _run(work: Callable[[T], Awaitable[R]], item: T) -> R:
    return await work(item)


async def _done(waiting: deque[tuple[T, asyncio.Task[R]]]) -> tuple[T, R]:
    item, task = waiting[0]
    result = await task
    waiting.popleft()
    return item, result
