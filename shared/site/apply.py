"""Making the store say what a site file says: what would change, and changing it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from shared.clock import Clock
from shared.errors import BadSetting, Conflict, ContractError, NotFound
from shared.moments import to_instant
from shared.secrets import SecretBox
from shared.site.documents import RuleDocument, SiteDocument
from shared.site.file import WholeSite
from shared.site.models import Site
from shared.site.ruleedit import RuleDesk, RuleWrite
from shared.site.rules.checks import Fault, in_words, rule_faults
from shared.site.rules.rule import RoutingRule, Row
from shared.site.seals import with_old_seals
from shared.storage.port import Collection, Find

#: The lists of a site, and by which field their items are known.
_LISTS = {"pbx": "name", "crm": "name", "agents": "extension", "hours": "name"}


@dataclass(frozen=True, slots=True)
class Change:
    """``+`` new, ``~`` changed, ``-`` removed, ``=`` kept although the file does not have it."""

    sign: str
    tenant: str
    what: str

    def __str__(self) -> str:
        return f"{self.sign} {self.tenant}: {self.what}"


@dataclass(frozen=True, slots=True)
class Plan:
    changes: Sequence[Change]
    documents: Sequence[SiteDocument]
    #: Tenants whose document is new.
    new: frozenset[str]
    rules: Sequence[RuleWrite]
    #: Tenant → its rules, as :meth:`RuleBook.numbers`, when they were checked.
    seen: Mapping[str, Mapping[str, int]]

    @property
    def tenants(self) -> frozenset[str]:
        """Those that are changed."""
        return frozenset(
            [document.key for document in self.documents] + [r.new.tenant for r in self.rules]
        )


async def plan(sites: Sequence[WholeSite], desk: RuleDesk, *, by: str, prune: bool) -> Plan:
    """
    What *sites* would change. Items that a file does not have stay, unless *prune*.

    Raises: BadSetting when a stored secret cannot be opened, and for what would not fit together
    with what stays; ContractError for a rule too large.
    """
    await desk.book.refresh()
    book = desk.book.current
    seen = {site.tenant: desk.book.numbers(site.tenant) for site in sites}
    changes: list[Change] = []
    documents: list[SiteDocument] = []
    rules: list[RuleWrite] = []
    new: set[str] = set()
    for site in sites:
        old = await _stored(desk.stored.sites, site.tenant)
        merged, found = _merged(site.stored, old.site if old else None, desk.secrets, prune=prune)
        if old is None:
            new.add(site.tenant)
        if any(change.sign != "=" for change in found):
            documents.append(
                SiteDocument(
                    key=site.tenant,
                    tenant=site.tenant,
                    version=old.version if old else 0,
                    site=merged,
                    changed_at=desk.clock.now(),
                    changed_by=by,
                )
            )
        before = book.get(site.tenant, {})
        planned = await asyncio.to_thread(_rules, site, before.values(), desk, by=by, prune=prune)
        if faults := await asyncio.to_thread(_faults, merged, before.values(), planned):
            raise BadSetting(
                f"tenant {site.tenant}, with what stays of it: {'; '.join(faults)}; "
                "--prune removes what stays"
            )
        changes += [*found, *planned.changes]
        rules += planned.writes
    return Plan(changes, documents, frozenset(new), rules, seen)


async def carry_out(wanted: Plan, desk: RuleDesk) -> None:
    """Raises: Conflict when somebody else changed a tenant meanwhile; what was before it is done."""
    await desk.book.refresh()
    for tenant in sorted(wanted.tenants):
        if desk.book.numbers(tenant) != wanted.seen[tenant]:
            raise _changed(tenant)
    await store_sites(wanted.documents, wanted.new, desk.stored.sites, clock=desk.clock)
    seen = {tenant: dict(numbers) for tenant, numbers in wanted.seen.items()}
    # What is put comes before what goes, so that no number is without a rule for a moment.
    for write in sorted(wanted.rules, key=lambda w: w.new.deleted):
        tenant = write.new.tenant
        if await desk.commit(write, seen[tenant]) is None:
            raise _changed(tenant)
        seen[tenant][write.new.name] = write.new.number


def _changed(tenant: str) -> Conflict:
    return Conflict(f"tenant {tenant}: somebody else changed a rule meanwhile; apply again")


async def store_sites(
    documents: Iterable[SiteDocument],
    new: frozenset[str],
    stored: Collection[SiteDocument],
    *,
    clock: Clock,
) -> None:
    """*new* are keys of those that are not there yet. Raises: Conflict."""
    newest = (await stored.page(Find(order_by="changed_at", descending=True, limit=1))).documents
    last = newest[0].changed_at if newest else None
    for document in documents:
        at = to_instant(clock.now())
        if last is not None and at <= last:
            # Readers look for the newest change: each has a moment of its own.
            at = last + timedelta(milliseconds=1)
        last = at
        stamped = document.model_copy(update={"changed_at": at})
        if document.key in new:
            await stored.add(stamped)
        else:
            await stored.replace(stamped)


async def _stored(stored: Collection[SiteDocument], tenant: str) -> SiteDocument | None:
    try:
        return await stored.get(tenant)
    except NotFound:
        return None


def _merged(
    new: Site, old: Site | None, secrets: SecretBox, *, prune: bool
) -> tuple[Site, list[Change]]:
    changes: list[Change] = []
    if old is None:
        changes.append(Change("+", new.tenant, f"tenant {new.title or new.tenant}"))
    else:
        changes += [
            Change("~", new.tenant, name)
            for name in ("title", "region", "zone", "dialing")
            if getattr(new, name) != getattr(old, name)
        ]
    lists: dict[str, tuple[Any, ...]] = {}
    for part, key in _LISTS.items():
        before = {getattr(item, key): item for item in getattr(old, part, ())}
        items: list[Any] = []
        for item in getattr(new, part):
            name = getattr(item, key)
            known = before.pop(name, None)
            kept = with_old_seals(item, known, secrets) if known is not None else item
            items.append(kept)
            if known is None:
                changes.append(Change("+", new.tenant, f"{part} {name}"))
            elif kept != known:
                fields = ", ".join(_differing(kept, known))
                changes.append(Change("~", new.tenant, f"{part} {name}: {fields}"))
        for name, item in before.items():
            changes.append(Change("-" if prune else "=", new.tenant, f"{part} {name}"))
            if not prune:
                items.append(item)
        lists[part] = tuple(items)
    return new.model_copy(update=lists), changes


@dataclass(frozen=True, slots=True)
class _Planned:
    changes: Sequence[Change]
    writes: Sequence[RuleWrite]
    #: What *writes* put, as it is then.
    put: Sequence[RoutingRule]
    gone: frozenset[str]


def _rules(
    site: WholeSite, stored: Iterable[RuleDocument], desk: RuleDesk, *, by: str, prune: bool
) -> _Planned:
    tenant = site.tenant
    before = {document.name: document for document in stored}
    changes: list[Change] = []
    writes: list[RuleWrite] = []
    put: list[RoutingRule] = []
    for rule in site.rules:
        known = before.pop(rule.name, None)
        kept = desk.as_kept(rule, known)
        if kept is None:
            continue
        put.append(kept)
        if known is None:
            changes.append(Change("+", tenant, f"rules {rule.name}"))
        else:
            changes.append(Change("~", tenant, f"rules {rule.name}: {_rule_changes(kept, known)}"))
        writes.append(
            RuleWrite.of(
                kept,
                known or desk.book.last(tenant, rule.name),
                tenant=tenant,
                by=by,
                what="changed" if known else "created",
            )
        )
    for name, document in before.items():
        changes.append(Change("-" if prune else "=", tenant, f"rules {name}"))
        if prune:
            writes.append(RuleWrite.deletion(document, by=by))
    return _Planned(changes, writes, put, frozenset(before if prune else ()))


def _faults(merged: Site, stored: Iterable[RuleDocument], planned: _Planned) -> list[str]:
    """
    What the plan would break. A rule that stays has what it needs: of the rest nothing goes without
    *prune*, and with it the rules go that the file does not have, which has all that its own need.
    """
    staying = [document for document in stored if document.name not in planned.gone]
    return [
        *(what for _, what in merged.faults()),
        *map(_named(planned.put), rule_faults(merged, planned.put, staying)),
    ]


def _differing(new: BaseModel, old: BaseModel) -> list[str]:
    return [
        name for name in type(new).model_fields if getattr(new, name) != getattr(old, name, None)
    ]


def _named(rules: Sequence[RoutingRule]) -> Callable[[Fault], str]:
    """Faults of *rules* in words, with their names."""

    def named(fault: Fault) -> str:
        (part, *rest), what = fault
        name = [rules[place].name for place in rest[:1] if isinstance(place, int)]
        return in_words([((part, *name, *rest[1:]), what)])

    return named


def _rule_changes(new: RoutingRule, stored: RuleDocument) -> str:
    """``default, rows (2 changed, 1 new)``."""
    try:
        old = stored.read()
    except ContractError:
        return "all"  # by another version of the program
    return ", ".join(
        f"rows ({_row_changes(new.rows, old.rows)})" if name == "rows" else name
        for name in _differing(new, old)
    )


def _row_changes(new: Sequence[Row], old: Sequence[Row]) -> str:
    """``2 changed, 1 new``: between the first and the last that are another."""
    shorter = min(len(new), len(old))
    head = next((n for n in range(shorter) if new[n] != old[n]), shorter)
    tail = next((n for n in range(shorter - head) if new[-1 - n] != old[-1 - n]), shorter - head)
    left = shorter - head - tail
    counts = {"changed": left, "new": len(new) - shorter, "gone": len(old) - shorter}
    return ", ".join(f"{count} {word}" for word, count in counts.items() if count)
