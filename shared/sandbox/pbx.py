"""
The sandbox PBX: recorded calls of a real Asterisk, played by a server that speaks AMI on a real
socket, asks for routes by FastAGI as a dialplan does, and takes Originate.

It plays what was recorded whatever the answer to its question is; the answer is kept, so that one
can see where the call would have gone.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog

from shared.clock import Clock, SystemClock
from shared.errors import Unavailable
from shared.pbx.asterisk.ami_wire import AmiMessage, AmiParser
from shared.sandbox.recording import RECORDED_FOLDER, Cast, Recording, recording
from shared.sandbox.tone import write_tone

log = structlog.get_logger(__name__)

USERNAME = "callmesh"
SECRET = "sandbox-ami-secret"  # noqa: S105  opens nothing but the sandbox
BANNER = b"Asterisk Call Manager/11.0.0\r\n"
_PHONES = frozenset({"101", "102", "103"})
#: The sample dialplan caps it at 2.5 s. Here the rule's budget decides alone, of at most 10 s.
_ROUTE_WITHIN = timedelta(seconds=12)
_AGI_LINE_BYTES = 4096
#: What there still is of a call that is hung up.
_ENDS = frozenset({"HangupRequest", "BridgeLeave", "Hangup"})
Until = Callable[[], Awaitable[object]]
#: What events and CoreShowChannels say of a channel alike.
_SHOWN = (
    *("Channel", "ChannelStateDesc", "CallerIDNum", "CallerIDName"),
    *("ConnectedLineNum", "ConnectedLineName", "Exten", "Uniqueid", "Linkedid"),
)
_RECORDED = re.compile(rf"={RECORDED_FOLDER}/([\w.-]+)")
_ESCAPED = re.compile(r"\\(.)")


def is_end(message: AmiMessage) -> bool:
    """Whether a phone leaves a call, or one is hung up."""
    return message.event in _ENDS


@dataclass(slots=True)
class Played:
    """One call that was played; *variables* are what the FastAGI answer set."""

    name: str
    cast: Cast
    variables: dict[str, str] = field(default_factory=dict)


class LiveChannels:
    """The channels that there are, as CoreShowChannels lists them; by Uniqueid."""

    def __init__(self) -> None:
        self._items: dict[str, dict[str, str]] = {}

    def __contains__(self, uniqueid: str) -> bool:
        return uniqueid in self._items

    def note(self, message: AmiMessage) -> None:
        uniqueid = message.get("Uniqueid")
        if message.event == "Newchannel":
            self._items[uniqueid] = {}
        elif message.event == "Hangup":
            self._items.pop(uniqueid, None)
        if (item := self._items.get(uniqueid)) is not None:
            item.update({name: found for name in _SHOWN if (found := message.get(name))})
            if message.event in {"BridgeEnter", "BridgeLeave"}:
                inside = message.event == "BridgeEnter"
                item["BridgeId"] = message.get("BridgeUniqueid") if inside else ""

    def items(self) -> list[dict[str, str]]:
        return list(self._items.values())


class SandboxPbx:
    """``start`` returns the AMI port. *speed* 4 plays four times as fast as it was."""

    def __init__(
        self,
        *,
        agi: tuple[str, int, str] | None = None,
        clock: Clock | None = None,
        speed: float = 1,
        monitor: Path | None = None,
    ) -> None:
        """
        *agi*: host, port and script of the FastAGI server that is asked. *monitor*: a folder that
        gets the recordings; without it the PBX tells names of files that are nowhere.
        """
        self.monitor = monitor
        self.agi = agi
        self.speed = speed
        self.clock = clock or SystemClock()
        self._server: asyncio.Server | None = None
        self._sessions: set[_Session] = set()
        self.channels = LiveChannels()
        self._holds: list[tuple[Callable[[AmiMessage], bool], Until]] = []
        #: Actions that the manager user has no right to.
        self.forbids: set[str] = set()
        self.logins = 0
        self._originated: set[asyncio.Task[object]] = set()
        #: Of each click-to-call that is under way: set when it is hung up.
        self._over: dict[str, asyncio.Event] = {}
        self._serial = 500

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> int:
        """Raises: OSError."""
        self._server = await asyncio.start_server(self._connected, host, port)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        for task in self._originated:
            task.cancel()
        await asyncio.gather(*self._originated, return_exceptions=True)
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.close()

    def cut(self) -> None:
        """Every manager connection breaks, as by a restart of the PBX."""
        for session in list(self._sessions):
            session.close()

    def hold(self, until: Until, *, before: Callable[[AmiMessage], bool] = is_end) -> None:
        """From now on *until* is awaited ahead of each event that is one of *before*."""
        self._holds.append((before, until))

    @property
    def listeners(self) -> int:
        """Managers that are logged in."""
        return sum(session.logged_in for session in self._sessions)

    async def play(self, name: str, cast: Cast) -> Played:
        """Play a recording to its end. Raises: KeyError for a name that none has."""
        played = Played(name, cast)
        await self._play(recording(name), cast, played)
        return played

    async def _play(self, what: Recording, cast: Cast, played: Played) -> None:
        began = self.clock.now()
        asked = timedelta(0)
        over = self._over.get(cast.linkedid)
        for number, step in enumerate(what.steps(cast)):
            due = began + asked + step.after / self.speed
            await self._sleep(due - self.clock.now(), over)
            message, text = step.message, step.text
            for before, until in self._holds:
                if before(message):
                    await until()
            if over is not None and over.is_set() and not is_end(message):
                continue
            if self.monitor is not None:
                for name in _RECORDED.findall(text):
                    await asyncio.to_thread(write_tone, self.monitor / name)
                text = text.replace(RECORDED_FOLDER, str(self.monitor))
            self.channels.note(message)
            self._tell(text)
            if number == 0 and message.get("ChannelStateDesc") == "Ring" and self.agi:
                asked_at = self.clock.now()
                played.variables = await self._ask_route(message)
                asked = self.clock.now() - asked_at

    async def _sleep(self, time: timedelta, over: asyncio.Event | None) -> None:
        """For as long as that, or until the call is hung up."""
        if time <= timedelta(0) or (over is not None and over.is_set()):
            return
        if over is None:
            await self.clock.sleep(time)
            return
        naps = [asyncio.ensure_future(self.clock.sleep(time)), asyncio.ensure_future(over.wait())]
        try:
            await asyncio.wait(naps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for nap in naps:
                nap.cancel()

    def hang_up(self, channel: str) -> bool:
        """The click-to-call that the channel of this name or Uniqueid is of. Whether there is one."""
        for item in self.channels.items():
            if channel in {item.get("Channel"), item.get("Uniqueid")}:
                over = self._over.get(item.get("Linkedid", ""))
                if over is not None:
                    over.set()
                return over is not None
        return False

    def _tell(self, text: str) -> None:
        data = f"{text}\r\n\r\n".encode()
        for session in list(self._sessions):
            session.tell(data)

    # -- the route question ------------------------------------------------------------------

    async def _ask_route(self, message: AmiMessage) -> dict[str, str]:
        """What the dialplan would have; nothing when the server is away or silent."""
        try:
            async with asyncio.timeout(_ROUTE_WITHIN.total_seconds()):
                return await ask_route(
                    self.agi or ("", 0, ""),
                    caller=message.get("CallerIDNum"),
                    caller_name=message.get("CallerIDName"),
                    did=message.get("Exten"),
                    uniqueid=message.get("Uniqueid"),
                )
        except (TimeoutError, OSError, Unavailable) as error:
            log.warning("sandbox_route_not_answered", error=str(error))
            return {}

    # -- AMI ---------------------------------------------------------------------------------

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        session = _Session(self, writer)
        self._sessions.add(session)
        writer.write(BANNER)
        parser = AmiParser()
        try:
            while data := await reader.read(65536):
                for message in parser.feed(data):
                    session.act(message)
        except OSError:
            pass
        finally:
            self._sessions.discard(session)
            session.close()

    def originate(self, action: AmiMessage) -> None:
        """
        Plays a recorded click-to-call: number …00 is busy, …99 is an agent who does not pick up,
        a phone that is not 101 to 103 is not registered.
        """
        phone = action.get("Channel").rpartition("/")[2]
        number, click = action.get("Exten"), action.get("ChannelId")
        if phone not in _PHONES or click in self.channels:
            name = "originate_ami_unknown"
        elif number.endswith("00"):
            name = "originate_ami_customer_busy"
        elif number.endswith("99"):
            name = "originate_ami_agent_no_answer"
        else:
            name = "originate_ami"
        playing = self.play_click(name, click, phone=phone, number=number)
        task: asyncio.Task[object] = asyncio.create_task(playing)
        self._originated.add(task)
        task.add_done_callback(self._originated.discard)

    async def play_click(self, name: str, click: str, *, phone: str, number: str) -> Played:
        """The call of an order whose reference is *click*: its ActionID and its channel's id."""
        self._serial += 1
        cast = Cast(
            started_at=self.clock.now(),
            serial=self._serial,
            dialled=number,
            phone=phone,
            click=click,
            action_id=click,
        )
        self._over[click] = asyncio.Event()
        try:
            return await self.play(name, cast)
        finally:
            del self._over[click]


