"""
The CRM's own telephony: a module that it is told of, the cards that it shows, the clicks and the
status of its users that it tells us.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, JsonValue, StringConstraints, model_validator

from shared.contracts.agents import AgentStatus, OwnWord
from shared.contracts.cards import CardMoment
from shared.crm.form.requests import Path, Placed, Request, Strict, Text, VariableName, texts_in
from shared.errors import ContractError

#: Of these the addresses hold a secret, and the client's id is one.
MODULE_SECRETS = frozenset({"ClientId", "DialUrl", "StatusUrl"})
MODULE_VARIABLES = MODULE_SECRETS | {
    "ModuleCode",
    "Title",
    "Logo",
    "SettingsUrl",
    "Editable",
    "Active",
}
CARD_VARIABLES = frozenset(
    {
        "Moment",
        "Direction",
        "Disposition",
        "Number",
        "OwnNumber",
        "CallId",
        "Extensions",
        "Users",
        # Of the contact, where it is one of this CRM.
        "ContactId",
        "Module",
        "ContactName",
        "Company",
        "Phone",
    }
)
#: Of a card that has a request for each phone.
PHONE_VARIABLES = frozenset({"Extension", "User"})
STATUS_VARIABLES = frozenset({"User", "Extension", "Status"})

#: A query parameter of a request that the CRM sends us.
Parameter = Annotated[str, StringConstraints(min_length=1, max_length=100)]


class RowsOf(StrEnum):
    #: Extensions with their users: ``Extension``, ``User``.
    CODES = "codes"
    #: Shops with their numbers: ``Shop``, ``Number``.
    SHOPS = "shops"
    #: Of a card, the phones that it is for: ``Extension``, and ``User`` where it is known.
    PHONES = "phones"
    #: Of a card, those of them whose users are known.
    USERS = "users"

    @property
    def variables(self) -> frozenset[str]:
        return frozenset({"Shop", "Number"} if self is RowsOf.SHOPS else {"Extension", "User"})


class Rows(Strict):
    """A list for the request: one element of each. Its name is a variable of the request."""

    of: RowsOf
    each: JsonValue


class Compared(Strict):
    """One thing that the CRM says of the module, and what it was told."""

    what: Annotated[str, StringConstraints(min_length=1, max_length=100)] = Field(
        description="What people call it: `name`, `address for calls`."
    )
    path: Path
    text: Text | None = None
    rows: VariableName | None = Field(
        default=None,
        description="Instead of `text`: one of `rows`. The list at `path` has to have the same "
        "elements, in any order; other keys of them do not matter.",
    )

    if_shown: bool = Field(
        default=False, description="Nothing at `path` is no difference: not every answer shows it."
    )

    @model_validator(mode="after")
    def is_compared_with_something(self) -> Self:
        if (self.text is None) == (self.rows is None):
            raise ValueError("compare it with what? give `text` or `rows`")
        return self


class Module(Strict):
    """The module by one API of the CRM. Of several the first is taken whose `when` holds."""

    when: Text | None = Field(
        default=None, description="Made of parameters; without it, it always holds."
    )
    rows: dict[VariableName, Rows] = Field(default_factory=dict, max_length=10)
    register_by: Request = Field(
        alias="register", description="Makes or changes it; the same again changes nothing."
    )
    unknown: tuple[Path, ...] = Field(
        default=(),
        max_length=5,
        description="Paths in the answer to users and shops that the CRM does not have.",
    )
    read: Request = Field(description="Answered with what the CRM has; 404: it has none.")
    there: Path | None = Field(
        default=None, description="Path to something that is only in an answer with a module."
    )
    compare: Annotated[tuple[Compared, ...], Field(min_length=1, max_length=30)]

    @model_validator(mode="after")
    def is_whole(self) -> Self:
        for name, rows in self.rows.items():
            if rows.of not in {RowsOf.CODES, RowsOf.SHOPS}:
                raise ValueError(f"rows.{name}: of a module are `codes` and `shops`")
        for compared in self.compare:
            if compared.rows is not None and compared.rows not in self.rows:
                raise ValueError(f"{compared.what}: there are no rows {compared.rows}")
        if used_in(self.register_by).isdisjoint({"ClientId", "DialUrl", "StatusUrl"}):
            raise ValueError(
                "`register` tells the CRM neither ClientId nor an address: it could not call us"
            )
        return self


class Addressed(StrEnum):
    """By what the request names those who shall see the card."""

    EXTENSIONS = "extensions"
    #: A phone whose user is not known is reported; nobody there sees the card.
    USERS = "users"


class Cards(Strict):
    """How the CRM is told of a call; of several the first is taken whose `when` holds."""

    when: Text | None = Field(
        default=None, description="Made of parameters; without it, it always holds."
    )
    moments: Annotated[tuple[CardMoment, ...], Field(min_length=1)]
    to: Addressed = Addressed.EXTENSIONS
    each: bool = Field(
        default=False,
        description="A request for each phone, with `Extension` and `User`; else one for all.",
    )
    rows: dict[VariableName, Rows] = Field(default_factory=dict, max_length=10)
    request: Request
    unknown: tuple[Path, ...] = Field(
        default=(),
        max_length=5,
        description="Paths in the answer to codes and users that the CRM does not have.",
    )
    absent: tuple[int, ...] = Field(
        default=(),
        max_length=5,
        description="With `each`: statuses that say that the CRM does not have this one.",
    )

    @model_validator(mode="after")
    def is_whole(self) -> Self:
        for name, rows in self.rows.items():
            if rows.of not in {RowsOf.PHONES, RowsOf.USERS}:
                raise ValueError(f"rows.{name}: of a card are `phones` and `users`")
        if self.absent and not self.each:
            raise ValueError("`absent` is about one phone: it needs `each`")
        named = PHONE_VARIABLES if self.each else {"Extensions", "Users", *self.rows}
        used = used_in(self.request)
        if used.isdisjoint(named):
            raise ValueError(
                f"the request does not say who shall see the card: use {' or '.join(sorted(named))}"
            )
        if len(self.moments) > 1 and "Moment" not in used:
            raise ValueError("the request does not say which moment of the call it is: use Moment")
        return self


class Query(Strict):
    """Names of query parameters in a request that the CRM sends us."""

    client_id: Parameter
    extension: Parameter | None = None
    user_id: Parameter | None = None

    @model_validator(mode="after")
    def says_whose(self) -> Self:
        if self.extension is None and self.user_id is None:
            raise ValueError("whose it is has to be read: say `extension` or `user_id`")
        names = list(self.model_dump(exclude_none=True).values())
        if len(set(names)) < len(names):
            raise ValueError("one parameter cannot mean two things")
        return self


class ClickQuery(Query):
    """A click on a number."""

    number: Parameter
    own_number: Parameter | None = None
    shop: Parameter | None = None


class StatusQuery(Query):
    """A user's status."""

    status: Parameter


