"""Our FastAGI server over real sockets: recorded dialogues, and peers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from shared.errors import ContractError, Forbidden, Unavailable
from shared.pbx.asterisk.fastagi import AgiAnswer, AgiQuestion, FastAgiServer
from shared.sandbox.pbx import ask_route
from shared.testing.waiting import eventually

RECORDINGS = Path(__file__).parents[1] / "data" / "pbx"
ENVIRONMENT = (
    "agi_network_script: route",
    "agi_uniqueid: 1795244075.0",
    "agi_callerid: 447700900123",
    "agi_extension: 442079460000",
)
ROUTED = {"CRM_DEST": "extension:101"}


@dataclass
class Desk:
    """Answers every question with *answer* and keeps what it was asked."""

    answer: AgiAnswer = field(default_factory=lambda: ROUTED)
    asked: list[AgiQuestion] = field(default_factory=list)

    async def decide(self, question: AgiQuestion) -> AgiAnswer:
        self.asked.append(question)
        return self.answer


@asynccontextmanager
async def serving(desk: Desk, *, allowed: bool = True) -> AsyncIterator[int]:
    server = FastAgiServer(desk.decide, may_ask=lambda _: allowed)
    port = await server.start("127.0.0.1", 0)
    try:
        yield port
    finally:
        await server.stop(drain=timedelta(0))


@dataclass
class Peer:
    """A PBX that says what the test tells it to."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, *lines: str) -> None:
        self.writer.write("".join(f"{line}\n" for line in lines).encode())

    async def hears(self) -> str:
        """The next command; empty when the server has closed."""
        async with asyncio.timeout(30):
            try:
                return (await self.reader.readline()).decode().rstrip("\n")
            except ConnectionError:
                return ""


@asynccontextmanager
async def connected(port: int) -> AsyncIterator[Peer]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()


async def asked_for_a_route(port: int, uniqueid: str = "1.0") -> dict[str, str]:
    async with asyncio.timeout(30):
        return await ask_route(
            ("127.0.0.1", port, "route"),
            caller="447700900123",
            caller_name="Customer",
            did="442079460000",
            uniqueid=uniqueid,
        )


async def assert_serves(port: int) -> None:
    assert await asked_for_a_route(port) == ROUTED


# -- recorded dialogues ---------------------------------------------------------------------


@dataclass(frozen=True)
class Dialogue:
    """One recorded connection: what Asterisk sent, and how it answered the first command."""

    name: str
    environment: tuple[str, ...]
    #: With the HANGUP lines before it; empty where nothing was asked.
    first_answer: tuple[str, ...]

    @property
    def said(self) -> dict[str, str]:
        pairs = (line.partition(":") for line in self.environment)
        return {name: value.strip() for name, _, value in pairs}


def recorded_dialogues() -> list[Dialogue]:
    found = []
    for path in sorted(RECORDINGS.glob("*.agi.txt")):
        name = path.name.removesuffix(".agi.txt")
        for number, part in enumerate(path.read_text().split("-- connected\n")[1:], start=1):
            heard = [line[11:] for line in part.splitlines() if line[8:10] == "<<"]
            end = heard.index("")
            answers = ["HANGUP" if "HANGUP" in line else line for line in heard[end + 1 :]]
            finals = [n for n, line in enumerate(answers, start=1) if line != "HANGUP"]
            first = answers[: finals[0]] if finals else answers
            found.append(Dialogue(f"{name}-{number}", tuple(heard[:end]), tuple(first)))
    return found


DIALOGUES = recorded_dialogues()
LINKEDID = "GET FULL VARIABLE ${CHANNEL(linkedid)}"


