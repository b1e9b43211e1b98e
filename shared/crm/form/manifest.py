"""A connector: everything that a template says, checked as a whole when it is read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from enum import StrEnum
from functools import cached_property
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from shared.crm.form.access import SIGNED_VARIABLES, Auth, Credential, Limits, Parameter
from shared.crm.form.answers import AnswerKind, Outcome, Values
from shared.crm.form.call_words import CALL_WORDS
from shared.crm.form.changes import HOOK_VARIABLES, Changes
from shared.crm.form.contacts import (
    SEARCH_VARIABLES,
    ContactType,
    Search,
    Users,
    check_formats,
)
from shared.crm.form.journal import JOURNAL_VARIABLES, Journal
from shared.crm.form.requests import (
    PAGE_VARIABLES,
    HeaderName,
    Placed,
    Request,
    Step,
    Strict,
    Text,
    texts_in,
)
from shared.crm.form.responsible import MANAGER_VARIABLES, ManagerRequest
from shared.crm.form.telephony import Telephony
from shared.crm.language.text import compile_text
from shared.errors import ContractError
from shared.ids import Name

CONTACT_VARIABLES = frozenset({"ContactId", "Module", "ContactName", "Company", "Owner", "Phone"})
CREATE_VARIABLES = frozenset(
    {
        "FirstName",
        "LastName",
        "DisplayName",
        "Phone",
        "Number",
        "Company",
        "Email",
        "Owner",
        "Module",
    }
)
#: Of the page for a new contact. `Phone` and `Number` are the same: E.164 where it is known.
NEW_PAGE_VARIABLES = frozenset(
    {"FirstName", "LastName", "DisplayName", "Phone", "Number", "Module"}
)
#: Follow-up requests at most: Yeastar's limit.
MOST_FOLLOW_UPS = 10
MOST_HEADERS = 20


class Quality(StrEnum):
    """How far a connector has been tried; the catalogue shows it as it is."""

    #: From the vendor's documents; nothing checked it.
    DECLARED = "declared"
    #: Its requests pass the vendor's machine-readable description, or ours of the documents.
    SPEC_CHECKED = "spec-checked"
    #: Its answers were recorded from a real system, against which it was run.
    RECORDED = "recorded"


class Event(StrEnum):
    """After which a follow-up request is sent."""

    AUTH = "auth"
    USERS = "users"
    SEARCH = "search"
    CREATE = "create"
    JOURNAL = "journal"


class FollowUp(Step):
    """A request after something succeeded; what it takes are variables of this connection."""

    on: Event = Field(alias="after")
    request: Request


class Manifest(Strict):
    """A connector."""

    schema_version: Annotated[int, Field(alias="schema", ge=2, le=2)]
    name: Name
    title: str
    description: str = ""
    logo: str | None = Field(
        default=None, max_length=700_000, description="PNG or JPEG as a data: URL, up to 500 kB."
    )
    quality: Quality
    sources: Annotated[tuple[str, ...], Field(min_length=1)] = Field(
        description="Where the facts come from, for who keeps the template."
    )
    parameters: tuple[Parameter, ...] = Field(default=(), max_length=30)
    credentials: tuple[Credential, ...] = Field(default=(), max_length=20)
    auth: Auth = Auth()
    headers: dict[HeaderName, Text] = Field(
        default_factory=dict,
        description="On every request but those of `auth` and of `follow_ups`.",
    )
    limits: Limits = Limits()
    outcome: Outcome = Outcome()
    answer: AnswerKind = AnswerKind.JSON
    values: Values = Values()
    phone_formats: Annotated[tuple[str, ...], Field(min_length=1)]
    field_path: str = Field(
        default="{}",
        pattern=r"^[^{}]*\{\}[^{}]*$",
        description="Where in a record a field is: `properties.{}`. For all paths but ids, pages "
        "and those that begin with `^`, which are in the record itself.",
    )
    maps: dict[Name, dict[str, str | int | bool]] = Field(default_factory=dict)
    search: tuple[Search, ...] = Field(default=(), max_length=10)
    contacts: Annotated[dict[str, ContactType], Field(min_length=1)]
    check: Request = Field(description="The cheapest request that proves the credentials.")
    users: Users | None = None
    manager: ManagerRequest | None = Field(
        default=None,
        description="Who is responsible for a number and free to take the call, where the CRM "
        "itself can say that.",
    )
    journal: Journal | None = None
    changes: Changes | None = None
    telephony: Telephony | None = Field(
        default=None,
        description="The CRM's own telephony module, where it has one: its registration, its "
        "cards, clicks, its users' status.",
    )
    follow_ups: tuple[FollowUp, ...] = Field(default=(), max_length=MOST_FOLLOW_UPS)

    @field_validator("phone_formats")
    @classmethod
    def formats_are_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        return check_formats(formats)

    @field_validator("headers")
    @classmethod
    def headers_are_few(cls, headers: dict[str, str]) -> dict[str, str]:
        if len(headers) > MOST_HEADERS:
            raise ValueError(f"{MOST_HEADERS} headers at most")
        return headers

    @model_validator(mode="after")
    def every_text_reads(self) -> Self:
        faults = [
            f"{place}: {fault}"
            for place, known, text in self.texts()
            for fault in _fault(text, known, self.maps)
        ]
        if faults:
            raise ValueError("; ".join(faults[:10]))
        return self

    @model_validator(mode="after")
    def every_type_can_be_searched(self) -> Self:
        for name, contact in self.contacts.items():
            if not (contact.search or self.search):
                raise ValueError(f"contacts.{name}: neither it nor the template has a `search`")
        return self

    # -- what may be used where ----------------------------------------------------------------

    @property
    def own_variables(self) -> frozenset[str]:
        """Those of every request: parameters, credentials, the session, what follow-ups took."""
        told = {parameter.name for parameter in self.parameters}
        return frozenset({*told, *self._secret_variables, "Zone"})

    @property
    def signed_in_variables(self) -> frozenset[str]:
        """Those that are there only when somebody has signed in."""
        made = {name for one in self.follow_ups if one.on is Event.AUTH for name in one.makes}
        return frozenset({*self.auth.session_variables, *made})

    @property
    def _secret_variables(self) -> set[str]:
        return {
            *(credential.name for credential in self.credentials),
            *self.auth.session_variables,
            *(name for follow_up in self.follow_ups for name in follow_up.makes),
        }

    @cached_property
    def entry_words(self) -> frozenset[str]:
        """
        What a connection's own subject and description may name: no credential is among them, and
        nothing that a sign-in or a follow-up made.
        """
        told = {parameter.name for parameter in self.parameters}
        for contact in self.contacts.values():
            told |= contact.variables.keys() | contact.map.custom.keys()
        return CALL_WORDS | (told - self._secret_variables)

    def searches(self, module: str) -> tuple[Search, ...]:
        return self.contacts[module].search or self.search

    def texts(self) -> Iterator[tuple[str, Collection[str], str]]:
        """Every text: its place, the variables that it may use, itself."""
        known: set[str] = set()
        for parameter in self.parameters:
            yield from _with({*known}, texts_in(parameter.default, f"parameters.{parameter.name}"))
            known.add(parameter.name)
        yield from self._texts_of_auth()
        own = self.own_variables
        yield from _with(own, texts_in(self.headers, "headers"))
        yield from _with(own, self.check.texts("check"))
        yield from self._texts_of_contacts(own)
        if self.users is not None:
            yield from _with(own | PAGE_VARIABLES, self.users.request.texts("users.request"))
            paths = self.users.model_dump(exclude={"request", "pages"}, exclude_none=True)
            yield from _with(own, texts_in(paths, "users"))
        if self.manager is not None:
            yield from _with(own | MANAGER_VARIABLES, self.manager.texts("manager"))
        yield from self._texts_of_journal(own)
        yield from self._texts_of_changes(own)
        yield from self._texts_of_telephony(own)
        for place, follow_up in enumerate(self.follow_ups):
            everything = own | CREATE_VARIABLES | JOURNAL_VARIABLES | {"EntryId"}
            yield from _with(everything, follow_up.texts(f"follow_ups.{place}"))

    def _texts_of_auth(self) -> Iterator[tuple[str, Collection[str], str]]:
        auth = self.auth
        known = {p.name for p in self.parameters} | {c.name for c in self.credentials} | {"Zone"}
        for place, step in enumerate(auth.discover):
            known |= step.makes
            yield from _with({*known}, step.texts(f"auth.discover.{place}"))
        if auth.oauth2 is not None:
            # Where the CRM sends a person back to after a consent; Kommo wants it at refreshes too.
            yield from _with(known | {"redirect_uri"}, auth.oauth2.texts("auth.oauth2"))
            known |= {"AccessToken", *auth.oauth2.take}
        for place, step in enumerate(auth.login):
            known |= step.makes
            yield from _with({*known}, step.texts(f"auth.login.{place}"))
        yield from _with(known, texts_in(auth.basic, "auth.basic"))
        known |= SIGNED_VARIABLES
        for name, text in auth.compute.items():
            yield f"auth.compute.{name}", {*known}, text
            known.add(name)
        for place, carried in enumerate(auth.apply):
            yield f"auth.apply.{place}.name", known, carried.name
            yield f"auth.apply.{place}.value", known, carried.value

    def _texts_of_contacts(self, own: frozenset[str]) -> Iterator[tuple[str, Collection[str], str]]:
        constants = {name for contact in self.contacts.values() for name in contact.variables}
        for place, search in enumerate(self.search):
            yield from self._texts_of_search(search, f"search.{place}", own | constants)
        for name, contact in self.contacts.items():
            at, known = f"contacts.{name}", own | contact.variables.keys()
            for place, search in enumerate(contact.search):
                yield from self._texts_of_search(search, f"{at}.search.{place}", known)
            custom = contact.map.custom.keys()
            # Paths may name the searched number; placeholders in them are checked alike.
            paths = contact.map.model_dump(exclude={"custom"}, exclude_none=True)
            yield from _with(known | SEARCH_VARIABLES, texts_in(paths, f"{at}.map"))
            shown = known | CONTACT_VARIABLES | custom
            yield from _with(shown, texts_in(contact.page_url, f"{at}.page_url"))
            new = known | NEW_PAGE_VARIABLES
            yield from _with(new, texts_in(contact.new_page_url, f"{at}.new_page_url"))
            yield from _with(shown | JOURNAL_VARIABLES, texts_in(contact.journal, f"{at}.journal"))
            if contact.create is not None:
                made = {name for step in contact.create.before for name in step.makes}
                yield from _with(
                    known | CREATE_VARIABLES | made, contact.create.texts(f"{at}.create")
                )

    def _texts_of_search(
        self, search: Search, at: str, known: Collection[str]
    ) -> Iterator[tuple[str, Collection[str], str]]:
        taken = {*known, *SEARCH_VARIABLES}
        yield from _with({*taken}, search.texts(at))
        for place, then in enumerate(search.then):
            taken |= then.take.keys()
            yield from _with({*taken}, then.request.texts(f"{at}.then.{place}.request"))

    def _texts_of_journal(self, own: frozenset[str]) -> Iterator[tuple[str, Collection[str], str]]:
        if self.journal is None:
            return
        update = self.journal.update
        steps = (*self.journal.before, *self.journal.after, *(update.after if update else ()))
        known = own | JOURNAL_VARIABLES | {"EntryId", *self.journal.take}
        known |= {name for step in steps for name in step.makes}
        for contact in self.contacts.values():
            known |= contact.variables.keys() | contact.map.custom.keys()
        yield from _with(known | PAGE_VARIABLES, self.journal.texts("journal"))

    def _texts_of_changes(self, own: frozenset[str]) -> Iterator[tuple[str, Collection[str], str]]:
        if self.changes is None:
            return
        if self.changes.hook is not None:
            yield "changes.hook.check.text", own | HOOK_VARIABLES, self.changes.hook.check.text
        if self.changes.poll is not None:
            known = own | PAGE_VARIABLES | {"Since"}
            poll = self.changes.poll
            yield from _with(known, poll.request.texts("changes.poll.request"))
            yield "changes.poll.records", known, poll.records
            paths = poll.map.model_dump(exclude_none=True)
            yield from _with(known, texts_in(paths, "changes.poll.map"))

    def _texts_of_telephony(
        self, own: frozenset[str]
    ) -> Iterator[tuple[str, Collection[str], str]]:
        if self.telephony is None:
            return
        # Of a card's contact, whichever type it is of.
        about: set[str] = set()
        for contact in self.contacts.values():
            about |= contact.variables.keys() | contact.map.custom.keys()
        for known, (place, text) in self.telephony.texts("telephony"):
            is_card = place.startswith("telephony.cards.") and ".request." in place
            of_card = about if is_card else set()
            yield place, own | known | of_card, text


def _with(
    known: Collection[str], texts: Iterable[Placed]
) -> Iterator[tuple[str, Collection[str], str]]:
    for place, text in texts:
        yield place, known, text


def _fault(text: str, known: Collection[str], maps: Collection[str]) -> Iterator[str]:
    if "{{" not in text:
        return
    try:
        template = compile_text(text, known=known)
    except ContractError as error:
        yield error.message
    else:
        for name in sorted(template.maps_used - set(maps)):
            yield f"there is no map {name}; write it under `maps`"
