from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.site.rules.patterns import check_pattern, compiled


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("gold", "Old GOLD mine", True),
        ("^gold$", "Old GOLD mine", False),
        ("^(gold|silver)$", "Silver", True),
        ("É", "é", True),
        ("Zoe\u0308", "Zoë", True),
        (r"\d{4}", "AB-1234", True),
        (r"\bmine\b", "Old gold mine", True),
        ("^b", "a\nb", False),
        ("(?m)^b", "a\nb", True),
        ("a.b", "a\nb", False),
        (r"\p{Greek}", "Ωmega", True),
    ],
)
def test_a_pattern_is_looked_for_anywhere_without_regard_to_case(
    pattern: str, text: str, found: bool
) -> None:
    assert (compiled(pattern).search(text) is not None) is found


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("[a-", r"'\[a-' is no pattern: missing \]: \[a-"),
        ("(gold", r"missing \): \(gold"),
        ("*", r"no argument for repetition operator: \*"),
        ("(?=gold)", r"invalid perl operator: \(\?="),
        (r"(a)\1", r"invalid escape sequence: \\1"),
        ("a{1001}", "invalid repetition size"),
        (r"((\pL{30}){30}){30}", "invalid repetition size"),
        (r"\pL{200}", "pattern too large"),
        ("\ud800", "half a character"),
    ],
)
def test_what_cannot_be_looked_for_is_refused_in_words(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"is no pattern: .*{said}|^{said}"):
        check_pattern(pattern)


def test_a_long_pattern_is_not_repeated_in_full() -> None:
    with pytest.raises(ValueError, match="is no pattern") as raised:
        check_pattern("(" * 500)

    assert len(str(raised.value)) < 700


@given(st.text(max_size=500))
def test_any_text_is_a_pattern_or_refused(text: str) -> None:
    try:
        pattern = compiled(text)
    except ValueError as error:
        assert "is no pattern" in str(error)  # noqa: PT017  either way is right
    else:
        assert pattern.search("") is None or pattern.search("gold") is not None or text


@pytest.mark.timeout(10)
@pytest.mark.parametrize("pattern", ["(a+)+$", "^(a|a)*$", "(.*)*x", "(a?){100}a{100}$"])
def test_no_pattern_holds_up_a_call(pattern: str) -> None:
    """In a backtracking engine each of these takes longer than the universe is old."""
    text = "a" * 9_999 + "!"

    assert compiled(pattern).search(text) is None
