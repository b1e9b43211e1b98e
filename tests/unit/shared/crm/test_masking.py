"""No secret is shown, in whatever form it travels."""

from __future__ import annotations

import html
import json
from urllib.parse import quote, quote_plus, urlencode

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


def test_the_first_word_of_a_secret_is_no_scheme() -> None:
    assert Mask(["open sesame now"]).header("X-Api-Key", "open sesame now") == "•••"
    assert MASK.header("Cookie", "session=abc; theme=dark") == "•••"


def test_what_has_the_name_of_a_secret_is_masked_whatever_it_is() -> None:
    body = {"password": 123456, "tokens": ["at-9", 77], "session": {"id": "s-7", "ok": True}}
    shown = json.loads(MASK.body(json.dumps(body).encode()))
    assert shown == {
        "password": "•••",
        "tokens": ["•••", "•••"],
        "session": {"id": "•••", "ok": True},
    }


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


def test_signs_that_might_be_many_things_are_looked_at_once() -> None:
    """Backslashes in a row, an escape within an escape: no text makes the search go wild."""
    mask = Mask(["key" + "\\" * 60 + "end", "pass%&'\"word"])
    for text in ("key" + "\\" * 100_000, "pass%" + "25" * 50_000, "pass%&" + "amp;" * 30_000):
        assert mask.text(text) == text


def test_what_a_terminal_would_act_upon_is_not_shown() -> None:
    assert MASK.body("\x1b]0;x\x07 \x9b1m ok\n".encode()) == "�]0;x� �1m ok\n"


def test_a_long_body_is_cut() -> None:
    assert MASK.body(b"x" * 10_000).endswith("(6000 more characters)")


def test_a_form_is_shown_field_by_field_and_its_secrets_are_not() -> None:
    body = urlencode({"calls": json.dumps([{"phone": "+44", "said": KEY}]), "apiKey": "of-who"})
    shown = MASK.form(body.encode())
    assert KEY not in shown
    assert json.dumps(KEY)[1:-1] not in shown
    assert shown.startswith('calls=[\n  {\n    "phone": "+44"')
    assert shown.endswith("apiKey=•••")


def test_what_a_template_names_is_masked_whatever_it_holds() -> None:
    mask = Mask([], names=["X-Sum", "Sum"])
    assert mask.header("x-sum", "12ab") == "•••"
    assert mask.address("https://crm.example/?sum=12ab&page=1").endswith("?sum=•••&page=1")
    assert "12ab" not in mask.body(b'{"sum": "12ab"}')
    assert mask.form(b"sum=12ab&a=1") == "sum=•••\na=1"


def test_a_code_is_a_secret_in_a_sign_in_alone() -> None:
    body = b'{"code": "4/0AX4XfWh", "state": "x1y2"}'
    assert "4/0AX4XfWh" not in Mask([]).body(body)
    assert "4/0AX4XfWh" in Mask([], sign_in=False).body(body)


@given(st.text(min_size=4), st.text(), st.text())
def test_no_form_of_a_secret_is_left(secret: str, before: str, after: str) -> None:
    mask = Mask([secret])
    for form in (
        secret,
        quote(secret, safe=""),
        query_value(secret),
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        json.dumps(secret)[1:-1].replace("/", "\\/"),
        html.escape(secret),
        quote(json.dumps(secret)[1:-1], safe=""),
        quote(secret),
        quote_plus(quote(secret)),
        html.escape(quote_plus(secret)),
        json.dumps(json.dumps(secret))[3:-3],
    ):
        assert form not in mask.text(f"{before}{form}{after}").replace("•", "")
