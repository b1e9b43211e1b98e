"""Several records have the number: which is it, and who decides. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from enum import StrEnum

from shared.contracts.contacts import ContactCard

_NEVER = datetime.min.replace(tzinfo=UTC)


class Choose(StrEnum):
    """Which of several records is the caller."""

    #: In the order of the contact types.
    FIRST = "first"
    #: The one that was changed last.
    RECENT = "recent"
    #: The one that belongs to the agent who takes the call.
    OWNER = "owner"
    #: Nobody but the agent says so.
    ASK = "ask"


def distinct(cards: Iterable[ContactCard]) -> tuple[ContactCard, ...]:
    """In their order; a record that two searches found is there once."""
    once: dict[tuple[str, str, str], ContactCard] = {}
    for card in cards:
        once.setdefault((card.connection, card.module, card.contact_id), card)
    return tuple(once.values())


def in_order(cards: Iterable[ContactCard], choose: Choose) -> tuple[ContactCard, ...]:
    """The likeliest first, as far as that is known without the agent."""
    found = distinct(cards)
    if choose is not Choose.RECENT:
        return found
    return tuple(sorted(found, key=lambda card: card.changed_at or _NEVER, reverse=True))


def is_ambiguous(cards: Sequence[ContactCard], choose: Choose) -> bool:
    """Whether a person has to say which of *cards* it is."""
    return choose is Choose.ASK and len(distinct(cards)) > 1


def chosen(
    cards: Iterable[ContactCard], choose: Choose, *, owner_id: str | None = None
) -> ContactCard | None:
    """*owner_id* is the agent's user; None where there is nobody, or nobody has chosen."""
    found = in_order(cards, choose)
    if not found or is_ambiguous(found, choose):
        return None
    if choose is Choose.OWNER and owner_id is not None:
        return next((card for card in found if card.owner_id == owner_id), found[0])
    return found[0]
