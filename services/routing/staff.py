"""
What agents are doing, as one process knows it: their status, and whether they are on a call.

What an agent is doing settles the dialer, from what PBXs, CRMs and people say (``AgentStatusSettled``);
that holds. What a PBX alone says counts until the dialer has weighed it: so the echo of a word that
the PBX has no word for does not stay, and a dialer that is away keeps no PBX's word from a caller.
What CRMs and people say waits for the dialer, as nobody else knows which of it is an echo.

Statuses are kept in the store (:mod:`services.routing.staff_store`). Conversations are not: they
are the journal's, which is asked at the start and now and then for what did not reach us
(:mod:`services.routing.staff_check`). Until it has answered, somebody who was on a call before
this process began passes for free; then the PBX finds the phone busy.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from services.routing.on_call import OnCall
from shared.clock import Clock
from shared.contracts.agents import AgentStatus, AgentStatusChanged, AgentStatusSettled, Side
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRecord,
    CallStarted,
    CallTransferred,
    LegEnded,
    PbxResynced,
)
from shared.contracts.envelope import Event, Message
from shared.moments import to_instant

#: Whose statuses are held, of one tenant.
MOST_AGENTS = 20_000
#: What every replica has to hear, live.
HEARD: tuple[type[Event], ...] = (
    AgentStatusChanged,
    AgentStatusSettled,
    CallStarted,
    CallAnswered,
    CallTransferred,
    LegEnded,
    CallEnded,
    PbxResynced,
)


@dataclass(frozen=True, slots=True)
class StatusWord:
    """*settled*: what the dialer made of all that was said until *at*; else a PBX's own word."""

    status: AgentStatus
    at: datetime
    settled: bool = False

    def counts_after(self, known: StatusWord | None) -> bool:
        """An older word does not win; of one moment what is settled does, else the last."""
        if known is None or self.at > known.at:
            return True
        return self.at == known.at and (self.settled or not known.settled)


def word_in(message: Message[Any], now: datetime) -> StatusWord | None:
    """None: it waits for the dialer."""
    body = message.body
    if isinstance(body, AgentStatusSettled):
        return StatusWord(body.status, _told_at(body.weighed, now), settled=True)
    if isinstance(body, AgentStatusChanged) and body.source is Side.PBX:
        return StatusWord(body.status, _told_at(message.occurred_at, now))
    return None


class Staff:
    """Reads never wait. An agent is an extension of the tenant."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._statuses: defaultdict[str, OrderedDict[str, StatusWord]]
        self._statuses = defaultdict(OrderedDict)
        self._calls: dict[str, OnCall] = {}

    def status(self, tenant: str, extension: str) -> AgentStatus | None:
        """None: nobody has told."""
        known = self._statuses.get(tenant)
        told = known.get(extension) if known is not None else None
        return told.status if told else None

    def on_call(self, tenant: str, extension: str) -> bool:
        """From the answer (of who calls: from the beginning) to the end, or to 4 hours."""
        calls = self._calls.get(tenant)
        return calls is not None and calls.has(extension, self._clock.now())

    def seen(self, tenant: str, extension: str) -> str | None:
        """The word for rules: ``busy`` while on a call, else the status; None: nobody has told."""
        if self.on_call(tenant, extension):
            return AgentStatus.BUSY.value
        status = self.status(tenant, extension)
        return status.value if status else None

    def is_free(self, tenant: str, extension: str) -> bool:
        """Not on a call, and nobody has told of anything but ``free``."""
        return self.seen(tenant, extension) in {AgentStatus.FREE.value, None}

    # -- what is told ------------------------------------------------------------------------

    def hear(self, message: Message[Any]) -> None:
        body, at, now = message.body, message.occurred_at, self._clock.now()
        if isinstance(body, AgentStatusChanged | AgentStatusSettled):
            if (word := word_in(message, now)) is not None:
                self.told(message.tenant, body.extension, word)
        else:
            self._of(message.tenant).hear(body, at, now)

    def told(self, tenant: str, extension: str, word: StatusWord) -> None:
        statuses = self._statuses[tenant]
        if word.counts_after(statuses.get(extension)):
            statuses[extension] = word
            statuses.move_to_end(extension)
        while len(statuses) > MOST_AGENTS:
            statuses.popitem(last=False)

    # -- what the journal knows --------------------------------------------------------------

    def learn(self, tenant: str, record: CallRecord) -> None:
        self._of(tenant).learn(record, self._clock.now())

    def unchecked(self, *, since: timedelta) -> list[tuple[str, str]]:
        """
        Tenant and id of calls that keep somebody busy, and were quiet for *since*; the longest
        first, as a tenant with very many must not have all the asking.
        """
        before = self._clock.now() - since
        quiet = [
            (at, tenant, key)
            for tenant, calls in self._calls.items()
            for at, key in calls.unchecked(before)
        ]
        return [(tenant, key) for _, tenant, key in sorted(quiet)]

    def checked(self, tenant: str, call_id: str) -> None:
        """The journal does not know it either."""
        self._of(tenant).checked(call_id, self._clock.now())

    def _of(self, tenant: str) -> OnCall:
        return self._calls.setdefault(tenant, OnCall(tenant))


def _told_at(at: datetime, now: datetime) -> datetime:
    """A PBX whose clock was ahead for a while must not have the last word until then."""
    return to_instant(min(at, now))
