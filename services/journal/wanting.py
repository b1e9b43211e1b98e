"""
Which entries a finished call is to have in a CRM, and whose they are, by the connection's policy.
Pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.journal.domain import agent_of
from services.journal.listed import is_number_listed, is_phone_listed
from shared.contracts.calls import CallRecord, Direction, Disposition, LegOutcome, LegRecord
from shared.contracts.routing import DestinationKind
from shared.site.journal import DoNotLog, EntryPer, JournalPolicy, Misses

_GROUPS = frozenset({DestinationKind.QUEUE, DestinationKind.GROUP})


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    *agents*: whose entries there are to be, each once; None is an entry of nobody's. Empty where
    there is to be none, and *why_not* says why.
    """

    agents: tuple[str | None, ...] = ()
    why_not: str | None = None


def is_settled(record: CallRecord) -> bool:
    """Whether its beginning and its end are known: before, nothing can be said of it."""
    return None not in (record.started_at, record.ended_at, record.disposition)


def wanted(
    record: CallRecord, policy: JournalPolicy, *, per: EntryPer, region: str | None
) -> Wanted:
    """
    Of a settled call. *per*: that of the policy, or that by which the call got its entries before
    the policy was changed.
    """
    if why_not := _left_out(record, policy, region):
        return Wanted(why_not=why_not)
    if policy.misses is Misses.ANSWERED and _was_missed_by_group(record):
        return Wanted(
            why_not="nobody answered, and the policy logs who answered (misses: answered)"
        )
    if per is EntryPer.CALL:
        return _without(policy.do_not_log, [whole_call_of(record)])
    return _without(policy.do_not_log, _agents(record, policy.misses))


def whole_call_of(record: CallRecord) -> str | None:
    """
    The agent whose call it was, where it has one entry; None: nobody's. What a group missed, or a
    line outside took in its place, is of none of those who were rung.
    """
    inbound = record.direction is Direction.INBOUND
    if inbound and _is_group_call(record) and not who_answered(record):
        return None
    return agent_of(record)


def who_answered(record: CallRecord) -> frozenset[str]:
    """The extensions; not of an agent who answered the own phone to call somebody."""
    return frozenset(
        leg.callee.extension
        for leg in record.legs
        if leg.answered_at is not None and not leg.own_phone and leg.callee.extension is not None
    )


# -- the whole call --------------------------------------------------------------------------


def _left_out(record: CallRecord, policy: JournalPolicy, region: str | None) -> str | None:
    """Why the whole call has no entry, where it has none."""
    direction = record.direction
    if not policy.enabled:
        return "the journal of this connection is switched off"
    if direction is None or direction not in policy.directions:
        return f"calls that are {direction or 'of an unknown direction'} are not logged"
    if direction is not Direction.INBOUND and _reached_nobody(record):
        return "nobody was called: no phone but the agent's own was rung"
    return _listed(record, policy.do_not_log, direction, region)


def _reached_nobody(record: CallRecord) -> bool:
    """A PBX that tells no legs may say all the same that somebody was reached."""
    if not record.legs:
        return record.disposition is Disposition.FAILED
    return all(leg.own_phone for leg in record.legs)


def _listed(
    record: CallRecord, skip: DoNotLog, direction: Direction, region: str | None
) -> str | None:
    """Why nothing is said of a call between these two, or that nobody knows between whom it was."""
    if direction is Direction.INTERNAL:
        both = (record.caller.extension if record.caller else None, record.dialled)
        if any(is_phone_listed(one, skip.extensions) for one in both):
            return "an extension of the call is on the list of those that are not logged"
        return None
    number, did = record.outside_number, record.dialled
    if number is None and direction is Direction.OUTBOUND:
        return "nobody knows which number was called"
    if is_number_listed(number, skip.numbers, region):
        return "the number is on the list of those that are not logged"
    if direction is Direction.INBOUND and did and is_number_listed(did, skip.dids, region):
        return f"calls to {did} are not logged"
    return None


def _was_missed_by_group(record: CallRecord) -> bool:
    return (
        record.direction is Direction.INBOUND
        and record.disposition is not Disposition.ANSWERED
        and _is_group_call(record)
    )


def _without(skip: DoNotLog, agents: Sequence[str | None]) -> Wanted:
    kept = [agent for agent in agents if not is_phone_listed(agent, skip.extensions)]
    if kept:
        return Wanted(tuple(dict.fromkeys(kept)))
    names = ", ".join(agent for agent in dict.fromkeys(agents) if agent)
    return Wanted(why_not=f"calls of extension {names} are not logged")


# -- each agent's part -----------------------------------------------------------------------


def _agents(record: CallRecord, misses: Misses) -> list[str | None]:
    """Each agent who took part; of a group's those who missed it only as *misses* says."""
    found: list[str | None] = []
    answered = who_answered(record)
    if record.direction is not Direction.INBOUND and record.caller and record.caller.extension:
        found.append(record.caller.extension)
    elif not answered and record.disposition is Disposition.ANSWERED:
        # A line outside answered, such as the agent's mobile.
        found.append(whole_call_of(record))
    for leg in record.legs:
        agent = leg.callee.extension
        if agent is None or leg.own_phone:
            continue
        # Who picks up a colleague's call has it, as one of a group has that of all.
        elsewhere = bool(answered) and leg.outcome is LegOutcome.ELSEWHERE
        if (
            agent in answered
            or misses is Misses.ALL
            or not (elsewhere or _is_of_group(leg, record))
        ):
            found.append(agent)
    return found or [whole_call_of(record)]


def _is_group_call(record: CallRecord) -> bool:
    return _was_sent_to_group(record) or any(_is_of_group(leg, record) for leg in record.legs)


def _was_sent_to_group(record: CallRecord) -> bool:
    place = record.route.destination if record.route else None
    return record.queue is not None or (place is not None and place.kind in _GROUPS)


def _is_of_group(leg: LegRecord, record: CallRecord) -> bool:
    """
    Rung for a queue, beside other agents' phones, or before the first answer of a call that was sent
    to a group: not one to which a call was passed on.
    """
    if leg.callee.extension is None or leg.own_phone:
        return False
    if leg.queue is not None or any(_rang_together(leg, other) for other in record.legs):
        return True
    if not _was_sent_to_group(record) or any(other.queue is not None for other in record.legs):
        # A PBX that says for which queue a phone rings has said that this one rings for none.
        return False
    begins = leg.rang_at or leg.ended_at
    return record.answered_at is None or begins is None or begins <= record.answered_at


def _rang_together(one: LegRecord, other: LegRecord) -> bool:
    if other.own_phone or other.callee.extension in {None, one.callee.extension}:
        return False
    if one.rang_at is None or other.rang_at is None:
        return False
    first, second = sorted((one, other), key=lambda leg: (leg.rang_at, leg.leg_id))
    until = first.answered_at or first.ended_at
    assert second.rang_at is not None  # noqa: S101  both rang
    return until is None or second.rang_at < until
