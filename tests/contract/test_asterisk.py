"""An Asterisk through its adapter, over real sockets: the sandbox's, and one that is scripted."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from shared.clock import ManualClock
from shared.contracts.agents import AgentStatus, AgentStatusChanged, Side
from shared.contracts.calls import CallEnded, CallStarted, EndKnown, PbxResynced
from shared.contracts.dialing import DialReason
from shared.errors import BadSetting, Rejected, Unavailable
from shared.net.guard import AddressGuard, GuardedResolver, networks
from shared.observe.metrics import Metrics
from shared.pbx.asterisk.adapter import AsteriskSettings, asterisk_adapter
from shared.pbx.asterisk.ami_wire import AmiMessage, AmiParser
from shared.pbx.port import (
    AgentAt,
    DialRequest,
    EventSource,
    HangUp,
    PbxAdapter,
    Phones,
    Sighting,
    Switchboard,
)
from shared.sandbox.pbx import BANNER, SECRET, USERNAME, SandboxPbx
from shared.sandbox.recording import Cast
from shared.testing.waiting import eventually

PHONES = Phones(trunks=frozenset({"trunk"}), extensions=frozenset({"101", "102"}))
WITHIN = timedelta(seconds=5)
TICK = timedelta(milliseconds=100)

#: Blocks that answer an action, without their ends; None: the usual ones.
Answer = Callable[[AmiMessage], list[str]]


def answered(action: AmiMessage, *more: str, response: str = "Success") -> str:
    return "\r\n".join([f"Response: {response}", f"ActionID: {action.action_id}", *more])


def listing(name: str, end: str, *items: str) -> Answer:
    """Each item is lines of one channel or member."""

    def answer(action: AmiMessage) -> list[str]:
        mine = f"ActionID: {action.action_id}"
        return [
            answered(action, "EventList: start"),
            *(f"Event: {name}\r\n{mine}\r\n{item}" for item in items),
            f"Event: {end}\r\n{mine}\r\nEventList: Complete",
        ]

    return answer


def channels(*items: str) -> Answer:
    return listing("CoreShowChannel", "CoreShowChannelsComplete", *items)


def members(*items: str) -> Answer:
    return listing("QueueMember", "QueueStatusComplete", *items)


@dataclass
class Exchange:
    """An Asterisk that answers as *answers* say; *time* is what its clock shows."""

    time: datetime
    answers: dict[str, Answer] = field(default_factory=dict)
    permitted: Sequence[str] = (
        "Originate",
        "Hangup",
        "CoreShowChannels",
        "QueuePause",
        "Ping",
    )
    hears: bool = True
    stamps: bool = True
    received: list[AmiMessage] = field(default_factory=list)
    connections: int = 0
    writers: set[asyncio.StreamWriter] = field(default_factory=set)

    def stamp(self) -> str:
        return f"Timestamp: {self.time.timestamp():.6f}"

    def tell(self, *blocks: str) -> None:
        for writer in self.writers:
            writer.write("".join(f"{block}\r\n\r\n" for block in blocks).encode())

    def cut(self) -> None:
        for writer in self.writers:
            writer.close()

    def did(self, name: str) -> list[AmiMessage]:
        return [action for action in self.received if action.get("Action") == name]

    def usual(self, action: AmiMessage) -> list[str]:
        match action.get("Action"):
            case "Challenge":
                return [answered(action, "Challenge: 1")]
            case "Ping":
                return [answered(action, "Ping: Pong", self.stamp())]
            case "ListCommands":
                lines = [f"{name}: What it does.  (Priv: all)" for name in self.permitted]
                return [answered(action, *lines)]
            case "CoreShowChannels":
                return channels()(action)
            case "QueueStatus":
                return members()(action)
            case "Originate" if self.hears:
                stamp = [self.stamp()] if self.stamps else []
                lines = [f"ActionID: {action.action_id}", "Response: Failure", "Reason: 0", *stamp]
                return [answered(action), "\r\n".join(["Event: OriginateResponse", *lines])]
            case _:
                return [answered(action)]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.add(writer)
        parser = AmiParser()
        with suppress(OSError):
            writer.write(BANNER)
            while data := await reader.read(65536):
                for action in parser.feed(data):
                    self.received.append(action)
                    known = self.answers.get(action.get("Action"), self.usual)
                    self.tell(*known(action))
        self.writers.discard(writer)
        writer.close()
        with suppress(OSError, ssl.SSLError):
            await writer.wait_closed()


@dataclass
class Seen:
    told: list[Sighting] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)

    async def see(self, sightings: Sequence[Sighting]) -> None:
        self.told += sightings

    def of(self, kind: type[Any]) -> list[Any]:
        return [s.body for s in self.told if isinstance(s.body, kind)]


@asynccontextmanager
async def serving(exchange: Exchange, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    server = await asyncio.start_server(exchange.serve, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        exchange.cut()
        await eventually(lambda: not exchange.writers)


def an_adapter(
    port: int,
    clock: ManualClock,
    metrics: Metrics | None = None,
    names: GuardedResolver | None = None,
    **changes: Any,
) -> PbxAdapter:
    known: dict[str, Any] = {
        "host": "127.0.0.1",
        "port": port,
        "username": USERNAME,
        "secret": SecretStr(SECRET),
    }
    return asterisk_adapter(
        AsteriskSettings(**(known | changes)),
        tenant="acme",
        pbx="main",
        clock=clock,
        metrics=metrics or Metrics(),
        names=names,
    )


@asynccontextmanager
async def reading(adapter: PbxAdapter) -> AsyncIterator[tuple[EventSource, Seen]]:
    assert adapter.source is not None
    source, seen = adapter.source(), Seen()
    source.know(PHONES)
    task = asyncio.create_task(source.run(seen.see, seen.kept.append))
    try:
        await eventually(lambda: source.connected)
        yield source, seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@asynccontextmanager
async def ordering(adapter: PbxAdapter) -> AsyncIterator[tuple[Switchboard, list[Any]]]:
    assert adapter.switchboard is not None
    board, refused = adapter.switchboard(), []

    async def on_refusal(reference: str, reason: DialReason) -> None:
        refused.append((reference, reason))

    task = asyncio.create_task(board.run(on_refusal))
    try:
        await eventually(lambda: board.fault is None)
        yield board, refused
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def findings(adapter: PbxAdapter) -> dict[str, str | None]:
    return {finding.what: finding.fault async for finding in adapter.check()}


# -- events ---------------------------------------------------------------------------------


async def test_a_call_is_told_and_its_records_are_kept_to_be_read_again(
    clock: ManualClock,
) -> None:
    pbx, metrics = SandboxPbx(speed=50), Metrics()
    adapter = an_adapter(await pbx.start(), clock, metrics)
    assert adapter.reader is not None
    try:
        async with reading(adapter) as (_, seen):
            await pbx.play("answered", Cast(started_at=clock.now(), serial=1))
            await eventually(lambda: len(seen.told) >= 5)
            await clock.advance(TICK)
            await clock.advance(timedelta(seconds=1))
            await eventually(lambda: bool(seen.of(CallEnded)))
    finally:
        await pbx.stop()

    again = adapter.reader()
    again.know(PHONES)
    told = [sighting for record in seen.kept for sighting in again.read(record, now=clock.now())]
    told += again.tick(clock.now() + timedelta(seconds=1))
    assert {s.key for s in told} == {s.key for s in seen.told if "resynced" not in s.key}
    assert metrics.value("callmesh_pbx_events_total", "asterisk", "used") > 10
    assert metrics.value("callmesh_pbx_events_total", "asterisk", "ignored") > 0


TRUNK_LEG = (
    "Channel: PJSIP/trunk-00000001\r\nChannelStateDesc: Up\r\nCallerIDNum: 447700900123\r\n"
    "Uniqueid: 1.0\r\nLinkedid: 1.0\r\nApplication: Dial\r\nDuration: 00:01:00\r\n"
    "ChanVariable: CRM_DID=442079460000"
)


async def test_what_goes_on_is_told_at_the_first_connect(clock: ManualClock) -> None:
    exchange = Exchange(clock.now(), {"CoreShowChannels": channels(TRUNK_LEG)})
    async with serving(exchange) as port, reading(an_adapter(port, clock)) as (_, seen):
        await eventually(lambda: bool(seen.of(PbxResynced)))

    (started,), (resynced,) = seen.of(CallStarted), seen.of(PbxResynced)
    assert (started.dialled, started.pbx_call_id) == ("442079460000", "1.0")
    assert resynced == PbxResynced(pbx="main", live=("1.0",), heard_until=clock.now())
    assert next(s.at for s in seen.told) == clock.now() - timedelta(minutes=1)


async def test_after_a_gap_it_is_told_until_when_the_pbx_was_heard(clock: ManualClock) -> None:
    exchange = Exchange(clock.now(), {"CoreShowChannels": channels(TRUNK_LEG)})
    async with serving(exchange) as port, reading(an_adapter(port, clock)) as (_, seen):
        await eventually(lambda: bool(seen.of(PbxResynced)))
        heard = clock.now()
        exchange.answers["CoreShowChannels"] = channels()
        exchange.cut()

        async def back() -> bool:
            await clock.advance(timedelta(seconds=1))
            return len(seen.of(PbxResynced)) == 2

        await eventually(back)

    _, again = seen.of(PbxResynced)
    assert (again.live, again.heard_until) == ((), heard)
    (ended,) = seen.of(CallEnded)
    assert (ended.known, ended.disposition) == (EndKnown.RESYNC, None)


async def test_a_user_who_may_list_nothing_reads_on(clock: ManualClock) -> None:
    def refuse(action: AmiMessage) -> list[str]:
        return [answered(action, "Message: Permission denied", response="Error")]

    exchange = Exchange(clock.now(), {"CoreShowChannels": refuse, "QueueStatus": refuse})
    newchannel = TRUNK_LEG.replace("Up", "Ring")
    async with serving(exchange) as port, reading(an_adapter(port, clock)) as (_, seen):
        exchange.tell(f"Event: Newchannel\r\n{exchange.stamp()}\r\n{newchannel}")
        await eventually(lambda: bool(seen.of(CallStarted)))

    assert seen.of(PbxResynced) == []


async def test_an_agent_s_break_is_told_and_what_it_was_at_the_connect(
    clock: ManualClock,
) -> None:
    paused = "Queue: support\r\nInterface: PJSIP/101\r\nPaused: 1\r\nPausedReason: dinner"
    free = "Queue: support\r\nLocation: PJSIP/101\r\nPaused: 0"
    exchange = Exchange(clock.now(), {"QueueStatus": members(free)})
    async with serving(exchange) as port, reading(an_adapter(port, clock)) as (_, seen):
        exchange.tell(f"Event: QueueMemberPause\r\n{exchange.stamp()}\r\n{paused}")
        await eventually(lambda: len(seen.of(AgentStatusChanged)) == 2)

    assert [body.status for body in seen.of(AgentStatusChanged)] == ["free", "dinner"]


async def test_garbage_is_counted_and_the_next_event_is_read(clock: ManualClock) -> None:
    metrics, exchange = Metrics(), Exchange(clock.now())
    newchannel = TRUNK_LEG.replace("Up", "Ring")
    async with serving(exchange) as port, reading(an_adapter(port, clock, metrics)) as (_, seen):
        exchange.tell("\x00 no line of this has a name", f"Event: Newchannel\r\n{newchannel}")
        await eventually(lambda: bool(seen.of(CallStarted)))

    assert metrics.value("callmesh_pbx_events_total", "asterisk", "garbage") == 1


# -- orders ---------------------------------------------------------------------------------


def an_order(**changes: Any) -> DialRequest:
    known: dict[str, Any] = {
        "reference": "click-1",
        "extension": "101",
        "number": "+447700900777",
        "ring_for": timedelta(seconds=15),
    }
    return DialRequest(**(known | changes))


async def test_an_order_rings_the_agent_first_under_its_reference(clock: ManualClock) -> None:
    exchange = Exchange(clock.now(), hears=False)
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, refused):
        receipt = await board.dial(an_order(), within=WITHIN)

    (order,) = exchange.did("Originate")
    assert {name: order.get(name) for name in order.headers} == {
        "Action": "Originate",
        "ActionID": "click-1",
        "Channel": "PJSIP/101",
        "Context": "outbound",
        "Exten": "+447700900777",
        "Priority": "1",
        "CallerID": '"Call +447700900777" <+447700900777>',
        "Timeout": "15000",
        "Async": "true",
        "ChannelId": "click-1",
        "Variable": "__CRM_CLICK_ID=click-1",
    }
    assert (receipt.pbx_call_id, refused) == (None, [])


async def test_the_number_that_the_customer_shall_see_is_told_the_dialplan(
    clock: ManualClock,
) -> None:
    """The agent's phone shows whom it is for, as ever."""
    exchange = Exchange(clock.now(), hears=False)
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        await board.dial(an_order(caller_id="+442079460123"), within=WITHIN)

    (order,) = exchange.did("Originate")
    assert order.all("Variable") == (
        "__CRM_CLICK_ID=click-1",
        "__CRM_CALLER_ID=+442079460123",
    )
    assert order.get("CallerID") == '"Call +447700900777" <+447700900777>'


