"""Asking the CRM who is responsible for a number and free to take the call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, field_validator, model_validator

from shared.crm.form.contacts import check_formats
from shared.crm.form.requests import Path, Placed, Request, Strict
from shared.errors import ContractError

#: As in a search: ``Phone`` is one spelling, ``Phones`` all of them, ``Number`` E.164 where known.
MANAGER_VARIABLES = frozenset({"Phone", "Phones", "Number"})


class ManagerRequest(Strict):
    """
    The CRM's own word. Where the request uses ``Phone`` there is one for each spelling, until an
    answer names somebody; else there is one. An answer that names nobody says that nobody is
    responsible, or that who is has no time.
    """

    request: Request
    formats: tuple[str, ...] = Field(default=(), description="Instead of `phone_formats`.")
    user_id: Path | None = Field(
        default=None, description="Path in the answer to the id of the CRM's user."
    )
    extension: Path | None = Field(
        default=None, description="Path in the answer to the phone at which the user is."
    )
    answered: Path | None = Field(
        default=None,
        description="Path to what every answer has, also one that names nobody: one without it is "
        "a fault.",
    )

    @field_validator("formats")
    @classmethod
    def formats_are_formats(cls, formats: tuple[str, ...]) -> tuple[str, ...]:
        return check_formats(formats)

    @model_validator(mode="after")
    def asks_about_a_number(self) -> Self:
        if not _used(self.request) & MANAGER_VARIABLES:
            raise ValueError("the request does not say which number: use Phone, Phones or Number")
        if self.user_id is None and self.extension is None:
            raise ValueError("who it is has to be read: say `user_id` or `extension`")
        return self

    def texts(self, at: str) -> Iterator[Placed]:
        yield from self.request.texts(f"{at}.request")
        yield f"{at}.user_id", self.user_id or ""
        yield f"{at}.extension", self.extension or ""
        yield f"{at}.answered", self.answered or ""


def _used(request: Request) -> frozenset[str]:
    """All, where a text cannot be read: the template says that at the text."""
    try:
        return request.used
    except ContractError:
        return MANAGER_VARIABLES
