"""What is to be done about the entries of a call, by what is known of it now. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from services.journal.entries import EntryDocument
from services.journal.wanting import Wanted, wanted, whole_call_of
from shared.contracts.calls import CallRecord, EntryState
from shared.site.journal import EntryPer, JournalPolicy
from shared.site.models import CrmConnection

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class Orders:
    """
    *per*: that of the call's first entries: a policy that was changed since then must not write the
    call down a second time. Beside an entry stands the agent whose it is to be.
    """

    per: EntryPer
    new: tuple[str | None, ...] = ()
    #: Entries that are another agent's now: the call has one less of its old one.
    moved: tuple[tuple[EntryDocument, str | None], ...] = ()
    #: Not sent yet, and not to be.
    withdrawn: tuple[EntryDocument, ...] = ()
    #: Withdrawn once, and to be sent after all.
    revived: tuple[tuple[EntryDocument, str | None], ...] = ()
    #: As before; what they say of the call may be another.
    kept: tuple[EntryDocument, ...] = ()
    why_not: str | None = None


def orders(
    record: CallRecord, crm: CrmConnection, known: Sequence[EntryDocument], *, region: str | None
) -> Orders:
    """Of a settled call; *known*: its entries at this connection, whatever their state."""
    per = known[0].per if known else crm.journal.per
    verdict = wanted(record, crm.journal, per=per, region=region)
    asleep = [entry for entry in known if entry.state is EntryState.NOT_WANTED]
    awake = [entry for entry in known if entry.state is not EntryState.NOT_WANTED]
    if per is EntryPer.CALL:
        return _of_whole_call(verdict, awake, asleep)
    return _of_agents(verdict, awake, asleep)


def _of_agents(
    verdict: Wanted, awake: Sequence[EntryDocument], asleep: Sequence[EntryDocument]
) -> Orders:
    """
    What there is stays with its agents as far as they are wanted; an agent who has none gets the
    entry that was made for him, else one that nobody needs any more, else a new one.
    """
    has: dict[str | None, EntryDocument] = {}
    for entry in awake:
        if entry.agent in verdict.agents:
            has.setdefault(entry.agent, entry)
    made_for = {entry.made_for: entry for entry in awake}
    lacking = [agent for agent in verdict.agents if agent not in has]
    needy: list[str | None] = []
    while lacking:
        agent = lacking.pop(0)
        if (own := made_for.get(agent)) is None:
            needy.append(agent)
            continue
        if has.get(own.agent) is own:
            # It was passed on; it goes back, and who had it is looked after in his turn.
            del has[own.agent]
            lacking.append(own.agent)
        has[agent] = own
    taken = {entry.key for entry in has.values()}
    spare = [entry for entry in awake if entry.key not in taken]
    passed_on = dict(zip(needy, spare, strict=False))
    has |= passed_on
    spare = spare[len(passed_on) :]
    sleeping = {entry.made_for: entry for entry in asleep}
    return Orders(
        per=EntryPer.AGENT,
        new=tuple(a for a in needy if a not in has and a not in sleeping),
        moved=tuple((entry, agent) for agent, entry in has.items() if entry.agent != agent),
        withdrawn=tuple(filter(_may_be_withdrawn, spare)),
        revived=tuple((sleeping[a], a) for a in needy if a not in has and a in sleeping),
        kept=tuple(entry for agent, entry in has.items() if entry.agent == agent),
        why_not=verdict.why_not,
    )


def _of_whole_call(
    verdict: Wanted, awake: Sequence[EntryDocument], asleep: Sequence[EntryDocument]
) -> Orders:
    """Whose it is does not matter: it is found out when the entry is made."""
    if not verdict.agents:
        gone = tuple(filter(_may_be_withdrawn, awake))
        return Orders(per=EntryPer.CALL, withdrawn=gone, why_not=verdict.why_not)
    if awake:
        # Two, where two replicas ordered by different policies at the same moment.
        spare = [entry for entry in awake if _may_be_withdrawn(entry)]
        if len(spare) == len(awake):
            spare = spare[1:]
        return Orders(
            per=EntryPer.CALL,
            kept=tuple(entry for entry in awake if entry not in spare),
            withdrawn=tuple(spare),
        )
    if asleep:
        return Orders(per=EntryPer.CALL, revived=((asleep[0], None),))
    return Orders(per=EntryPer.CALL, new=(None,))


def whose(record: CallRecord, entry: EntryDocument) -> str | None:
    """The extension of the agent whose entry it is; None: nobody's."""
    return entry.agent if entry.per is EntryPer.AGENT else whole_call_of(record)


def due_at(policy: JournalPolicy, now: datetime, *, at_least: timedelta = timedelta(0)) -> datetime:
    """
    When an entry that is wanted *now* is sent: after the policy's wait, or *at_least* so long, and
    then with its upload.
    """
    ready_at = now + max(policy.after, at_least)
    if policy.upload is None:
        return ready_at
    late = (ready_at - _EPOCH) % policy.upload.every
    return ready_at + (policy.upload.every - late if late else timedelta(0))


def _may_be_withdrawn(entry: EntryDocument) -> bool:
    return entry.is_to_be_sent and not entry.maybe_sent