# -- cancelling -----------------------------------------------------------------------------


def a_channel(name: str, uniqueid: str, linkedid: str, *more: str) -> str:
    lines = [f"Channel: {name}", f"Uniqueid: {uniqueid}", f"Linkedid: {linkedid}", *more]
    return "\r\n".join(lines)


CLICK = HangUp(reference="click-1", extension="101")
CLICKED = (
    a_channel("PJSIP/trunk-02", "7.2", "click-1"),
    a_channel("PJSIP/103-09", "7.9", "7.9"),
    a_channel("PJSIP/102-04", "8.1", "8.0", "ChanVariable: CRM_CLICK_ID=click-1"),
    a_channel("PJSIP/101-01", "click-1", "click-1"),
)


def gone(action: AmiMessage) -> list[str]:
    return [answered(action, "Message: No such channel", response="Error")]


async def test_all_channels_of_a_call_are_hung_up_and_no_other(clock: ManualClock) -> None:
    """Also the one that was joined to another call; the agent's first."""
    exchange = Exchange(clock.now(), {"CoreShowChannels": channels(*CLICKED)})
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        await board.hang_up(CLICK, within=WITHIN)

    hung_up = [(action.get("Channel"), action.get("Cause")) for action in exchange.did("Hangup")]
    assert hung_up == [("PJSIP/101-01", "16"), ("PJSIP/trunk-02", "16"), ("PJSIP/102-04", "16")]


