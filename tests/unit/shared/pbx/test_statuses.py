"""A PBX's own words for what an agent does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.agents import AgentStatus
from shared.pbx.statuses import StatusWords, own_word

WORDS = StatusWords(
    preset={AgentStatus.FREE: "ready", AgentStatus.BREAK: "pause", AgentStatus.DINNER: "pause"},
    site={AgentStatus.DINNER: "Mittag"},
    heard={"gone": AgentStatus.OFFLINE},
)


@pytest.mark.parametrize(
    ("status", "own", "word"),
    [
        (AgentStatus.FREE, None, "ready"),
        (AgentStatus.DINNER, None, "Mittag"),
        (AgentStatus.DINNER, "smoke", "smoke"),
        (AgentStatus.OFFLINE, None, None),
    ],
)
def test_a_persons_word_comes_before_the_sites_and_that_before_the_kinds(
    status: AgentStatus, own: str | None, word: str | None
) -> None:
    assert WORDS.word(status, own) == word


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("ready", AgentStatus.FREE),
        ("mittag ", AgentStatus.DINNER),
        ("pause", AgentStatus.BREAK),  # the first of two
        ("GONE", AgentStatus.OFFLINE),
        ("other", None),
        ("", None),
    ],
)
def test_a_word_that_is_heard_is_a_status(word: str, status: AgentStatus | None) -> None:
    assert WORDS.status(word) is status


def test_the_site_may_mean_something_else_by_a_word_of_the_kind() -> None:
    words = StatusWords(preset={AgentStatus.BREAK: "pause"}, site={AgentStatus.BUSY: "pause"})
    assert words.status("pause") is AgentStatus.BUSY


@given(text=st.text(max_size=500))
def test_a_word_fits_into_an_event(text: str) -> None:
    word = own_word(text)
    assert word is None or (0 < len(word) <= 100 and "\n" not in word)
