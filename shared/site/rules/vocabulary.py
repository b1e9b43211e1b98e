"""Subjects with a few words of their own: what else a rule compares them with never fits. Pure."""

from __future__ import annotations

from functools import cache

from shared.contracts.agents import AgentStatus
from shared.phone import is_region
from shared.site.rules.conditions import Operator
from shared.site.rules.hours import DAYS, HoursState
from shared.site.rules.subjects import Ask, Subject

_TRUTHS = ("true", "false", "yes", "no", "1", "0")
_WORDS: dict[Ask, tuple[str, ...]] = {
    Ask.HOURS: tuple(HoursState),
    Ask.AGENT: tuple(AgentStatus),
    Ask.WEEKDAY: DAYS,
    Ask.KNOWN: _TRUTHS,
    Ask.WITHHELD: _TRUTHS,
}
_EQUAL = frozenset({Operator.EQUAL, Operator.NOT_EQUAL, Operator.IN})


def check_words(subject: Subject, operator: Operator, wanted: tuple[str, ...]) -> None:
    """Raises: ValueError for a word that the subject never is: `time.weekday = monday`."""
    if operator not in _EQUAL:
        return
    for text in wanted:
        if (said := _fault(subject.ask, text.strip().lower())) is not None:
            raise ValueError(f"{subject} is never {text!r:.40}: {said}")


@cache
def _said(ask: Ask) -> str:
    return f"it is one of {', '.join(_WORDS[ask])}"


def _fault(ask: Ask, word: str) -> str | None:
    if ask is Ask.COUNTRY:
        known = is_region(word.upper())
        return None if known else "it is a country's two letters by ISO 3166: GB, not UK"
    return _said(ask) if ask in _WORDS and word not in _WORDS[ask] else None
