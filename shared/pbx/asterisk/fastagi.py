"""
FastAGI: Asterisk asks, at call set-up, where a call shall go.

The dialplan waits for us, so everything has a bound: the environment in size and time, every
command in time, the whole in the budget that the answer was given. A broken or hostile peer ends
its own connection and nothing else.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta

import structlog

from shared.errors import ContractError, Forbidden, MeshError, Unavailable

log = structlog.get_logger(__name__)

_MAX_LINE_BYTES = 4096
_MAX_LINES = 100
_ENVIRONMENT_WITHIN = timedelta(seconds=2)
_COMMAND_WITHIN = timedelta(seconds=1)
#: Connections at once; a PBX under attack opens one per call.
_MAX_SESSIONS = 1000
_ANSWER = re.compile(r"^200 result=(?P<result>-?\d*)(?: \((?P<value>.*)\))?", re.DOTALL)
_HANGUP = "HANGUP"


@dataclass(frozen=True, slots=True)
class AgiQuestion:
    """What Asterisk says of the call; *peer* is the address that asks."""

    peer: str
    script: str
    caller: str
    caller_name: str
    did: str
    uniqueid: str
    linkedid: str
    arguments: tuple[str, ...]


#: Channel variables to set; the dialplan reads them.
AgiAnswer = Mapping[str, str]
#: Raises Forbidden for who may not ask this.
Decide = Callable[[AgiQuestion], Awaitable[AgiAnswer]]


class FastAgiServer:
    """*may_ask* is asked before anything is read."""

    def __init__(self, decide: Decide, *, may_ask: Callable[[str], bool]) -> None:
        self._decide = decide
        self._may_ask = may_ask
        self._server: asyncio.Server | None = None
        self._sessions: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """The bound port. Raises: OSError."""
        self._server = await asyncio.start_server(
            self._connected, host, port, limit=_MAX_LINE_BYTES
        )
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self, *, drain: timedelta) -> None:
        if self._server is not None:
            self._server.close()
        if self._sessions:
            await asyncio.wait(set(self._sessions), timeout=drain.total_seconds())
        for task in set(self._sessions):
            task.cancel()
        await asyncio.gather(*self._sessions, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        peer = writer.get_extra_info("peername")[0]
        if task is None or len(self._sessions) >= _MAX_SESSIONS or not self._may_ask(peer):
            log.warning("agi_refused", peer=peer)
            writer.close()
            return
        self._sessions.add(task)
        try:
            await self._serve(_Dialogue(reader, writer), peer)
        except Forbidden as error:
            log.warning("agi_refused", peer=peer, error=error.message)
        except (MeshError, OSError, asyncio.IncompleteReadError, ValueError) as error:
            # The call goes on: an AGI that ends without a word leaves the dialplan its default.
            log.warning("agi_broken_off", peer=peer, error=str(error))
        finally:
            self._sessions.discard(task)
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, dialogue: _Dialogue, peer: str) -> None:
        environment = await dialogue.environment()
        if environment is None:
            return  # a probe: connected and went away
        linkedid = await dialogue.full_variable("${CHANNEL(linkedid)}")
        question = _question(environment, peer, linkedid)
        for name, value in (await self._decide(question)).items():
            await dialogue.set_variable(name, value)


class _Dialogue:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def environment(self) -> dict[str, str] | None:
        """None for a peer that said nothing. Raises: ContractError, Unavailable."""
        found: dict[str, str] = {}
        try:
            async with asyncio.timeout(_ENVIRONMENT_WITHIN.total_seconds()):
                for _ in range(_MAX_LINES):
                    line = await self._line()
                    if line is None:
                        if found:
                            raise Unavailable("the PBX went away")
                        return None
                    if not line:
                        return found
                    name, _colon, value = line.partition(":")
                    found[name.strip()] = value.strip()
        except TimeoutError:
            raise Unavailable("the environment did not come in time") from None
        raise ContractError("an environment without an end")

    async def full_variable(self, expression: str) -> str:
        """Empty where it has no value."""
        found = await self._command(f"GET FULL VARIABLE {expression}")
        return found["value"] or "" if found["result"] == "1" else ""

    async def set_variable(self, name: str, value: str) -> None:
        """Raises: ContractError for a line break: the next line would be another command."""
        if any(c in value for c in "\r\n\x00"):
            raise ContractError(f"the value of {name} holds a line break")
        quoted = value.replace("\\", "\\\\").replace('"', '\\"')
        await self._command(f'SET VARIABLE {name} "{quoted}"')

    async def _command(self, command: str) -> re.Match[str]:
        self._writer.write(f"{command}\n".encode())
        try:
            async with asyncio.timeout(_COMMAND_WITHIN.total_seconds()):
                await self._writer.drain()
                line = await self._line()
                while line == _HANGUP:
                    # Comes unasked when the caller gives up; commands still work after it.
                    line = await self._line()
        except TimeoutError:
            raise Unavailable("the PBX did not answer a command in time") from None
        if line is None:
            raise Unavailable("the PBX went away")
        found = _ANSWER.match(line)
        if not found:
            raise ContractError(f"the PBX refused a command: {line[:80]}")
        return found

    async def _line(self) -> str | None:
        """Raises: ContractError for one over the limit."""
        try:
            line = await self._reader.readuntil(b"\n")
        except asyncio.IncompleteReadError:
            return None
        except asyncio.LimitOverrunError:
            raise ContractError(f"a line over {_MAX_LINE_BYTES} bytes") from None
        return line.decode("utf-8", "replace").rstrip("\r\n")


def _question(environment: Mapping[str, str], peer: str, linkedid: str) -> AgiQuestion:
    arguments = [environment.get(f"agi_arg_{n}") for n in range(1, 10)]
    given = [argument or "" for argument in arguments]
    while given and not given[-1]:
        given.pop()
    uniqueid = environment.get("agi_uniqueid", "")
    return AgiQuestion(
        peer=peer,
        script=environment.get("agi_network_script", ""),
        caller=environment.get("agi_callerid", ""),
        caller_name=environment.get("agi_calleridname", ""),
        did=environment.get("agi_extension", ""),
        uniqueid=uniqueid,
        linkedid=linkedid or uniqueid,
        arguments=tuple(given),
    )
