"""
What each side of an agent was told and said: PBXs and CRMs that show what the agent is doing. Pure.

Sides have fewer words than there are statuses, so each is held to its own rendering of a status,
never to the status.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from shared.contracts.agents import STATUS_HOLDS, AgentStatus, OwnWord, Side
from shared.ids import Name
from shared.moments import Instant, to_instant

#: How long after a side was told what it says of that is an echo.
ECHO_WITHIN = timedelta(seconds=60)
#: An echo that was heard may be said again for so long: a PBX with several queues says it of each.
_DOUBLED_WITHIN = timedelta(seconds=10)


class _Kept(BaseModel):
    model_config = ConfigDict(frozen=True)


class Rendering(_Kept):
    """How a side shows a status: its own *word*, and what it says when it shows it."""

    word: OwnWord | None = None
    heard: tuple[AgentStatus, ...]

    def fits(self, status: AgentStatus, own: str | None) -> bool:
        return status in self.heard or (own is not None and own == self.word)


#: Of a status, and of the PBX's own word that a person gave for it; None: the side has no word.
Render = Callable[[AgentStatus, str | None], Rendering | None]


class Tell(_Kept):
    """
    What a side was told; *at* tells it apart from its others. *done_at*: when the side took it,
    *heard_at*: when it said so itself.
    """

    at: Instant
    status: AgentStatus
    shown: Rendering
    done_at: Instant | None = None
    heard_at: Instant | None = None

    def may_echo(self, at: datetime, now: datetime) -> bool:
        if self.heard_at is not None:
            return at <= self.heard_at + _DOUBLED_WITHIN
        return now <= (self.done_at or self.at + STATUS_HOLDS) + ECHO_WITHIN

    def over_at(self, now: datetime) -> datetime | None:
        """From when on the side shows it, or will not any more; None: it is on its way."""
        # What sounds like its echo may be what the side showed before: that is not believed here.
        lapsed = self.at if now - self.at > STATUS_HOLDS else None
        return self.done_at or lapsed

    def was_done_before(self, at: datetime) -> bool:
        return self.done_at is not None and self.done_at < at


class Word(_Kept):
    """What a side said last."""

    status: AgentStatus
    own: OwnWord | None = None
    at: Instant


class SideKnown(_Kept):
    said: Word | None = None
    #: When it last said something by itself, that was no echo.
    meant_at: Instant | None = None
    tells: tuple[Tell, ...] = ()
    told_at: Instant | None = None
    #: What it would not take, and why; it is not told the same again.
    refused: Rendering | None = None
    fault: str | None = None
    #: How often it was told what the agent does now.
    tries: int = 0

    def pending(self, now: datetime) -> Tell | None:
        """The last tell, unless the side has spoken since it was over."""
        if not self.tells:
            return None
        over_at = self.tells[-1].over_at(now)
        spoken = self.said is not None and over_at is not None and self.said.at > over_at
        return None if spoken else self.tells[-1]

    def shows(self, wanted: Rendering, now: datetime) -> bool | None:
        """Whether it shows that, or soon will; None: nobody knows what it shows."""
        if (tell := self.pending(now)) is not None:
            return tell.shown == wanted
        return wanted.fits(self.said.status, self.said.own) if self.said else None


class AgentKnown(_Kept):
    """All that is known of an agent. *weighed*: see ``AgentStatusSettled``."""

    status: AgentStatus | None = None
    own: OwnWord | None = None
    since: Instant | None = None
    source: Side | None = None
    source_name: Name | None = None
    weighed: Instant | None = None
    #: By kind and name: ``pbx:main``.
    sides: dict[str, SideKnown] = {}
    #: Statements that were weighed, the last of them.
    weighed_ids: tuple[str, ...] = ()
    #: When sides changed it lately.
    turns: tuple[Instant, ...] = ()


def side_key(kind: Side, name: str | None) -> str:
    return f"{kind}:{name or ''}"


def took(agent: AgentKnown, side: str, at: datetime, *, now: datetime) -> AgentKnown:
    """The side took what it was told *at*."""
    return _edit_tell(agent, side, at, lambda tell: _done(tell, now), None)


def took_not(agent: AgentKnown, side: str, at: datetime, fault: str) -> AgentKnown:
    """It refused what it was told *at*, and would again."""
    known = agent.sides.get(side, SideKnown())
    refused = next((tell.shown for tell in known.tells if tell.at == at), None)
    agent = _edit_tell(agent, side, at, lambda _: None, fault)
    if refused is None:
        return agent
    return with_side(agent, side, agent.sides[side].model_copy(update={"refused": refused}))


def came_too_late(agent: AgentKnown, side: str, at: datetime, fault: str) -> AgentKnown:
    """It was away; when it speaks again it is told again."""
    return _edit_tell(agent, side, at, lambda _: None, fault)


def with_side(agent: AgentKnown, key: str, side: SideKnown) -> AgentKnown:
    return agent.model_copy(update={"sides": {**agent.sides, key: side}})


def _done(tell: Tell, now: datetime) -> Tell:
    return tell.model_copy(update={"done_at": to_instant(now)})


def _edit_tell(
    agent: AgentKnown,
    key: str,
    at: datetime,
    edit: Callable[[Tell], Tell | None],
    fault: str | None,
) -> AgentKnown:
    side = agent.sides.get(key)
    if side is None or all(tell.at != at for tell in side.tells):
        return agent
    edited = (edit(tell) if tell.at == at else tell for tell in side.tells)
    tells = tuple(tell for tell in edited if tell is not None)
    return with_side(agent, key, side.model_copy(update={"tells": tells, "fault": fault}))
