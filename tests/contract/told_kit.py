"""What a source tells and keeps while it runs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from shared.pbx.port import EventSource, PbxAdapter, Phones, Sighting

NOBODY = Phones()


class Watch:
    def __init__(self, source: EventSource) -> None:
        self.source = source
        self.seen: list[Sighting] = []
        self.kept: list[bytes] = []

    async def see(self, sightings: Sequence[Sighting]) -> None:
        self.seen += sightings

    def told(self, kind: type) -> list[Any]:
        return [one.body for one in self.seen if isinstance(one.body, kind)]


@asynccontextmanager
async def watching(adapter: PbxAdapter, phones: Phones = NOBODY) -> AsyncIterator[Watch]:
    assert adapter.source is not None
    watch = Watch(adapter.source())
    watch.source.know(phones)
    task = asyncio.create_task(watch.source.run(watch.see, watch.kept.append))
    try:
        yield watch
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
