"""What a tenant's agents may dial by a click, how much of it, and which number the customer sees."""

from __future__ import annotations

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self

from pydantic import (
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    StringConstraints,
    field_validator,
    model_serializer,
    model_validator,
)

from shared.contracts.calls import Direction
from shared.contracts.dialing import Word
from shared.ids import Extension
from shared.phone import is_region
from shared.site.parts import Part

#: `+44`, `+44*` is the same; a whole number is a prefix of itself alone, `+` of every number.
Prefix = Annotated[str, StringConstraints(pattern=r"^\+[0-9]{0,15}\*?$")]
OwnNumber = Annotated[str, StringConstraints(pattern=r"^\+[0-9]{5,15}$")]
#: As text in a document: no database has decimals of both kinds.
Price = Annotated[
    Decimal,
    Field(ge=0, le=1000, max_digits=10, decimal_places=6),
    PlainSerializer(str, return_type=str),
]
Budget = Annotated[
    Decimal,
    Field(ge=0, le=1_000_000, max_digits=13, decimal_places=6),
    PlainSerializer(str, return_type=str),
]
#: Of one list; a site is read whole.
_MOST = 2000


class NumberKind(StrEnum):
    """As the library of numbers sorts them by their prefix."""

    PREMIUM = "premium"
    SHARED_COST = "shared_cost"
    SATELLITE = "satellite"
    PERSONAL = "personal"
    PAGER = "pager"


class OwnNumbers(Part):
    """Which of the tenant's own numbers the customer sees: the first of these that there is."""

    campaigns: dict[Word, OwnNumber] = Field(
        default_factory=dict,
        max_length=_MOST,
        description="Campaign → number, where the dial names one.",
    )
    shops: dict[Word, OwnNumber] = Field(
        default_factory=dict,
        max_length=_MOST,
        description="Shop of the CRM → number. retailCRM's telephony module is registered with "
        "these.",
    )
    agents: dict[Extension, OwnNumber] = Field(
        default_factory=dict, max_length=_MOST, description="Extension → number."
    )
    default: OwnNumber | None = Field(
        default=None, description="Of everybody else; without it the PBX decides."
    )

    def of(self, extension: str | None) -> str | None:
        """What the customer sees of a call that is for no campaign or shop; None: nobody says."""
        return self.agents.get(extension or "") or self.default

    def in_call(
        self,
        direction: Direction | None,
        *,
        dialled: str | None,
        caller_id: str | None,
        extension: str | None,
    ) -> str | None:
        """
        The tenant's number in a call: that was called, or that the customer sees. *caller_id*: as
        the click's order says; *extension*: who called. None inside, and where nobody says.
        """
        match direction:
            case Direction.OUTBOUND:
                return caller_id or self.of(extension)
            case Direction.INTERNAL:
                return None
        return dialled

    @property
    def all(self) -> frozenset[str]:
        """Numbers that a dial may name itself."""
        named = {*self.campaigns.values(), *self.shops.values(), *self.agents.values()}
        return frozenset(named | ({self.default} if self.default else set()))


class DialLimits(Part):
    """
    Reached, a dial is refused until the span is over: a minute and an hour back from now, in steps of
    a second and of a minute; a day from midnight in the tenant's `zone`.
    """

    per_minute: Annotated[int, Field(ge=1)] | None = Field(
        default=60, description="Dials of the whole tenant."
    )
    per_hour: Annotated[int, Field(ge=1)] | None = None
    per_day: Annotated[int, Field(ge=1)] | None = None
    agent_per_minute: Annotated[int, Field(ge=1)] | None = Field(
        default=10, description="Dials of one extension."
    )
    agent_per_day: Annotated[int, Field(ge=1)] | None = None
    cost_per_day: Budget | None = Field(
        default=None,
        description="By `prices`: what the dials of a day may cost in all. A dial is counted with "
        "one minute until it has ended, so long calls may go beyond.",
    )

    @model_serializer(mode="wrap")
    def _with_none(self, said: SerializerFunctionWrapHandler):  # type: ignore[no-untyped-def]  # noqa: ANN202  a type would be its JSON schema
        """Where silence means a limit, that there is none is said."""
        limited = [name for name, field in type(self).model_fields.items() if field.default]
        return said(self) | {name: None for name in limited if getattr(self, name) is None}


class DialPolicy(Part):
    """
    Whom agents may call by a click. Phones of the site always; emergency numbers and short codes
    never, whatever is said here: they are dialled by hand.
    """

    international: bool = Field(
        default=True,
        description="Numbers of other countries than the tenant's `region`; those of no country "
        "too.",
    )
    countries: tuple[Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")], ...] = Field(
        default=(), description="Only numbers of these; empty: of any."
    )
    allow: tuple[Prefix, ...] = Field(
        default=(),
        max_length=_MOST,
        description="Numbers that may be dialled whatever else is said: `+442079460000`, `+4420*`.",
    )
    block: tuple[Prefix, ...] = Field(
        default=(),
        max_length=_MOST,
        description="Numbers that may not; of `allow` and this the longer one counts, of two that "
        "are as long this.",
    )
    block_kinds: tuple[NumberKind, ...] = Field(
        default=(NumberKind.PREMIUM, NumberKind.SATELLITE),
        description="Kinds of numbers that may not be dialled.",
    )
    numbers: OwnNumbers = OwnNumbers()
    prices: dict[Prefix, Price] = Field(
        default_factory=dict,
        max_length=_MOST,
        description="Price of a begun minute by the number's beginning, the longest that fits; `+` "
        "fits all. What none fits costs nothing. In one currency of your own.",
    )
    limits: DialLimits = DialLimits()

    @field_validator("countries")
    @classmethod
    def countries_are_countries(cls, countries: tuple[str, ...]) -> tuple[str, ...]:
        for country in countries:
            if not is_region(country):
                raise ValueError(f"{country} is no country code of ISO 3166")
        return countries

    @model_validator(mode="after")
    def a_budget_has_prices(self) -> Self:
        if self.limits.cost_per_day is not None and not self.prices:
            raise ValueError("limits.cost_per_day: without `prices` no dial costs anything")
        return self
