"""Waiting for a state, not for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.errors import Unavailable


async def eventually(
    holds: Callable[[], bool] | Callable[[], Awaitable[bool]], *, within: float = 60.0
) -> None:
    """Return as soon as *holds* does. Raises AssertionError after *within* seconds."""
    try:
        async with asyncio.timeout(within):
            while not await _value(holds):  # noqa: ASYNC110  the one place where tests poll
                await asyncio.sleep(0.01)  # noqa: TID251  a poll is no wait for the clock
    except TimeoutError:
        raise AssertionError(f"did not come true within {within:g} s") from None


async def _value(holds: Callable[[], bool] | Callable[[], Awaitable[bool]]) -> bool:
    try:
        found = holds()
        return found if isinstance(found, bool) else await found
    except Unavailable:
        return False  # a store or a broker that has no time: it is asked again
