"""Work that follows the site: one task for each thing that it wants, begun anew when that changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable, Mapping
from typing import Any, TypeVar

from shared.site.book import SiteBook

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


async def run_for_each(
    site: SiteBook,
    wanted: Callable[[], Mapping[K, V]],
    run: Callable[[K, V], Coroutine[Any, Any, None]],
) -> None:
    """
    For ever: *run* as a task per key of *wanted* (asked again at each change of *site*). A task
    is cancelled, and has ended, before one of the same key begins with another value.

    Raises what a task raises, after ending the others.
    """
    running: dict[K, tuple[V, asyncio.Task[None]]] = {}
    async with asyncio.TaskGroup() as group:
        while True:
            changed = asyncio.create_task(site.changed())
            try:
                now = wanted()
                for key, (value, task) in list(running.items()):
                    if key not in now or now[key] != value:
                        del running[key]
                        task.cancel()
                        await asyncio.wait({task})
                for key, value in now.items():
                    if key not in running:
                        running[key] = value, group.create_task(run(key, value), name=str(key))
                await changed
            finally:
                changed.cancel()
