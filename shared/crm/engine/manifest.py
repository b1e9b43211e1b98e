"""
The shape of a connector template. These models are the parser; the JSON Schema that editors use
is made from them. Unknown keys are faults, placeholders are checked when the file is loaded.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from shared.crm.language.contexts import SEARCH_ESCAPES
from shared.crm.language.text import compile_text
from shared.errors import ContractError
from shared.ids import Name
from shared.moments import Duration
from shared.phone import valid_format

#: Set by the engine beside the parameters, by operation.
SEARCH_VARIABLES = frozenset({"Module", "Field", "Phone", "Tests", "Fields"})
USERS_VARIABLES = frozenset({"Page"})
CONTACT_VARIABLES = frozenset({"ContactId", "Module"})
JOURNAL_VARIABLES = frozenset(
    {
        "Reference",
        "Subject",
        "Description",
        "Kind",
        "StartedAt",
        "EndedAt",
        "TalkTime",
        "WaitTime",
        "Number",
        "Dialled",
        "Agent",
        "AgentName",
        "Owner",
        "Recording",
        *CONTACT_VARIABLES,
    }
)


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Quality(StrEnum):
    """How far a connector has been tried; the catalogue shows it as it is."""

    DECLARED = "declared"
    RECORDED = "recorded"
    SANDBOX = "sandbox"
    PRODUCTION = "production"


class Parameter(Strict):
    """A field of the set-up form."""

    name: Name
    title: str
    default: str | None = Field(
        default=None, description="May use the parameters before it; without one, it is needed."
    )
    options: tuple[str, ...] = Field(default=(), description="The only values it takes.")


class Credential(Strict):
    """A secret of the set-up form."""

    name: Name
    title: str


class NoAuth(Strict):
    kind: Literal["none"]


class OAuth2Refresh(Strict):
    """A refresh token that an administrator obtained; access tokens are fetched with it."""

    kind: Literal["oauth2_refresh"]
    token_url: str
    header: str = "Authorization"
    prefix: str = Field(default="Bearer", description="Before the token in the header.")
    base_url: str | None = Field(
        default=None, description="Path in the token answer to the address of the API."
    )


Auth = Annotated[NoAuth | OAuth2Refresh, Field(discriminator="kind")]


class Request(Strict):
    method: Literal["GET", "POST", "PUT", "PATCH"] = "GET"
    url: str
    query: dict[str, str] = Field(default_factory=dict)
    json_body: JsonValue = Field(default=None, alias="json")

    def texts(self) -> list[str]:
        return [self.url, *self.query.values(), *_texts_in(self.json_body)]


class Outcome(Strict):
    """What an answer means. 2xx is success, 5xx and 429 a reason to try again, else refused."""

    none_found: tuple[int, ...] = Field(
        default=(404,), description="Statuses of a search that found nothing."
    )
    credentials: tuple[int, ...] = Field(
        default=(401,), description="Statuses for a token that is not accepted."
    )
    error_code: str = Field(default="code", description="Path to the CRM's own error code.")
    error_text: str = Field(default="message", description="Path to its message.")


class Search(Strict):
    """One test per phone field and spelling, joined by the CRM's OR."""

    request: Request
    test: str
    join: str
    escape: str = "none"
    max_tests: int = Field(default=10, ge=1, le=100)
    records: str = Field(description="Path to the list of records in the answer.")

    @field_validator("escape")
    @classmethod
    def escape_is_known(cls, name: str) -> str:
        if name not in SEARCH_ESCAPES:
            raise ValueError(f"one of {', '.join(SEARCH_ESCAPES)}")
        return name


