"""Cards that a CRM itself shows to its users."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field, StringConstraints

from shared.contracts.envelope import Event, contract
from shared.ids import Extension, Name


class CardMoment(StrEnum):
    """Of which moment of the call the CRM was told."""

    INCOMING = "in"
    OUTGOING = "out"
    HANGUP = "hangup"


@contract("cards.told", version=1)
class CardTold(Event):
    """A CRM that shows cards by itself was told of a call."""

    call_id: str
    connection: Name
    moment: CardMoment
    extensions: tuple[Extension, ...]
    unreached: tuple[Annotated[str, StringConstraints(max_length=200)], ...] = Field(
        default=(),
        description="Codes and users that the CRM does not know: nobody there saw the card.",
    )
    fault: str | None = Field(default=None, description="Why the CRM did not take it.")

    def subject(self) -> str:
        return self.call_id
