from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.pbx.asterisk.agents import AgentDesk, extension_of
from shared.pbx.asterisk.ami_wire import AmiMessage, AmiParser
from shared.pbx.asterisk.reader import AmiReader
from shared.pbx.port import Phones, Sighting

RECORDING = Path(__file__).parents[4] / "data" / "pbx" / "queue_pause.ami.txt"
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def a_desk() -> AgentDesk:
    desk = AgentDesk(pbx="main")
    desk.know(Phones(extensions=frozenset({"101", "102"})))
    return desk


def says(event: str = "QueueMemberPause", **headers: str) -> AmiMessage:
    known = {"Event": event, "Queue": "support", "Interface": "PJSIP/101", "Paused": "1"}
    return AmiMessage({k: (v,) for k, v in (known | headers).items()})


def statuses(found: list[Sighting]) -> list[tuple[str, str]]:
    bodies = [s.body for s in found if isinstance(s.body, AgentStatusChanged)]
    return [(body.extension, body.status.value) for body in bodies]


def told(desk: AgentDesk, *messages: AmiMessage) -> list[str]:
    return [status for m in messages for _, status in statuses(desk.feed(m, NOON))]


@pytest.mark.parametrize(
    ("member", "extension"),
    [
        ("PJSIP/101", "101"),
        ("SIP/my-phone", "my-phone"),
        ("Local/101@from-queue/n", "101"),
        ("hint:101@ext-local", "101"),
        ("Agent/1001", "1001"),
        ("101", "101"),
        ("", None),
        ("PJSIP/", None),
        ("PJSIP/" + "1" * 40, None),
        ("PJSIP/a b", None),
    ],
)
def test_a_member_s_interface_names_its_phone(member: str, extension: str | None) -> None:
    assert extension_of(member) == extension


def test_a_recorded_pause_and_its_end_are_told_as_they_were() -> None:
    reader, found = AmiReader(tenant="acme", pbx="main"), []
    reader.know(Phones(extensions=frozenset({"101", "102"})))
    day = datetime(2026, 11, 21, 7, tzinfo=UTC)
    for message in AmiParser().feed(RECORDING.read_bytes()):
        found += reader.take(message, now=day)

    # The reason in the recording is `dinner`; then all members are listed, then it ends.
    assert statuses(found) == [("101", "dinner"), ("102", "free"), ("101", "free")]
    assert found[0].key.startswith("main/agent/101/dinner/2026-11-21T06:55:30.829129")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"PausedReason": "dinner"}, "dinner"),
        ({"PausedReason": "Dinner"}, "dinner"),
        ({"Reason": "offline"}, "offline"),  # Asterisk 16 says both
        ({"PausedReason": "busy"}, "busy"),
        ({"PausedReason": ""}, "break"),
        ({"PausedReason": "coffee"}, "break"),
        ({"PausedReason": "free"}, "break"),
    ],
)
def test_a_pause_s_reason_is_the_status_where_it_names_one(
    headers: dict[str, str], status: str
) -> None:
    assert told(a_desk(), says(**headers)) == [status]


def test_who_is_paused_in_one_of_two_queues_is_away_until_paused_in_none() -> None:
    desk = a_desk()

    assert told(desk, says(Queue="a"), says(Queue="b"), says(Queue="a", Paused="0")) == ["break"]
    assert told(desk, says(Queue="b", Paused="0")) == ["free"]


def test_the_same_again_is_no_news() -> None:
    assert told(a_desk(), says(), says(), says(Paused="0"), says(Paused="0")) == ["break", "free"]


def test_two_replicas_tell_a_change_by_the_same_key() -> None:
    one, other = a_desk(), a_desk()
    one.resync([says("QueueMember", Location="PJSIP/101", Paused="0")], NOON)

    (mine,), (theirs,) = one.feed(says(), NOON), other.feed(says(), NOON)
    assert mine == theirs


def test_a_phone_behind_a_local_channel_is_known_by_its_state() -> None:
    freepbx = says(Interface="Local/999@from-queue/n", StateInterface="hint:101@ext-local")

    assert statuses(a_desk().feed(freepbx, NOON)) == [("101", "break")]


@pytest.mark.parametrize("interface", ["PJSIP/103", "", "PJSIP/trunk", "x" * 300, "\x00"])
def test_a_member_that_is_no_agent_of_the_site_is_nobody(interface: str) -> None:
    assert a_desk().feed(says(Interface=interface), NOON) == []


def test_who_logs_in_to_and_out_of_queues_is_free_and_offline() -> None:
    desk = a_desk()

    assert told(desk, says("QueueMemberAdded", Paused="0")) == ["free"]
    assert told(desk, says("QueueMemberRemoved")) == ["offline"]


def test_who_leaves_one_of_two_queues_is_still_there() -> None:
    desk = a_desk()
    members = [says("QueueMember", Queue=queue, Paused="0") for queue in ("a", "b")]
    desk.resync(members, NOON)

    assert told(desk, says("QueueMemberRemoved", Queue="a")) == []
    assert told(desk, says("QueueMemberRemoved", Queue="b")) == ["offline"]


def test_an_agent_of_app_agent_pool_logs_in_and_out() -> None:
    pool = {"Interface": "", "Agent": "101"}

    assert told(a_desk(), says("AgentLogin", **pool), says("AgentLogoff", **pool)) == [
        "free",
        "offline",
    ]


def test_after_a_gap_what_has_changed_is_told_and_nothing_else() -> None:
    desk = a_desk()
    desk.resync([says("QueueMember", Paused="0"), says("QueueMember", Interface="SIP/102")], NOON)

    later = desk.resync([says("QueueMember"), says("QueueMember", Interface="SIP/102")], NOON)
    gone = desk.resync([], NOON + timedelta(minutes=1))

    assert statuses(later) == [("101", "break")]
    assert statuses(gone) == [("101", "offline"), ("102", "offline")]


def test_who_is_no_agent_any_more_is_forgotten() -> None:
    desk = a_desk()
    told(desk, says())
    desk.know(Phones(extensions=frozenset({"102"})))
    desk.know(Phones(extensions=frozenset({"101", "102"})))

    assert told(desk, says()) == [AgentStatus.BREAK.value]
