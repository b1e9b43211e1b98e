"""By which policy which call gets which entries, as tests/data/journal/policy.md has them."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
import yaml

from services.journal.shares import Share, share_of
from services.journal.wanting import wanted
from shared.contracts.calls import CallRecord
from shared.site.journal import JournalPolicy
from shared.testing.builders import NOON
from tests.calltelling import told

PAGE = Path(__file__).parents[3] / "data" / "journal" / "policy.md"


def rows(heading: str) -> list[list[str]]:
    """Of the table under *heading*, without its own headings."""
    _, _, after = PAGE.read_text().partition(f"\n## {heading}\n")
    lines = after.partition("\n## ")[0].splitlines()
    return [
        [cell.strip() for cell in line.strip("| ").split("|")]
        for line in lines
        if line.startswith("| ")
    ][1:]


CALLS = {name: line for name, _, line in rows("The calls")}
ENTRIES = rows("The entries")


def shown(record: CallRecord, policy: JournalPolicy) -> str:
    verdict = wanted(record, policy, per=policy.per, region="GB")
    if not verdict.agents:
        return f"none: {verdict.why_not}"
    shares = [share_of(record, agent, per=policy.per) for agent in verdict.agents]
    return "; ".join(map(in_words, shares))


def in_words(share: Share) -> str:
    span = f"{since_noon(share.started_at - NOON)}-{since_noon(share.ended_at - NOON)}"
    times = f"waits {since_noon(share.wait_time)}, talks {since_noon(share.talk_time)}"
    return f"{share.agent or 'nobody'} {share.disposition} {span}, {times}"


def since_noon(length: timedelta) -> str:
    return f"{length.total_seconds():g}"


def policy_of(text: str) -> JournalPolicy:
    return JournalPolicy.model_validate(yaml.safe_load(f"{{{text}}}"))


@pytest.mark.parametrize(
    ("call", "policy", "expected"), ENTRIES, ids=[f"{call}, {said}" for call, said, _ in ENTRIES]
)
def test_a_call_has_the_entries_of_its_row(call: str, policy: str, expected: str) -> None:
    assert shown(told(CALLS[call]), policy_of(policy)) == expected


def test_every_call_of_the_page_has_a_row() -> None:
    assert {call for call, _, _ in ENTRIES} == set(CALLS)
    assert len({(call, policy) for call, policy, _ in ENTRIES}) == len(ENTRIES)
