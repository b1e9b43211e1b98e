"""No secret is shown, in whatever form it travels."""

from __future__ import annotations

import json
from urllib.parse import quote

from hypothesis import given
from hypothesis import strategies as st

from shared.crm.language.contexts import query_value
from shared.crm.masking import Mask, basic_forms

KEY = 'k/3+"y=1'
MASK = Mask([KEY, *basic_forms([f"ann:{KEY}"])])


def test_a_header_of_a_secret_name_is_masked_whole() -> None:
    assert MASK.header("Authorization", "Zoho-oauthtoken abc") == "Zoho-oauthtoken •••"
    assert MASK.header("X-Api-Key", "abc") == "•••"
    assert MASK.header("Accept", "application/json") == "application/json"


def test_the_answer_of_a_token_address_is_masked_before_its_token_is_known() -> None:
    shown = MASK.body(json.dumps({"access_token": "at-9", "expires_in": 3600}).encode())
    assert "at-9" not in shown
    assert "3600" in shown
    assert "at-9" not in MASK.body(b"refresh_token=at-9&grant_type=x")


def test_a_secret_of_an_address_is_masked() -> None:
    url = f"https://crm.example/rest/{quote(KEY, safe='')}/x?auth=zzz&page=1"
    shown = MASK.address(url)
    assert "zzz" not in shown
    assert quote(KEY, safe="") not in shown
    assert shown.endswith("page=1")


def test_a_secret_is_masked_as_a_query_of_ours_writes_it() -> None:
    assert KEY not in MASK.address(f"https://crm.example/?q={query_value(KEY)}")
    assert query_value(KEY) not in MASK.address(f"https://crm.example/?q={query_value(KEY)}")


def test_a_body_of_one_long_word_is_looked_at_once() -> None:
    assert MASK.body(b"a" * 4_000_000).endswith("more characters)")


def test_what_a_terminal_would_act_upon_is_not_shown() -> None:
    assert MASK.body("\x1b]0;x\x07 \x9b1m ok\n".encode()) == "�]0;x� �1m ok\n"


def test_a_long_body_is_cut() -> None:
    assert MASK.body(b"x" * 10_000).endswith("(6000 more characters)")


@given(st.text(min_size=4), st.text(), st.text())
def test_no_form_of_a_secret_is_left(secret: str, before: str, after: str) -> None:
    mask = Mask([secret])
    for form in (
        secret,
        quote(secret, safe=""),
        query_value(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
    ):
        assert form not in mask.text(f"{before}{form}{after}").replace("•", "")
