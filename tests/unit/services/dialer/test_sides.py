"""Statuses to and fro between sides with few words, in whatever order their messages come."""

from __future__ import annotations

from datetime import timedelta

from services.dialer.sides import (
    AgentKnown,
    Render,
    Rendering,
    came_too_late,
    side_key,
    took,
    took_not,
)
from services.dialer.weighing import Heard, Statement, Verdict, hear
from shared.contracts.agents import AgentStatus, Side
from tests.unit.services.dialer.sides_kit import ALL, FEW, NO_OFFLINE, NOON, QUIET, SECOND, a_render

FREE, BUSY, BREAK, DINNER, OFFLINE = AgentStatus
PBX, CRM = side_key(Side.PBX, "main"), side_key(Side.CRM, "retail")


class Desk:
    """One agent, and what was said and told."""

    def __init__(self, pbx: dict[AgentStatus, AgentStatus] = FEW) -> None:
        self.agent = AgentKnown()
        self.now = NOON
        self.renders: dict[str, Render] = {
            PBX: a_render(pbx),
            CRM: lambda status, _: a_render(ALL)(status, None),
        }
        self.count = 0
        self.last: Heard | None = None
        #: Sides that have not taken yet what they are told.
        self.away: set[str] = set()

    def says(
        self,
        source: Side,
        status: AgentStatus,
        *,
        own: str | None = None,
        ago: timedelta = timedelta(0),
    ) -> dict[str, AgentStatus]:
        """Whom it is told."""
        self.count += 1
        name = {Side.PBX: "main", Side.CRM: "retail", Side.API: "a-key"}[source]
        said = Statement(
            id=str(self.count), source=source, name=name, status=status, own=own, at=self.now - ago
        )
        told = self.weigh(said)
        for side in told:
            if side not in self.away:
                self.took(side)
        return told

    def weigh(self, said: Statement) -> dict[str, AgentStatus]:
        self.last = hear(self.agent, said, self.renders, now=self.now)
        # As the store gives it back.
        self.agent = AgentKnown.model_validate_json(self.last.agent.model_dump_json())
        return {side: tell.status for side, tell in self.last.tells.items()}

    def took(self, side: str) -> None:
        at = self.agent.sides[side].tells[-1].at
        self.agent = took(self.agent, side, at, now=self.now)

    def wait(self, time: timedelta = SECOND) -> None:
        self.now += time

    @property
    def verdict(self) -> Verdict:
        assert self.last is not None
        return self.last.verdict

    @property
    def settled(self) -> bool:
        assert self.last is not None
        return self.last.settled


# -- one thing at a time ---------------------------------------------------------------------


def test_what_the_pbx_says_is_told_to_the_crm_and_the_other_way_round() -> None:
    desk = Desk()
    assert desk.says(Side.PBX, FREE) == {CRM: FREE}
    desk.wait()
    assert desk.says(Side.CRM, BREAK) == {PBX: BREAK}
    desk.wait()
    assert desk.says(Side.API, OFFLINE) == {PBX: OFFLINE, CRM: OFFLINE}
    assert (desk.agent.status, desk.agent.source, desk.agent.source_name) == (
        OFFLINE,
        Side.API,
        "a-key",
    )


def test_an_echo_changes_nothing_and_does_not_degrade_the_status() -> None:
    desk = Desk()
    assert desk.says(Side.CRM, DINNER) == {PBX: DINNER}
    desk.wait()
    assert desk.says(Side.PBX, BREAK) == {}
    assert (desk.agent.status, desk.verdict) == (DINNER, Verdict.ECHO)
    assert desk.settled, "who goes by the PBX's words alone would take it for a break"
    desk.wait(timedelta(hours=1))
    assert desk.says(Side.PBX, BREAK) == {}, "the PBX was connected anew"
    assert (desk.agent.status, desk.verdict) == (DINNER, Verdict.SAME)
    desk.wait()
    assert desk.says(Side.PBX, FREE) == {CRM: FREE}
    desk.wait()
    assert desk.says(Side.PBX, BREAK) == {CRM: BREAK}, "this time it is meant"
    assert desk.agent.status is BREAK


def test_echoes_of_several_words_come_late_doubled_and_out_of_order() -> None:
    desk = Desk(ALL)
    desk.says(Side.PBX, FREE)
    desk.wait()
    for status in (BREAK, DINNER, BUSY):
        assert desk.says(Side.CRM, status) == {PBX: status}
        desk.wait()
    echoes = [(BUSY, 1), (BREAK, 3), (BUSY, 1), (DINNER, 2), (BREAK, 3), (BUSY, 0)]
    for status, ago in echoes:
        assert desk.says(Side.PBX, status, ago=timedelta(seconds=ago)) == {}, status
        assert desk.agent.status is BUSY


