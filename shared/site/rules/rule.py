"""A routing rule, as a site file and the API say it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, field_validator, model_validator

from shared.contracts.routing import Destination, DestinationKind
from shared.ids import Name
from shared.moments import Duration
from shared.site.parts import Did, Part, Secret, Text, Zone
from shared.site.rules.conditions import (
    DEEPEST,
    MOST_VALUES,
    Condition,
    Operator,
    Test,
    Values,
    Wanted,
    depth_of,
    subject_of,
    tests_in,
)
from shared.site.rules.patterns import MOST_COST, check_pattern, cost_of
from shared.site.rules.places import Manager, ToRule, Ways, is_sure, plain_in
from shared.site.rules.subjects import Ask, Subject, SubjectText
from shared.site.rules.values import Kind, check_age, check_wanted, kind_of
from shared.site.rules.vocabulary import check_words

MOST_ROWS = 100_000
#: In all conditions of one row.
_MOST_TESTS = 200
#: Of a record; the CRM is asked for all of them by name.
_MOST_FIELDS = 100
FieldName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,100}$")]
#: What the dialplan plays: a file of the PBX, without its ending.
Recording = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_./-]{0,99}$")]
Variable = Annotated[str, StringConstraints(pattern=r"^CRM_[A-Z0-9_]{1,40}$")]
Priority = Annotated[int, Field(ge=0, le=1000)]
#: Those that the answer has by itself.
TAKEN = frozenset(
    {
        "CRM_CAUSE",
        "CRM_CLICK_ID",
        "CRM_DEST",
        "CRM_DID",
        "CRM_DIGIT",
        "CRM_DTMF",
        "CRM_GREETING",
        "CRM_IVR",
        "CRM_NAME",
        "CRM_PRIORITY",
        "CRM_REASON",
        "CRM_RULE",
        "CRM_TARGET",
        "CRM_TO",
        "CRM_TRIES",
        "CRM_URL",
        "CRM_VOICEMAIL",
    }
)


class Sent(StrEnum):
    """What can go along in the address of a Custom CRM."""

    CALLER = "caller"
    DID = "did"
    IVR = "ivr"
    CALL = "call"


def _https(url: str) -> str:
    try:
        parts = urlsplit(url)
        ok = parts.scheme == "https" and parts.hostname and not parts.fragment
        ok = ok and parts.username is None and parts.port != 0
    except ValueError:
        ok = False
    if not ok or any(c.isspace() or not c.isprintable() for c in url):
        raise ValueError("the address begins with https://, as in https://crm.example.com/field")
    return url


class HttpHeader(Part):
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,100}$")]
    value: Secret

    @field_validator("name")
    @classmethod
    def name_is_free(cls, name: str) -> str:
        if name.lower() in {"host", "content-length", "content-type", "transfer-encoding"}:
            raise ValueError(f"{name} is said by the request itself")
        return name


class CustomCrm(Part):
    """
    A service of your own in place of a CRM connection. Asked is ``URL?field_name=FIELD&dtmf=DIGITS``;
    it answers with the value: as plain text, as JSON, or as a JSON object with the field in it.
    """

    url: Annotated[Text, AfterValidator(_https)]
    post: bool = Field(
        default=False, description="POST with a JSON body, in place of GET with parameters."
    )
    header: HttpHeader | None = Field(default=None, description="Goes with each request.")
    send: dict[Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,60}$")], Sent] = Field(
        default_factory=dict,
        description="Further parameters: name → `caller`, `did`, `ivr` or `call`. PBXware sends none.",
    )

    @field_validator("send")
    @classmethod
    def names_are_free(cls, send: dict[str, Sent]) -> dict[str, Sent]:
        if taken := {"field_name", "dtmf"} & set(send):
            raise ValueError(f"{', '.join(sorted(taken))} is sent in any case")
        return send


class Extras(Part):
    """What goes to the PBX with the destination; a row's words hold over those of the rule."""

    priority: Priority | None = Field(
        default=None, description="In a queue; the higher is served first."
    )
    voicemail: bool | None = Field(
        default=None,
        description="Whether an extension that does not answer has the call go to its voicemail; "
        "without it as the PBX is set.",
    )
    variables: dict[Variable, SubjectText] = Field(
        default_factory=dict,
        max_length=20,
        description="Variables of the channel → what they are set to: `CRM_TIER: field.Tier`.",
    )

    @field_validator("variables")
    @classmethod
    def variables_are_free(cls, variables: dict[str, Subject]) -> dict[str, Subject]:
        if taken := TAKEN & set(variables):
            raise ValueError(f"{', '.join(sorted(taken))} is set by the answer itself")
        return variables