@pytest.mark.parametrize("dialogue", DIALOGUES, ids=lambda dialogue: dialogue.name)
async def test_a_recorded_dialogue_is_read_and_answered(dialogue: Dialogue) -> None:
    desk = Desk()
    async with serving(desk) as port, connected(port) as peer:
        peer.say(*dialogue.environment, "")
        assert await peer.hears() == LINKEDID
        answer = dialogue.first_answer
        peer.say(*(answer if answer and answer[-1] != "HANGUP" else (*answer, "200 result=0")))
        assert await peer.hears() == 'SET VARIABLE CRM_DEST "extension:101"'
        peer.say("200 result=1")
        assert await peer.hears() == ""

    (question,) = desk.asked
    said = dialogue.said
    assert question.caller == said["agi_callerid"]
    assert question.caller_name == said["agi_calleridname"]
    assert question.did == said["agi_extension"]
    assert question.uniqueid == said["agi_uniqueid"]
    assert question.linkedid == said["agi_uniqueid"]  # of the first channel of a call
    assert question.script == "route"
    assert question.peer == "127.0.0.1"
    assert question.arguments[0] == said["agi_arg_1"]


def test_the_recorded_dialogues_are_not_all_alike() -> None:
    assert len(DIALOGUES) > 15
    assert () in {dialogue.first_answer for dialogue in DIALOGUES}
    assert any(dialogue.first_answer[:1] == ("HANGUP",) for dialogue in DIALOGUES)


async def test_the_digits_of_an_ivr_are_the_second_argument() -> None:
    desk = Desk()
    second = next(dialogue for dialogue in DIALOGUES if dialogue.name == "ivr-2")
    async with serving(desk) as port, connected(port) as peer:
        peer.say(*second.environment, "")
        await peer.hears()
        peer.say("200 result=0")
        await peer.hears()

    assert desk.asked[0].arguments == ("442079460000", "1")


async def test_the_variables_of_the_answer_are_set() -> None:
    answer = {"CRM_DEST": "queue:gold", "CRM_REASON": "row_matched", "CRM_RULE": ""}
    async with serving(Desk(answer)) as port:
        assert await asked_for_a_route(port) == answer


async def test_a_leg_that_joined_a_call_is_asked_about_by_the_call_s_id() -> None:
    desk = Desk()
    async with serving(desk) as port, connected(port) as peer:
        peer.say(*ENVIRONMENT, "")
        await peer.hears()
        peer.say("200 result=1 (1795244000.7)")
        await peer.hears()

    assert (desk.asked[0].uniqueid, desk.asked[0].linkedid) == ("1795244075.0", "1795244000.7")


async def test_of_a_value_the_outermost_parentheses_are_not_part() -> None:
    desk = Desk()
    async with serving(desk) as port, connected(port) as peer:
        peer.say(*ENVIRONMENT, "")
        await peer.hears()
        peer.say("200 result=1 (a (nested) value)")
        await peer.hears()

    assert desk.asked[0].linkedid == "a (nested) value"


async def test_an_empty_argument_before_another_keeps_its_place() -> None:
    desk = Desk()
    async with serving(desk) as port, connected(port) as peer:
        peer.say(*ENVIRONMENT, "agi_arg_1: ", "agi_arg_2: 7", "")
        await peer.hears()
        peer.say("200 result=0")
        await peer.hears()

    assert desk.asked[0].arguments == ("", "7")


async def test_the_menu_that_asks_is_the_third_argument() -> None:
    """Without digits, as a dialplan sends it: AGI(url,4420,,account)."""
    desk = Desk()
    async with serving(desk) as port, connected(port) as peer:
        peer.say(*ENVIRONMENT, "agi_arg_1: 4420", "agi_arg_2: ", "agi_arg_3: account", "")
        await peer.hears()
        peer.say("200 result=0")
        await peer.hears()

    assert desk.asked[0].arguments == ("4420", "", "account")


async def test_bytes_that_are_no_utf8_do_not_stop_the_question() -> None:
    desk = Desk()
    async with serving(desk) as port, connected(port) as peer:
        peer.writer.write(b"agi_calleridname: caf\xe9\n")
        peer.say(*ENVIRONMENT, "")
        await peer.hears()
        peer.say("200 result=0")
        await peer.hears()

    assert desk.asked[0].caller == "447700900123"


# -- the caller hangs up --------------------------------------------------------------------


