"""Recordings of a Wazo, by the addresses that its call log gives them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from shared.errors import Forbidden, NotFound
from shared.net.client import HttpClient
from shared.pbx.fetching import downloaded
from shared.pbx.wazo.api import WazoApi

_MEDIA = re.compile(
    r"/(api)/(call-logd)/(1\.0)/(cdr)/([0-9]{1,20})/(recordings)/([0-9a-fA-F-]{1,64})/(media)"
)


def path_of(recording: str, base: str) -> tuple[str, ...] | None:
    """Its path at the Wazo at *base*; None for what is no recording of that one. Pure."""
    found = _MEDIA.fullmatch(recording.removeprefix(base)) if recording.startswith(base) else None
    return found.groups() if found is not None else None


class WazoRecordings:
    def __init__(self, api: WazoApi, http: HttpClient, *, base: str) -> None:
        self._api = api
        self._http = http
        self._base = base

    @asynccontextmanager
    async def fetch(self, recording: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """As :class:`shared.pbx.port.FetchesRecordings`."""
        path = path_of(recording, self._base)
        if path is None:
            raise NotFound("The PBX has no recording of this name.")
        async with AsyncExitStack() as stack:
            asked = await self._api.asked(*path)
            try:
                pieces = await stack.enter_async_context(downloaded(self._http, asked))
            except Forbidden:
                asked = await self._api.asked(*path, anew=True)
                pieces = await stack.enter_async_context(downloaded(self._http, asked))
            yield pieces
