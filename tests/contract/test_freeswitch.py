"""Our FreeSWITCH adapter over real sockets, against a server that speaks the event socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.contracts.agents import AgentStatus, AgentStatusChanged
from shared.contracts.calls import (
    CallAnswered,
    CallEnded,
    CallRinging,
    CallStarted,
    EndKnown,
    PbxResynced,
)
from shared.contracts.dialing import DialReason
from shared.errors import BadSetting, ContractError, Rejected, Unavailable
from shared.observe.metrics import Metrics
from shared.pbx.freeswitch.adapter import FreeSwitchSettings, freeswitch_adapter
from shared.pbx.freeswitch.esl_client import EslAddress, EslSession, esl_session
from shared.pbx.port import (
    AgentAt,
    DialRequest,
    EventSource,
    Finding,
    HangUp,
    LoginRefused,
    PbxAdapter,
    Phones,
    Sighting,
    Switchboard,
)
from shared.testing.waiting import eventually

PASSWORD = "not-the-default"
PING_EVERY = timedelta(seconds=10)
LONGEST_WAIT = timedelta(seconds=30)
A_WHILE = timedelta(seconds=5)
GREETING = b"Content-Type: auth/request\n\n"
REJECTION = b"Content-Type: text/rude-rejection\nContent-Length: 24\n\nAccess Denied, go away.\n"
PHONES = Phones(trunks=frozenset({"external"}), extensions=frozenset({"101"}))
ORDER = DialRequest(
    reference="click-0001",
    extension="101",
    number="+447700900777",
    ring_for=timedelta(seconds=15),
)

#: What to answer to a command: frames; none means silence.
Answer = Callable[[str], Sequence[bytes]]


def reply(text: str, **headers: str) -> bytes:
    lines = ["Content-Type: command/reply", f"Reply-Text: {text}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\n".join(lines) + "\n\n").encode()


def output(text: str) -> bytes:
    body = text.encode()
    return f"Content-Type: api/response\nContent-Length: {len(body)}\n\n".encode() + body


def told(event: dict[str, str]) -> bytes:
    body = orjson.dumps(event)
    head = f"Content-Length: {len(body)}\nContent-Type: text/event-json\n\n"
    return head.encode() + body


class Switch:
    """
    Takes every login with the right password, but for what *answers* says of a command's first
    words. *rows* are its channels.
    """

    def __init__(self, *, greeting: bytes = GREETING, **answers: Answer) -> None:
        self.greeting = greeting
        self.answers = {words.replace("_", " "): answer for words, answer in answers.items()}
        self.rows: list[dict[str, str]] = []
        self.commands: list[str] = []
        self.connections = 0
        self.gone = 0
        self.reads = asyncio.Event()
        self.reads.set()
        self._writers: set[asyncio.StreamWriter] = set()

    def said(self, words: str) -> list[str]:
        return [command for command in self.commands if command.startswith(words)]

    def tell(self, *frames: bytes) -> None:
        for writer in self._writers:
            writer.write(b"".join(frames))

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            writer.write(self.greeting)
            while True:
                command = (await reader.readuntil(b"\n\n")).decode().rstrip("\n")
                await self.reads.wait()
                self.commands.append(command)
                for frame in self._answer(command):
                    writer.write(frame)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self.gone += 1

    def _answer(self, command: str) -> Sequence[bytes]:
        for words, answer in self.answers.items():
            if command.startswith(words):
                return answer(command)
        if command.startswith("auth "):
            return [reply("+OK accepted" if command == f"auth {PASSWORD}" else "-ERR invalid")]
        if command.startswith("api show channels"):
            rows = {"row_count": len(self.rows), "rows": self.rows}
            return [output(orjson.dumps(rows).decode())]
        if command.startswith("bgapi "):
            job = command.rpartition("Job-UUID: ")[2]
            return [reply(f"+OK Job-UUID: {job}", Job_UUID=job)]
        return [reply("+OK")]


@asynccontextmanager
async def serving(switch: Switch) -> AsyncIterator[int]:
    server = await asyncio.start_server(switch.serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        switch.reads.set()
        switch.cut()
        await eventually(lambda: switch.gone == switch.connections)


def an_adapter(port: int, clock: ManualClock, metrics: Metrics, **changes: Any) -> PbxAdapter:
    known: dict[str, Any] = {"host": "127.0.0.1", "port": port, "password": SecretStr(PASSWORD)}
    return freeswitch_adapter(
        FreeSwitchSettings(**(known | changes)),
        tenant="acme",
        pbx="main",
        clock=clock,
        metrics=metrics,
    )


def an_address(port: int, password: str = PASSWORD, username: str | None = None) -> EslAddress:
    return EslAddress(host="127.0.0.1", port=port, password=SecretStr(password), username=username)


@asynccontextmanager
async def session_with(switch: Switch, clock: ManualClock) -> AsyncIterator[EslSession]:
    async with serving(switch) as port, esl_session(an_address(port), clock=clock) as session:
        yield session


class Witness:
    """Takes what is seen of calls, and kept; *go_on* lets it."""

    def __init__(self) -> None:
        self.seen: list[Sighting] = []
        self.resynced: list[PbxResynced] = []
        self.kept: list[bytes] = []
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def see(self, found: Sequence[Sighting]) -> None:
        await self.go_on.wait()
        self.resynced += [s.body for s in found if isinstance(s.body, PbxResynced)]
        self.seen += [s for s in found if not isinstance(s.body, PbxResynced)]

    def kinds(self) -> list[type]:
        return [type(sighting.body) for sighting in self.seen]


class Refusals:
    def __init__(self) -> None:
        self.told: list[tuple[str, DialReason]] = []

    async def take(self, reference: str, reason: DialReason) -> None:
        self.told.append((reference, reason))


@asynccontextmanager
async def running(work: Any) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def source_of(adapter: PbxAdapter) -> EventSource:
    assert adapter.source is not None
    source = adapter.source()
    source.know(PHONES)
    return source


def switchboard_of(adapter: PbxAdapter) -> Switchboard:
    assert adapter.switchboard is not None
    return adapter.switchboard()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


# -- a session ------------------------------------------------------------------------------


async def test_a_login_and_answers_in_the_order_of_the_commands(clock: ManualClock) -> None:
    async with session_with(Switch(api_a=lambda _: [output("A")]), clock) as session:
        one, other, third = await asyncio.gather(
            session.api("a"), session.api("show channels as json"), session.api("a")
        )

    assert (one, third) == ("A", "A")
    assert other.startswith("{")


async def test_a_user_of_the_directory_logs_in_with_his_own_password(clock: ManualClock) -> None:
    switch = Switch(userauth=lambda _: [reply("+OK accepted")])
    async with (
        serving(switch) as port,
        esl_session(an_address(port, "p", "callmesh@default"), clock=clock),
    ):
        pass

    assert switch.commands[0] == "userauth callmesh@default:p"


@pytest.mark.parametrize("greeting", [GREETING, REJECTION], ids=["password", "address"])
async def test_a_refused_login_says_where_to_look_and_not_the_password(
    greeting: bytes, clock: ManualClock
) -> None:
    async with serving(Switch(greeting=greeting)) as port:
        with pytest.raises(LoginRefused, match=r"event_socket\.conf\.xml") as refused:
            async with esl_session(an_address(port, "wrong-one"), clock=clock):
                pass

    assert "wrong-one" not in str(refused.value)
    assert "wrong-one" not in repr(an_address(port, "wrong-one"))


@pytest.mark.parametrize(
    "greeting", [b"HTTP/1.1 400 Bad Request\r\n" * 5_000, b"Content-Length: x\n\n"]
)
async def test_what_is_no_event_socket_is_not_spoken_to(
    greeting: bytes, clock: ManualClock
) -> None:
    switch = Switch(greeting=greeting)
    async with serving(switch) as port:
        with pytest.raises(ContractError, match="no event socket"):
            async with esl_session(an_address(port), clock=clock):
                pass

    assert switch.commands == []


async def test_nobody_at_the_address_is_unavailable(clock: ManualClock) -> None:
    async with serving(Switch()) as port:
        pass
    with pytest.raises(Unavailable, match="no event socket at"):
        async with esl_session(an_address(port), clock=clock):
            pass


async def test_an_answer_that_comes_too_late_is_not_the_next_ones(clock: ManualClock) -> None:
    switch = Switch(
        api_slow=lambda _: [],
        api_quick=lambda _: [output("SLOW"), output("QUICK")],
    )
    async with session_with(switch, clock) as session:
        with pytest.raises(Unavailable, match="did not answer api"):
            await session.api("slow", within=timedelta(milliseconds=50))

        assert await session.api("quick") == "QUICK"


async def test_what_the_pbx_refuses_is_told_in_its_words(clock: ManualClock) -> None:
    switch = Switch(api_x=lambda _: [output("-ERR x Command not found!\n")])
    async with session_with(switch, clock) as session:
        with pytest.raises(Rejected, match="-ERR x Command not found!"):
            await session.api("x")


async def test_a_line_break_is_never_sent(clock: ManualClock) -> None:
    switch = Switch()
    async with session_with(switch, clock) as session:
        with pytest.raises(ContractError):
            await session.api("show\n\nexit")
        await session.api("a")

    assert [command for command in switch.commands if "show" in command] == []


async def test_a_goodbye_ends_the_session_and_who_waits_learns_it(clock: ManualClock) -> None:
    goodbye = b"Content-Type: text/disconnect-notice\nContent-Length: 0\n\n"
    async with session_with(Switch(api_x=lambda _: [goodbye]), clock) as session:
        with pytest.raises(Unavailable, match="goodbye"):
            await session.api("x")
        with pytest.raises(Unavailable) as refused:
            await session.api("y")

    assert refused.value.details["sent"] is False


# -- events ---------------------------------------------------------------------------------


def an_event(clock: ManualClock, name: str, leg: str, **headers: str) -> bytes:
    stamp = str(round(clock.now().timestamp() * 1_000_000))
    more = {k if k.startswith("variable_") else k.replace("_", "-"): v for k, v in headers.items()}
    return told({"Event-Name": name, "Unique-ID": leg, "Event-Date-Timestamp": stamp} | more)


def caller_comes(clock: ManualClock, leg: str = "a") -> bytes:
    return an_event(
        clock,
        "CHANNEL_CREATE",
        leg,
        Call_Direction="inbound",
        Channel_Name="sofia/external/447700900123@x",
        Caller_Caller_ID_Number="447700900123",
        Caller_Destination_Number="442079460000",
    )


def phone_rings(clock: ManualClock) -> list[bytes]:
    made = {
        "Call_Direction": "outbound",
        "Channel_Name": "sofia/internal/101@x",
        "variable_dialed_user": "101",
    }
    parent = {"Other_Type": "originator", "Other_Leg_Unique_ID": "a"}
    return [
        an_event(clock, "CHANNEL_CREATE", "b", **made, **parent),
        an_event(clock, "CHANNEL_PROGRESS", "b", **made),
    ]


async def test_events_become_sightings_and_are_kept_as_they_came(
    clock: ManualClock, metrics: Metrics
) -> None:
    switch, witness = Switch(), Witness()
    async with serving(switch) as port:
        source = source_of(an_adapter(port, clock, metrics))
        async with running(source.run(witness.see, witness.kept.append)):
            await eventually(lambda: source.connected and bool(switch.said("api show")))
            switch.tell(caller_comes(clock), *phone_rings(clock))
            await eventually(lambda: len(witness.seen) == 2)
            switch.tell(b"Content-Type: text/event-json\nContent-Length: 1\n\n{")
            switch.tell(an_event(clock, "CHANNEL_HANGUP_COMPLETE", "b", Hangup_Cause="USER_BUSY"))
            await eventually(lambda: len(witness.seen) == 3)

    assert witness.kinds()[:2] == [CallStarted, CallRinging]
    assert switch.said("event json CHANNEL_CREATE ")
    assert switch.said("event")[0].endswith("CUSTOM callcenter::info")
    reader = an_adapter(port, clock, metrics).reader
    assert reader is not None
    again = reader()
    again.know(PHONES)
    twin = Witness()
    for record in witness.kept:
        with suppress(ContractError):
            await twin.see(again.read(record, now=clock.now()))
    assert [sighting.key for sighting in twin.seen] == [sighting.key for sighting in witness.seen]
    assert twin.resynced == witness.resynced
    counted = metrics.exposition().decode()
    assert 'callmesh_pbx_events_total{kind="freeswitch",outcome="garbage"} 1.0' in counted


async def test_a_refused_login_is_final(clock: ManualClock, metrics: Metrics) -> None:
    switch, witness = Switch(), Witness()
    async with serving(switch) as port:
        adapter = an_adapter(port, clock, metrics, password=SecretStr("wrong"))
        source = source_of(adapter)
        async with running(source.run(witness.see, witness.kept.append)):
            await eventually(lambda: switch.gone == 1)
            await eventually(lambda: source.fault is not None and "refuses" in source.fault)
            for _ in range(5):
                await clock.advance(timedelta(hours=1))

            assert not source.connected
    assert (len(switch.said("auth")), switch.connections) == (1, 1)


async def test_after_a_loss_it_connects_again_and_asks_what_goes_on(
    clock: ManualClock, metrics: Metrics
) -> None:
    switch, witness = Switch(), Witness()
    async with serving(switch) as port:
        source = source_of(an_adapter(port, clock, metrics))
        async with running(source.run(witness.see, witness.kept.append)):
            await eventually(lambda: source.connected and len(switch.said("api show")) == 1)
            switch.tell(caller_comes(clock), *phone_rings(clock), caller_comes(clock, "gone"))
            await eventually(lambda: len(witness.seen) == 3)
            switch.rows = [
                {"uuid": "a", "direction": "inbound", "callstate": "ACTIVE", "call_uuid": "a"},
                {"uuid": "b", "direction": "outbound", "callstate": "ACTIVE", "call_uuid": "a"},
            ]
            lost_at = clock.now()
            switch.cut()
            await eventually(lambda: not source.connected and switch.gone == 1)
            await clock.advance(LONGEST_WAIT)
            await eventually(lambda: len(witness.seen) == 5)

    assert set(witness.kinds()[3:]) == {CallAnswered, CallEnded}
    (ended,) = [s.body for s in witness.seen if isinstance(s.body, CallEnded)]
    assert ended.known is EndKnown.RESYNC
    first, again = witness.resynced
    assert (first.live, again.live) == ((), ("a", "b"))
    # The connection was lost then, and nobody knows what ended in the half minute after it.
    assert again.heard_until == lost_at


async def test_a_call_whose_beginning_overtakes_the_list_goes_on(
    clock: ManualClock, metrics: Metrics
) -> None:
    """The list was made before it, and both come in one piece."""
    empty = output(orjson.dumps({"row_count": 0}).decode())
    switch, witness = Switch(api_show=lambda _: [empty + caller_comes(clock)]), Witness()
    async with serving(switch) as port:
        source = source_of(an_adapter(port, clock, metrics))
        async with running(source.run(witness.see, witness.kept.append)):
            await eventually(lambda: bool(witness.resynced))
            switch.tell(*phone_rings(clock))
            await eventually(lambda: CallRinging in witness.kinds())

    assert witness.kinds() == [CallStarted, CallRinging]


async def test_what_was_dropped_is_counted_and_made_good_by_the_list(
    clock: ManualClock, metrics: Metrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.pbx.freeswitch.esl_client._QUEUE_BYTES", 2_000)
    switch, witness = Switch(), Witness()
    async with serving(switch) as port:
        source = source_of(an_adapter(port, clock, metrics))
        async with running(source.run(witness.see, witness.kept.append)):
            await eventually(lambda: len(witness.resynced) == 1)
            witness.go_on.clear()
            switch.tell(*(caller_comes(clock, f"leg-{number}") for number in range(50)))
            await clock.advance(PING_EVERY)
            await eventually(lambda: len(switch.said("nolog")) == 1)
            witness.go_on.set()
            await eventually(lambda: len(witness.resynced) == 2)

    dropped = metrics.value("callmesh_pbx_events_total", "freeswitch", "dropped")
    assert 0 < dropped == 50 - len([kind for kind in witness.kinds() if kind is CallStarted])


async def test_a_refusal_without_end_is_cut(clock: ManualClock) -> None:
    switch = Switch(api=lambda _: [output("-ERR " + "no\n" * 100_000)])
    async with session_with(switch, clock) as session:
        with pytest.raises(Rejected) as caught:
            await session.api("show channels")

    assert len(caught.value.message) < 300
    assert "\n" not in caught.value.message


async def test_a_pbx_that_hangs_is_noticed(clock: ManualClock, metrics: Metrics) -> None:
    """It keeps its connection and says nothing: only an answer proves that it lives."""
    switch = Switch(nolog=lambda _: [])
    async with serving(switch) as port, esl_session(an_address(port), clock=clock) as session:
        await eventually(lambda: clock.sleepers == 1)
        await clock.advance(PING_EVERY)
        await eventually(lambda: len(switch.said("nolog")) == 1)
        with pytest.raises(Unavailable, match="did not answer nolog"):
            await anext(session.events())


async def test_a_slow_handler_does_not_hold_up_the_reading_and_loses_nothing(
    clock: ManualClock, metrics: Metrics
) -> None:
    switch, witness = Switch(), Witness()
    witness.go_on.clear()
    async with serving(switch) as port:
        source = source_of(an_adapter(port, clock, metrics))
        async with running(source.run(witness.see, witness.kept.append)):
            await eventually(lambda: source.connected and bool(switch.said("api show")))
            switch.tell(*(caller_comes(clock, f"leg-{number}") for number in range(500)))
            await clock.advance(PING_EVERY)
            await eventually(lambda: len(switch.said("nolog")) == 1)
            assert source.connected
            witness.go_on.set()
            await eventually(lambda: len(witness.seen) == 500)


async def test_events_that_cannot_be_had_are_a_fault_that_says_so(
    clock: ManualClock, metrics: Metrics
) -> None:
    switch = Switch(event=lambda _: [reply("-ERR no keywords supplied")])
    witness = Witness()
    async with serving(switch) as port:
        source = source_of(an_adapter(port, clock, metrics))
        async with running(source.run(witness.see, witness.kept.append)):
            await eventually(lambda: "no keywords supplied" in (source.fault or ""))
            assert not source.connected


async def test_a_list_of_channels_that_is_refused_does_not_end_the_events(
    clock: ManualClock, metrics: Metrics
) -> None:
    switch, witness = Switch(api_show=lambda _: [output("-ERR permission denied")]), Witness()
    async with serving(switch) as port:
        source = source_of(an_adapter(port, clock, metrics))
        async with running(source.run(witness.see, witness.kept.append)):
            await eventually(lambda: bool(switch.said("api show")))
            switch.tell(caller_comes(clock))
            await eventually(lambda: witness.kinds() == [CallStarted])


# -- orders ---------------------------------------------------------------------------------


async def test_an_order_is_given_once_and_its_failure_is_told(
    clock: ManualClock, metrics: Metrics
) -> None:
    switch, refusals = Switch(), Refusals()
    async with serving(switch) as port:
        board = switchboard_of(an_adapter(port, clock, metrics, domain="pbx.example"))
        async with running(board.run(refusals.take)):
            await eventually(lambda: board.fault is None)
            receipt = await board.dial(ORDER, within=A_WHILE)
            job = switch.said("bgapi")[0].rpartition("Job-UUID: ")[2]
            for said_of, body in (("another", "-ERR X"), (job, "-ERR NO_ANSWER\n"), (job, "-ERR")):
                event = {"Event-Name": "BACKGROUND_JOB", "Job-UUID": said_of, "_body": body}
                switch.tell(told(event))
            await eventually(lambda: bool(refusals.told))
            await board.set_status(AgentAt("101"), AgentStatus.FREE, within=A_WHILE)

    assert refusals.told == [("click-0001", DialReason.AGENT_NO_ANSWER)]
    (line,) = switch.said("bgapi")
    assert f"origination_uuid={receipt.pbx_call_id}," in line
    assert "}user/101@pbx.example +447700900777 XML default\n" in line


async def test_an_order_that_works_out_is_no_refusal(clock: ManualClock, metrics: Metrics) -> None:
    switch, refusals = Switch(), Refusals()
    async with serving(switch) as port:
        board = switchboard_of(an_adapter(port, clock, metrics))
        async with running(board.run(refusals.take)):
            await eventually(lambda: board.fault is None)
            for reference in ("one", "two"):
                order = DialRequest(
                    reference=reference, extension="101", number="100", ring_for=A_WHILE
                )
                await board.dial(order, within=A_WHILE)
            one, two = (line.rpartition("Job-UUID: ")[2] for line in switch.said("bgapi"))
            done = {"Event-Name": "BACKGROUND_JOB", "Job-UUID": one, "_body": "+OK 1\n"}
            failed = {"Event-Name": "BACKGROUND_JOB", "Job-UUID": two, "_body": "-ERR USER_BUSY"}
            switch.tell(told(done), told(failed))
            await eventually(lambda: bool(refusals.told))

    assert refusals.told == [("two", DialReason.AGENT_UNREACHABLE)]


async def test_without_a_connection_nothing_was_sent(clock: ManualClock, metrics: Metrics) -> None:
    board = switchboard_of(an_adapter(1, clock, metrics))
    with pytest.raises(Unavailable) as refused:
        await board.dial(ORDER, within=A_WHILE)

    assert refused.value.details["sent"] is False


async def test_an_order_without_an_answer_is_not_given_again(
    clock: ManualClock, metrics: Metrics
) -> None:
    switch, refusals = Switch(bgapi=lambda _: []), Refusals()
    async with serving(switch) as port:
        board = switchboard_of(an_adapter(port, clock, metrics))
        async with running(board.run(refusals.take)):
            await eventually(lambda: board.fault is None)
            order = asyncio.create_task(board.dial(ORDER, within=A_WHILE))
            await eventually(lambda: len(switch.said("bgapi")) == 1)
            switch.cut()
            with pytest.raises(Unavailable) as refused:
                await order
            await eventually(lambda: board.fault is not None and clock.sleepers == 1)
            await clock.advance(LONGEST_WAIT)
            await eventually(lambda: board.fault is None)

    assert refused.value.details["sent"] is True
    assert len(switch.said("bgapi")) == 1


async def test_an_order_that_is_refused_or_cannot_be_said_is_rejected(
    clock: ManualClock, metrics: Metrics
) -> None:
    switch = Switch(bgapi=lambda _: [reply("-ERR permission denied")])
    odd = DialRequest(reference="r", extension="1&x", number="100", ring_for=A_WHILE)
    async with serving(switch) as port:
        board = switchboard_of(an_adapter(port, clock, metrics))
        async with running(board.run(Refusals().take)):
            await eventually(lambda: board.fault is None)
            with pytest.raises(Rejected, match="permission denied"):
                await board.dial(ORDER, within=A_WHILE)
            with pytest.raises(Rejected, match="cannot be part of a command"):
                await board.dial(odd, within=A_WHILE)

    assert len(switch.said("bgapi")) == 1


async def test_a_status_is_set_and_an_unknown_agent_is_told(
    clock: ManualClock, metrics: Metrics
) -> None:
    switch = Switch(
        api_callcenter=lambda line: [output("+OK\n" if "101@" in line else "-ERR Agent not found!")]
    )
    async with serving(switch) as port:
        board = switchboard_of(an_adapter(port, clock, metrics))
        async with running(board.run(Refusals().take)):
            await eventually(lambda: board.fault is None)
            await board.set_status(AgentAt("101"), AgentStatus.BREAK, within=A_WHILE)
            with pytest.raises(Rejected, match="Agent not found!"):
                await board.set_status(AgentAt("999"), AgentStatus.FREE, within=A_WHILE)
            with pytest.raises(Rejected, match="no status for busy"):
                await board.set_status(AgentAt("101"), AgentStatus.BUSY, within=A_WHILE)

    assert switch.said("api callcenter")[0].endswith("agent set status 101@default 'On Break'")


SITE = {AgentStatus.BUSY: "On Break", AgentStatus.FREE: "available (on demand)"}


@pytest.mark.parametrize("own", [None, "On Break", "logged out"])
@pytest.mark.parametrize("site", [{}, SITE])
@pytest.mark.parametrize("status", AgentStatus)
async def test_what_is_set_is_heard_as_it_was_said_it_would_be(
    clock: ManualClock,
    metrics: Metrics,
    status: AgentStatus,
    site: dict[AgentStatus, str],
    own: str | None,
) -> None:
    """What a dinner is heard as: a break."""
    switch = Switch(api_callcenter=lambda _: [output("+OK\n")])
    async with serving(switch) as port:
        adapter = an_adapter(port, clock, metrics, statuses=site)
        board = switchboard_of(adapter)
        async with running(board.run(Refusals().take)):
            await eventually(lambda: board.fault is None)
            if (status, own, site) == (AgentStatus.BUSY, None, {}):
                with pytest.raises(Rejected, match="say in `statuses`"):
                    await board.set_status(AgentAt("101"), status, within=A_WHILE)
                return
            await board.set_status(AgentAt("101"), status, own=own, within=A_WHILE)
    said = switch.said("api callcenter")[0].partition("'")[2].rstrip("'")
    assert adapter.reader is not None
    reader = adapter.reader()
    reader.know(PHONES)
    event = {
        "Event-Name": "CUSTOM",
        "Event-Subclass": "callcenter::info",
        "CC-Action": "agent-status-change",
        "CC-Agent": "101@default",
        "CC-Agent-Status": said,
    }

    (heard,) = reader.read(orjson.dumps(event), now=clock.now())

    assert said in {"Available", "Available (On Demand)", "On Break", "Logged Out"}
    assert isinstance(heard.body, AgentStatusChanged)
    assert heard.body.status is board.heard_as(status, own)
    assert (heard.body.own, heard.body.source_name) == (said, "main")


async def test_a_word_that_mod_callcenter_does_not_have_is_not_sent(
    clock: ManualClock, metrics: Metrics
) -> None:
    switch = Switch(api_callcenter=lambda _: [output("+OK\n")])
    async with serving(switch) as port:
        board = switchboard_of(an_adapter(port, clock, metrics))
        async with running(board.run(Refusals().take)):
            await eventually(lambda: board.fault is None)
            for own in ("Coffee", "'; uuid_kill all", "On Break\n\nevent plain ALL"):
                with pytest.raises(Rejected, match="it has Available"):
                    await board.set_status(
                        AgentAt("101"), AgentStatus.BREAK, own=own, within=A_WHILE
                    )

    assert switch.said("api callcenter") == []


# -- cancelling -----------------------------------------------------------------------------

CLICK = HangUp(reference="click-0001", extension="101")


def killing(*there: str) -> Answer:
    """Channels that there are, one after the other."""

    def answer(line: str) -> Sequence[bytes]:
        known = line.rpartition(" ")[2] in there
        return [output("+OK\n" if known else "-ERR No such channel!\n")]

    return answer


async def test_all_channels_of_a_call_are_killed_and_no_other(
    clock: ManualClock, metrics: Metrics
) -> None:
    """The agent has passed it on: what was made for his channel has its id."""
    switch = Switch()
    async with serving(switch) as port:
        board = switchboard_of(an_adapter(port, clock, metrics))
        async with running(board.run(Refusals().take)):
            await eventually(lambda: board.fault is None)
            own = (await board.dial(ORDER, within=A_WHILE)).pbx_call_id or ""
            switch.rows = [
                {"uuid": "customer", "call_uuid": own},
                {"uuid": "other", "call_uuid": "other"},
                {"uuid": own, "call_uuid": own},
            ]
            switch.answers["api uuid_kill"] = killing("customer")
            await board.hang_up(CLICK, within=A_WHILE)

    assert switch.said("api uuid_kill") == [f"api uuid_kill {own}", "api uuid_kill customer"]


async def test_an_order_whose_channel_is_not_there_yet_is_looked_for_once_more(
    clock: ManualClock, metrics: Metrics
) -> None:
    switch = Switch()
    switch.answers["api uuid_kill"] = killing()
    async with serving(switch) as port:
        board = switchboard_of(an_adapter(port, clock, metrics))
        async with running(board.run(Refusals().take)):
            await eventually(lambda: board.fault is None)
            cancelling = asyncio.create_task(board.hang_up(CLICK, within=A_WHILE))
            await eventually(lambda: len(switch.said("api uuid_kill")) == 1 and clock.sleepers == 2)
            await clock.advance(timedelta(seconds=1))
            await cancelling  # over, after all: no fault

    assert len(switch.said("api uuid_kill")) == 2


async def test_without_the_right_to_end_calls_it_is_said_what_to_change(
    clock: ManualClock, metrics: Metrics
) -> None:
    no = [output("-ERR permission denied")]
    switch = Switch()
    switch.answers |= dict.fromkeys(("api show", "api uuid_kill"), lambda _: no)
    async with serving(switch) as port:
        board = switchboard_of(an_adapter(port, clock, metrics))
        async with running(board.run(Refusals().take)):
            await eventually(lambda: board.fault is None)
            with pytest.raises(Rejected, match="allow `uuid_kill` in esl-allowed-api"):
                await board.hang_up(CLICK, within=A_WHILE)


# -- the check ------------------------------------------------------------------------------


def jobs_done(clock: ManualClock, ahead: timedelta = timedelta(0), body: str = "true") -> Answer:
    def answer(command: str) -> Sequence[bytes]:
        job = command.rpartition("Job-UUID: ")[2]
        stamp = str(round((clock.now() + ahead).timestamp() * 1_000_000))
        event = {"Event-Name": "BACKGROUND_JOB", "Job-UUID": job, "_body": body}
        return [
            reply(f"+OK Job-UUID: {job}"),
            told({"Event-Name": "BACKGROUND_JOB", "Job-UUID": "another's"}),
            told(event | {"Event-Date-Timestamp": stamp}),
        ]

    return answer


def always(frames: Sequence[bytes]) -> Answer:
    return lambda _: frames


async def checked(switch: Switch, clock: ManualClock, **changes: Any) -> list[Finding]:
    async with serving(switch) as port:
        adapter = an_adapter(port, clock, Metrics(), **changes)
        return [finding async for finding in adapter.check()]


async def test_a_check_finds_that_all_is_well(clock: ManualClock) -> None:
    found = await checked(Switch(bgapi=jobs_done(clock)), clock)

    assert found == [
        Finding("event socket"),
        Finding("password"),
        Finding("events"),
        Finding("list of channels"),
        Finding("click-to-call"),
        Finding("clock"),
        Finding("mod_callcenter"),
    ]


@pytest.mark.parametrize(
    ("answers", "what", "words"),
    [
        ({"event": [reply("-ERR no keywords supplied")]}, "events", "esl-allowed-events"),
        ({"api_show": [output("-ERR permission denied")]}, "list of channels", "esl-allowed-api"),
        ({"bgapi": [reply("-ERR permission denied")]}, "click-to-call", "esl-allowed-api"),
    ],
)
async def test_a_check_says_which_right_is_missing(
    answers: dict[str, list[bytes]], what: str, words: str, clock: ManualClock
) -> None:
    switch = Switch(bgapi=jobs_done(clock))
    for name, frames in answers.items():
        switch.answers[name.replace("_", " ")] = always(frames)
    found = {finding.what: finding.fault for finding in await checked(switch, clock)}

    assert words in (found[what] or "")
    assert [fault for name, fault in found.items() if fault and name != what] == []


@pytest.mark.parametrize(("seconds", "word"), [(90, "90 s ahead"), (-7, "7 s behind")])
async def test_a_check_finds_a_clock_that_is_off(
    seconds: int, word: str, clock: ManualClock
) -> None:
    switch = Switch(bgapi=jobs_done(clock, timedelta(seconds=seconds), "false"))
    found = {finding.what: finding.fault for finding in await checked(switch, clock)}

    assert word in (found["clock"] or "")
    assert "mod_callcenter (not loaded: no queues)" in found


async def test_a_check_of_a_name_that_is_none_is_one_finding(
    clock: ManualClock, metrics: Metrics
) -> None:
    adapter = an_adapter(8021, clock, metrics, host="a..b")
    assert [finding.what async for finding in adapter.check()] == ["event socket"]


def test_a_guarded_host_needs_somebody_who_guards(clock: ManualClock, metrics: Metrics) -> None:
    with pytest.raises(BadSetting):
        an_adapter(8021, clock, metrics, guarded=True)


async def test_a_check_warns_of_everybodys_password(clock: ManualClock) -> None:
    switch = Switch(auth=lambda _: [reply("+OK accepted")], bgapi=jobs_done(clock))
    found = {
        finding.what: finding.fault
        for finding in await checked(switch, clock, password=SecretStr("ClueCon"))
    }

    assert "listen-ip" in (found["password"] or "")


async def test_a_check_of_a_closed_port_or_a_refused_login_is_one_finding(
    clock: ManualClock,
) -> None:
    (refused,) = await checked(Switch(), clock, password=SecretStr("wrong"))
    (closed,) = [f async for f in an_adapter(1, clock, Metrics()).check()]

    assert "refuses the password" in (refused.fault or "")
    assert "no event socket at 127.0.0.1:1" in (closed.fault or "")
