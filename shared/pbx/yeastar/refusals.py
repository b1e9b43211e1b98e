"""What a Yeastar refuses: its HTTP status is always 200, and an errcode says what is wrong. Pure."""

from __future__ import annotations

from shared.errors import Rejected
from shared.pbx.yeastar import fields

TOKEN_ENDED = 10004
NO_SUCH_INTERFACE = 10001
_MOST_WORDS = 200


class ApiRejected(Rejected):
    """The PBX answered with an errcode other than 0; *errcode* is it."""

    def __init__(self, message: str, errcode: int, *, token_ended: bool) -> None:
        super().__init__(message, errcode=errcode)
        self.errcode = errcode
        self.token_ended = token_ended


def refusal(path: str, errcode: object, errmsg: object) -> ApiRejected:
    number = errcode if isinstance(errcode, int) and not isinstance(errcode, bool) else -1
    words = (fields.text(errmsg) or "no reason")[:_MOST_WORDS]
    if number == NO_SUCH_INTERFACE:
        words += "; its firmware has no such interface: update it"
    # An unknown or ended token may come under another number than the documented one.
    ended = number == TOKEN_ENDED or "TOKEN" in words.upper()
    return ApiRejected(f"the PBX refuses {path}: {number} {words}", number, token_ended=ended)
