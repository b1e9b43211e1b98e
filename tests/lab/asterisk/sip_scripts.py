"""
What callers and phones do, as scenarios of sipp: a script is written as it is told.

    Caller("447700900123").dials().is_answered().talks(2).hangs_up()
    Phone().rings(1).answers().is_hung_up()
"""

from __future__ import annotations

from typing import Self

_SDP = """\
v=0
o=lab 1 1 IN IP[local_ip_type] [local_ip]
s=-
c=IN IP[media_ip_type] [media_ip]
t=0 0
m=audio [rtpstream_audio_port] RTP/AVP 0
a=rtpmap:0 PCMU/8000
a=sendrecv
"""
#: Who plays the script puts the PBX's address here.
PBX = "@PBX@"
_VIA = "Via: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}"
_PROVISIONAL = (100, 180, 181, 183)
#: For the PBX to begin a transfer, before the phone that asked for it leaves.
_TRANSFER_SECONDS = 0.5


class Script:
    """Steps of one call at one end. Lengths are seconds."""

    def __init__(self) -> None:
        self._steps: list[str] = []

    def talks(self, seconds: float) -> Self:
        """A tone goes out all the while."""
        self._add('<nop><action><exec rtp_stream="tone.ul,-1,0"/></action></nop>')
        return self._pause(seconds)

    @property
    def xml(self) -> str:
        steps = "\n".join(self._steps)
        return f'<?xml version="1.0" encoding="UTF-8" ?>\n<scenario name="lab">\n{steps}\n</scenario>\n'

    def _add(self, step: str) -> Self:
        self._steps.append(step)
        return self

    def _pause(self, seconds: float) -> Self:
        return self._add(f'<pause milliseconds="{round(seconds * 1000)}"/>')

    def _expect(self, kind: str, what: str | int, more: str = "", inside: str = "") -> Self:
        return self._add(f'<recv {kind}="{what}"{more}>{inside}</recv>')

    def _send(self, *lines: str, body: str = "", repeated: bool = True) -> Self:
        """*repeated*: until it is answered, as UDP wants it."""
        text = "\n".join([*lines, "Content-Length: [len]", "", body])
        repeat = ' retrans="500"' if repeated else ""
        return self._add(f"<send{repeat}><![CDATA[\n{text}\n]]></send>")

    def _replies(
        self,
        status: str,
        *lines: str,
        body: str = "",
        to: str = "[last_To:];tag=[pid]S[call_number]",
        cseq: str = "[last_CSeq:]",
        repeated: bool = False,
    ) -> Self:
        """*to*, *cseq*: where they are not those of the message that came last."""
        return self._send(
            f"SIP/2.0 {status}",
            *("[last_Via:]", "[last_From:]", to, "[last_Call-ID:]", cseq),
            *lines,
            body=body,
            repeated=repeated,
        )

    def _is_hung_up(self) -> Self:
        return self._expect("request", "BYE")._replies("200 OK", to="[last_To:]")

    @property
    def _first_branch(self) -> str:
        """Of the script's first message, as seen from the step that comes next."""
        return f"[branch-{len(self._steps)}]"