class _Session:
    def __init__(self, pbx: SandboxPbx, writer: asyncio.StreamWriter) -> None:
        self._pbx = pbx
        self._writer = writer
        self._challenge = ""
        self.logged_in = False

    def close(self) -> None:
        self._writer.close()

    def tell(self, data: bytes) -> None:
        if self.logged_in:
            self._writer.write(data)

    def act(self, action: AmiMessage) -> None:
        name = action.get("Action")
        if name == "Challenge":
            self._challenge = str(secrets.randbelow(10**9))
            self._answer(action, "Success", Challenge=self._challenge)
        elif name == "Login":
            self._login(action)
        elif not self.logged_in or name in self._pbx.forbids:
            self._answer(action, "Error", Message="Permission denied")
        elif name == "Ping":
            self._answer(action, "Success", Ping="Pong")
        elif name == "CoreShowChannels":
            self._show_channels(action)
        elif name == "Hangup" and self._pbx.hang_up(action.get("Channel")):
            self._answer(action, "Success", Message="Channel Hungup")
        elif name == "Hangup":
            self._answer(action, "Error", Message="No such channel")
        elif name == "Originate":
            self._answer(action, "Success", Message="Originate successfully queued")
            self._pbx.originate(action)
        else:
            self._answer(action, "Error", Message=f"Invalid/unknown command: {name}")

    def _login(self, action: AmiMessage) -> None:
        # The protocol's own choice of hash.
        proof = hashlib.md5(f"{self._challenge}{SECRET}".encode(), usedforsecurity=False)
        known = action.get("Username") == USERNAME
        if not (known and self._challenge and action.get("Key") == proof.hexdigest()):
            self._answer(action, "Error", Message="Authentication failed")
            self._writer.close()
            return
        self.logged_in = True
        self._pbx.logins += 1
        self._answer(action, "Success", Message="Authentication accepted")

    def _show_channels(self, action: AmiMessage) -> None:
        self._answer(action, "Success", EventList="start", Message="Channels will follow")
        channels = self._pbx.channels.items()
        for channel in channels:
            self._send({"Event": "CoreShowChannel", "ActionID": action.action_id, **channel})
        self._send(
            {
                "Event": "CoreShowChannelsComplete",
                "ActionID": action.action_id,
                "EventList": "Complete",
                "ListItems": str(len(channels)),
            }
        )

    def _answer(self, action: AmiMessage, response: str, **fields: str) -> None:
        self._send({"Response": response, "ActionID": action.action_id, **fields})

    def _send(self, fields: Mapping[str, str]) -> None:
        lines = [f"{name}: {value}" for name, value in fields.items() if value]
        self._writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())