def test_a_word_that_is_older_than_the_last_is_nothing() -> None:
    desk = Desk()
    desk.says(Side.API, DINNER)
    desk.says(Side.PBX, BREAK)
    desk.wait(QUIET)
    desk.says(Side.CRM, FREE)
    assert desk.says(Side.CRM, BUSY, ago=timedelta(minutes=1)) == {}
    assert (desk.agent.status, desk.verdict) == (FREE, Verdict.LATE)
    assert desk.says(Side.API, BUSY, ago=timedelta(minutes=1)) == {}
    assert (desk.agent.status, desk.verdict) == (FREE, Verdict.LATE)


def test_a_side_whose_older_word_lost_is_told_what_holds() -> None:
    """It was not told before, as it showed that; then it went on, just before the other spoke."""
    desk = Desk()
    desk.says(Side.PBX, BREAK)
    desk.wait(QUIET)
    assert desk.says(Side.CRM, DINNER) == {}, "it shows a break, its word for it"
    desk.wait()
    assert desk.says(Side.PBX, FREE, ago=3 * SECOND) == {PBX: DINNER}
    assert desk.agent.status is DINNER


def test_what_a_side_said_before_its_last_word_is_nothing() -> None:
    """It went on a break and came back; both are newer than what the agent does."""
    desk = Desk(ALL)
    desk.says(Side.CRM, FREE)
    desk.wait(QUIET)
    assert desk.says(Side.PBX, FREE) == {}
    assert desk.says(Side.PBX, BREAK, ago=2 * SECOND) == {}
    assert (desk.agent.status, desk.verdict) == (FREE, Verdict.LATE)


def test_a_side_whose_clock_is_behind_is_told_what_holds() -> None:
    """Its agent came back just now, before the dinner as it says; it must not show another status."""
    desk = Desk(ALL)
    desk.says(Side.CRM, DINNER)
    desk.wait()
    assert desk.says(Side.PBX, FREE, ago=3 * SECOND) == {PBX: DINNER}
    assert desk.agent.status is DINNER


def test_an_agent_who_comes_back_and_goes_again_at_once_is_believed() -> None:
    desk = Desk()
    desk.says(Side.CRM, DINNER)
    desk.wait()
    desk.says(Side.PBX, BREAK)
    desk.wait()
    assert desk.says(Side.PBX, FREE) == {CRM: FREE}
    desk.wait()
    assert desk.says(Side.PBX, BREAK) == {CRM: BREAK}


def test_an_echo_that_comes_once_more_behind_the_next_changes_nothing() -> None:
    """Should it be more than that, the side is told again what holds."""
    desk = Desk(ALL)
    for status in (BREAK, FREE):
        desk.says(Side.CRM, status)
        desk.wait()
        desk.says(Side.PBX, status)
    desk.wait()
    assert desk.says(Side.PBX, BREAK) == {PBX: FREE}
    assert (desk.agent.status, desk.verdict) == (FREE, Verdict.ECHO)


def test_a_side_that_shows_it_without_having_been_told_says_nothing_new() -> None:
    desk = Desk()
    desk.away = {PBX}
    desk.says(Side.CRM, DINNER)
    at = desk.agent.sides[PBX].tells[-1].at
    desk.agent = came_too_late(desk.agent, PBX, at, "away")
    desk.wait(QUIET)
    assert desk.says(Side.PBX, BREAK) == {}
    assert (desk.agent.status, desk.verdict) == (DINNER, Verdict.SAME)


def test_a_clock_that_is_ahead_does_not_have_the_last_word_for_ever() -> None:
    desk = Desk()
    desk.says(Side.PBX, BREAK, ago=-timedelta(days=365))
    assert desk.agent.since == NOON
    desk.wait()
    assert desk.says(Side.CRM, FREE) == {PBX: FREE}
    assert desk.agent.status is FREE


def test_the_same_message_again_is_nothing_whatever_came_between() -> None:
    desk = Desk()
    said = Statement(id="x", source=Side.PBX, name="main", status=FREE, at=NOON + timedelta(days=1))
    assert desk.weigh(said) == {CRM: FREE}
    desk.wait()
    desk.says(Side.CRM, BREAK)
    desk.wait()
    assert desk.weigh(said) == {}
    assert (desk.agent.status, desk.verdict, desk.settled) == (BREAK, Verdict.DOUBLED, False)


def test_a_pbx_that_is_connected_anew_undoes_nothing() -> None:
    """It was away, did not hear of the dinner, and says all that it shows."""
    desk = Desk()
    desk.says(Side.PBX, FREE)
    desk.wait(QUIET)
    desk.away = {PBX}
    assert desk.says(Side.CRM, DINNER) == {PBX: DINNER}
    desk.wait()
    assert desk.says(Side.PBX, FREE) == {}, "it is being told"
    at = desk.agent.sides[PBX].tells[-1].at
    desk.agent = came_too_late(desk.agent, PBX, at, "away")
    desk.wait(QUIET)
    assert desk.says(Side.PBX, FREE) == {PBX: DINNER}, "it is told again"
    assert desk.agent.status is DINNER


