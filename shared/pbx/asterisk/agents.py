"""
What Asterisk's queues say of agents: who is paused, who came and went. Pure.

A phone is a member of any number of queues and paused in each of them by itself. Here an agent is
away when paused in one, and back when paused in none.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import datetime

import structlog

from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.pbx.asterisk.ami_wire import AmiMessage
from shared.pbx.port import Phones, Sighting

log = structlog.get_logger(__name__)

#: An agent of a site that is paused for no reason that we know is on a break.
_AWAY = AgentStatus.BREAK
_REASONS = {status.value: status for status in AgentStatus if status is not AgentStatus.FREE}
#: ``PJSIP/101``, ``Local/101@from-queue/n``, ``hint:101@ext-local``, ``Agent/1001``.
_EXTENSION = r"[A-Za-z0-9_.*#-]{1,32}"
_MEMBER = re.compile(rf"(?:[A-Za-z0-9_]+/|hint:)({_EXTENSION})(?:[@/].*)?|({_EXTENSION})(?:@.*)?")
#: Queues that one agent is a member of; more are none of a call centre's.
_MOST_QUEUES = 1000


def extension_of(member: str) -> str | None:
    """The phone behind an interface of a queue's member; None: it does not name one."""
    found = _MEMBER.fullmatch(member)
    return found[1] or found[2] if found else None


class AgentDesk:
    """The queue members of one PBX connection that are agents of the site."""

    def __init__(self, *, pbx: str) -> None:
        self._pbx = pbx
        self._extensions: frozenset[str] = frozenset()
        #: By agent and queue: what the agent is doing there.
        self._queues: dict[str, dict[str, AgentStatus]] = {}
        self._told: dict[str, AgentStatus] = {}
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
        status = AgentStatus.FREE
        if message.get("Paused") == "1":
            status = _REASONS.get(reason.strip().lower(), _AWAY)
        queues = self._queues.setdefault(extension, {})
        queue = message.get("Queue")
        if queue in queues or len(queues) < _MOST_QUEUES:
            queues[queue] = status

    def _removed(self, extension: str, message: AmiMessage) -> None:
        self._queues.setdefault(extension, {}).pop(message.get("Queue"), None)

    def _logged_in(self, extension: str, _: AmiMessage) -> None:
        self._queues.setdefault(extension, {})[""] = AgentStatus.FREE

    def _logged_off(self, extension: str, _: AmiMessage) -> None:
        self._queues[extension] = {}

    def _news(self, extension: str, at: datetime) -> list[Sighting]:
        statuses = self._queues.get(extension, {}).values()
        away = next((status for status in statuses if status is not AgentStatus.FREE), None)
        status = away or (AgentStatus.FREE if statuses else AgentStatus.OFFLINE)
        if self._told.get(extension) is status:
            return []
        self._told[extension] = status
        body = AgentStatusChanged(extension=extension, status=status)
        # A second replica tells the same at the same time; after a while it may come again.
        key = f"{self._pbx}/agent/{extension}/{status}/{at.isoformat()}"
        return [Sighting(body, at, key)]
