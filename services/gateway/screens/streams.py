"""Agents' open screens: each gets what concerns its extension, a slow one is cut off."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

from services.gateway.domain import AgentEvent, AgentEventKind, PopBoard
from shared.observe.metrics import Metrics

#: Events that a screen may be behind before its stream ends; it connects again and is told anew.
_BEHIND = 100


class Screens:
    def __init__(self, metrics: Metrics) -> None:
        self._board = PopBoard()
        self._metrics = metrics
        self._open: defaultdict[tuple[str, str], set[asyncio.Queue[AgentEvent | None]]] = (
            defaultdict(set)
        )

    def take(self, tenant: str, body: Any, *, at: datetime, now: datetime) -> None:
        for whose, event in self._board.take(tenant, body, at=at, now=now):
            if event.kind is AgentEventKind.RINGING:
                known = {None: "pending", True: "known", False: "unknown"}[event.contact_known]
                self._metrics.count("callmesh_pops_total", known)
            for queue in list(self._open.get((whose, event.extension), ())):
                self._give(queue, event, (whose, event.extension))

    async def events(self, tenant: str, extension: str) -> AsyncIterator[AgentEvent]:
        """What rings now, then what happens; ends when the screen does not keep up."""
        queue: asyncio.Queue[AgentEvent | None] = asyncio.Queue(_BEHIND)
        self._open[tenant, extension].add(queue)
        try:
            for event in self._board.open_pops(tenant, extension):
                yield event
            while (event_or_end := await queue.get()) is not None:
                yield event_or_end
        finally:
            self._open[tenant, extension].discard(queue)
            if not self._open[tenant, extension]:
                del self._open[tenant, extension]

    def _give(
        self, queue: asyncio.Queue[AgentEvent | None], event: AgentEvent, key: tuple[str, str]
    ) -> None:
        try:
            queue.put_nowait(event)
        except asyncio.QueueFull:
            self._open[key].discard(queue)
            queue.get_nowait()
            queue.put_nowait(None)
