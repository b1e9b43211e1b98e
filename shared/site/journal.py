"""What becomes an entry in a CRM, when, whose, and what it says: the policy of one connection."""

from __future__ import annotations

import re
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, StringConstraints, field_validator, model_validator

from shared.contracts.calls import Direction
from shared.crm.language.text import compile_text
from shared.errors import ContractError
from shared.moments import Duration
from shared.site.parts import Part, Text

RECORDING_VARIABLES = frozenset({"Recording", "CallId"})
#: Instead of a user's id: the contact's own owner.
OWNER_OF_CONTACT = "contact"


class EntryPer(StrEnum):
    CALL = "call"
    AGENT = "agent"


class Misses(StrEnum):
    """What of calls to a queue or a ring group is logged for those who did not answer."""

    #: Nothing: who answered has the entry, and a call that nobody answered has none.
    ANSWERED = "answered"
    #: A call that nobody answered is one entry, the group's.
    ONCE = "once"
    #: Each agent who was rung and did not answer has an entry of his own.
    ALL = "all"


_NUMBER = r"\+?[0-9][0-9 ()./-]{0,30}\*?"
_PHONE = r"[0-9A-Za-z_.-]{1,32}\*?"


def _such_as(pattern: str, examples: str) -> BeforeValidator:
    """A pattern's fault says nothing to who wrote the file."""

    def check(value: Any) -> Any:
        if isinstance(value, str) and re.fullmatch(pattern, value):
            return value
        advice = "put it in quotes" if isinstance(value, int) else f"write one such as {examples}"
        raise ValueError(f"{str(value)[:40]!r} cannot be listed: {advice}")

    return BeforeValidator(check)


_ListedNumber = Annotated[
    str,
    StringConstraints(pattern=f"^({_NUMBER}|withheld)$"),
    _such_as(f"{_NUMBER}|withheld", "+44 20 7946 0001, 02079460001, +4477009*, or withheld"),
]
_ListedDid = Annotated[
    str,
    StringConstraints(pattern=f"^{_NUMBER}$"),
    _such_as(_NUMBER, "+44 20 7946 0001, 02079460001 or +44207946*"),
]
_ListedPhone = Annotated[
    str, StringConstraints(pattern=f"^{_PHONE}$"), _such_as(_PHONE, "150 or 2*")
]


class DoNotLog(Part):
    """Calls that leave no trace in the CRM. A `*` at the end: all that begin so."""

    numbers: Annotated[tuple[_ListedNumber, ...], Field(max_length=10_000)] = Field(
        default=(),
        description="Of outside parties, in any spelling: `+44 20 7946 0001`, `+4477009*`; "
        "`withheld`: who hides the number.",
    )
    extensions: Annotated[tuple[_ListedPhone, ...], Field(max_length=10_000)] = Field(
        default=(), description="Of agents whose calls these are, such as `150`, `2*`."
    )
    dids: Annotated[tuple[_ListedDid, ...], Field(max_length=10_000)] = Field(
        default=(), description="Numbers of ours that were called."
    )


class Upload(Part):
    """Entries that go together: every so often, and at most so many in one request."""

    every: Annotated[Duration, Field(ge=timedelta(minutes=1), le=timedelta(hours=24))] = Field(
        description="By the clock: with `10m` at :00, :10, :20 …"
    )
    at_most: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="Calls in one request; never more than the CRM takes."
    )


class JournalPolicy(Part):
    """Which calls become entries, and when."""

    enabled: bool = True
    directions: tuple[Direction, ...] = (Direction.INBOUND, Direction.OUTBOUND)
    do_not_log: DoNotLog = DoNotLog()
    per: EntryPer = Field(
        default=EntryPer.CALL, description="One entry for each call, or one for each of its agents."
    )
    misses: Misses = Field(
        default=Misses.ONCE,
        description="Queues and ring groups: `answered` logs who answered, and no call that nobody "
        "answered; `once` logs that too, as one entry of the group; `all` a missed call for each "
        "agent who was rung (with `per: agent`).",
    )
    after: Duration = Field(
        default=timedelta(seconds=3),
        description="Wait after the end of the call for what comes late: recording, transfer.",
    )
    upload: Upload | None = Field(
        default=None, description="Entries are collected; without this part each goes at once."
    )
    subject: Text | None = Field(
        default=None, description="The entry's subject, in place of the template's own text."
    )
    description: Annotated[str, StringConstraints(max_length=10_000)] | None = Field(
        default=None, description="The entry's text, in place of the template's own."
    )
    fallback_owner: Text | None = Field(
        default=None,
        description="User id that owns what is nobody's: a call of an agent without a user, a "
        "call that a group missed; `contact`: the owner of the contact.",
    )
    play_recordings: bool = Field(
        default=True, description="Whether entries have the recording's address."
    )
    recording: Text | None = Field(
        default=None,
        description="The recording's address, made of `{{.Recording}}`, the PBX's name for it, "
        "and `{{.CallId}}`; without it a link to the gateway that ends.",
    )
    recording_links_last: Annotated[Duration, Field(ge=timedelta(minutes=1))] = Field(
        default=timedelta(days=365), description="Since the end of the call."
    )

    @field_validator("subject", "description")
    @classmethod
    def texts_can_be_read(cls, text: str | None) -> str | None:
        """Its variables are checked where the template is known."""
        return _readable(text)

    @field_validator("recording")
    @classmethod
    def recording_can_be_read(cls, text: str | None) -> str | None:
        return _readable(text, known=RECORDING_VARIABLES)

    @model_validator(mode="after")
    def each_agents_misses_need_entries_of_agents(self) -> Self:
        if self.misses is Misses.ALL and self.per is not EntryPer.AGENT:
            raise ValueError(
                "misses: all is an entry for each agent; say per: agent too, or misses: once"
            )
        return self


def _readable(text: str | None, known: frozenset[str] | None = None) -> str | None:
    if text is not None:
        try:
            compile_text(text, known=known)
        except ContractError as error:
            raise ValueError(error.message) from None
    return text