def test_a_user_of_a_crm_goes_again_though_the_pbx_said_otherwise_meanwhile() -> None:
    """The CRM does not say back what it is told, so its last word is the user's own before."""
    desk = Desk()
    desk.says(Side.CRM, BUSY)
    desk.wait(10 * SECOND)
    assert desk.says(Side.PBX, FREE) == {CRM: FREE}
    desk.wait(10 * SECOND)
    assert desk.says(Side.CRM, BUSY) == {PBX: BUSY}
    assert (desk.agent.status, desk.verdict) == (BUSY, Verdict.CHANGED)
    desk.wait()
    assert desk.says(Side.CRM, BUSY) == {}, "it did not hear our answer"
    assert desk.verdict is Verdict.SAME


def test_what_a_pbx_refuses_it_is_told_once_until_something_changes() -> None:
    desk = Desk()
    desk.says(Side.PBX, FREE)
    desk.away = {PBX}
    desk.says(Side.CRM, DINNER)
    at = desk.agent.sides[PBX].tells[-1].at
    desk.agent = took_not(desk.agent, PBX, at, "member of no queue")
    assert desk.agent.sides[PBX].fault == "member of no queue"
    for _ in range(3):
        desk.wait(QUIET)
        assert desk.says(Side.PBX, FREE) == {}
    assert desk.agent.status is DINNER
    desk.away = set()
    assert desk.says(Side.API, DINNER) == {PBX: DINNER}, "a person asks for it once more"
    assert desk.agent.sides[PBX].fault is None


def test_what_a_person_says_again_is_told_to_nobody_who_shows_it() -> None:
    desk = Desk()
    assert desk.says(Side.API, DINNER) == {PBX: DINNER, CRM: DINNER}
    desk.wait()
    assert desk.says(Side.API, DINNER) == {}
    assert desk.agent.since == NOON


def test_a_pbxs_own_word_of_a_person_is_told_to_the_pbx_alone() -> None:
    desk = Desk(ALL)
    desk.says(Side.API, BREAK)
    desk.wait()
    assert desk.says(Side.API, BREAK, own="smoking") == {PBX: BREAK}
    assert desk.last is not None
    assert desk.last.tells[PBX].shown.word == "smoking"
    assert desk.agent.own == "smoking"


def test_own_words_of_the_same_status_are_kept_and_told_to_nobody() -> None:
    desk = Desk(ALL)
    desk.says(Side.PBX, BREAK, own="away")
    desk.wait()
    assert desk.says(Side.PBX, BREAK, own="business_trip") == {}
    assert (desk.agent.own, desk.agent.since, desk.settled) == ("business_trip", NOON, True)
    desk.wait()
    assert desk.says(Side.CRM, BREAK, own="pause") == {}
    assert desk.agent.own == "business_trip", "the CRM did not say it first"


def test_a_side_is_recognised_by_its_own_word() -> None:
    """A CRM with one word for two statuses reads it back as the other of them."""
    desk = Desk()
    desk.renders[CRM] = lambda status, _: Rendering(
        word="away" if status in {BREAK, DINNER} else str(status),
        heard=(BREAK, DINNER) if status in {BREAK, DINNER} else (status,),
    )
    assert desk.says(Side.PBX, BREAK, own="On Break")[CRM] is BREAK
    desk.wait()
    assert desk.says(Side.CRM, DINNER, own="away") == {}
    assert desk.agent.status is BREAK


def test_a_side_without_a_word_for_it_is_not_told() -> None:
    desk = Desk()
    desk.renders[CRM] = a_render(NO_OFFLINE)
    assert desk.says(Side.PBX, OFFLINE) == {}
    desk.wait()
    assert desk.says(Side.PBX, FREE) == {CRM: FREE}


def test_of_an_extension_that_nobody_can_be_told_of_the_word_is_kept() -> None:
    desk = Desk()
    desk.renders = {}
    assert desk.says(Side.PBX, BREAK) == {}
    assert (desk.agent.status, desk.settled) == (BREAK, True)


def test_what_changes_faster_than_a_person_is_told_to_nobody_until_it_is_quiet() -> None:
    """Something at the CRM sets each status back: we do not join in."""
    desk = Desk(ALL)
    told = 0
    for turn in range(40):
        desk.wait(SECOND)
        source, status = (Side.CRM, DINNER) if turn % 2 else (Side.PBX, BUSY)
        before = desk.agent.status
        desk.agent = desk.agent.model_copy(update={"sides": {}})  # no echo is recognised
        told += len(desk.says(source, status))
        assert desk.agent.status is status is not before
    assert told == 12
    assert desk.last is not None
    assert desk.last.restless
    desk.wait(timedelta(minutes=2))
    assert desk.says(Side.CRM, FREE) == {PBX: FREE}


def test_what_is_kept_of_an_agent_is_bounded() -> None:
    desk = Desk(ALL)
    for turn in range(300):
        desk.wait(timedelta(seconds=7))
        desk.says((Side.CRM, Side.PBX, Side.API)[turn % 3], list(AgentStatus)[turn % 5])
    assert len(desk.agent.model_dump_json()) < 20_000
