"""What an answer means: by its status, and by what its body says."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from shared.crm.form.requests import HeaderName, Path, Strict


class Meaning(StrEnum):
    SUCCESS = "success"
    #: A success without anything in it.
    NOTHING = "nothing"
    #: The token or session is not accepted: it is renewed once.
    CREDENTIALS = "credentials"
    #: Refused until somebody connects the CRM again or gives it a right.
    FORBIDDEN = "forbidden"
    SLOW_DOWN = "slow_down"
    #: Trying again later may help.
    UNAVAILABLE = "unavailable"
    REJECTED = "rejected"


class Rule(Strict):
    """
    Holds when all that it names holds: one of the statuses, and something at ``path`` that equals
    one of the texts, or is like one (``*`` and ``?``, capitals do not matter), or is there at all.
    """

    status: tuple[int, ...] = ()
    path: Path | None = None
    equals: tuple[str | int | bool | None, ...] | None = None
    like: tuple[str, ...] = ()
    means: Meaning

    @model_validator(mode="after")
    def names_something(self) -> Self:
        if not self.status and self.path is None:
            raise ValueError("a rule names a status or a path")
        if self.path is None and (self.equals is not None or self.like):
            raise ValueError("`equals` and `like` need a `path`")
        return self


class Outcome(Strict):
    """
    The first rule that holds decides. Where none does: 2xx is success, 401 credentials, 404 of a
    search nothing, 408, 425 and 5xx unavailable, 429 slow_down, the rest rejected.
    """

    rules: tuple[Rule, ...] = Field(default=(), max_length=30)
    error_code: Path = Field(default="code,error.code,error", description="The CRM's own code.")
    error_text: Path = Field(
        default="message,error.message,error_description", description="Its words."
    )
    error_header: HeaderName | None = Field(default=None, description="A header with its words.")


class AnswerKind(StrEnum):
    JSON = "json"
    XML = "xml"


class Values(Strict):
    """How this CRM writes values."""

    in_object: str | None = Field(
        default="name", description="A field that holds an object stands for this part of it."
    )
    in_pair: int | None = Field(
        default=None, ge=0, le=9, description="One that holds a pair, for this place in it."
    )
    false_is_empty: bool = Field(default=False, description="`false` says that there is nothing.")