@pytest.mark.parametrize("times", [1, 2])
async def test_a_hangup_line_before_an_answer_is_no_answer(times: int) -> None:
    desk = Desk({"A": "1", "B": "2"})
    hangup = ["HANGUP"] * times
    async with serving(desk) as port, connected(port) as peer:
        peer.say(*ENVIRONMENT, "")
        assert await peer.hears() == LINKEDID
        peer.say(*hangup, "200 result=1 (1.7)")
        assert await peer.hears() == 'SET VARIABLE A "1"'
        peer.say(*hangup, "200 result=1", *hangup)
        assert await peer.hears() == 'SET VARIABLE B "2"'
        peer.say("200 result=1")
        assert await peer.hears() == ""

    assert desk.asked[0].linkedid == "1.7"


async def test_a_hangup_and_nothing_more_asks_nobody() -> None:
    """As recorded in route_silent."""
    desk = Desk()
    async with serving(desk) as port:
        async with connected(port) as peer:
            peer.say(*ENVIRONMENT, "")
            await peer.hears()
            peer.say("HANGUP")
            peer.writer.write_eof()
            assert await peer.hears() == ""
        assert desk.asked == []
        await assert_serves(port)


# -- peers that go away ---------------------------------------------------------------------

SPOKEN = (*ENVIRONMENT, "", "200 result=1 (1795244075.0)", "200 result=1")


@pytest.mark.parametrize("abruptly", [False, True])
@pytest.mark.parametrize("lines", range(len(SPOKEN) + 1))
async def test_a_peer_may_go_away_at_any_point(lines: int, *, abruptly: bool) -> None:
    async with serving(Desk()) as port:
        async with connected(port) as peer:
            for number, line in enumerate(SPOKEN[:lines]):
                if number > len(ENVIRONMENT):
                    await peer.hears()
                peer.say(line)
            await peer.writer.drain()
            if abruptly:
                peer.writer.transport.abort()

        await assert_serves(port)


async def test_a_peer_may_go_away_in_the_middle_of_a_line() -> None:
    async with serving(Desk()) as port:
        async with connected(port) as peer:
            peer.writer.write(b"agi_network_scr")
            await peer.writer.drain()

        await assert_serves(port)


@pytest.mark.parametrize("by", ["its address", "its question"])
async def test_who_may_not_ask_is_refused_in_the_log(by: str) -> None:
    async def refuse(_: AgiQuestion) -> AgiAnswer:
        raise Forbidden("127.0.0.1 asked for 'route/acme/other'")

    server = FastAgiServer(refuse, may_ask=lambda _: by == "its question")
    port = await server.start("127.0.0.1", 0)
    with capture_logs() as logs:
        async with connected(port) as peer:
            peer.say(*ENVIRONMENT, "")
            await peer.hears()
            peer.say("200 result=1 (1.0)")
            assert await peer.hears() == ""
        await server.stop(drain=timedelta(seconds=1))

    assert [(line["event"], line["peer"]) for line in logs] == [("agi_refused", "127.0.0.1")]


async def test_a_question_that_cannot_be_read_sets_nothing_and_is_said_in_the_log() -> None:
    async def refuse(_: AgiQuestion) -> AgiAnswer:
        raise ContractError("ivr is no name of a menu")

    server = FastAgiServer(refuse, may_ask=lambda _: True)
    port = await server.start("127.0.0.1", 0)
    with capture_logs() as logs:
        assert await asked_for_a_route(port) == {}
        await server.stop(drain=timedelta(seconds=1))

    (line,) = logs
    assert (line["event"], line["error"]) == ("agi_broken_off", "ivr is no name of a menu")


async def test_probes_that_connect_and_go_leave_the_server_serving() -> None:
    desk = Desk()
    async with serving(desk) as port:
        for _ in range(50):
            async with connected(port):
                pass
        await assert_serves(port)

    assert len(desk.asked) == 1


# -- peers that say too much, or too little --------------------------------------------------


@pytest.mark.parametrize(
    "lines",
    [
        [f"agi_arg_{number}: x" for number in range(200)],
        ["agi_callerid: " + "1" * 5000, ""],
        ["x" * 100_000],
    ],
    ids=["too many lines", "too long a line", "no end of line"],
)
async def test_an_environment_over_its_bounds_ends_the_session(lines: list[str]) -> None:
    desk = Desk()
    async with serving(desk) as port:
        async with connected(port) as peer:
            peer.say(*lines)
            assert await peer.hears() == ""
        assert desk.asked == []
        await assert_serves(port)


