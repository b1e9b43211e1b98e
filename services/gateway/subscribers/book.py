"""The subscribers of all tenants, as one process knows them; and changing one."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import structlog

from services.gateway.subscribers.standing import Standings
from services.gateway.subscribers.subscriber import SubscriberDocument, SwitchedOff
from shared.clock import Clock
from shared.errors import Conflict, MeshError, NotFound, Unavailable
from shared.moments import to_instant
from shared.storage.port import Collection, Find, change, every

log = structlog.get_logger(__name__)

POLL = timedelta(seconds=1)
#: A subscriber that nothing came through to for so long is switched off.
FAILS_FOR = timedelta(days=3)
#: Two that changed in the same moment, in two processes, look like one: all are read again then.
_ANEW = timedelta(seconds=30)
_MOMENT = timedelta(milliseconds=1)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)


class SubscriberBook:
    """
    Reads never wait; before the first reading they raise Unavailable, since then nobody knows who
    is to be told. A change is seen here at once, in other processes within a second.
    """

    def __init__(self, documents: Collection[SubscriberDocument], clock: Clock) -> None:
        self._documents = documents
        self._clock = clock
        self._standings = Standings(documents, clock)
        self._reading = asyncio.Lock()
        self._read_at: datetime | None = None
        self._mark: tuple[int, datetime] = (0, _NEVER)
        self._wanting: Mapping[tuple[str, str], Sequence[SubscriberDocument]] = {}
        self._by_uid: Mapping[str, SubscriberDocument] = {}

    @property
    def is_loaded(self) -> bool:
        return self._read_at is not None

    @property
    def uids(self) -> Sequence[str]:
        return tuple(self._by_uid)

    def wanting(self, tenant: str, event_type: str) -> Sequence[SubscriberDocument]:
        """Who is to be told of events of that type, whatever their filters say. Raises: Unavailable."""
        if not self.is_loaded:
            raise Unavailable("the subscribers are not loaded yet")
        return self._wanting.get((tenant, event_type), ())

    def by_uid(self, uid: str) -> SubscriberDocument | None:
        """None: it was removed, or was made a moment ago by another process."""
        return self._by_uid.get(uid)

    async def refresh(self) -> None:
        """Raises: Unavailable."""
        async with self._reading:
            mark = (await self._documents.count(), await self._last_change())
            now = self._clock.now()
            late = self._read_at is None or abs(now - self._read_at) >= _ANEW
            if mark == self._mark and not late:
                return
            wanting: defaultdict[tuple[str, str], list[SubscriberDocument]] = defaultdict(list)
            by_uid: dict[str, SubscriberDocument] = {}
            async for one in every(self._documents, Find(limit=500)):
                by_uid[one.uid] = one
                for event_type in one.settings.types if one.is_on else ():
                    wanting[one.tenant, event_type].append(one)
            self._wanting, self._by_uid = dict(wanting), by_uid
            self._mark, self._read_at = mark, now
            self._standings.keep(by_uid.keys())

    async def follow(self) -> None:
        """For ever. While the store is away the last that was read holds."""
        away = False
        while True:
            try:
                await self.refresh()
                away = False
            except MeshError as error:
                if not away:
                    log.warning("subscribers_not_read", error=error.message)
                away = True
            await self._clock.sleep(POLL)

    async def _last_change(self) -> datetime:
        newest = await self._documents.page(Find(order_by="changed_at", descending=True, limit=1))
        return newest.documents[0].changed_at if newest.documents else _NEVER

    # -- one of them -------------------------------------------------------------------------

    async def get(self, tenant: str, name: str) -> SubscriberDocument:
        """Raises: NotFound."""
        try:
            return await self._documents.get(f"{tenant}/{name}")
        except NotFound:
            raise NotFound(f"There is no subscriber {name}.") from None

    async def read(self, tenant: str, name: str, *, uid: str) -> SubscriberDocument | None:
        """As the store has it now; None: it was removed, and one of its name is another."""
        try:
            found = await self._documents.get(f"{tenant}/{name}")
        except NotFound:
            return None
        return found if found.uid == uid else None

    async def list(self, tenant: str) -> list[SubscriberDocument]:
        query = Find(equals={"tenant": tenant}, order_by="name", limit=500)
        return [one async for one in every(self._documents, query)]

    async def change(
        self,
        tenant: str,
        name: str,
        edit: Callable[[SubscriberDocument | None], SubscriberDocument | None],
    ) -> SubscriberDocument | None:
        """
        As :func:`shared.storage.port.change`. Each change is later than all before, also where the
        clocks of two processes differ: by that the others see that there is one.
        """
        after = await self._last_change() + _MOMENT

        def stamped(found: SubscriberDocument | None) -> SubscriberDocument | None:
            wanted = edit(found)
            if wanted is None:
                return None
            earliest = max(after, found.changed_at + _MOMENT) if found is not None else after
            at = max(to_instant(self._clock.now()), earliest)
            return wanted.model_copy(update={"changed_at": at})

        changed = await change(self._documents, f"{tenant}/{name}", stamped)
        await self.refresh()
        return changed

    async def remove(
        self, tenant: str, name: str, check: Callable[[SubscriberDocument], None]
    ) -> SubscriberDocument:
        """Raises: NotFound, and what *check* does."""
        found = await self.get(tenant, name)
        check(found)
        await self._documents.delete(found.key)
        await self.refresh()
        return found

    async def remove_all(self, tenant: str) -> None:
        """Of a tenant that is removed. Raises: Unavailable."""
        for one in await self.list(tenant):
            await self._documents.delete(one.key)
        await self.refresh()

    # -- how telling it goes -------------------------------------------------------------------

    async def went_well(self, one: SubscriberDocument) -> None:
        """Raises: Unavailable."""
        await self._standings.went_well(one)

    async def went_wrong(self, one: SubscriberDocument) -> None:
        """Switches it off where nothing came through for days. Raises: Unavailable."""
        if await self._standings.went_wrong(one) >= FAILS_FOR:
            await self.switch_off(one, SwitchedOff.FAILING)

    async def switch_off(self, one: SubscriberDocument, why: SwitchedOff) -> bool:
        """
        Whether it is off, or gone: not where it is told of elsewhere by now than *one* says, or
        something came through to it by another process. Raises: Unavailable.
        """
        now, was_off, is_done = self._clock.now(), False, False

        def edit(found: SubscriberDocument | None) -> SubscriberDocument | None:
            nonlocal was_off, is_done
            was_off = found is None or found.uid != one.uid or not found.is_on
            is_done = False
            if was_off or found is None or found.settings.url != one.settings.url:
                return None
            if why is SwitchedOff.FAILING and not _fails_for_days(found, now):
                return None
            is_done = True
            return found.model_copy(update={"off": why, "off_at": now})

        try:
            await self.change(one.tenant, one.name, edit)
        except Conflict as error:
            raise Unavailable(error.message) from error
        self._standings.forget(one.uid)
        if is_done:
            log.warning(
                "subscriber_switched_off", tenant=one.tenant, subscriber=one.name, reason=why
            )
        return was_off or is_done


def _fails_for_days(found: SubscriberDocument, now: datetime) -> bool:
    """By the words of all processes, which are noted to the minute."""
    if found.failing_since is None:
        return False
    return now - max(found.failing_since, found.last_done_at or _NEVER) >= FAILS_FOR
