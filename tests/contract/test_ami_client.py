"""Our AMI client over real sockets: against the sandbox PBX, and against servers that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import pytest
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.errors import ContractError, Rejected, Unavailable
from shared.pbx.asterisk.ami_client import AmiAddress, AmiSession, ami_session
from shared.pbx.asterisk.ami_wire import AmiMessage, AmiParser
from shared.pbx.asterisk.link import AmiLink
from shared.pbx.port import LoginRefused
from shared.sandbox.pbx import BANNER, SECRET, USERNAME, SandboxPbx
from shared.sandbox.recording import Cast, recording
from shared.testing.waiting import eventually

PING_EVERY = timedelta(seconds=10)
LONGEST_WAIT = timedelta(seconds=30)
MOST_WAITING = 20_000
WANTED = frozenset({"Newchannel", "Newstate", "DialEnd", "Hangup", "Numbered"})

#: What to answer to an action: blocks without their end; none means silence.
Answer = Callable[[AmiMessage], list[str]]


def success(action: AmiMessage, *more: str) -> str:
    return "\r\n".join(["Response: Success", f"ActionID: {action.action_id}", *more])


def numbered(number: int) -> str:
    return f"Event: Numbered\r\nPrivilege: call,all\r\nNumber: {number}"


def a_channel(uniqueid: str) -> AmiMessage:
    ids = {"Uniqueid": (uniqueid,), "Linkedid": ("1.0",)}
    return AmiMessage({"Event": ("Newchannel",), **ids})


class ScriptedPbx:
    """
    Speaks AMI and takes every login, but for what *answers* says. *greeting* is the first that
    a peer hears; ``bytes`` received are kept.
    """

    def __init__(self, *, greeting: bytes = BANNER, **answers: Answer) -> None:
        self.answers: dict[str, Answer] = answers
        self.greeting = greeting
        self.hangs_up_at_once = False
        self.connections = 0
        self.gone = 0
        self.received = b""
        self.actions: list[AmiMessage] = []
        self._writers: set[asyncio.StreamWriter] = set()

    def count(self, name: str) -> int:
        return sum(action.get("Action") == name for action in self.actions)

    def tell(self, *blocks: str) -> None:
        for writer in self._writers:
            writer.write("".join(f"{block}\r\n\r\n" for block in blocks).encode())

    def cut(self) -> None:
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        parser = AmiParser()
        try:
            writer.write(self.greeting)
            while not self.hangs_up_at_once and (data := await reader.read(65536)):
                self.received += data
                for action in parser.feed(data):
                    self.actions.append(action)
                    known = self.answers.get(action.get("Action"))
                    self.tell(*(known(action) if known else [success(action, "Challenge: 1")]))
        except (OSError, ContractError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self.gone += 1


@asynccontextmanager
async def serving(pbx: ScriptedPbx) -> AsyncIterator[AmiAddress]:
    server = await asyncio.start_server(pbx.serve, "127.0.0.1", 0)
    try:
        yield an_address(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        pbx.cut()
        await eventually(lambda: pbx.gone == pbx.connections)


@asynccontextmanager
async def sandbox() -> AsyncIterator[tuple[SandboxPbx, AmiAddress]]:
    pbx = SandboxPbx(speed=50)
    port = await pbx.start()
    try:
        yield pbx, an_address(port)
    finally:
        await pbx.stop()


def an_address(port: int, secret: str = SECRET) -> AmiAddress:
    return AmiAddress(host="127.0.0.1", port=port, username=USERNAME, secret=SecretStr(secret))


@asynccontextmanager
async def session_with(pbx: ScriptedPbx, clock: ManualClock) -> AsyncIterator[AmiSession]:
    async with (
        serving(pbx) as address,
        ami_session(address, wanted=WANTED, clock=clock) as session,
    ):
        yield session


class Listener:
    """What a link tells: each connect and each event, in their order."""

    def __init__(self) -> None:
        self.told: list[str] = []

    async def on_event(self, message: AmiMessage) -> None:
        self.told.append(message.get("Number") or message.event)

    async def on_connect(self, _: AmiSession) -> None:
        self.told.append("connect")


@asynccontextmanager
async def running(link: AmiLink) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(link.run())
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def a_link(address: AmiAddress, listener: Listener, clock: ManualClock) -> AmiLink:
    return AmiLink(
        address,
        wanted=WANTED,
        clock=clock,
        on_event=listener.on_event,
        on_connect=listener.on_connect,
    )


async def taken(session: AmiSession, count: int) -> list[str]:
    found: list[str] = []
    async with asyncio.timeout(30):
        async for event in session.events():
            found.append(event.get("Number") or event.event)
            if len(found) == count:
                break
    return found


# -- a session ------------------------------------------------------------------------------


async def test_the_wanted_events_of_a_call_come_in_their_order(clock: ManualClock) -> None:
    cast = Cast(started_at=clock.now(), serial=1)
    sent = [step.message.event for step in recording("answered").steps(cast)]
    expected = [name for name in sent if name in WANTED]
    async with (
        sandbox() as (pbx, address),
        ami_session(address, wanted=WANTED, clock=clock) as session,
    ):
        await pbx.play("answered", cast)

        assert await taken(session, len(expected)) == expected


async def test_the_secret_never_crosses_the_wire(clock: ManualClock) -> None:
    pbx = ScriptedPbx()
    async with session_with(pbx, clock):
        assert pbx.count("Login") == 1

    assert SECRET.encode() not in pbx.received


async def test_a_wrong_secret_is_refused(clock: ManualClock) -> None:
    async with sandbox() as (_, address):
        with pytest.raises(LoginRefused):
            async with ami_session(an_address(address.port, "wrong"), wanted=WANTED, clock=clock):
                pass


async def test_a_list_answer_is_its_items_and_its_end(clock: ManualClock) -> None:
    async with (
        sandbox() as (pbx, address),
        ami_session(address, wanted=WANTED, clock=clock) as session,
    ):
        (end,) = await session.list_action("CoreShowChannels")
        for uniqueid in ("1.0", "1.1"):
            pbx.channels.note(a_channel(uniqueid))

        channels = await session.list_action("CoreShowChannels")

    assert [channel.get("Uniqueid") for channel in channels] == ["1.0", "1.1", ""]
    assert (end.event, channels[-1].event) == ("CoreShowChannelsComplete",) * 2


async def test_events_between_the_items_of_a_list_are_events(clock: ManualClock) -> None:
    def channels(action: AmiMessage) -> list[str]:
        mine = f"ActionID: {action.action_id}"
        return [
            success(action, "EventList: start"),
            f"Event: CoreShowChannel\r\n{mine}\r\nUniqueid: 1.0",
            numbered(1),
            "Event: CoreShowChannel\r\nActionID: of-another-manager\r\nUniqueid: 9.9",
            f"Event: CoreShowChannel\r\n{mine}\r\nUniqueid: 1.1",
            f"Event: CoreShowChannelsComplete\r\n{mine}\r\nEventList: Complete\r\nListItems: 2",
            numbered(2),
        ]

    async with session_with(ScriptedPbx(CoreShowChannels=channels), clock) as session:
        items = await session.list_action("CoreShowChannels")

        assert [item.get("Uniqueid") for item in items[:-1]] == ["1.0", "1.1"]
        assert await taken(session, 2) == ["1", "2"]


@pytest.mark.parametrize("is_list", [False, True])
async def test_what_the_pbx_refuses_is_rejected_in_its_words(
    clock: ManualClock, *, is_list: bool
) -> None:
    def refuse(action: AmiMessage) -> list[str]:
        return [f"Response: Error\r\nActionID: {action.action_id}\r\nMessage: Permission denied"]

    async with session_with(ScriptedPbx(CoreShowChannels=refuse), clock) as session:
        ask = session.list_action if is_list else session.action
        with pytest.raises(Rejected, match="Permission denied"):
            await ask("CoreShowChannels")


async def test_two_actions_answered_in_reverse_each_get_their_own(clock: ManualClock) -> None:
    kept: list[AmiMessage] = []

    def both_at_the_second(action: AmiMessage) -> list[str]:
        kept.append(action)
        if len(kept) < 2:
            return []
        return [success(one, f"Value: {one.get('Variable')}") for one in reversed(kept)]

    async with session_with(ScriptedPbx(Getvar=both_at_the_second), clock) as session:
        first, second = await asyncio.gather(
            session.action("Getvar", {"Variable": "first"}),
            session.action("Getvar", {"Variable": "second"}),
        )

    assert (first.get("Value"), second.get("Value")) == ("first", "second")


async def test_an_action_may_bring_its_own_id(clock: ManualClock) -> None:
    pbx = ScriptedPbx()
    async with session_with(pbx, clock) as session:
        await session.action("Originate", {"Exten": "1"}, action_id="click-1")

    assert pbx.actions[-1].action_id == "click-1"


async def test_an_action_without_an_answer_is_sent_once_and_unknown(clock: ManualClock) -> None:
    pbx = ScriptedPbx(Originate=lambda _: [])
    async with session_with(pbx, clock) as session:
        with pytest.raises(Unavailable):
            await session.action("Originate", within=timedelta(milliseconds=50))
        await session.action("Ping")

    assert pbx.count("Originate") == 1


async def test_an_answer_that_comes_too_late_is_nobody_s(clock: ManualClock) -> None:
    late: list[AmiMessage] = []

    def answered_with_the_next(action: AmiMessage) -> list[str]:
        return [*(success(one, "Value: late") for one in late), success(action, "Value: mine")]

    def keep(action: AmiMessage) -> list[str]:
        late.append(action)
        return []

    pbx = ScriptedPbx(Originate=keep, Getvar=answered_with_the_next)
    async with session_with(pbx, clock) as session:
        with pytest.raises(Unavailable):
            await session.action("Originate", within=timedelta(milliseconds=50))

        assert (await session.action("Getvar")).get("Value") == "mine"


async def test_a_line_break_in_a_value_sends_nothing(clock: ManualClock) -> None:
    pbx = ScriptedPbx()
    async with session_with(pbx, clock) as session:
        with pytest.raises(ContractError):
            await session.action("Originate", {"Exten": "1\r\nAction: Logoff"})
        await session.action("Ping")

    assert (pbx.count("Originate"), pbx.count("Logoff")) == (0, 0)


async def test_a_cut_connection_ends_the_events_and_the_waiting_actions(
    clock: ManualClock,
) -> None:
    pbx = ScriptedPbx(Originate=lambda _: [])
    async with session_with(pbx, clock) as session:
        waiting = asyncio.create_task(session.action("Originate", within=timedelta(minutes=1)))
        await eventually(lambda: pbx.count("Originate") == 1)
        pbx.tell(numbered(1))
        pbx.cut()

        with pytest.raises(Unavailable):
            await waiting
        assert await taken(session, 1) == ["1"]  # what had come is not lost
        with pytest.raises(Unavailable):
            await taken(session, 1)
        with pytest.raises(Unavailable):
            await session.action("Ping")


async def test_a_pbx_that_answers_pings_is_kept(clock: ManualClock) -> None:
    pbx = ScriptedPbx()
    async with session_with(pbx, clock) as session:
        for count in (1, 2, 3):
            await eventually(lambda: clock.sleepers == 1)
            await clock.advance(PING_EVERY)
            await eventually(lambda count=count: pbx.count("Ping") == count)
        await session.action("Getvar")


async def test_a_link_that_froze_is_noticed_by_its_ping(clock: ManualClock) -> None:
    """Five seconds in real time: those that a PBX has for its Pong."""
    pbx = ScriptedPbx(Ping=lambda _: [])
    async with session_with(pbx, clock) as session:
        await eventually(lambda: clock.sleepers == 1)
        await clock.advance(PING_EVERY)

        with pytest.raises(Unavailable):
            await taken(session, 1)
    assert pbx.count("Ping") == 1


# -- what is no AMI, or none that answers ----------------------------------------------------


async def refusal_of(greeting: bytes, clock: ManualClock) -> Exception:
    pbx = ScriptedPbx(greeting=greeting)
    async with serving(pbx) as address:
        try:
            async with ami_session(address, wanted=WANTED, clock=clock):
                raise AssertionError("this is no AMI")
        except (ContractError, Unavailable) as error:
            return error


@pytest.mark.parametrize(
    "greeting",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"220 mail ESMTP\r\n",
        b"\xff\xfe\x00\r\n",
        b"x" * 100_000 + b"\r\n",
    ],
    ids=["ssh", "http", "mail", "bytes", "a line without end"],
)
async def test_a_server_of_another_kind_is_told_from_ami(
    greeting: bytes, clock: ManualClock
) -> None:
    assert isinstance(await refusal_of(greeting, clock), ContractError)


async def test_a_session_that_stops_speaking_ami_is_over(clock: ManualClock) -> None:
    pbx = ScriptedPbx()
    async with session_with(pbx, clock) as session:
        pbx.tell("x" * 400_000)

        with pytest.raises(Unavailable):
            await taken(session, 1)


async def test_where_nobody_listens_there_is_no_pbx(clock: ManualClock) -> None:
    async with serving(ScriptedPbx()) as address:
        pass
    with pytest.raises(Unavailable):
        async with ami_session(address, wanted=WANTED, clock=clock):
            pass


async def test_a_silent_server_is_given_up_and_left(clock: ManualClock) -> None:
    """Five seconds in real time, the time that a connection may take."""
    pbx = ScriptedPbx(greeting=b"")
    async with serving(pbx) as address:
        with pytest.raises(Unavailable):
            async with ami_session(address, wanted=WANTED, clock=clock):
                pass

        await eventually(lambda: pbx.gone == 1)


# -- a link ---------------------------------------------------------------------------------


async def test_a_link_tells_of_the_connection_before_the_first_event(clock: ManualClock) -> None:
    pbx = ScriptedPbx(Login=lambda action: [success(action), numbered(1), numbered(2)])
    listener = Listener()
    async with serving(pbx) as address, running(a_link(address, listener, clock)):
        await eventually(lambda: len(listener.told) == 3)

    assert listener.told == ["connect", "1", "2"]


async def test_a_link_comes_back_after_a_cut_and_says_so(clock: ManualClock) -> None:
    listener = Listener()
    async with sandbox() as (pbx, address):
        link = a_link(address, listener, clock)
        async with running(link):
            await eventually(lambda: link.connected)
            pbx.cut()
            await eventually(lambda: not link.connected and clock.sleepers == 1)
            while_away = link.fault
            await clock.advance(LONGEST_WAIT)

            await eventually(lambda: link.connected)
            assert while_away
            assert link.fault is None
            assert listener.told == ["connect", "connect"]


async def test_a_connection_that_breaks_at_once_is_tried_less_and_less(clock: ManualClock) -> None:
    """Logged in or not: who is thrown out after each login comes back ever more slowly."""
    pbx = ScriptedPbx(Login=lambda action: [success(action)])
    listener = Listener()
    began = clock.now()
    async with serving(pbx) as address:
        link = a_link(address, listener, clock)
        async with running(link):
            for tries in range(1, 8):
                await eventually(lambda tries=tries: len(listener.told) == tries)
                pbx.cut()
                await eventually(lambda: not link.connected and clock.sleepers == 1)
                while len(listener.told) == tries:
                    await clock.advance(timedelta(seconds=1))
                    await eventually(
                        lambda tries=tries: len(listener.told) > tries or clock.sleepers == 1
                    )

    # At least half of 0.5, 1, 2, 4, 8, 16 and 30 seconds.
    assert clock.now() - began > timedelta(seconds=30)


async def test_after_a_connection_that_held_the_next_is_tried_soon(clock: ManualClock) -> None:
    pbx = ScriptedPbx()
    listener = Listener()
    async with serving(pbx) as address:
        link = a_link(address, listener, clock)
        async with running(link):
            await eventually(lambda: link.connected)
            for tries in range(2, 8):
                for _ in range(7):
                    await eventually(lambda: clock.sleepers == 1)
                    await clock.advance(PING_EVERY)
                pbx.cut()
                await eventually(lambda: not link.connected and clock.sleepers == 1)
                await clock.advance(timedelta(seconds=1))
                await eventually(lambda tries=tries: len(listener.told) == tries)


async def test_who_missed_events_is_told_to_look_again_once_it_has_caught_up(
    clock: ManualClock,
) -> None:
    pbx = ScriptedPbx()
    listener = Listener()
    go_on = asyncio.Event()

    async def on_event(message: AmiMessage) -> None:
        await go_on.wait()
        await listener.on_event(message)

    async with serving(pbx) as address:
        link = AmiLink(
            address,
            wanted=WANTED,
            clock=clock,
            on_event=on_event,
            on_connect=listener.on_connect,
        )
        async with running(link):
            await eventually(lambda: link.connected)
            pbx.tell(*(numbered(n) for n in range(MOST_WAITING + 100)))
            await link.action("Getvar", {}, within=timedelta(seconds=60))
            go_on.set()
            await eventually(lambda: listener.told[-1] == "connect" and len(listener.told) > 1)
            pbx.tell(numbered(7))
            await eventually(lambda: listener.told[-1] == "7")

    assert listener.told.count("connect") == 2


async def test_after_a_refused_login_a_link_tries_no_more(clock: ManualClock) -> None:
    def refuse(action: AmiMessage) -> list[str]:
        answer = f"ActionID: {action.action_id}\r\nMessage: Authentication failed"
        return [f"Response: Error\r\n{answer}"]

    pbx = ScriptedPbx(Login=refuse)
    listener = Listener()
    async with serving(pbx) as address:
        link = a_link(address, listener, clock)
        async with running(link):
            await eventually(lambda: pbx.gone == 1)
            for _ in range(5):
                await clock.advance(timedelta(hours=1))

            assert link.fault is not None
            assert "Authentication failed" in link.fault
            assert not link.connected
    assert (pbx.count("Login"), pbx.connections, listener.told) == (1, 1, [])


@pytest.mark.parametrize(
    "greeting", [BANNER, b"SSH-2.0\r\n", b"x" * 100_000], ids=["hangs up", "ssh", "endless"]
)
async def test_a_link_tries_again_for_ever_and_waits_no_longer_than_half_a_minute(
    greeting: bytes, clock: ManualClock
) -> None:
    pbx = ScriptedPbx(greeting=greeting)
    pbx.hangs_up_at_once = greeting == BANNER
    async with serving(pbx) as address:
        link = a_link(address, Listener(), clock)
        async with running(link) as task:
            for tries in range(1, 12):
                if tries > 1:
                    await clock.advance(LONGEST_WAIT)
                seen: list[bool] = []

                def rests(tries: int = tries, seen: list[bool] = seen) -> bool:
                    # For a while: for a moment a deadline of the try before sleeps, too.
                    seen.append(pbx.gone == tries and clock.sleepers == 1)
                    return task.done() or seen[-5:] == [True] * 5

                await eventually(rests)
                assert not task.done()


async def test_an_order_that_was_not_answered_is_not_sent_again_after_a_reconnect(
    clock: ManualClock,
) -> None:
    pbx = ScriptedPbx(Originate=lambda _: [])
    async with serving(pbx) as address:
        link = a_link(address, Listener(), clock)
        async with running(link):
            await eventually(lambda: link.connected)
            order = asyncio.create_task(
                link.action("Originate", {"Exten": "1"}, within=timedelta(minutes=1))
            )
            await eventually(lambda: pbx.count("Originate") == 1)
            pbx.cut()
            with pytest.raises(Unavailable):
                await order
            await eventually(lambda: not link.connected and clock.sleepers == 1)
            await clock.advance(LONGEST_WAIT)
            await eventually(lambda: link.connected)
            await link.action("Getvar", {}, within=timedelta(seconds=5))

    assert pbx.count("Originate") == 1


async def test_without_a_connection_an_order_is_refused_at_once(clock: ManualClock) -> None:
    link = a_link(an_address(1), Listener(), clock)

    with pytest.raises(Unavailable, match="not tried yet"):
        await link.action("Originate", {}, within=timedelta(minutes=1))


async def test_a_handler_that_fails_does_not_end_the_reading(clock: ManualClock) -> None:
    seen: list[str] = []

    async def on_event(message: AmiMessage) -> None:
        seen.append(message.get("Number"))
        if len(seen) == 1:
            raise ValueError("cannot read this one")

    pbx = ScriptedPbx()
    async with serving(pbx) as address:
        link = AmiLink(address, wanted=WANTED, clock=clock, on_event=on_event)
        async with running(link):
            await eventually(lambda: link.connected)
            pbx.tell(numbered(1), numbered(2))

            await eventually(lambda: seen == ["1", "2"])
            assert link.connected


async def test_a_slow_handler_does_not_hold_up_the_pings_and_loses_nothing(
    clock: ManualClock,
) -> None:
    """One reader never waits for handlers: a PBX throws out who does not read."""
    go_on = asyncio.Event()
    seen: list[str] = []

    async def on_event(message: AmiMessage) -> None:
        await go_on.wait()
        seen.append(message.get("Number"))

    pbx = ScriptedPbx()
    async with serving(pbx) as address:
        link = AmiLink(address, wanted=WANTED, clock=clock, on_event=on_event)
        async with running(link):
            await eventually(lambda: link.connected)
            pbx.tell(*(numbered(n) for n in range(2000)))
            await clock.advance(PING_EVERY)
            await eventually(lambda: pbx.count("Ping") == 1)
            await link.action("Getvar", {}, within=timedelta(seconds=5))
            go_on.set()

            await eventually(lambda: seen == [str(n) for n in range(2000)])


async def test_a_resync_that_the_pbx_refuses_does_not_end_the_link(clock: ManualClock) -> None:
    """``run`` is for ever: a manager user without the right is told by the fault."""

    async def on_connect(session: AmiSession) -> None:
        await session.list_action("CoreShowChannels")

    def refuse(action: AmiMessage) -> list[str]:
        return [f"Response: Error\r\nActionID: {action.action_id}\r\nMessage: Permission denied"]

    pbx = ScriptedPbx(CoreShowChannels=refuse)
    async with serving(pbx) as address:
        link = AmiLink(
            address,
            wanted=WANTED,
            clock=clock,
            on_event=Listener().on_event,
            on_connect=on_connect,
        )
        async with running(link) as task:
            await eventually(lambda: pbx.count("CoreShowChannels") == 1)
            await eventually(lambda: task.done() or link.connected or link.fault is not None)

            await eventually(lambda: task.done() or clock.sleepers == 1)
            assert not task.done()
