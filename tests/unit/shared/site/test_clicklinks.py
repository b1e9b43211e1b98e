"""Addresses that a CRM's telephony module is given: nobody else makes one, and each is of one connection."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.errors import NotFound
from shared.secrets import SecretBox, new_key
from shared.site.clicklinks import Clicker, ClickLinks

KEY, NEWER = new_key(), new_key()
LINKS = ClickLinks(SecretBox([KEY]), public_url="https://mesh.example/callmesh")
RETAIL = Clicker("acme", "retail")


def addresses(
    links: ClickLinks = LINKS, tenant: str = "acme", connection: str = "retail"
) -> tuple[str, str]:
    """Token and client id."""
    made = links.addresses(tenant, connection)
    assert made is not None
    assert made.dial_url == f"https://mesh.example/callmesh/v1/crm-calls/{made.token}/dial"
    assert made.status_url == f"https://mesh.example/callmesh/v1/crm-calls/{made.token}/status"
    return made.token, made.client_id


TOKEN, CLIENT = addresses()


def says_nothing(token: str, links: ClickLinks = LINKS) -> str:
    with pytest.raises(NotFound) as refused:
        links.read(token)
    return refused.value.message


def test_an_address_leads_to_its_connection_and_stays_the_same() -> None:
    assert LINKS.read(TOKEN) == RETAIL
    assert LINKS.is_client(RETAIL, CLIENT)
    again = ClickLinks(SecretBox([KEY]), public_url="https://mesh.example/callmesh")
    assert addresses(again) == (TOKEN, CLIENT)


def test_every_byte_of_a_token_counts() -> None:
    words = says_nothing("nothing")
    for place, letter in enumerate(TOKEN):
        for other in {*string.ascii_letters, *string.digits, *"._-+/= %\x00é"} - {letter}:
            forged = TOKEN[:place] + other + TOKEN[place + 1 :]
            assert says_nothing(forged) == words


@pytest.mark.parametrize(
    "changed",
    [TOKEN[:-1], TOKEN + "A", TOKEN + "\n", "", "a" * 10_000, "."],
    # Workers of one run have to call them the same, and the key is drawn by each.
    ids=["shorter", "longer", "a line more", "empty", "endless", "a dot"],
)
def test_a_token_is_whole_or_none(changed: str) -> None:
    assert says_nothing(changed) == says_nothing("nothing")


def test_every_byte_of_a_client_id_counts() -> None:
    for place, letter in enumerate(CLIENT):
        for other in {*string.ascii_letters, *string.digits, *"-_ é\ud800"} - {letter}:
            assert not LINKS.is_client(RETAIL, CLIENT[:place] + other + CLIENT[place + 1 :])
    for other in ("", CLIENT[:-1], CLIENT + "A", f" {CLIENT}", CLIENT.upper(), "\x00" * 22):
        assert not LINKS.is_client(RETAIL, other)


@pytest.mark.parametrize(
    ("tenant", "connection"), [("acme", "other"), ("other", "retail"), ("retail", "acme")]
)
def test_what_one_connection_has_is_of_no_use_to_another(tenant: str, connection: str) -> None:
    token, client_id = addresses(tenant=tenant, connection=connection)
    assert LINKS.read(token) == Clicker(tenant, connection)
    assert not LINKS.is_client(RETAIL, client_id)
    signature = token.rpartition(".")[2]
    says_nothing(f"acme.retail.{signature}")


def test_the_client_id_is_not_the_signature() -> None:
    says_nothing(f"acme.retail.{CLIENT}")
    assert not LINKS.is_client(RETAIL, TOKEN.rpartition(".")[2])


def test_an_older_key_is_honoured_and_a_lost_one_is_not() -> None:
    rotated = ClickLinks(SecretBox([NEWER, KEY]), public_url="https://mesh.example/callmesh")
    assert rotated.read(TOKEN) == RETAIL
    assert rotated.is_client(RETAIL, CLIENT)
    newer, client_id = addresses(rotated)
    assert (newer, client_id) != (TOKEN, CLIENT)
    only = ClickLinks(SecretBox([NEWER]), public_url=None)
    says_nothing(TOKEN, only)
    assert not only.is_client(RETAIL, CLIENT)
    assert only.read(newer) == RETAIL


def test_without_a_public_address_there_are_none() -> None:
    assert ClickLinks(SecretBox([KEY]), public_url=None).addresses("acme", "retail") is None


def test_nothing_of_it_is_shown() -> None:
    made = LINKS.addresses("acme", "retail")
    assert made is not None
    shown = repr(made)
    for secret in (TOKEN, CLIENT, made.dial_url):
        assert secret not in shown
        assert secret not in made.taken_out_of(f"errors: {secret}, {made.status_url}")


@given(st.text(max_size=200))
def test_no_text_is_a_token(text: str) -> None:
    if text != TOKEN:
        says_nothing(text)


def test_the_longest_names_have_addresses() -> None:
    token, _ = addresses(tenant="a" * 40, connection="b" * 64)
    assert LINKS.read(token) == Clicker("a" * 40, "b" * 64)


def test_a_key_of_another_mesh_signs_nothing_here() -> None:
    other = ClickLinks(
        SecretBox([SecretStr(new_key().get_secret_value())]),
        public_url="https://mesh.example/callmesh",
    )
    token, client_id = addresses(other)
    says_nothing(token)
    assert not LINKS.is_client(RETAIL, client_id)
