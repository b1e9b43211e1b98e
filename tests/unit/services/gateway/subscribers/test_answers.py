"""What is kept of an answer."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest

from services.gateway.subscribers.answers import retry_after_of, shown_of

TOKEN = "a-token-of-theirs-0001"
PASSWORD = 'pa"ss+word/0002'
BASIC = "Basic " + base64.b64encode(f"me:{PASSWORD}".encode()).decode()


@pytest.mark.parametrize(
    "answer",
    [
        f"bad header Bearer {TOKEN}",
        f"token {TOKEN} has expired",
        f'{{"who": "{TOKEN}"}}',
        f"me:{PASSWORD} is not known",
        f"wrong: {PASSWORD}",
        'wrong: pa\\"ss+word/0002',
        "wrong: pa%22ss%2Bword%2F0002",
        f"no {BASIC.removeprefix('Basic ')}",
    ],
)
def test_a_secret_that_comes_back_is_not_kept(answer: str) -> None:
    shown = shown_of(answer.encode(), secrets=[f"Bearer {TOKEN}", BASIC], longest=500)
    assert shown
    for secret in (TOKEN, PASSWORD, "ss+word", "ss%2Bword", BASIC.removeprefix("Basic ")):
        assert secret not in shown


@pytest.mark.parametrize("offset", range(0, 60, 7))
def test_a_secret_that_is_cut_is_not_kept_either(offset: int) -> None:
    secret = "0123456789abcdefghij" * 15
    answer = "x" * offset + (secret + " ") * 400
    shown = shown_of(answer.encode(), secrets=[secret], longest=500)
    assert "0123456789" not in shown


def test_the_beginning_is_kept_as_it_is() -> None:
    assert shown_of(b"come back later", secrets=[], longest=500) == "come back later"
    assert shown_of(b"y" * 1_000_000, secrets=["z" * 2000], longest=500) == "y" * 500
    assert "\x1b" not in shown_of(b"\x1b[2Jgone\xff\x00", secrets=[], longest=500)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("120", 120),
        ("0", 0),
        ("999999999", 999_999_999),
        ("-5", None),
        ("9" * 400, None),
        ("1.5", None),
        ("٣", None),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None),
        ("", None),
    ],
)
def test_retry_after_is_in_seconds(said: str, seconds: int | None) -> None:
    found = retry_after_of({"retry-after": said})
    assert found == (None if seconds is None else timedelta(seconds=seconds))