async def test_a_channel_that_went_with_the_one_before_it_is_no_fault(clock: ManualClock) -> None:
    exchange = Exchange(clock.now(), {"CoreShowChannels": channels(*CLICKED), "Hangup": gone})
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        await board.hang_up(CLICK, within=WITHIN)

    assert len(exchange.did("Hangup")) == 3


async def test_an_order_whose_channel_is_not_there_yet_is_looked_for_once_more(
    clock: ManualClock,
) -> None:
    looked: list[str] = []

    def later(action: AmiMessage) -> list[str]:
        looked.append(action.action_id)
        return channels(*(CLICKED[3:] if len(looked) > 1 else ()))(action)

    exchange = Exchange(clock.now(), {"CoreShowChannels": later})
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        cancelling = asyncio.create_task(board.hang_up(CLICK, within=WITHIN))
        await eventually(lambda: len(looked) == 1 and clock.sleepers == 2)  # and the ping
        await clock.advance(timedelta(seconds=1))
        await cancelling

    assert [action.get("Channel") for action in exchange.did("Hangup")] == ["PJSIP/101-01"]


async def test_a_call_that_is_over_is_no_fault(clock: ManualClock) -> None:
    exchange = Exchange(clock.now())
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        cancelling = asyncio.create_task(board.hang_up(CLICK, within=WITHIN))
        await eventually(lambda: clock.sleepers == 2)
        await clock.advance(timedelta(seconds=1))
        await cancelling

    assert exchange.did("Hangup") == []


