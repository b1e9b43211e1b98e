"""Making the store say what a site file says: what would change, and changing it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from pydantic import BaseModel

from shared.clock import Clock
from shared.errors import BadSetting, NotFound
from shared.moments import to_instant
from shared.secrets import PREFIX, SecretBox
from shared.site.documents import SiteDocument
from shared.site.models import Site
from shared.storage.port import Collection, Find

#: The lists of a site, and by which field their items are known.
_LISTS = {"pbx": "name", "crm": "name", "agents": "extension", "rules": "name"}


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
    new: frozenset[str]


async def plan(
    sites: Sequence[Site],
    stored: Collection[SiteDocument],
    *,
    secrets: SecretBox,
    clock: Clock,
    by: str,
    prune: bool,
) -> Plan:
    """
    What *sites* would change. Items that a file does not have stay, unless *prune*.

    Raises: BadSetting when a stored secret cannot be opened.
    """
    changes: list[Change] = []
    documents: list[SiteDocument] = []
    new: set[str] = set()
    for site in sites:
        old = await _stored(stored, site.tenant)
        merged, found = _merged(site, old.site if old else None, secrets, prune=prune)
        changes += found
        if any(change.sign != "=" for change in found):
            if faults := merged.faults():
                raise BadSetting(
                    f"tenant {site.tenant}, with what stays of it: "
                    f"{'; '.join(what for _, what in faults)}; --prune removes what stays"
                )
            if old is None:
                new.add(site.tenant)
            documents.append(
                SiteDocument(
                    key=site.tenant,
                    tenant=site.tenant,
                    version=old.version if old else 0,
                    site=merged,
                    changed_at=clock.now(),
                    changed_by=by,
                )
            )
    return Plan(changes, documents, frozenset(new))


async def carry_out(wanted: Plan, stored: Collection[SiteDocument], *, clock: Clock) -> None:
    """Raises: Conflict when somebody else changed a tenant meanwhile; those before it are done."""
    newest = (await stored.page(Find(order_by="changed_at", descending=True, limit=1))).documents
    last = newest[0].changed_at if newest else None
    for document in wanted.documents:
        at = to_instant(clock.now())
        if last is not None and at <= last:
            # Readers look for the newest change: each has a moment of its own.
            at = last + timedelta(milliseconds=1)
        last = at
        stamped = document.model_copy(update={"changed_at": at})
        if document.key in wanted.new:
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
            for name in ("title", "region", "zone")
            if getattr(new, name) != getattr(old, name)
        ]
    lists: dict[str, tuple[Any, ...]] = {}
    for part, key in _LISTS.items():
        before = {getattr(item, key): item for item in getattr(old, part, ())}
        items: list[Any] = []
        for item in getattr(new, part):
            name = getattr(item, key)
            known = before.pop(name, None)
            kept = _with_old_seals(item, known, secrets) if known is not None else item
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


def _with_old_seals(new: Any, old: Any, secrets: SecretBox) -> Any:
    """
    Sealing the same secret twice gives two texts; where it is the same, the old one stays, unless
    a key sealed it that is on its way out.
    """
    if isinstance(new, BaseModel) and type(new) is type(old):
        kept = {
            name: _with_old_seals(getattr(new, name), getattr(old, name), secrets)
            for name in type(new).model_fields
        }
        return new.model_copy(update=kept)
    if isinstance(new, dict) and isinstance(old, dict):
        return {name: _with_old_seals(v, old.get(name), secrets) for name, v in new.items()}
    if isinstance(new, str) and new.startswith(PREFIX) and isinstance(old, str):
        same = old.startswith(PREFIX) and secrets.open(new) == secrets.open(old)
        return old if same and secrets.is_current(old) else new
    return new


def _differing(new: BaseModel, old: BaseModel) -> list[str]:
    return [
        name for name in type(new).model_fields if getattr(new, name) != getattr(old, name, None)
    ]
