"""The rules as decisions use them: read, compiled, found by number and by menu; kept current."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import structlog

from services.routing.standing import Standing
from shared.errors import MeshError
from shared.site.book import SiteBook
from shared.site.documents import RuleDocument, rule_of
from shared.site.models import Site
from shared.site.rulebook import RuleBook

log = structlog.get_logger(__name__)

#: From so many characters on a rule takes longer to read than others should wait: 5,000 rows.
_LARGE = 256 * 1024


@dataclass(frozen=True, slots=True)
class _Text:
    """Of what a compiled rule is made; the number too, which decisions are kept with."""

    number: int
    source: str = field(repr=False)
    zone: str
    region: str | None

    @classmethod
    def of(cls, document: RuleDocument, site: Site) -> _Text:
        return cls(document.number, document.source, site.zone, site.region)

    def read(self, name: str) -> Standing:
        """Raises: ContractError."""
        rule = rule_of(self.source, name=name)
        return Standing.of(rule, zone=self.zone, region=self.region, version=self.number)


@dataclass(frozen=True, slots=True)
class Shelf:
    """Of one tenant."""

    by_name: Mapping[str, Standing] = field(default_factory=dict)
    #: By the digits of the number, without a plus sign.
    by_did: Mapping[str, Standing] = field(default_factory=dict)
    #: By menu, and number; the number None: whatever was called.
    by_ivr: Mapping[tuple[str, str | None], Standing] = field(default_factory=dict)

    def rule_for(self, did: str, ivr: str | None) -> Standing | None:
        number = did.lstrip("+")
        if ivr is None:
            return self.by_did.get(number)
        return self.by_ivr.get((ivr, number)) or self.by_ivr.get((ivr, None))

    def followed(self, first: Iterable[Standing]) -> list[Standing]:
        """*first*, in their order, and then every rule that they lead to."""
        found: dict[str, Standing] = {}
        waiting = list(first)
        for one in waiting:
            if one.rule.name not in found:
                found[one.rule.name] = one
                waiting += [self.by_name[to] for to in one.leads_to if to in self.by_name]
        return list(found.values())

    @classmethod
    def of(cls, standing: Iterable[Standing]) -> Shelf:
        by_name: dict[str, Standing] = {}
        by_did: dict[str, Standing] = {}
        by_ivr: dict[tuple[str, str | None], Standing] = {}
        for one in standing:
            rule = one.rule
            by_name[rule.name] = one
            numbers = [did.lstrip("+") for did in rule.dids]
            if not rule.ivrs:
                by_did.update(dict.fromkeys(numbers, one))
            for ivr in rule.ivrs:
                of: list[str | None] = [*numbers] or [None]
                by_ivr.update({(ivr, number): one for number in of})
        return cls(by_name, by_did, by_ivr)


_EMPTY = Shelf()


class Shelves:
    """
    Of every tenant. Reads never wait: while rules are read anew, beside the calls, those before
    them hold. What a tenant changed is put up together, and no tenant's large rule holds up the
    small ones of another.
    """

    def __init__(self, rules: RuleBook, site: SiteBook) -> None:
        self._rules = rules
        self._site = site
        self._shelves: dict[str, Shelf] = {}
        #: What they were read of.
        self._texts: dict[str, dict[str, _Text]] = {}
        self._renewing: dict[str, asyncio.Task[None]] = {}
        # One of each at a time: threads are few, and names of hosts are looked up by them too.
        self._small, self._large = asyncio.Lock(), asyncio.Lock()

    def of(self, tenant: str) -> Shelf:
        return self._shelves.get(tenant, _EMPTY)

    def that_want_staff(self) -> list[str]:
        """Tenants with a rule for which it matters what agents are doing."""
        return [
            tenant
            for tenant, shelf in self._shelves.items()
            if any(standing.wants.staff for standing in shelf.by_name.values())
        ]

    async def refresh(self) -> None:
        """
        What the books say now. A rule that cannot be read is an error in the log, and what it was
        before holds.
        """
        self._begin()
        await asyncio.gather(*self._renewing.values())

    async def follow(self) -> None:
        """For ever."""
        try:
            while True:
                changes = [
                    asyncio.create_task(self._rules.changed()),
                    asyncio.create_task(self._site.changed()),
                ]
                try:
                    # In the moment in which it begins to be listened for, so no change is missed.
                    self._begin()
                    await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for task in changes:
                        task.cancel()
        finally:
            tasks = list(self._renewing.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _begin(self) -> None:
        """The shelf of each tenant whose books say something else is made anew, in its own task."""
        for tenant in self._texts.keys() | self._rules.current.keys():
            if tenant not in self._renewing and self._wanted(tenant) != self._texts.get(tenant, {}):
                self._renewing[tenant] = asyncio.create_task(self._renew(tenant))

    def _wanted(self, tenant: str) -> dict[str, _Text]:
        """Nothing before there is a site: without one no call is taken either."""
        site = self._site.site(tenant)
        if site is None:
            return {}
        return {name: _Text.of(one, site) for name, one in self._rules.of(tenant).items()}

    async def _renew(self, tenant: str) -> None:
        """Until it is what the books say, which may change meanwhile."""
        try:
            while (wanted := self._wanted(tenant)) != (known := self._texts.get(tenant, {})):
                standing = dict(self.of(tenant).by_name)
                for name, text in wanted.items():
                    if text != known.get(name) and (read := await self._read(tenant, name, text)):
                        standing[name] = read
                shelf = Shelf.of(standing[name] for name in wanted if name in standing)
                if wanted:
                    self._shelves[tenant], self._texts[tenant] = shelf, wanted
                else:
                    del self._shelves[tenant], self._texts[tenant]
        finally:
            del self._renewing[tenant]

    async def _read(self, tenant: str, name: str, text: _Text) -> Standing | None:
        async with self._large if len(text.source) > _LARGE else self._small:
            try:
                return await asyncio.to_thread(text.read, name)
            except MeshError as error:
                log.error(  # noqa: TRY400  no traceback
                    "rule_not_read", tenant=tenant, rule=name, error=error.message
                )
            except Exception:
                # One rule that surprises us must not end the routing of all tenants.
                log.exception("rule_not_read", tenant=tenant, rule=name)
        return None
