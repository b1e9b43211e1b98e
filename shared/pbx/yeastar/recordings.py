"""Recordings of a Yeastar P-Series, by the names of files that its events tell."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from shared.errors import NotFound
from shared.net.client import HttpClient
from shared.pbx.fetching import WITHIN, downloaded
from shared.pbx.yeastar.api import YeastarApi
from shared.pbx.yeastar.refusals import ApiRejected


def is_recording(name: str) -> bool:
    """Whether it can be the name of one: a file's, without a folder. Pure."""
    return bool(name) and name.isprintable() and not set(name) & set("/\\") and ".." not in name


class YeastarRecordings:
    def __init__(self, api: YeastarApi, http: HttpClient) -> None:
        self._api = api
        self._http = http

    @asynccontextmanager
    async def fetch(self, recording: str) -> AsyncIterator[AsyncIterator[bytes]]:
        """As :class:`shared.pbx.port.FetchesRecordings`."""
        if not is_recording(recording):
            raise NotFound("The PBX has no recording of this name.")
        try:
            asked = await self._api.whereabouts(recording, within=WITHIN)
        except ApiRejected as error:
            # It may not have written the file yet, and says that by no number of its own.
            raise NotFound(error.message) from None
        async with downloaded(self._http, asked) as pieces:
            yield pieces
