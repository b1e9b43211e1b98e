"""A recorded call and its recasting: other ids, numbers and times, everything else as it was. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from importlib import resources

from shared.ids import derived_id
from shared.pbx.asterisk.ami_wire import AmiMessage, parse_block

#: Who is in all the recordings.
RECORDED_CALLER = "447700900123"
RECORDED_DID = "442079460000"
RECORDED_DIALLED = "+447700900777"
RECORDED_PHONE = "101"
#: Where that PBX wrote what was said.
RECORDED_FOLDER = "/pbx/spool/monitor"
_CALLER_NAMES = ("Jane Doe (ACME)", "Customer")
_CLICK = re.compile(r"click-\d{4}")
_STAMP = re.compile(r"^Timestamp: (\d+\.\d+)\r?$", re.MULTILINE)
_UNIQUEID = re.compile(r"\b(\d{10})\.(\d{1,4})\b")
_CHANNEL_NUMBER = re.compile(r"(?<=-)[0-9a-f]{8}(?=\W|$)")
_BRIDGE = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PHONE = re.compile(rf"(?<![\d.+]){RECORDED_PHONE}(?!\d)")


@dataclass(frozen=True, slots=True)
class Cast:
    """
    Who calls whom, when, under which ids. *serial* tells calls of one *started_at* second apart.

    The same cast always gives the same bytes: a PBX that sends a call again sends the same call.
    """

    started_at: datetime
    serial: int
    caller: str = RECORDED_CALLER
    caller_name: str = "Customer"
    did: str = RECORDED_DID
    dialled: str = RECORDED_DIALLED
    phone: str = RECORDED_PHONE
    click: str | None = None
    action_id: str | None = None

    @property
    def linkedid(self) -> str:
        return self.click or self.uniqueid(0, 0)

    def uniqueid(self, seconds: int, number: int) -> str:
        return f"{int(self.started_at.timestamp()) + seconds}.{self.serial * 1000 + number}"


@dataclass(frozen=True, slots=True)
class Step:
    """One event to send, *after* the first one."""

    after: timedelta
    text: str

    @property
    def message(self) -> AmiMessage:
        return parse_block(self.text.encode())


class Recording:
    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self._blocks = [block for block in text.split("\r\n\r\n") if block.strip()]
        stamps = [float(found[1]) for b in self._blocks if (found := _STAMP.search(b))]
        self._began = min(stamps)
        ids = [
            (int(s), int(n))
            for block in self._blocks
            for s, n in _UNIQUEID.findall(_STAMP.sub("", block))
        ]
        self._first_id = min(ids, default=(int(self._began), 0), key=lambda pair: pair[1])

    def steps(self, cast: Cast) -> Iterator[Step]:
        recast = self._recaster(cast)
        for block in self._blocks:
            found = _STAMP.search(block)
            after = timedelta(seconds=float(found[1]) - self._began) if found else timedelta(0)
            stamp = (cast.started_at + after).timestamp()
            parts = block.split("\r\n")
            lines = [
                f"Timestamp: {stamp:.6f}" if line.startswith("Timestamp: ") else recast(line)
                for line in parts
            ]
            yield Step(after, "\r\n".join(lines))

    def _recaster(self, cast: Cast) -> Callable[[str], str]:
        first_second, first_number = self._first_id

        def uniqueid(found: re.Match[str]) -> str:
            return cast.uniqueid(int(found[1]) - first_second, int(found[2]) - first_number)

        def channel_number(found: re.Match[str]) -> str:
            return f"{(cast.serial << 8 | int(found[0], 16) & 0xFF) & 0xFFFFFFFF:08x}"

        def bridge(found: re.Match[str]) -> str:
            return str(derived_id("bridge", found[0], cast.linkedid))

        def recast(line: str) -> str:
            if line.startswith("ActionID: "):
                return f"ActionID: {cast.action_id or 'none'}"
            # Bridges first: their ids hold digits and hyphens that mean something elsewhere.
            line = _BRIDGE.sub(bridge, line)
            if not line.startswith("Bridge"):
                line = _CHANNEL_NUMBER.sub(channel_number, line)
            line = _UNIQUEID.sub(uniqueid, line)
            if cast.click is not None:
                line = _CLICK.sub(cast.click, line)
            for name in _CALLER_NAMES:
                line = line.replace(name, cast.caller_name)
            line = _PHONE.sub(cast.phone, line) if cast.phone != RECORDED_PHONE else line
            return (
                line.replace(RECORDED_DIALLED, cast.dialled)
                .replace(RECORDED_CALLER, cast.caller)
                .replace(RECORDED_DID, cast.did)
            )

        return recast


@cache
def recording(name: str) -> Recording:
    """Raises: KeyError for a name that none has."""
    file = resources.files("shared.sandbox") / "recordings" / f"{name}.ami.txt"
    if not file.is_file():
        raise KeyError(name)
    return Recording(name, file.read_bytes().decode())
