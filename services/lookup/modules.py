"""
The telephony module of ours in a CRM is kept as the site says: registered at the start and when the
site changes, read back and compared every hour, put right where somebody changed it there. One
replica at a time works at a module.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import structlog

from services.lookup.module_book import EVERY, ModuleBook, ModuleDocument, Registered
from services.lookup.module_ends import ModuleSweeper
from services.lookup.module_told import made_of, module_of, record_of, telephony_of
from shared.clock import Clock
from shared.contracts.contacts import CrmUser
from shared.contracts.modules import ModuleRecord
from shared.crm.connections import Account, CrmConnections
from shared.crm.port import HasTelephony, ListsUsers, TelephonyModule
from shared.crm.users import Directory, UserBook
from shared.errors import (
    BadSetting,
    Conflict,
    MeshError,
    NeedsReconnect,
    PermanentError,
    TransientError,
    Unavailable,
)
from shared.observe.logging import mask_text
from shared.site.accounts import account_of, seats_of
from shared.site.book import SiteBook
from shared.site.clicklinks import ClickAddresses, ClickLinks
from shared.site.models import CrmConnection, Site

log = structlog.get_logger(__name__)

#: How often it is looked whether something is due.
_LOOK = timedelta(seconds=5)
#: One request, and all of them with time to note what became of them.
_WITHIN, _LEASE = timedelta(seconds=20), timedelta(minutes=2)
#: So long a new module waits for a CRM that does not tell its users.
_USERS_WITHIN = timedelta(minutes=1)
#: Where another works at it, or the store is away.
_BUSY_WAIT, _AWAY_WAIT = timedelta(seconds=10), timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What the CRM shall have, and where."""

    account: Account
    telephony: HasTelephony
    addresses: ClickAddresses
    module: TelephonyModule
    registered: Registered


