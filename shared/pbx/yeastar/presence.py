"""What an agent is doing, as a Yeastar's presence says it. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from shared.contracts.agents import AgentStatus
from shared.pbx.statuses import StatusWords

PRESENCE: Mapping[AgentStatus, str] = {
    AgentStatus.FREE: "available",
    AgentStatus.BUSY: "do_not_disturb",
    AgentStatus.BREAK: "away",
    AgentStatus.DINNER: "lunch",
    AgentStatus.OFFLINE: "off_work",
}
_TRIP = "business_trip"
#: All that a P-Series has.
PRESENCES = frozenset({*PRESENCE.values(), _TRIP})


def words_of(site: Mapping[AgentStatus, str]) -> StatusWords:
    """*site*: what the site says in place of the usual presence."""
    return StatusWords(preset=PRESENCE, site=site, heard={_TRIP: AgentStatus.OFFLINE})
