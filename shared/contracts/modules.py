"""The telephony module of ours that a CRM has: kept as the site says, by ``lookup``."""

from __future__ import annotations

from pydantic import BaseModel, Field

from shared.contracts.envelope import Query, contract
from shared.ids import Extension, Name
from shared.moments import Instant


class UnreachedCode(BaseModel):
    """A phone or user that the CRM did not know when it was to show a card."""

    code: str
    at: Instant


class ModuleRecord(BaseModel):
    """How the module of a connection stands. No secret is in here."""

    connection: Name
    wanted: bool = Field(description="Whether the site has `telephony.registered`.")
    possible: bool = Field(
        description="Whether the connection's template can register one by a request."
    )
    code: str | None = Field(default=None, description="Under which the CRM knows it.")
    active: bool = Field(default=False, description="Whether we have it registered.")
    extensions: tuple[Extension, ...] = Field(
        default=(), description="Phones that it was registered with: those whose user is known."
    )
    shops: dict[str, str] = Field(
        default_factory=dict, description="Shop → own number that it was registered with."
    )
    registered_at: Instant | None = None
    checked_at: Instant | None = Field(default=None, description="When it was last read back.")
    differs: tuple[str, ...] = Field(
        default=(), description="What the CRM has otherwise than it was told, as last read."
    )
    mended: tuple[str, ...] = Field(
        default=(), description="What was found changed there, and put right, at `mended_at`."
    )
    mended_at: Instant | None = None
    unknown: tuple[str, ...] = Field(
        default=(), description="Users and shops that it was registered with and does not have."
    )
    unreached: tuple[UnreachedCode, ...] = Field(
        default=(), description="Of the last 24 hours: whom the CRM could not show a card."
    )
    fault: str | None = Field(
        default=None, description="Why it is not as the site says, and what to change."
    )


@contract("modules.fetch", version=1, answer=ModuleRecord)
class FetchModule(Query[ModuleRecord]):
    """How does the telephony module of a connection stand?"""

    connection: Name


@contract("modules.register", version=1, answer=ModuleRecord)
class RegisterModule(Query[ModuleRecord]):
    """
    Register it now, and read it back. Raises at who asks: NotFound (no such connection), Conflict
    (it is not wanted, the template cannot, or a setting is missing), Rejected, Unavailable,
    Throttled, NeedsReconnect.
    """

    connection: Name
