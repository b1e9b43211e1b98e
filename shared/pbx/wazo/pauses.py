"""What an agent is doing, as the reason of a pause at a Wazo says it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from shared.contracts.agents import AgentStatus
from shared.pbx.statuses import StatusWords

#: Who is free is not paused.
REASONS: Mapping[AgentStatus, str] = {
    status: status.value for status in AgentStatus if status is not AgentStatus.FREE
}


def words_of(site: Mapping[AgentStatus, str] | None) -> StatusWords:
    """*site*: what the site says in place of our own words."""
    return StatusWords(preset=REASONS, site=site or {})


def paused_for(reason: str, words: StatusWords) -> AgentStatus:
    """Of a reason that nobody knows: a break."""
    found = words.status(reason)
    return AgentStatus.BREAK if found in {None, AgentStatus.FREE} else found
