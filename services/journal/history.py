"""What is asked about many calls: rows and whole calls that pass a filter, and how many they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self, TypeVar

from services.journal.questions import START, Question, path, question_of
from services.journal.rows import row_of
from services.journal.scanning import Scan, place_in
from services.journal.store import CALLS, CallDocument
from shared.contracts.calls import CallPage
from shared.contracts.history import (
    COLUMNS,
    CallCount,
    CallRow,
    CallRows,
    CountCalls,
    FindCalls,
    SearchCalls,
)
from shared.moments import Instant
from shared.storage.port import (
    Collection,
    CollectionSpec,
    Document,
    DocumentStore,
    Find,
    Page,
    change,
    every,
)

D = TypeVar("D", bound=Document)


class RowDocument(Document):
    """A call's document as far as its row needs it: its events and its record are far more."""

    started_at: Instant
    row: CallRow | None = None


#: The same collection as CALLS.
ROWS: CollectionSpec[RowDocument] = CollectionSpec(
    name=CALLS.name, model=RowDocument, indexes=CALLS.indexes
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listing:
    sort: str = START
    descending: bool = True
    limit: int
    cursor: str | None


class CallHistory:
    """*region* is that of the tenant, in which national numbers are read."""

    def __init__(self, rows: Collection[RowDocument], calls: Collection[CallDocument]) -> None:
        self._rows = rows
        self._calls = calls

    @classmethod
    def at(cls, store: DocumentStore) -> Self:
        return cls(store.collection(ROWS), store.collection(CALLS))

    async def search(self, tenant: str, asked: SearchCalls, *, region: str | None) -> CallRows:
        """Raises: ContractError for a cursor that is none, and for more than can be sorted."""
        listing = _Listing(
            sort=path(asked.sort),
            descending=asked.descending,
            limit=asked.limit,
            cursor=asked.cursor,
        )
        page = await _page(self._rows, tenant, question_of(asked.which, region), listing)
        names = asked.fields or tuple(COLUMNS.by_name)
        rows = [await self._row(document) for document in page.documents]
        dumped = [row.model_dump(mode="json", include=set(names)) for row in rows]
        return CallRows(
            rows=tuple({name: row[name] for name in names} for row in dumped),
            next_cursor=page.next_cursor,
        )

    async def find(self, tenant: str, asked: FindCalls, *, region: str | None) -> CallPage:
        """Raises: ContractError for a cursor that is none."""
        listing = _Listing(limit=asked.limit, cursor=asked.cursor)
        page = await _page(self._calls, tenant, question_of(asked.which, region), listing)
        return CallPage(
            calls=tuple(document.record for document in page.documents),
            next_cursor=page.next_cursor,
        )

    async def count(self, tenant: str, asked: CountCalls, *, region: str | None) -> CallCount:
        """Raises: ContractError for more calls than can be looked at in time."""
        question = question_of(asked.which, region)
        if question.is_quick:
            return CallCount(count=await self._rows.count(_find(tenant, question)))
        return CallCount(count=await _scan(self._rows, tenant, question).count())

    async def refresh(self, tenant: str) -> int:
        """Make rows as this version does, where they are others; how many were."""
        changed = 0
        async for call in every(self._calls, Find(equals={"tenant": tenant})):

            def with_row(found: CallDocument | None) -> CallDocument | None:
                if found is None:
                    return None
                row = row_of(found.record, started_at=found.started_at)
                return found.model_copy(update={"row": row}) if row != found.row else None

            if with_row(call) is not None:
                await change(self._calls, call.key, with_row)
                changed += 1
        return changed

    async def _row(self, document: RowDocument) -> CallRow:
        if document.row is not None:
            return document.row
        call = await self._calls.get(document.key)
        return row_of(call.record, started_at=call.started_at)


async def _page(
    calls: Collection[D], tenant: str, question: Question, listing: _Listing
) -> Page[D]:
    if listing.sort == START and listing.cursor is not None:
        place_in(listing.cursor)
    if question.is_quick and (listing.sort == START or question.tests):
        return await calls.page(_find(tenant, question, listing))
    scan = _scan(calls, tenant, question)
    if listing.sort == START:
        return await scan.by_start(
            descending=listing.descending, limit=listing.limit, cursor=listing.cursor
        )
    return await scan.by(
        listing.sort,
        descending=listing.descending,
        limit=listing.limit,
        cursor=listing.cursor,
    )


def _find(tenant: str, question: Question, listing: _Listing | None = None) -> Find:
    since = {START: question.since} if question.since else {}
    until = {START: question.until} if question.until else {}
    found = Find(equals={"tenant": tenant}, since=since, until=until, where=question.where)
    if listing is None:
        return found
    return replace(
        found,
        order_by=listing.sort,
        descending=listing.descending,
        limit=listing.limit,
        cursor=listing.cursor,
    )


def _scan(calls: Collection[D], tenant: str, question: Question) -> Scan[D]:
    return Scan(
        calls=calls,
        tenant=tenant,
        where=question.where,
        since=question.since,
        until=question.until,
    )
