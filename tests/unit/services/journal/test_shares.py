from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from services.journal.domain import Seen, fold
from services.journal.shares import share_of
from services.journal.wanting import is_settled, wanted
from shared.contracts.calls import Disposition
from shared.site.journal import EntryPer, JournalPolicy, Misses
from tests.calltelling import seen_in

EVERY_AGENT = JournalPolicy(per=EntryPer.AGENT, misses=Misses.ALL)
POOL = seen_in(
    "0 in, 0 out 101 07700900777, 0 queue support, 1 ring 101 for support, 1 ring 101#2, 1 ring 102,"
    "4 ring 07700900777, 5 answer 101, 5 answer 07700900777, 5 over 102 elsewhere, 9 answer 101#2,"
    "20 blind 101 102, 20 over 101 answered, 21 ring 102#2, 24 answer 102#2, 2 over 102 busy,"
    "30 attended 102 103, 31 answer 103, 60 end, 60 end missed, 60 end voicemail"
)


def test_who_passes_a_call_on_before_it_is_answered_did_not_talk() -> None:
    record = fold(
        "c1", seen_in("0 out 101 07700900777, 0 queue x, 20 blind 101 102, 31 answer 103, 60 end")
    )
    share = share_of(record, "101", per=EntryPer.AGENT)
    assert (share.disposition, share.answered_at, share.talk_time) == (
        Disposition.MISSED,
        None,
        timedelta(0),
    )
    assert share.wait_time == timedelta(seconds=20)


@given(events=st.lists(st.sampled_from(POOL), min_size=1, max_size=20))
def test_a_part_is_within_its_call_however_little_the_pbx_tells(events: list[Seen]) -> None:
    record = fold("c1", events)
    if not is_settled(record) or record.started_at is None or record.ended_at is None:
        return
    for agent in wanted(record, EVERY_AGENT, per=EntryPer.AGENT, region="GB").agents:
        share = share_of(record, agent, per=EntryPer.AGENT)
        assert record.started_at <= share.started_at <= share.ended_at <= record.ended_at
        length = share.ended_at - share.started_at
        assert timedelta(0) <= share.talk_time <= length
        assert timedelta(0) <= share.wait_time <= length
        assert share.answered_at is None or share.started_at <= share.answered_at <= share.ended_at
