"""
What every DocumentStore must do. An adapter subclasses :class:`StoreContract` and says how to
open a store with nothing in it; its clock is the test's.
"""

from __future__ import annotations

import asyncio
import base64
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta, timezone
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)
from pydantic import BaseModel, Field, IPvAnyNetwork, JsonValue

from shared.clock import Clock, ManualClock
from shared.errors import Conflict, ContractError, NotFound
from shared.moments import Instant
from shared.storage.port import (
    Collection,
    CollectionSpec,
    Document,
    DocumentStore,
    Find,
    Index,
    change,
    every,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Inside(BaseModel):
    number: int = 0


class Thing(Document):
    tenant: str = "acme"
    name: str | None = None
    colour: Colour = Colour.RED
    size: int = 0
    weight: float | None = None
    done: bool = False
    at: Instant = NOON
    took: timedelta = timedelta(0)
    tags: tuple[str, ...] = ()
    kinds: frozenset[Colour] = frozenset()
    networks: tuple[IPvAnyNetwork, ...] = ()
    inside: Inside = Inside()
    more: dict[str, JsonValue] = Field(default_factory=dict)
    expires_at: Instant | None = None


THINGS: CollectionSpec[Thing] = CollectionSpec(
    name="test.things",
    model=Thing,
    indexes=(Index(fields=("tenant", "at")), Index(fields=("tenant", "name"), unique=True)),
    expires_by="expires_at",
)


class StoreContract(ABC):
    @abstractmethod
    def opened(self, clock: Clock) -> AbstractAsyncContextManager[DocumentStore]:
        """An empty store."""

    async def test_a_document_comes_back_as_it_was(self, clock: ManualClock) -> None:
        thing = Thing(
            key="a/b:c.d$e",
            name="Ada „Zoë“ 💡 \x00 end",
            colour=Colour.BLUE,
            size=2**63 - 1,
            weight=0.1,
            done=True,
            took=timedelta(seconds=3.009),
            tags=("x", "y"),
            kinds=frozenset({Colour.RED}),
            networks=(IPv4Network("10.0.0.0/8"), IPv6Network("fc00::/7")),
            inside=Inside(number=7),
            more={"$se_module": 1, "Owner.name": None, "deep": [{"a": 1.5}, "ü"]},
        )
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            await things.add(thing)
            got = await things.get(thing.key)
        assert got == thing

    async def test_moments_are_kept_in_milliseconds_and_utc(self, clock: ManualClock) -> None:
        berlin = timezone(timedelta(hours=1))
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            await things.add(
                Thing(key="k", at=datetime(2026, 1, 1, 13, 0, 0, 123456, tzinfo=berlin))
            )
            got = await things.get("k")
        assert got.at == datetime(2026, 1, 1, 12, 0, 0, 123000, tzinfo=UTC)
        assert got.at.utcoffset() == timedelta(0)

    async def test_what_is_not_there_is_not_found(self, clock: ManualClock) -> None:
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            with pytest.raises(NotFound, match=r"test\.things: no k"):
                await things.get("k")
            with pytest.raises(NotFound):
                await things.replace(Thing(key="k"))
            assert await things.delete("k") is False

    async def test_a_key_is_taken_once(self, clock: ManualClock) -> None:
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            await things.add(Thing(key="k", size=1))
            with pytest.raises(Conflict):
                await things.add(Thing(key="k", size=2))
            assert (await things.get("k")).size == 1

    async def test_many_are_added_at_once_and_again_without_harm(self, clock: ManualClock) -> None:
        many = [Thing(key=f"k{n}", name=f"n{n}", size=n) for n in range(300)]
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            await things.add_all([])
            await things.add_all(many[:100])
            await things.replace(many[7].model_copy(update={"size": -1}))
            # Among those that are there already, and beside one whose name another has.
            await things.add_all([*many, Thing(key="late", name="n3")])

            assert await things.count() == 300
            assert (await things.get("k7")).size == -1
            assert await things.get("k299") == many[299]
            with pytest.raises(NotFound):
                await things.get("late")

    async def test_put_inserts_and_replaces(self, clock: ManualClock) -> None:
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            await things.put(Thing(key="k", size=1))
            await things.put(Thing(key="k", size=2))
            assert (await things.get("k")).size == 2

    async def test_of_two_writers_on_one_version_one_is_told(self, clock: ManualClock) -> None:
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            await things.add(Thing(key="k"))
            one, other = await things.get("k"), await things.get("k")
            written = await things.replace(one.model_copy(update={"size": 1}))
            assert (written.version, written.size) == (1, 1)
            with pytest.raises(Conflict):
                await things.replace(other.model_copy(update={"size": 2}))
            assert await things.get("k") == written

    async def test_change_loses_no_edit_of_many_at_once(self, clock: ManualClock) -> None:
        def one_more(found: Thing | None) -> Thing:
            thing = found or Thing(key="k")
            return thing.model_copy(update={"size": thing.size + 1})

        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            await asyncio.gather(*(change(things, "k", one_more) for _ in range(20)))
            assert (await things.get("k")).size == 20

    async def test_a_unique_value_is_one_documents_alone(self, clock: ManualClock) -> None:
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            await things.add(Thing(key="a", name="ada"))
            with pytest.raises(Conflict):
                await things.add(Thing(key="b", name="ada"))
            with pytest.raises(Conflict):
                await things.put(Thing(key="b", name="ada"))
            await things.add(Thing(key="b", name="bob"))
            with pytest.raises(Conflict):
                await things.replace((await things.get("b")).model_copy(update={"name": "ada"}))
            await things.add(Thing(key="c", tenant="globex", name="ada"))
            await things.add(Thing(key="d", name=None))
            await things.add(Thing(key="e", name=None))
            await things.delete("a")
            await things.add(Thing(key="f", name="ada"))

    async def test_what_is_past_its_time_is_gone_at_once(self, clock: ManualClock) -> None:
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            soon = clock.now() + timedelta(seconds=10)
            await things.add(Thing(key="k", name="ada", expires_at=soon))
            await things.add(Thing(key="l"))
            assert (await things.get("k")).name == "ada"
            await clock.advance(timedelta(seconds=10))
            with pytest.raises(NotFound):
                await things.get("k")
            with pytest.raises(NotFound):
                await things.replace(Thing(key="k"))
            assert await things.delete("k") is False
            assert [t.key for t in (await things.page(Find())).documents] == ["l"]
            assert await things.count() == 1
            # Its key and its unique values are free again.
            await things.add(Thing(key="k", name="ada"))
            assert (await things.get("k")).expires_at is None

    async def test_equality_ranges_and_order(self, clock: ManualClock) -> None:
        def at(hour: int) -> datetime:
            return datetime(2026, 1, 1, hour, tzinfo=UTC)

        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            for hour in range(6):
                await things.add(
                    Thing(
                        key=f"k{hour}",
                        at=at(hour),
                        size=hour % 3,
                        done=hour > 3,
                        colour=Colour.BLUE if hour == 2 else Colour.RED,
                        weight=hour / 2 if hour else None,
                        inside=Inside(number=hour),
                    )
                )
            await things.add(Thing(key="z", tenant="globex", at=at(3)))

            async def keys(**query: Any) -> list[str]:
                return [t.key for t in (await things.page(Find(**query))).documents]

            ours = {"tenant": "acme"}
            assert await keys(equals=ours, since={"at": at(1)}, until={"at": at(3)}) == ["k1", "k2"]
            assert await keys(equals={**ours, "done": True}) == ["k4", "k5"]
            assert await keys(equals={"colour": Colour.BLUE}) == ["k2"]
            assert await keys(equals={"inside.number": 4}) == ["k4"]
            assert await keys(equals={**ours, "weight": None}) == ["k0"]
            assert await keys(equals={"at": at(3)}) == ["k3", "z"]
            newest = {"equals": ours, "order_by": "at", "descending": True}
            assert await keys(**newest, limit=3) == ["k5", "k4", "k3"]
            assert await keys(equals=ours, order_by="size") == ["k0", "k3", "k1", "k4", "k2", "k5"]
            assert await keys(equals=ours, order_by="weight", limit=2) == ["k1", "k2"]
            assert await things.count(tenant="acme", size=1) == 2
            with pytest.raises(ValueError, match="naive"):
                await keys(since={"at": datetime(2026, 1, 1)})  # noqa: DTZ001  what is refused

    @pytest.mark.parametrize("order_by", ["key", "at", "size", "name"])
    @pytest.mark.parametrize("descending", [False, True])
    async def test_pages_show_each_document_once(
        self, clock: ManualClock, order_by: str, descending: bool
    ) -> None:
        """Also while others are added before and behind the place that was reached."""
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            for number in range(11):
                at = NOON + timedelta(hours=number // 3)
                await things.add(
                    Thing(key=f"k{number:02}", at=at, size=number % 4, name=f"n{number:02}")
                )
            query = Find(order_by=order_by, descending=descending, limit=4)
            seen = [t.key async for t in every(things, query)]
            whole = await things.page(Find(order_by=order_by, descending=descending))
            assert seen == [t.key for t in whole.documents]
            assert whole.next_cursor is None
            assert len(seen) == 11

    async def test_a_page_that_ends_exactly_is_the_last(self, clock: ManualClock) -> None:
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            for number in range(4):
                await things.add(Thing(key=f"k{number}"))
            page = await things.page(Find(limit=4))
            assert len(page.documents) == 4
            assert page.next_cursor is None

    @pytest.mark.parametrize(
        "content",
        [
            pytest.param("", id="empty"),
            pytest.param("{}", id="no place"),
            pytest.param('{"key": "a", "value": {"$gt": ""}}', id="an operator of MongoDB"),
            pytest.param(f'{{"key": "a", "value": {2**70}}}', id="over 64 bits"),
            pytest.param('{"key": "a", "moment": "0001-01-01T00:00:00+14:00"}', id="no date"),
        ],
    )
    async def test_a_cursor_from_elsewhere_is_refused(
        self, clock: ManualClock, content: str
    ) -> None:
        cursor = base64.urlsafe_b64encode(content.encode()).decode()
        async with self.opened(clock) as store:
            things = store.collection(THINGS)
            for query in (
                Find(cursor=cursor),
                Find(cursor="x"),
                Find(cursor=cursor, order_by="at"),
            ):
                with pytest.raises(ContractError, match="cursor"):
                    await things.page(query)

    async def test_a_document_over_16_mib_is_refused(self, clock: ManualClock) -> None:
        async with self.opened(clock) as store:
            with pytest.raises(ContractError):
                await store.collection(THINGS).add(Thing(key="k", name="x" * 17_000_000))

    async def test_an_older_and_a_newer_program_share_a_collection(
        self, clock: ManualClock
    ) -> None:
        """Fields that this version does not know are no fault; new fields have defaults."""

        class Newer(Thing):
            extra: str = "new"

        newer = CollectionSpec(name=THINGS.name, model=Newer)
        async with self.opened(clock) as store:
            await store.collection(newer).add(Newer(key="k", extra="x", size=3))
            assert (await store.collection(THINGS).get("k")).size == 3
            await store.collection(THINGS).put(Thing(key="l"))
            assert (await store.collection(newer).get("l")).extra == "new"

    async def test_it_says_that_it_is_ready(self, clock: ManualClock) -> None:
        async with self.opened(clock) as store:
            assert await store.ready()

    def test_any_history_gives_what_a_dictionary_would(self) -> None:
        """Property: the adapter against the simplest thing that could be right."""
        run_state_machine_as_test(
            type("History", (History,), {"opened": staticmethod(self.opened)}),
            settings=settings(
                max_examples=self.examples,
                stateful_step_count=25,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            ),
        )

    #: Histories tried; a backend with a network in between takes fewer.
    examples: int = 60


KEYS = st.sampled_from(["a", "b", "c"])
NAMES = st.sampled_from([None, "ada", "bob"])
LIFETIMES = st.sampled_from([None, 5, 20])


class History(RuleBasedStateMachine):
    """Random calls on a collection and on a dictionary side by side."""

    opened: Callable[[Clock], AbstractAsyncContextManager[DocumentStore]]
    read = Bundle("read")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = ManualClock()
        self.opening = self.opened(self.clock)
        self.store = self.runner.run(_enter(self.opening))
        self.things: Collection[Thing] = self.store.collection(THINGS)
        self.model: dict[str, Thing] = {}

    def teardown(self) -> None:
        self.runner.run(_leave(self.opening))
        self.runner.close()

    def alive(self) -> dict[str, Thing]:
        now = self.clock.now()
        return {k: t for k, t in self.model.items() if t.expires_at is None or t.expires_at > now}

    def name_taken(self, thing: Thing) -> bool:
        return thing.name is not None and any(
            t.name == thing.name for k, t in self.alive().items() if k != thing.key
        )

    def thing(self, key: str, name: str | None, size: int, lives: int | None) -> Thing:
        until = self.clock.now() + timedelta(seconds=lives) if lives else None
        return Thing(key=key, name=name, size=size, expires_at=until)

    @rule(key=KEYS, name=NAMES, size=st.integers(0, 3), lives=LIFETIMES)
    def add(self, key: str, name: str | None, size: int, lives: int | None) -> None:
        thing = self.thing(key, name, size, lives)
        if key in self.alive() or self.name_taken(thing):
            with pytest.raises(Conflict):
                self.runner.run(self.things.add(thing))
        else:
            self.runner.run(self.things.add(thing))
            self.model[key] = thing

    @rule(key=KEYS, name=NAMES, size=st.integers(0, 3), lives=LIFETIMES)
    def put(self, key: str, name: str | None, size: int, lives: int | None) -> None:
        thing = self.thing(key, name, size, lives)
        if self.name_taken(thing):
            with pytest.raises(Conflict):
                self.runner.run(self.things.put(thing))
        else:
            self.runner.run(self.things.put(thing))
            self.model[key] = thing

    @rule(target=read, key=KEYS)
    def get(self, key: str) -> Thing | None:
        wanted = self.alive().get(key)
        if wanted is None:
            with pytest.raises(NotFound):
                self.runner.run(self.things.get(key))
            return None
        got = self.runner.run(self.things.get(key))
        assert got == wanted
        return got

    @rule(was=consumes(read), name=NAMES, size=st.integers(0, 3))
    def replace(self, was: Thing | None, name: str | None, size: int) -> None:
        if was is None:
            return
        wanted = was.model_copy(update={"name": name, "size": size})
        there = self.alive().get(was.key)
        if there is None:
            with pytest.raises(NotFound):
                self.runner.run(self.things.replace(wanted))
        elif there.version != was.version or self.name_taken(wanted):
            with pytest.raises(Conflict):
                self.runner.run(self.things.replace(wanted))
        else:
            self.model[was.key] = self.runner.run(self.things.replace(wanted))
            assert self.model[was.key].version == was.version + 1

    @rule(key=KEYS)
    def delete(self, key: str) -> None:
        assert self.runner.run(self.things.delete(key)) == (key in self.alive())
        self.model.pop(key, None)

    @rule(seconds=st.integers(1, 12))
    def wait(self, seconds: int) -> None:
        self.runner.run(self.clock.advance(timedelta(seconds=seconds)))

    @rule(size=st.integers(0, 3), order_by=st.sampled_from(["key", "size"]), down=st.booleans())
    def look(self, size: int, order_by: str, down: bool) -> None:
        query = Find(since={"size": size}, order_by=order_by, descending=down, limit=2)

        async def all_keys() -> list[str]:
            return [t.key async for t in every(self.things, query)]

        wanted = [t for t in self.alive().values() if t.size >= size]
        wanted.sort(key=lambda t: (getattr(t, order_by), t.key), reverse=down)
        assert self.runner.run(all_keys()) == [t.key for t in wanted]

    @invariant()
    def counts_agree(self) -> None:
        assert self.runner.run(self.things.count()) == len(self.alive())


async def _enter(opening: AbstractAsyncContextManager[DocumentStore]) -> DocumentStore:
    return await opening.__aenter__()


async def _leave(opening: AbstractAsyncContextManager[DocumentStore]) -> None:
    await opening.__aexit__(None, None, None)
