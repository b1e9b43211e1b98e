"""
What came before: signed hooks that come again, and clicks that come twice.

Neither is needed for one effect: what a hook says has ids of its own, and an extension has one dial
at a time. Marks spare the work, count who replays, and let a double click be one.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

from shared.clock import Clock
from shared.crm.glance import Glance
from shared.errors import Conflict, NotFound, Unavailable
from shared.ids import new_id
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, change

#: A second click on the same number at the same phone within it is the first one's double.
TWICE = timedelta(seconds=3)
_CLICKS_KEPT = timedelta(minutes=1)


class HookMark(Document):
    """``key`` is a hash of whose hook it is and of its signature."""

    expires_at: Instant


MARKS: CollectionSpec[HookMark] = CollectionSpec(
    name="gateway.hook_marks", model=HookMark, expires_by="expires_at"
)


@dataclass(frozen=True, slots=True)
class Signed:
    """
    A request whose signature covers the time of its sending: the same again *is* the same, and for
    *keep* it could be sent again.
    """

    connection: str
    signature: str
    keep: timedelta

    @property
    def key(self) -> str:
        return _hashed(self.connection, self.signature)


class HookMarks:
    """Where the store is away nothing is known, and hooks are taken as ever."""

    def __init__(self, marks: Collection[HookMark], clock: Clock, glance: Glance) -> None:
        self._marks = marks
        self._clock = clock
        self._glance = glance

    async def came(self, tenant: str, signed: Signed | None) -> bool:
        """Whether it was taken before, as far as is known."""
        return bool(signed and await self._glance.at(self._is_there(f"{tenant}/{signed.key}")))

    async def note(self, tenant: str, signed: Signed | None) -> None:
        """It was taken, and is durable."""
        if signed is None:
            return
        mark = HookMark(
            key=f"{tenant}/{signed.key}",
            tenant=tenant,
            expires_at=self._clock.now() + signed.keep,
        )
        await self._glance.at(self._put(mark))

    async def _is_there(self, key: str) -> bool:
        try:
            await self._marks.get(key)
        except NotFound:
            return False
        return True

    async def _put(self, mark: HookMark) -> None:
        # Of two that came at once, either has marked it.
        with suppress(Conflict):
            await self._marks.add(mark)


class ClickDocument(Document):
    """``key`` is a hash of who clicked what: no number is in it."""

    dial_id: str
    at: Instant
    expires_at: Instant


CLICKS: CollectionSpec[ClickDocument] = CollectionSpec(
    name="gateway.clicks", model=ClickDocument, expires_by="expires_at"
)


class ClickBook:
    def __init__(self, clicks: Collection[ClickDocument], clock: Clock) -> None:
        self._clicks = clicks
        self._clock = clock

    async def dial_of(self, tenant: str, *click: str) -> str:
        """
        The id of the dial that a *click* leads to: over all replicas it and its double lead to one.
        Raises: Unavailable.
        """
        now, fresh = self._clock.now(), str(new_id())

        def edit(found: ClickDocument | None) -> ClickDocument | None:
            if found is not None and abs(now - found.at) < TWICE:
                return None
            return ClickDocument(
                key=key,
                tenant=tenant,
                version=found.version if found else 0,
                dial_id=fresh,
                at=now,
                expires_at=now + _CLICKS_KEPT,
            )

        key = f"{tenant}/{_hashed(*click)}"
        try:
            kept = await change(self._clicks, key, edit)
        except Conflict as error:
            raise Unavailable(error.message) from error
        assert kept is not None  # noqa: S101  where there is none one is made
        return kept.dial_id


def _hashed(*parts: str) -> str:
    return hashlib.sha256("\x1f".join(parts).encode(errors="replace")).hexdigest()
