"""What a condition can ask about: ``room.word``, as in ``field.Tier`` or ``caller.country``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


class Ask(StrEnum):
    """Everything but ``field``, ``hours`` and ``agent`` stands alone; those name something."""

    #: A field of the caller's record, by its API name.
    FIELD = "field"
    #: ``open``, ``closed`` or ``holiday``, by the hours of that name.
    HOURS = "hours"
    #: The status of the agent at that extension; ``busy`` also while on a call.
    AGENT = "agent"
    NUMBER = "caller.number"
    COUNTRY = "caller.country"
    WITHHELD = "caller.withheld"
    KNOWN = "contact.known"
    MODULE = "contact.module"
    NAME = "contact.name"
    COMPANY = "contact.company"
    EMAIL = "contact.email"
    OWNER = "contact.owner"
    DID = "call.did"
    IVR = "call.ivr"
    DTMF = "call.dtmf"
    TIME = "time.of_day"
    WEEKDAY = "time.weekday"
    DATE = "time.date"


_NAMED = {
    Ask.FIELD: re.compile(r"[A-Za-z0-9_.]{1,100}"),
    Ask.HOURS: re.compile(r"[a-z0-9][a-z0-9_-]{0,63}"),
    Ask.AGENT: re.compile(r"[A-Za-z0-9_.*#-]{1,32}"),
}
_ALONE = {ask.value: ask for ask in Ask if ask not in _NAMED}
#: What only the CRM can tell.
_OF_THE_CRM = frozenset(
    {Ask.FIELD, Ask.KNOWN, Ask.MODULE, Ask.NAME, Ask.COMPANY, Ask.EMAIL, Ask.OWNER}
)
#: Compared as telephone numbers.
_NUMBERS = frozenset({Ask.NUMBER, Ask.DID})
SUBJECT_PATTERN = (
    r"^(field\.[A-Za-z0-9_.]{1,100}|hours\.[a-z0-9][a-z0-9_-]{0,63}|agent\.[A-Za-z0-9_.*#-]{1,32}|"
    + "|".join(text.replace(".", r"\.") for text in _ALONE)
    + ")$"
)


@dataclass(frozen=True, slots=True)
class Subject:
    """*name* is empty for what stands alone."""

    ask: Ask
    name: str = ""

    def __str__(self) -> str:
        return f"{self.ask}.{self.name}" if self.name else self.ask.value

    @property
    def needs_crm(self) -> bool:
        return self.ask in _OF_THE_CRM

    @property
    def is_number(self) -> bool:
        return self.ask in _NUMBERS

    @classmethod
    def parse(cls, text: str) -> Subject:
        """Raises: ValueError."""
        if (alone := _ALONE.get(text)) is not None:
            return cls(alone)
        room, _, name = text.partition(".")
        for ask, pattern in _NAMED.items():
            if room == ask.value and pattern.fullmatch(name):
                return cls(ask, name)
        raise ValueError(
            f"{text!r:.60} is nothing to ask about; there are field.NAME, hours.NAME, "
            f"agent.EXTENSION, {', '.join(_ALONE)}"
        )


class _AsText:
    """Text in files and documents, a Subject in the model."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._read, serialization=core_schema.to_string_ser_schema()
        )

    @staticmethod
    def _read(value: Any) -> Subject:
        if isinstance(value, Subject):
            return value
        if not isinstance(value, str):
            raise ValueError("what is asked about is a text, such as field.Tier")  # noqa: TRY004  pydantic's
        return Subject.parse(value)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": SUBJECT_PATTERN}


SubjectText = Annotated[Subject, _AsText]
