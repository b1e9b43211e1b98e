"""The screens of this process: events in, to every open stream what it wants to hear."""

from __future__ import annotations

from collections import defaultdict
from datetime import datetime
from functools import partial
from typing import Any

from services.gateway.domain.board import PopBoard
from services.gateway.domain.cards import PopRules
from services.gateway.domain.events import AgentEvent, AgentEventKind
from services.gateway.domain.past import Past, position_at, position_of
from services.gateway.screens.following import Following, GoneOn, Wants
from shared.clock import Clock
from shared.http.live import Placed
from shared.observe.metrics import Metrics


class Screens:
    """A slow stream is cut off; it goes on where it was when it connects again."""

    def __init__(self, rules: PopRules, clock: Clock, metrics: Metrics) -> None:
        self.board = PopBoard(rules)
        self._clock = clock
        self._metrics = metrics
        self._past = Past(clock.now())
        #: By tenant, and by tenant and extension.
        self._open: defaultdict[tuple[str, str | None], set[Following]] = defaultdict(set)
        #: While the bus is away: until when all was heard.
        self._deaf_since: datetime | None = None

    def take(
        self,
        tenant: str,
        body: Any,
        *,
        at: datetime,
        now: datetime,
        was_live: bool = True,
        only: frozenset[AgentEventKind] | None = None,
    ) -> None:
        """
        Streams are told; of *only* these kinds, where the rest is over. *was_live*: it came over
        the bus, and was not made out of the journal.
        """
        for whose, event in self.board.take(tenant, body, at=at, now=now):
            if only is not None and event.kind not in only:
                continue
            if event.kind is AgentEventKind.RINGING:
                known = {None: "pending", True: "known", False: "unknown"}[event.contact_known]
                self._metrics.count("callmesh_pops_total", known)
            placed = _placed(event.model_copy(update={"position": position_of(event, now)}))
            self._past.note(whose, placed.event, now, was_live=was_live)
            for key in ((whose, event.extension), (whose, None)):
                for following in list(self._open.get(key, ())):
                    following.give(placed)

    def follow(self, tenant: str, wants: Wants, last_id: str | None) -> Following:
        """What there is now and what comes; with *last_id* what came after it."""
        key = (tenant, wants.extension)
        following = Following(
            wants,
            now=self._position,
            go_on=partial(self._go_on, tenant, wants.extension),
            left=partial(self._left, key),
        )
        self._open[key].add(following)
        if last_id is not None:
            following.tell_again(*self._go_on(tenant, wants.extension, last_id))
        else:
            self._metrics.count("callmesh_stream_starts_total", "fresh")
            following.tell_again(self._shown(tenant, wants.extension), self._position())
        return following

    def tenants_followed(self) -> set[str]:
        return {tenant for tenant, _ in self._open}

    def hears(self, *, until: datetime | None) -> None:
        """*until*: the bus is away since then. None: it is there."""
        self._deaf_since = until

    def missed_something(self) -> None:
        """Nobody can go on from before now."""
        self._past.begin_again(self._clock.now())

    def _position(self) -> str:
        """Of who has had all that was told until now, or until nothing was heard any more."""
        return position_at(self._deaf_since or self._clock.now())

    def _go_on(self, tenant: str, extension: str | None, position: str) -> GoneOn:
        found = self._past.since(tenant, position, self._clock.now())
        if found is not None:
            self._metrics.count("callmesh_stream_starts_total", "resumed")
            return [_placed(event) for event in found], position
        self._metrics.count("callmesh_stream_starts_total", "reset")
        now = self._position()
        reset = AgentEvent(kind=AgentEventKind.RESET, id=now, position=now, extension=extension)
        return [Placed(reset, None), *self._shown(tenant, extension)], now

    def _shown(self, tenant: str, extension: str | None) -> list[Placed[AgentEvent]]:
        now = self._clock.now()
        return [Placed(event, None) for event in self.board.shown(tenant, extension, now=now)]

    def _left(self, key: tuple[str, str | None], following: Following) -> None:
        self._open[key].discard(following)
        if not self._open[key]:
            del self._open[key]


def _placed(event: AgentEvent) -> Placed[AgentEvent]:
    return Placed(event, event.position)
