"""The site of a tenant, as it is stored and as a site file says it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Self

from pydantic import (
    Field,
    StringConstraints,
    ValidationInfo,
    field_validator,
    model_validator,
)

from shared.contracts.calls import Direction
from shared.crm.candidates import Choose
from shared.ids import Extension, Name, TenantId
from shared.moments import Duration
from shared.phone import is_region, valid_format
from shared.site.dialing import DialPolicy
from shared.site.journal import JournalPolicy
from shared.site.parts import Part, PartPath, Sealing, Secret, Text, Zone
from shared.site.pbx import Pbx, PbxwarePbx
from shared.site.rules.hours import Hours
from shared.site.telling import PopupPolicy, StatusPolicy, TelephonyPolicy


class ContactCreation(Part):
    """Callers whom no CRM knows become contacts; without this part nobody does."""

    module: Text = Field(description="The contact type that they become.")
    directions: tuple[Direction, ...] = Field(
        default=(Direction.INBOUND,), description="Calls whose outside party is added."
    )
    answered_only: bool = Field(
        default=True, description="Not the callers whom nobody spoke to; off: they too."
    )

    @field_validator("directions")
    @classmethod
    def directions_lead_outside(cls, directions: tuple[Direction, ...]) -> tuple[Direction, ...]:
        if Direction.INTERNAL in directions:
            raise ValueError("nobody is added to a CRM for an internal call: inbound, outbound")
        return directions


class CrmConnection(Part):
    """A CRM account by a connector template."""

    name: Name
    template: Name
    parameters: dict[Name, Annotated[str, StringConstraints(max_length=500)]] = Field(
        default_factory=dict, description="Fields of the template's set-up form."
    )
    credentials: dict[Name, Secret] = Field(default_factory=dict)
    modules: tuple[Text, ...] = Field(
        default=(), description="Contact types to search, in order; empty: all of the template."
    )
    phone_formats: tuple[Text, ...] = Field(
        default=(), description="Spellings to search for; empty: those of the template."
    )
    fresh: Duration = Field(
        default=timedelta(minutes=10), description="How long a found contact is believed."
    )
    stale: Duration = Field(
        default=timedelta(hours=24),
        description="Until which age a found contact that is no longer fresh is given at once, "
        "and asked for again behind it; also while the CRM is away. Not over `fresh`: never.",
    )
    unknown: Duration = Field(
        default=timedelta(minutes=1), description="How long 'nobody knows this number' is believed."
    )
    choose: Choose = Field(
        default=Choose.FIRST,
        description="Which of several records with the number is the caller: `first` in the order "
        "of the modules, `recent` the one changed last, `owner` the agent's own, `ask` the agent: "
        "without an answer the call's entry is linked to none.",
    )
    create: ContactCreation | None = Field(
        default=None, description="Whether unknown callers are added to this CRM; without it: no."
    )
    journal: JournalPolicy = JournalPolicy()
    popup: PopupPolicy = PopupPolicy()
    status: StatusPolicy = StatusPolicy()
    telephony: TelephonyPolicy = TelephonyPolicy()

    @field_validator("phone_formats")
    @classmethod
    def formats_are_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        for text in formats:
            if not valid_format(text):
                raise ValueError(
                    f"{text!r} is neither digits, e164, national, national_digits, international, "
                    "nsn nor a pattern such as ***-***-****"
                )
        return formats


class Agent(Part):
    """A phone, and who uses it in each CRM."""

    extension: Extension
    name: Text | None = None
    pbx: Name | None = Field(default=None, description="Needed where there are several.")
    email: Annotated[str, StringConstraints(pattern=r"^[^@\s]{1,64}@[^@\s]{1,190}$")] | None = (
        Field(default=None, description="By which the agent's user is found in each CRM.")
    )
    pbx_user: Text | None = Field(
        default=None,
        description="The agent's id at the PBX, where that speaks of users: the employee id of "
        "UIS, the user's UUID of Wazo.",
    )
    users: dict[Name, Text] = Field(
        default_factory=dict,
        description="CRM connection → the agent's user id there. Without it the user is found by "
        "e-mail, else by the extension that the CRM has for a user.",
    )


class Site(Part):
    """Everything of one tenant but its routing rules, each of which is a document of its own."""

    tenant: TenantId
    title: Text | None = None
    region: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None = Field(
        default=None, description="Country whose national numbers are meant: GB, US, DE."
    )
    zone: Zone = Field(
        default="UTC",
        description="Time zone of the tenant (`Europe/Berlin`): where a CRM wants local times.",
    )
    pbx: tuple[Pbx, ...] = ()
    crm: tuple[CrmConnection, ...] = ()
    agents: tuple[Agent, ...] = ()
    hours: tuple[Hours, ...] = ()
    dialing: DialPolicy = Field(
        default=DialPolicy(), description="Whom agents may call by a click, and how much."
    )

    @field_validator("region")
    @classmethod
    def region_is_a_country(cls, region: str | None) -> str | None:
        if region is not None and not is_region(region):
            meant = "; the United Kingdom is GB" if region == "UK" else ""
            raise ValueError(f"{region} is no country code of ISO 3166{meant}")
        return region

    @model_validator(mode="after")
    def references_lead_somewhere(self, info: ValidationInfo) -> Self:
        # A site file asks for the faults itself, to show each at its line.
        if not isinstance(info.context, Sealing) and (faults := self.faults()):
            raise ValueError("; ".join(what for _, what in faults))
        return self

    def faults(self) -> list[tuple[PartPath, str]]:
        """What is there twice or leads nowhere: the place within the site, and what is wrong."""
        return [*self._doubles(), *self._dangling()]

    def pbx_named(self, name: str) -> Pbx | None:
        return next((pbx for pbx in self.pbx if pbx.name == name), None)

    def crm_named(self, name: str) -> CrmConnection | None:
        return next((crm for crm in self.crm if crm.name == name), None)

    def agent_at(self, extension: str, pbx: str | None = None) -> Agent | None:
        """Who sits there; the phone of that number at another PBX than *pbx* is not his."""
        return next(
            (
                agent
                for agent in self.agents
                if agent.extension == extension and (pbx is None or agent.pbx in {None, pbx})
            ),
            None,
        )

    def _doubles(self) -> Iterator[tuple[PartPath, str]]:
        for part, names in (
            ("pbx", [pbx.name for pbx in self.pbx]),
            ("crm", [crm.name for crm in self.crm]),
            ("agents", [agent.extension for agent in self.agents]),
            ("hours", [hours.name for hours in self.hours]),
        ):
            for place, name in enumerate(names):
                if name in names[:place]:
                    yield (part, place), f"{name} is there twice"

    def _dangling(self) -> Iterator[tuple[PartPath, str]]:
        crms = {crm.name for crm in self.crm}
        pbxs = {pbx.name for pbx in self.pbx}
        for place, pbx in enumerate(self.pbx):
            if isinstance(pbx, PbxwarePbx) and pbx.crm not in crms:
                yield ("pbx", place, "crm"), f"there is no crm {pbx.crm}"
        for place, agent in enumerate(self.agents):
            for name in sorted(set(agent.users) - crms):
                yield ("agents", place, "users", name), f"there is no crm {name}"
            if agent.pbx is not None and agent.pbx not in pbxs:
                yield ("agents", place, "pbx"), f"there is no pbx {agent.pbx}"
