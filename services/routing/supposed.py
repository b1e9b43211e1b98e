"""A question about a call that there is none of: what is supposed of it, in place of what is so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, JsonValue, StringConstraints, field_validator

from services.routing.facts import Evidence
from services.routing.staff import Staff
from services.routing.standing import Standing
from shared.clock import Clock
from shared.contracts.agents import AgentStatus
from shared.contracts.contacts import ContactCard
from shared.contracts.routing import DecideRoute, RouteReason
from shared.ids import Extension, Name
from shared.moments import Duration, Instant
from shared.pbx.asking import LONGEST_NUMBER, digits_of
from shared.phone import PhoneNumber
from shared.site.models import Site
from shared.site.rules.rule import FieldName

_MOST_FIELDS = 200
_MOST_AGENTS = 1000
_LONGEST = 500
#: Beyond, a time zone may have no date of the calendar.
_EARLIEST, _LATEST = datetime(1900, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
#: What most CRMs call their people.
_A_MODULE = "Contacts"
_WHO = "given"

_Text = Annotated[str, StringConstraints(min_length=1, max_length=_LONGEST)]
_Number = Annotated[str, StringConstraints(max_length=LONGEST_NUMBER)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_by_name=True)


class GivenContact(_Strict):
    """A record of the caller, in place of what the CRM has."""

    module: _Text | None = Field(
        default=None, description="Its contact type; without it the first that the rule searches."
    )
    contact_id: _Text = _WHO
    display_name: _Text | None = None
    company: _Text | None = None
    email: _Text | None = None
    owner_id: _Text | None = Field(
        default=None, description="The CRM's id of the user who owns it: the manager."
    )
    fields: dict[FieldName, JsonValue] = Field(
        default_factory=dict,
        max_length=_MOST_FIELDS,
        description="By their API names; null: empty. One that is left out "
        "is one that the record does not have.",
    )

    @field_validator("fields")
    @classmethod
    def fields_are_whole(cls, fields: dict[str, JsonValue]) -> dict[str, JsonValue]:
        try:
            json.dumps(fields, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError("half a character (a lone surrogate)") from None
        return fields


class Supposed(_Strict):
    """A call that there might be."""

    did: _Number = Field(
        default="", description="The number that is called; may be left out with `rule_name`."
    )
    from_: _Number = Field(
        default="", alias="from", description="The calling number; empty when withheld."
    )
    ivr: Name | None = Field(default=None, description="The menu that asks.")
    dtmf: Annotated[str, StringConstraints(pattern=r"^([0-9*#A-D]{0,32}|-)$")] = Field(
        default="", description="Digits of the caller; `-`: asked for some, and entered none."
    )
    collected: bool = Field(default=False, description="The same as `-` in `dtmf`.")
    at: Annotated[Instant, Field(ge=_EARLIEST, lt=_LATEST)] | None = Field(
        default=None, description="As if it were then."
    )
    contact: GivenContact | None = Field(
        default=None,
        description="A record in place of the CRM's; null: as if nobody knew the caller. Left out: "
        "the CRM is asked.",
    )
    agents: dict[Extension, AgentStatus] = Field(
        default_factory=dict,
        max_length=_MOST_AGENTS,
        description="Extension → status, as if; the others are as they are.",
    )

    @property
    def asks_crm(self) -> bool:
        return "contact" not in self.model_fields_set

    def query(self, first: Standing) -> DecideRoute:
        """As the PBX would ask it; a rule that is asked by its name is called at its first number."""
        dtmf, asked_in_vain = digits_of(self.dtmf)
        return DecideRoute(
            did=self.did or next(iter(first.rule.dids), ""),
            ivr=self.ivr,
            caller=self.from_,
            dtmf=dtmf,
            collected=self.collected or asked_in_vain,
        )


class ExplainQuestion(Supposed):
    """A call that there might be, and which rules decide it."""

    within: Duration | None = Field(
        default=None, description="A time budget that is shorter than the rule's."
    )
    rule: dict[str, JsonValue] | None = Field(
        default=None,
        description="A draft, as in a site file: tried in place of the stored rule of its name, or "
        "beside the others. Secrets may be the asterisks that a rule is shown with.",
    )
    rule_name: Name | None = Field(
        default=None, description="The rule to ask, whichever number is called."
    )


def evidence_of(asked: Supposed, first: Standing, site: Site, number: PhoneNumber) -> Evidence:
    """What every CRM is supposed to have said."""
    given, rule = asked.contact, first.rule
    if rule.custom is not None:
        # It is asked whoever calls, and has no contacts.
        return Evidence(fields={rule.field or "": None, **(given.fields if given else {})})
    if given is not None:
        return Evidence(candidates=(_card(given, first, site, number),))
    return Evidence(failure=RouteReason.NUMBER_WITHHELD) if number.withheld else Evidence()


def _card(given: GivenContact, first: Standing, site: Site, number: PhoneNumber) -> ContactCard:
    rule = first.rule
    crm = site.crm_named(rule.crm) if rule.crm else None
    searched = (*rule.modules, *(crm.modules if crm is not None else ()), _A_MODULE)
    return ContactCard(
        connection=rule.crm or _WHO,
        module=given.module or searched[0],
        contact_id=given.contact_id,
        display_name=given.display_name or given.contact_id,
        company=given.company,
        email=given.email,
        owner_id=given.owner_id,
        phones=(number.key,) if number.key else (),
        fields=given.fields,
    )


class SupposedStaff(Staff):
    """The agents as they are, but for those of whom something else is supposed."""

    def __init__(self, real: Staff, supposed: Mapping[str, AgentStatus], clock: Clock) -> None:
        super().__init__(clock)
        self._real = real
        self._supposed = supposed

    def status(self, tenant: str, extension: str) -> AgentStatus | None:
        return self._supposed.get(extension) or self._real.status(tenant, extension)

    def on_call(self, tenant: str, extension: str) -> bool:
        return extension not in self._supposed and self._real.on_call(tenant, extension)