async def test_who_may_list_nothing_ends_the_agent_s_channel(clock: ManualClock) -> None:
    def refuse(action: AmiMessage) -> list[str]:
        return [answered(action, "Message: Permission denied", response="Error")]

    exchange = Exchange(clock.now(), {"CoreShowChannels": refuse})
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        await board.hang_up(CLICK, within=WITHIN)
        exchange.answers["Hangup"] = refuse
        with pytest.raises(Rejected, match=r"Permission denied; .* the user needs call in write"):
            await board.hang_up(CLICK, within=WITHIN)

    assert exchange.did("Hangup")[0].get("Channel") == "click-1"


async def test_a_reference_that_says_more_than_it_should_hangs_nothing_up(
    clock: ManualClock,
) -> None:
    exchange = Exchange(clock.now())
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        for reference in ("/.*/", "", "a\r\nAction: Logoff"):
            with pytest.raises(Rejected):
                await board.hang_up(HangUp(reference=reference, extension="101"), within=WITHIN)

    assert exchange.did("Hangup") == exchange.did("CoreShowChannels") == []


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [("3", DialReason.AGENT_NO_ANSWER), ("0", DialReason.AGENT_UNREACHABLE)],
)
async def test_an_order_that_came_to_nothing_is_told_by_its_reference(
    clock: ManualClock, reason: str, meaning: DialReason
) -> None:
    exchange = Exchange(clock.now(), hears=False)
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, refused):
        await board.dial(an_order(), within=WITHIN)
        failed = "Event: OriginateResponse\r\nActionID: {}\r\nResponse: {}\r\nReason: {}"
        exchange.tell(
            failed.format("callmesh-check-1", "Failure", "0"),
            failed.format("another's, with blanks", "Failure", "0"),
            failed.format("click-0", "Success", "4"),
            failed.format("click-1", "Failure", reason),
        )
        await eventually(lambda: bool(refused))

    assert refused == [("click-1", meaning)]


