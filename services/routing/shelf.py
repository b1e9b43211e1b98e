"""The rules as decisions use them: read, compiled, found by number and by menu; kept current."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import structlog

from services.routing.standing import Standing
from shared.errors import MeshError
from shared.site.book import SiteBook
from shared.site.models import Site
from shared.site.rulebook import RuleBook, RuleDocument

log = structlog.get_logger(__name__)

#: Of what a compiled rule is made.
_Made = tuple[int, str, str | None]


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
        """*first* and every rule that they lead to."""
        found: dict[str, Standing] = {}
        waiting = list(first)
        while waiting:
            one = waiting.pop()
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
    Of every tenant. Reads never wait: while a rule of a hundred thousand rows is read anew, beside
    the calls, the one before it holds.
    """

    def __init__(self, rules: RuleBook, site: SiteBook) -> None:
        self._rules = rules
        self._site = site
        self._made: dict[tuple[str, str], tuple[_Made, Standing]] = {}
        self._shelves: Mapping[str, Shelf] = MappingProxyType({})

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
        """What the books say now. A rule that cannot be read is left out, and is an error in the log."""
        made: dict[tuple[str, str], tuple[_Made, Standing]] = {}
        shelves: dict[str, Shelf] = {}
        for tenant, documents in self._rules.current.items():
            site = self._site.site(tenant)
            if site is None:
                continue
            for name, document in documents.items():
                if (found := await self._standing(site, document)) is not None:
                    made[tenant, name] = found
            shelves[tenant] = Shelf.of(
                standing for (owner, _), (_, standing) in made.items() if owner == tenant
            )
        self._made = made
        self._shelves = MappingProxyType(shelves)

    async def follow(self) -> None:
        """For ever."""
        while True:
            changes = [
                asyncio.create_task(self._rules.changed()),
                asyncio.create_task(self._site.changed()),
            ]
            try:
                # After it is listened for, so that no change is missed.
                await self.refresh()
                await asyncio.wait(changes, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in changes:
                    task.cancel()

    async def _standing(self, site: Site, document: RuleDocument) -> tuple[_Made, Standing] | None:
        of = (document.number, site.zone, site.region)
        known = self._made.get((site.tenant, document.name))
        if known is not None and known[0] == of:
            return known
        try:
            standing = await asyncio.to_thread(_read, document, site)
        except MeshError as error:
            log.error(  # noqa: TRY400  no traceback
                "rule_not_read", tenant=site.tenant, rule=document.name, error=error.message
            )
            return known
        return of, standing


def _read(document: RuleDocument, site: Site) -> Standing:
    """Raises: ContractError."""
    return Standing.of(document.read(), zone=site.zone, region=site.region, version=document.number)
