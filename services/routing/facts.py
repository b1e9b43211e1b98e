"""What is known of a call when a rule is asked, in the words that conditions use. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

from pydantic import JsonValue

from services.routing.compiled import Unknown
from services.routing.standing import Standing
from shared.contracts.contacts import ContactCard
from shared.contracts.routing import DecideRoute, RouteReason
from shared.phone import PhoneNumber, country_of
from shared.site.rules.hours import DAYS, Hours
from shared.site.rules.keys import items_of
from shared.site.rules.subjects import Ask, Subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """
    What a rule's CRM said of the caller; *failure* says why nothing could be learnt, or that there
    was nothing to ask.

    *fields* is what a custom CRM answered, which has no contacts.
    """

    candidates: Sequence[ContactCard] = ()
    refused: Sequence[str] = ()
    failure: RouteReason | None = None
    fields: Mapping[str, JsonValue] = field(default_factory=dict)

    @property
    def is_unknown(self) -> bool:
        """Whether the CRM might know him all the same."""
        return self.failure not in {None, RouteReason.NUMBER_WITHHELD}

    def value(self, name: str) -> JsonValue:
        """Of the first record, in the order of the modules, that has one."""
        if name in self.fields:
            return self.fields[name]
        card = self.with_value(name)
        return card.fields[name] if card else None

    def has(self, name: str) -> bool:
        """Whether any record has the field, be it empty."""
        return name in self.fields or any(name in card.fields for card in self.candidates)

    def with_value(self, name: str) -> ContactCard | None:
        return next((c for c in self.candidates if not is_empty(c.fields.get(name))), None)

    def contact(self, name: str | None) -> ContactCard | None:
        """Whose record the decision is about: the one with a value in the field, else the first."""
        found = self.with_value(name) if name else None
        return found or (self.candidates[0] if self.candidates else None)


def is_empty(value: JsonValue) -> bool:
    return not items_of(value)


class Wanted(Exception):
    """A rule needs what was not found out yet."""

    def __init__(self, rule: str) -> None:
        super().__init__(rule)
        self.rule = rule


class ContactWanted(Wanted):
    """Its CRM was not asked about the caller yet."""


class ManagerWanted(Wanted):
    """The caller's manager was not looked for yet."""


@dataclass(frozen=True, slots=True)
class ManagerFound:
    """*extension* None: there is none, or nobody knows the phone; *said* is for people."""

    extension: str | None
    free: bool
    said: str


@dataclass(slots=True, kw_only=True)
class Facts:
    """Of one call under one rule. The ``Values`` of a compiled rule."""

    standing: Standing
    asked: DecideRoute
    number: PhoneNumber
    now: datetime
    #: Of the tenant.
    zone: str
    hours: Mapping[str, Hours]
    #: Extension → what the agent does; None: nobody has told.
    agent: Callable[[str], str | None]
    evidence: Evidence | None = None
    manager: ManagerFound | None = None

    def of(self, subject: Subject) -> JsonValue | Unknown:
        """Raises: ContactWanted."""
        if subject.needs_crm:
            return self._of_contact(subject)
        match subject.ask:
            case Ask.NUMBER:
                return None if self.number.withheld else self.number.raw
            case Ask.COUNTRY:
                return country_of(self.number.e164) if self.number.e164 else None
            case Ask.WITHHELD:
                return self.number.withheld
            case Ask.DID:
                return self.asked.did
            case Ask.IVR:
                return self.asked.ivr
            case Ask.DTMF:
                return self.asked.dtmf or None
            case Ask.HOURS:
                hours = self.hours.get(subject.name)
                return hours.state(self.now, zone=self.zone).value if hours else None
            case Ask.AGENT:
                return self.agent(subject.name)
            case _:
                return self._of_time(subject.ask)

    def _of_time(self, ask: Ask) -> str:
        local = self.now.astimezone(ZoneInfo(self.standing.rule.zone or self.zone))
        match ask:
            case Ask.TIME:
                return local.strftime("%H:%M")
            case Ask.WEEKDAY:
                return DAYS[local.weekday()]
            case _:
                return local.date().isoformat()

    def _of_contact(self, subject: Subject) -> JsonValue | Unknown:
        evidence = self.known()
        if evidence.is_unknown:
            return Unknown.UNKNOWN
        if subject.ask is Ask.KNOWN:
            return bool(evidence.candidates)
        if subject.ask is Ask.FIELD:
            return evidence.value(subject.name)
        contact = evidence.contact(self.standing.rule.field)
        if contact is None:
            return None
        match subject.ask:
            case Ask.MODULE:
                return contact.module
            case Ask.NAME:
                return contact.display_name
            case Ask.COMPANY:
                return contact.company
            case Ask.EMAIL:
                return contact.email
            case _:
                return contact.owner_id

    def known(self) -> Evidence:
        """Raises: ContactWanted."""
        if self.evidence is None:
            raise ContactWanted(self.standing.rule.name)
        return self.evidence

    def found_manager(self) -> ManagerFound:
        """Raises: ManagerWanted."""
        if self.manager is None:
            raise ManagerWanted(self.standing.rule.name)
        return self.manager
