"""
A very small SIP phone (UDP, no sound), for what sipp cannot do in one scenario: two calls at once,
which the phone itself joins.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import Self

from shared.ids import new_id

_ANSWERS_WITHIN = 45.0


@dataclass(slots=True)
class Dialog:
    """One call of the phone; *local* and *remote* are From and To of its own requests."""

    call_id: str
    local: str
    remote: str
    target: str
    cseq: int = 1


@dataclass(slots=True)
class MiniPhone(asyncio.DatagramProtocol):
    """Answers whoever calls, at once. Addresses are (host, port)."""

    number: str
    address: tuple[str, int]
    pbx: tuple[str, int]
    #: Calls that were answered.
    incoming: asyncio.Queue[Dialog] = field(default_factory=asyncio.Queue)
    _ended: set[str] = field(default_factory=set)
    _answers: dict[tuple[str, str], asyncio.Future[str]] = field(default_factory=dict)
    _transport: asyncio.DatagramTransport | None = None

    async def open(self) -> Self:
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(
            lambda: self, local_addr=self.address
        )
        return self

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    async def taken(self) -> Dialog:
        """The next call that rang here."""
        return await asyncio.wait_for(self.incoming.get(), _ANSWERS_WITHIN)

    async def call(self, number: str) -> Dialog:
        """Raises: AssertionError when it is not answered."""
        there = f"sip:{number}@{self.pbx[0]}:{self.pbx[1]}"
        me = f"<sip:{self.number}@{self.address[0]}>;tag={_token()}"
        dialog = Dialog(_token(), me, f"<{there}>", there)
        answer = await self._ask("INVITE", dialog, body=self._sdp)
        assert _status(answer) == 200, answer
        dialog.remote = _header(answer, "To")
        dialog.target = _within(_header(answer, "Contact"))
        self._send(f"ACK {dialog.target} SIP/2.0", *self._headers("ACK", dialog))
        return dialog

    async def join(self, held: Dialog, consulted: Dialog) -> None:
        """Attended transfer: REFER with Replaces on the first call, naming the second."""
        replaces = (
            f"{consulted.call_id}%3Bto-tag%3D{_tag(consulted.remote)}"
            f"%3Bfrom-tag%3D{_tag(consulted.local)}"
        )
        answer = await self._ask(
            "REFER",
            held,
            f"Refer-To: <{_within(consulted.remote)}?Replaces={replaces}>",
            f"Referred-By: <sip:{self.number}@{self.address[0]}>",
        )
        assert _status(answer) == 202, answer

    async def hang_up(self, dialog: Dialog) -> None:
        await self._ask("BYE", dialog)

    def was_hung_up(self, dialog: Dialog) -> bool:
        """By the other side."""
        return dialog.call_id in self._ended

    # -- datagrams ---------------------------------------------------------------------------

    def datagram_received(self, data: bytes, addr: tuple[str | int, ...]) -> None:
        message = data.decode()
        method = message.split(maxsplit=1)[0]
        call_id = _header(message, "Call-ID")
        if method == "SIP/2.0":
            future = self._answers.get((call_id, _header(message, "CSeq")))
            if future is not None and not future.done() and _status(message) >= 200:
                future.set_result(message)
        elif method == "INVITE":
            self._answer(message)
        elif method != "ACK":
            self._reply(message, "200 OK")
            if method == "BYE":
                self._ended.add(call_id)

    def _answer(self, message: str) -> None:
        asked = _header(message, "To")
        if "tag=" in asked:  # of a call that is there: a new description of the sound
            self._reply(message, "200 OK", body=self._sdp)
            return
        me = f"{asked};tag={_token()}"
        self._reply(message, "180 Ringing", to=me)
        self._reply(message, "200 OK", to=me, body=self._sdp)
        target = _within(_header(message, "Contact"))
        caller = _header(message, "From")
        self.incoming.put_nowait(Dialog(_header(message, "Call-ID"), me, caller, target))

    async def _ask(self, method: str, dialog: Dialog, *lines: str, body: str = "") -> str:
        dialog.cseq += 1
        key = (dialog.call_id, f"{dialog.cseq} {method}")
        future = self._answers[key] = asyncio.get_running_loop().create_future()
        kind = ["Content-Type: application/sdp"] if body else []
        first = f"{method} {dialog.target} SIP/2.0"
        self._send(first, *self._headers(method, dialog), *lines, *kind, body=body)
        try:
            return await asyncio.wait_for(future, _ANSWERS_WITHIN)
        finally:
            del self._answers[key]

    def _headers(self, method: str, dialog: Dialog) -> list[str]:
        return [
            f"Via: SIP/2.0/UDP {self.address[0]}:{self.address[1]};branch=z9hG4bK{_token()}",
            f"From: {dialog.local}",
            f"To: {dialog.remote}",
            f"Call-ID: {dialog.call_id}",
            f"CSeq: {dialog.cseq} {method}",
            "Max-Forwards: 70",
            self._contact,
        ]

    def _reply(self, message: str, status: str, *, to: str | None = None, body: str = "") -> None:
        vias = re.findall(r"^Via:[ \t]*(.*?)\r?$", message, re.MULTILINE | re.IGNORECASE)
        kind = ["Content-Type: application/sdp"] if body else []
        self._send(
            f"SIP/2.0 {status}",
            *(f"Via: {via}" for via in vias),
            f"From: {_header(message, 'From')}",
            f"To: {to or _header(message, 'To')}",
            f"Call-ID: {_header(message, 'Call-ID')}",
            f"CSeq: {_header(message, 'CSeq')}",
            self._contact,
            *kind,
            body=body,
        )

    def _send(self, *lines: str, body: str = "") -> None:
        assert self._transport is not None, "open the phone first"
        text = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", body])
        self._transport.sendto(text.encode(), self.pbx)

    @property
    def _contact(self) -> str:
        return f"Contact: <sip:{self.number}@{self.address[0]}:{self.address[1]}>"

    @property
    def _sdp(self) -> str:
        ip = self.address[0]
        lines = (
            *("v=0", f"o=lab 1 1 IN IP4 {ip}", "s=-", f"c=IN IP4 {ip}", "t=0 0"),
            *("m=audio 40000 RTP/AVP 0", "a=rtpmap:0 PCMU/8000", ""),
        )
        return "\r\n".join(lines)


def _token() -> str:
    return new_id().hex


def _header(message: str, name: str) -> str:
    found = re.search(rf"^{name}:[ \t]*(.*?)\r?$", message, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else ""


def _status(message: str) -> int:
    return int(message.split(maxsplit=2)[1])


def _within(address: str) -> str:
    found = re.search(r"<([^>]+)>", address)
    assert found, address
    return found[1]


def _tag(address: str) -> str:
    found = re.search(r"tag=([^;>\s]+)", address)
    assert found, address
    return found[1]