class Caller(Script):
    """Somebody who dials; *name* and *number* are what the called party may see."""

    def __init__(self, number: str, name: str = "Customer") -> None:
        super().__init__()
        self._me = f'"{name}" <sip:{number}@[local_ip]:[local_port]>'
        self._contact = f"Contact: <sip:{number}@[local_ip]:[local_port]>"
        self._cseq = 1

    def dials(self) -> Self:
        return self._send(
            *self._request("INVITE", to="To: <sip:[service]@[remote_ip]:[remote_port]>"),
            self._contact,
            "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, REFER, NOTIFY",
            "Content-Type: application/sdp",
            body=_SDP,
        )

    def is_answered(self) -> Self:
        for status in _PROVISIONAL:
            self._expect("response", status, ' optional="true"')
        self._expect("response", 200)
        return self._send(*self._request("ACK"), repeated=False)

    def is_refused(self, status: int) -> Self:
        for provisional in _PROVISIONAL:
            self._expect("response", provisional, ' optional="true"')
        self._expect("response", status)
        return self._send(*self._request("ACK", branch=self._first_branch), repeated=False)

    def gives_up(self, *, after: float) -> Self:
        """*after* seconds of ringing."""
        self._expect("response", 100, ' optional="true"')._expect("response", 180)._pause(after)
        to = "To: <sip:[service]@[remote_ip]:[remote_port]>"
        self._send(*self._request("CANCEL", to=to, branch=self._first_branch))
        self._expect("response", 200)._expect("response", 487)
        return self._send(*self._request("ACK", branch=self._first_branch), repeated=False)

    def presses(self, digit: str) -> Self:
        """By SIP INFO."""
        self._cseq += 1
        self._send(
            *self._request("INFO"),
            "Content-Type: application/dtmf-relay",
            body=f"Signal={digit}\nDuration=160\n",
        )
        return self._expect("response", 200)

    def hangs_up(self) -> Self:
        self._cseq += 1
        return self._send(*self._request("BYE"))._expect("response", 200)

    def is_hung_up(self) -> Self:
        self._add('<nop><action><exec rtp_stream="tone.ul,-1,0"/></action></nop>')
        return self._is_hung_up()

    def _request(
        self, method: str, *, to: str = "[last_To:]", branch: str = "[branch]"
    ) -> tuple[str, ...]:
        return (
            f"{method} sip:[service]@[remote_ip]:[remote_port] SIP/2.0",
            _VIA.format(branch=branch),
            f"From: {self._me};tag=[call_number]",
            to,
            "Call-ID: [call_id]",
            f"CSeq: {self._cseq} {method}",
            "Max-Forwards: 70",
        )


class Phone(Script):
    """Somebody who is called; *shown*: the number that he sees, or the script fails."""

    def __init__(self, *, shown: str | None = None) -> None:
        super().__init__()
        self._cseq = 0
        # Who is who, for requests of the phone's own.
        self._expect(
            *("request", "INVITE", ' rrs="true"'),
            inside="<action>"
            '<ereg regexp=".*" search_in="hdr" header="From:" assign_to="theirs"/>'
            '<ereg regexp=".*" search_in="hdr" header="To:" assign_to="mine"/>'
            + _shown(shown)
            + "</action>",
        )
        # A variable that is not used is a fault to sipp.
        self._add(f'<Reference variables="theirs,mine{",shown" if shown else ""}"/>')

    def rings(self, seconds: float) -> Self:
        self._replies("180 Ringing", "Contact: <sip:[local_ip]:[local_port]>")
        # Even of no length it would be in the way of a CANCEL that comes at once.
        return self._pause(seconds) if seconds else self

    def answers(self) -> Self:
        self._replies(
            "200 OK",
            "Contact: <sip:[local_ip]:[local_port]>",
            "Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, REFER, NOTIFY",
            "Content-Type: application/sdp",
            body=_SDP,
            repeated=True,
        )
        return self._expect("request", "ACK")

    def refuses(self, status: str) -> Self:
        return self._replies(status, repeated=True)._expect("request", "ACK")

    def is_cancelled(self) -> Self:
        """Nobody picks up, until the PBX gives up."""
        self._expect("request", "CANCEL")._replies("200 OK")
        self._replies("487 Request Terminated", cseq="CSeq: [cseq] INVITE", repeated=True)
        return self._expect("request", "ACK")

    def is_hung_up(self) -> Self:
        return self._is_hung_up()

    def hangs_up(self) -> Self:
        return self._send(*self._request("BYE"))._expect("response", 200)

    def transfers(self, target: str) -> Self:
        """Blind, by REFER. sipp answers the NOTIFYs; the phone ends its own leg, not the PBX."""
        self._send(
            *self._request("REFER"),
            f"Refer-To: <sip:{target}@{PBX}>",
            "Referred-By: <sip:[local_ip]:[local_port]>",
        )
        return self._expect("response", 202)._pause(_TRANSFER_SECONDS).hangs_up()

    def _request(self, method: str) -> tuple[str, ...]:
        self._cseq += 1
        return (
            f"{method} [next_url] SIP/2.0",
            _VIA.format(branch="[branch]"),
            "From: [$mine];tag=[pid]S[call_number]",
            "To: [$theirs]",
            "[last_Call-ID:]",
            f"CSeq: {self._cseq} {method}",
            "Max-Forwards: 70",
            "Contact: <sip:[local_ip]:[local_port]>",
        )


def _shown(number: str | None) -> str:
    """As a carrier would be told it."""
    if number is None:
        return ""
    return (
        f'<ereg regexp="sip:{number}@" search_in="hdr" header="P-Asserted-Identity:" '
        'check_it="true" assign_to="shown"/>'
    )