class Row(Extras):
    """
    ``operator value → destination`` over the rule's field, or `when` in place of the two. Without
    either it always matches.
    """

    operator: Operator | None = None
    value: Wanted | Values | None = None
    when: Condition | None = None
    destination: Ways

    @property
    def values(self) -> tuple[str, ...]:
        """Of the short form, however many there are."""
        if self.value is None:
            return ()
        return (self.value,) if isinstance(self.value, str) else self.value

    @property
    def condition(self) -> Condition | None:
        """None: always."""
        if self.when is not None or self.operator is None:
            return self.when
        return Test.model_construct(of=None, operator=self.operator, value=self.value)

    @model_validator(mode="after")
    def says_one_thing(self) -> Self:
        if self.priority is not None or self.voicemail is not None or self.variables:
            self._check_extras()
        # One of a hundred thousand: the short form makes no model of its test.
        if self.when is None:
            if self.operator is not None:
                check_values(self.operator, self.values)
                check_wanted(self.operator, self.values, Kind.VALUE)
            elif self.value is not None:
                raise ValueError("there is a value, but no operator")
            return self
        if self.operator is not None or self.value is not None:
            raise ValueError("say `when`, or `operator` and `value`, not both")
        if depth_of(self.when) > DEEPEST:
            raise ValueError(f"conditions in conditions, more than {DEEPEST} deep")
        tests = list(tests_in(self.when))
        if len(tests) > _MOST_TESTS:
            raise ValueError(f"more than {_MOST_TESTS} tests")
        for test in tests:
            check_values(test.operator, test.values)
            kind = kind_of(test.of) if test.of is not None else Kind.VALUE
            check_wanted(test.operator, test.values, kind)
            if test.of is not None:
                check_words(test.of, test.operator, test.values)
        return self

    def _check_extras(self) -> None:
        if all(isinstance(way, ToRule) for way in plain_in(self.destination)):
            raise ValueError(
                "another rule says its own `priority`, `voicemail` and `variables`: these are never "
                "used, leave them out"
            )


_TWO = 2
_VALUES_WANTED = {
    Operator.EXISTS: (0, 0, "takes no value; put it under `none` for the opposite"),
    Operator.IN: (1, MOST_VALUES, "takes a list: [GOLD, SILVER]"),
    Operator.BETWEEN: (_TWO, _TWO, "takes two values: [10, 20]"),
}


def check_values(operator: Operator, values: tuple[str, ...]) -> None:
    """Raises: ValueError for values that the operator cannot take."""
    least, most, wanted = _VALUES_WANTED.get(operator, (1, 1, "takes one value"))
    if not least <= len(values) <= most:
        raise ValueError(f"`{operator}` {wanted}")
    if operator is Operator.MATCHES:
        check_pattern(values[0])
    elif operator is Operator.OLDER_THAN or operator is Operator.NEWER_THAN:
        check_age(values[0])