@pytest.mark.parametrize("lines", [[], ENVIRONMENT], ids=["nothing", "no end"])
async def test_an_environment_that_does_not_come_is_not_waited_for(lines: list[str]) -> None:
    """Two seconds in real time."""
    desk = Desk()
    async with serving(desk) as port, connected(port) as peer:
        peer.say(*lines)
        assert await peer.hears() == ""

    assert desk.asked == []


async def test_a_command_that_is_not_answered_ends_the_session() -> None:
    """One second in real time."""
    desk = Desk()
    async with serving(desk) as port, connected(port) as peer:
        peer.say(*ENVIRONMENT, "")
        assert await peer.hears() == LINKEDID
        assert await peer.hears() == ""

    assert desk.asked == []


@pytest.mark.parametrize(
    "answer",
    [
        ["520-Invalid command syntax.  Proper usage follows:", "Usage", "520 End of proper usage."],
        ["510 Invalid or unknown command"],
        ["511 Command Not Permitted on a dead channel or intercept routine"],
        ["HTTP/1.1 400 Bad Request"],
        [""],
        ["200"],
    ],
    ids=lambda answer: answer[0][:3],
)
async def test_a_refused_command_ends_its_session_and_no_other(answer: list[str]) -> None:
    async with serving(Desk({"A": "1", "B": "2"})) as port, connected(port) as other:
        other.say(*ENVIRONMENT, "")
        await other.hears()
        async with connected(port) as peer:
            peer.say(*ENVIRONMENT, "")
            await peer.hears()
            peer.say("200 result=1 (1.0)")
            assert await peer.hears() == 'SET VARIABLE A "1"'
            peer.say(*answer)
            assert await peer.hears() == ""

        other.say("200 result=1 (1.0)")
        assert await other.hears() == 'SET VARIABLE A "1"'


# -- who may ask ----------------------------------------------------------------------------


async def test_an_address_that_may_not_ask_is_told_nothing() -> None:
    desk = Desk()
    async with serving(desk, allowed=False) as port, connected(port) as peer:
        assert await peer.hears() == ""

    assert desk.asked == []


async def test_what_an_address_that_may_not_ask_says_is_not_answered() -> None:
    desk = Desk()
    async with serving(desk, allowed=False) as port, connected(port) as peer:
        peer.say(*ENVIRONMENT, "", "200 result=1 (1.0)")
        assert await peer.hears() == ""

    assert desk.asked == []


async def test_the_address_that_connects_is_the_one_that_is_judged() -> None:
    judged: list[str] = []
    server = FastAgiServer(Desk().decide, may_ask=lambda peer: bool(judged.append(peer)))  # type: ignore[func-returns-value]  # None is no
    port = await server.start("127.0.0.1", 0)
    async with connected(port) as peer:
        await peer.hears()
    await server.stop(drain=timedelta(0))

    assert judged == ["127.0.0.1"]


# -- values ---------------------------------------------------------------------------------


def unquoted(command: str) -> str:
    """As Asterisk reads it: inside quotes, a backslash takes the next character as it is."""
    value = command.partition(" ")[2].partition(" ")[2].partition(" ")[2]
    assert value.startswith('"')
    found, at = [], 1
    while value[at] != '"':
        at += value[at] == "\\"
        found.append(value[at])
        at += 1
    assert at == len(value) - 1
    return "".join(found)


async def command_for(value: str) -> str:
    async with serving(Desk({"X": value})) as port, connected(port) as peer:
        peer.say(*ENVIRONMENT, "")
        await peer.hears()
        peer.say("200 result=0")
        return await peer.hears()


