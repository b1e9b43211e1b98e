"""
What an agent is doing, from what sides say of it: PBXs, CRMs, people by the API. Pure.

What a side says is news, or the echo of what it was told, or nothing new; news are told to every
other side that would show something else.

Nothing is told for ever: of one status a side is told ``_TRIES`` times at most, and an agent whom
sides change more than ``_TURNS`` times a minute is told to nobody, as that is no person.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from services.dialer.sides import (
    ECHO_WITHIN,
    AgentKnown,
    Render,
    Rendering,
    SideKnown,
    Tell,
    Word,
    side_key,
    with_side,
)
from shared.contracts.agents import AgentStatus, Side
from shared.moments import to_instant

_MINUTE = timedelta(minutes=1)
_TICK = timedelta(milliseconds=1)
_TURNS = 12
_TRIES = 5
_MOST_TELLS = 8
_MOST_IDS = 32


class Verdict(StrEnum):
    """What became of a statement."""

    CHANGED = "changed"
    ECHO = "echo"
    SAME = "same"
    #: Something later was said before.
    LATE = "late"
    #: The very message came before.
    DOUBLED = "doubled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """*id* of its message, *at* by the clock of who saw it."""

    id: str
    source: Side
    name: str | None
    status: AgentStatus
    own: str | None = None
    at: datetime

    @property
    def side(self) -> str | None:
        """Who is told of others' words and echoes them; None: the API, whose every word is meant."""
        return None if self.source is Side.API else side_key(self.source, self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """
    *tells*: the sides to be told by now; *settled*: whether it is to be published, *weighed* until
    when by the clock of who spoke, as others who heard it go by that.
    """

    agent: AgentKnown
    verdict: Verdict
    tells: Mapping[str, Tell]
    settled: bool = False
    weighed: datetime
    #: Nobody is told, as it changes faster than a person would.
    restless: bool = False


def hear(
    agent: AgentKnown, said: Statement, renders: Mapping[str, Render], *, now: datetime
) -> Heard:
    """
    *renders*: the sides that can be told, and how they show things. A clock that is ahead does not
    have the last word until then: *at* is never later than *now*.
    """
    if said.id in agent.weighed_ids:
        return Heard(agent=agent, verdict=Verdict.DOUBLED, tells={}, weighed=said.at)
    now = to_instant(now)
    at = min(to_instant(said.at), now)
    word = Word(status=said.status, own=said.own, at=at)
    ids = (*agent.weighed_ids, said.id)[-_MOST_IDS:]
    before, agent = agent, agent.model_copy(update={"weighed_ids": ids})
    doubted = None
    if said.side is None:
        verdict = _of_a_person(agent, word)
        if verdict is Verdict.SAME:
            agent = _begin_anew(agent)
    else:
        side = agent.sides.get(said.side, SideKnown())
        shown = _wanted(agent, renders.get(said.side))
        verdict = _of_a_side(agent, said, side, word=word, shown=shown, now=now)
        side = _noted(side, word, verdict)
        agent = with_side(agent, said.side, side)
        if verdict is Verdict.LATE and side.said == word:
            doubted = said.side
    if verdict is Verdict.CHANGED:
        agent = _begin_anew(_changed(agent, said, at, now=now))
    elif _says_more(agent, said, verdict):
        agent = agent.model_copy(update={"own": said.own})
    restless = said.side is not None and _turns_lately(agent, now) > _TURNS
    agent, tells = (agent, {}) if restless else _tell_who_differs(agent, renders, doubted, now)
    settled = _is_news(before, agent) or _misleads(agent, said, at)
    if settled:
        agent = agent.model_copy(update={"weighed": max(at, agent.weighed or at)})
    return Heard(
        agent=agent,
        verdict=verdict,
        tells=tells,
        settled=settled,
        weighed=max(said.at, agent.weighed or said.at),
        restless=restless,
    )


# -- what a statement is worth -----------------------------------------------------------------


def _of_a_person(agent: AgentKnown, word: Word) -> Verdict:
    if agent.since is not None and word.at < agent.since:
        return Verdict.LATE
    same = word.status is agent.status and word.own in {None, agent.own}
    return Verdict.SAME if same else Verdict.CHANGED


def _of_a_side(
    agent: AgentKnown,
    said: Statement,
    side: SideKnown,
    *,
    word: Word,
    shown: Rendering | None,
    now: datetime,
) -> Verdict:
    """*shown*: how the side shows what the agent does, where it can be told."""
    if any(tell.shown.fits(word.status, word.own) for tell in _may_echo(side, word.at, now)):
        return Verdict.ECHO
    if side.meant_at is not None and word.at < side.meant_at:
        return Verdict.LATE
    if word.status is agent.status or (shown is not None and shown.fits(word.status, word.own)):
        return Verdict.SAME
    if _repeats(said, side, word, now):
        return Verdict.SAME
    if agent.since is not None and word.at < agent.since:
        return Verdict.LATE
    return Verdict.CHANGED


def _may_echo(side: SideKnown, at: datetime, now: datetime) -> list[Tell]:
    return [tell for tell in side.tells if tell.may_echo(at, now)]


def _repeats(said: Statement, side: SideKnown, word: Word, now: datetime) -> bool:
    """
    Whether the side only says again what it said before: a PBX that is connected anew tells all
    that it shows, also while it is being told something else. A CRM says what its user did: one
    that says it again at once does so because it did not hear our answer; but not once it took
    another word from us.
    """
    if side.said is None or (side.said.status, side.said.own) != (word.status, word.own):
        return False
    if said.source is Side.CRM and word.at - side.said.at > ECHO_WITHIN:
        return False
    tell = side.pending(now)
    return tell is None or tell.done_at is None or word.at <= tell.done_at


def _says_more(agent: AgentKnown, said: Statement, verdict: Verdict) -> bool:
    """The same status by another own word of who told it."""
    return (
        verdict is Verdict.SAME
        and said.status is agent.status
        and (said.source, said.name) == (agent.source, agent.source_name)
        and said.own not in {None, agent.own}
    )


def _is_news(before: AgentKnown, after: AgentKnown) -> bool:
    return (before.status, before.own, before.since) != (after.status, after.own, after.since)


def _turns_lately(agent: AgentKnown, now: datetime) -> int:
    return sum(now - turn < _MINUTE for turn in agent.turns)


def _misleads(agent: AgentKnown, said: Statement, at: datetime) -> bool:
    """Whoever goes by the PBX's words alone would take it for what the agent does."""
    return (
        said.source is Side.PBX
        and agent.status is not None
        and said.status is not agent.status
        and (agent.weighed is None or at > agent.weighed)
    )


# -- what is kept of it ------------------------------------------------------------------------


def _noted(side: SideKnown, word: Word, verdict: Verdict) -> SideKnown:
    tells = []
    for tell in side.tells:
        if verdict is Verdict.ECHO and tell.shown.fits(word.status, word.own):
            heard_at = tell.heard_at or word.at
            tells.append(tell.model_copy(update={"heard_at": heard_at}))
        elif verdict is Verdict.CHANGED and tell.heard_at and tell.was_done_before(word.at):
            continue  # it has moved on: the same word may be meant from now on
        else:
            tells.append(tell)
    newer = side.said is None or word.at >= side.said.at
    known = side.model_copy(update={"tells": tuple(tells), "said": word if newer else side.said})
    if verdict is Verdict.ECHO or (known.meant_at is not None and word.at <= known.meant_at):
        return known
    return known.model_copy(update={"meant_at": word.at})


def _changed(agent: AgentKnown, said: Statement, at: datetime, *, now: datetime) -> AgentKnown:
    turns = agent.turns if said.side is None else (*agent.turns, now)[-_TURNS - 1 :]
    return agent.model_copy(
        update={
            "status": said.status,
            "own": said.own,
            "since": at,
            "source": said.source,
            "source_name": said.name,
            "turns": turns,
        }
    )


def _begin_anew(agent: AgentKnown) -> AgentKnown:
    """What a side would not take before it may take now."""
    sides = {
        key: side.model_copy(update={"tries": 0, "refused": None})
        for key, side in agent.sides.items()
    }
    return agent.model_copy(update={"sides": sides})


# -- who is told -------------------------------------------------------------------------------


def _wanted(agent: AgentKnown, render: Render | None) -> Rendering | None:
    """Own words of sides are theirs; what a person gives is the PBX's."""
    if agent.status is None or render is None:
        return None
    return render(agent.status, agent.own if agent.source is Side.API else None)


def _tell_who_differs(
    agent: AgentKnown, renders: Mapping[str, Render], doubted: str | None, now: datetime
) -> tuple[AgentKnown, dict[str, Tell]]:
    """*doubted*: a side whose last word came too late; if its clock is behind, it shows that now."""
    tells = {}
    for key, render in renders.items():
        side = agent.sides.get(key, SideKnown())
        wanted = _wanted(agent, render)
        if wanted is None or agent.status is None or wanted == side.refused:
            continue
        doubtful = key == doubted and bool(side.tells) and side.tells[-1].done_at is not None
        if (side.shows(wanted, now) and not doubtful) or side.tries >= _TRIES:
            continue
        # Each is later than the one before, also within a millisecond.
        at = max(now, side.told_at + _TICK) if side.told_at else now
        tell = Tell(at=at, status=agent.status, shown=wanted)
        kept = [one for one in side.tells if one.may_echo(now, now)]
        told = side.model_copy(
            update={
                "tells": (*kept, tell)[-_MOST_TELLS:],
                "told_at": at,
                "tries": side.tries + 1,
            }
        )
        agent, tells[key] = with_side(agent, key, told), tell
    return agent, tells
