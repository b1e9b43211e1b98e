from __future__ import annotations

from datetime import timedelta

import pytest

from shared.contracts.contacts import ContactCard
from shared.crm.candidates import Choose, chosen, distinct, in_order, is_ambiguous
from shared.testing.builders import NOON, a_contact

DAY = timedelta(days=1)
OLD = a_contact(contact_id="old", changed_at=NOON - DAY, owner_id="u1")
NEW = a_contact(contact_id="new", changed_at=NOON, owner_id="u2")
UNDATED = a_contact(contact_id="undated", module="Leads", owner_id="u2")
ALL = (UNDATED, OLD, NEW)


def ids(cards: tuple[ContactCard, ...]) -> list[str]:
    return [card.contact_id for card in cards]


def test_a_record_is_the_same_by_connection_module_and_id() -> None:
    twice = OLD.model_copy(update={"display_name": "by another search"})
    lead = OLD.model_copy(update={"module": "Leads"})
    other = OLD.model_copy(update={"connection": "hubspot"})

    assert distinct((OLD, twice, lead, other)) == (OLD, lead, other)


@pytest.mark.parametrize("choose", [Choose.FIRST, Choose.OWNER, Choose.ASK])
def test_the_order_is_that_of_the_modules(choose: Choose) -> None:
    assert in_order(ALL, choose) == ALL


def test_what_was_changed_last_comes_first_and_what_nobody_knows_of_last() -> None:
    assert ids(in_order(ALL, Choose.RECENT)) == ["new", "old", "undated"]


def test_of_equals_the_order_of_the_modules_holds() -> None:
    same = NEW.model_copy(update={"contact_id": "same"})

    assert ids(in_order((NEW, same), Choose.RECENT)) == ["new", "same"]
    assert ids(in_order((same, NEW), Choose.RECENT)) == ["same", "new"]


@pytest.mark.parametrize(
    ("choose", "owner_id", "expected"),
    [
        (Choose.FIRST, "u1", "undated"),
        (Choose.RECENT, "u1", "new"),
        (Choose.OWNER, "u1", "old"),
        # Of two that are his the first; of none, and of nobody's, the first of all.
        (Choose.OWNER, "u2", "undated"),
        (Choose.OWNER, "u9", "undated"),
        (Choose.OWNER, None, "undated"),
    ],
)
def test_one_is_chosen(choose: Choose, owner_id: str | None, expected: str) -> None:
    found = chosen(ALL, choose, owner_id=owner_id)

    assert found is not None
    assert found.contact_id == expected


def test_a_record_that_nobody_owns_is_not_that_of_an_agent_without_a_user() -> None:
    free = a_contact(contact_id="free", owner_id=None)

    assert chosen((OLD, free), Choose.OWNER, owner_id=None) == OLD


def test_only_an_agent_says_which_of_several_it_is() -> None:
    assert is_ambiguous(ALL, Choose.ASK)
    assert chosen(ALL, Choose.ASK, owner_id="u1") is None


@pytest.mark.parametrize("choose", list(Choose))
def test_one_alone_is_it_however_often_it_was_found(choose: Choose) -> None:
    assert chosen((OLD, OLD), choose) == OLD
    assert not is_ambiguous((OLD, OLD), choose)
    assert chosen((), choose) is None
