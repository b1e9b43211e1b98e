"""What an answer means to a template. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from http import HTTPStatus
from typing import Any

from shared.crm.form.access import Limits, WaitUnit
from shared.crm.form.answers import Meaning, Outcome, Rule
from shared.crm.language.functions import plain_text
from shared.crm.language.paths import at_path
from shared.net.client import Answer

#: A CRM that asks for more than an hour means tomorrow; retries come back to it before.
_LONGEST_PATIENCE = timedelta(hours=1)
_MAX_DIGITS = 15
#: Of a CRM's own words; they go into logs and to people.
_LONGEST_WORDS = 300

_TRY_LATER = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})


def meaning(outcome: Outcome, answer: Answer, value: Any, *, searching: bool) -> Meaning:
    """*value* is the body, None where it could not be read; *searching*: 404 is nobody."""
    for rule in outcome.rules:
        if _holds(rule, answer.status, value):
            return rule.means
    return _by_status(answer.status, searching=searching)


def words(outcome: Outcome, answer: Answer, value: Any, *, hide: Callable[[str], str] = str) -> str:
    """
    ``the CRM answered 400 INVALID_DATA the id is wrong``: never the body itself. *hide* masks what
    must not be said.
    """
    said = [plain_text(at_path(value, path)) for path in (outcome.error_code, outcome.error_text)]
    if outcome.error_header:
        said.append(answer.headers.get(outcome.error_header.lower(), ""))
    text = in_words(" ".join(dict.fromkeys(word.strip() for word in said if word.strip())), hide)
    return f"the CRM answered {answer.status} {text}".rstrip()


def in_words(text: str, hide: Callable[[str], str]) -> str:
    """What a CRM said, as a log and people may have it."""
    return "".join(sign if sign.isprintable() else " " for sign in hide(text))[:_LONGEST_WORDS]


def wait_of(limits: Limits, answer: Answer, value: Any, now: datetime) -> timedelta | None:
    """For how long the CRM wants to be left alone; None where it does not say."""
    if (wait := retry_after(answer, now)) is not None:
        return wait
    for place in limits.waits:
        text = answer.headers.get(place.header.lower()) if place.header else None
        if place.path is not None:
            text = plain_text(at_path(value, place.path))
        if text and (found := _duration(text, place.unit, now)) is not None:
            return _within_reason(found)
    return None


def retry_after(answer: Answer, now: datetime) -> timedelta | None:
    """Seconds or a date (RFC 9110), within reason."""
    text = answer.headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS:
        return _within_reason(timedelta(seconds=min(int(text), 10**6)))
    try:
        found = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    # A date without a zone is one of GMT.
    return _within_reason((found if found.tzinfo else found.replace(tzinfo=UTC)) - now)


def _within_reason(wait: timedelta) -> timedelta:
    return min(max(wait, timedelta(0)), _LONGEST_PATIENCE)


def _holds(rule: Rule, status: int, value: Any) -> bool:
    if rule.status and status not in rule.status:
        return False
    if rule.path is None:
        return True
    found = at_path(value, rule.path)
    text = plain_text(found)
    if rule.equals is not None:
        return any(plain_text(one) == text for one in rule.equals)
    if rule.like:
        return any(fnmatchcase(text.lower(), one.lower()) for one in rule.like)
    return found is not None and found not in ("", [], {})


def _by_status(status: int, *, searching: bool) -> Meaning:
    if HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
        return Meaning.NOTHING if status == HTTPStatus.NO_CONTENT else Meaning.SUCCESS
    if status == HTTPStatus.UNAUTHORIZED:
        return Meaning.CREDENTIALS
    if status == HTTPStatus.NOT_FOUND and searching:
        return Meaning.NOTHING
    if status == HTTPStatus.TOO_MANY_REQUESTS:
        return Meaning.SLOW_DOWN
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRY_LATER:
        return Meaning.UNAVAILABLE
    return Meaning.REJECTED


def _duration(text: str, unit: WaitUnit, now: datetime) -> timedelta | None:
    try:
        number = float(text[:_MAX_DIGITS])
        match unit:
            case WaitUnit.SECONDS:
                return timedelta(seconds=number)
            case WaitUnit.MILLISECONDS:
                return timedelta(milliseconds=number)
            case WaitUnit.UNIX:
                return datetime.fromtimestamp(number, UTC) - now
            case WaitUnit.UNIX_MS:
                return datetime.fromtimestamp(number / 1000, UTC) - now
    except (ValueError, OverflowError, OSError):
        return None
