"""What an agent is doing in a PBX's own words, and in ours. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from shared.contracts.agents import AgentStatus
from shared.pbx.lines import one_line

#: Of :data:`shared.contracts.agents.OwnWord`.
_LONGEST = 100
_NONE: Mapping[AgentStatus, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusWords:
    """
    *preset*: our status → the word that its kind of PBX has; *site*: what the site says in its
    place. *heard*: words that are only ever heard. Whatever the case of their letters.
    """

    preset: Mapping[AgentStatus, str]
    site: Mapping[AgentStatus, str] = field(default_factory=lambda: _NONE)
    heard: Mapping[str, AgentStatus] = field(default_factory=lambda: MappingProxyType({}))

    def word(self, status: AgentStatus, own: str | None = None) -> str | None:
        """What the PBX is told; None where it has no word for it."""
        return own or self.site.get(status) or self.preset.get(status)

    def status(self, word: str) -> AgentStatus | None:
        """
        What a word of the PBX's means: the site says it better than the kind; of several statuses
        with one word it is the first. None: nobody knows.
        """
        said = word.strip().lower()
        for words in (self.site, self.preset):
            for status, known in words.items():
                if known.strip().lower() == said:
                    return status
        return next((status for known, status in self.heard.items() if known.lower() == said), None)


def own_word(text: str) -> str | None:
    """A PBX's word as an event carries it; None for nothing."""
    return one_line(text, most=_LONGEST) or None
