"""At which phone a user of the CRM sits."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.contacts import CrmUser
from shared.crm.users import Seat, matched, phones_of

IDS = st.sampled_from(["1", "2", "3", "4", "x"])
EMAILS = st.sampled_from([None, "", " ", "a@x.example", "A@X.example ", "b@x.example"])
EXTENSIONS = st.sampled_from(["101", "102", "103"])
USERS = st.lists(
    st.builds(
        CrmUser,
        user_id=IDS,
        display_name=st.just("N"),
        email=EMAILS,
        extension=st.none() | EXTENSIONS,
    ),
    max_size=6,
)
SEATS = st.lists(
    st.builds(Seat, extension=EXTENSIONS, user_id=st.none() | IDS, email=EMAILS), max_size=6
)
ANN = CrmUser(user_id="ann", display_name="Ann", email="ann@acme.example", extension="900")
BEN = CrmUser(user_id="ben", display_name="Ben", extension="102")


def test_by_the_sites_word_by_e_mail_by_extension() -> None:
    seats = [
        Seat(extension="101", email="Ann@acme.example"),
        Seat(extension="102"),
        Seat(extension="103", user_id="boss"),
    ]
    assert phones_of([ANN, BEN], seats) == {"ann": "101", "ben": "102", "boss": "103"}


def test_a_seat_of_somebody_else_is_not_taken_for_its_e_mail() -> None:
    seats = [Seat(extension="101", user_id="other", email="ann@acme.example")]
    assert phones_of([ANN], seats) == {"other": "101"}


def test_of_two_users_with_one_e_mail_neither_is_guessed() -> None:
    twin = ANN.model_copy(update={"user_id": "twin"})
    seats = [Seat(extension="101", email="ann@acme.example")]
    assert phones_of([ANN, twin], seats) == {}


def test_an_extension_counts_only_where_the_seats_e_mail_is_nobodys() -> None:
    eve = CrmUser(user_id="eve", display_name="Eve", email="eve@acme.example")
    seats = [Seat(extension="102", email="eve@acme.example")]
    assert phones_of([BEN, eve], seats) == {"eve": "102"}
    assert phones_of([BEN], seats) == {"ben": "102"}


@given(users=USERS, seats=SEATS)
def test_the_list_of_users_shows_the_same_phones(users: list[CrmUser], seats: list[Seat]) -> None:
    phones = phones_of(users, seats)
    assert {user.user_id: user.extension for user in matched(users, seats)} == {
        user.user_id: phones.get(user.user_id) for user in users
    }