@pytest.mark.parametrize(
    "changes",
    [
        {"extension": "101&PJSIP/102"},
        {"extension": "101\r\nAction: Logoff"},
        {"extension": ""},
        {"number": "1\r\nAction: Logoff"},
        {"number": "555,1,System(x)"},
        {"reference": "a\r\nAction: Logoff"},
        {"reference": "a,CRM_DEST=x"},
        {"caller_id": "442079460000,CRM_DEST=x"},
        {"caller_id": "442079460000\r\nAction: Logoff"},
        {"caller_id": "*31#"},
        {"caller_id": ""},
    ],
)
async def test_an_order_that_says_more_than_it_should_is_not_sent(
    clock: ManualClock, changes: dict[str, str]
) -> None:
    exchange = Exchange(clock.now())
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        with pytest.raises(Rejected):
            await board.dial(an_order(**changes), within=WITHIN)

    assert exchange.did("Originate") == exchange.did("Logoff") == []


async def test_what_is_not_known_of_an_order_is_said(clock: ManualClock) -> None:
    exchange = Exchange(clock.now(), {"Originate": lambda _: []})
    async with serving(exchange) as port:
        adapter = an_adapter(port, clock)
        assert adapter.switchboard is not None
        with pytest.raises(Unavailable) as unsent:
            await adapter.switchboard().dial(an_order(), within=WITHIN)
        async with ordering(adapter) as (board, _):
            with pytest.raises(Unavailable) as unknown:
                await board.dial(an_order(), within=timedelta(milliseconds=50))

    assert unsent.value.details["sent"] is False
    assert unknown.value.details["sent"] is True
    assert len(exchange.did("Originate")) == 1


async def test_a_refused_order_is_rejected_in_the_pbx_s_words(clock: ManualClock) -> None:
    def refuse(action: AmiMessage) -> list[str]:
        return [answered(action, "Message: Permission denied", response="Error")]

    exchange = Exchange(clock.now(), {"Originate": refuse})
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        with pytest.raises(Rejected, match="Permission denied"):
            await board.dial(an_order(), within=WITHIN)


