"""Runs scripts of callers and phones, each as a process of sipp."""

from __future__ import annotations

import asyncio
import itertools
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from shared.testing.waiting import eventually
from tests.lab.asterisk.network import LoopbackNetwork
from tests.lab.asterisk.priority import go_first
from tests.lab.asterisk.server import SIP_PORT
from tests.lab.asterisk.sip_scripts import PBX, Caller, Phone, Script

#: No script of the lab lasts longer; sipp ends itself then, with an error.
_LONGEST_SECONDS = 240
_STARTS_WITHIN = 60.0
#: A second of a tone in mu-law: 400 Hz at 8 kHz.
_TONE = (b"\x10" * 10 + b"\x90" * 10) * 400


@dataclass(frozen=True, slots=True)
class Playing:
    """A script that is being played."""

    process: asyncio.subprocess.Process
    files: Path

    async def done(self) -> None:
        """Raises: AssertionError when the call was not as the script says."""
        code = await self.process.wait()
        if code:
            errors = self.files.with_suffix(".err")
            told = errors.read_text(errors="replace") if errors.exists() else ""
            raise AssertionError(
                f"{self.files.name}: sipp ended with {code}\n{told or self.files.with_suffix('.log').read_text()[-2000:]}"
            )


class Sipp:
    """Everybody who plays is gone when the context ends."""

    def __init__(self, network: LoopbackNetwork, folder: Path) -> None:
        self._network = network
        self._folder = folder
        self._playing: list[Playing] = []
        self._numbers = itertools.count()
        self._callers = itertools.count()
        (folder / "tone.ul").write_bytes(_TONE)

    async def phone(self, number: int, script: Phone) -> Playing:
        """Returns when the phone can be called."""
        return await self._called(self._network.host(number), script)

    async def outside(self, script: Phone) -> Playing:
        """Whoever is called over the trunk; one at a time."""
        return await self._called(self._network.trunk, script)

    async def call(self, dialled: str, script: Caller, *, phone: int | None = None) -> Playing:
        """From outside, or from the *phone* of that number."""
        if phone is not None:
            return await self._play(self._network.host(phone), script, dialled)
        return await self._play(self._network.caller(next(self._callers)), script, dialled)

    async def close(self) -> None:
        for one in self._playing:
            if one.process.returncode is None:
                one.process.kill()
            await one.process.wait()

    async def _called(self, address: str, script: Phone) -> Playing:
        playing = await self._play(address, script)
        await eventually(
            lambda: _is_bound(address) or playing.process.returncode is not None,
            within=_STARTS_WITHIN,
        )
        return playing

    async def _play(self, address: str, script: Script, dialled: str = "") -> Playing:
        files = self._folder / f"{next(self._numbers):02}-{address.replace('.', '-')}"
        pbx = f"{self._network.pbx}:{SIP_PORT}"
        files.with_suffix(".xml").write_text(script.xml.replace(PBX, pbx))
        calls = ["-s", dialled, pbx] if dialled else []
        with files.with_suffix(".log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *("sipp", "-sf", str(files.with_suffix(".xml")), "-m", "1", "-nostdin", "-aa"),
                *("-i", address, "-p", str(SIP_PORT), "-mi", address),
                *("-timeout", f"{_LONGEST_SECONDS}s", "-timeout_error"),
                *("-trace_err", "-error_file", str(files.with_suffix(".err"))),
                *calls,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self._folder,
            )
        go_first(process.pid)
        playing = Playing(process, files)
        self._playing.append(playing)
        return playing


def _is_bound(address: str) -> bool:
    """As the kernel lists it: a trial to bind there is in the way of who shall."""
    number = int.from_bytes(socket.inet_aton(address), sys.byteorder)
    wanted = f"{number:08X}:{SIP_PORT:04X}"
    _, *sockets = Path("/proc/net/udp").read_text().splitlines()
    return any(line.split()[1] == wanted for line in sockets)