@pytest.mark.parametrize(
    "value",
    [
        "extension:101",
        "two words",
        "",
        'he said "yes" and 50% \\ more',
        'ends with "quotes"',
        "ends with a backslash\\",
        '\\"',
        "Анна Иванова €",
        "${EXTEN} $[1+1] `id` ; , |",
        "a\tb",
    ],
)
async def test_a_value_reaches_asterisk_as_it_is(value: str) -> None:
    assert unquoted(await command_for(value)) == value


def test_any_value_without_a_line_break_reaches_asterisk_as_it_is() -> None:
    @settings(deadline=None, max_examples=25)
    @given(value=st.text(st.characters(exclude_characters="\r\n\x00", codec="utf-8"), max_size=60))
    def reaches(value: str) -> None:
        assert unquoted(asyncio.run(command_for(value))) == value

    reaches()


async def test_the_sandbox_reads_a_quoted_value_as_asterisk_does() -> None:
    answer = {"A": 'he said "yes"', "B": 'a \\" b', "C": "a\\\\b\\", "D": "Анна"}
    async with serving(Desk(answer)) as port:
        assert await asked_for_a_route(port) == answer


@pytest.mark.parametrize("value", ["a\nHANGUP", "a\r\nb", "\n", "a\x00b"])
async def test_a_line_break_in_a_value_is_never_sent(value: str) -> None:
    desk = Desk({"A": "1", "B": value, "C": "3"})
    async with serving(desk) as port:
        async with connected(port) as peer:
            peer.say(*ENVIRONMENT, "")
            await peer.hears()
            peer.say("200 result=0")
            assert await peer.hears() == 'SET VARIABLE A "1"'
            peer.say("200 result=1")
            assert await peer.hears() == ""
        desk.answer = ROUTED
        await assert_serves(port)


# -- decisions ------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Unavailable("the store is away"), ValueError("a fault of ours")])
async def test_a_decision_that_fails_leaves_the_dialplan_its_default(error: Exception) -> None:
    class Failing(Desk):
        async def decide(self, question: AgiQuestion) -> AgiAnswer:
            if question.did == "0":
                raise error
            return await super().decide(question)

    async with serving(Failing()) as port:
        async with connected(port) as peer:
            peer.say("agi_extension: 0", "")
            await peer.hears()
            peer.say("200 result=0")
            assert await peer.hears() == ""
        await assert_serves(port)


class Slow(Desk):
    """Thinks until it is told to go on."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def decide(self, question: AgiQuestion) -> AgiAnswer:
        self.asked.append(question)
        await self.go_on.wait()
        return {"CRM_DEST": f"extension:{question.uniqueid}"}


async def test_many_calls_at_once_each_get_their_own_answer() -> None:
    desk = Slow()
    async with serving(desk) as port:
        asking = [asyncio.create_task(asked_for_a_route(port, str(n))) for n in range(200)]
        await eventually(lambda: len(desk.asked) == 200)
        desk.go_on.set()

        answers = await asyncio.gather(*asking)

    assert answers == [{"CRM_DEST": f"extension:{n}"} for n in range(200)]


async def test_a_stop_lets_running_sessions_finish_and_takes_no_new_one() -> None:
    desk = Slow()
    server = FastAgiServer(desk.decide, may_ask=lambda _: True)
    port = await server.start("127.0.0.1", 0)
    asking = asyncio.create_task(asked_for_a_route(port, "7"))
    await eventually(lambda: len(desk.asked) == 1)

    stopping = asyncio.create_task(server.stop(drain=timedelta(seconds=30)))
    await eventually(lambda: server._server is not None and not server._server.is_serving())
    with pytest.raises(OSError, match="Connect"):
        await asked_for_a_route(port)
    desk.go_on.set()

    assert await asking == {"CRM_DEST": "extension:7"}
    await stopping


async def test_a_stop_waits_no_longer_than_its_drain() -> None:
    desk = Slow()
    server = FastAgiServer(desk.decide, may_ask=lambda _: True)
    port = await server.start("127.0.0.1", 0)
    asking = asyncio.create_task(asked_for_a_route(port))
    await eventually(lambda: len(desk.asked) == 1)

    async with asyncio.timeout(30):
        await server.stop(drain=timedelta(milliseconds=50))

    assert await asking == {}
