"""The entry of a call whose caller a person chose, whatever the connection would have chosen."""

from __future__ import annotations

import pytest

from shared.contracts.contacts import ContactResolved
from tests.contract.lookup_kit import JANE
from tests.contract.test_lookup_links import ANNS, BENS, OTHER, Journal, journal, resolved

__all__ = ["journal"]


@pytest.mark.parametrize("choose", ["first", "recent", "owner", "ask"])
async def test_an_entry_is_linked_to_whom_a_person_chose(
    journal: Journal,
    choose: str,
) -> None:
    await journal.apply(choose=choose)
    chosen = ContactResolved(
        call_id="c1",
        number=JANE,
        contact=BENS,
        candidates=(OTHER, BENS, ANNS),
        chosen_by="screen",
    )
    entry = await journal.entry_of("101", chosen, resolved(ambiguous=choose == "ask"))
    assert entry.contact == BENS
    assert journal.desk.crm.searches == []
