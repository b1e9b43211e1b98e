"""Finding contacts: the searches, what a record says, contacts made, the CRM's users."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import Field, JsonValue, field_validator, model_validator

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
from shared.phone import valid_format

#: By a search, beside the contact type's own. ``Tests`` are formats by fields as ``test`` says,
#: ``Phones`` all spellings, ``Phone`` and ``Field`` one of each, ``Fields`` what is asked for,
#: with commas, ``FieldList`` as a list.
SEARCH_VARIABLES = frozenset(
    {"Module", "Field", "Phone", "Phones", "Tests", "Fields", "FieldList", "Number"}
)


class Then(Strict):
    """Another request for each record found; its records take the place of that one."""

    take: dict[VariableName, Path] = Field(
        default_factory=dict, description="Variables out of the record before."
    )
    request: Request
    records: Path = ""
    absent_is_nobody: bool = False
    merge: bool = Field(
        default=False, description="The fields of the record before are kept under the new ones."
    )
    keep: bool = Field(
        default=False,
        description="The record before stays where this is not sent or finds nothing.",
    )


class Search(Strict):
    """
    One way to ask. With ``test``, every field with every spelling is a test, and as many as the
    CRM takes go into one request as ``Tests``; without it there is one request for each spelling
    (and each field, where the request uses ``Field``), or one for all of them (``Phones``).
    """

    request: Request
    test: JsonValue = Field(
        default=None, description="A text, joined by `join`, or a structure: `Tests` is a list."
    )
    join: str = " OR "
    prefix: JsonValue = Field(
        default=None, description="In a list of tests, before each but the last: Odoo's '|'."
    )
    max_tests: int = Field(default=10, ge=1, le=200)
    formats: tuple[str, ...] = Field(default=(), description="Instead of `phone_formats`.")
    fields: tuple[str, ...] = Field(default=(), description="Instead of `phone_fields`.")
    records: Path = Field(default="", description="Path to the records in the answer.")
    absent_is_nobody: bool = Field(
        default=False,
        description="Nothing at `records` means that nobody was found; else that is a fault.",
    )
    then: tuple[Then, ...] = Field(default=(), max_length=10)
    at_once: bool = Field(
        default=False, description="Its requests go out together, not one after the other."
    )

    @field_validator("formats")
    @classmethod
    def formats_are_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        return check_formats(formats)

    def texts(self, at: str) -> Iterator[Placed]:
        yield from self.request.texts(f"{at}.request")
        yield from texts_in(self.test, f"{at}.test")
        yield at + ".records", self.records

    @property
    def used(self) -> frozenset[str]:
        """The variables that its request uses."""
        return self.request.used


class Mapping(Strict):
    """
    Paths within one record, so that values of two records cannot be mixed up. A path that begins
    with ``#(`` is a condition on the record. Several, with commas: the first that finds something.
    """

    id: Path = "id"
    display_name: Path | None = Field(
        default=None, description="Without it: first and last name, else the company."
    )
    first_name: Path | None = None
    last_name: Path | None = None
    company: Path | None = None
    email: Path | None = None
    owner_id: Path | None = None
    changed_at: Path | None = Field(default=None, description="When the record was changed last.")
    phones: tuple[Path, ...] = Field(
        default=(), description="Where its numbers are; without it: the `phone_fields`."
    )
    page: Path | None = Field(
        default=None, description="The address of its page, where it has one."
    )
    field: Path | None = Field(
        default=None,
        description="How a field that a rule names is found where it is in a list: "
        '`custom.#(name=="{{.Field}}").value`; asked where the field itself is not there.',
    )
    custom: dict[VariableName, Path] = Field(
        default_factory=dict,
        description="Further values, as variables of `page_url` and of the journal.",
    )

    @property
    def card_paths(self) -> tuple[str, ...]:
        """What fills a card."""
        paths = (
            self.display_name,
            self.first_name,
            self.last_name,
            self.company,
            self.email,
            self.owner_id,
            self.changed_at,
            *self.custom.values(),
        )
        return tuple(path for path in paths if path)


class Create(Strict):
    """How a contact is made: with `FirstName`, `LastName`, `DisplayName`, `Phone`, `Owner`."""

    before: tuple[Step, ...] = Field(default=(), max_length=10)
    request: Request
    contact_id: Path = Field(description="Path to the new record's id in the answer.")

    def texts(self, at: str) -> Iterator[Placed]:
        for place, step in enumerate(self.before):
            yield from step.texts(f"{at}.before.{place}")
        yield from self.request.texts(f"{at}.request")
        yield f"{at}.contact_id", self.contact_id


class ContactType(Strict):
    """One module of the CRM: where its numbers are, how it is searched, what a card shows."""

    title: str | None = None
    phone_fields: tuple[str, ...] = Field(
        default=(), description="API names of the fields that hold numbers."
    )
    variables: dict[VariableName, str] = Field(
        default_factory=dict, description="The type's own constants, for shared requests."
    )
    search: tuple[Search, ...] = Field(
        default=(), max_length=10, description="Tried in turn until a hit; else the template's."
    )
    map: Mapping = Mapping()
    ask_for: tuple[str, ...] | None = Field(
        default=None,
        description="Fields to ask for, where they are not the first words of the paths.",
    )
    number_check: bool = Field(
        default=True, description="A record that shows numbers must show the one searched."
    )
    page_url: Text | None = Field(
        default=None, description="The record's page, made of ContactId, Module, the custom values."
    )
    new_page_url: Text | None = Field(
        default=None,
        description="The CRM's page for a new one, made of Number, DisplayName, FirstName, "
        "LastName: it opens for a caller whom nobody knows.",
    )
    journal: dict[str, JsonValue] = Field(
        default_factory=dict, description="Fields that link a call entry to such a contact."
    )
    create: Create | None = None

    @property
    def card_fields(self) -> tuple[str, ...]:
        """What has to be asked for to fill a card: first words of the paths, and the numbers."""
        if self.ask_for is not None:
            return self.ask_for
        names = [
            path.split(".", 1)[0].strip()
            for text in self.map.card_paths
            for path in text.split(",")
        ]
        return tuple(dict.fromkeys([*names, *self.phone_fields]))


class Users(Strict):
    """The CRM's own users, so that agents can be matched to them."""

    request: Request
    records: Path = ""
    pages: Pages | None = None
    user_id: Path = "id"
    display_name: Path | None = None
    first_name: Path | None = None
    last_name: Path | None = None
    email: Path | None = None
    extension: Path | None = None
    active: Path | None = Field(
        default=None, description="Path to something true of active users; others are left out."
    )

    @model_validator(mode="after")
    def has_a_name(self) -> Self:
        if not (self.display_name or self.first_name or self.last_name):
            raise ValueError("users need display_name, or first_name or last_name")
        return self


Searches = Annotated[tuple[Search, ...], Field(max_length=10)]


def check_formats(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Raises: ValueError."""
    for text in formats:
        if not valid_format(text):
            raise ValueError(f"{text!r} is no format; see docs/reference/template-language.md")
    return formats