IN_TWO_QUEUES = (
    "Queue: a\r\nLocation: PJSIP/102",
    "Queue: a\r\nLocation: Local/101@from-queue/n\r\nStateInterface: hint:101@ext-local",
    "Queue: b\r\nLocation: Local/101@from-queue/n\r\nStateInterface: hint:101@ext-local",
)


@pytest.mark.parametrize(
    ("status", "paused", "reason"),
    [
        (AgentStatus.BREAK, "true", "break"),
        (AgentStatus.DINNER, "true", "dinner"),
        (AgentStatus.FREE, "false", ""),
    ],
)
async def test_a_status_pauses_the_agent_s_members_in_all_queues_at_once(
    clock: ManualClock, status: AgentStatus, paused: str, reason: str
) -> None:
    exchange = Exchange(clock.now(), {"QueueStatus": members(*IN_TWO_QUEUES)})
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        await board.set_status(AgentAt("101"), status, within=WITHIN)

    (order,) = exchange.did("QueuePause")
    told = [order.get(name) for name in ("Interface", "Paused", "Reason", "Queue")]
    assert told == ["Local/101@from-queue/n", paused, reason, ""]


async def test_the_status_of_who_is_in_no_queue_cannot_be_set(clock: ManualClock) -> None:
    exchange = Exchange(clock.now(), {"QueueStatus": members(*IN_TWO_QUEUES)})
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        with pytest.raises(Rejected, match="member of no queue"):
            await board.set_status(AgentAt("103"), AgentStatus.BREAK, within=WITHIN)

    assert exchange.did("QueuePause") == []


@pytest.mark.parametrize("own", [None, "smoke", "Coffee", "dinner", "free"])
@pytest.mark.parametrize("status", AgentStatus)
async def test_what_is_set_is_heard_as_it_was_said_it_would_be(
    clock: ManualClock, status: AgentStatus, own: str | None
) -> None:
    exchange = Exchange(clock.now(), {"QueueStatus": members(IN_TWO_QUEUES[1])})
    async with serving(exchange) as port:
        adapter = an_adapter(
            port, clock, statuses={AgentStatus.BREAK: "coffee", AgentStatus.OFFLINE: "home"}
        )
        async with ordering(adapter) as (board, _):
            await board.set_status(AgentAt("101"), status, own=own, within=WITHIN)
            expected = board.heard_as(status, own)
    (order,) = exchange.did("QueuePause")
    assert adapter.reader is not None
    reader = adapter.reader()
    reader.know(PHONES)
    away = order.get("Paused") == "true"
    said = [
        "Event: QueueMemberPause",
        "Queue: a",
        f"Interface: {order.get('Interface')}",
        "StateInterface: hint:101@ext-local",
        f"Paused: {int(away)}",
        f"PausedReason: {order.get('Reason')}",
    ]

    (heard,) = reader.read("\r\n".join(said).encode(), now=clock.now())

    assert isinstance(heard.body, AgentStatusChanged)
    assert heard.body.status is expected
    assert heard.body.own == (order.get("Reason") if away else None)
    assert (heard.body.source, heard.body.source_name) == (Side.PBX, "main")


@pytest.mark.parametrize(
    ("status", "own", "reason"),
    [
        (AgentStatus.BREAK, None, "coffee"),
        (AgentStatus.BREAK, "smoke", "smoke"),
        (AgentStatus.DINNER, None, "dinner"),
    ],
)
async def test_the_reason_is_a_person_s_word_or_the_site_s_or_ours(
    clock: ManualClock, status: AgentStatus, own: str | None, reason: str
) -> None:
    exchange = Exchange(clock.now(), {"QueueStatus": members(IN_TWO_QUEUES[1])})
    async with serving(exchange) as port:
        adapter = an_adapter(port, clock, statuses={AgentStatus.BREAK: "coffee"})
        async with ordering(adapter) as (board, _):
            await board.set_status(AgentAt("101"), status, own=own, within=WITHIN)

    assert [action.get("Reason") for action in exchange.did("QueuePause")] == [reason]