class Statuses(Strict):
    """What users are doing, in the CRM's words."""

    words: Annotated[dict[AgentStatus, OwnWord], Field(min_length=1)] = Field(
        description="Our status → the CRM's word; of one that is not there it is not told."
    )
    heard: dict[OwnWord, AgentStatus] = Field(
        default_factory=dict,
        max_length=50,
        description="Further words of the CRM → our status.",
    )
    query: StatusQuery | None = Field(
        default=None, description="The request by which the CRM tells it us."
    )
    tell: Request | None = Field(
        default=None, description="By which the CRM is told: `User`, `Extension`, `Status`."
    )

    @model_validator(mode="after")
    def is_heard_or_told(self) -> Self:
        if self.query is None and self.tell is None:
            raise ValueError("nobody hears of a status: say `query`, `tell` or both")
        if self.tell is not None:
            for name in {"User", "Status"} - used_in(self.tell):
                raise ValueError(f"`tell` does not say {name}")
        return self


class Telephony(Strict):
    modules: tuple[Module, ...] = Field(default=(), max_length=5)
    cards: tuple[Cards, ...] = Field(default=(), max_length=5)
    click: ClickQuery | None = Field(
        default=None, description="The request that the CRM sends to DialUrl."
    )
    status: Statuses | None = None

    @model_validator(mode="after")
    def says_something(self) -> Self:
        if not (self.modules or self.cards or self.click or self.status):
            raise ValueError("say `modules`, `cards`, `click` or `status`, or leave it out")
        return self

    def texts(self, at: str) -> Iterator[tuple[frozenset[str], Placed]]:
        """Each text with the variables that it may use beside the connection's own."""
        for place, module in enumerate(self.modules):
            here = f"{at}.modules.{place}"
            yield from _with(frozenset(), texts_in(module.when, f"{here}.when"))
            yield from _rows(module.rows, here)
            known = MODULE_VARIABLES | module.rows.keys()
            yield from _with(known, module.register_by.texts(f"{here}.register"))
            yield from _with(known, module.read.texts(f"{here}.read"))
            yield from _with(known, texts_in(module.unknown, f"{here}.unknown"))
            yield from _with(known, texts_in(module.there, f"{here}.there"))
            for number, compared in enumerate(module.compare):
                spot = f"{here}.compare.{number}"
                yield from _with(known, texts_in(compared.path, f"{spot}.path"))
                yield from _with(known, texts_in(compared.text, f"{spot}.text"))
        for place, cards in enumerate(self.cards):
            here = f"{at}.cards.{place}"
            yield from _with(frozenset(), texts_in(cards.when, f"{here}.when"))
            yield from _rows(cards.rows, here)
            known = CARD_VARIABLES | cards.rows.keys() | (PHONE_VARIABLES if cards.each else set())
            yield from _with(known, cards.request.texts(f"{here}.request"))
            yield from _with(known, texts_in(cards.unknown, f"{here}.unknown"))
        if self.status is not None and self.status.tell is not None:
            yield from _with(STATUS_VARIABLES, self.status.tell.texts(f"{at}.status.tell"))

    def requests(self, at: str) -> Iterator[tuple[Request, str]]:
        for place, module in enumerate(self.modules):
            yield module.register_by, f"{at}.modules.{place}.register"
            yield module.read, f"{at}.modules.{place}.read"
        for place, cards in enumerate(self.cards):
            yield cards.request, f"{at}.cards.{place}.request"
        if self.status is not None and self.status.tell is not None:
            yield self.status.tell, f"{at}.status.tell"


def used_in(request: Request) -> frozenset[str]:
    """All that there are, where a text cannot be read: the template says that at the text."""
    try:
        return request.used
    except ContractError:
        return MODULE_VARIABLES | CARD_VARIABLES | PHONE_VARIABLES | STATUS_VARIABLES


def _rows(rows: dict[str, Rows], at: str) -> Iterator[tuple[frozenset[str], Placed]]:
    for name, one in rows.items():
        yield from _with(one.of.variables, texts_in(one.each, f"{at}.rows.{name}.each"))


def _with(
    known: frozenset[str], texts: Iterator[Placed]
) -> Iterator[tuple[frozenset[str], Placed]]:
    for placed in texts:
        yield known, placed
