"""One dial at a time per phone, over all replicas."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.dialer.permits import Why
from services.dialer.store import DialBook, DialDocument
from shared.clock import Clock
from shared.contracts.dialing import DialState
from shared.errors import Conflict, NotFound, Unavailable
from shared.moments import Instant, to_text
from shared.storage.port import Collection, CollectionSpec, Document

#: From taking the turn to the dial's document. A turn without one after that is of a process that
#: died in between.
_OPENS = timedelta(seconds=15)
#: A dial of which nothing was heard for so long holds nobody up: its end was lost.
_RINGS = timedelta(minutes=5)
_TALKS = timedelta(hours=4)
_KEPT = timedelta(days=2)
_TRIES = 50


class Turn(Document):
    """``key`` is ``tenant/pbx/extension``. *dial_id*: whose turn it is, or was; None: nobody's."""

    dial_id: str | None
    taken_at: Instant
    expires_at: Instant


TURNS: CollectionSpec[Turn] = CollectionSpec(
    name="dialer.turns", model=Turn, expires_by="expires_at"
)


class TurnBook:
    """
    A turn is over when its dial is: nobody has to end it, so no crash and no end that was told
    while we were down can hold a phone for ever.
    """

    def __init__(self, turns: Collection[Turn], dials: DialBook, clock: Clock) -> None:
        self._turns = turns
        self._dials = dials
        self._clock = clock

    async def take(self, tenant: str, pbx: str | None, extension: str, dial_id: str) -> None:
        """The same dial again has it already. Raises: Conflict, with ``why``; Unavailable."""
        key = _key(tenant, pbx, extension)
        for _ in range(_TRIES):
            now = self._clock.now()
            wanted = Turn(
                key=key, tenant=tenant, dial_id=dial_id, taken_at=now, expires_at=now + _KEPT
            )
            try:
                found = await self._turns.get(key)
            except NotFound:
                try:
                    await self._turns.add(wanted)
                except Conflict:
                    continue
                return
            if found.dial_id == dial_id:
                return
            await self._must_be_over(found, extension, now)
            try:
                await self._turns.replace(wanted.model_copy(update={"version": found.version}))
            except (Conflict, NotFound):
                continue
            return
        raise Unavailable(f"extension {extension} is wanted by too many at once")

    async def give_back(self, tenant: str, pbx: str | None, extension: str, dial_id: str) -> None:
        """Of a dial that came to nothing before it had a document. Raises: Unavailable."""
        try:
            found = await self._turns.get(_key(tenant, pbx, extension))
            if found.dial_id == dial_id:
                await self._turns.replace(found.model_copy(update={"dial_id": None}))
        except (Conflict, NotFound):
            return  # it is somebody else's by now

    async def _must_be_over(self, turn: Turn, extension: str, now: datetime) -> None:
        """Raises: Conflict."""
        if turn.dial_id is None:
            return
        dial = await self._dials.find(turn.tenant, turn.dial_id)
        if is_over(dial, turn.taken_at, now):
            return
        raise Conflict(
            f"Extension {extension} is dialling already: dial {turn.dial_id}, since "
            f"{to_text(turn.taken_at)}. Wait for its end, or cancel it.",
            why=Why.DIALLING,
        )


def is_over(dial: DialDocument | None, taken_at: datetime, now: datetime) -> bool:
    """Whether the phone is free for another dial."""
    if dial is None:
        return now - taken_at > _OPENS
    record = dial.record
    if record.state.is_final:
        return True
    talks = record.state is DialState.CONNECTED
    return now - record.changed_at > (_TALKS if talks else _RINGS)


def _key(tenant: str, pbx: str | None, extension: str) -> str:
    return f"{tenant}/{pbx or ''}/{extension}"