@dataclass(frozen=True, slots=True)
class ModuleKeeper:
    connections: CrmConnections
    site: SiteBook
    users: UserBook
    book: ModuleBook
    links: ClickLinks
    ends: ModuleSweeper
    clock: Clock
    #: By tenant and connection: the site as it was looked at; when to look again, None while it is in
    #: hand; and whether something new is still to be told there.
    _next: dict[tuple[str, str], tuple[Site, datetime | None, bool]] = field(
        default_factory=dict, init=False
    )

    async def run(self) -> None:
        """For ever: what the site wants."""
        async with asyncio.TaskGroup() as under_way:
            while True:
                for site, crm, is_news in self._due():
                    self._next[site.tenant, crm.name] = site, None, False
                    # A CRM that hangs holds up no other.
                    under_way.create_task(self._look_at(site, crm, is_news=is_news))
                await self.clock.sleep(_LOOK)

    def look_again(self, tenant: str, connection: str) -> None:
        """Its users were read anew."""
        seen, at, _ = self._next.get((tenant, connection), (None, None, False))
        if seen is not None:
            # What is in hand may have begun with those of before.
            self._next[tenant, connection] = seen, at and self.clock.now(), True

    async def register(self, site: Site, crm: CrmConnection) -> ModuleRecord:
        """
        Now, whatever was done before. Raises: Conflict where it cannot be done as the site and the
        settings are, and what the CRM says.
        """
        if not crm.telephony.registered:
            raise Conflict(
                f"the site does not want it: set `telephony: {{registered: true}}` of crm {crm.name}"
            )
        try:
            if await self._kept(site, crm, asked=True) is None:
                raise Unavailable("it is being registered just now", retry_after=_BUSY_WAIT)
        except BadSetting as error:
            raise Conflict(error.message) from error
        return await self.state(site, crm)

    async def state(self, site: Site, crm: CrmConnection) -> ModuleRecord:
        """How it stands. Raises: Unavailable."""
        try:
            telephony = telephony_of(self.connections.connector(account_of(site, crm)))
        except (PermanentError, NeedsReconnect):
            telephony = None
        known = await self.book.read(site.tenant, crm.name)
        return record_of(crm, known, possible=telephony is not None, now=self.clock.now())

    # -- what is wanted ----------------------------------------------------------------------------

    def _due(self) -> list[tuple[Site, CrmConnection, bool]]:
        """Also whether the site, or something of it, may be another than the last time."""
        now = self.clock.now()
        found = []
        for site in self.site.current.values():
            for crm in site.crm:
                seen, at, is_news = self._next.get((site.tenant, crm.name), (None, now, False))
                if not crm.telephony.registered or at is None:
                    continue
                if seen is not site or at <= now:
                    found.append((site, crm, is_news or seen is not site))
        return found

    async def _look_at(self, site: Site, crm: CrmConnection, *, is_news: bool) -> None:
        again = self.clock.now() + _AWAY_WAIT
        try:
            kept = await self._kept(site, crm, is_news=is_news)
            again = (kept.again_at if kept else None) or self.clock.now() + _BUSY_WAIT
            # Who works at it may do so by the site of before.
            is_news = is_news and kept is None
        except MeshError as error:
            log.warning(
                "module_not_kept",
                tenant=site.tenant,
                connection=crm.name,
                error=mask_text(error.message),
            )
        _, in_hand, once_more = self._next.get((site.tenant, crm.name), (site, None, False))
        if in_hand is None and once_more:
            again, is_news = self.clock.now(), True
        self._next[site.tenant, crm.name] = site, again, is_news

    async def _kept(
        self, site: Site, crm: CrmConnection, *, is_news: bool = True, asked: bool = False
    ) -> ModuleDocument | None:
        """
        What is known then; None while another works at it. *asked*: somebody waits, and gets what
        goes wrong; else it is noted. Raises: Unavailable of the store.
        """
        mine = await self.book.claim(site.tenant, crm.name, lease=_LEASE)
        if mine is None:
            return None
        if not is_news and mine.again_at is not None and self.clock.now() < mine.again_at:
            # Another replica was here.
            return await self.book.note(mine)
        addresses = self.links.addresses(site.tenant, crm.name)
        try:
            is_new = self.clock.now() - mine.first_seen_at < _USERS_WITHIN
            wanted = await self._wanted(site, crm, addresses, wait=is_new and not asked)
            if wanted is None:
                return await self.book.note(mine, again_at=self.clock.now() + _BUSY_WAIT)
            return await self._brought_about(mine, wanted, asked=asked)
        except MeshError as error:
            noted = await self._failed(mine, error, addresses)
            if asked:
                raise
            return noted

    async def _wanted(
        self,
        site: Site,
        crm: CrmConnection,
        addresses: ClickAddresses | None,
        *,
        wait: bool,
    ) -> _Wanted | None:
        """
        None where the CRM's users are not known yet, and that is waited for. Raises: BadSetting,
        MeshError, Unavailable.
        """
        account = account_of(site, crm)
        connector = self.connections.connector(account)
        telephony = telephony_of(connector)
        if telephony is None:
            raise BadSetting(
                f"crm {crm.name}: its template registers no telephony module: leave "
                "`telephony.registered` out"
            )
        if addresses is None:
            raise BadSetting(
                "CALLMESH_PUBLIC_URL: set it, for every service: the CRM is to be told at which "
                "address it reaches the gateway"
            )
        users = await self._users_of(site, crm, connector)
        if users is None and wait:
            return None
        directory = Directory(users or ())
        matches = {seat.extension: directory.match(seat) for seat in seats_of(site, crm)}
        codes = {one: user for one, user in matches.items() if isinstance(user, str)}
        shops = dict(site.dialing.numbers.shops)
        module = module_of(crm.telephony, addresses, codes=codes, shops=shops)
        registered = Registered.at(
            account,
            crm.telephony,
            codes=sorted(codes.items()),
            shops=sorted(shops.items()),
            made_of=made_of(module),
        )
        return _Wanted(account, telephony, addresses, module, registered)

    async def _users_of(
        self, site: Site, crm: CrmConnection, connector: ListsUsers
    ) -> tuple[CrmUser, ...] | None:
        """As last read; None where the CRM does not tell them. Raises: Unavailable of the store."""
        known = await self.users.read(site.tenant, crm.name)
        if known is not None:
            return known.users
        try:
            users = await connector.list_users(within=_WITHIN)
        except MeshError as error:
            log.warning("users_not_read", connection=crm.name, error=mask_text(error.message))
            return None
        await self.users.keep(site.tenant, crm.name, users)
        return users

    # -- brought about -----------------------------------------------------------------------------

    async def _brought_about(
        self, mine: ModuleDocument, wanted: _Wanted, *, asked: bool
    ) -> ModuleDocument:
        """Raises: MeshError."""
        now, there = self.clock.now(), mine.registered
        if there is not None and self._is_another(there, wanted):
            await self._left_behind(mine, there, wanted.addresses)
            there = None
        is_told = there is not None and there.made_of == wanted.registered.made_of
        mended: tuple[str, ...] = ()
        if is_told and not asked:
            if mine.checked_at is not None and now - mine.checked_at < EVERY and not mine.fault:
                return await self.book.note(
                    mine, registered=wanted.registered, again_at=mine.checked_at + EVERY
                )
            mended = await self._changed_there(wanted)
            # What differed at once when it was registered will do so again.
            if set(mended) <= set(mine.differs):
                return await self.book.fine(mine, registered=wanted.registered, differs=mended)
            log.warning("module_differs", connection=mine.connection, differs=list(mended))
        report = await wanted.telephony.register_module(wanted.module, within=_WITHIN)
        registered_at = self.clock.now()
        news: dict[str, Any] = {"mended": mended, "mended_at": registered_at} if mended else {}
        # The CRM has it, whatever becomes of the rest.
        mine = await self.book.note(
            mine,
            done=False,
            registered=wanted.registered,
            registered_at=registered_at,
            unknown=tuple(wanted.addresses.taken_out_of(text) for text in report.unknown),
            **news,
        )
        log.info(
            "module_put_right" if mended else "module_registered",
            connection=mine.connection,
            extensions=len(wanted.module.codes),
            shops=len(wanted.module.shops),
            unknown=len(report.unknown),
        )
        differs = await self._changed_there(wanted)
        return await self.book.fine(mine, differs=differs)

    async def _changed_there(self, wanted: _Wanted) -> tuple[str, ...]:
        """What the CRM has otherwise than it was told, in words without secrets."""
        report = await wanted.telephony.read_module(wanted.module, within=_WITHIN)
        if not report.registered:
            return ("the CRM has no such module",)
        return tuple(wanted.addresses.taken_out_of(text) for text in report.differs)

    def _is_another(self, there: Registered, wanted: _Wanted) -> bool:
        """Whether what is registered is not what would be changed by registering *wanted*."""
        other_code = there.policy.code != wanted.module.code
        return other_code or there.is_elsewhere(wanted.account)

    async def _left_behind(
        self, mine: ModuleDocument, there: Registered, addresses: ClickAddresses
    ) -> None:
        """Best effort: where the module moves to another code or CRM, the old one must not stop it."""
        try:
            await self.ends.switch_off(mine, there, addresses)
        except MeshError as error:
            log.warning(
                "module_left_registered",
                connection=mine.connection,
                code=there.policy.code,
                error=addresses.taken_out_of(mask_text(error.message)),
            )

    async def _failed(
        self, mine: ModuleDocument, error: MeshError, addresses: ClickAddresses | None
    ) -> ModuleDocument:
        text = mask_text(error.message)
        fault = addresses.taken_out_of(text) if addresses else text
        log.warning("module_not_registered", connection=mine.connection, error=fault)
        retry_after = error.retry_after if isinstance(error, TransientError) else None
        return await self.book.failed(mine, fault, retry_after=retry_after)
