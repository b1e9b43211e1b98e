"""A store's glance for tests that are not about slow stores."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from shared.crm.glance import Glance
from shared.errors import Unavailable

T = TypeVar("T")


class Patient(Glance):
    """
    However slow the machine is, the store is there; a store that is away is away at once, and one
    that is frozen for five seconds is away, too.
    """

    async def at(self, work: Coroutine[Any, Any, T]) -> T | None:
        try:
            async with asyncio.timeout(5):
                return await work
        except (Unavailable, TimeoutError):
            return None
