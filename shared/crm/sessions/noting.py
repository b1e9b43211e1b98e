"""
A sign-in's requests as notes. Their bodies are kept in no case: what is sent may be made of a
password, and what comes is a token.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import structlog

from shared.clock import Clock
from shared.crm.masking import Mask, printable
from shared.net.client import Answer, Exchange, HttpClient
from shared.net.requests import AskedSide, RequestNote, RequestNotes

log = structlog.get_logger(__name__)

_ERRORS_FROM = 400
#: Bytes of an answer in which an error is looked for.
_LONGEST = 64 * 1024
#: OAuth 2's names for what is wrong, and common ones.
_WORDS = ("error", "error_description", "message", "errorMessage", "description")
_MOST_WORDS = 300


def signing_in(
    http: HttpClient,
    *,
    tenant: str,
    connection: str,
    secrets: Sequence[str],
    notes: RequestNotes,
    clock: Clock,
) -> HttpClient:
    """
    The same client for the sign-in of a connection, of which each request is noted. *secrets* are
    in no note.
    """

    def note(seen: Exchange) -> None:
        try:
            fault = seen.error or _fault(seen.answer)
            if not notes.detail.keeps(failed=fault is not None):
                return
            mask = Mask([*secrets, *_carried(seen)])
            url = seen.url.with_user(None) if seen.url.user else seen.url
            notes.note(
                RequestNote(
                    tenant=tenant,
                    side=AskedSide.CRM,
                    connection=connection,
                    operation="session",
                    at=clock.now() - seen.took,
                    method=seen.method,
                    url=printable(mask.address(str(url))),
                    took=seen.took,
                    status=seen.answer.status if seen.answer is not None else None,
                    sent_bytes=len(seen.body or b""),
                    got_bytes=len(seen.answer.body) if seen.answer is not None else 0,
                    error=printable(mask.text(fault)) if fault is not None else None,
                )
            )
        except Exception:
            # The sign-in counts, not the note of it.
            log.exception("request_not_noted", connection=connection)

    return http.watched(note)


def _carried(seen: Exchange) -> list[str]:
    """What is made for one request alone, such as a hash of the password."""
    by_name = Mask(())
    fields = [*seen.headers.items(), *seen.url.query.items()]
    return [value.partition(" ")[2] or value for name, value in fields if by_name.hides(name)]


def _fault(answer: Answer | None) -> str | None:
    """Also of a CRM that refuses a sign-in under status 200."""
    if answer is None:
        return None
    said = _said(answer.body)
    if answer.status >= _ERRORS_FROM:
        return f"answered {answer.status}{': ' if said else ''}{said}"
    return said or None


def _said(body: bytes) -> str:
    """Of an answer without an error, nothing."""
    try:
        told: Any = json.loads(body) if len(body) <= _LONGEST else None
    except (ValueError, RecursionError):
        return ""
    if not isinstance(told, dict) or not (told.get("error") or told.get("success") is False):
        return ""
    if isinstance(told.get("error"), dict):
        told = told["error"] | {"error": told["error"].get("code")}
    found = [str(told[name]) for name in _WORDS if isinstance(told.get(name), str | int)]
    return ": ".join(found)[:_MOST_WORDS] or "refused"
