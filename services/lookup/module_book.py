"""What lookup remembers of the telephony modules that CRMs have of us."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import timedelta
from typing import Any, Self

from pydantic import BaseModel

from shared.clock import Clock
from shared.contracts.modules import UnreachedCode
from shared.crm.connections import Account
from shared.errors import Conflict, NotFound, Unavailable
from shared.ids import new_id
from shared.moments import Instant
from shared.secrets import Sealed
from shared.site.telling import TelephonyPolicy
from shared.storage.port import Collection, CollectionSpec, Document, Find, change, every

#: How often a module is read back and compared.
EVERY = timedelta(hours=1)
#: After a failure, the first time; at most it is as often as ever.
_FIRST_WAIT, _MOST_DOUBLINGS = timedelta(minutes=1), 10
_LONGEST_FAULT = 500
#: How long it is told whom a card did not reach.
UNREACHED_TOLD = timedelta(hours=24)
_MOST_UNREACHED = 100
#: Of a connection that nobody looks after any more.
_KEPT = timedelta(days=30)


class Registered(BaseModel):
    """
    What a CRM was told, so that it can be switched off there when the site says nothing of it any
    more. Credentials are sealed, as in the site; *made_of* is a hash that has the secrets in it.
    """

    policy: TelephonyPolicy
    codes: tuple[tuple[str, str], ...]
    shops: tuple[tuple[str, str], ...]
    made_of: str
    template: str
    region: str | None
    zone: str
    parameters: tuple[tuple[str, str], ...]
    credentials: tuple[tuple[str, Sealed], ...]

    @classmethod
    def at(
        cls,
        account: Account,
        policy: TelephonyPolicy,
        *,
        codes: Iterable[tuple[str, str]],
        shops: Iterable[tuple[str, str]],
        made_of: str,
    ) -> Self:
        return cls(
            policy=policy,
            codes=tuple(codes),
            shops=tuple(shops),
            made_of=made_of,
            template=account.template,
            region=account.region,
            zone=account.zone,
            parameters=account.parameters,
            credentials=account.credentials,
        )

    def account(self, tenant: str, connection: str) -> Account:
        return Account(
            tenant=tenant,
            name=connection,
            template=self.template,
            region=self.region,
            zone=self.zone,
            parameters=self.parameters,
            credentials=self.credentials,
            phone_formats=(),
        )

    def is_elsewhere(self, account: Account) -> bool:
        """Whether *account* is one of another CRM."""
        return (self.template, self.parameters) != (account.template, account.parameters)


class ModuleDocument(Document):
    """
    ``key`` is ``tenant/connection``. Whoever works at it has it until *busy_until*. *registered*:
    what the CRM has of us, as far as we know; None: nothing that is active.
    """

    connection: str
    busy_with: str | None = None
    busy_until: Instant | None = None
    first_seen_at: Instant
    registered: Registered | None = None
    registered_at: Instant | None = None
    checked_at: Instant | None = None
    differs: tuple[str, ...] = ()
    mended: tuple[str, ...] = ()
    mended_at: Instant | None = None
    unknown: tuple[str, ...] = ()
    unreached: tuple[UnreachedCode, ...] = ()
    #: Since when it goes wrong, how often it did, and when it is tried again.
    fault: str | None = None
    failed_at: Instant | None = None
    failures: int = 0
    again_at: Instant | None = None
    expires_at: Instant


MODULES: CollectionSpec[ModuleDocument] = CollectionSpec(
    name="lookup.modules", model=ModuleDocument, expires_by="expires_at"
)

_Edit = Callable[[ModuleDocument | None], ModuleDocument | None]


class ModuleBook:
    def __init__(self, modules: Collection[ModuleDocument], clock: Clock) -> None:
        self._modules = modules
        self._clock = clock

    async def read(self, tenant: str, connection: str) -> ModuleDocument | None:
        """None: nothing was ever done. Raises: Unavailable."""
        try:
            return await self._modules.get(f"{tenant}/{connection}")
        except NotFound:
            return None

    async def all(self) -> AsyncIterator[ModuleDocument]:
        async for document in every(self._modules, Find()):
            yield document

    async def claim(
        self, tenant: str, connection: str, *, lease: timedelta
    ) -> ModuleDocument | None:
        """The right to work at it, which one at a time has; None: another has it."""
        now, me, mine = self._clock.now(), str(new_id()), False

        def edit(found: ModuleDocument | None) -> ModuleDocument | None:
            nonlocal mine
            mine = found is None or found.busy_until is None or found.busy_until <= now
            if not mine:
                return None
            known = found or self._new(tenant, connection)
            return known.model_copy(
                update={"busy_with": me, "busy_until": now + lease, "expires_at": now + _KEPT}
            )

        claimed = await self._changed(f"{tenant}/{connection}", edit)
        return claimed if mine else None

    async def note(self, mine: ModuleDocument, *, done: bool = True, **news: Any) -> ModuleDocument:
        """*done*: the right is given back. Raises: Unavailable, also when another has it by now."""

        def edit(found: ModuleDocument | None) -> ModuleDocument:
            if found is None or found.busy_with != mine.busy_with:
                raise Unavailable("it took too long: another works at it by now")
            end = {"busy_with": None, "busy_until": None} if done else {}
            return found.model_copy(update={**news, **end})

        noted = await self._changed(mine.key, edit)
        assert noted is not None  # noqa: S101  it was there
        return noted

    async def fine(self, mine: ModuleDocument, **news: Any) -> ModuleDocument:
        """It is as the site says; it is looked at again by and by. Raises: as :meth:`note`."""
        now = self._clock.now()
        return await self.note(
            mine,
            checked_at=now,
            again_at=now + EVERY,
            fault=None,
            failures=0,
            failed_at=None,
            **news,
        )

    async def failed(
        self, mine: ModuleDocument, fault: str, *, retry_after: timedelta | None = None
    ) -> ModuleDocument:
        """It is not, and is tried again later and later. Raises: as :meth:`note`."""
        now = self._clock.now()
        wait = min(_FIRST_WAIT * 2 ** min(mine.failures, _MOST_DOUBLINGS), EVERY)
        return await self.note(
            mine,
            fault=fault[:_LONGEST_FAULT],
            failures=mine.failures + 1,
            failed_at=mine.failed_at or now,
            again_at=now + max(wait, retry_after or wait),
        )

    async def forget(self, mine: ModuleDocument) -> None:
        await self._modules.delete(mine.key)

    async def unreached(self, tenant: str, connection: str, codes: Iterable[str]) -> None:
        """Whom a card did not reach; who works at the module is not in the way. Raises: Unavailable."""
        now = self._clock.now()
        news = {code: UnreachedCode(code=code, at=now) for code in codes}

        def edit(found: ModuleDocument | None) -> ModuleDocument:
            known = found or self._new(tenant, connection)
            others = [
                one
                for one in known.unreached
                if one.code not in news and now - one.at < UNREACHED_TOLD
            ]
            told = (*news.values(), *others)[:_MOST_UNREACHED]
            return known.model_copy(update={"unreached": told, "expires_at": now + _KEPT})

        await self._changed(f"{tenant}/{connection}", edit)

    def _new(self, tenant: str, connection: str) -> ModuleDocument:
        now = self._clock.now()
        return ModuleDocument(
            key=f"{tenant}/{connection}",
            tenant=tenant,
            connection=connection,
            first_seen_at=now,
            expires_at=now + _KEPT,
        )

    async def _changed(self, key: str, edit: _Edit) -> ModuleDocument | None:
        try:
            return await change(self._modules, key, edit)
        except Conflict as error:
            raise Unavailable(error.message) from error
