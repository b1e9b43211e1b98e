"""Many at a time, in their order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.routing.explain_batch import in_order


@given(st.lists(st.integers(0, 5), max_size=30), st.integers(1, 8))
def test_results_come_in_the_order_of_the_questions(turns: list[int], at_once: int) -> None:
    """*turns*: how often each lets others go before it is done."""
    under_way = most = 0

    async def work(item: tuple[int, int]) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(item[1]):
            event = asyncio.Event()
            asyncio.get_running_loop().call_soon(event.set)
            await event.wait()
        under_way -= 1
        return item[0]

    async def run() -> list[int]:
        items = enumerate(turns)
        return [result async for _, result in in_order(items, work, at_once=at_once)]

    assert asyncio.run(run()) == list(range(len(turns)))
    assert most <= at_once


async def test_no_more_is_read_than_is_asked() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(1, 1001):
            read.append(number)
            yield number

    async def work(item: int) -> int:
        return item

    async with aclosing(in_order(items(), work, at_once=8)) as found:
        async for item, _ in found:
            assert len(read) <= item + 8
            if item == 50:
                break


async def test_who_stops_reading_stops_the_asking() -> None:
    stopped = []

    async def work(item: int) -> int:
        if item == 0:
            return item
        try:
            await asyncio.Event().wait()
        finally:
            stopped.append(item)
        return item

    async with aclosing(in_order(range(20), work, at_once=4)) as found:
        async for _ in found:
            break

    assert stopped == [1, 2, 3]


async def test_a_fault_of_the_program_is_not_swallowed() -> None:
    async def work(item: int) -> int:
        return 1 // item

    async def run() -> list[int]:
        return [result async for _, result in in_order([1, 0, 1], work)]

    with pytest.raises(ZeroDivisionError):
        await run()
