from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from shared.clock import ManualClock
from shared.contracts.contacts import CrmUser
from shared.crm.users import USERS, Directory, Seat, Unmatched, UserBook, matched, unmatched
from shared.sqlite import SqliteFile
from shared.storage.sqlite import SqliteStore

ANN = CrmUser(user_id="ann", display_name="Ann", email="Ann@acme.example", extension="101")
BEN = CrmUser(user_id="ben", display_name="Ben", email="ben@acme.example")
ANNS_TWIN = CrmUser(user_id="twin", display_name="Ann", email="ann@ACME.example ")
NEIGHBOUR = CrmUser(user_id="neighbour", display_name="Eve", extension="101")


@pytest.mark.parametrize(
    ("seat", "user"),
    [
        (Seat(extension="101", user_id="boss", email="ben@acme.example"), "boss"),
        (Seat(extension="101", email=" BEN@acme.EXAMPLE"), "ben"),
        (Seat(extension="101"), "ann"),
        (Seat(extension="101", email="nobody@acme.example"), "ann"),
    ],
    ids=["the site's word", "e-mail before extension", "extension", "an e-mail of nobody"],
)
def test_a_seat_has_a_user(seat: Seat, user: str) -> None:
    assert Directory([ANN, BEN]).match(seat) == user


def test_users_without_an_e_mail_are_not_those_of_agents_without_one() -> None:
    nameless = CrmUser(user_id="x", display_name="X", email="")

    for email in (None, " "):
        found = Directory([nameless]).match(Seat(extension="102", email=email))
        assert isinstance(found, Unmatched)


@pytest.mark.parametrize(
    ("seat", "what"),
    [
        (Seat(extension="101", email="ann@acme.example"), "e-mail"),
        (Seat(extension="101"), "extension"),
    ],
)
def test_of_two_users_none_is_guessed(seat: Seat, what: str) -> None:
    found = Directory([ANN, ANNS_TWIN, NEIGHBOUR]).match(seat)

    assert isinstance(found, Unmatched)
    assert what in found.reason
    assert "ann" in found.reason


def test_of_many_users_that_are_alike_some_are_named() -> None:
    alike = [ANN.model_copy(update={"user_id": f"u{n}"}) for n in range(9)]

    found = Directory(alike).match(Seat(extension="101"))

    assert isinstance(found, Unmatched)
    assert "the users u0, u1, u2, u3, u4, … have" in found.reason


def test_users_are_told_with_the_phones_that_are_theirs() -> None:
    seats = [
        Seat(extension="201", email="ann@acme.example"),
        Seat(extension="202", user_id="ann"),
        Seat(extension="203"),
    ]

    assert [(u.user_id, u.extension) for u in matched([ANN, BEN], seats)] == [
        ("ann", "201"),
        ("ben", None),
    ]


def test_agents_without_a_user_are_told_with_the_reason() -> None:
    seats = [
        Seat(extension="101"),
        Seat(extension="102"),
        Seat(extension="103", user_id="left"),
        Seat(extension="104", email="ann@acme.example"),
    ]
    found = {one.extension: one.reason for one in unmatched([ANN, ANNS_TWIN], seats)}

    assert set(found) == {"102", "103", "104"}
    assert "no user" in found["102"]
    assert "left" in found["103"]
    assert "ann, twin" in found["104"]


def test_a_crm_without_a_list_of_users_has_whom_the_site_names() -> None:
    assert not unmatched([], [Seat(extension="101", user_id="ann")])


@pytest.fixture
async def book(clock: ManualClock) -> AsyncIterator[UserBook]:
    db = SqliteFile(None)
    await db.open()
    yield UserBook(SqliteStore(db, clock).collection(USERS), clock)
    await db.close()


async def test_the_owner_is_found_among_the_users_last_read(book: UserBook) -> None:
    seat = Seat(extension="7", email="ben@acme.example")
    assert await book.owner_of("acme", "zoho", seat) is None
    await book.keep("acme", "zoho", (ANN, BEN))

    assert await book.owner_of("acme", "zoho", seat) == "ben"
    assert await book.owner_of("acme", "hubspot", seat) is None
    assert await book.owner_of("globex", "zoho", seat) is None


async def test_when_the_users_were_read_is_known(book: UserBook, clock: ManualClock) -> None:
    assert await book.synced_at("acme", "zoho") is None
    await book.keep("acme", "zoho", (ANN,))

    assert await book.synced_at("acme", "zoho") == clock.now()


async def test_whom_the_site_names_needs_no_store(clock: ManualClock) -> None:
    away = UserBook(SqliteStore(SqliteFile(None), clock).collection(USERS), clock)

    assert await away.owner_of("acme", "zoho", Seat(extension="7", user_id="u7")) == "u7"
