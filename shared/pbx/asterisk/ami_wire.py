"""AMI on the wire: blocks of ``Name: value`` lines ended by an empty line. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from shared.errors import ContractError

_END = b"\r\n\r\n"
#: An event is about 600 bytes; a list answer sends one event per line of it.
MAX_BLOCK_BYTES = 256 * 1024
_EVENT = b"Event: "
_ANSWERS = b"\r\nActionID: "


@dataclass(frozen=True, slots=True)
class AmiMessage:
    """
    Headers by name; one that repeats (``ChanVariable``) keeps all of its values. *raw*: the block
    as it came, without its end.
    """

    headers: Mapping[str, tuple[str, ...]]
    raw: bytes = field(default=b"", compare=False, repr=False)

    def get(self, name: str, default: str = "") -> str:
        found = self.headers.get(name)
        return found[0] if found else default

    def all(self, name: str) -> tuple[str, ...]:
        return self.headers.get(name, ())

    @property
    def event(self) -> str:
        return self.get("Event")

    @property
    def action_id(self) -> str:
        return self.get("ActionID")

    def variable(self, name: str) -> str:
        """A channel variable that ``channelvars`` in manager.conf adds to every event."""
        for header in ("ChanVariable", "DestChanVariable"):
            for pair in self.all(header):
                key, _, value = pair.partition("=")
                if key == name and value:
                    return value
        return ""


class AmiParser:
    """
    Bytes in, messages out, cut before they are decoded: a character split over two reads is
    whole again. Events whose name is not in *wanted* are passed over undecoded, but for those
    that answer an action. ``garbage`` counts blocks in which no line has a name.
    """

    def __init__(self, wanted: Collection[str] | None = None) -> None:
        self._wanted = None if wanted is None else frozenset(name.encode() for name in wanted)
        self._buffer = bytearray()
        self.passed_over = 0
        self.garbage = 0

    def feed(self, data: bytes) -> Iterator[AmiMessage]:
        """Raises: ContractError when a block does not end: that is no AMI."""
        self._buffer += data
        while (end := self._buffer.find(_END)) >= 0:
            # Asterisk 22 leaves a stray empty line behind some events (TestEvent).
            block = bytes(self._buffer[:end]).lstrip(b"\r\n")
            del self._buffer[: end + len(_END)]
            if not self._is_wanted(block):
                self.passed_over += 1
            elif (message := parse_block(block)).headers:
                yield message
            elif block:
                self.garbage += 1
        if len(self._buffer) > MAX_BLOCK_BYTES:
            raise ContractError(f"a message over {MAX_BLOCK_BYTES} bytes: this is no AMI")

    def _is_wanted(self, block: bytes) -> bool:
        if self._wanted is None or not block.startswith(_EVENT):
            return True
        end = block.find(b"\r\n")
        name = block[len(_EVENT) :] if end < 0 else block[len(_EVENT) : end]
        return name in self._wanted or _ANSWERS in block


def parse_block(block: bytes) -> AmiMessage:
    """Lines without a name are passed over; a block of nothing else has no headers."""
    headers: dict[str, tuple[str, ...]] = {}
    for line in block.decode("utf-8", "replace").split("\r\n"):
        name, colon, value = line.partition(":")
        if not colon:
            continue  # the banner, the text of a command's output
        name, value = name.strip(), value.strip()
        if name.startswith("ChanVariable("):
            name = "ChanVariable"  # OriginateResponse: ChanVariable(<channel>): NAME=value
        known = headers.get(name)
        headers[name] = (value,) if known is None else (*known, value)
    return AmiMessage(headers, block)


def encode_action(name: str, fields: Mapping[str, str | list[str]]) -> bytes:
    """
    Raises ContractError for a line break in a value: an action is lines, so it would be another
    header or another action.
    """
    lines = [f"Action: {name}"]
    for key, value in fields.items():
        lines += [f"{key}: {item}" for item in ([value] if isinstance(value, str) else value)]
    for line in lines:
        if any(c in line for c in "\r\n\x00"):
            raise ContractError("a value for the PBX holds a line break")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