async def test_a_word_that_would_be_a_second_line_is_not_sent(clock: ManualClock) -> None:
    exchange = Exchange(clock.now(), {"QueueStatus": members(IN_TWO_QUEUES[1])})
    async with serving(exchange) as port, ordering(an_adapter(port, clock)) as (board, _):
        with pytest.raises(Rejected):
            await board.set_status(
                AgentAt("101"), AgentStatus.BREAK, own="x\r\nAction: Logoff", within=WITHIN
            )

    assert exchange.did("QueuePause") == exchange.did("Logoff") == []


# -- check ----------------------------------------------------------------------------------


async def test_a_pbx_that_is_set_up_has_no_faults(clock: ManualClock) -> None:
    exchange = Exchange(clock.now())
    async with serving(exchange) as port:
        found = await findings(an_adapter(port, clock))

    assert set(found.values()) == {None}
    assert list(found)[:2] == [f"AMI answers at 127.0.0.1:{port}", "login as callmesh"]
    (order,) = exchange.did("Originate")
    assert order.get("Channel") == "PJSIP/callmesh-check"


async def test_the_demo_s_pbx_has_no_faults(clock: ManualClock) -> None:
    pbx = SandboxPbx(clock=clock)
    adapter = an_adapter(await pbx.start(), clock)
    try:
        assert set((await findings(adapter)).values()) == {None}
    finally:
        await pbx.stop()


async def test_a_port_that_nobody_listens_at_is_said(clock: ManualClock) -> None:
    async with serving(Exchange(clock.now())) as port:
        pass
    (fault,) = (await findings(an_adapter(port, clock))).values()

    assert fault is not None
    assert "bindaddr" in fault


async def test_a_login_that_is_refused_is_said(clock: ManualClock) -> None:
    pbx = SandboxPbx()
    adapter = an_adapter(await pbx.start(), clock, secret=SecretStr("wrong-secret"))
    try:
        found = await findings(adapter)
    finally:
        await pbx.stop()

    fault = found["login as callmesh"]
    assert fault is not None
    assert "secret, permit" in fault
    assert "wrong-secret" not in repr(found)


@pytest.mark.parametrize(
    ("lacks", "right"),
    [
        ("Originate", "originate"),
        ("Hangup", "call"),
        ("CoreShowChannels", "reporting"),
        ("QueuePause", "agent"),
    ],
)
async def test_a_right_that_is_missing_is_named(clock: ManualClock, lacks: str, right: str) -> None:
    exchange = Exchange(clock.now())
    exchange.permitted = [name for name in exchange.permitted if name != lacks]
    async with serving(exchange) as port:
        found = await findings(an_adapter(port, clock))

    (fault,) = [fault for fault in found.values() if fault is not None]
    assert f"needs {right} in write =" in fault
    assert len(exchange.did("Originate")) == (lacks != "Originate")


async def test_a_user_who_hears_nothing_of_calls_is_told_so(clock: ManualClock) -> None:
    """Three seconds in real time, those that the failure of an order may take."""
    exchange = Exchange(clock.now(), hears=False)
    async with serving(exchange) as port:
        found = await findings(an_adapter(port, clock))

    assert found["events of calls come"] == "manager.conf: the user needs read = call,agent"


async def test_events_without_times_are_said(clock: ManualClock) -> None:
    exchange = Exchange(clock.now(), stamps=False)
    async with serving(exchange) as port:
        found = await findings(an_adapter(port, clock))

    fault = found["events say when they happened"]
    assert fault is not None
    assert "timestampevents = yes" in fault


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (timedelta(seconds=4), None),
        (timedelta(seconds=-4), None),
        (timedelta(seconds=90), "90 s ahead of ours"),
        (timedelta(hours=-2), "7200 s behind ours"),
        (timedelta(days=400), "34560000 s ahead of ours"),
    ],
)
@pytest.mark.parametrize("stamps", [True, False])
async def test_a_clock_that_is_off_is_said(
    clock: ManualClock, ahead: timedelta, said: str | None, *, stamps: bool
) -> None:
    exchange = Exchange(clock.now() + ahead, stamps=stamps)
    async with serving(exchange) as port:
        fault = (await findings(an_adapter(port, clock)))["the PBX's clock agrees with ours"]

    assert (said or "") in (fault or "")
    assert bool(fault) is bool(said)


