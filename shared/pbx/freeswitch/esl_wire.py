"""
ESL on the wire: ``Name: value`` lines, an empty line, and a body of ``Content-Length`` bytes. An
event is such a body: once more lines whose values are URL-encoded (``text/event-plain``), or a
JSON object (``text/event-json``). Pure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

import orjson

from shared.errors import ContractError

_END = b"\n\n"
#: The headers before a body are a handful; those of an event are in its body.
MAX_HEAD_BYTES = 64 * 1024
#: A channel in ``show channels`` is about 1 kB, an event with its variables 5 to 20 kB.
MAX_BODY_BYTES = 16 * 1024 * 1024
#: One with all its variables has some two hundred.
_MOST_HEADERS = 2_000

PLAIN = "text/event-plain"
JSON = "text/event-json"

#: An event's headers by name, decoded. ``_body`` is what came behind them.
Event = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class EslFrame:
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def kind(self) -> str:
        return self.headers.get("Content-Type", "")

    @property
    def reply(self) -> str:
        """What a command or an API call was answered, in the PBX's words."""
        text = self.headers.get("Reply-Text")
        return self.body.decode("utf-8", "replace").strip() if text is None else text


class EslParser:
    """Bytes in, frames out."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._headers: dict[str, str] | None = None
        self._length = 0

    def feed(self, data: bytes) -> Iterator[EslFrame]:
        """Raises: ContractError for what is no ESL, or is too long."""
        self._buffer += data
        while True:
            if self._headers is None and not self._read_head():
                return
            if len(self._buffer) < self._length:
                return
            body = bytes(self._buffer[: self._length])
            del self._buffer[: self._length]
            headers, self._headers = self._headers or {}, None
            yield EslFrame(headers, body)

    def _read_head(self) -> bool:
        while self._buffer.startswith(b"\n"):
            del self._buffer[:1]  # between frames an empty line is no frame
        end = self._buffer.find(_END)
        if end < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise ContractError(f"headers over {MAX_HEAD_BYTES} bytes: this is no event socket")
            return False
        headers = _lines(bytes(self._buffer[:end]))
        del self._buffer[: end + len(_END)]
        # Old versions forget the colon of this header in a rejection: nothing follows then.
        length = headers.get("Content-Length", "0")
        if not (length.isascii() and length.isdigit()) or len(length) > 9:  # noqa: PLR2004  32 bits
            raise ContractError("a Content-Length that is no number: this is no event socket")
        self._length = int(length)
        if self._length > MAX_BODY_BYTES:
            raise ContractError(f"a message over {MAX_BODY_BYTES} bytes: this is no event socket")
        self._headers = headers
        return True


def _lines(head: bytes) -> dict[str, str]:
    headers = {}
    for line in head.decode("utf-8", "replace").split("\n"):
        name, colon, value = line.partition(":")
        if colon:
            headers[name.strip()] = value.strip()
    return headers


def read_event(body: bytes) -> Event:
    """
    The body of an event frame, in either form.

    Raises: ContractError.
    """
    if body.lstrip()[:1] == b"{":
        return _of_json(body)
    head, _, rest = body.partition(_END)
    if head.count(b"\n") > _MOST_HEADERS:
        raise ContractError(f"an event with over {_MOST_HEADERS} headers")
    lines = _lines(head)
    if "Event-Name" not in lines:
        raise ContractError("an event without a name")
    found = {name: unquote(value) for name, value in lines.items()}
    if rest:
        found["_body"] = rest.decode("utf-8", "replace")
    return found


def _of_json(body: bytes) -> Event:
    """Values that repeat are lists in it, of which the first counts."""
    loaded = json_object(body)
    if len(loaded) > _MOST_HEADERS:
        raise ContractError(f"an event with over {_MOST_HEADERS} headers")
    found: dict[str, str] = loaded
    if not all(type(value) is str for value in loaded.values()):
        found = {name: text for name, value in loaded.items() if (text := _text(value)) is not None}
    if not found.get("Event-Name"):
        raise ContractError("an event without a name")
    return found


def _text(value: Any) -> str | None:
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value)


def json_object(data: bytes) -> dict[str, Any]:
    """Raises: ContractError."""
    try:
        # Names and numbers of callers may be in any encoding.
        loaded = orjson.loads(data.decode("utf-8", "replace"))
    except (orjson.JSONDecodeError, RecursionError):
        raise ContractError("no JSON") from None
    if not isinstance(loaded, dict):
        raise ContractError("no JSON object")
    return loaded


def encode_command(line: str, headers: Mapping[str, str] | None = None) -> bytes:
    """
    A command and what goes with it. Raises: ContractError for a line break, behind which would be
    another command.
    """
    lines = [line, *(f"{name}: {value}" for name, value in (headers or {}).items())]
    if any(c in text for text in lines for c in "\r\n\x00"):
        raise ContractError("a value for the PBX holds a line break")
    return ("\n".join(lines) + "\n\n").encode()
