"""What lookup remembers beside users and answers: of calls from unknown numbers, and who was made."""

from __future__ import annotations

from datetime import datetime, timedelta

from services.lookup.domain import CallFacts, together
from shared.clock import Clock
from shared.contracts.contacts import ContactCard
from shared.errors import Conflict, Forbidden, NotFound, Unavailable
from shared.moments import Instant
from shared.storage.port import Collection, CollectionSpec, Document, change

#: Messages wait as long for a service that is away.
_KEPT = timedelta(days=2)


class CallerDocument(Document):
    """``key`` is the call's id. Only of calls of tenants whose unknown callers are added."""

    facts: CallFacts
    expires_at: Instant


CALLERS: CollectionSpec[CallerDocument] = CollectionSpec(
    name="lookup.callers", model=CallerDocument, expires_by="expires_at"
)


class CallerBook:
    def __init__(self, callers: Collection[CallerDocument], clock: Clock) -> None:
        self._callers = callers
        self._clock = clock

    async def learn(self, tenant: str, call_id: str, news: CallFacts) -> CallFacts:
        """All that is known now, whatever came first. Raises: Unavailable, Forbidden."""

        def add(found: CallerDocument | None) -> CallerDocument | None:
            if found is None:
                expires_at = self._clock.now() + _KEPT
                return CallerDocument(key=call_id, tenant=tenant, facts=news, expires_at=expires_at)
            if found.tenant != tenant:
                raise Forbidden(f"call {call_id} is another tenant's")
            known = together(found.facts, news)
            return found.model_copy(update={"facts": known}) if known != found.facts else None

        try:
            document = await change(self._callers, call_id, add)
        except Conflict as error:
            raise Unavailable(error.message) from error
        return document.facts if document else news


class MakingDocument(Document):
    """
    ``key`` is ``tenant/connection/number``: the right to make a contact with the number, which
    one at a time has, *until* a moment when whoever has it has given up.
    """

    until: Instant
    #: For which call the last one made a contact, or began to, and whom.
    call_id: str | None = None
    contact: ContactCard | None = None
    made_at: Instant | None = None
    expires_at: Instant


MAKINGS: CollectionSpec[MakingDocument] = CollectionSpec(
    name="lookup.makings", model=MakingDocument, expires_by="expires_at"
)


class MakingBook:
    """Rights to make a contact, given by compare-and-set: over all replicas one has one."""

    def __init__(self, makings: Collection[MakingDocument], clock: Clock) -> None:
        self._makings = makings
        self._clock = clock

    async def take(
        self, tenant: str, connection: str, number: str, *, lease: timedelta
    ) -> MakingDocument:
        """Raises: Unavailable while another has it, and while the store is away."""
        key, now = f"{tenant}/{connection}/{number}", self._clock.now()

        def claim(found: MakingDocument | None) -> MakingDocument:
            if found is None:
                return MakingDocument(
                    key=key, tenant=tenant, until=now + lease, expires_at=now + _KEPT
                )
            if found.until > now:
                raise Unavailable("somebody is making a contact with this number")
            return found.model_copy(update={"until": now + lease, "expires_at": now + _KEPT})

        try:
            mine = await change(self._makings, key, claim)
        except Conflict as error:
            raise Unavailable(error.message) from error
        assert mine is not None  # noqa: S101  a claim is never None
        return mine

    async def begun(self, mine: MakingDocument, *, call_id: str) -> MakingDocument:
        """A contact is about to be made: who finds it after a crash knows whose it is."""
        return await self._move(mine, call_id=call_id, contact=None, made_at=None)

    async def made(self, mine: MakingDocument, contact: ContactCard) -> None:
        """Raises: Unavailable."""
        now = self._clock.now()
        await self._move(mine, until=now, contact=contact, made_at=now)

    async def give_back(
        self, mine: MakingDocument, *, at: datetime | None = None, undone: bool = False
    ) -> None:
        """Nobody has it from *at* on, or now; *undone*: nothing was made. Raises: Unavailable."""
        changes = {"call_id": None} if undone else {}
        await self._move(mine, until=at or self._clock.now(), **changes)

    async def _move(self, mine: MakingDocument, **changes: object) -> MakingDocument:
        try:
            return await self._makings.replace(mine.model_copy(update=changes))
        except (Conflict, NotFound) as error:
            raise Unavailable("the right to make the contact was lost meanwhile") from error
