"""Which dials somebody asks for. Pure but for the asking."""

from __future__ import annotations

from collections.abc import Iterator

from services.dialer.store import DialBook
from shared.contracts.dialing import DialPage, DialState, ListDials
from shared.phone import number_to_dial, plain_number
from shared.storage.port import AllOf, Condition, Is, Op

_UNDER_WAY = tuple(state for state in DialState if not state.is_final)


async def list_dials(
    dials: DialBook, tenant: str, asked: ListDials, *, region: str | None
) -> DialPage:
    """Raises: ContractError for a cursor of another list."""
    where = AllOf(tuple(_tests(asked, region)))
    page = await dials.page(tenant, where, limit=asked.limit, cursor=asked.cursor)
    return DialPage(
        dials=tuple(document.record for document in page.documents),
        next_cursor=page.next_cursor,
    )


def _tests(asked: ListDials, region: str | None) -> Iterator[Condition]:
    for field, value in (
        ("record.extension", asked.extension),
        ("record.requested_by", asked.requested_by),
        ("record.campaign", asked.campaign),
        ("record.shop", asked.shop),
    ):
        if value is not None:
            yield Is(field, Op.EQ, value)
    if asked.states:
        yield Is("record.state", Op.IN, asked.states)
    if asked.under_way is not None:
        yield Is("record.state", Op.IN if asked.under_way else Op.NOT_IN, _UNDER_WAY)
    if asked.number is not None:
        yield Is("record.number", Op.IN, _spelt(asked.number, region))
    if asked.since is not None:
        yield Is("record.requested_at", Op.GE, asked.since)
    if asked.until is not None:
        yield Is("record.requested_at", Op.LT, asked.until)
    if asked.dial_ids is not None:
        yield Is("dial_id", Op.IN, asked.dial_ids)


def _spelt(number: str, region: str | None) -> tuple[str, ...]:
    """As it is kept: a phone inside as it is, a number outside in E.164."""
    plain = plain_number(number) or number
    return (plain, number_to_dial(plain, region) or plain)
