"""
What every DocumentStore must make of a condition: what :func:`holds` says, which is the simplest
thing that could be right.
"""

from __future__ import annotations

import asyncio
import itertools
import operator
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from shared.clock import Clock, ManualClock
from shared.moments import Instant
from shared.storage.port import (
    AllOf,
    AnyOf,
    Collection,
    CollectionSpec,
    Condition,
    Document,
    DocumentStore,
    Find,
    Index,
    Is,
    Op,
    every,
    value_at,
    values_of,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Mood(StrEnum):
    SUNNY = "sunny"
    RAINY = "rainy"


class Inside(BaseModel):
    text: str | None = None
    at: Instant | None = None


class Row(Document):
    tenant: str = "acme"
    text: str | None = None
    number: float | None = None
    count: int = 0
    flag: bool | None = None
    at: Instant | None = None
    mood: Mood | None = None
    tags: tuple[str, ...] = ()
    inside: Inside | None = None


ROWS: CollectionSpec[Row] = CollectionSpec(
    name="test.rows", model=Row, indexes=(Index(fields=("tenant", "at")),)
)
MANY = {Op.IN, Op.NOT_IN, Op.HAS}
_ORDERS: Mapping[Op, Callable[[Any, Any], bool]] = {
    Op.LT: operator.lt,
    Op.LE: operator.le,
    Op.GT: operator.gt,
    Op.GE: operator.ge,
}
_SMALL = str.maketrans({chr(n): chr(n + 32) for n in range(ord("A"), ord("Z") + 1)})


def holds(condition: Condition, row: Row) -> bool:
    if isinstance(condition, Is):
        return _passes(condition, row)
    found = [holds(part, row) for part in condition.parts]
    return all(found) if isinstance(condition, AllOf) else any(found)


def _passes(test: Is, row: Row) -> bool:
    above, _, name = test.field.rpartition(".")
    inside = value_at(row, above) if above else row
    found = getattr(inside, name) if inside is not None else None
    values = values_of(test)
    alike = [value for value in values if _kind(value) == _kind(found)]
    match test.op:
        case Op.IS_NULL:
            return bool((found is None) == values[0])
        case Op.EQ | Op.IN:
            return any(found == value for value in alike)
        case Op.NE | Op.NOT_IN:
            return all(found != value for value in alike)
        case Op.HAS:
            return isinstance(found, tuple) and any(value in found for value in values)
        case Op.BEGINS:
            return isinstance(found, str) and found.startswith(values[0])
        case Op.CONTAINS:
            return isinstance(found, str) and (
                values[0].translate(_SMALL) in found.translate(_SMALL)
            )
    return any(_ORDERS[test.op](found, value) for value in alike)


def _kind(value: Any) -> type:
    kinds = {bool: bool, int: float, float: float, str: str, Mood: str, datetime: datetime}
    return kinds.get(type(value), object)


#: What SQL's LIKE, a regular expression, JSON or a program would take for its own; the Kelvin sign
#: is a k to who thinks of more than ASCII.
TEXTS = st.text(alphabet="aAkK\u212aäÄ%_'\"\\.*^$[](|){}?+\n -0💡", max_size=4)
NUMBERS = st.integers(-8, 8).map(lambda quarter: quarter / 4)
MOMENTS = st.integers(0, 3).map(lambda hours: NOON + timedelta(hours=hours))
#: Texts as SQLite keeps a moment, which are none.
VALUES = st.one_of(
    TEXTS, NUMBERS, st.integers(-2, 2), st.booleans(), MOMENTS, st.just("2026-01-01T12:00:00.000Z")
)
FIELDS = st.sampled_from(
    ["key", "text", "number", "count", "flag", "at", "mood", "tags", "inside.text", "inside.at"]
)
DOCUMENTS = st.builds(
    Row,
    key=st.just(""),
    text=st.none() | TEXTS | st.just("2026-01-01T12:00:00.000Z"),
    number=st.none() | NUMBERS,
    count=st.integers(-2, 2),
    flag=st.none() | st.booleans(),
    at=st.none() | MOMENTS,
    mood=st.none() | st.sampled_from(Mood),
    tags=st.lists(TEXTS, max_size=2).map(tuple),
    inside=st.none() | st.builds(Inside, text=st.none() | TEXTS, at=st.none() | MOMENTS),
)


def _tests(op: Op) -> st.SearchStrategy[Is]:
    single = {Op.IS_NULL: st.booleans(), Op.BEGINS: TEXTS, Op.CONTAINS: TEXTS, Op.HAS: TEXTS}
    value: st.SearchStrategy[Any] = single.get(op, VALUES)
    return st.builds(Is, FIELDS, st.just(op), st.lists(value, max_size=3) if op in MANY else value)


CONDITIONS: st.SearchStrategy[Condition] = st.recursive(
    st.sampled_from(Op).flatmap(_tests),
    lambda inner: (
        st.builds(AllOf, st.lists(inner, max_size=3))
        | st.builds(AnyOf, st.lists(inner, max_size=3))
    ),
    max_leaves=6,
)


class ConditionContract(ABC):
    @abstractmethod
    def opened(self, clock: Clock) -> AbstractAsyncContextManager[DocumentStore]:
        """An empty store."""

    #: Sets of documents tried; a backend with a network in between takes fewer.
    examples: int = 60

    def test_any_condition_finds_what_passes_it(self) -> None:
        """Property: in pages, and as a number."""
        serial = itertools.count()

        async def search(
            rows: Collection[Row], documents: list[Row], conditions: list[Condition]
        ) -> None:
            tenant = f"t{next(serial)}"
            ours = [
                row.model_copy(update={"key": f"{tenant}-{number}", "tenant": tenant})
                for number, row in enumerate(documents)
            ]
            for row in ours:
                await rows.add(row)
            for condition in conditions:
                wanted = [row.key for row in ours if holds(condition, row)]
                query = Find(equals={"tenant": tenant}, where=condition, limit=2)
                assert [row.key async for row in every(rows, query)] == wanted, condition
                assert await rows.count(query) == len(wanted)

        with asyncio.Runner() as runner:
            opening = self.opened(ManualClock())
            store = runner.run(opening.__aenter__())
            rows = store.collection(ROWS)

            @settings(
                max_examples=self.examples,
                deadline=None,
                suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
            )
            @given(
                documents=st.lists(DOCUMENTS, max_size=6),
                conditions=st.lists(CONDITIONS, min_size=1, max_size=8),
            )
            def any_condition(documents: list[Row], conditions: list[Condition]) -> None:
                runner.run(search(rows, documents, conditions))

            any_condition()
            runner.run(opening.__aexit__(None, None, None))

    async def test_a_condition_says_what_else_must_hold(self, clock: ManualClock) -> None:
        async with self.opened(clock) as store:
            rows = store.collection(ROWS)
            for hour, text in enumerate(["Ada 100%", "ada_", "100 pounds", None, 'it\'s "so"']):
                at = NOON + timedelta(hours=hour)
                tags = ("vip", f"h{hour}") if hour else ()
                await rows.add(
                    Row(key=f"k{hour}", text=text, at=at, count=hour, flag=hour > 1, tags=tags)
                )

            async def found(where: Condition, **query: Any) -> str:
                ordered = Find(
                    equals={"tenant": "acme"}, where=where, order_by="at", limit=2, **query
                )
                return "".join([row.key[1:] async for row in every(rows, ordered)])

            assert await found(Is("text", Op.CONTAINS, "ADA")) == "01"
            assert await found(Is("text", Op.CONTAINS, "%")) == "0"
            assert await found(Is("text", Op.CONTAINS, "_")) == "1"
            assert await found(Is("text", Op.CONTAINS, "'s \"")) == "4"
            assert await found(Is("text", Op.BEGINS, "ada")) == "1"
            assert await found(Is("text", Op.BEGINS, ".*")) == ""
            assert await found(Is("text", Op.NE, "ada_")) == "0234"
            assert await found(Is("text", Op.IS_NULL, True)) == "3"
            assert await found(Is("tags", Op.HAS, ["h1", "h3", "none"])) == "13"
            assert await found(Is("count", Op.IN, [0, 2.0, "4"])) == "02"
            assert await found(Is("key", Op.IN, ["k4", "k2", "none"])) == "24"
            assert await found(Is("key", Op.IN, [])) == ""
            assert await found(Is("flag", Op.EQ, True), descending=True) == "432"
            assert await found(Is("flag", Op.EQ, 1)) == ""
            between = AllOf(
                [
                    Is("at", Op.GE, NOON + timedelta(hours=1)),
                    AnyOf([Is("count", Op.LT, 2), Is("count", Op.GT, 3)]),
                ]
            )
            assert await found(between) == "14"
            assert await found(between, until={"at": NOON + timedelta(hours=2)}) == "1"
            second = Find(equals={"flag": True}, where=between, limit=1, order_by="at")
            assert await rows.count(second) == await rows.count(between, flag=True) == 1
            after_it = (await rows.page(replace(second, where=None))).next_cursor
            assert await rows.count(replace(second, cursor=after_it)) == 1

    @pytest.mark.parametrize(
        ("test", "passes"),
        [
            (Is("text", Op.BEGINS, "A"), False),
            (Is("text", Op.CONTAINS, "A"), True),
            (Is("text", Op.CONTAINS, "\x00"), False),
            (Is("text", Op.BEGINS, "a\x00"), False),
            (Is("text", Op.CONTAINS, "\u212a"), False),
            (Is("tags", Op.EQ, "vip"), False),
            (Is("tags", Op.IN, ["vip"]), False),
            (Is("tags", Op.NE, "vip"), True),
            (Is("tags", Op.GT, "a"), False),
            (Is("tags", Op.BEGINS, "v"), False),
            (Is("tags", Op.CONTAINS, "v"), False),
            (Is("tags", Op.IS_NULL, True), False),
            (Is("text", Op.HAS, ["a k"]), False),
        ],
        ids=str,
    )
    async def test_a_list_is_no_text_and_a_text_is_all_of_it(
        self, clock: ManualClock, test: Is, passes: bool
    ) -> None:
        async with self.opened(clock) as store:
            rows = store.collection(ROWS)
            await rows.add(Row(key="k", text="a k", tags=("vip",)))
            assert await rows.count(test) == passes

    @pytest.mark.parametrize(
        ("test", "fault"),
        [
            (Is("count", Op.EQ, None), "count: eq takes no NoneType"),
            (Is("count", Op.EQ, [1]), "count: eq takes no list"),
            (Is("count", Op.IN, "12"), "count: in takes a list of values"),
            (Is("tags", Op.HAS, [1]), "tags: has takes no int"),
            (Is("text", Op.CONTAINS, 1), "text: contains takes no int"),
            (Is("text", Op.IS_NULL, "yes"), "text: is_null takes no str"),
            (Is("number", Op.LT, float("nan")), "number: nan compares with nothing"),
            (Is("count", Op.LT, 2**63), "no database takes it"),
            (Is("at", Op.LT, datetime(2026, 1, 1)), "naive"),  # noqa: DTZ001  what is refused
        ],
        ids=str,
    )
    async def test_a_value_that_an_op_cannot_take_is_refused(
        self, clock: ManualClock, test: Is, fault: str
    ) -> None:
        async with self.opened(clock) as store:
            rows = store.collection(ROWS)
            with pytest.raises(ValueError, match=fault):
                await rows.page(Find(where=AllOf([test])))
            with pytest.raises(ValueError, match=fault):
                await rows.count(Find(where=AnyOf([test])))
