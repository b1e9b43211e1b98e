"""
Requests to CRMs and PBXs as they are noted: who was asked, for what, and what came of it.

Whoever asks knows what is secret in a request, so a note is masked before it leaves him; where
notes go, and for how long they are kept, is somebody else's business.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

#: Characters of each body that are kept.
MOST_OF_A_BODY = 4096


class AskedSide(StrEnum):
    CRM = "crm"
    PBX = "pbx"


class Detail(StrEnum):
    """Which requests are noted, and of which the bodies."""

    OFF = "off"
    #: Those that failed, with their bodies.
    FAILED = "failed"
    #: A line for each; bodies of those that failed.
    ALL = "all"
    #: All of each.
    BODIES = "bodies"

    def keeps(self, *, failed: bool) -> bool:
        return self in {Detail.ALL, Detail.BODIES} or (failed and self is Detail.FAILED)

    def keeps_bodies(self, *, failed: bool) -> bool:
        return self.keeps(failed=failed) and (failed or self is Detail.BODIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestNote:
    """
    No secret is in it. *operation*: what it was for (search, journal, originate); *error*: why it
    failed. *request* and *answer* are bodies; *status* is None where HTTP has none. *brief*: it has
    no address that says what was asked, so that its bodies, which are short, belong to the line.
    """

    tenant: str
    side: AskedSide
    connection: str
    operation: str
    at: datetime
    method: str
    url: str
    took: timedelta
    status: int | None = None
    sent_bytes: int = 0
    got_bytes: int = 0
    error: str | None = None
    request: str | None = field(default=None, repr=False)
    answer: str | None = field(default=None, repr=False)
    brief: bool = False


class RequestNotes(Protocol):
    """Where notes go."""

    @property
    def detail(self) -> Detail: ...

    def note(self, note: RequestNote) -> None:
        """Never waits, never fails. Only what *detail* wants is to be brought."""
        ...


class NoNotes:
    """:class:`RequestNotes` of who keeps none."""

    detail = Detail.OFF

    def note(self, note: RequestNote) -> None:
        """Nothing is kept."""


_OPERATION: ContextVar[str | None] = ContextVar("operation", default=None)


@contextmanager
def asking_for(operation: str) -> Iterator[None]:
    """What the requests are for that are made within, by whomever."""
    token = _OPERATION.set(operation)
    try:
        yield
    finally:
        _OPERATION.reset(token)


def asked_for(otherwise: str) -> str:
    """What the request of this moment is for."""
    return _OPERATION.get() or otherwise