async def test_a_session_that_breaks_in_the_middle_of_the_check_is_a_fault(
    clock: ManualClock,
) -> None:
    exchange = Exchange(clock.now())

    def hang_up(_: AmiMessage) -> list[str]:
        exchange.cut()
        return []

    exchange.answers["ListCommands"] = hang_up
    async with serving(exchange) as port:
        found = await findings(an_adapter(port, clock))

    assert found["the AMI session holds"] is not None


# -- TLS ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificate:
    file: Path
    sha256: bytes

    def context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.file)
        return context


@pytest.fixture
def certificate(tmp_path: Path) -> Certificate:
    """That nobody but itself has signed, as Asterisk's own script makes it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pbx")])
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(datetime(2020, 1, 1))  # noqa: DTZ001  the library takes UTC without a zone
        .not_valid_after(datetime(2200, 1, 1))  # noqa: DTZ001  as above
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "pbx.pem"
    file.write_bytes(
        made.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return Certificate(file, sha256(made.public_bytes(serialization.Encoding.DER)).digest())


async def test_a_certificate_by_its_fingerprint_is_taken(
    clock: ManualClock, certificate: Certificate
) -> None:
    exchange = Exchange(clock.now())
    async with serving(exchange, certificate.context()) as port:
        pinned = an_adapter(port, clock, tls=True, fingerprint=certificate.sha256)

        assert set((await findings(pinned)).values()) == {None}
        async with reading(pinned) as (source, _):
            assert source.fault is None


async def test_a_guarded_host_is_asked_by_its_name(
    clock: ManualClock, certificate: Certificate
) -> None:
    """The connection goes to an address; the certificate is that of the name."""
    asked: list[str | None] = []
    context = certificate.context()
    context.sni_callback = lambda _, name, __: asked.append(name)
    names = GuardedResolver(AddressGuard(networks("127.0.0.0/8, ::1", setting="X")))
    async with serving(Exchange(clock.now()), context) as port:
        there: dict[str, Any] = {"host": "localhost", "guarded": True, "names": names}
        pinned = an_adapter(port, clock, tls=True, fingerprint=certificate.sha256, **there)
        assert set((await findings(pinned)).values()) == {None}
        assert asked == ["localhost"]


async def test_a_guarded_host_in_the_operators_network_hears_nothing_of_us(
    clock: ManualClock,
) -> None:
    exchange = Exchange(clock.now())
    async with serving(exchange) as port:
        names = GuardedResolver(AddressGuard())
        adapter = an_adapter(port, clock, names=names, guarded=True)
        (fault,) = (await findings(adapter)).values()
        assert "127.0.0.1 is not a public address" in str(fault)
        with pytest.raises(BadSetting):
            an_adapter(port, clock, guarded=True)
    assert exchange.received == []


async def test_another_certificate_hears_nothing_of_us(
    clock: ManualClock, certificate: Certificate
) -> None:
    exchange = Exchange(clock.now())
    async with serving(exchange, certificate.context()) as port:
        (fault,) = (
            await findings(an_adapter(port, clock, tls=True, fingerprint=bytes(32)))
        ).values()

    assert fault is not None
    assert certificate.sha256.hex() in fault
    assert exchange.received == []


async def test_a_certificate_that_nobody_signed_is_refused_and_shown(
    clock: ManualClock, certificate: Certificate
) -> None:
    exchange = Exchange(clock.now())
    async with serving(exchange, certificate.context()) as port:
        (fault,) = (await findings(an_adapter(port, clock, tls=True))).values()

    assert fault is not None
    assert certificate.sha256.hex() in fault
    assert exchange.received == []


async def test_tls_to_a_port_without_it_is_said(
    clock: ManualClock, certificate: Certificate
) -> None:
    async with serving(Exchange(clock.now())) as port:
        adapter = an_adapter(port, clock, tls=True, fingerprint=certificate.sha256)
        (fault,) = (await findings(adapter)).values()

    assert fault is not None
    assert "tlsenable" in fault
