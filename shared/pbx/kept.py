"""A connection to a PBX that is kept: opened again after a loss, never against a refused login."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from datetime import timedelta

import structlog

from shared.clock import Clock
from shared.errors import MeshError
from shared.pbx.port import LoginRefused

log = structlog.get_logger(__name__)

_FIRST_WAIT = timedelta(milliseconds=500)
_LONGEST_WAIT = timedelta(seconds=30)
#: A connection that held for so long was a good one: the next is tried soon.
_STEADY = timedelta(minutes=1)


class Kept:
    """
    ``fault`` says why there is no connection; after a refused login it stays, and nothing more
    is tried: a new one is made when the configuration changes.
    """

    def __init__(self, *, host: str, clock: Clock) -> None:
        self._host = host
        self._clock = clock
        self.fault: str | None = "not tried yet"

    @property
    def connected(self) -> bool:
        return self.fault is None

    def up(self) -> None:
        """Said by who serves, once the PBX has taken the login."""
        self.fault = None

    async def run(self, serve: Callable[[], Awaitable[None]]) -> None:
        """
        For ever; ends only by cancellation. *serve* opens one session and returns or raises
        MeshError when that is over.
        """
        wait = _FIRST_WAIT
        while True:
            began = self._clock.now()
            try:
                await serve()
                self.fault = "closed by the PBX"
            except LoginRefused as error:
                self.fault = error.message
                log.error("pbx_login_refused", host=self._host, error=error.message)  # noqa: TRY400  no traceback
                await asyncio.Event().wait()
            except MeshError as error:
                self.fault = error.message
                log.warning("pbx_away", host=self._host, error=error.message)
            except Exception:
                # What one PBX sent must not end the reading of all others.
                self.fault = "what came over it broke callmesh; the log of this process has more"
                log.exception("pbx_session_failed", host=self._host)
            if self._clock.now() - began >= _STEADY:
                wait = _FIRST_WAIT
            # Between half and the whole, so that replicas do not come back in step.
            await self._clock.sleep(wait * random.uniform(0.5, 1))
            wait = min(wait * 2, _LONGEST_WAIT)
