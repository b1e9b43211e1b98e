"""Entries of calls: written, found again after a lost answer, changed when more is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

import structlog

from shared.contracts.contacts import ContactCard
from shared.crm.engine.asking import CrmRequests
from shared.crm.engine.cards import card_variables
from shared.crm.engine.entries import entry_variables
from shared.crm.engine.orders import Reply
from shared.crm.engine.pages import records_of, refuse_without_list
from shared.crm.engine.together import Part
from shared.crm.form.contacts import ContactType
from shared.crm.form.journal import Batch, Journal, NeedsContact
from shared.crm.form.manifest import Event, Manifest
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import at_path, of_record
from shared.crm.port import JournalEntry, Priority
from shared.errors import ContractError, MeshError, NotFound, PermanentError, Rejected, Unavailable

log = structlog.get_logger(__name__)

_LONGEST_ID = 1000
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})


def id_of_new(
    requests: CrmRequests, value: Any, path: str, variables: Mapping[str, Any]
) -> str | None:
    """Of a new record; no object is one."""
    found = requests.at(value, path, variables)
    return None if isinstance(found, Mapping) else plain_text(found)[:_LONGEST_ID] or None


@dataclass(frozen=True, slots=True)
class _Ready:
    """A new entry, and what its request may use."""

    entry: JournalEntry
    variables: Mapping[str, Any]


class Journaling:
    """JournalsCalls by the ``journal`` of a manifest."""

    def __init__(self, manifest: Manifest, requests: CrmRequests) -> None:
        self._manifest = manifest
        self._requests = requests

    @property
    def settle(self) -> timedelta:
        journal = self._manifest.journal
        return journal.find.settle if journal and journal.find else timedelta(0)

    @property
    def can_update(self) -> bool:
        journal = self._manifest.journal
        return journal is not None and journal.update is not None

    @property
    def batch(self) -> int:
        journal = self._manifest.journal
        return journal.batch.at_most if journal is not None and journal.batch is not None else 1

    async def write(self, entry: JournalEntry, *, within: timedelta) -> str:
        journal = self._journal()
        ready = await self._ready(journal, entry, within)
        reply = await self._requests.ask(
            journal.create,
            ready.variables,
            within=within,
            priority=Priority.JOURNAL,
            merge=self._link(entry.contact, journal.record),
        )
        if reply is None:
            raise Rejected("the template makes no request for this call")
        return await self._written(journal, ready, reply, within)

    async def write_together(
        self, entries: Sequence[JournalEntry], *, within: timedelta
    ) -> list[str | MeshError]:
        """As ``write_entries`` of the port; *within* is for each request that goes out."""
        if len(entries) > self.batch:
            raise ValueError(f"{len(entries)} entries; one request takes {self.batch}")
        journal = self._journal()
        if journal.batch is None or len(entries) < 2:  # noqa: PLR2004  one is no batch
            return [await self._alone(entry, within) for entry in entries]
        found: dict[int, str | MeshError] = {}
        ready: dict[int, _Ready] = {}
        for place, entry in enumerate(entries):
            try:
                ready[place] = await self._ready(journal, entry, within)
            except PermanentError as error:
                found[place] = error
        replies = await self._together(journal, journal.batch, [*ready.values()], within)
        for (place, one), reply in zip(ready.items(), replies, strict=True):
            found[place] = await self._one_of_them(journal, one, reply, within)
        return [found[place] for place in range(len(entries))]

    async def update(self, entry_id: str, entry: JournalEntry, *, within: timedelta) -> bool:
        journal = self._journal()
        update = journal.update
        if update is None:
            return False
        variables = await self._before(journal, entry, {"EntryId": entry_id}, within)
        try:
            reply = await self._requests.ask(
                update,
                variables,
                within=within,
                priority=Priority.JOURNAL,
                merge=None if update.record is None else self._link(entry.contact, update.record),
            )
        except Rejected as error:
            if error.details.get("status") in _GONE:
                raise NotFound(f"the entry is not there any more: {error.message}") from error
            raise
        if reply is None:
            return False
        if not reply.blank:
            self._check_accepted(journal, reply, variables)
        try:
            await self._requests.run(
                update.after, variables, within=within, priority=Priority.JOURNAL
            )
        except PermanentError as error:
            # The entry says what it shall; a link that is refused would be refused again.
            log.warning("entry_not_completed", error=error.message)
        return True

    async def find(self, entry: JournalEntry, *, within: timedelta) -> str | None:
        journal = self._journal()
        if journal.find is None:
            return None
        variables = await self._variables(journal, entry, within)
        find = journal.find
        path = self._requests.path(find.entry_id, variables)
        if find.pages is None:
            reply = await self._requests.ask(
                find.request, variables, within=within, priority=Priority.JOURNAL, searching=True
            )
            if reply is None or reply.nothing:
                return None
            found = plain_text(at_path(reply.value, path))
            if not found:
                # "Not there" has it written again: no page of a proxy, no error may say so.
                refuse_without_list(reply.value, path)
            return found or None
        async for record in records_of(
            self._requests,
            find.request,
            find.pages,
            records="",
            variables=variables,
            within=within,
            priority=Priority.JOURNAL,
            to_the_end=True,
        ):
            if entry_id := plain_text(of_record(record, path)):
                return entry_id
            if not path.startswith("#"):
                # A page is an object with the list, and stands here as its one record.
                refuse_without_list(record, path)
        return None

    def _journal(self) -> Journal:
        if self._manifest.journal is None:
            raise Rejected(f"template {self._manifest.name} has no call journal")
        return self._manifest.journal

    async def _variables(
        self, journal: Journal, entry: JournalEntry, within: timedelta
    ) -> dict[str, Any]:
        await self._requests.ready(within=within)
        about = card_variables(entry.contact, self._type_of(entry.contact))
        return entry_variables(
            entry, journal, self._requests.scope, about, words=self._manifest.entry_words
        )

    async def _before(
        self, journal: Journal, entry: JournalEntry, more: Mapping[str, Any], within: timedelta
    ) -> dict[str, Any]:
        """What a request about the entry may use; ``before`` has been gone through."""
        known = await self._variables(journal, entry, within)
        return await self._requests.run(
            journal.before, {**known, **more}, within=within, priority=Priority.JOURNAL
        )

    async def _ready(self, journal: Journal, entry: JournalEntry, within: timedelta) -> _Ready:
        """Raises: MeshError."""
        if journal.contact is NeedsContact.YES and entry.contact is None:
            raise Rejected(
                f"{self._manifest.title} takes entries of known contacts only, and it does not "
                "know this caller"
            )
        return _Ready(entry, await self._before(journal, entry, {}, within))

    async def _written(
        self, journal: Journal, ready: _Ready, reply: Reply, within: timedelta
    ) -> str:
        """The id of the new entry, which is completed. Raises: Rejected, Unavailable."""
        variables = ready.variables
        self._check_accepted(journal, reply, variables)
        entry_id = id_of_new(self._requests, reply.value, journal.entry_id, variables)
        if entry_id is None and not journal.idempotent:
            raise reply.showing(Unavailable("the CRM took the entry and did not say its id"))
        entry_id = entry_id or ready.entry.reference
        taken = {
            name: self._requests.at(reply.value, path, variables)
            for name, path in journal.take.items()
        }
        await self._complete(journal, {**variables, **taken, "EntryId": entry_id}, within)
        return entry_id

    # -- several in one request ----------------------------------------------------------------

    async def _alone(self, entry: JournalEntry, within: timedelta) -> str | MeshError:
        try:
            return await self.write(entry, within=within)
        except PermanentError as error:
            return error

    async def _together(
        self, journal: Journal, batch: Batch, ready: Sequence[_Ready], within: timedelta
    ) -> Sequence[Reply | MeshError]:
        if not ready:
            return ()
        parts = [
            Part(one.variables, self._link(one.entry.contact, journal.record)) for one in ready
        ]
        try:
            return await self._requests.ask_together(
                journal.create, parts, batch, within=within, priority=Priority.JOURNAL
            )
        except ContractError as error:
            # One of them cannot be filled; which, shows when each goes alone.
            raise Rejected(error.message, **error.details) from error

    async def _one_of_them(
        self, journal: Journal, ready: _Ready, reply: Reply | MeshError, within: timedelta
    ) -> str | MeshError:
        if isinstance(reply, MeshError):
            return reply
        if journal.batch is not None and journal.batch.taken:
            # It was counted with the others: its reference is all that names it.
            reference = ready.entry.reference
            await self._complete(journal, {**ready.variables, "EntryId": reference}, within)
            return reference
        try:
            return await self._written(journal, ready, reply, within)
        except MeshError as error:
            return error

    # -- what both use -------------------------------------------------------------------------

    def _type_of(self, card: ContactCard | None) -> ContactType | None:
        return self._manifest.contacts.get(card.module) if card is not None else None

    def _link(self, card: ContactCard | None, record: str) -> tuple[str, Mapping[str, Any]] | None:
        """The contact's link, and where it goes."""
        contact = self._type_of(card)
        return (record, contact.journal) if contact and contact.journal else None

    def _check_accepted(self, journal: Journal, reply: Reply, variables: Mapping[str, Any]) -> None:
        if journal.accepted is None:
            return
        verdict = plain_text(self._requests.at(reply.value, journal.accepted, variables))
        if verdict not in journal.accepted_values:
            why = reply.said(verdict) or "it does not say why"
            raise reply.showing(Rejected(f"the CRM did not take the entry: {why}"))

    async def _complete(
        self, journal: Journal, variables: Mapping[str, Any], within: timedelta
    ) -> None:
        """The entry is there: what completes it is tried, and must not have it written again."""
        try:
            done = await self._requests.run(
                journal.after, variables, within=within, priority=Priority.JOURNAL
            )
        except MeshError as error:
            log.warning("entry_not_completed", error=error.message)
            return
        self._requests.follow(Event.JOURNAL, done)
