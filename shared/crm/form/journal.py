"""Calls as entries: how one is written, found again, followed by further requests."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, JsonValue, StringConstraints, model_validator

from shared.crm.form.call_words import OURS
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

JOURNAL_VARIABLES = frozenset(OURS)
#: Keys and places of elements, with dots between; empty: the body itself.
PlainPath = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9_$-]+(\.[A-Za-z0-9_$-]+)*)?$", max_length=200)
]


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


class Batch(Strict):
    """
    Several entries in one request. Each is made by `create` as if it went alone; then the elements
    of their lists go together in the first one's request, of which nothing else may differ.
    """

    at_most: int = Field(ge=1, le=1000, description="Entries that the CRM takes in one request.")
    list_at: PlainPath = Field(
        alias="list",
        description="Path in the body of `create` (JSON or form) to the list that has one element, "
        "the entry.",
    )
    answers: PlainPath | None = Field(
        default=None,
        description="Path in the answer to a list with what became of each, in their order. "
        "`accepted`, `entry_id`, `take` and the rules of `outcome` are asked for each as though "
        "the list held it alone, so they are the same as for one entry: `data.0.id`.",
    )
    taken: tuple[Path, ...] = Field(
        default=(),
        max_length=5,
        description="Where the CRM does not say what became of each: paths of counts that make up "
        "the number sent. For what is `idempotent` only: with any other sum each is sent alone.",
    )

    @model_validator(mode="after")
    def says_what_became_of_them(self) -> Self:
        if (self.answers is None) != bool(self.taken):
            raise ValueError(
                "how is the answer read? give `answers`, the list of what became of each, or "
                "`taken`, counts"
            )
        return self


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
    batch: Batch | None = Field(
        default=None, description="How several entries go in one request, where the CRM takes that."
    )
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

    @model_validator(mode="after")
    def can_go_together(self) -> Self:
        if self.batch is None:
            return self
        create = self.create
        if create.json_body is None and create.json_text is None and create.form is None:
            raise ValueError(
                "`batch` joins lists of a `json`, `json_text` or `form`, and `create` has none"
            )
        if self.batch.taken and not self.idempotent:
            raise ValueError(
                "`batch.taken` does not say which entry was taken: only for what is `idempotent`"
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
        if self.batch is not None:
            yield from texts_in(self.batch.taken, f"{at}.batch.taken")
        if self.find is not None:
            yield from self.find.request.texts(f"{at}.find.request")
            yield f"{at}.find.entry_id", self.find.entry_id


def link_texts(link: dict[str, JsonValue], at: str) -> Iterator[Placed]:
    yield from texts_in(link, at)