class RoutingRule(Extras):
    """The first row that matches wins; in every other case the default."""

    name: Name
    dids: tuple[Did, ...] = Field(default=(), description="The numbers that it is for.")
    ivrs: tuple[Name, ...] = Field(
        default=(),
        description="The menus that it is for, in place of the numbers; with `dids`, of those alone.",
    )
    greeting: Recording | None = Field(
        default=None,
        description="Of a menu: the recording that is played while the caller's digits are taken.",
    )
    crm: Name | None = Field(default=None, description="The CRM connection to ask.")
    custom: CustomCrm | None = Field(default=None, description="Or a service of your own.")
    modules: tuple[Text, ...] = Field(
        default=(), description="Contact types to search; empty: those of the connection."
    )
    credentials: dict[Name, Secret] = Field(
        default_factory=dict,
        description="In place of those of the connection: user and password of this rule alone.",
    )
    field: FieldName | None = Field(default=None, description="API name of the CRM field.")
    rows: Annotated[tuple[Row, ...], Field(min_length=1, max_length=MOST_ROWS)]
    default: Ways
    default_voicemail: bool | None = Field(
        default=None,
        description="Yes: the voicemail of the default extension in its place. No: that extension, "
        "and no voicemail after it. Not set: as the PBX is set.",
    )
    within: Annotated[Duration, Field(gt=timedelta(0), le=timedelta(seconds=10))] = Field(
        default=timedelta(milliseconds=1500), description="Time budget of a decision."
    )
    caller_name: bool = Field(
        default=False,
        description="Ask for the caller's name too: the PBX gets it as CRM_NAME. Off, the CRM is "
        "asked for the fields alone.",
    )
    zone: Zone | None = Field(
        default=None, description="Of times and dates in conditions; without it the tenant's."
    )

    @property
    def subjects(self) -> Iterator[Subject]:
        """Everything that it asks about, some twice."""
        if self.field is not None:
            yield Subject(Ask.FIELD, self.field)
        for row in self.rows:
            if row.condition is not None:
                for test in tests_in(row.condition):
                    if (subject := subject_of(test, self.field)) is not None:
                        yield subject
            yield from row.variables.values()
        yield from self.variables.values()

    @property
    def ways(self) -> Iterator[tuple[int | None, Ways]]:
        """Each row's with its number, from 1, and the default's with None."""
        for number, row in enumerate(self.rows, start=1):
            yield number, row.destination
        yield None, self.default

    @property
    def leads_to(self) -> Iterator[tuple[int | None, str]]:
        """Other rules, each with the row."""
        for number, ways in self.ways:
            for way in plain_in(ways):
                if way_rule := getattr(way, "rule", None):
                    yield number, way_rule

    @property
    def wants_manager(self) -> bool:
        return any(isinstance(way, Manager) for _, ways in self.ways for way in plain_in(ways))

    @model_validator(mode="after")
    def holds_together(self) -> Self:
        if self.crm is not None and self.custom is not None:
            raise ValueError("say `crm` or `custom`, not both")
        if self.custom is not None:
            self._check_custom()
        if self.greeting is not None and not self.ivrs:
            raise ValueError("a greeting is for a menu: say which `ivrs`")
        self._check_subjects()
        self._check_patterns()
        if not is_sure(self.default):
            raise ValueError("the default ends with a place that is always there, not a manager")
        if self.default_voicemail and not _is_extension(self.default):
            raise ValueError("`default_voicemail` needs an extension as the default")
        return self

    def _check_subjects(self) -> None:
        if self.field is None:
            for number, row in enumerate(self.rows, start=1):
                if row.condition is not None and any(
                    subject_of(test, None) is None for test in tests_in(row.condition)
                ):
                    raise ValueError(f"row {number} compares a field, but `field` names none")
        fields = {subject.name for subject in self.subjects if subject.ask is Ask.FIELD}
        if len(fields) > _MOST_FIELDS:
            raise ValueError(f"asks for {len(fields)} fields of the CRM, {_MOST_FIELDS} at most")
        if self.crm is None and self.custom is None:
            needs = next((str(subject) for subject in self.subjects if subject.needs_crm), None)
            needs = needs or ("manager" if self.wants_manager else None)
            needs = needs or ("caller_name" if self.caller_name else None)
            if needs is not None:
                raise ValueError(f"{needs} is asked of a CRM: say which `crm`")

    def _check_patterns(self) -> None:
        cost = 0
        for number, row in enumerate(self.rows, start=1):
            if row.operator is not Operator.MATCHES and row.when is None:
                continue
            for test in tests_in(row.condition) if row.condition is not None else ():
                if test.operator is Operator.MATCHES:
                    cost += cost_of(test.values[0])
            if cost > MOST_COST:
                raise ValueError(
                    f"row {number}: all `matches` up to here take too long together; say `in`, "
                    "`starts_with` or `contains` where they will do"
                )

    def _check_custom(self) -> None:
        if self.field is None:
            raise ValueError("a custom CRM is asked for a `field`")
        if self.modules or self.credentials or self.caller_name:
            raise ValueError("`modules`, `credentials` and `caller_name` are for a `crm`")
        if self.wants_manager:
            raise ValueError("a custom CRM knows of no manager")
        for subject in self.subjects:
            if subject.needs_crm and subject != Subject(Ask.FIELD, self.field):
                raise ValueError(f"{subject}: a custom CRM is asked for field.{self.field} alone")


def _is_extension(ways: Ways) -> bool:
    last = ways[-1]
    return isinstance(last, Destination) and last.kind is DestinationKind.EXTENSION
