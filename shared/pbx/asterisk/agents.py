"""
What Asterisk's queues say of agents: who is paused, who came and went. Pure.

A phone is a member of any number of queues and paused in each of them by itself. Here an agent is
away when paused in one, and back when paused in none. A pause has a reason, which is the status.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

import structlog

from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.port import Phones, Sighting
from shared.pbx.statuses import StatusWords, own_word

log = structlog.get_logger(__name__)

#: An agent of a site that is paused for no reason that we know is on a break.
_AWAY = AgentStatus.BREAK
#: As reasons of a pause; who is free has none.
REASONS: Mapping[AgentStatus, str] = {
    status: status.value for status in AgentStatus if status is not AgentStatus.FREE
}
_WORDS = StatusWords(preset=REASONS)
#: ``PJSIP/101``, ``Local/101@from-queue/n``, ``hint:101@ext-local``, ``Agent/1001``.
_EXTENSION = r"[A-Za-z0-9_.*#-]{1,32}"
_MEMBER = re.compile(rf"(?:[A-Za-z0-9_]+/|hint:)({_EXTENSION})(?:[@/].*)?|({_EXTENSION})(?:@.*)?")
_Told = tuple[AgentStatus, str | None]
_FREE: _Told = (AgentStatus.FREE, None)
#: In no queue any more.
_GONE: _Told = (AgentStatus.OFFLINE, None)
#: Queues that one agent is a member of; more are none of a call centre's.
_MOST_QUEUES = 1000


def extension_of(member: str) -> str | None:
    """The phone behind an interface of a queue's member; None: it does not name one."""
    found = _MEMBER.fullmatch(member)
    return found[1] or found[2] if found else None


def paused_for(reason: str, words: StatusWords) -> AgentStatus:
    """What an agent does who is paused with this reason."""
    found = words.status(reason)
    return _AWAY if found in {None, AgentStatus.FREE} else found


class AgentDesk:
    """The queue members of one PBX connection that are agents of the site."""

    def __init__(self, *, pbx: str, words: StatusWords = _WORDS) -> None:
        self._pbx = pbx
        self._words = words
        self._extensions: frozenset[str] = frozenset()
        #: By agent and queue: what the agent is doing there, and the pause's reason.
        self._queues: dict[str, dict[str, _Told]] = {}
        self._told: dict[str, _Told] = {}
        self._readers = {
            "QueueMemberPause": self._paused,
            "QueueMemberPaused": self._paused,  # its name up to Asterisk 11
            "QueueMemberAdded": self._paused,
            "QueueMemberRemoved": self._removed,
            "AgentLogin": self._logged_in,
            "AgentLogoff": self._logged_off,
        }

    @property
    def wanted(self) -> frozenset[str]:
        return frozenset(self._readers)

    def know(self, phones: Phones) -> None:
        self._extensions = phones.extensions
        for gone in set(self._queues) - phones.extensions:
            del self._queues[gone]
        for gone in set(self._told) - phones.extensions:
            del self._told[gone]

    def feed(self, message: AmiMessage, at: datetime) -> list[Sighting]:
        """*at* by the PBX's clock."""
        reader = self._readers.get(message.event)
        extension = self.agent_in(message)
        if reader is None or extension is None:
            return []
        reader(extension, message)
        return self._news(extension, at)

    def resync(self, members: Iterable[AmiMessage], at: datetime) -> list[Sighting]:
        """*members*: the QueueMember items of QueueStatus, all that there are."""
        self._queues = {}
        found = []
        for item in members:
            if (extension := self.agent_in(item)) is not None:
                self._paused(extension, item)
        for extension in sorted({*self._queues, *self._told}):
            found += self._news(extension, at)
        return found

    def agent_in(self, message: AmiMessage) -> str | None:
        """
        The agent of the site that is meant. The state interface comes first: the other may be a
        Local channel by which the queue calls a phone.
        """
        for name in ("StateInterface", "Interface", "Location", "Agent"):
            extension = extension_of(message.get(name))
            if extension in self._extensions:
                return extension
        return None

    def _paused(self, extension: str, message: AmiMessage) -> None:
        reason = message.get("PausedReason") or message.get("Reason")
        told = _FREE
        if message.get("Paused") == "1":
            told = paused_for(reason, self._words), own_word(reason)
        queues = self._queues.setdefault(extension, {})
        queue = message.get("Queue")
        if queue in queues or len(queues) < _MOST_QUEUES:
            queues[queue] = told

    def _removed(self, extension: str, message: AmiMessage) -> None:
        self._queues.setdefault(extension, {}).pop(message.get("Queue"), None)

    def _logged_in(self, extension: str, _: AmiMessage) -> None:
        self._queues.setdefault(extension, {})[""] = _FREE

    def _logged_off(self, extension: str, _: AmiMessage) -> None:
        self._queues[extension] = {}

    def _news(self, extension: str, at: datetime) -> list[Sighting]:
        there = self._queues.get(extension, {}).values()
        away = next((told for told in there if told != _FREE), None)
        told = away or (_FREE if there else _GONE)
        if self._told.get(extension) == told:
            return []
        self._told[extension] = told
        status, own = told
        body = AgentStatusChanged(
            extension=extension, status=status, source_name=self._pbx, own=own
        )
        # A second replica tells the same at the same time; after a while it may come again.
        key = f"{self._pbx}/agent/{extension}/{status}/{at.isoformat()}"
        return [Sighting(body, at, key)]
