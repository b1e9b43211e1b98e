"""Changing stored rules: the one place that writes them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Self

from shared.clock import Clock
from shared.crm.registry import Templates
from shared.errors import Conflict, ContractError, NotFound, PermanentError
from shared.moments import to_instant
from shared.secrets import SecretBox
from shared.site.documents import (
    RuleDocument,
    RuleSource,
    RuleVersion,
    Stored,
    rule_of,
    says_same,
    source_of,
)
from shared.site.drafts import check_rule
from shared.site.rulebook import RuleBook, key_of, serial_text
from shared.site.rules.checks import Outline, Thing, outline_of
from shared.site.rules.rule import RoutingRule
from shared.site.ruleturns import Turns
from shared.site.seals import with_current_seals, with_old_seals
from shared.storage.port import DocumentStore, Find

#: Versions of a rule that are kept.
MOST_VERSIONS = 100
#: Looks at what others of the tenant changed meanwhile.
_TRIES = 20
#: Rules of every tenant are written one after the other; so often a turn is asked for.
_ASKED = 200
_POLL = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class RuleWrite:
    """*new* gets its serial and its moment when it is written; *old* is what it takes the place of."""

    new: RuleDocument
    old: RuleDocument | None

    @classmethod
    def of(
        cls, rule: RoutingRule, old: RuleDocument | None, *, tenant: str, by: str, what: str
    ) -> Self:
        """A second for a hundred thousand rows. Raises: ContractError for a rule too large."""
        outline, source = outline_of(rule), source_of(rule)
        return cls(_document(outline, source, old, tenant=tenant, by=by, what=what), old)

    @classmethod
    def deletion(cls, old: RuleDocument, *, by: str) -> Self:
        gone = Outline(name=old.name)
        return cls(_document(gone, "", old, tenant=old.tenant, by=by, what="deleted"), old)


class RuleDesk:
    """
    Rules of every tenant, put, deleted and rolled back. *by* is who does it; *expected* the number
    that the rule has to have, 0 where there is to be none: else it is a Conflict.

    A rule is checked against all others of the *book*, and written in a turn of its own, while
    those of its tenant are as they were checked; else the check is made again. So two rules cannot
    take one DID, nor lead to each other, because they were changed at the same moment.
    """

    def __init__(
        self,
        stored: Stored,
        book: RuleBook,
        *,
        secrets: SecretBox,
        clock: Clock,
        templates: Templates,
    ) -> None:
        self.stored = stored
        self.book = book
        self.secrets = secrets
        self.clock = clock
        self.templates = templates
        self._turns = Turns(stored.turns, clock)

    @classmethod
    def at(cls, store: DocumentStore, *, secrets: SecretBox, clock: Clock) -> Self:
        """With a book of its own, and the templates that ship."""
        stored = Stored.in_store(store)
        book = RuleBook(stored.rules, clock, poll=_POLL)
        return cls(stored, book, secrets=secrets, clock=clock, templates=Templates())

    async def put_rule(
        self, tenant: str, rule: RoutingRule, *, by: str, expected: int | None = None
    ) -> RuleDocument:
        """
        The rule as it is then; nothing is written where it is the same already.

        Raises: NotFound without a tenant; Conflict; ContractError for a rule that does not fit the
        site or the other rules, with ``details["faults"]``: as of :func:`rule_faults`.
        """
        return await self._put(tenant, rule, by=by, expected=expected, what=None)

    async def delete_rule(
        self, tenant: str, name: str, *, by: str, expected: int | None = None
    ) -> RuleDocument:
        """Its last version. Raises: NotFound; Conflict, also while other rules lead to it."""
        for _ in range(_TRIES):
            await self.book.refresh()
            seen, others = self.book.numbers(tenant), self.book.of(tenant)
            old = others.get(name)
            if old is None:
                raise NotFound(f"There is no rule {name}.")
            _check(old, expected)
            if leading := [other.name for other in others.values() if _leads(other, name)]:
                raise Conflict(f"Rules lead to {name}: {', '.join(leading[:20])}.")
            if await self.commit(RuleWrite.deletion(old, by=by), seen):
                return old
        raise _too_many(name)

    async def roll_back(
        self, tenant: str, name: str, number: int, *, by: str, expected: int | None = None
    ) -> RuleDocument:
        """
        The rule as it was, as a new version; also of one that was deleted. What it needs has to be
        there still.

        Raises: as :meth:`put_rule`; NotFound for a version that is not kept, ContractError for a
        deletion.
        """
        _, source = await self.version(tenant, name, number)
        if not source:
            raise ContractError(f"version {number} of {name} is its deletion; delete it instead")
        rule = await asyncio.to_thread(rule_of, source, name=name)
        what = f"rolled back to {number}"
        return await self._put(tenant, rule, by=by, expected=expected, what=what)

    async def versions(self, tenant: str, name: str) -> list[RuleVersion]:
        """The newest first, up to :data:`MOST_VERSIONS`. Raises: NotFound for what never was."""
        await self.book.refresh()
        last = self.book.last(tenant, name)
        if last is None:
            raise NotFound(f"There is no rule {name}.")
        page = await self.stored.versions.page(
            Find(
                equals={"tenant": tenant, "name": name},
                # The last one's own copy may be there: its replacement did not come about.
                until={"number": last.number},
                order_by="number",
                descending=True,
                limit=MOST_VERSIONS - 1,
            )
        )
        return [_version(last), *page.documents]

    async def version(self, tenant: str, name: str, number: int) -> tuple[RuleVersion, str]:
        """With its JSON, empty for a deletion. Raises: NotFound."""
        await self.book.refresh()
        last = self.book.last(tenant, name)
        if last is not None and last.number == number:
            return _version(last), last.source
        key = f"{key_of(tenant, name)}/{number}"
        try:
            return await self.stored.versions.get(key), (await self.stored.sources.get(key)).source
        except NotFound:
            raise NotFound(
                f"There is no version {number} of a rule {name}; the newest {MOST_VERSIONS} are kept."
            ) from None

    async def commit(self, wanted: RuleWrite, seen: Mapping[str, int]) -> RuleDocument | None:
        """
        Without any check but this: None, and nothing is written, when the tenant's rules are not
        as *seen*, :meth:`RuleBook.numbers` when they were checked.

        Raises: Conflict when there is no turn to be had.
        """
        # What is replaced is kept first. A crash between the two leaves a copy of the version that
        # still is the rule's, which the next writer writes again; the other way round a version
        # would be lost.
        if wanted.old is not None:
            await self._keep(wanted.old)
        for _ in range(_ASKED):
            await self.book.refresh()
            if self.book.numbers(wanted.new.tenant) != seen:
                return None
            serial = await self._turns.after(self.book.serial)
            if serial is not None:
                try:
                    new = await self._write(wanted, serial)
                except PermanentError as error:
                    await self._turns.give_back(serial)
                    if isinstance(error, Conflict | NotFound):
                        return None  # by somebody who took no turn
                    raise
                await self.book.refresh()
                return new
        raise _too_many(wanted.new.name)

    async def _write(self, wanted: RuleWrite, serial: int) -> RuleDocument:
        """Raises: Conflict, NotFound when the rule is not the old one; ContractError."""
        new = wanted.new.model_copy(
            update={"serial": serial_text(serial), "changed_at": to_instant(self.clock.now())}
        )
        if wanted.old is None:
            await self.stored.rules.add(new)
        else:
            new = await self.stored.rules.replace(new)
        forgotten = f"{new.key}/{new.number - MOST_VERSIONS}"
        await self.stored.versions.delete(forgotten)
        await self.stored.sources.delete(forgotten)
        return new

    async def _put(
        self, tenant: str, rule: RoutingRule, *, by: str, expected: int | None, what: str | None
    ) -> RuleDocument:
        for _ in range(_TRIES):
            try:
                site = (await self.stored.sites.get(tenant)).site
            except NotFound:
                raise NotFound(f"There is no tenant {tenant}.") from None
            await self.book.refresh()
            seen, others = self.book.numbers(tenant), self.book.of(tenant)
            old = self.book.last(tenant, rule.name)
            _check(old, expected)
            kept = await asyncio.to_thread(self.as_kept, rule, old)
            if kept is None and old is not None:
                return old
            await asyncio.to_thread(check_rule, kept or rule, site, others.values(), self.templates)
            word = what or ("changed" if rule.name in others else "created")
            write = await asyncio.to_thread(
                RuleWrite.of, kept or rule, old, tenant=tenant, by=by, what=word
            )
            if done := await self.commit(write, seen):
                return done
        raise _too_many(rule.name)

    def as_kept(self, rule: RoutingRule, old: RuleDocument | None) -> RoutingRule | None:
        """
        *rule* with the seals that secrets have already, where the first key made them; None where
        it is no change.

        Raises: BadSetting when a secret cannot be opened, ContractError for a rule too large.
        """
        if rule.credentials or rule.custom is not None:
            rule = with_current_seals(rule, self.secrets)
            if old is not None and not old.deleted:
                # One that cannot be read has no seals to keep, and is to be mended by this.
                with suppress(ContractError):
                    rule = with_old_seals(rule, old.read(), self.secrets)
        return None if old is not None and says_same(source_of(rule), old.source) else rule

    async def _keep(self, old: RuleDocument) -> None:
        version = _version(old)
        # The text first: a version that is listed can be read.
        await self.stored.sources.put(
            RuleSource(key=version.key, tenant=old.tenant, source=old.source)
        )
        await self.stored.versions.put(version)


def _document(
    outline: Outline, source: str, old: RuleDocument | None, *, tenant: str, by: str, what: str
) -> RuleDocument:
    return RuleDocument.model_construct(
        **{name: getattr(outline, name) for name in Outline.model_fields},
        key=key_of(tenant, outline.name),
        tenant=tenant,
        version=old.version if old else 0,
        number=old.number + 1 if old else 1,
        source=source,
        deleted=not source,
        what=what,
        changed_by=by,
    )


def _version(of: RuleDocument) -> RuleVersion:
    return RuleVersion(
        key=f"{of.key}/{of.number}",
        tenant=of.tenant,
        name=of.name,
        number=of.number,
        deleted=of.deleted,
        what=of.what,
        changed_at=of.changed_at,
        changed_by=of.changed_by,
        rows=of.rows,
    )


def _check(old: RuleDocument | None, expected: int | None) -> None:
    """Raises: Conflict."""
    number = 0 if old is None or old.deleted else old.number
    if expected is not None and expected != number:
        there = f"it is at version {number}" if number else "it is not there"
        raise Conflict(f"The rule is not at version {expected}: {there}. Look at it again.")


def _leads(outline: Outline, to: str) -> bool:
    return outline.name != to and any(need.name == to for need in outline.needed(Thing.RULE))


def _too_many(name: str) -> Conflict:
    return Conflict(f"rules are being changed by others; {name} is as it was, try again")
