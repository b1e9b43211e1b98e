"""Who wants to be told of what, where and how: as it is said, and as it is kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints
from yarl import URL

from services.gateway.subscribers.choosing import (
    EventFilter,
    EventPattern,
    check_filter,
    check_patterns,
    is_number,
    types_of,
)
from services.gateway.subscribers.public import variables_of
from shared.crm.form.requests import HeaderName
from shared.crm.language.text import compile_text
from shared.crm.language.url import compile_url
from shared.errors import ContractError
from shared.ids import Name
from shared.moments import Duration, Instant
from shared.secrets import Sealed
from shared.storage.port import CollectionSpec, Document, Index

#: Nothing of an event may be in the host, nor may a user and a password.
_HOST = re.compile(r"(?P<origin>https?://[^/?#{}@%\s\\]+)(?:[/?#]|\Z)")
_OURS = frozenset(
    {
        "content-type",
        "content-length",
        "content-encoding",
        "host",
        "transfer-encoding",
        "connection",
        "upgrade",
        "expect",
        "user-agent",
        "traceparent",
    }
)
#: Of a body as JSON.
_LONGEST_BODY, _DEEPEST_BODY = 20_000, 50
MOST_HEADERS = 20


class SubscriberSettings(BaseModel):
    """Whom to tell, of what, and how. Texts may name fields of the event: `{{.CallId}}`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    description: Annotated[str, StringConstraints(max_length=500)] = ""
    url: Annotated[str, StringConstraints(min_length=1, max_length=2000)] = Field(
        description="Where to: `https://example.com/hooks?call={{.CallId}}`. Values are escaped, and "
        "none may be in the host. Whoever may read subscribers reads it: a secret belongs in "
        "`headers`."
    )
    method: Literal["POST", "PUT"] = "POST"
    events: Annotated[tuple[EventPattern, ...], Field(min_length=1, max_length=50)] = Field(
        description="`calls.ended`, `calls.*`, `*`."
    )
    filter: EventFilter | None = Field(default=None, description="Of these only those that pass.")
    body: JsonValue = Field(
        default=None,
        description='The body, as JSON with placeholders, such as `{"text": "{{.CallerNumber}}"}`; '
        "left out: the event.",
    )
    timeout: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(seconds=60))] = Field(
        default=timedelta(seconds=15), description="How long an answer is waited for."
    )
    active: bool = Field(default=True, description="Off: nothing is sent, and nothing is kept.")

    @property
    def types(self) -> frozenset[str]:
        return types_of(self.events)

    def wants(self, event: dict[str, Any]) -> bool:
        """Of an event of one of its types."""
        return self.filter is None or self.filter.holds(event)


def check_settings(said: SubscriberSettings) -> None:
    """
    That it can be sent, as far as this version knows. Not asked of what is kept: a newer version
    may have written it, and one subscriber must not keep the others from being read.

    Raises: ValueError.
    """
    check_patterns(said.events)
    known = variables_of(said.types)
    if not _is_address(said.url):
        raise ValueError("url: needs https:// and a host without placeholders, user and password")
    if said.filter is not None:
        check_filter(said.filter, said.types)
    texts = list(_texts(said.body, _DEEPEST_BODY))
    if sum(map(len, texts)) > _LONGEST_BODY:
        raise ValueError(f"body: over {_LONGEST_BODY} characters")
    try:
        compile_url(said.url, known=known)
        for text in texts:
            compile_text(text, known=known)
    except ContractError as error:
        raise ValueError(f"url or body: {error.message}") from None


def _is_address(url: str) -> bool:
    found = _HOST.match(url)
    try:
        return found is not None and bool(URL(found["origin"]).host)
    except ValueError:
        return False


def _texts(shape: Any, deeper: int) -> Iterator[str]:
    """Raises: ValueError for what no database or no JSON takes."""
    if isinstance(shape, str):
        yield shape
    elif isinstance(shape, int | float):
        if not is_number(shape):
            raise ValueError("body: a number is too large")
    elif isinstance(shape, dict | list):
        if not deeper:
            raise ValueError(f"body: over {_DEEPEST_BODY} deep")
        parts = [*shape, *shape.values()] if isinstance(shape, dict) else shape
        for part in parts:
            yield from _texts(part, deeper - 1)


def header_fault(name: str) -> str | None:
    """Why a subscriber may not set it."""
    lower = name.lower()
    if lower in _OURS or lower.startswith("webhook-"):
        return f"headers.{name}: is set by callmesh"
    return None


class SwitchedOff(StrEnum):
    """Why nothing is sent any more until it is switched on again."""

    GONE = "gone"  # it answered 410
    FAILING = "failing"  # nothing came through for days


class SubscriberDocument(Document):
    """``key`` is ``tenant/name``."""

    name: Name
    #: Of this one, and not of another that had or will have its name.
    uid: str
    settings: SubscriberSettings
    #: Header → sealed value: there are tokens among them.
    headers: dict[HeaderName, Sealed] = Field(default_factory=dict)
    secret: Sealed
    #: The one before, and how long it still signs beside it.
    old_secret: Sealed | None = None
    old_secret_until: Instant | None = None
    created_at: Instant
    #: By a person, or when it was switched off; how telling it goes is noted without it.
    changed_at: Instant
    changed_by: str
    #: By itself; whoever changes it afterwards switches it on again.
    off: SwitchedOff | None = None
    off_at: Instant | None = None
    #: Of the first try that failed, since one came through.
    failing_since: Instant | None = None
    last_done_at: Instant | None = None

    @property
    def is_on(self) -> bool:
        return self.settings.active and self.off is None


SUBSCRIBERS: CollectionSpec[SubscriberDocument] = CollectionSpec(
    name="gateway.subscribers",
    model=SubscriberDocument,
    indexes=(Index(fields=("tenant", "name"), unique=True), Index(fields=("changed_at",))),
)