class ContactType(Strict):
    """One module: where its numbers are, and paths to what a card shows."""

    phone_fields: Annotated[tuple[str, ...], Field(min_length=1)]
    display_name: str
    company: str | None = None
    email: str | None = None
    owner_id: str | None = None
    page_url: str | None = None
    journal: dict[str, JsonValue] = Field(
        default_factory=dict, description="Fields that link a call entry to such a contact."
    )

    @property
    def card_fields(self) -> tuple[str, ...]:
        """What has to be asked for to fill a card: first words of the paths, and the numbers."""
        paths = (self.display_name, self.company, self.email, self.owner_id)
        names = [path.partition(".")[0] for path in paths if path]
        return tuple(dict.fromkeys([*names, *self.phone_fields]))


class Users(Strict):
    """The CRM's own users, so that agents can be matched to them."""

    request: Request
    records: str
    user_id: str
    display_name: str
    email: str | None = None
    more: str | None = Field(
        default=None, description="Path to whether there are more; then ``Page`` counts from 1."
    )


class Find(Strict):
    """How to ask whether an entry is there, after a try whose outcome is not known."""

    request: Request
    entry_id: str
    settle: Duration = Field(
        default=timedelta(seconds=5), description="How long the CRM's search lags behind a write."
    )


class Journal(Strict):
    subject: str
    description: str = ""
    create: Request
    record: str = Field(description="Path in the body to the object that takes the contact's link.")
    accepted: str = Field(description="Path in the answer to the word that says it was taken.")
    accepted_values: tuple[str, ...] = ("SUCCESS",)
    entry_id: str = Field(description="Path in the answer to the entry's id.")
    find: Find


class Manifest(Strict):
    """A connector."""

    schema_version: Annotated[int, Field(alias="schema", ge=1, le=1)]
    name: Name
    title: str
    quality: Quality
    parameters: tuple[Parameter, ...] = ()
    credentials: tuple[Credential, ...] = ()
    auth: Auth
    phone_formats: Annotated[tuple[str, ...], Field(min_length=1)]
    id_field: str = "id"
    value_in_object: str = Field(
        default="name", description="A field that holds an object stands for this part of it."
    )
    contacts: Annotated[dict[str, ContactType], Field(min_length=1)]
    search: Search
    outcome: Outcome = Outcome()
    maps: dict[Name, dict[str, str]] = Field(default_factory=dict)
    check: Request = Field(description="The cheapest request that proves the credentials.")
    users: Users | None = None
    journal: Journal | None = None

    @model_validator(mode="after")
    def every_text_reads(self) -> Self:
        for text in self.phone_formats:
            if not valid_format(text):
                raise ValueError(f"phone_formats: {text!r} is no format")
        known = self._parameters_read()
        _check(known, "check", self.check.texts())
        if isinstance(self.auth, OAuth2Refresh):
            _check(known, "auth.token_url", [self.auth.token_url])
        _check(known | SEARCH_VARIABLES, "search", [*self.search.request.texts(), self.search.test])
        for name, contact in self.contacts.items():
            texts = [contact.page_url or "", *_texts_in(contact.journal)]
            _check(known | CONTACT_VARIABLES, f"contacts.{name}", texts)
        if self.users is not None:
            _check(known | USERS_VARIABLES, "users", self.users.request.texts())
        if self.journal is not None:
            texts = [self.journal.subject, self.journal.description]
            texts += [*self.journal.create.texts(), *self.journal.find.request.texts()]
            _check(known | JOURNAL_VARIABLES, "journal", texts)
        return self

    def _parameters_read(self) -> set[str]:
        known: set[str] = set()
        for parameter in self.parameters:
            _check(known, f"parameters.{parameter.name}", [parameter.default or ""])
            known.add(parameter.name)
        return known | ({"api_base"} if getattr(self.auth, "base_url", None) else set())


def _check(known: Collection[str], where: str, texts: list[str]) -> None:
    for text in texts:
        try:
            compile_text(text, known=known)
        except ContractError as error:
            raise ValueError(f"{where}: {error.message}") from None


def _texts_in(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for item in value.values() for text in _texts_in(item)]
    if isinstance(value, list):
        return [text for item in value for text in _texts_in(item)]
    return []