async def ask_route(
    agi: tuple[str, int, str],
    *,
    caller: str,
    caller_name: str,
    did: str,
    uniqueid: str,
    arguments: tuple[str, ...] = (),
) -> dict[str, str]:
    """
    The FastAGI dialogue as Asterisk leads it; the variables that were set.

    Raises: OSError, Unavailable.
    """
    host, port, script = agi
    reader, writer = await asyncio.open_connection(host, port, limit=_AGI_LINE_BYTES)
    environment = {
        "agi_network": "yes",
        "agi_network_script": script,
        "agi_request": f"agi://{host}:{port}/{script}",
        "agi_channel": "PJSIP/trunk-00000000",
        "agi_uniqueid": uniqueid,
        "agi_callerid": caller,
        "agi_calleridname": caller_name,
        "agi_dnid": did,
        "agi_context": "from-trunk",
        "agi_extension": did,
        "agi_priority": "6",
        **{f"agi_arg_{n}": argument for n, argument in enumerate(arguments or (did,), start=1)},
    }
    found: dict[str, str] = {}
    try:
        lines = [f"{name}: {value}" for name, value in environment.items()]
        writer.write(("\n".join(lines) + "\n\n").encode())
        while line := await reader.readline():
            command = line.decode().strip()
            answer = "200 result=1"
            if command.startswith("GET FULL VARIABLE"):
                answer = f"200 result=1 ({uniqueid})"
            elif command.startswith("SET VARIABLE "):
                name, _, value = command.removeprefix("SET VARIABLE ").partition(" ")
                found[name] = _ESCAPED.sub(r"\1", value[1:-1])
            writer.write(f"{answer}\n".encode())
    finally:
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()
    return found
