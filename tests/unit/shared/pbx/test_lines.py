"""Texts from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.pbx.lines import one_line, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (" Jane\r\nDoe\x00 ", "Jane Doe"),
        ("a\x1b[31mb\x85c\u2028d", "a [31mb c d"),
        ("half \ud83d", "half ?"),
        (15, "15"),
        (-1, "-1"),
        (2**63, ""),
        (-(2**63), ""),
        (True, ""),
        (1.5, ""),
        (None, ""),
        (["x"], ""),
    ],
)
def test_a_text_is_one_line_and_a_number_is_its_digits(value: object, text: str) -> None:
    assert text_of(value) == text


@given(st.text(st.characters(), max_size=2000), st.integers(1, 300))
def test_whatever_comes_can_be_sent_on(value: str, most: int) -> None:
    text = one_line(value, most=most)

    assert len(text) <= most
    assert text.encode().decode() == text
    assert "\n" not in text
