"""Calls as entries: how one is written, found again, followed by further requests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Self

from pydantic import Field, JsonValue, model_validator

from shared.crm.form.requests import (
    Pages,
    Path,
    Placed,
    Request,
    Step,
    Strict,
    Text,
    VariableName,
    texts_in,
)
from shared.moments import Duration

#: ``Kind`` is direction and disposition, ``inbound answered``; ``Number`` E.164 where it is known.
#: Those of Yeastar's and 3CX's own names are the same values under other names.
JOURNAL_VARIABLES = frozenset(
    {
        "Reference",
        "CallId",
        "Subject",
        "Description",
        "Kind",
        "Direction",
        "Disposition",
        "StartedAt",
        "AnsweredAt",
        "EndedAt",
        "TalkTime",
        "WaitTime",
        "Duration",
        "Number",
        "Dialled",
        "From",
        "To",
        "Queue",
        "Agent",
        "AgentName",
        "AgentEmail",
        "Owner",
        "Recording",
        "ContactId",
        "ContactName",
        "Company",
        "Module",
        "Zone",
    }
)


class Find(Strict):
    """How to ask whether an entry is there, after a try whose outcome is not known."""

    request: Request
    pages: Pages | None = None
    entry_id: Path = Field(
        description="Path to its id; may use the variables: "
        '`data.#(subject%"*{{.Reference}}*").id`.'
    )
    settle: Duration = Field(
        default=timedelta(seconds=5), description="How long the CRM's search lags behind a write."
    )


class Update(Request):
    """How an entry that is there is changed; the same request again must change nothing."""

    record: Path | None = Field(
        default=None,
        description="Path in the JSON body to the object that takes the contact's link; without it "
        "the link stays as it is.",
    )
    after: tuple[Step, ...] = Field(
        default=(),
        max_length=10,
        description="Requests that complete the change, such as a link; the same again must "
        "change nothing.",
    )

    def texts(self, at: str) -> Iterator[Placed]:
        yield from super().texts(at)
        for place, step in enumerate(self.after):
            yield from step.texts(f"{at}.after.{place}")


class NeedsContact(StrEnum):
    """Whether the CRM takes an entry of a caller whom it does not know."""

    NO = "no"
    #: Such a call gets no entry; it is reported so.
    YES = "yes"


class Journal(Strict):
    subject: Text
    description: Text = ""
    before: tuple[Step, ...] = Field(
        default=(), max_length=10, description="Requests whose values the entry needs."
    )
    create: Request
    record: Path = Field(
        default="", description="Path in the JSON body to the object that takes the contact's link."
    )
    accepted: Path | None = Field(
        default=None, description="Path in the answer to the word that says it was taken."
    )
    accepted_values: tuple[str, ...] = ("SUCCESS",)
    entry_id: Path = Field(description="Path in the answer to the entry's id.")
    take: dict[VariableName, Path] = Field(
        default_factory=dict, description="Further values out of the answer, for `after`."
    )
    after: tuple[Step, ...] = Field(
        default=(),
        max_length=10,
        description="Requests that complete the entry, with `EntryId`: a link, a recording.",
    )
    update: Update | None = Field(
        default=None,
        description="A request that changes the entry `EntryId` when more becomes known of the "
        "call: a recording, a transfer, who the caller is. Those of `before` go before it, too; "
        "`accepted` is asked of its answer.",
    )
    find: Find | None = None
    idempotent: bool = Field(
        default=False,
        description="The CRM itself makes one entry of the same call sent twice; no `find` needed.",
    )
    contact: NeedsContact = NeedsContact.NO

    @model_validator(mode="after")
    def can_be_tried_again(self) -> Self:
        if self.find is None and not self.idempotent:
            raise ValueError(
                "an entry whose answer was lost must be found again: give `find`, or `idempotent` "
                "where the CRM knows a repeat by the call's id"
            )
        return self

    def texts(self, at: str) -> Iterator[Placed]:
        yield f"{at}.subject", self.subject
        yield f"{at}.description", self.description
        for place, step in enumerate(self.before):
            yield from step.texts(f"{at}.before.{place}")
        yield from self.create.texts(f"{at}.create")
        yield f"{at}.entry_id", self.entry_id
        yield f"{at}.accepted", self.accepted or ""
        yield from texts_in(self.take, f"{at}.take")
        for place, step in enumerate(self.after):
            yield from step.texts(f"{at}.after.{place}")
        if self.update is not None:
            yield from self.update.texts(f"{at}.update")
        if self.find is not None:
            yield from self.find.request.texts(f"{at}.find.request")
            yield f"{at}.find.entry_id", self.find.entry_id


def link_texts(link: dict[str, JsonValue], at: str) -> Iterator[Placed]:
    yield from texts_in(link, at)
