"""However the messages of sides with few words come, it ends, and all sides show the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.dialer.sides import AgentKnown, side_key, took
from services.dialer.weighing import Statement, hear
from shared.contracts.agents import AgentStatus, Side
from tests.unit.services.dialer.sides_kit import (
    ALL,
    FEW,
    NO_OFFLINE,
    NOON,
    QUIET,
    SECOND,
    TWO,
    a_render,
)

FREE, BUSY, BREAK, DINNER, OFFLINE = AgentStatus
VOCABULARIES = (FEW, TWO, ALL, NO_OFFLINE)


@dataclass
class Shown:
    """A side as it is: what it shows, and whether it says when that changes."""

    kind: Side
    words: dict[AgentStatus, AgentStatus]
    echoes: bool
    name: str
    status: AgentStatus = FREE
    newest: datetime = field(default=NOON - timedelta(days=1))

    @property
    def key(self) -> str:
        return side_key(self.kind, self.name)


class World:
    """Sides, and all that is on its way between them; *random* chooses what happens next."""

    def __init__(self, sides: list[Shown], random: Random) -> None:
        self.sides, self.random = sides, random
        self.renders = {side.key: a_render(side.words) for side in sides}
        self.agent = AgentKnown()
        self.now = NOON
        self.messages: list[Statement] = []
        self.orders: list[tuple[Shown, datetime, AgentStatus]] = []
        self.count = self.told = 0
        self.log: list[str] = []

    def act(self, side: Shown | None, status: AgentStatus) -> None:
        """Somebody does something at a side, which shows that then, or by the API."""
        self.now += timedelta(milliseconds=1)
        if side is None:
            self._say(Side.API, "key", status)
        elif status in side.words.values() and status is not side.status:
            side.status = status
            self._say(side.kind, side.name, status)

    def resync(self, side: Shown) -> None:
        """It is connected anew, and says what it shows."""
        if side.kind is Side.PBX and side.echoes:
            self._say(side.kind, side.name, side.status)

    def step(self) -> bool:
        """A message comes, perhaps not for the last time, or an order does. Whether there was one."""
        self.now += timedelta(milliseconds=self.random.randint(0, 400))
        going = len(self.messages) + len(self.orders)
        if not going:
            return False
        place = self.random.randrange(going)
        if place < len(self.messages):
            again = self.random.random() < 0.2
            said = self.messages[place] if again else self.messages.pop(place)
            self._weigh(said)
        else:
            place -= len(self.messages)
            again = self.random.random() < 0.1
            self._obey(*(self.orders[place] if again else self.orders.pop(place)))
        return True

    def settle(self) -> None:
        for _ in range(600):
            if not self.step():
                return
        raise AssertionError("it does not end")

    def _say(self, kind: Side, name: str, status: AgentStatus) -> None:
        self.count += 1
        self.messages.append(
            Statement(id=str(self.count), source=kind, name=name, status=status, at=self.now)
        )

    def _weigh(self, said: Statement) -> None:
        heard = hear(self.agent, said, self.renders, now=self.now)
        self.log.append(
            f"{self.now:%M:%S.%f} {said.side} {said.status} {said.at:%M:%S.%f}: {heard.verdict}, {[(k, str(t.status)) for k, t in heard.tells.items()]}\n"
        )
        self.agent = AgentKnown.model_validate_json(heard.agent.model_dump_json())
        for side in self.sides:
            if (tell := heard.tells.get(side.key)) is not None:
                self.told += 1
                self.orders.append((side, tell.at, tell.status))

    def _obey(self, side: Shown, at: datetime, status: AgentStatus) -> None:
        """Older orders are not carried out after newer ones, and none twice."""
        if at <= side.newest:
            return
        side.newest = at
        self.agent = took(self.agent, side.key, at, now=self.now)
        self.log.append(f"{self.now:%M:%S.%f} {side.key} obeys {status}\n")
        if side.status is not side.words[status]:
            side.status = side.words[status]
            if side.echoes:
                self.now += timedelta(milliseconds=1)
                self._say(side.kind, side.name, side.status)

    def __repr__(self) -> str:
        return "".join(self.log)

    def agreed(self) -> bool:
        status = self.agent.status
        return all(
            status is None or status not in side.words or side.status is side.words[status]
            for side in self.sides
        )


def worlds() -> st.SearchStrategy[World]:
    def build(parts: list[tuple[int, bool, bool]], seed: int) -> World:
        sides = [
            Shown(Side.CRM if crm else Side.PBX, VOCABULARIES[words], echoes, f"s{number}")
            for number, (words, crm, echoes) in enumerate(parts)
        ]
        return World(sides, Random(seed))

    part = st.tuples(st.integers(0, 3), st.booleans(), st.booleans())
    return st.builds(build, st.lists(part, min_size=2, max_size=4), st.integers(0, 2**32))


ACTS = st.lists(
    st.tuples(st.integers(-1, 3), st.sampled_from(list(AgentStatus)), st.integers(0, 6)),
    min_size=1,
    max_size=8,
)


@settings(max_examples=600, deadline=None)
@given(worlds(), ACTS, st.booleans())
def test_however_messages_come_it_ends_and_all_sides_show_the_same(
    world: World, acts: list[tuple[int, AgentStatus, int]], resyncs: bool
) -> None:
    for who, status, steps in acts:
        world.act(None if who < 0 else world.sides[who % len(world.sides)], status)
        if resyncs:
            world.resync(world.random.choice(world.sides))
        for _ in range(steps):
            world.step()
    world.settle()
    assert world.agreed(), f"{world}{world.sides}"
    assert world.told <= 6 * len(acts) * len(world.sides)


@settings(max_examples=400, deadline=None)
@given(worlds(), st.lists(st.sampled_from(list(AgentStatus)), min_size=2, max_size=2))
def test_of_two_sides_that_change_at_the_same_moment_the_later_wins(
    world: World, statuses: list[AgentStatus]
) -> None:
    one, other = world.sides[:2]
    world.act(None, BREAK)
    world.settle()
    world.now += QUIET
    before = world.agent.status
    said = []
    for side, status in zip((one, other), statuses, strict=True):
        world.now += timedelta(milliseconds=1)
        waiting = len(world.messages)
        world.act(side, status)
        said += [one.status for one in world.messages[waiting:]]
    world.settle()
    assert world.agreed()
    assert world.agent.status is (said[-1] if said else before)


@settings(max_examples=300, deadline=None)
@given(worlds(), ACTS)
def test_a_change_after_a_while_is_always_heard(
    world: World, acts: list[tuple[int, AgentStatus, int]]
) -> None:
    for who, status, _ in acts:
        world.now += QUIET
        side = None if who < 0 else world.sides[who % len(world.sides)]
        waiting = len(world.messages)
        world.act(side, status)
        meant = [one.status for one in world.messages[waiting:]]
        world.settle()
        if meant:
            assert world.agent.status is meant[0]
        assert world.agreed()


@pytest.mark.parametrize("replicas", range(20))
def test_orders_that_run_into_each_other_are_put_right(replicas: int) -> None:
    """Two replicas give two orders at once, and the older one reaches the PBX last."""
    world = World([Shown(Side.PBX, ALL, True, "main")], Random(replicas))
    world.act(None, FREE)
    world.settle()
    world.now += QUIET
    world.act(None, BREAK)
    world.step()
    world.act(None, DINNER)
    world.now += SECOND
    while world.messages:
        world._weigh(world.messages.pop())
    for order in reversed(world.orders):
        world.sides[0].newest = NOON
        world._obey(*order)
    world.orders.clear()
    world.settle()
    assert world.agreed()
