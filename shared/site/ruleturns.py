"""Whose turn it is to write a rule: changes of rules come one after the other, over all tenants."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

from shared.clock import Clock
from shared.errors import Conflict, NotFound
from shared.moments import to_instant
from shared.site.documents import RuleTurn
from shared.storage.port import Collection

#: Who has had it longer has died: the store's time for a call is three seconds.
LONGEST = timedelta(seconds=30)
#: The one document.
_KEY, _TENANT = "rules", "all"


class Turns:
    """
    A turn is a serial that is later than all before, and it is given to who has read the change
    with the one before: so nobody who reads on from the last serial that he saw misses a change.
    (A unique index over serials would not do: a rule that is changed again lets its old one go.)
    """

    def __init__(self, turns: Collection[RuleTurn], clock: Clock) -> None:
        self._turns = turns
        self._clock = clock

    async def after(self, last: int) -> int | None:
        """
        The serial for a change after *last*, the last that was read; None while it is somebody
        else's turn, or when what he wrote was not read yet.
        """
        now = to_instant(self._clock.now())
        try:
            turn = await self._turns.get(_KEY)
        except NotFound:
            turn = None
        serial = last + 1
        if turn is not None and turn.serial > last:
            if now - turn.taken_at < LONGEST:
                return None
            serial = turn.serial + 1
        taken = RuleTurn(key=_KEY, tenant=_TENANT, serial=serial, taken_at=now)
        try:
            if turn is None:
                await self._turns.add(taken)
            else:
                await self._turns.replace(taken.model_copy(update={"version": turn.version}))
        except (Conflict, NotFound):
            return None
        return serial

    async def give_back(self, serial: int) -> None:
        """A turn in which nothing was written."""
        with suppress(Conflict, NotFound):
            turn = await self._turns.get(_KEY)
            if turn.serial == serial:
                await self._turns.replace(turn.model_copy(update={"serial": serial - 1}))
